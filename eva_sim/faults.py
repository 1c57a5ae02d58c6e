"""Fault switches: what may go wrong with a server, on order.

A fault is written ``kind[:key=value,...]``. Selectors ``job=N`` (only the Nth), ``every=N`` (each Nth) and ``times=N`` (at
most N times in all) count jobs started, or, for ``refuse`` and ``drop``, requests to the route. Without a selector every
one is hit. The other keys are listed in :data:`KINDS`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from eva_env_base import UsageError

SELECTORS: dict[str, Any] = {"job": 0, "every": 0, "times": 0}
KINDS: dict[str, dict[str, Any]] = {
    "refuse": {"route": "prompt", "status": 503, "mode": "status"},  # mode=validation: a 400 of the real shape
    "drop": {"route": "prompt", "when": "before"},  # when=after: the request is carried out, the answer is lost
    "hang": {"at": 0.5},
    "crash": {"at": 0.5},
    "bad_output": {"mode": "truncated"},  # truncated, zero or garbage
    "no_output": {"mode": "empty"},  # empty: history has no outputs; missing: it names a file that is not there
    "error": {"at": 0.5, "message": "simulated failure", "type": "RuntimeError"},
    "oom": {"at": 0.0},
    "slow": {"factor": 4.0},
    "ws_drop": {"at": 0.5, "repeat": 0},  # repeat=1: again at every later step
    "lose_queue": {"at": 0.5, "down": 0.0},  # down: seconds without any answer, as while restarting
    "late_history": {"seconds": 0.4},
}
CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("refuse", "mode"): ("status", "validation"),
    ("drop", "when"): ("before", "after"),
    ("bad_output", "mode"): ("truncated", "zero", "garbage"),
    ("no_output", "mode"): ("empty", "missing"),
}
REQUEST_KINDS = frozenset({"refuse", "drop"})


@dataclass
class Fault:
    """One switch. ``options`` holds every key of its kind, ``hits`` how often it struck."""

    kind: str
    options: dict[str, Any]
    job: int = 0
    every: int = 0
    times: int = 0
    text: str = ""
    hits: int = field(default=0, compare=False)

    def strikes(self, number: int) -> bool:
        """Whether it hits job (or request) ``number``, counted from 1; counts the hit."""
        if self.times and self.hits >= self.times:
            return False
        if self.job and number != self.job:
            return False
        if self.every and number % self.every:
            return False
        self.hits += 1
        return True


def parse_fault(text: str) -> Fault:
    """Reads ``kind[:key=value,...]``. Raises :class:`UsageError` naming the part that is wrong and what is allowed."""
    kind, _, rest = text.strip().partition(":")
    if kind not in KINDS:
        raise UsageError(f"--fault {text!r}: no fault is called {kind!r}; choose one of {', '.join(KINDS)}")
    options, selectors = dict(KINDS[kind]), dict(SELECTORS)
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        place = selectors if key in selectors else options
        if key not in place or not equals:
            allowed = ", ".join([*KINDS[kind], *SELECTORS])
            raise UsageError(f"--fault {text!r}: {part!r} is not a setting of {kind}; write key=value with one of {allowed}")
        wanted = type(place[key])
        try:
            place[key] = wanted(value)
        except ValueError:
            raise UsageError(f"--fault {text!r}: {key} wants a number, not {value!r}") from None
        if wanted in (int, float) and place[key] < 0:
            raise UsageError(f"--fault {text!r}: {key} cannot be negative")
        allowed_values = CHOICES.get((kind, key))
        if allowed_values and value not in allowed_values:
            raise UsageError(f"--fault {text!r}: {key} is one of {', '.join(allowed_values)}")
    return Fault(kind, options, **selectors, text=text.strip())


class FaultPlan:
    """The switches of one server; may be changed at any time from any thread."""

    def __init__(self, faults: Iterable[str | Fault] = ()):
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._requests: dict[str, int] = {}
        self.jobs = 0
        for fault in faults:
            self.add(fault)

    def add(self, fault: str | Fault) -> Fault:
        """Adds a switch; it counts jobs and requests from the server's start, like the others."""
        made = parse_fault(fault) if isinstance(fault, str) else fault
        with self._lock:
            self._faults.append(made)
        return made

    def clear(self) -> None:
        """Takes all switches away. The counters go on."""
        with self._lock:
            self._faults.clear()

    def for_request(self, route: str) -> Fault | None:
        """Counts a request to ``route`` and returns the fault that strikes it."""
        with self._lock:
            number = self._requests[route] = self._requests.get(route, 0) + 1
            for fault in self._faults:
                if fault.kind in REQUEST_KINDS and fault.options["route"] == route and fault.strikes(number):
                    return fault
        return None

    def for_next_job(self) -> dict[str, Fault]:
        """Counts a job and returns the faults that strike it, by kind."""
        with self._lock:
            self.jobs += 1
            found = [fault for fault in self._faults if fault.kind not in REQUEST_KINDS and fault.strikes(self.jobs)]
        return {fault.kind: fault for fault in found}

    def describe(self) -> list[dict[str, Any]]:
        """Every switch with its hits, for ``GET /sim/fault``."""
        with self._lock:
            return [{"fault": fault.text or fault.kind, "hits": fault.hits} for fault in self._faults]
