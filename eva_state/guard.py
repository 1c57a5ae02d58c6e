"""One process a role: an operating-system lock that ends with the process, never stolen by age.

``journal/locks/ROLE.lock`` is what is locked (by the filelock library: ``flock`` on POSIX, ``msvcrt`` on
Windows; the kernel releases it when the holder dies, however it dies). ``ROLE.json`` beside it only says
who holds it, for the message.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import filelock

from eva_env_base import StateError, StateLocked
from eva_state.live import read_live, write_live


class Guard:
    """Holds ``role`` on the state folder from :meth:`acquire` to :meth:`release`."""

    def __init__(self, folder: Path, role: str, *, clock: Callable[[], float] = time.time):
        self.role = role
        self._folder = folder
        self._owner = folder / f"{role}.json"
        self._clock = clock
        # Not thread-local and not a singleton: a second store in this very process must be refused as well.
        self._lock = filelock.FileLock(folder / f"{role}.lock", thread_local=False, is_singleton=False)

    @property
    def held(self) -> bool:
        return self._lock.is_locked

    def try_acquire(self) -> bool:
        """Takes the lock if it is free. Raises StateError when the file system cannot lock."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            raise StateError(f"{self._folder}: cannot lock ({error}); it must be writable and on a file system with locks") from error
        return True

    def acquire(self) -> None:
        """Raises StateLocked, saying who holds the role, when another process does."""
        if not self.try_acquire():
            state_dir = self._folder.parent.parent
            raise StateLocked(
                f"another {self.role} already works on {state_dir}: {self.holder()}. Stop it first, or use another --state-dir."
            )
        try:
            write_live(
                self._owner,
                {
                    "role": self.role,
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._clock())),
                },
            )
        except (OSError, json.JSONDecodeError) as error:
            self._lock.release()
            raise StateError(f"{self._owner}: cannot be written ({error}); the state folder must be writable") from error

    def holder(self) -> str:
        """Who holds the role, as far as it is known."""
        owner = read_live(self._owner)
        if owner is None:
            return "holder unknown"
        return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"

    def release(self) -> None:
        if self._lock.is_locked:
            self._lock.release()
