"""How prompts that shall not run (any more) leave a server: bans, a pause, the last clip of a run, a skip, a stop.

What has not started leaves the server's queue, and nothing was paid for it. What has started is paid for and ends, unless a person
skips it: then it is interrupted and recorded as ``skipped``, which teaches the bandit nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from eva_env_base import ComfyError
from eva_p1.agent_types import Job

log = logging.getLogger(__name__)
SKIPPED = "a person skipped it"


class Withdrawals:
    """The part of a lane that takes prompts back. Its methods run on the lane's feeder thread, which alone posts prompts."""

    client: Any
    owner: Any
    api: str
    _lock: Any
    _jobs: list[Job]
    _check_bans: bool
    _relieve: bool
    _wake: threading.Event
    kick: Callable[..., None]
    _drop: Callable[[Job], None]
    _fail: Callable[..., None]

    # ------------------------------------------------------------ called by the agent
    def skip(self, prompt_id: str) -> bool:
        """Asks for the end of one prompt, soon; False when it is not (or no longer) on this server. Any thread."""
        with self._lock:
            job = next((job for job in self._jobs if job.prompt_id == prompt_id and job.posted), None)
            if job is None:
                return False
            job.skip = "asked"
        self.kick()
        return True

    def relieve(self) -> bool:
        """Asks for a waiting prompt to be taken back, because another server stands idle at the end of a run. Any thread."""
        with self._lock:
            if len([job for job in self._jobs if job.posted]) < 2:
                return False
        self._relieve = True
        self._wake.set()
        return True

    # ------------------------------------------------------------ feeder
    def _give_waiting(self) -> None:
        self._relieve = False
        with self._lock:
            last = [job for job in self._jobs if job.posted and not job.request and not job.retry_of][1:][-1:]
        for job in last:
            self._withdraw(job, "an idle server makes another in its place")

    def _skip_asked(self) -> None:
        with self._lock:
            asked = [job for job in self._jobs if job.skip == "asked"]
        for job in asked:
            state = self.client.state_of(job.prompt_id)
            if state == "pending":
                self.client.delete_pending(job.prompt_id)
                if self.client.state_of(job.prompt_id) != "unknown":
                    continue  # it started in between: it is interrupted at the next look
                job.withdrawn = SKIPPED
                self._drop(job)
                self._fail(job, "skipped", SKIPPED)
            elif state == "running":
                self.client.interrupt(job.prompt_id)
            job.skip = "done"  # a prompt that has ended by itself keeps its clip

    def _hold_back(self, reason: str) -> None:
        """Takes back everything that has not started; each prompt is looked at once."""
        with self._lock:
            jobs = [job for job in reversed(self._jobs) if job.held != reason]
        for job in jobs:  # the last first, so that none starts while another is taken out
            if job.posted or job.doubtful:
                self._withdraw(job, reason)
            else:
                job.withdrawn = reason
                self._drop(job)
                self.owner.withdraw(job, reason)
            job.held = reason

    def _withdraw_banned(self) -> None:
        self._check_bans = False
        with self._lock:
            suspects = [job for job in self._jobs if job.posted and self.owner.is_banned(job.combo_key)]
        try:
            for job in suspects:
                self._withdraw(job, f"{job.combo_key} was banned before it started")
        except ComfyError:
            self._check_bans = True
            raise

    def _withdraw(self, job: Job, reason: str) -> bool:
        """Takes a prompt that has not started out of the server's queue; False where it had started (it is paid for: let it end)."""
        if self.client.state_of(job.prompt_id) != "pending":
            return False
        self.client.delete_pending(job.prompt_id)
        # ComfyUI answers 200 to every delete, also when the prompt started in between: only its absence proves it is gone.
        if self.client.state_of(job.prompt_id) != "unknown":
            return False
        job.withdrawn = reason
        self._drop(job)
        self.owner.withdraw(job, reason)
        return True

    def _leave_politely(self) -> None:
        """At a stop: prompts that have not started leave the server's queue; a running one goes on, to be picked up next time."""
        with self._lock:
            jobs = [job for job in self._jobs if job.posted]
        try:
            for job in reversed(jobs):  # the last first, so that none starts while another is taken out
                self._withdraw(job, "the run was stopped before it started")
        except ComfyError as error:
            log.warning("%s: prompts are left in its queue and will be picked up by the next run: %s", self.api, error)
