"""What the agent tells the review server, which has no numpy, about clips: which to rate next, and which rating to expect.

``review_order.json`` in the state folder, a live file like ``agent_status.json``, no part of the truth:

    {"updated_at": unix seconds,
     "values": {clip: expected gain in reward units},         the latest unrated clips
     "predicted": {clip: [mean, sd]},                          ratings on the scale of 1 to 10; empty until they beat a constant
     "check": {"ratings", "error", "error_of_mean", "used"}}   how far predictions, and the mean, were off; or null

Without it the newest clips come first and nothing is predicted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eva_p1.bandit_taste import LEAST_RATINGS, Check

log = logging.getLogger(__name__)
ORDER_NAME = "review_order.json"
KEPT = 500  # the latest clips are ranked; at a person's pace that is an hour's work
PAUSE = 3.0  # seconds between two versions at least ...
SHARE = 0.05  # ... and so long that ranking takes at most this share of a core
MARKS = 9.0  # a reward of 1 is 9 marks above a reward of 0


class TasteWatch:
    """Finds out now and then, on a thread of its own, whether ratings can be foretold. Thread-safe but for :meth:`look`."""

    def __init__(self, bandit: Any):
        self._bandit = bandit
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._checked = 0  # ratings there were at the last check
        self.found: tuple[Check, bool] | None = None  # the last check, and whether predictions are shown

    def look(self) -> None:
        """Starts a check where the ratings have become a sixth more since the last one, or fewer."""
        if self._thread is not None and self._thread.is_alive():
            return
        count = self._bandit.rated_count()
        if count < LEAST_RATINGS:
            self.found, self._checked = None, 0
        elif not self._checked <= count < self._checked + max(2, self._checked // 6) or not self._checked:
            self._checked = count
            self._thread = threading.Thread(target=self._check, name="eva-taste", daemon=True)
            self._thread.start()

    def _check(self) -> None:
        try:
            check = self._bandit.taste_check(self._stop.is_set)
        except (ValueError, ArithmeticError) as error:  # LinAlgError is a ValueError: hyperparameters no matrix survives
            log.warning("whether ratings can be foretold was not found out: %s", error)
            return
        if check is None:
            return
        shown = check.convinces(self.found is not None and self.found[1])
        if self.found is None or self.found[1] != shown:
            log.info(
                "ratings are %s: over %d ratings the error is %.2f marks, that of their mean %.2f",
                "foretold from now on" if shown else "not foretold",
                check.ratings,
                MARKS * check.error,
                MARKS * check.error_of_mean,
            )
        self.found = (check, shown)

    def close(self) -> None:
        """Ends a check under way; it takes part of a second."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


class OrderWriter:
    """Writes the file whenever something was learned, but not too often. Called from one thread; :meth:`close` at the end."""

    def __init__(self, store: Any, bandit: Any, path: Path, write: Callable[[Path, dict[str, Any]], None], clock: Callable[[], float]):
        self._store, self._bandit, self._path, self._write, self._clock = store, bandit, path, write, clock
        self._names: deque[str] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._seen: tuple[int, Any] = (-1, None)  # version of the state, and check, of the last file
        self._not_before = 0.0
        self._failed = False
        self._taste = TasteWatch(bandit)
        for facts in store.iter_clips():
            if facts.entry is not None:
                self._names.append(facts.name)

    def scored(self, name: str) -> None:
        """A clip was made."""
        with self._lock:
            self._names.append(name)

    def publish(self) -> bool:
        """Ranks and writes anew where it is due; False otherwise, or where it cannot be written (said once)."""
        found = self._taste.found
        seen = (self._store.version, found)
        if seen == self._seen or time.monotonic() < self._not_before:
            return False
        self._seen = seen
        began = time.monotonic()
        try:
            with self._lock:
                names = list(self._names)
            order = self._bandit.rating_order(names)
            values = {name: round(gain, 8) for name, gain in order}
            self._write(self._path, {"updated_at": self._clock(), "values": values, **self._foretold(found)})
        except (OSError, ValueError) as error:
            if not self._failed:
                log.warning("%s cannot be written: %s; the newest clips come first in the review", self._path, error)
            self._failed = True
            return False
        finally:
            took = time.monotonic() - began
            self._not_before = time.monotonic() + max(PAUSE, took / SHARE)
        self._taste.look()
        return True

    def _foretold(self, found: tuple[Check, bool] | None) -> dict[str, Any]:
        if found is None:
            return {"predicted": {}, "check": None}
        check, shown = found
        told = {"error": round(MARKS * check.error, 3), "error_of_mean": round(MARKS * check.error_of_mean, 3)}
        expected = self._bandit.predicted_ratings() if shown else {}
        predicted = {name: [round(1 + MARKS * mean, 2), round(MARKS * sd, 2)] for name, (mean, sd) in expected.items()}
        return {"predicted": predicted, "check": {"ratings": check.ratings, **told, "used": shown}}

    def close(self) -> None:
        self._taste.close()
