"""Keeping servers busy: one lane a server, each with one prompt running and one waiting.

A lane has two threads. The *waiter* follows the oldest prompt until it ends and hands the result on. The *feeder* chooses and
posts the next prompt whenever a place is free, posts again what a restarted server forgot, and takes banned prompts that have not
started out of the server's queue. So a slow answer to one never holds up the other, and one sick server never holds up the rest.

A free place is not always filled at once: while another prompt renders there is time to wait for the score of the clip before it,
which makes the next choice a better informed one. ``AgentOptions.hold_share`` bounds that wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from eva_env_base import ComfyError, ComfyUnavailable, EvaError, PromptFailed, PromptRejected
from eva_p1.agent_budget import Streak, Tickets
from eva_p1.agent_live import Board
from eva_p1.agent_servers import server_name
from eva_p1.agent_types import DISK_FULL, AgentOptions, Job
from eva_p1.lane_recovery import Recovery
from eva_p1.lane_withdraw import Withdrawals

log = logging.getLogger(__name__)

FEEDER_TICK = 0.1  # how late a hold may end; small beside any run time, and cheap: one comparison a tick


class LaneOwner(Protocol):
    """What a lane asks of its agent."""

    options: AgentOptions
    board: Board
    tickets: Tickets
    stopping: threading.Event

    @property
    def holding(self) -> str | None: ...
    def prepare(self, client: Any) -> None: ...
    def next_job(self, api: str, behind: bool) -> Job | None: ...
    def adopt(self, job: Job) -> bool: ...
    def renamed(self, job: Job, prompt_id: str) -> None: ...
    def graph_for(self, job: Job) -> dict[str, Any]: ...
    def is_banned(self, key: str) -> bool: ...
    def take_result(self, lane: Lane, job: Job, finished: Any) -> None: ...
    def rescued(self, client: Any, job: Job) -> Any: ...
    def record_failure(self, job: Job, kind: str, reason: str, run_seconds: float = 0.0) -> None: ...
    def withdraw(self, job: Job, reason: str) -> None: ...
    def set_aside(self, job: Job) -> None: ...
    def others_work(self, lane: Any) -> bool: ...
    def say(self, text: str, level: int = logging.INFO) -> None: ...
    def lane_failed(self, lane: Lane, error: EvaError) -> None: ...
    def lane_crashed(self, lane: Lane, error: BaseException) -> None: ...
    def lane_rests(self, lane: Lane, last: str, disk_full: bool) -> None: ...


class Lane(Withdrawals, Recovery):
    """Drives one server. ``resumed`` are jobs of an earlier run that were in flight there."""

    def __init__(self, client: Any, owner: LaneOwner, resumed: list[Job] | None = None, *, monotonic: Callable[[], float] = time.monotonic):
        self.client, self.owner = client, owner
        self.api: str = server_name(client)
        self._resumed = list(resumed or [])
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._head_ready = threading.Condition(self._lock)
        self._jobs: list[Job] = []
        self._up = threading.Event()
        self._away: str | None = None  # why the feeder could not post
        self._away_since: float | None = None
        self._refused_since: float | None = None  # it answers, but takes no prompts
        self._ended = threading.Event()
        self._check_bans = self._relieve = False
        self._scoring = 0
        self._head_since = monotonic()
        self._streak = Streak(owner.options.max_failures, owner.options.rest, monotonic)
        self.failed = False
        self._waiter = threading.Thread(target=self._guard, args=(self._wait_loop,), name=f"eva-wait {self.api}", daemon=True)
        self._feeder = threading.Thread(target=self._guard, args=(self._feed_loop,), name=f"eva-feed {self.api}", daemon=True)

    # ------------------------------------------------------------ called by the agent
    def start(self) -> None:
        self._waiter.start()
        self._feeder.start()

    @property
    def alive(self) -> bool:
        return self._waiter.is_alive() or self._feeder.is_alive()

    @property
    def idle(self) -> bool:
        """True while the lane has nothing under way: no prompt and no clip being scored."""
        with self._lock:
            return not self._jobs and not self._scoring

    def join(self, timeout: float) -> None:
        self._waiter.join(timeout)
        self._feeder.join(timeout)

    def kick(self, check_bans: bool = False) -> None:
        """Something changed: a score arrived, a ban was set, the run is stopping."""
        self._check_bans = self._check_bans or check_bans
        self._wake.set()
        with self._lock:
            self._head_ready.notify_all()

    def scored(self, kind: str | None, reason: str = "") -> None:
        """One of this lane's clips was scored (``kind`` None) or its try failed."""
        with self._lock:
            self._scoring = max(0, self._scoring - 1)
        self._count(kind, reason)
        self.kick()

    # ------------------------------------------------------------ threads
    def _guard(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except EvaError as error:
            self.failed = True
            self._row(state="failed", message=str(error), now=None)
            self.owner.lane_failed(self, error)
        except Exception as error:
            self.failed = True
            log.exception("the lane of %s broke", self.api)
            self.owner.lane_crashed(self, error)
        finally:
            self._ended.set()
            self.kick()

    def _wait_loop(self) -> None:
        if not self._until_up(self._connect):
            return
        self._up.set()
        self._wake.set()
        while not self._over():
            job = self._head()
            if job is not None:
                self._follow(job)
            elif self._away is not None:
                self._on_away(self._away)
        if self.owner.stopping.is_set():
            self._leave_politely()
        self._row(state="stopped", now=None)

    def _feed_loop(self) -> None:
        while not self._over():
            self._wake.wait(FEEDER_TICK)
            self._wake.clear()
            if not self._up.is_set() or self._over():
                continue
            try:
                if self._check_bans:
                    self._withdraw_banned()
                if self._relieve:
                    self._give_waiting()
                self._skip_asked()
                self._top_up()
            except ComfyError as error:
                log.info("%s: %s", self.api, error)
                self._on_refused_post(error)
                self._ended.wait(1.0)

    def _over(self) -> bool:
        return self._ended.is_set() or self.owner.stopping.is_set() or self.owner.tickets.finished

    # ------------------------------------------------------------ feeding
    def _top_up(self) -> None:
        while not self._over() and self._up.is_set():
            holding = self.owner.holding
            if holding is not None:
                return self._hold_back(holding)
            with self._lock:
                unposted = next((job for job in self._jobs if not job.posted), None)
                full = len(self._jobs) >= self.owner.options.depth
                hold = self._hold()
            if unposted is not None:
                self._post(unposted)
                continue
            if full or hold or self.resting:
                return
            job = self.owner.next_job(self.api, bool(self._jobs))
            if job is None:
                return
            with self._lock:
                self._jobs.append(job)
            if self.owner.holding is None:  # a pause may have come while it was chosen
                self._post(job)

    def _hold(self) -> bool:
        """Whether a free place should still wait for the score of the clip before."""
        if not self._jobs or not self._scoring:
            return False
        running = self._jobs[0]
        expected = self.owner.board.expected_seconds(running.params, running.seconds)
        options = self.owner.options
        limit = options.hold_unknown if expected is None else options.hold_share * expected
        return self._monotonic() - self._head_since < limit

    def _post(self, job: Job) -> None:
        """Posts a job. A refusal is recorded as a failure; a server that is away leaves the job here, to be posted later."""
        if job.doubtful and self.client.state_of(job.prompt_id) != "unknown":
            self._set_posted(job)
            return
        job.attempts += 1
        try:
            if job.graph is None:
                job.graph = self.owner.graph_for(job)
            job.doubtful = True  # from now on it may be there, whatever becomes of the answer
            queued = self.client.queue(job.graph, prompt_id=job.prompt_id)
        except PromptRejected as error:
            self._drop(job)
            self._fail(job, "rejected", str(error))
            return
        except ComfyUnavailable:
            job.attempts -= 1
            raise
        except ComfyError as error:
            self._drop(job)
            self._fail(job, "error", str(error))
            return
        if queued.prompt_id != job.prompt_id:
            self.owner.renamed(job, queued.prompt_id)
        self._set_posted(job)

    def _set_posted(self, job: Job) -> None:
        with self._lock:
            job.posted, job.doubtful = True, False
            self._refused_since = None
            self._show_queue()
            self._head_ready.notify_all()

    # ------------------------------------------------------------ waiting
    def _head(self) -> Job | None:
        """The oldest posted job; None after a while without one, so that the caller can look whether the run is over."""
        with self._lock:
            posted = next((job for job in self._jobs if job.posted), None)
            if posted is None:
                self._row(now=None)
                self._head_ready.wait(0.25)
            return posted

    def _follow(self, job: Job) -> None:
        owner = self.owner
        owner.board.now(job)
        try:
            finished = self.client.wait(
                job.prompt_id,
                on_progress=lambda progress: self._progress(job, progress),
                timeout=owner.options.job_timeout,
                stop=lambda: job.withdrawn is not None or owner.stopping.is_set(),
            )
        except PromptFailed as error:
            if job.withdrawn is not None or owner.stopping.is_set():
                return
            self._on_prompt_failed(job, error)
            return
        except ComfyError as error:
            self._on_away(str(error))
            return
        if finished is not None:  # else stopped or withdrawn
            self._take(job, finished)

    def _take(self, job: Job, finished: Any) -> None:
        """Hands a finished prompt on to be scored; its place is free."""
        with self._lock:
            self._scoring += 1
            self._head_since = self._monotonic()
        self._drop(job)
        self.owner.take_result(self, job, finished)

    def _on_prompt_failed(self, job: Job, error: PromptFailed) -> None:
        if error.kind == "lost":
            self._until_up(lambda: self._rejoin(job))
            return
        run_seconds = self.owner.board.elapsed(job)
        try:
            if error.kind == "timeout":
                self.client.interrupt(job.prompt_id)
            elif error.kind == "oom":
                self.client.free_memory()  # what is left of the failed prompt must not fail the next one too
        except ComfyError as also:
            log.warning("%s: %s", self.api, also)
        self._head_since = self._monotonic()
        # Recorded before its place is free, so that the next choice knows of it.
        self._fail(job, "skipped" if error.kind == "interrupted" and job.skip else error.kind, str(error), run_seconds)
        self._drop(job)

    def _progress(self, job: Job, progress: Any) -> None:
        """What the client says while it waits; ``waiting`` means that the server does not answer just now."""
        if progress.kind == "waiting":
            self._row(state="waiting_for_server", message="does not answer")
            return
        self._row(state="running", message="reconnecting" if progress.kind == "reconnecting" else "")
        if progress.kind == "queued":
            self.owner.board.queued(job, progress.queue_position)
        elif progress.kind in ("started", "node", "step"):
            step = (progress.value, progress.max) if progress.kind == "step" else None
            self.owner.board.progress(job, progress.title or progress.node, step)
        elif progress.kind == "preview" and progress.image:
            self.owner.board.preview(job, progress.image)

    # ------------------------------------------------------------ inside
    def _drop(self, job: Job) -> None:
        with self._lock:
            for jobs in (self._jobs, self._resumed):  # the second: it was set aside while its post was under way
                if job in jobs:
                    jobs.remove(job)
            self._show_queue()
        self._wake.set()

    def _fail(self, job: Job, kind: str, reason: str, run_seconds: float = 0.0) -> None:
        self.owner.record_failure(job, kind, reason, run_seconds)
        self._count(kind, reason)

    def _count(self, kind: str | None, reason: str = "") -> None:
        full = kind == DISK_FULL  # whatever is tried next is paid for and lost too
        pause = self._streak.rest() if full else self._streak.add(kind)
        if pause is not None:
            why = "its disk is full" if full else f"{self.owner.options.max_failures} tries in a row failed"
            self._row(message=f"resting for {pause:.0f} s: {why}")
            self.owner.lane_rests(self, reason or str(kind), full)

    def _show_queue(self) -> None:
        with self._lock:
            self._row(waiting=[job for job in self._jobs if job.posted][1:])

    def _row(self, **fields: Any) -> None:
        self.owner.board.server(self.api, **fields)
