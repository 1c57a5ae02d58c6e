"""The live picture of a run: what is being made now, how far, what comes next, how long it will take.

:class:`Board` is filled by the lanes and the scoring pool and read by the terminal display and by
:class:`LiveWriter`, which rewrites ``agent_status.json`` about twice a second for the browser.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from eva_p1.agent_preview import PREVIEW_NAME, small_jpeg
from eva_p1.agent_types import Job, Params, frames_of
from eva_state.live import write_live_bytes

log = logging.getLogger(__name__)

STATUS_NAME = "agent_status.json"
WRITE_INTERVAL = 0.5  # the page polls about once a second; more often would only wear the disk
RECENT_MESSAGES = 8


class RunTimes:
    """Learns how long a prompt runs on each server, from the runs of this agent and of earlier ones.

    Estimate: the median of the last runs with the same size, steps and frames; failing that, the median time per unit of
    work (steps * width * height * frames) times this prompt's work. Not thread-safe: the owner holds a lock.
    """

    KEEP = 12

    def __init__(self) -> None:
        self._same: dict[tuple[Any, ...], deque[float]] = {}
        self._rate: deque[float] = deque(maxlen=4 * self.KEEP)

    @staticmethod
    def _shape(params: Params, seconds: float) -> tuple[Any, ...]:
        return (params.get("steps"), params.get("width"), params.get("height"), frames_of(seconds, float(params.get("fps") or 1)))

    def add(self, params: Params, clip_seconds: float, run_seconds: float) -> None:
        """One finished run of ``run_seconds``."""
        if run_seconds <= 0:
            return
        shape = self._shape(params, clip_seconds)
        self._same.setdefault(shape, deque(maxlen=self.KEEP)).append(run_seconds)
        work = _work(shape)
        if work:
            self._rate.append(run_seconds / work)

    def estimate(self, params: Params, clip_seconds: float) -> float | None:
        """Expected run time in seconds, or None while nothing is known."""
        shape = self._shape(params, clip_seconds)
        if shape in self._same:
            return median(self._same[shape])
        work = _work(shape)
        return median(self._rate) * work if self._rate and work else None

    def typical(self) -> float | None:
        """Median run time over everything known, for prompts not chosen yet."""
        runs = [value for runs in self._same.values() for value in runs]
        return median(runs) if runs else None


def _work(shape: tuple[Any, ...]) -> float:
    product = 1.0
    for factor in shape:
        product *= float(factor or 0)
    return product


class Board:
    """Thread-safe live status. Everything is set by small calls and read as one snapshot."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self.times = RunTimes()
        self._state = "starting"
        self._simulator = False
        self._total: int | None = None
        self._tries = self._scored = self._failed = 0
        self._gpu_minutes = 0.0
        self._best: tuple[float, str] | None = None
        self._last: dict[str, Any] | None = None
        self._messages: deque[str] = deque(maxlen=RECENT_MESSAGES)
        self._servers: dict[str, dict[str, Any]] = {}
        self._started = clock()
        self._skipped = 0
        self._holding = ""
        self._requests = 0
        self._budget: dict[str, Any] | None = None
        self._previews: dict[str, tuple[int, bytes]] = {}  # by server: how many pictures its prompt sent, and the last

    # ------------------------------------------------------------ written by the agent
    def begin(self, total: int | None, best: tuple[float, str] | None) -> None:
        with self._lock:
            self._total, self._best, self._started = total, best, self._clock()

    def set_state(self, state: str) -> None:
        with self._lock:
            self._state = state

    def set_holding(self, why: str) -> None:
        """``paused``, ``stop_after``, or nothing while the agent goes on."""
        with self._lock:
            self._holding = why

    def set_requests(self, waiting: int) -> None:
        with self._lock:
            self._requests = waiting

    def set_budget(self, report: dict[str, Any] | None) -> None:
        """What was spent and is left (``agent_budget.Spend.report``); None without a limit."""
        with self._lock:
            self._budget = report

    def preview(self, job: Job, image: bytes) -> None:
        """A picture of what ``job`` looks like by now."""
        with self._lock:
            now = self._now_of(job)
            if now is not None:
                now["preview"] = (now.get("preview") or 0) + 1
                self._previews[job.api] = (now["preview"], image)

    def shown_preview(self) -> tuple[str, bytes] | None:
        """(what tells it from others, picture) of the clip the snapshot calls ``now``."""
        with self._lock:
            now = next((row["now"] for row in self._servers.values() if row.get("now")), None)
            found = self._previews.get(now["server"]) if now is not None else None
            if now is None or found is None or found[0] != now.get("preview"):
                return None
            return f"{now['prompt_id']}-{found[0]}", found[1]

    def set_simulator(self, simulator: bool) -> None:
        with self._lock:
            self._simulator = self._simulator or simulator

    def message(self, text: str) -> None:
        with self._lock:
            self._messages.append(text)

    def server(self, api: str, **fields: Any) -> None:
        """Sets fields of one server's row: ``state``, ``message``, ``now``, ``waiting``."""
        with self._lock:
            self._servers.setdefault(api, {"api": api, "state": "starting", "message": "", "now": None, "waiting": []}).update(fields)

    def now(self, job: Job) -> None:
        """``job`` is the prompt its server is rendering."""
        with self._lock:
            row = self._servers.setdefault(job.api, {"api": job.api, "state": "running", "message": "", "waiting": []})
            row["now"] = {
                "combo_key": job.combo_key,
                "prompt_id": job.prompt_id,
                "prompt": job.prompt,
                "request": job.request,
                "preview": None,
                "node": None,
                "step": None,
                "steps": None,
                "server": job.api,
                "since": self._clock(),
                "expected": self.times.estimate(job.params, job.seconds),
            }

    def queued(self, job: Job, ahead: int | None) -> None:
        """``job`` waits on its server behind ``ahead`` prompts (other people's, it may be)."""
        with self._lock:
            now = self._now_of(job)
            if now is not None:
                now["node"] = f"waiting behind {ahead} prompt{'s' * (ahead != 1)}" if ahead else "waiting to start"
                now["since"], job.started_at = self._clock(), None

    def progress(self, job: Job, node: str | None, step: tuple[int, int] | None) -> None:
        """The server works on ``job``: at ``node``, and while sampling at ``step`` (value, max). The first call marks its start."""
        with self._lock:
            now = self._now_of(job)
            if now is None:
                return
            if job.started_at is None:
                job.started_at = now["since"] = self._clock()
                now["node"] = None
            if node:
                now["node"] = node
            now["step"], now["steps"] = step or (None, None)

    def elapsed(self, job: Job) -> float:
        """Seconds since the server began with ``job``; 0 where it never said so."""
        return 0.0 if job.started_at is None else max(0.0, self._clock() - job.started_at)

    def _now_of(self, job: Job) -> dict[str, Any] | None:
        now = (self._servers.get(job.api) or {}).get("now")
        return now if now and now["prompt_id"] == job.prompt_id else None

    def finished(
        self,
        *,
        tries: int,
        scored: bool,
        run_minutes: float,
        score: float | None = None,
        combo_key: str = "",
        last: dict[str, Any] | None = None,
    ) -> bool:
        """Counts a try; True when its score is the best so far."""
        with self._lock:
            self._tries = tries
            self._gpu_minutes += run_minutes
            self._last = last
            if not scored:
                skipped = (last or {}).get("kind") == "skipped"
                self._skipped += skipped
                self._failed += not skipped
                return False
            self._scored += 1
            if score is not None and (self._best is None or score > self._best[0]):
                self._best = (score, combo_key)
                return True
            return False

    def learn_time(self, params: Params, clip_seconds: float, run_seconds: float) -> None:
        with self._lock:
            self.times.add(params, clip_seconds, run_seconds)

    def expected_seconds(self, params: Params, clip_seconds: float) -> float | None:
        with self._lock:
            return self.times.estimate(params, clip_seconds)

    # ------------------------------------------------------------ read by displays
    def server_states(self) -> set[str]:
        with self._lock:
            return {row["state"] for row in self._servers.values()}

    def snapshot(self) -> dict[str, Any]:
        """The content of ``agent_status.json``; see docs/agent.md for each field."""
        with self._lock:
            at = self._clock()
            servers = [self._server_row(row, at) for row in self._servers.values()]
            busy = [row["now"] for row in servers if row["now"]]
            waiting = [item for row in servers for item in row["waiting"]]
            return {
                "pid": os.getpid(),
                "updated_at": at,
                "started_at": self._started,
                "state": "paused" if self._holding == "paused" and self._state in ("running", "waiting_for_server") else self._state,
                "paused": self._holding == "paused",
                "stop_after": self._holding == "stop_after",
                "requests": self._requests,
                "simulator": self._simulator,
                "iteration": self._tries,
                "iterations": self._total,
                "scored": self._scored,
                "failed": self._failed,
                "skipped": self._skipped,
                "now": busy[0] if busy else None,
                "next": waiting[0] if waiting else None,
                "best_score": self._best[0] if self._best else None,
                "best_combo": self._best[1] if self._best else None,
                "last": self._last,
                "eta_seconds": self._eta(servers),
                "gpu_minutes": round(self._gpu_minutes, 3),
                "budget": self._budget,
                "message": self._messages[-1] if self._messages else "",
                "messages": list(self._messages),
                "servers": servers,
            }

    def _server_row(self, row: dict[str, Any], at: float) -> dict[str, Any]:
        now = dict(row["now"]) if row.get("now") else None
        if now is not None:
            expected = now.pop("expected")
            now["seconds"] = round(at - now.pop("since"), 1)
            now["seconds_left"] = None if expected is None else round(max(0.0, expected - now["seconds"]), 1)
        return {**row, "now": now, "waiting": [{"combo_key": job.combo_key, "prompt_id": job.prompt_id} for job in row.get("waiting", [])]}

    def _eta(self, servers: list[dict[str, Any]]) -> float | None:
        """Seconds to the end of the run: what is rendering, plus the tries still to come shared by the servers at work.

        With a budget it is what is left of that, where that ends the run earlier. None while every server is away: nobody knows.
        """
        if servers and all(row["state"] == "waiting_for_server" for row in servers):
            return None
        typical = self.times.typical()
        working = [row for row in servers if row["state"] in ("running", "starting")] or servers
        running = [row["now"] for row in working if row["now"]]
        if self._budget is not None:
            paid_for = round(60.0 * self._budget["left"] / max(1, len(working)), 1)
            tries = None if self._total is None or typical is None else self._eta_of_tries(typical, running, len(working))
            return paid_for if tries is None else min(paid_for, tries)
        return None if self._total is None or typical is None else self._eta_of_tries(typical, running, len(working))

    def _eta_of_tries(self, typical: float, running: list[dict[str, Any]], working: int) -> float:
        left_now = sum(typical if now["seconds_left"] is None else now["seconds_left"] for now in running)
        later = max(0, (self._total or 0) - self._tries - len(running)) * typical
        return round((left_now + later) / max(1, working), 1)


