"""What was tried and learned, in the state and in the bandit, kept as one.

:class:`Ledger` is the only place where the agent writes events or changes the bandit. Its lock is reentrant and is taken by the agent
around a choice too, so that a choice always sees everything learned before it. Every write may raise ``StateError``.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from eva_env_base import StateError
from eva_p1.agent_sync import StateSync, reward_of_rating
from eva_p1.agent_types import BLAMELESS_KINDS, Job, Params
from eva_p1.search_space import SearchSpace
from eva_state.keys import combo_key, matches

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
        self._rewards: dict[str, dict[str, float]] = {}  # combo key -> clip -> reward, oldest clip first
        self._claims: dict[str, str] = {}  # clip -> prompt id
        self._spared: set[str] = set()  # keys whose ban was refused, because it would leave nothing to try
        self._started = False
        self.spend: Any = None  # the run's ``agent_budget.Spend``, told of every try that ends

    # ------------------------------------------------------------ before and beside the run
    def warm_start(self) -> int:
        """Learns what the state holds, once; returns the number of clips (0 when it was done before)."""
        with self.lock:
            if self._started:
                return 0
            self._started = True
            self.store.subscribe(self._sync.notice)
            unbanned = {action["key"]: action["ts"] for action in reversed(self.store.actions(limit=10**9)) if action["type"] == "unban"}
            for seen in self.store.observations():
                if seen.ts > max((ts for key, ts in unbanned.items() if matches(key, seen.combo_key)), default=0.0):
                    self._remember(seen.combo_key, seen.video, seen.reward)
            return self._sync.warm_start()

    def drain(self) -> tuple[list[Any], list[str]]:
        """Takes in what people did up to this instant: (changes, keys newly banned)."""
        with self.lock:
            changes, banned, autobans = self._sync.drain()
            for change in changes:
                if change.kind == "unban" and change.key:
                    self._rewards = {key: rewards for key, rewards in self._rewards.items() if not matches(change.key, key)}
                elif change.name:
                    self._remember_rating(change.name)
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
        if score is None or not (params or score):  # an empty state says 0 without params
            return None
        try:
            return float(score), combo_key(params or {})
        except ValueError:  # an imported history may know a score without its params
            return float(score), ""

    def set_space(self, space: Any) -> None:
        """The search space in use, with the dimensions that earlier runs had: what was learned of them stays what it is."""
        with self.lock:
            space = self._remembering(space)
            self.bandit.set_space(space)
            if self.store.space() != space.to_dict():
                self.store.set_space(space.to_dict())

    def _remembering(self, space: Any) -> Any:
        earlier = self.store.space()
        try:
            return space.remembering(SearchSpace.from_dict(earlier)) if earlier else space
        except ValueError as error:  # written by a program that knew more, or by hand
            log.warning("the search space of earlier runs cannot be read: %s", error)
            return space

    # ------------------------------------------------------------ a try
    def submitted(self, job: Job) -> None:
        with self.lock:
            self.answer(job.request, "taken", prompt_id=job.prompt_id)
            self.store.submitted(job.submitted_data())

    def answer(self, request: str | None, outcome: str, message: str = "", **found: str) -> None:
        """Says what came of a person's request; nothing where there was none. ``found``: ``prompt_id``, ``video``."""
        if request is not None:
            self.store.answer_request(request, outcome, message, **found)

    def renamed(self, job: Job, prompt_id: str) -> None:
        """The prompt goes by another id from now on."""
        with self.lock:
            old = job.submitted_data()
            job.prompt_id = prompt_id
            self.answer(job.request, "taken", prompt_id=prompt_id)
            self.store.submitted(job.submitted_data())
            self.store.failed(old["prompt_id"], {**old, "kind": "withdrawn", "reason": f"goes on as {prompt_id}", "cost_minutes": 0.0})

    def mark_in_flight(self, params: Params) -> None:
        """Tells the bandit of a pull it did not choose; params outside its space (an earlier run's) stay unknown to it."""
        with self.lock:
            try:
                self.bandit.select_params(among=[params])
            except ValueError as error:
                log.info("a prompt outside the search space is under way: %s", error)

    def cancel(self, job: Job) -> None:
        """The bandit no longer waits for this pull; the state still does."""
        with self.lock:
            self.bandit.cancel(job.params)

    def claim(self, job: Job, video: str | None) -> bool:
        """True when this job made the clip; False when another prompt did, of this run or of an earlier one, or there is no clip."""
        if video is None:
            return False
        with self.lock:
            entry = self.store.entry(video)
            owner = self._claims.setdefault(video, str(entry.get("prompt_id")) if entry else job.prompt_id)
            return owner == job.prompt_id

    def generated(self, job: Job, entry: dict[str, Any], reward: float, minutes: float) -> list[tuple[str, str]]:
        """Records a scored clip and learns from it; returns the (key, reason) the bandit now wants banned."""
        with self.lock:
            self.store.generated(job.prompt_id, entry, reward, minutes)
            self.answer(job.request, "made", prompt_id=job.prompt_id, video=entry["video"])
            self._remember(job.combo_key, entry["video"], reward)
            price = {"cost_minutes": minutes or None, "seconds": job.seconds or None, "server": job.api or None}
            try:
                bans = self.bandit.update(job.params, reward, source="auto", video=entry["video"], **price)
            except ValueError as error:  # a server that numbers its files anew may use a name again
                log.warning("the clip %s teaches nothing: %s", entry["video"], error)
                self.bandit.cancel(job.params)
                bans = []
            self._paid(job, minutes)
        training_log.info("%s reward=%.4f minutes=%.3f video=%s", job.combo_key, reward, minutes, entry["video"])
        return list(bans or ())

    def failed(self, job: Job, kind: str, reason: str, minutes: float) -> None:
        """Records a failed try. A blameless kind ends the pull without teaching anything."""
        with self.lock:
            self.answer(job.request, "returned" if kind == "withdrawn" else "failed", reason, prompt_id=job.prompt_id)
            self.store.failed(job.prompt_id, {**job.submitted_data(), "kind": kind, "reason": reason, "cost_minutes": round(minutes, 5)})
            if kind in BLAMELESS_KINDS:
                self.bandit.cancel(job.params)
            else:
                self.bandit.fail(job.params, kind, cost_minutes=minutes or None)
            self._paid(job, minutes)

    def _paid(self, job: Job, minutes: float) -> None:
        if self.spend is not None:
            self.spend.ended(job, minutes)

    # ------------------------------------------------------------ bans
    def ban(self, key: str, reason: str, by: str) -> bool:
        """Bans in the state and the bandit; False where the key was banned already, or where nothing would be left to try."""
        with self.lock:
            if self._sync.is_banned(key):
                return False
            try:
                self.bandit.ban(key, reason)
            except ValueError as error:  # it would leave nothing to try
                level = logging.INFO if key in self._spared else logging.WARNING  # a rule says the same again after every further try
                log.log(level, "%s is not banned (%s): %s", key, reason, error)
                self._spared.add(key)
                return False
            try:
                self.store.ban(key, reason=reason, by=by)
            except StateError:
                self.bandit.unban(key)
                raise
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
        """The last rewards of a combo since it was last unbanned, oldest clip first; a person's rating replaces the automatic one."""
        with self.lock:
            return list(self._rewards.get(key, {}).values())

    def _remember(self, key: str, video: str, reward: float) -> None:
        rewards = self._rewards.setdefault(key, {})
        rewards[video] = reward
        while len(rewards) > REMEMBERED_REWARDS:
            del rewards[next(iter(rewards))]

    def _remember_rating(self, video: str) -> None:
        entry = self.store.entry(video) or {}
        rewards = self._rewards.get(str(entry.get("combo_key")), {})
        if video in rewards:
            quality = ((self.store.rating(video) or {}).get("rating") or {}).get("overall_quality")
            rewards[video] = float(entry["score"]) if quality is None else reward_of_rating(quality)
