"""The reading half of the store: every method takes a snapshot under the lock and builds its answer outside it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from eva_state import documents, keys
from eva_state.feed import Feed
from eva_state.model import Model
from eva_state.records import Record
from eva_state.registers import Observation, entry_in, unit

_PARSE_AT_ONCE = 2000  # texts parsed in one call


class ClipFacts(NamedTuple):
    """What is known of one clip: its history entry as generated, its item of manual_ratings.json, reward in [0,1], GPU minutes."""

    name: str
    entry: dict[str, Any] | None
    rating: dict[str, Any] | None
    auto: float | None
    cost_minutes: float | None


class StoreReads:
    """Needs ``_lock``, ``_model`` and ``_feed``."""

    _lock: threading.RLock | Any
    _model: Model
    _feed: Feed

    def rating(self, name: str) -> dict[str, Any] | None:
        """The clip's item of manual_ratings.json: ``{"rating", "timestamp", "rated_at"}``."""
        with self._lock:
            clip = self._model.clips.get(name)
            record = None if clip is None else clip.rating
        return None if record is None else documents.rating_item(record)

    def entry(self, name: str) -> dict[str, Any] | None:
        """The clip's history entry, ``manual_rating`` included where a person rated it."""
        with self._lock:
            clip = self._model.clips.get(name)
            return None if clip is None or clip.entry is None else documents.history_item(clip.entry, clip.rating)

    def ratings(self) -> dict[str, dict[str, Any]]:
        """Every rated clip's item, by name."""
        return dict(self.iter_ratings())

    def iter_ratings(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """:meth:`ratings` one by one, for readers that keep little of each."""
        with self._lock:
            found = [(clip.name, clip.rating) for clip in self._model.clips.values() if clip.rating is not None]
        for name, record in found:
            yield name, documents.rating_item(record)

    def history(self) -> list[dict[str, Any]]:
        """The history entries as generated (ratings are in :meth:`ratings`)."""
        return list(self.iter_history())

    def iter_history(self) -> Iterator[dict[str, Any]]:
        """:meth:`history` one by one, for readers that keep little of each."""
        with self._lock:
            found = [clip.entry for clip in self._model.clips.values() if clip.entry is not None]
        for start in range(0, len(found), _PARSE_AT_ONCE):
            texts = b",".join(record.raw for record in found[start : start + _PARSE_AT_ONCE])
            for data in json.loads(b"[%s]" % texts):
                yield entry_in(data) or {}

    def iter_clips(self) -> Iterator[ClipFacts]:
        """Every clip that has a history entry or a rating, in the order they became known."""
        with self._lock:
            clips = self._model.clips.values()
            found = [(clip.name, clip.entry, clip.rating) for clip in clips if clip.entry is not None or clip.rating is not None]
        for name, entry, rating in found:
            data = {} if entry is None else entry.data
            item = None if rating is None else documents.rating_item(rating)
            yield ClipFacts(name, entry_in(data) if data else None, item, unit(data.get("reward")), data.get("cost_minutes"))

    def bans(self) -> dict[str, dict[str, Any]]:
        """Banned keys and patterns: ``{key: {"reason", "by", "ts", "event_id", "name"?}}``."""
        with self._lock:
            found = dict(self._model.banned)
        out: dict[str, dict[str, Any]] = {}
        for key, record in found.items():
            data = record.data
            out[key] = {"reason": data.get("reason", ""), "by": data.get("by", ""), "ts": record.ts, "event_id": record.id}
            if data.get("name") is not None:
                out[key]["name"] = data["name"]
        return out

    def banned_by(self, key: str) -> str | None:
        """The ban (a key or a pattern) that covers ``key``, or None."""
        with self._lock:
            found = list(self._model.banned)
        return next((pattern for pattern in found if keys.matches(pattern, key)), None)

    def in_flight(self) -> list[dict[str, Any]]:
        """Submitted prompts that neither finished nor failed, oldest first."""
        with self._lock:
            found = list(self._model.submitted.values())
        return [record.data for record in found]

    def observations(self) -> list[Observation]:
        """One per clip with complete params and a reward."""
        with self._lock:
            return list(self._model.observations())

    def failures(self) -> list[dict[str, Any]]:
        """Data of every failed generation, with its ``ts``."""
        with self._lock:
            found = list(self._model.failed.values())
        return [{**record.data, "ts": record.ts} for record in found]

    def compares(self) -> list[dict[str, Any]]:
        """Comparisons that were not undone: ``{left, right, winner, ts, event_id}``."""
        with self._lock:
            found = list(self._model.compares.values())
        return [{**record.data, "ts": record.ts, "event_id": record.id} for record in found]

    def combo_stats(self) -> dict[str, dict[str, Any]]:
        """``{key: {"N", "S", "scores"}}``; a person's rating stands in for the automatic reward of the same clip."""
        with self._lock:
            return self._model.combo_stats(documents.base_stats(self._model))

    def space(self) -> dict[str, Any] | None:
        """The search space in use, if an agent recorded one."""
        with self._lock:
            record = self._model.space
        return None if record is None else record.data["space"]

    def stats(self) -> dict[str, Any]:
        """Counts of what there is; ``avg_rating`` in 1..10 and ``best_score`` in [0,1], or None."""
        with self._lock:
            model = self._model
            best = documents.knowledge_head(model)
            average = model.human_sum / model.human_count * 9 + 1 if model.human_count else None
            return {
                "total_generated": model.generated,
                "total_rated": model.rated,
                "avg_rating": None if average is None else round(average, 6),
                "best_score": best["best_score"],
                "best_params": best["best_params"],
                "bandit_iterations": documents.base_pulls(model) + model.pulls,
                "combos_tried": len(model.combos),
                "banned": len(model.banned),
                "comparisons": len(model.compares),
                "failed": len(model.failed),
                "in_flight": len(model.submitted),
                "version": self._feed.version,
            }

    def actions(self, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
        """Ratings, bans, unbans, comparisons and undos, newest first, undone ones included.

        Each is ``{"event_id", "type", "ts", "time", "writer", "undone"}`` and the event's own data.
        """
        with self._lock:
            end = len(self._model.actions) - offset
            found = self._model.actions[max(0, end - limit) : max(0, end)]
        return [action_item(record) for record in reversed(found)]

    def iter_actions(self) -> Iterator[dict[str, Any]]:
        """:meth:`actions` one by one, oldest first; ``undone_by`` is the id of the undo, where there is one."""
        with self._lock:
            found = [(record, self._model.undo_of(record.id)) for record in self._model.actions]
        for record, undo in found:
            yield {**action_item(record), "undone_by": None if undo is None else undo.id}


def action_item(record: Record) -> dict[str, Any]:
    head = {"event_id": record.id, "type": record.type, "ts": record.ts, "time": documents.local_time(record.ts), "writer": record.w}
    return {**record.data, **head, "undone": record.undone}
