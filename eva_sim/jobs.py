"""The queue and the history: what waits, what runs, what became of the rest. Safe to use from any thread."""

from __future__ import annotations

import copy
import heapq
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_HISTORY = 10_000


@dataclass(order=True)
class Job:
    """One accepted prompt. Jobs run in the order of ``number`` (negative: put in front)."""

    number: float
    counter: int
    prompt_id: str = field(compare=False)
    prompt: dict[str, Any] = field(compare=False)
    extra_data: dict[str, Any] = field(compare=False)
    outputs: list[str] = field(compare=False)

    def row(self) -> list[Any]:
        """The five-element form of ``/queue`` and ``/history``."""
        return [self.number, self.prompt_id, self.prompt, self.extra_data, self.outputs]

    @property
    def client_id(self) -> str | None:
        """The client that asked for it, if it said so."""
        return self.extra_data.get("client_id")


@dataclass
class Result:
    """How a job ended. ``messages``: the execution messages, as the history repeats them."""

    success: bool
    outputs: dict[str, Any]
    meta: dict[str, Any]
    messages: list[tuple[str, dict[str, Any]]]


class JobQueue:
    """Queue, running job, history and the figures of ``/sim/stats``."""

    def __init__(self, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic):
        self._changed, self._clock = changed, clock
        self._ready = threading.Condition()
        self._heap: list[Job] = []
        self._history: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._running: Job | None = None
        self._number = 0
        self._counter = 0
        self._stopped = False
        self.interrupt = threading.Event()
        self._born = clock()
        self._busy = self._idle = 0.0
        self._since: float | None = None  # when the present busy or idle stretch began
        self._done = self._failed = 0
        self._first_at: float | None = None
        self._last_at: float | None = None
        self._idle_at_last_job = 0.0

    # ------------------------------------------------------------------ asking
    def remaining(self) -> int:
        """Prompts waiting or running."""
        with self._ready:
            return len(self._heap) + (self._running is not None)

    def snapshot(self) -> tuple[list[Job], list[Job]]:
        """Running and pending jobs; the pending ones in heap order, as the real server lists them."""
        with self._ready:
            return ([self._running] if self._running else []), list(self._heap)

    def history(self, prompt_id: str | None = None, max_items: int | None = None, offset: int = -1) -> dict[str, Any]:
        """Finished prompts by id: one, the newest ``max_items``, or all."""
        with self._ready:
            if prompt_id is not None:
                return {prompt_id: copy.deepcopy(self._history[prompt_id])} if prompt_id in self._history else {}
            ids = list(self._history)
            if max_items is not None:
                start = offset if offset >= 0 else max(0, len(ids) - max_items)
                ids = ids[start : start + max_items]
            return {one: copy.deepcopy(self._history[one]) for one in ids}

    # ------------------------------------------------------------------ changing
    def put(
        self, prompt_id: str, prompt: dict[str, Any], extra_data: dict[str, Any], outputs: list[str], number: float | None, front: bool
    ) -> Job:
        """Queues a valid prompt."""
        with self._ready:
            if number is None:
                number = -self._number if front else self._number
                self._number += 1
            self._counter += 1
            job = Job(number, self._counter, prompt_id, prompt, extra_data, outputs)
            self._stretch()
            if self._first_at is None:
                self._first_at = time.time()
                self._since = self._clock()
            heapq.heappush(self._heap, job)
            self._ready.notify()
        self._changed()
        return job

    def get(self) -> Job | None:
        """Waits for the next job and marks it running; ``None`` when the queue stops."""
        with self._ready:
            while not self._heap and not self._stopped:
                self._ready.wait()
            if self._stopped:
                return None
            self._stretch()
            job = self._running = heapq.heappop(self._heap)
            self.interrupt.clear()
        self._changed()
        return job

    def finish(self, job: Job, result: Result | None) -> None:
        """The running job ended; ``None``: without a trace (the server forgot it)."""
        with self._ready:
            self._stretch()
            if self._running is job:
                self._running = None
            if result is not None:
                status = {"status_str": "success" if result.success else "error", "completed": result.success, "messages": result.messages}
                entry = {"prompt": job.row(), "outputs": result.outputs, "status": status, "meta": result.meta}
                self._history.pop(job.prompt_id, None)
                self._history[job.prompt_id] = entry
                while len(self._history) > MAX_HISTORY:
                    self._history.popitem(last=False)
                self._done += result.success
                self._failed += not result.success
            self._last_at, self._idle_at_last_job = time.time(), self._idle
        self._changed()

    def delete(self, prompt_ids: list[str]) -> None:
        """Takes pending prompts away; running and unknown ones are left alone, without complaint."""
        with self._ready:
            self._stretch()
            kept = [job for job in self._heap if job.prompt_id not in prompt_ids]
            gone = len(kept) != len(self._heap)
            heapq.heapify(kept)
            self._heap = kept
        if gone:
            self._changed()

    def clear(self) -> None:
        """Takes all pending prompts away."""
        self.delete([job.prompt_id for job in self.snapshot()[1]])

    def delete_history(self, prompt_ids: list[str]) -> None:
        """Forgets finished prompts."""
        with self._ready:
            for prompt_id in prompt_ids:
                self._history.pop(prompt_id, None)

    def clear_history(self) -> None:
        """Forgets all finished prompts."""
        with self._ready:
            self._history.clear()

    def forget_everything(self) -> None:
        """What a restart does: no queue, no history, numbers from 0."""
        with self._ready:
            self._stretch()
            self._heap.clear()
            self._history.clear()
            self._running = None
            self._number = 0

    def interrupt_running(self, prompt_id: str | None) -> bool:
        """Interrupts the running job (only ``prompt_id``, if given). False: there was nothing to interrupt."""
        with self._ready:
            if self._running is None or (prompt_id is not None and self._running.prompt_id != prompt_id):
                return False
            self.interrupt.set()
            return True

    def stop(self) -> None:
        """Wakes the worker for the last time."""
        with self._ready:
            self._stopped = True
            self.interrupt.set()
            self._ready.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped

    # ------------------------------------------------------------------ figures
    def _stretch(self) -> None:
        """Adds the time since the last change to busy or idle. The lock is held; called before every change."""
        if self._since is None:
            return
        now = self._clock()
        if self._heap or self._running:
            self._busy += now - self._since
        else:
            self._idle += now - self._since
        self._since = now

    def stats(self) -> dict[str, Any]:
        """Figures of ``/sim/stats``. Idle: seconds with an empty queue since the first prompt came."""
        with self._ready:
            self._stretch()
            return {
                "simulator": True,
                "jobs_done": self._done,
                "jobs_failed": self._failed,
                "busy_seconds": round(self._busy, 4),
                "idle_seconds": round(self._idle, 4),
                "idle_seconds_between_jobs": round(self._idle_at_last_job, 4),
                "first_prompt_at": self._first_at,
                "last_finished_at": self._last_at,
                "uptime_seconds": round(self._clock() - self._born, 4),
                "queue_remaining": len(self._heap) + (self._running is not None),
            }
