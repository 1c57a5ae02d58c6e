"""What the agent says about clips nobody has rated: which to rate next, and which rating to expect (``review_order.json``).

To look whether it was replaced costs one ``stat``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eva_state.live import read_live

ORDER_FILE = "review_order.json"
_CHECK: dict[str, tuple[type, ...]] = {"ratings": (int,), "error": (int, float), "error_of_mean": (int, float), "used": (bool,)}


class Said(NamedTuple):
    """One version of the file. ``gains``: reward units by clip; ``expected``: mean 1..10 and sd by clip; the names sorted.

    ``check`` is ``{"ratings", "error", "error_of_mean", "used"}`` or None.
    """

    gains: Mapping[str, float]
    expected: Mapping[str, tuple[float, float]]
    informative: list[str]  # highest gain first
    best: list[str]  # highest expected rating first
    worst: list[str]
    check: dict[str, Any] | None

    def predicted(self, *names: str | None) -> dict[str, float] | None:
        """``{"mean", "sd"}`` of the first of these names that has a prediction, on the scale of 1 to 10; None: there is none."""
        for name in names if self.expected else ():
            if name is not None and (found := self.expected.get(name)) is not None:
                return {"mean": found[0], "sd": found[1]}
        return None


NOTHING = Said({}, {}, [], [], [], None)


class Predictions:
    """The newest version of the file ``path``. Thread-safe."""

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self.latest = NOTHING  # as of the last :meth:`look`; asking for it reads nothing

    def look(self) -> Said:
        """What the file says now; nothing where the agent never said anything."""
        with self._lock:
            try:
                status = self._path.stat()
            except FileNotFoundError:
                self._stamp, self.latest = None, NOTHING
                return NOTHING
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._stamp, self.latest = stamp, said_in(read_live(self._path) or {})
            return self.latest


def said_in(data: Mapping[str, Any]) -> Said:
    """From the content of the file; what is malformed in it is left out."""
    gains = {name: float(value) for name, value in _items(data, "values") if _number(value)}
    expected = {
        name: (min(10.0, max(1.0, float(value[0]))), max(0.0, float(value[1])))
        for name, value in _items(data, "predicted")
        if isinstance(value, list) and len(value) == 2 and _number(value[0]) and _number(value[1])
    }
    best = sorted(expected, key=lambda name: (-expected[name][0], name))
    worst = sorted(expected, key=lambda name: (expected[name][0], name))
    return Said(gains, expected, sorted(gains, key=lambda name: (-gains[name], name)), best, worst, _check(data.get("check")))


def _items(data: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    found = data.get(key)
    return list(found.items()) if isinstance(found, dict) else []


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(found: Any) -> dict[str, Any] | None:
    if not isinstance(found, dict) or any(not isinstance(found.get(key), kind) for key, kind in _CHECK.items()):
        return None
    return {key: found[key] for key in _CHECK}
