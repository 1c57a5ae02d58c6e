"""Changes of a store: its version, the changes since a version, and callbacks."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)
MAX_CHANGES = 10_000  # kept for `since`: hours of a person's work, about 2 MB
# How long a mutator waits for its own callback while another thread is delivering: long enough for a healthy
# callback, short enough that one blocked on a lock of that mutator's caller cannot hold it up noticeably.
DELIVERY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Change:
    """One applied event. ``kind`` is the record type, or ``reload`` when everything was read anew."""

    kind: str
    name: str | None
    key: str | None
    event_id: str
    writer: str
    version: int


class Feed:
    """:meth:`add` is called under the store's lock, :meth:`deliver` outside it."""

    def __init__(self) -> None:
        self.version = 0
        self._changes: deque[Change] = deque(maxlen=MAX_CHANGES)
        self._callbacks: list[Callable[[Change], None]] = []
        self._due: deque[Change] = deque()
        self._turn = threading.Condition()
        self._delivering: int | None = None  # ident of the thread that calls the callbacks now
        self._delivered = 0

    def add(self, kind: str, name: str | None, key: str | None, event_id: str, writer: str) -> None:
        self.version += 1
        change = Change(kind, name, key, event_id, writer, self.version)
        self._changes.append(change)
        if self._callbacks:
            self._due.append(change)

    def reload(self, writer: str) -> None:
        """Everything may have changed: earlier versions cannot be continued from."""
        self._changes.clear()
        self.add("reload", None, None, "", writer)

    def since(self, version: int) -> list[Change] | None:
        """Changes after ``version``; None when they are no longer kept or the version is not of this process."""
        missed = self.version - version
        if not 0 <= missed <= len(self._changes):
            return None
        return list(self._changes)[len(self._changes) - missed :]

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        self._callbacks.append(callback)

        def end() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return end

    def deliver(self) -> None:
        """Delivers what is due, in order. One thread at a time does; the others leave theirs to it and wait a moment."""
        wanted = self.version
        me = threading.get_ident()
        with self._turn:
            if self._delivering == me:
                return  # a callback changed the state: the loop below it goes on with that
            if self._delivering is not None:
                self._turn.wait_for(lambda: self._delivered >= wanted or self._delivering is None, DELIVERY_SECONDS)
                if self._delivering is not None or not self._due:
                    return
            self._delivering = me
        try:
            while True:
                with self._turn:
                    if not self._due:
                        self._delivering = None
                        self._turn.notify_all()
                        return
                    change = self._due.popleft()
                for callback in list(self._callbacks):
                    try:
                        callback(change)
                    except Exception:
                        log.exception("a subscriber failed on %s", change)
                with self._turn:
                    self._delivered = change.version
                    self._turn.notify_all()
        finally:
            with self._turn:
                if self._delivering == me:  # a callback ended the thread (KeyboardInterrupt)
                    self._delivering = None
                    self._turn.notify_all()
