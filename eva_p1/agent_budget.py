"""How much may still be tried and spent, and when a server that keeps failing must rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from eva_p1.agent_types import QUIET_KINDS, AgentOptions, Job


class Tickets:
    """Counts tries so that several lanes together never make more than asked for. ``total`` None: no end."""

    def __init__(self, total: int | None):
        self._lock = threading.Lock()
        self._total, self._taken, self._settled = total, 0, 0

    def take(self, reserve: int = 0) -> bool:
        """True when one more try may start and ``reserve`` more are left after it."""
        with self._lock:
            if self._total is not None and self._taken + reserve >= self._total:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        """A try that had a ticket will not happen."""
        with self._lock:
            self._taken -= 1

    def settle(self) -> int:
        """A try ended; returns how many have."""
        with self._lock:
            self._settled += 1
            return self._settled

    def close(self) -> None:
        """No further try may start; those under way still settle."""
        with self._lock:
            self._total = self._taken if self._total is None else min(self._total, self._taken)

    @property
    def settled(self) -> int:
        return self._settled

    @property
    def finished(self) -> bool:
        """True when every try asked for has ended."""
        with self._lock:
            return self._total is not None and self._settled >= self._total


class Spend:
    """GPU minutes of one run against what may be spent. Thread-safe.

    A try is committed when it is chosen and counts with its expected minutes, as the prices learned meanwhile have them; once it has run
    longer than that, with what it has run. When it ends, however it ends, what it really took is spent instead.

    ``expected``: minutes a job is expected to take; ``elapsed``: seconds it has been running so far.
    """

    def __init__(
        self,
        options: AgentOptions,
        expected: Callable[[Job], float] = lambda _job: 0.0,
        elapsed: Callable[[Job], float] = lambda _job: 0.0,
    ):
        self._lock = threading.Lock()
        self._expected, self._elapsed = expected, elapsed
        self.price = options.gpu_price
        limits = [options.budget_minutes] if options.budget_minutes is not None else []
        if options.budget_dollars is not None and options.gpu_price:
            limits.append(60.0 * options.budget_dollars / options.gpu_price)
        self.limit: float | None = min(limits) if limits else None
        self._spent = 0.0
        self._committed: list[Job] = []
        self._aside: list[Job] = []
        self._refused = False  # nothing fitted, and nothing has changed since

    def commit(self, job: Job) -> None:
        """``job`` is under way. Nothing changes when it was already."""
        with self._lock:
            self._aside = _without(self._aside, job)
            self._committed = [*_without(self._committed, job), job]

    def set_aside(self, job: Job) -> None:
        """The server of ``job`` stays away: it may be paid for all the same, so it goes on counting, but nobody waits for its end."""
        with self._lock:
            self._committed = _without(self._committed, job)
            self._aside = [*_without(self._aside, job), job]
            self._refused = False

    def ended(self, job: Job, minutes: float) -> None:
        """``job`` ended and took ``minutes`` (0 for a prompt that never started)."""
        with self._lock:
            self._committed, self._aside = _without(self._committed, job), _without(self._aside, job)
            self._spent += minutes
            self._refused = False

    def refused(self) -> bool:
        """No try fits now; True when none will: nothing is under way whose end could leave more than expected."""
        with self._lock:
            self._refused = True
            return not self._committed

    @property
    def waits(self) -> bool:
        """True while nothing fitted and nothing has ended since."""
        return self._refused

    @property
    def under_way(self) -> int:
        """Tries that are committed and have not ended."""
        with self._lock:
            return len(self._committed)

    @property
    def spent(self) -> float:
        """Minutes of the tries that have ended."""
        with self._lock:
            return self._spent

    @property
    def left(self) -> float | None:
        """Minutes left once everything under way has ended as expected; None without a limit."""
        if self.limit is None:
            return None
        with self._lock:
            spent, jobs = self._spent, self._committed + self._aside
        return self.limit - spent - sum(max(self._expected(job), self._elapsed(job) / 60.0) for job in jobs)

    def report(self) -> dict[str, Any]:
        """``minutes`` spent, ``limit`` and ``left`` in minutes (None without a limit), and in dollars where a price is known."""
        with self._lock:
            left = None if self.limit is None else max(0.0, self.limit - self._spent)
            out: dict[str, Any] = {"minutes": round(self._spent, 3), "limit": self.limit, "left": left}
            if self.price is not None:
                rate = self.price / 60.0
                out |= {"price": self.price, "dollars": self._spent * rate}
                out |= {f"{name}_dollars": None if out[name] is None else out[name] * rate for name in ("limit", "left")}
            return out


def _without(jobs: list[Job], job: Job) -> list[Job]:
    return [other for other in jobs if other is not job]


class Streak:
    """Failures in a row on one server. After ``limit`` of them it rests for ``rest`` seconds, twice as long each time after.

    ``limit`` 0: it never rests. Thread-safe.
    """

    def __init__(self, limit: int, rest: float, monotonic: Callable[[], float] = time.monotonic):
        self._limit, self._rest, self._monotonic = limit, rest, monotonic
        self._lock = threading.Lock()
        self._count = self._rests = 0
        self._until = 0.0

    def add(self, kind: str | None) -> float | None:
        """A try ended: ``kind`` of its failure, or None for a scored clip. Returns the pause in seconds where one begins now."""
        if kind in QUIET_KINDS:
            return None
        with self._lock:
            if kind is None:
                self._count = self._rests = 0
                return None
            self._count += 1
            if not self._limit or self._count < self._limit:
                return None
        return self.rest()

    def rest(self) -> float:
        """The server rests from now on; returns for how many seconds."""
        with self._lock:
            pause = self._rest * 2**self._rests
            self._rests += 1
            self._count = 0
            self._until = self._monotonic() + pause
            return pause

    @property
    def resting(self) -> bool:
        with self._lock:
            return self._monotonic() < self._until
