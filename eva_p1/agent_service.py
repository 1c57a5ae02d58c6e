"""What a server's lane asks of the agent (``lanes.LaneOwner``): jobs to do, and a place for their results and troubles."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from eva_env_base import ClipError, EvaError, StateError, UsageError
from eva_p1.agent_budget import Spend, Tickets
from eva_p1.agent_choice import Chooser
from eva_p1.agent_controls import Controls
from eva_p1.agent_hooks import HookChain
from eva_p1.agent_ledger import Ledger
from eva_p1.agent_live import Board
from eva_p1.agent_requests import RequestDesk
from eva_p1.agent_results import is_whole, name_of_clip, take_clip
from eva_p1.agent_scoring import ScoringPool
from eva_p1.agent_servers import Servers, server_name
from eva_p1.agent_types import AgentOptions, FailedTry, Job
from eva_p1.bandit_prices import NothingFits
from eva_p1.lanes import Lane

log = logging.getLogger("eva.agent")


class LaneService(Controls):
    """The agent as its lanes see it. Part of ``EnhancedVideoAgentV4``, which makes the attributes."""

    options: AgentOptions
    board: Board
    tickets: Tickets
    spend: Spend
    stopping: threading.Event
    hooks: HookChain
    desk: RequestDesk
    state_dir: Path | None
    video_dir: Path
    ledger: Ledger
    _servers: Servers
    _chooser: Chooser
    _lanes: list[Lane]
    _pool: ScoringPool | None
    _error: BaseException | None
    stop: Callable[..., None]
    _drain: Callable[[], None]
    _score_task: Callable[[Lane, Job, Any], None]

    def prepare(self, client: Any) -> None:
        profile, notes = self._servers.connect(client)
        self._servers.refuse_mixing(profile.simulator, server_name(client), self.ledger.store.iter_history(), self.state_dir)
        self.board.set_simulator(profile.simulator)
        if profile.simulator:
            self.say(f"{server_name(client)} is the SIMULATOR: clips are drawn")
        for note in notes:
            self.say(note, logging.WARNING)
        self.ledger.set_space(self._servers.space)

    def next_job(self, api: str, behind: bool) -> Job | None:
        """The next try for a server; ``behind``: to wait behind another there. At the end of a run idle servers come first."""
        if self.spend.waits or (behind and self._chooser.prices_awaited):
            return None
        hungry = sum(lane.hungry for lane in self._lanes if lane.api != api) if behind else 0
        if not self.tickets.take(hungry):
            if not behind:
                any(lane.relieve() for lane in self._lanes if lane.api != api)
            return None
        try:
            with self.ledger.lock:
                self._drain()
                job = self._chooser.choose(self, api)
                self.ledger.submitted(job)
                self._commit(job)
        except NothingFits as error:
            self.tickets.give_back()
            self._budget_used(error)
            return None
        except UsageError as error:  # nothing is left to try: what is under way still ends
            self.tickets.give_back()
            self.tickets.close()
            self._error = self._error or error
            log.error("nothing new is tried: %s", error)
            self.board.message(str(error))
            return None
        job.ticket = True
        return job

    def adopt(self, job: Job) -> bool:
        job.ticket = self.tickets.take()
        if job.ticket:
            self.ledger.mark_in_flight(job.params)
            self._commit(job)
        return job.ticket

    def _commit(self, job: Job) -> None:
        self.spend.commit(job)

    def _budget_used(self, error: NothingFits) -> None:
        """Nothing fits into what is left: the run ends once everything under way has, unless that leaves more than expected."""
        if self.spend.refused():
            self.tickets.close()
            self.say(f"the budget ends the run: {error}")

    def renamed(self, job: Job, prompt_id: str) -> None:
        """The server chose an id of its own (those before September 2025 do): the journal must know the prompt by it."""
        self.ledger.renamed(job, prompt_id)

    def graph_for(self, job: Job) -> dict[str, Any]:
        return self._servers.graph_for(job)

    def take_result(self, lane: Lane, job: Job, finished: Any) -> None:
        assert self._pool is not None
        self.ledger.claim(job, name_of_clip(finished))  # in the order in which prompts ended: scoring may overtake
        self._pool.submit(lambda: self._score_task(lane, job, finished))

    def rescued(self, client: Any, job: Job) -> Any:
        """The clip of a prompt its server forgot, as a finished prompt, or None where it left none that is whole.

        How long it ran is not known any more: what such a try takes elsewhere stands in. Raises ``ComfyError`` where the server is away.
        """
        finished = client.left_by(self.graph_for(job), job.prompt_id)
        if finished is None:
            return None
        try:
            video, path = take_clip(client, finished, self.video_dir)
            is_whole(path)
        except ClipError as error:
            log.info("what %s left of a forgotten prompt is no clip: %s", job.api, error)
            return None
        log.info("%s had saved %s before it forgot its prompt", job.api, video)
        return replace(finished, seconds=self.board.expected_seconds(job.params, job.seconds))

    def record_failure(self, job: Job, kind: str, reason: str, run_seconds: float = 0.0) -> None:
        minutes = run_seconds / 60.0
        if kind == "oom" and job.ticket and self.options.oom_retry:
            with self.ledger.lock:
                what_next = self._chooser.after_oom(job)
            reason = f"{reason} ({what_next})"
            self.say(f"{job.api} ran out of memory with {job.combo_key}; {what_next}", logging.WARNING)
        try:
            self.ledger.failed(job, kind, reason, minutes)
        except StateError as error:
            self._fatal(error)
            return
        tries = self._settle(job)
        if job.ticket:
            last = {"combo_key": job.combo_key, "kind": kind, "reason": reason}
            self.board.finished(tries=tries, scored=False, run_minutes=minutes, last=last)
        log.warning("failed (%s): %s: %s", kind, job.combo_key, reason)
        self.hooks.on_failed(self, FailedTry(job, kind, reason, minutes, tries))

    def withdraw(self, job: Job, reason: str) -> None:
        """A prompt left its server's queue before it started: nothing was paid, its place in the run is free again."""
        with self.ledger.lock:
            self.ledger.failed(job, "withdrawn", reason, 0.0)
            self._chooser.give_back(job)
        self.desk.give_back(job.request)
        if job.ticket:
            self.tickets.give_back()
        log.info("withdrawn: %s: %s", job.combo_key, reason)

    def set_aside(self, job: Job) -> None:
        """Its server stays away: the prompt stays in flight, and its place in the run is free for another server."""
        self.ledger.cancel(job)
        self.spend.set_aside(job)
        if job.ticket:
            job.ticket = False
            self.tickets.give_back()
        log.info("set aside: %s on %s", job.combo_key, job.api)

    def others_work(self, lane: Lane) -> bool:
        return any(other.works for other in self._lanes if other is not lane)

    def say(self, text: str, level: int = logging.INFO) -> None:
        log.log(level, text)
        self.board.message(text)
        self.hooks.on_message(text)

    def lane_failed(self, lane: Lane, error: EvaError) -> None:
        if isinstance(error, StateError) or all(other.failed for other in self._lanes):
            self._fatal(error)
        else:
            self.say(f"{lane.api} is not used any more: {error}", logging.ERROR)

    def lane_crashed(self, lane: Lane, error: BaseException) -> None:
        self._fatal(error)

    def lane_rests(self, lane: Lane, last: str, disk_full: bool) -> None:
        limit = self.options.max_failures
        if not limit or not all(other.resting for other in self._lanes):
            self.say(
                f"{lane.api} rests" + (f": {last}" if disk_full else f" after {limit} failures in a row, the last: {last}"), logging.WARNING
            )
            return
        where = lane.api if len(self._lanes) == 1 else "every server"
        many = f"{limit} tries in a row failed on {where}, the last: {last} (try --doctor; --max-failures sets the limit)"
        self._fatal(EvaError(f"{lane.api}: {last}" if disk_full else many))

    # ------------------------------------------------------------ inside
    def _settle(self, job: Job) -> int:
        return self.tickets.settle() if job.ticket else self.tickets.settled

    def _fatal(self, error: BaseException) -> None:
        """The run cannot go on. :meth:`search_v4` raises the first reason, so the terminal hears it once, from who called that."""
        self._error = self._error or error
        log.error("the run ends: %s", error)
        self.board.message(str(error))
        at_hand = any(not lane.idle for lane in self._lanes)
        self.stop("the run cannot go on; clips at hand are scored first" if at_hand else None)
