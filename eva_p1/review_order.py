"""Says which unrated clips are most worth a person's rating, for the review server, which has no numpy.

``review_order.json`` in the state folder: ``{"updated_at": unix seconds, "values": {clip: expected gain in reward units}}``. It is a live
file like ``agent_status.json``, no part of the truth: without it the newest clips come first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
ORDER_NAME = "review_order.json"
KEPT = 500  # the latest clips are ranked; at a person's pace that is an hour's work
PAUSE = 3.0  # seconds between two versions at least ...
SHARE = 0.05  # ... and so long that ranking takes at most this share of a core


class OrderWriter:
    """Writes the order whenever something was learned, but not too often. Called from one thread."""

    def __init__(self, store: Any, bandit: Any, path: Path, write: Callable[[Path, dict[str, Any]], None], clock: Callable[[], float]):
        self._store, self._bandit, self._path, self._write, self._clock = store, bandit, path, write, clock
        self._names: deque[str] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._version = -1
        self._not_before = 0.0
        self._failed = False
        for facts in store.iter_clips():
            if facts.entry is not None:
                self._names.append(facts.name)

    def scored(self, name: str) -> None:
        """A clip was made."""
        with self._lock:
            self._names.append(name)

    def publish(self) -> bool:
        """Ranks and writes anew where it is due; False otherwise, or where it cannot be written (said once)."""
        version = self._store.version
        if version == self._version or time.monotonic() < self._not_before:
            return False
        self._version = version
        began = time.monotonic()
        try:
            with self._lock:
                names = list(self._names)
            order = self._bandit.rating_order(names)
            self._write(self._path, {"updated_at": self._clock(), "values": {name: round(gain, 8) for name, gain in order}})
        except (OSError, ValueError) as error:
            if not self._failed:
                log.warning("%s cannot be written: %s; the newest clips come first in the review", self._path, error)
            self._failed = True
            return False
        finally:
            took = time.monotonic() - began
            self._not_before = time.monotonic() + max(PAUSE, took / SHARE)
        return True
