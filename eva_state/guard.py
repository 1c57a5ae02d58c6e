"""One process a role: an operating-system lock that ends with the process, never stolen by age.

``journal/locks/ROLE.lock`` is what is locked (by the filelock library: ``flock`` on POSIX, ``msvcrt`` on
Windows; the kernel releases it when the holder dies, however it dies). ``ROLE.json`` beside it only says
who holds it, for the message. On a network volume, where such a lock may not reach other machines, an owner
file is held as well (``owner``).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import filelock

from eva_env_base import StateError, StateLocked
from eva_state.live import read_live, write_live
from eva_state.mounts import LOCAL, UNKNOWN, Mount, find_mount
from eva_state.owner import OwnerFile

log = logging.getLogger(__name__)


class Guard:
    """Holds ``role`` on the state folder from :meth:`acquire` to :meth:`release`.

    ``takeover``: an owner on another machine is dispossessed, once (never one that holds the lock itself).
    """

    def __init__(
        self,
        folder: Path,
        role: str,
        *,
        clock: Callable[[], float] = time.time,
        takeover: bool = False,
        owner: OwnerFile | None = None,
    ):
        self.role = role
        self.mount: Mount = find_mount(folder)
        self._folder = folder
        self._told = folder / f"{role}.json"
        self._clock = clock
        self._takeover = takeover
        # Not thread-local and not a singleton: a second store in this very process must be refused as well.
        self._lock = filelock.FileLock(folder / f"{role}.lock", thread_local=False, is_singleton=False)
        self._owner: OwnerFile | None = None
        if not self.mount.locks_trusted:
            self._owner = owner or OwnerFile(folder / f"{role}.owner", role, clock=clock)
        self._owned = False

    @property
    def held(self) -> bool:
        if self._owner is not None:
            return self._owned and not self._owner.lost
        return self._lock.is_locked

    def check(self) -> None:
        """Raises StateLocked when another machine took the role over. Free on a file system whose locks are trusted."""
        if self._owner is not None and self._owned:
            self._owner.check()

    def try_acquire(self) -> bool:
        """Takes the role if it is free. Raises StateError when the file system cannot lock."""
        if self._owned and not self.held:
            self.release()  # taken over by another machine: start from nothing
        if not self._try_lock():
            return False
        try:
            self._claim()
        except StateLocked:
            self._lock.release()
            return False
        if self._owner is not None:
            self._owner.start()
        return True

    def acquire(self) -> None:
        """Raises StateLocked, saying who holds the role, when another process does."""
        if not self._try_lock():
            state_dir = self._folder.parent.parent
            raise StateLocked(
                f"another {self.role} already works on {state_dir}: {self.holder()}. Stop it first, or use another --state-dir."
            )
        try:
            if self._claim() and self._owner is not None:
                self._owner.settle()
            if self._owner is not None:
                self._owner.start()
            write_live(
                self._told,
                {
                    "role": self.role,
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._clock())),
                },
            )
        except (OSError, json.JSONDecodeError) as error:
            self.release()
            raise StateError(f"{self._told}: cannot be written ({error}); the state folder must be writable") from error
        except StateLocked:
            self.release()
            raise
        log.log(logging.INFO if self.mount.kind in (LOCAL, UNKNOWN) else logging.WARNING, "%s: %s", self._folder.parent.parent, self.mount)

    def _try_lock(self) -> bool:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            if self._owner is not None and self._folder.is_dir():
                log.warning("%s: this volume cannot lock (%s); the owner file alone guards it", self._folder, error)
                return True
            raise StateError(f"{self._folder}: cannot lock ({error}); it must be writable and on a file system with locks") from error
        return True

    def _claim(self) -> bool:
        """True when the role was taken from a holder that may still live."""
        if self._owner is None:
            return False
        takeover, self._takeover = self._takeover, False
        try:
            taken = self._owner.claim(takeover=takeover)
        except OSError as error:
            self._lock.release()
            raise StateError(
                f"{self._owner.path}: cannot be written ({error.strerror or error}); the state folder must be writable"
            ) from error
        self._owned = True
        return taken

    def holder(self) -> str:
        """Who holds the role, as far as it is known."""
        owner = read_live(self._told)
        if owner is None:
            return "holder unknown"
        return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}"

    def release(self) -> None:
        if self._owner is not None and self._owned:
            self._owned = False
            self._owner.release()
        if self._lock.is_locked:
            self._lock.release()
