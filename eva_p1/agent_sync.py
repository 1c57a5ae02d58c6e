"""Keeps the bandit in step with the shared state: what was learned before, and what people do while the agent runs.

The store calls :meth:`StateSync.notice` on whatever thread applied an event; that only puts it in a queue, so no lock of ours is
ever taken inside a lock of the store. :meth:`StateSync.drain` applies the queue, on the agent's threads and under the agent's lock:
before every choice, so that a rating changes the very next one.
"""

from __future__ import annotations

import logging
import math
import queue
from collections.abc import Mapping
from typing import Any

from eva_p1.agent_memory import MOST_COMPARISONS, worth_teaching
from eva_p1.agent_types import BLAMELESS_KINDS
from eva_state.keys import base_key, covers_others, matches

log = logging.getLogger(__name__)
LEAST_RATER_SD = 0.02  # reward units: marks are whole or half numbers, so that equal ones still hide a difference


def reward_of_rating(quality: float) -> float:
    """Reward in [0,1] of a human ``overall_quality`` in 1..10: (q - 1) / 9 (contract, section 3)."""
    return min(1.0, max(0.0, (float(quality) - 1.0) / 9.0))


class StateSync:
    """One bandit, one store. Not thread-safe but for :meth:`notice`."""

    def __init__(self, bandit: Any, store: Any):
        self._bandit, self._store = bandit, store
        self._changes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._banned: dict[str, str] = {}
        self._human: set[str] = set()
        self._compared: set[str] = set()  # ids of the comparisons the bandit knows
        self._repeats = 0

    @property
    def banned(self) -> Mapping[str, str]:
        """Banned keys (patterns too) and their reasons, as last drained."""
        return self._banned

    def is_banned(self, key: str) -> bool:
        """True when the key is banned, by itself or by a pattern."""
        if key in self._banned or base_key(key) in self._banned:
            return True
        return any(covers_others(pattern) and matches(pattern, key) for pattern in list(self._banned))

    def set_banned(self, key: str, reason: str) -> None:
        """A ban this agent itself made, in the bandit and in the state."""
        self._banned[key] = reason

    def notice(self, change: Any) -> None:
        """A change of the state; callable from any thread."""
        self._changes.put(change)

    def warm_start(self) -> int:
        """Teaches the bandit what the state holds, of a long history a part; returns how many clips that is.

        Bans come from the state alone: a ban a person lifted must not come back because old scores would call for it.
        """
        with self._bandit.bulk():
            count = self._learn_history()
            self._sync_comparisons()
            self._sync_consistency()
        wanted = {key: str(ban.get("reason") or "") for key, ban in self._store.bans().items()}
        for key in set(self._bandit.bans) - set(wanted):
            self._bandit.unban(key)
        for key, reason in wanted.items():
            self._ban(key, reason)
        return count

    def _learn_history(self) -> int:
        known = list(self._store.observations())
        compared = {name for item in self._comparisons().values() for name in (item["left"], item["right"])}
        taught = worth_teaching(known, compared)
        if len(taught) < len(known):
            log.info("%d of %d clips are taught: the best combos, the latest that were rated, the latest", len(taught), len(known))
        for seen in taught:
            entry = self._store.entry(seen.video)
            judged = [("auto", entry["score"])] if entry and is_reward(entry.get("score")) and seen.source == "human" else []
            price = {"cost_minutes": seen.cost_minutes, **price_facts(entry)}
            for source, reward in [*judged, (seen.source, seen.reward)]:
                self._teach(seen.video, seen.params, reward, source, **price)
        for failure in self._store.failures():
            if failure.get("kind") in BLAMELESS_KINDS:
                continue
            try:
                self._bandit.fail(failure["params"], failure.get("kind", "error"), cost_minutes=failure.get("cost_minutes"))
            except (ValueError, KeyError, TypeError) as error:
                log.warning("a failure of the state teaches nothing: %s", error)
        return len(taught)

    def drain(self) -> tuple[list[Any], list[str], list[tuple[str, str]]]:
        """Applies what was noticed: (the changes, keys newly banned by people, autobans their ratings brought about)."""
        changes: list[Any] = []
        while True:
            try:
                changes.append(self._changes.get_nowait())
            except queue.Empty:
                break
        if not changes:
            return [], [], []
        anew = any(change.kind == "reload" for change in changes)
        names = dict.fromkeys([*self._human, *self._store.ratings()] if anew else [change.name for change in changes if change.name])
        autobans = [ban for name in names for ban in self._sync_rating(name)]
        if anew or any(change.kind in ("compare", "undo") for change in changes):
            self._sync_comparisons()
        if anew or any(change.kind in ("repeat", "undo") for change in changes):
            self._sync_consistency()
        rebanned = self._sync_bans() if anew or any(change.key or change.kind == "undo" for change in changes) else []
        return changes, rebanned, autobans

    def _sync_rating(self, name: str) -> list[tuple[str, str]]:
        quality = ((self._store.rating(name) or {}).get("rating") or {}).get("overall_quality")
        if quality is None:
            if name not in self._human:
                return []
            self._human.discard(name)
            log.info("the rating of %s was taken back", name)
            return list(self._bandit.forget(name, source="human") or ())
        entry = self._store.entry(name)
        if entry is None or not entry.get("params"):
            return []  # a clip this state did not make: there are no params to learn about
        log.info("rating %s of %s taken in", quality, name)
        return self._teach(name, entry["params"], reward_of_rating(quality), "human")

    def _teach(self, name: str, params: Any, reward: float, source: str, **price: Any) -> list[tuple[str, str]]:
        try:
            bans = self._bandit.update(params, reward, source=source, video=name, **price)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("the clip %s teaches nothing: %s", name, error)
            return []
        if source == "human":
            self._human.add(name)
        return list(bans or ())

    def _comparisons(self) -> dict[str, Any]:
        """The latest comparisons by their id."""
        latest = sorted(self._store.compares(), key=lambda item: float(item["ts"]))[-MOST_COMPARISONS:]
        return {item["event_id"]: item for item in latest}

    def _sync_comparisons(self) -> None:
        wanted = self._comparisons()
        for gone in self._compared - set(wanted):
            self._bandit.forget_comparison(gone)
            log.info("the comparison %s is forgotten: it was taken back, or is too old", gone)
        self._compared &= set(wanted)
        for event_id, item in wanted.items():
            if event_id in self._compared:
                continue
            try:
                self._bandit.compare(item["left"], item["right"], item["winner"], id=event_id)
            except ValueError as error:  # of clips this state did not make: there are no params to learn about
                log.info("a comparison teaches nothing: %s", error)
                continue
            self._compared.add(event_id)

    def _sync_consistency(self) -> None:
        """How well the person agrees with themselves, from clips they rated twice without knowing, is the human noise's prior."""
        differences = self._store.repeat_differences()
        if not differences or len(differences) == self._repeats:
            return
        self._repeats = len(differences)
        sd = math.sqrt(sum(each * each for each in differences) / len(differences) / 2.0) / 9.0  # of one of the two, in reward units
        self._bandit.set_rater_noise(min(0.5, max(LEAST_RATER_SD, sd)), len(differences))
        log.info("%d repeated rating(s): one rating's error has a standard deviation of %.3f", len(differences), sd)

    def _sync_bans(self) -> list[str]:
        wanted = {key: str(ban.get("reason") or "") for key, ban in self._store.bans().items()}
        for key in [key for key in self._banned if key not in wanted]:
            self._banned.pop(key)
            if key in self._bandit.bans:
                self._bandit.unban(key)
            log.info("unbanned: %s", key)
        return [key for key, reason in wanted.items() if key not in self._banned and self._ban(key, reason)]

    def _ban(self, key: str, reason: str) -> bool:
        """Bans in the bandit; a ban it refuses (one that would leave nothing) is kept, obeyed and reported."""
        self._banned[key] = reason
        try:
            self._bandit.ban(key, reason)
        except ValueError as error:
            log.warning("the ban of %s: %s", key, error)
        log.info("banned: %s (%s)", key, reason or "no reason given")
        return True


def price_facts(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    """``seconds`` of clip and ``server`` of a history entry, where it tells them: what its price depends on."""
    seconds, server = (entry or {}).get("seconds"), (entry or {}).get("api")
    return {
        "seconds": float(seconds) if isinstance(seconds, (int, float)) and seconds > 0 else None,
        "server": server if isinstance(server, str) and server else None,
    }


def is_reward(value: Any) -> bool:
    """True for a number in [0,1]."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
