"""How much may still be tried, and when a server that keeps failing must rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from eva_p1.agent_types import QUIET_KINDS


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
