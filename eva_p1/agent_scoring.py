"""The pool that takes and scores finished clips while the servers render the next ones.

Threads, not processes: decoding and the pixel work of numpy and OpenCV release the GIL, start-up costs nothing, and a clip's
analysis needs no copying between processes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

log = logging.getLogger(__name__)


class ScoringPool:
    """A few worker threads; tasks handle their own errors."""

    def __init__(self, workers: int):
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="eva-score")
        self._lock = threading.Lock()
        self._pending: set[Future[None]] = set()

    def submit(self, task: Callable[[], None]) -> None:
        future = self._pool.submit(task)
        with self._lock:
            self._pending.add(future)
        future.add_done_callback(self._forget)

    def close(self, timeout: float) -> int:
        """Waits for what is being scored, at most ``timeout`` seconds; returns how many clips were left."""
        with self._lock:
            pending = set(self._pending)
        _done, late = wait(pending, timeout=timeout)
        self._pool.shutdown(wait=not late, cancel_futures=True)
        return len(late)

    def _forget(self, future: Future[None]) -> None:
        with self._lock:
            self._pending.discard(future)
        if not future.cancelled() and future.exception() is not None:
            log.error("a scoring task broke", exc_info=future.exception())
