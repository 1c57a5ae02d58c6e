"""Replays journals into an empty model: what ``Model.apply`` does, for whole batches of the common records at once.

The first record of a clip's entry or rating, which nearly all are, needs no comparison with others; rewards and
statistics are settled once, at the end. Everything else goes through ``Model.apply``. The outcome is the same, for it
does not depend on the order in which records are applied.

Records newer than ``base`` (what the published views contain) are applied last and one by one: what they touch is what
the views lack, and stands in ``Model.dirty``. Without ``base`` nothing is told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Protocol

from eva_state import heads
from eva_state.model import Model
from eva_state.records import Item, Record
from eva_state.registers import ORDER, PARAMS, Clip, combo_of, key_of, quality_reward, unit


def _combo(params: heads.Params) -> str | None:
    if not params.extra:
        return key_of(params.values)
    return combo_of({"params": dict(zip((*PARAMS, "extra"), (*params.values, params.extra)))})


class Seen(Protocol):
    """Is told of records that hold when they are first met; a later one may replace them."""

    def entry(self, name: str, record: Record, entry: heads.Entry, combo: str | None) -> None: ...

    def rating(self, name: str, record: Record, data: heads.RatingData) -> None: ...


class Loader:
    """:meth:`take` every batch of every journal, each journal's in order, then :meth:`finish`."""

    def __init__(self, base: Mapping[str, int] | None = None, seen: Seen | None = None):
        self.model = Model()
        self._seen = seen
        self._base = base
        self._newer: list[Item] = []
        self._unsettled: list[Clip] = []  # clips that got an entry here
        self._settled = False  # some clip got its entry in the general way: its rating must be told of as well
        self._rated: list[Record] = []  # to be noted among the actions
        self._combo = heads.ByParams(_combo, None)

    def take(self, batch: list[Item]) -> None:
        if not batch:
            return
        base = None if self._base is None else self._base.get(batch[0][0].w, 0)
        if base is not None and batch[-1][0].seq > base:
            self._newer += [item for item in batch if item[0].seq > base]
            batch = [item for item in batch if item[0].seq <= base]
        self._load(batch)

    def _load(self, batch: list[Item]) -> None:
        model, unsettled, rated, combo = self.model, self._unsettled, self._rated, self._combo
        events, clips, finished, submitted, undone = model.events, model.clips, model.finished, model.submitted, model._undone
        seen = self._seen
        for record, head in batch:
            kind = type(head)
            if kind is heads.Generated:
                data = head.data  # type: ignore[union-attr]
                name = data.entry.video
                clip = clips.get(name)
                if record.id in events or (clip is not None and clip.entry_log is not None):
                    model.apply(record)
                    self._settled = True
                    continue
                events[record.id] = record
                if data.prompt_id is not None:
                    finished.add(data.prompt_id)
                    submitted.pop(data.prompt_id, None)
                if clip is None:
                    name = intern(name)
                    clip = clips[name] = Clip(name)
                clip.entry = clip.entry_log = record
                entry = data.entry
                reward = data.reward
                if type(reward) is float and 0.0 <= reward <= 1.0:  # unit(), written out
                    clip.auto = reward
                else:
                    clip.auto = unit(entry.score) if (auto := unit(reward)) is None else auto
                clip.cost = data.cost_minutes
                stamp = entry.timestamp
                clip.ts = float(stamp) if type(stamp) is float or type(stamp) is int else record.ts
                clip.combo = combo(entry.params)
                if seen is not None:
                    seen.entry(clip.name, record, entry, clip.combo)
                model.generated += 1
                unsettled.append(clip)
            elif kind is heads.Submitted and record.id.startswith("submitted:"):
                prompt_id = record.id[10:]
                if prompt_id not in finished:
                    submitted.setdefault(prompt_id, record)
            elif kind is heads.Rating:
                data = head.data  # type: ignore[union-attr]
                name, rating = data.name, data.rating
                clip = clips.get(name)
                if record.id in events or record.id in undone or rating is None or (clip is not None and clip.rating_log is not None):
                    model.apply(record)
                    continue
                events[record.id] = record
                rated.append(record)
                if clip is None:
                    name = intern(name)
                    clip = clips[name] = Clip(name)
                clip.rating = clip.rating_log = record
                human = clip.human = quality_reward(rating.overall_quality)
                if seen is not None:
                    seen.rating(clip.name, record, data)
                model.rated += 1
                if human is not None:
                    model.human_sum += human
                    model.human_count += 1
                if self._settled:
                    unsettled.append(clip)
            else:
                model.apply(record, head)
                self._settled |= record.type == "import"
        if batch:  # all of one writer, whose numbers and clocks grow
            writer = batch[0][0].w
            model.applied[writer] = max(model.applied.get(writer, 0), max([record.seq for record, _ in batch]))
            model.lc = max(model.lc, max([record.lc for record, _ in batch]))

    def finish(self) -> Model:
        """The model. Its ``dirty`` says what the records newer than ``base`` touched."""
        model = self.model
        model.actions = sorted([*model.actions, *self._rated], key=ORDER)
        model.settle_all(self._unsettled)
        self._unsettled.clear()
        self._rated.clear()
        model.dirty.clear()
        model.base = dict(model.applied)
        self._newer.sort(key=lambda item: ORDER(item[0]))
        for record, data in self._newer:
            model.apply(record, data)
        self._newer.clear()
        return model
