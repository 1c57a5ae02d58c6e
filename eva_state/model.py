"""The replica in memory: what all journals together say.

Every fact is a *register* (a clip's rating, its history entry, a key's ban, ...) whose value is its newest
event by (``lc``, ``w``, ``seq``) that was not undone. Taking the newest of a set does not depend on the order
in which the set was read, so two processes that read two journals in different orders agree.

Not thread-safe: the store holds its lock around every call.
"""

from __future__ import annotations

import logging
import math
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from eva_state import keys
from eva_state.records import Record

log = logging.getLogger(__name__)
ACTIONS = frozenset({"rating", "ban", "unban", "compare", "undo"})
UNDOABLE = frozenset({"rating", "ban", "unban", "compare"})


class Event:
    """An applied record. ``data`` is never changed after it was made, so readers may keep references to it."""

    __slots__ = ("data", "id", "lc", "seq", "ts", "type", "undone", "w")

    def __init__(self, record: Record):
        self.id, self.type, self.data, self.ts = record.id, record.type, record.data, record.ts
        self.lc, self.w, self.seq = record.lc, record.w, record.seq
        self.undone = False

    @property
    def order(self) -> tuple[int, str, int]:
        return (self.lc, self.w, self.seq)


_ORDER = attrgetter("order")


class Registers:
    """Events by key. A key with a single event, the common case, costs no list."""

    def __init__(self) -> None:
        self._events: dict[str, Event | list[Event]] = {}

    def add(self, key: str, event: Event) -> None:
        found = self._events.get(key)
        if found is None:
            self._events[key] = event
        elif isinstance(found, list):
            insort(found, event, key=_ORDER)
        else:
            self._events[key] = sorted((found, event), key=_ORDER)

    def newest(self, key: str) -> Event | None:
        found = self._events.get(key)
        if isinstance(found, list):
            return next((event for event in reversed(found) if not event.undone), None)
        return None if found is None or found.undone else found


