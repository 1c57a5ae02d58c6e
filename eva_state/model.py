"""The replica in memory: what all journals together say.

Every fact is a *register* (a clip's rating, its history entry, a key's ban, ...) whose value is its newest
record by (``lc``, ``w``, ``seq``) that was not undone. Taking the newest of a set does not depend on the order
in which the set was read, so two processes that read two journals in different orders agree.

Not thread-safe: the store holds its lock around every call.
"""

from __future__ import annotations

import logging
import math
from bisect import insort
from collections.abc import Iterable, Iterator
from sys import intern
from typing import Any

from eva_state import keys
from eva_state.agent_requests import RequestLog
from eva_state.heads import Head
from eva_state.records import Item, Record
from eva_state.registers import (
    ORDER,
    Clip,
    Effect,
    Log,
    Observation,
    added,
    by_time,
    combo_of,
    entry_in,
    human_reward,
    newest,
    prompt_of,
    unit,
)

log = logging.getLogger(__name__)
ACTIONS = frozenset({"rating", "ban", "unban", "compare", "undo", "repeat"})
UNDOABLE = frozenset({"rating", "ban", "unban", "compare", "repeat"})


class Model:
    """Everything known, by clip name, combo key, prompt id or record id."""

    def __init__(self) -> None:
        self.events: dict[str, Record] = {}  # by id; `submitted` ones are left out
        self.applied: dict[str, int] = {}  # writer -> newest seq applied
        self.lc = 0
        self.actions: list[Record] = []  # sorted by order
        self.clips: dict[str, Clip] = {}
        self.generated = self.rated = 0  # clips with an entry, with a rating
        self.human_sum, self.human_count = 0.0, 0
        self.combos: dict[str, dict[str, Clip]] = {}  # combo key -> its clips that have a reward
        self.pulls = 0  # clips in `combos`
        self.banned: dict[str, Record] = {}
        self.compares: dict[str, Record] = {}
        self.repeats: dict[str, Record] = {}
        self.requests = RequestLog()
        self.submitted: dict[str, Record] = {}
        self.finished: set[str] = set()  # prompt ids with a generated or failed record
        self.failed: dict[str, Record] = {}
        self.imports: dict[tuple[str, str], dict[str, Record]] = {}  # (view, kind) -> name -> the record that holds
        self.bans_made: list[Record] = []  # bans and unbans, sorted by order
        self.space: Record | None = None
        self.dirty: dict[tuple[str, str], None] = {}  # (what, key) changed since the publisher last looked, in order
        self.base: dict[str, int] = {}  # writer -> newest record that `dirty`, before anybody took from it, leaves out
        self._undone: set[str] = set()
        self._undo_of: dict[str, Record] = {}
        self._ban_log: dict[str, Log] = {}
        self._import_log: dict[tuple[str, str, str], Log] = {}
        self._best: tuple[float, str] | None = None
        self._best_stale = False

    # ------------------------------------------------------------ applying
    def apply(self, record: Record, data: dict[str, Any] | Head | None = None) -> Effect | None:
        """Applies one record (``data``: its data if wholly parsed already); None when it was applied before."""
        if record.lc > self.lc:
            self.lc = record.lc
        if record.seq > self.applied.get(record.w, 0):
            self.applied[record.w] = record.seq
        if record.type == "submitted":
            return self._on_submitted(record)
        if record.id in self.events:
            return None
        self.events[record.id] = record
        if record.id in self._undone and record.type in UNDOABLE:
            record.undone = True
        if record.type in ACTIONS:
            self.note_action(record)
        handler = _HANDLERS.get(record.type)
        if handler is None:
            log.warning("record %r is of an unknown type: kept, without effect (written by a newer version?)", record)
            return Effect(record.type)
        try:
            return handler(self, record, data if isinstance(data, dict) else record.data)
        except (KeyError, TypeError, AttributeError) as error:
            # Its checksum is right, so some program wrote it like this: keep it, say so, go on.
            log.warning("record %r is malformed and has no effect: %r", record, error)
            return Effect(record.type)

    def apply_all(self, batch: Iterable[Item]) -> None:
        for record, data in batch:
            self.apply(record, data)

    def note_action(self, record: Record) -> None:
        if self.actions and self.actions[-1].order > record.order:
            insort(self.actions, record, key=ORDER)
        else:
            self.actions.append(record)

    def _clip(self, name: str) -> Clip:
        clip = self.clips.get(name)
        if clip is None:
            name = intern(name)
            clip = self.clips[name] = Clip(name)
        return clip

    def _on_rating(self, record: Record, data: dict[str, Any]) -> Effect:
        clip = self._clip(data["name"])
        clip.rating_log = added(clip.rating_log, record)
        self._refresh_rating(clip, record, data)
        return Effect("rating", clip.name)

    def _on_ban(self, record: Record, data: dict[str, Any]) -> Effect:
        key, name = data["key"], data.get("name")
        insort(self.bans_made, record, key=ORDER)
        self._ban_log[key] = added(self._ban_log.get(key), record)
        self._refresh_ban(key)
        if name is not None and data.get("rating") is not None:
            clip = self._clip(name)
            clip.rating_log = added(clip.rating_log, record)
            self._refresh_rating(clip, record, data)
        return Effect(record.type, name, key)

    def _on_compare(self, record: Record, data: dict[str, Any]) -> Effect:
        if not record.undone:
            self.compares[record.id] = record
        return Effect("compare", data["left"])

    def _on_repeat(self, record: Record, data: dict[str, Any]) -> Effect:
        if not record.undone:
            self.repeats[record.id] = record
        return Effect("repeat", data["name"])

    def _on_request(self, record: Record, data: dict[str, Any]) -> Effect:
        self.requests.ask(record)
        return Effect("request")

    def _on_answer(self, record: Record, data: dict[str, Any]) -> Effect:
        self.requests.answer(record, data["request"])
        return Effect("answer")

    def _on_undo(self, record: Record, data: dict[str, Any]) -> Effect:
        target_id = data["target"]
        self._undone.add(target_id)
        first = self._undo_of.get(target_id)
        if first is None or record.order < first.order:
            self._undo_of[target_id] = record
        target = self.events.get(target_id)
        if target is None or target.type not in UNDOABLE:
            return Effect("undo")
        target.undone = True
        undone = target.data
        name, key = undone.get("name", undone.get("left")), undone.get("key")
        self.compares.pop(target_id, None)
        self.repeats.pop(target_id, None)
        if key is not None:
            self._refresh_ban(key)
        if target.type not in ("compare", "repeat") and name is not None:
            self._refresh_rating(self._clip(name))
        return Effect("undo", name, key)

    def _on_submitted(self, record: Record) -> Effect | None:
        prompt_id = prompt_of(record)
        if prompt_id in self.finished or prompt_id in self.submitted:
            return None
        self.submitted[prompt_id] = record
        return Effect("submitted", None, None)

    def _on_generated(self, record: Record, data: dict[str, Any]) -> Effect:
        self._finish(data.get("prompt_id"))
        clip = self._clip(data["entry"]["video"])
        clip.entry_log = added(clip.entry_log, record)
        self._refresh_entry(clip, record, data)
        return Effect("generated", clip.name, clip.combo)

    def _on_failed(self, record: Record, data: dict[str, Any]) -> Effect:
        self._finish(data.get("prompt_id"))
        self.failed[record.id] = record
        return Effect("failed", None, data.get("combo_key"))

    def _on_space(self, record: Record, data: dict[str, Any]) -> Effect:
        if self.space is None or record.order > self.space.order:
            self.space = record
        return Effect("space")

    def _on_lost(self, record: Record, data: dict[str, Any]) -> Effect:
        """Stands for a record that was lost (see ``compact``)."""
        return Effect("lost")

    def _on_import(self, record: Record, data: dict[str, Any]) -> Effect:
        view, (kind, _, name) = data["view"], data["key"].partition("/")
        if kind == "history":
            clip = self._clip(name)
            clip.entry_log = added(clip.entry_log, record)
            self._refresh_entry(clip, record, data)
            return Effect("import", clip.name, clip.combo)
        found = self._import_log[view, kind, name] = added(self._import_log.get((view, kind, name)), record)
        holds = newest(found)
        assert holds is not None  # imports cannot be undone
        self.imports.setdefault((view, kind), {})[name] = holds
        if kind == "item":
            self._clip(name)  # a queued clip without history is a clip all the same
        self.dirty[{"item": ("entry", name), "base": ("combo", name), "record": ("ban", "")}.get(kind, ("head", view))] = None
        return Effect("import", name if kind == "item" else None, record.id)

    # ------------------------------------------------------------ registers
    def _finish(self, prompt_id: str | None) -> None:
        if prompt_id is not None:
            self.finished.add(prompt_id)
            self.submitted.pop(prompt_id, None)

    def _refresh_ban(self, key: str) -> None:
        holds = newest(self._ban_log.get(key))
        if holds is not None and holds.type == "ban":
            self.banned[key] = holds
        else:
            self.banned.pop(key, None)
        self.dirty["ban", key] = None

    def _refresh_rating(self, clip: Clip, record: Record | None = None, data: dict[str, Any] | None = None) -> None:
        """Settles the clip's rating; ``record`` and ``data`` spare a parse when that record is the one that holds."""
        holds, rating = newest(clip.rating_log), None
        if holds is not None:
            rating = (data if data is not None and holds is record else holds.data)["rating"]
        if rating is None:
            holds = None
        self.rated += (holds is not None) - (clip.rating is not None)
        if clip.human is not None:
            self.human_sum -= clip.human
            self.human_count -= 1
        clip.rating, clip.human = holds, None if rating is None else human_reward(rating)
        if clip.human is not None:
            self.human_sum += clip.human
            self.human_count += 1
        self.dirty["rating", clip.name] = None
        self.settle(clip)

    def _refresh_entry(self, clip: Clip, record: Record, data: dict[str, Any]) -> None:
        holds, entry = newest(clip.entry_log), None
        if holds is not None:
            found = data if holds is record else holds.data
            entry = entry_in(found)
        if entry is None:
            holds = None
        self.generated += (holds is not None) - (clip.entry is not None)
        self._leave_combo(clip)
        clip.entry = holds
        if holds is not None and entry is not None:
            auto = unit(found.get("reward"))
            clip.auto = unit(entry.get("score")) if auto is None else auto
            clip.cost = found.get("cost_minutes")
            stamp = entry.get("timestamp")
            clip.ts = float(stamp) if isinstance(stamp, (int, float)) and not isinstance(stamp, bool) else holds.ts
            clip.combo = combo_of(entry)
        self.dirty["entry", clip.name] = None
        self.settle(clip)

    def _leave_combo(self, clip: Clip) -> None:
        clips = self.combos.get(clip.combo) if clip.combo is not None else None
        if clips is not None and clips.pop(clip.name, None) is not None:
            self.pulls -= 1
            if not clips:
                del self.combos[clip.combo]  # type: ignore[arg-type]
            self.dirty["combo", clip.combo or ""] = None

    def settle(self, clip: Clip) -> None:
        """Brings best and statistics in line with the clip's reward."""
        reward = clip.reward
        if self._best is not None and self._best[1] == clip.name:
            self._best_stale = True
        elif reward is not None and (self._best is None or (reward, clip.name) > self._best):
            self._best = (reward, clip.name)
        if reward is None:
            self._leave_combo(clip)
        elif clip.combo is not None:
            clips = self.combos.setdefault(clip.combo, {})
            self.pulls += clip.name not in clips
            clips[clip.name] = clip
            self.dirty["combo", clip.combo] = None

    def settle_all(self, found: Iterable[Clip]) -> None:
        """:meth:`settle` for clips whose rewards are known for the first time; some may occur twice."""
        combos = self.combos
        self._best_stale |= self._best is not None  # that clip's reward may have changed since
        best, pulls = self._best or (-1.0, ""), self.pulls
        for clip in found:
            if clip.entry is None:
                continue
            reward = clip.auto if clip.human is None else clip.human
            if reward is None:
                continue
            if reward >= best[0] and (reward, clip.name) > best:
                best = (reward, clip.name)
            if clip.combo is not None:
                clips = combos.get(clip.combo)
                if clips is None:
                    clips = combos[clip.combo] = {}
                if clip.name not in clips:
                    clips[clip.name] = clip
                    pulls += 1
        self.pulls = pulls
        self._best = best if best[1] else None

    # ------------------------------------------------------------ reading
    def known(self, id: str) -> str | None:
        """The type of the record of this id, or None."""
        if id.startswith("submitted:"):
            prompt_id = id.removeprefix("submitted:")
            return "submitted" if prompt_id in self.finished or prompt_id in self.submitted else None
        found = self.events.get(id)
        return None if found is None else found.type

    def observations(self) -> Iterator[Observation]:
        for key, clips in self.combos.items():
            params = keys.parse_combo_key(key)
            for clip in clips.values():
                reward = clip.reward
                assert reward is not None
                source = "auto" if clip.human is None else "human"
                yield Observation(clip.name, params, key, reward, source, clip.cost, clip.ts)

    def combo_stats(self, base: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """``{key: {"N", "S", "scores"}}``: ``base`` (what a legacy file held beyond its history) plus every clip's reward."""
        found = ((key, self.combo_stat(key, base.get(key))) for key in sorted(base.keys() | self.combos.keys()))
        return {key: stat for key, stat in found if stat is not None}

    def combo_stat(self, key: str, base: dict[str, Any] | None) -> dict[str, Any] | None:
        """One item of :meth:`combo_stats`; None when nothing is known of the combo."""
        clips, base = self.combos.get(key, {}), base or {}
        rewards = [clip.reward or 0.0 for clip in sorted(clips.values(), key=by_time)]
        count = base.get("N", 0) + len(clips)
        if count <= 0:
            return None
        found = {"N": count, "S": math.fsum([base.get("S", 0.0), *rewards]), "scores": [*base.get("scores", ()), *rewards]}
        return {**base, **found}  # what else a file said of the combo is kept

    def best(self) -> tuple[float, str] | None:
        """(reward, clip) of the best clip."""
        if self._best_stale:
            self._best_stale = False
            found = ((reward, clip.name) for clip in self.clips.values() if (reward := clip.reward) is not None)
            self._best = max(found, default=None)
        return self._best

    def undo_of(self, target: str) -> Record | None:
        """The undo that came first for a record."""
        return self._undo_of.get(target)


_HANDLERS = {
    "rating": Model._on_rating,
    "ban": Model._on_ban,
    "unban": Model._on_ban,
    "compare": Model._on_compare,
    "repeat": Model._on_repeat,
    "request": Model._on_request,
    "answer": Model._on_answer,
    "undo": Model._on_undo,
    "generated": Model._on_generated,
    "failed": Model._on_failed,
    "space": Model._on_space,
    "lost": Model._on_lost,
    "import": Model._on_import,
}
