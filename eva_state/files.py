"""Every operation that changes the disk, in one place, so that tests can make each of them fail or tear."""

from __future__ import annotations

import errno
import os
from pathlib import Path

# What a disk says when it will not take more: full, over quota, file too large, read-only.
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})
_BINARY = getattr(os, "O_BINARY", 0)  # Windows: no newline translation
_COPY_BYTES = 1 << 20


class Files:
    """Thin layer over ``os``; stateless, safe to share between threads."""

    def open_append(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o644)

    def open_new(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o644)

    def write(self, fd: int, data: bytes) -> int:
        """May write less than asked, like ``os.write``."""
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def close(self, fd: int) -> None:
        os.close(fd)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)  # noqa: PTH105

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def fsync_dir(self, folder: Path) -> None:
        """Makes renames and new names in ``folder`` durable. Windows cannot open folders; there NTFS journals them."""
        if os.name == "nt":
            return
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        except OSError as error:
            # Some network and FUSE file systems refuse fsync of a folder; they make names durable on their own or never.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
                raise
        finally:
            os.close(fd)

    def write_all(self, fd: int, data: bytes) -> None:
        """Writes everything. Raises OSError (ENOSPC when the disk took nothing more)."""
        view = memoryview(data)
        while view:
            count = self.write(fd, bytes(view) if len(view) < 65536 else view)  # type: ignore[arg-type]
            if count <= 0:
                raise OSError(errno.ENOSPC, "the disk took no more bytes")
            view = view[count:]

    def copy_range(self, source: int, target: int, offset: int, count: int) -> None:
        """Appends ``count`` bytes of ``source`` from ``offset`` to ``target``, in the kernel where it can."""
        kernel_copy = getattr(os, "copy_file_range", None)
        while count > 0:
            if kernel_copy is not None:
                try:
                    done = kernel_copy(source, target, min(count, 1 << 26), offset)
                except OSError as error:
                    # Not on this pair of file systems, or a file opened in a mode it refuses: copy by hand.
                    if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
                        raise
                    kernel_copy = None
                    continue
            else:
                os.lseek(source, offset, os.SEEK_SET)
                data = os.read(source, min(count, _COPY_BYTES))
                self.write_all(target, data)
                done = len(data)
            if done == 0:
                raise OSError(errno.EIO, "the file to copy from became shorter")
            offset += done
            count -= done

    def write_file(self, path: Path, data: bytes) -> None:
        """Replaces a small file durably: unique temporary file, fsync, rename, fsync of the folder."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
        fd = self.open_new(temporary)
        try:
            try:
                self.write_all(fd, data)
                self.fsync(fd)
            finally:
                self.close(fd)
            self.replace(temporary, path)
        except OSError:
            self.unlink(temporary)
            raise
        self.fsync_dir(path.parent)
