"""Long work beside short answers: a little at a time, so that whoever asks meanwhile hardly waits."""

from __future__ import annotations

import time
from collections.abc import Callable

WORK_SECONDS, REST_SECONDS = 0.002, 0.002


class Pace:
    """Called between small steps; rests when enough was done since the last rest. True: enough for good.

    ``wait(seconds)`` waits, and says whether the work shall end.
    """

    def __init__(self, wait: Callable[[float], bool | None] = time.sleep, work: float = WORK_SECONDS, rest: float = REST_SECONDS):
        self._wait, self._work, self._rest = wait, work, rest
        self._since = time.monotonic()

    def __call__(self) -> bool:
        if time.monotonic() - self._since < self._work:
            return False
        ended = bool(self._wait(self._rest))
        self._since = time.monotonic()
        return ended
