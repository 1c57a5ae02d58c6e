"""Publishes the views; first, plain form: every view whole."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING

from eva_state import documents
from eva_state.files import Files
from eva_state.guard import Guard

if TYPE_CHECKING:
    from eva_state.store import StateStore

log = logging.getLogger(__name__)


class Publisher:
    def __init__(self, store: StateStore, files: Files, interval: float):
        self._store = store
        self._files = files
        self._interval = interval
        self._guard = Guard(store.state_dir / "journal" / "locks", "publish")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._published: dict[str, int] | None = None
        self._thread = threading.Thread(target=self._run, name="eva-state-publish", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.flush()
            self._stop.wait(self._interval)

    def model_replaced(self) -> None:
        self._published = None

    def flush(self) -> None:
        with self._lock:
            if not self._guard.held and not self._guard.try_acquire():
                return
            with self._store._lock:
                model = self._store._model
                applied = dict(model.applied)
                if applied == self._published:
                    return
                found = {view: json.dumps(documents.document(model, view), ensure_ascii=False, indent=1) for view in documents.VIEWS}
            try:
                for view, body in found.items():
                    self._files.write_file(self._store.state_dir / view, body.encode())
            except OSError as error:
                log.error("%s: the views cannot be written now: %s", self._store.state_dir, error)
                return
            self._published = applied

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()
        self._guard.release()
