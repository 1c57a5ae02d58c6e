"""A disk that dies at a chosen operation and remembers what it was told to keep."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

from eva_state.files import Files


class Disk(Files):
    """Fails at operation ``at``: once (``errno_once``), or from then on, as without power."""

    def __init__(self, at: int, errno_once: int | None = None, torn: int = 0):
        self.at, self.errno_once, self.torn = at, errno_once, torn
        self.count = 0
        self.dead = False
        self.died_at = ""
        self.durable: dict[int, int] = {}  # inode -> bytes that will stay
        self.pending: list[tuple[Path, Path | None]] = []  # names not yet fsynced: the path, and a copy of what it named before

    def _step(self, what: str) -> None:
        if self.dead:
            raise OSError(errno.EIO, "no power")
        self.count += 1
        if self.count - 1 == self.at:
            self.died_at = what
            if self.errno_once is not None:
                raise OSError(self.errno_once, f"injected at {what}")
            self.dead = True
            raise OSError(errno.EIO, f"no power at {what}")

    def write(self, fd: int, data: bytes) -> int:
        if self.count == self.at and not self.dead:
            super().write(fd, bytes(data)[: self.torn])
        self._step("write")
        return super().write(fd, data)

    def copy_range(self, source: int, target: int, offset: int, count: int) -> None:
        self._step("copy")
        super().copy_range(source, target, offset, count)

    def fsync(self, fd: int) -> None:
        self._step("fsync")
        status = os.fstat(fd)
        self.durable[status.st_ino] = status.st_size

    def truncate(self, fd: int, size: int) -> None:
        self._step("truncate")
        super().truncate(fd, size)

    def open_append(self, path: Path) -> int:
        self._step("open_append")
        if not path.exists():
            self.pending.append((path, None))
        return super().open_append(path)

    def open_new(self, path: Path) -> int:
        self._step("open_new")
        return super().open_new(path)

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace")
        before = None
        if target.exists():
            before = target.with_name(f"{target.name}.before{self.count}")
            os.link(target, before)
        super().replace(source, target)
        self.pending.append((target, before))

    def unlink(self, path: Path) -> None:
        if not self.dead:
            super().unlink(path)

    def fsync_dir(self, folder: Path) -> None:
        self._step("fsync_dir")
        for path, before in [item for item in self.pending if item[0].parent == folder]:
            self.pending.remove((path, before))
            if before is not None:
                before.unlink()

    def lose_power(self, folder: Path, rng: random.Random) -> None:
        """What was not made durable is lost, or part of it, as chance has it."""
        undo = rng.randrange(len(self.pending) + 1)
        for path, before in reversed(self.pending[undo:]):
            if before is not None:
                before.replace(path)
            else:
                path.unlink(missing_ok=True)
        for path in folder.rglob("*"):
            if ".before" in path.name:
                path.unlink()
            elif path.suffix == ".jsonl" or ".tmp" in path.name:
                size, kept = path.stat().st_size, self.durable.get(path.stat().st_ino, 0)
                if size > kept:
                    os.truncate(path, rng.choice([kept, rng.randint(kept, size), size]))


class SoundFiles(Files):
    """A disk that works, and is quick: nothing here depends on what it does when it is told to sync."""

    def fsync(self, fd: int) -> None:
        pass
