"""A lane whose server is away, takes nothing, was restarted, or has just been connected.

Alone, a lane waits for its server as long as it takes. Beside others at work it gives up after ``AgentOptions.give_up`` seconds: what it
had under way is left to them. A prompt that may have been paid for stays in flight in the journal and is picked up when its server is
back, in this run or in a later one; what surely never started is withdrawn. The server itself goes on being asked.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from eva_env_base import ComfyError
from eva_p1.agent_budget import Streak
from eva_p1.agent_patience import RESUME_ORDER, RESUME_WORDS, states_of, until_up
from eva_p1.agent_types import Job

log = logging.getLogger(__name__)

MAX_POSTS = 2  # a prompt lost with a server's queue is posted again once; a second loss is a failure


class Recovery:
    """The part of a lane that finds its way back to its server."""

    client: Any
    owner: Any
    api: str
    _lock: Any
    _jobs: list[Job]
    _resumed: list[Job]
    _up: threading.Event
    _away: str | None
    _away_since: float | None
    _refused_since: float | None
    _streak: Streak
    _monotonic: Callable[[], float]
    failed: bool
    kick: Callable[..., None]
    _over: Callable[[], bool]
    _drop: Callable[[Job], None]
    _fail: Callable[..., None]
    _show_queue: Callable[[], None]
    _row: Callable[..., None]
    _take: Callable[[Job, Any], None]

    # ------------------------------------------------------------ asked by the agent
    @property
    def resting(self) -> bool:
        """True while the lane recovers from too many failures in a row, or has given up."""
        return self.failed or self._streak.resting

    @property
    def works(self) -> bool:
        """True while the server answers and takes prompts."""
        return self._up.is_set() and not self.resting and self._refused_since is None

    @property
    def hungry(self) -> bool:
        """True while the server could render at once, or may soon, and has nothing to do."""
        return not self._jobs and not self.resting and self._away_since is None and self._refused_since is None

    # ------------------------------------------------------------ waiter
    def _on_away(self, reason: str) -> None:
        """The server cannot be reached: wait for it, then look which prompts it still knows."""
        self._up.clear()
        self._row(state="waiting_for_server", message=reason, now=None)
        if self._until_up(self._rejoin):
            self._away = None
            self._up.set()
            self.kick()

    def _until_up(self, action: Callable[[], Any]) -> bool:
        def waiting(reason: str, is_new: bool) -> None:
            if self._away_since is None:
                self._away_since = self._monotonic()
            self._row(state="waiting_for_server", message=reason, now=None)
            if is_new:
                why = reason.removeprefix(f"ComfyUI at {self.api} ")
                self.owner.say(f"waiting for ComfyUI at {self.api}: {why}", logging.WARNING)
            if self._monotonic() - self._away_since >= self.owner.options.give_up and self.owner.others_work(self):
                self._leave_to_others()

        def back(had_waited: bool) -> None:
            self._away_since = None
            if had_waited:
                self.owner.say(f"{self.api} is back")
            self._row(state="running", message="")

        owner = self.owner
        return until_up(action, over=self._over, stopping=owner.stopping, backoff=owner.options.backoff, on_wait=waiting, on_back=back)

    def _connect(self) -> None:
        """Learns what the server can do, then takes up prompts an earlier run left there."""
        self.owner.prepare(self.client)
        self._pick_up()

    def _rejoin(self, lost: Job | None = None) -> None:
        self._reconcile(lost)
        self._pick_up()

    def _pick_up(self) -> None:
        """Takes up prompts that were left in flight. Those the server knows nothing of, and left no clip of, are recorded as lost."""
        states = states_of(self.client, self._resumed)
        clips = self._clips_of(job for state, job in states if state == "unknown")
        self._resumed = []
        for state, job in states:
            clip = clips.get(job.prompt_id)
            if state == "unknown" and clip is None:
                self.owner.record_failure(job, "lost", f"{self.api} does not know this prompt any more")
            elif self.owner.adopt(job):
                known = RESUME_WORDS[RESUME_ORDER["done" if clip else state]]
                self.owner.say(f"picked up a prompt left in flight, which {known}: {job.combo_key}")
                if clip is not None:
                    self._take(job, clip)
                    continue
                with self._lock:
                    self._jobs.append(job)
            else:
                self.owner.say(f"a prompt left in flight is left for the next run, --iterations is used up: {job.combo_key}")
        self._show_queue()

    def _reconcile(self, lost: Job | None = None) -> None:
        """After a restart of the server: prompts it no longer knows are posted again, each at most once, unless their clip is there."""
        with self._lock:
            jobs = [job for job in self._jobs if job.posted and job is not lost]
            gone = [lost] if lost is not None and lost in self._jobs else []
        self.client.system_stats()
        states = states_of(self.client, jobs)
        unknown = [*gone, *(job for state, job in states if state == "unknown")]
        clips = self._clips_of(unknown)
        for job in unknown:
            if job.prompt_id in clips:
                self.owner.say(f"{self.api} forgot a prompt (was it restarted?), but had saved its clip: {job.combo_key}")
                self._take(job, clips[job.prompt_id])
            elif job.attempts < MAX_POSTS:
                self.owner.say(f"{self.api} forgot a prompt (was it restarted?); it is queued again: {job.combo_key}", logging.WARNING)
                job.posted, job.started_at = False, None
            else:
                self._drop(job)
                self._fail(job, "lost", f"{self.api} lost this prompt twice")
        self.kick()

    def _clips_of(self, forgotten: Iterable[Job]) -> dict[str, Any]:
        """Whole clips of prompts the server forgot after saving them, by prompt id: what is paid for is not rendered again."""
        found = {job.prompt_id: self.owner.rescued(self.client, job) for job in forgotten}
        return {prompt_id: finished for prompt_id, finished in found.items() if finished is not None}

    def _leave_to_others(self) -> None:
        """Frees the tries of a server that stays away."""
        with self._lock:
            jobs, self._jobs = self._jobs, []
        self._show_queue()
        for job in jobs:
            if job.posted or job.doubtful:
                self.owner.set_aside(job)
                self._resumed.append(job)
            else:
                self._take_back(job)
        if jobs:
            self.owner.say(f"{self.api} stays away; the other servers make {len(jobs)} tr{'ies' if len(jobs) > 1 else 'y'} in its place")

    # ------------------------------------------------------------ feeder
    def _on_refused_post(self, error: ComfyError) -> None:
        """A prompt could not be posted. A server that answers everything else but takes no prompts gets a rest, like one that fails."""
        now = self._monotonic()
        self._refused_since = self._refused_since or now
        with self._lock:
            followed = any(job.posted for job in self._jobs)
            unposted = [job for job in self._jobs if not job.posted]
        if not followed:  # then the waiter has nobody to learn it from
            self._up.clear()
            self._away = str(error)
        if now - self._refused_since < self.owner.options.give_up or not self.owner.others_work(self):
            return
        try:
            free = [job for job in unposted if not job.doubtful or self.client.state_of(job.prompt_id) == "unknown"]
        except ComfyError as also:
            log.info("%s: %s", self.api, also)  # it is away altogether: the waiter's business
            return
        for job in free:
            self._drop(job)
            self._take_back(job)
        if free:
            self._refused_since = None
            pause = self._streak.rest()
            self.owner.say(f"{self.api} takes no prompts and rests for {pause:.0f} s, the others go on: {error}", logging.WARNING)

    def _take_back(self, job: Job) -> None:
        """A try this server never started is left to the others."""
        job.withdrawn = f"{self.api} does not take it"
        self.owner.withdraw(job, job.withdrawn)
