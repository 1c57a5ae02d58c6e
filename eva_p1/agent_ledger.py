"""What was tried and learned, in the state and in the bandit, kept as one.

:class:`Ledger` is the only place where the agent writes events or changes the bandit. Its lock is reentrant and is taken by the agent
around a choice too, so that a choice always sees everything learned before it. Every write may raise ``StateError``.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any

from eva_p1.agent_sync import StateSync
from eva_p1.agent_types import BLAMELESS_KINDS, Job, Params
from eva_state.keys import combo_key

log = logging.getLogger(__name__)
training_log = logging.getLogger("eva.training")

REMEMBERED_REWARDS = 20  # per combo, for policies that look at the last few
TIMED_ENTRIES = 200  # run times of the latest clips are enough to estimate the next ones


class Ledger:
    """Store and bandit behind one lock."""

    def __init__(self, store: Any, bandit: Any):
        self.store, self.bandit = store, bandit
        self.lock = threading.RLock()
        self._sync = StateSync(bandit, store)
        self._rewards: dict[str, deque[float]] = {}
        self._started = False

    # ------------------------------------------------------------ before and beside the run
    def warm_start(self) -> int:
        """Learns what the state holds, once; returns the number of clips (0 when it was done before)."""
        with self.lock:
            if self._started:
                return 0
            self._started = True
            self.store.subscribe(self._sync.notice)
            for seen in self.store.observations():
                self._remember(seen.combo_key, seen.reward)
            return self._sync.warm_start()

    def drain(self) -> tuple[list[Any], list[str]]:
        """Takes in what people did up to this instant: (changes, keys newly banned)."""
        with self.lock:
            changes, banned, autobans = self._sync.drain()
            return changes, banned + [key for key, reason in autobans if self.ban(key, reason, by="autoban")]

    def in_flight_jobs(self) -> list[Job]:
        """Prompts of earlier runs that neither finished nor failed; unreadable ones are reported and left alone."""
        jobs = []
        for data in self.store.in_flight():
            try:
                jobs.append(Job.from_submitted(data))
            except (KeyError, TypeError, ValueError) as error:
                log.warning("a prompt in flight cannot be read and is left alone: %s: %r", error, data)
        return jobs

    def timed_entries(self) -> list[dict[str, Any]]:
        """The latest history entries that say how long their prompt ran."""
        return [entry for entry in self.store.history()[-TIMED_ENTRIES:] if entry.get("run_seconds") and entry.get("params")]

    def best(self) -> tuple[float, str] | None:
        """Best reward of all runs and its combo key."""
        stats = self.store.stats()
        score, params = stats["best_score"], stats["best_params"]
        if score is None:
            return None
        try:
            return float(score), combo_key(params or {})
        except ValueError:  # an imported history may know a score without its params
            return float(score), ""

    def set_space(self, space: Any) -> None:
        with self.lock:
            self.bandit.set_space(space)
            if self.store.space() != space.to_dict():
                self.store.set_space(space.to_dict())

    # ------------------------------------------------------------ a try
    def submitted(self, job: Job) -> None:
        with self.lock:
            self.store.submitted(job.submitted_data())

    def mark_in_flight(self, params: Params) -> None:
        """Tells the bandit of a pull it did not choose; params outside its space (an earlier run's) stay unknown to it."""
        with self.lock:
            try:
                self.bandit.select_params(among=[params])
            except ValueError as error:
                log.info("a prompt outside the search space is under way: %s", error)

    def generated(self, job: Job, entry: dict[str, Any], reward: float, minutes: float) -> list[tuple[str, str]]:
        """Records a scored clip and learns from it; returns the (key, reason) the bandit now wants banned."""
        with self.lock:
            self.store.generated(job.prompt_id, entry, reward, minutes)
            self._remember(job.combo_key, reward)
            bans = self.bandit.update(job.params, reward, cost_minutes=minutes or None, source="auto", video=entry["video"])
        training_log.info("%s reward=%.4f minutes=%.3f video=%s", job.combo_key, reward, minutes, entry["video"])
        return list(bans or ())

    def failed(self, job: Job, kind: str, reason: str, minutes: float) -> None:
        """Records a failed try. A blameless kind ends the pull without teaching anything."""
        with self.lock:
            self.store.failed(job.prompt_id, {**job.submitted_data(), "kind": kind, "reason": reason, "cost_minutes": round(minutes, 5)})
            if kind in BLAMELESS_KINDS:
                self.bandit.cancel(job.params)
            else:
                self.bandit.fail(job.params, kind, cost_minutes=minutes or None)

    # ------------------------------------------------------------ bans
    def ban(self, key: str, reason: str, by: str) -> bool:
        """Bans in the state and the bandit; False where the key was banned already."""
        with self.lock:
            if self._sync.is_banned(key):
                return False
            self.store.ban(key, reason=reason, by=by)
            self._sync.set_banned(key, reason)
            return True

    def is_banned(self, key: str) -> bool:
        with self.lock:
            return self._sync.is_banned(key)

    @property
    def ban_count(self) -> int:
        with self.lock:
            return len(self._sync.banned)

    def recent_rewards(self, key: str) -> list[float]:
        """The last automatic rewards of a combo, oldest first."""
        with self.lock:
            return list(self._rewards.get(key, ()))

    def _remember(self, key: str, reward: float) -> None:
        self._rewards.setdefault(key, deque(maxlen=REMEMBERED_REWARDS)).append(reward)