@dataclass(frozen=True, slots=True)
class Observation:
    """One clip's reward in [0,1]: ``source`` is "human" once a person rated it, else "auto". ``ts`` unix seconds."""

    video: str
    params: dict[str, Any]
    combo_key: str
    reward: float
    source: str
    cost_minutes: float | None
    ts: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What applying one event touched."""

    kind: str
    name: str | None = None
    key: str | None = None


def human_reward(rating: dict[str, Any]) -> float | None:
    """(q-1)/9 in [0,1], or None when ``overall_quality`` is no number."""
    quality = rating.get("overall_quality")
    if isinstance(quality, bool) or not isinstance(quality, (int, float)) or not math.isfinite(quality):
        return None
    return min(1.0, max(0.0, (quality - 1) / 9))


def _unit(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return min(1.0, max(0.0, float(value)))


class Model:
    """Everything known, by clip name, combo key, prompt id or event id."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.applied: dict[str, int] = {}  # writer -> newest seq applied
        self.lc = 0
        self.actions: list[Event] = []  # sorted by order
        self.ratings: dict[str, Event] = {}  # current rating (or ban by clip) of each rated clip
        self.entries: dict[str, Event] = {}  # current history entry of each clip
        self.banned: dict[str, Event] = {}
        self.compares: dict[str, Event] = {}
        self.submitted: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, Event] = {}
        self.finished: set[str] = set()  # prompt ids with a generated or failed record
        self.imports: dict[tuple[str, str], Event] = {}
        self.space: Event | None = None
        self.combos: dict[str, dict[str, float]] = {}  # combo key -> {clip: reward}
        self.rating_sum = 0.0
        self.dirty: set[tuple[str, str]] = set()  # (what, key) changed since the publisher last looked
        self._clip_combo: dict[str, str] = {}
        self._undone: set[str] = set()
        self._undo_of: dict[str, Event] = {}
        self._rating_log, self._entry_log, self._ban_log = Registers(), Registers(), Registers()
        self._import_log, self._space_log = Registers(), Registers()
        self._best: tuple[float, str] | None = None
        self._best_stale = False

    # ------------------------------------------------------------ applying
    def apply(self, record: Record) -> Effect | None:
        """Applies one record; None when it was applied before (by ``id``)."""
        self.lc = max(self.lc, record.lc)
        self.applied[record.w] = max(self.applied.get(record.w, 0), record.seq)
        if record.id in self.events:
            return None
        event = Event(record)
        self.events[record.id] = event
        if record.id in self._undone:
            event.undone = True
        if event.type in ACTIONS:
            if self.actions and self.actions[-1].order > event.order:
                insort(self.actions, event, key=_ORDER)
            else:
                self.actions.append(event)
        handler = getattr(self, f"_on_{event.type}", None)
        if handler is None:
            log.warning("record %s of unknown type %r is kept but has no effect (written by a newer version?)", event.id, event.type)
            return Effect(event.type)
        try:
            return handler(event)
        except (KeyError, TypeError, AttributeError) as error:
            # Its checksum is right, so a program wrote it like this: keep it, say so, go on.
            log.warning("record %s (%s, seq %d) is malformed and has no effect: %r", event.id, event.type, event.seq, error)
            return Effect(event.type)

    def apply_all(self, batch: Iterable[Record]) -> None:
        for record in batch:
            self.apply(record)

    def _on_rating(self, event: Event) -> Effect:
        name = event.data["name"]
        self._rating_log.add(name, event)
        self._refresh_rating(name)
        return Effect("rating", name)

    def _on_ban(self, event: Event) -> Effect:
        key = event.data["key"]
        self._ban_log.add(key, event)
        self._refresh_ban(key)
        name = event.data.get("name")
        if name is not None and event.data.get("rating") is not None:
            self._rating_log.add(name, event)
            self._refresh_rating(name)
        return Effect(event.type, name, key)

    _on_unban = _on_ban

    def _on_compare(self, event: Event) -> Effect:
        if not event.undone:
            self.compares[event.id] = event
        return Effect("compare", event.data["left"])

    def _on_undo(self, event: Event) -> Effect:
        target_id = event.data["target"]
        self._undone.add(target_id)
        first = self._undo_of.get(target_id)
        if first is None or event.order < first.order:
            self._undo_of[target_id] = event
        target = self.events.get(target_id)
        if target is None or target.type not in UNDOABLE:
            return Effect("undo")
        target.undone = True
        name, key = target.data.get("name"), target.data.get("key")
        if target.type == "compare":
            self.compares.pop(target_id, None)
        if key is not None:
            self._refresh_ban(key)
        if name is not None:
            self._refresh_rating(name)
        self.dirty.add(("bans", ""))
        return Effect("undo", name, key)

    def _on_submitted(self, event: Event) -> Effect:
        prompt_id = event.data["prompt_id"]
        if prompt_id not in self.finished:
            self.submitted[prompt_id] = event.data
        return Effect("submitted", None, event.data.get("combo_key"))

    def _on_generated(self, event: Event) -> Effect:
        entry, prompt_id = event.data["entry"], event.data.get("prompt_id")
        self._finish(prompt_id)
        name = entry["video"]
        self._entry_log.add(name, event)
        self._refresh_entry(name)
        return Effect("generated", name, self._clip_combo.get(name))

    def _on_failed(self, event: Event) -> Effect:
        self._finish(event.data.get("prompt_id"))
        self.failed[event.id] = event
        return Effect("failed", None, event.data.get("combo_key"))

    def _on_space(self, event: Event) -> Effect:
        self._space_log.add("", event)
        self.space = self._space_log.newest("")
        return Effect("space")

    def _on_import(self, event: Event) -> Effect:
        view, key = event.data["view"], event.data["key"]
        if view == "knowledge.json" and key.startswith("history/"):
            name = key.removeprefix("history/")
            self._entry_log.add(name, event)
            self._refresh_entry(name)
            return Effect("import", name)
        whole = f"{view}\0{key}"
        self._import_log.add(whole, event)
        newest = self._import_log.newest(whole)
        assert newest is not None
        self.imports[(view, key)] = newest
        self.dirty.add((view, key))
        self._best_stale = self._best_stale or key == "best"
        return Effect("import", None, key)

    # ------------------------------------------------------------ registers
    def _finish(self, prompt_id: str | None) -> None:
        if prompt_id is not None:
            self.finished.add(prompt_id)
            self.submitted.pop(prompt_id, None)

    def _refresh_ban(self, key: str) -> None:
        newest = self._ban_log.newest(key)
        if newest is not None and newest.type == "ban":
            self.banned[key] = newest
        else:
            self.banned.pop(key, None)
        self.dirty.add(("bans", key))

    def _refresh_rating(self, name: str) -> None:
        old, new = self.ratings.get(name), self._rating_log.newest(name)
        if new is not None and new.data["rating"] is None:
            new = None
        if old is not None:
            self.rating_sum -= quality_of(old)
        if new is not None:
            self.ratings[name] = new
            self.rating_sum += quality_of(new)
        else:
            self.ratings.pop(name, None)
        self.dirty.add(("rating", name))
        self._refresh_reward(name)

    def _refresh_entry(self, name: str) -> None:
        new = self._entry_log.newest(name)
        if new is None or entry_data(new) is None:
            self.entries.pop(name, None)
        else:
            self.entries[name] = new
        self.dirty.add(("entry", name))
        self._refresh_reward(name)

    def _refresh_reward(self, name: str) -> None:
        old_key = self._clip_combo.pop(name, None)
        if old_key is not None:
            clips = self.combos[old_key]
            del clips[name]
            if not clips:
                del self.combos[old_key]
            self.dirty.add(("combo", old_key))
        event = self.entries.get(name)
        reward = None if event is None else self.reward_of(name)
        if self._best is not None and self._best[1] == name and (reward is None or reward < self._best[0]):
            self._best_stale = True
        if event is None or reward is None:
            return
        if self._best is None or (reward, name) > self._best:
            self._best = (reward, name)
        key = self.combo_of(event)
        if key is not None:
            self.combos.setdefault(key, {})[name] = reward
            self._clip_combo[name] = key
            self.dirty.add(("combo", key))

    # ------------------------------------------------------------ reading
    def reward_of(self, name: str) -> float | None:
        """A person's reward for the clip, else the automatic one, in [0,1]."""
        rating = self.ratings.get(name)
        if rating is not None:
            human = human_reward(rating.data["rating"])
            if human is not None:
                return human
        event = self.entries.get(name)
        if event is None:
            return None
        reward = _unit(event.data.get("reward"))
        return reward if reward is not None else _unit((entry_data(event) or {}).get("score"))

    @staticmethod
    def combo_of(event: Event) -> str | None:
        """The combo key of an entry, or None when its params are not complete."""
        params = (entry_data(event) or {}).get("params")
        if not isinstance(params, dict):
            return None
        try:
            return keys.combo_key(params)
        except ValueError:
            return None

    def observations(self) -> Iterator[Observation]:
        for name, event in self.entries.items():
            key, reward = self._clip_combo.get(name), self.reward_of(name)
            if key is None or reward is None:
                continue
            entry = entry_data(event) or {}
            human = name in self.ratings and human_reward(self.ratings[name].data["rating"]) is not None
            cost = event.data.get("cost_minutes")
            yield Observation(name, entry["params"], key, reward, "human" if human else "auto", cost, _unix(entry, event))

    def combo_stats(self, base: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """``{key: {"N", "S", "scores"}}``: ``base`` (what a legacy file held beyond its history) plus every clip's reward."""
        out: dict[str, dict[str, Any]] = {}
        for key in base.keys() | self.combos.keys():
            clips, legacy = self.combos.get(key, {}), base.get(key) or {}
            scores = [*legacy.get("scores", ()), *(clips[name] for name in sorted(clips))]
            count = legacy.get("N", 0) + len(clips)
            if count > 0:
                out[key] = {"N": count, "S": math.fsum([legacy.get("S", 0.0), *clips.values()]), "scores": scores}
        return out

    def best(self) -> tuple[float, str] | None:
        """(reward, clip) of the best clip."""
        if self._best_stale:
            self._best_stale = False
            found = ((reward, name) for name in self.entries if (reward := self.reward_of(name)) is not None)
            self._best = max(found, default=None)
        return self._best

    def undo_event(self, target: str) -> Event | None:
        """The undo that was recorded first for an event."""
        return self._undo_of.get(target)


def quality_of(event: Event) -> float:
    quality = (event.data.get("rating") or {}).get("overall_quality")
    return float(quality) if isinstance(quality, (int, float)) and math.isfinite(quality) else 0.0


def entry_data(event: Event) -> dict[str, Any] | None:
    """The history entry an event carries (None: it takes the entry away)."""
    return event.data["value"] if event.type == "import" else event.data["entry"]


def _unix(entry: dict[str, Any], event: Event) -> float:
    stamp = entry.get("timestamp")
    return float(stamp) if isinstance(stamp, (int, float)) and not isinstance(stamp, bool) else event.ts