class LiveWriter:
    """Writes the board's snapshot to ``agent_status.json`` until stopped, then once more with state ``stopped``."""

    def __init__(self, board: Board, path: Path, write: Callable[[Path, dict[str, Any]], None], interval: float = WRITE_INTERVAL):
        self._board, self._path, self._write, self._interval = board, path, write, interval
        self._preview_path = path.with_name(PREVIEW_NAME)
        self._shown: str | None = ""  # of which picture the file is; "" at first, for an earlier run's may lie there
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eva-live", daemon=True)
        self._complained = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5.0)
        self._board.set_state("stopped")
        self._once()

    def _run(self) -> None:
        while True:
            self._once()
            if self._stop.wait(self._interval):
                return

    def _once(self) -> None:
        try:
            self._write_preview()
            self._write(self._path, self._board.snapshot())
        except OSError as error:  # the live file is a convenience: a full disk must not end the run because of it
            if not self._complained:
                log.warning("cannot write %s: %s; the live view will be missing", self._path, error)
                self._complained = True

    def _write_preview(self) -> None:
        """The picture first, so that the status never names one that is not there."""
        found = self._board.shown_preview()
        which = None if found is None else found[0]
        if which == self._shown:
            return
        picture = None if found is None else small_jpeg(found[1])
        if picture is None:
            self._preview_path.unlink(missing_ok=True)
        else:
            write_live_bytes(self._preview_path, picture)
        self._shown = which
