"""The folder of clips: which finished files it holds, cheaply kept up to date, and safe opening by name.

A clip's name is its path below the folder, with ``/``. Hidden files and folders, temporary files and links that
lead out of the folder are not clips.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from types import MappingProxyType
from typing import NamedTuple

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".webm", ".mov", ".mkv", ".avi", ".gif"})
_TEMPORARY = re.compile(r"\.(tmp|temp|part|partial)\.|\.crdownload")
MAX_NAME = 1024  # characters; Linux allows 4096 bytes of path, of which the folder itself takes some
SETTLE_SECONDS = 1.0  # a file whose size and time stay the same for so long is taken as finished
OLD_SECONDS = 3.0  # ... and one that was last written so long before it was first seen, at once
# The shortest step of a file system's times that we meet (FAT, some network volumes): a folder changed this recently may
# change again without its time changing, so it is listed again.
TIME_STEP = 2.5
# O_NOFOLLOW: the path is resolved already; O_NONBLOCK: opening a pipe must not wait; each only where the system has it
_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_NAME_ERRNOS = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO})  # names that cannot be a file here
FEW_NEW = 200  # so many new names are looked at one by one; more are read with the folder
BIG_FOLDER, SHARE_OF_TIME = 5000, 0.05  # a folder of so many names is listed at most for this share of the time
FULL_SCAN_SECONDS = 300.0  # files rewritten in place do not touch their folder's time: stat them all this often


class ClipFile(NamedTuple):
    """``size`` in bytes, ``mtime_ns`` in nanoseconds since 1970."""

    size: int
    mtime_ns: int

    @property
    def mtime(self) -> float:
        return self.mtime_ns / 1e9


UNSEEN = ClipFile(-1, 0)  # listed by its folder, but neither size nor time were looked at yet


class NotAClip(ValueError):
    """The name cannot be a clip of this folder. ``str()`` says why."""


def check_name(name: str) -> str:
    """``name`` when it may be a clip's name. Raises :class:`NotAClip` otherwise; nothing is looked up."""
    if not name:
        raise NotAClip("the clip name is empty")
    if len(name) > MAX_NAME:
        raise NotAClip(f"the clip name is longer than {MAX_NAME} characters")
    if "\0" in name:
        raise NotAClip("the clip name holds a NUL character")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise NotAClip("the clip name is not valid Unicode") from None
    if name.startswith("/") or (os.name == "nt" and ("\\" in name or ":" in name)):
        raise NotAClip(f"{name!r} is not a path below the video folder")
    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise NotAClip(f"{name!r} is not a plain path below the video folder")
    return name


def is_clip_name(name: str) -> bool:
    """Whether a file of this name is taken as a clip: a video suffix, nothing hidden, nothing temporary."""
    lowered = name.lower()
    stem, dot, suffix = lowered.rpartition(".")  # not pathlib: this runs once a file of a large folder
    if not dot or not stem or dot + suffix not in VIDEO_SUFFIXES or name.startswith(".") or "/." in name:
        return False
    return "." not in stem or _TEMPORARY.search(lowered) is None


def _is_clip(name: str) -> bool:
    """:func:`is_clip_name` of a bare name; most tell at a glance."""
    return (name.endswith(".mp4") and name.count(".") == 1 and len(name) > 4) or is_clip_name(name)


@dataclass
class _Directory:
    listed: float = -1.0  # wall-clock time of the last listing
    mtime_ns: int = -1
    files: dict[str, ClipFile] = field(default_factory=dict)  # by bare file name
    others: set[str] = field(default_factory=set)  # bare names that are no clips, folders among them
    folders: list[str] = field(default_factory=list)  # names below the root
    rests_until: float = 0.0  # monotonic seconds


class _Named:
    """What ``os.scandir`` gives, for one name."""

    def __init__(self, folder: str, name: str):
        self.name, self._path = name, f"{folder}/{name}"
        self._own = os.lstat(self._path)

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self._own.st_mode)

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        assert not follow_symlinks
        return stat.S_ISDIR(self._own.st_mode)

    def is_file(self, *, follow_symlinks: bool) -> bool:
        assert not follow_symlinks
        return stat.S_ISREG(self._own.st_mode)

    def stat(self) -> os.stat_result:
        return os.stat(self._path) if self.is_symlink() else self._own  # noqa: PTH116 - a plain path is quicker


class VideoFolder:
    """Scans ``root`` incrementally. One thread scans; :meth:`open` and :meth:`look` may be called from any.

    ``clock`` gives unix seconds. A folder that does not exist (yet) holds no clips.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.time):
        self.root = Path(root)
        self._text = str(self.root)
        self._real_root = Path(os.path.realpath(self.root))
        self._clock = clock
        self._directories: dict[str, _Directory] = {}
        self._settling: dict[str, tuple[ClipFile, float]] = {}  # unfinished files: what was seen, and since when
        self._full_scan = clock()
        self._complained: set[str] = set()
        self._unseen: deque[str] = deque()

    @property
    def exists(self) -> bool:
        return self.root.is_dir()

    def scan(self, known: Container[str] = ()) -> tuple[dict[str, ClipFile], set[str]]:
        """Looks for changes: ``(new or changed clips, names that went)``.

        Costs one ``stat`` a folder while nothing happens, and one listing of each folder that changed. A new file among
        ``known``, clips that their maker said are finished, is taken at once as :data:`UNSEEN`, without a ``stat`` of its own (of
        100,000 that is most of a start, and minutes on a network volume); :meth:`look_at_some` makes up for it.
        """
        now = self._clock()
        full = now - self._full_scan >= FULL_SCAN_SECONDS or now < self._full_scan
        if full:
            self._full_scan = now
        changed: dict[str, ClipFile] = {}
        gone: set[str] = set()
        for name, (seen, since) in list(self._settling.items()):
            current = self._stat(name)
            if current is None:
                del self._settling[name]
            elif current != seen:
                self._settling[name] = (current, now)
            elif now - since >= SETTLE_SECONDS and current.size > 0:
                del self._settling[name]
                changed[name] = current
        alive: set[str] = set()
        pending = [""]
        while pending:
            relative = pending.pop()
            directory = self._directories.setdefault(relative, _Directory())
            try:
                mtime_ns = os.stat(f"{self._text}/{relative}").st_mtime_ns  # noqa: PTH116 - a plain path is quicker
                may_differ = mtime_ns != directory.mtime_ns or directory.listed - mtime_ns / 1e9 < TIME_STEP
                began = time.monotonic()
                if full or (may_differ and began >= directory.rests_until):
                    self._list(relative, directory, now, full, known, changed, gone)
                    directory.mtime_ns = mtime_ns
                    if len(directory.files) + len(directory.others) > BIG_FOLDER:
                        ended = time.monotonic()
                        directory.rests_until = ended + (ended - began) / SHARE_OF_TIME
            except OSError as error:
                self._complain(relative or ".", f"folder {str(self.root / relative)!r} cannot be read: {error.strerror or error}")
                if isinstance(error, FileNotFoundError | NotADirectoryError):
                    continue  # it went; any other trouble (a network volume away) says nothing about its clips
            alive.add(relative)
            pending.extend(directory.folders)
        for relative in [known for known in self._directories if known not in alive]:
            prefix = f"{relative}/" if relative else ""
            gone.update(prefix + name for name in self._directories.pop(relative).files)
        for name in gone:
            self._settling.pop(name, None)
            changed.pop(name, None)
        return changed, gone

    def _list(
        self,
        relative: str,
        directory: _Directory,
        now: float,
        full: bool,
        finished: Container[str],
        changed: dict[str, ClipFile],
        gone: set[str],
    ) -> None:
        directory.listed = now
        folder = f"{self._text}/{relative}" if relative else self._text
        prefix = f"{relative}/" if relative else ""
        if not full and (directory.files or directory.others):
            # Most of a large folder is known: its names are gone through at the speed of C, and only new ones are looked at.
            names = os.listdir(folder)  # noqa: PTH208 - a plain path is quicker
            new = [name for name in names if name not in directory.files and name not in directory.others]
            if len(names) - len(new) != len(directory.files) + len(directory.others):
                listed = set(names)
                gone.update(prefix + name for name in directory.files if name not in listed)
                directory.files = {name: file for name, file in directory.files.items() if name in listed}
                directory.others &= listed
                directory.folders = [name for name in directory.folders if name.rpartition("/")[2] in listed]
            if len(new) <= FEW_NEW:
                self._take(self._named(folder, prefix, new), prefix, directory, now, full, finished, changed)
                return
        fresh = _Directory()
        with os.scandir(folder) as entries:
            self._take(entries, prefix, fresh, now, full, finished, changed, directory.files)
        gone.update(prefix + name for name in directory.files if name not in fresh.files)
        directory.files, directory.others, directory.folders = fresh.files, fresh.others, fresh.folders

    def _named(self, folder: str, prefix: str, names: list[str]) -> Iterator[_Named]:
        for name in names:
            try:
                yield _Named(folder, name)
            except OSError as error:
                log.debug("%s went while it was looked at: %s", prefix + name, error)

    def _take(
        self,
        entries: Iterable[os.DirEntry[str] | _Named],
        prefix: str,
        directory: _Directory,
        now: float,
        full: bool,
        finished: Container[str],
        changed: dict[str, ClipFile],
        before: Mapping[str, ClipFile] = MappingProxyType({}),
    ) -> None:
        """Takes in entries of a folder; ``before``: the files that were known."""
        files, folders, others = directory.files, directory.folders, directory.others
        old = (now - OLD_SECONDS) * 1e9
        ordinary = prefix.isascii() and os.name != "nt"
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                others.add(name)
                continue
            known = before.get(name)
            if known is not None and not full:
                files[name] = known
                continue
            try:
                if finished and (told := prefix + name) in finished and _is_clip(name) and entry.is_file(follow_symlinks=False):
                    files[name] = changed[intern(told)] = UNSEEN
                    self._unseen.append(told)
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(prefix + name)
                    others.add(name)
                    continue
                if not is_clip_name(name):
                    others.add(name)
                    continue
                link = entry.is_symlink()
                # An ordinary name, as nearly all are, needs none of check_name's looks at it.
                plain = ordinary and name.isascii() and len(prefix) + len(name) <= MAX_NAME
                full_name = prefix + name
                if (link or not plain) and not self._usable(full_name, link):
                    continue
                status = entry.stat()
            except OSError as error:
                log.debug("%s went while it was looked at: %s", prefix + name, error)
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            file = files[name] = ClipFile(status.st_size, status.st_mtime_ns)
            if known == file:
                continue
            if file.size > 0 and file.mtime_ns <= old:
                changed[intern(full_name)] = file  # the text that the replica holds already
            elif full_name not in self._settling:
                self._settling[full_name] = (file, now)

    @property
    def unseen(self) -> int:
        """How many files are still :data:`UNSEEN`."""
        return len(self._unseen)

    def look_at_some(self, count: int = 200) -> dict[str, ClipFile | None]:
        """Sizes and times of some more of the files that were only listed; None for one that is no finished clip after all."""
        now = self._clock()
        found: dict[str, ClipFile | None] = {}
        while self._unseen and len(found) < count:
            name = self._unseen.popleft()
            folder, _, bare = name.rpartition("/")
            directory = self._directories.get(folder)
            if directory is None or directory.files.get(bare) is not UNSEEN:
                continue  # it went, or was looked at by a full scan
            file = self._stat(name)
            if file is None:
                del directory.files[bare]
            else:
                directory.files[bare] = file
                if file.size <= 0:
                    self._settling[name] = (file, now)
            found[name] = file if file is not None and file.size > 0 else None
        return found

    def peek(self, name: str) -> ClipFile | None:
        """Size and time of a clip that a scan told of; None when it is no clip any more. Any thread."""
        file = self._stat(name)
        return file if file is not None and file.size > 0 else None

    def _usable(self, name: str, is_link: bool) -> bool:
        try:
            check_name(name)
        except NotAClip as error:
            self._complain(name, f"a file is left out, rename it: {error}")
            return False
        if is_link and not self._inside(os.path.realpath(self.root / name)):
            self._complain(name, f"{name!r} is left out: it is a link to a place outside the video folder")
            return False
        return True

    def _complain(self, key: str, text: str) -> None:
        """Logs each trouble once, not at every scan."""
        if key not in self._complained and len(self._complained) < 1000:
            self._complained.add(key)
            log.warning("%s", text)

    def _inside(self, real: str) -> bool:
        return real.startswith(str(self._real_root).rstrip(os.sep) + os.sep)

    def _stat(self, name: str) -> ClipFile | None:
        try:
            status = os.stat(f"{self._text}/{name}")  # noqa: PTH116 - a plain path is quicker, and this runs once a clip
        except (OSError, ValueError):
            return None
        return ClipFile(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None

    def look(self, name: str) -> ClipFile | None:
        """A clip that its maker says is finished, without waiting for it to settle. None when it is not there. Any thread."""
        try:
            check_name(name)
            usable = is_clip_name(name) and self._inside(os.path.realpath(self.root / name))
        except (NotAClip, OSError):
            return None
        file = self._stat(name) if usable else None
        return file if file is not None and file.size > 0 else None

    def open(self, name: str) -> tuple[int, os.stat_result, Path]:
        """``(descriptor, status, real path)`` of a clip, open for reading; the caller closes the descriptor.

        Raises :class:`NotAClip` for a name that could leave the folder, FileNotFoundError when there is no such clip, OSError
        when it cannot be read. Links are followed only to regular files inside the folder; the last step refuses links, and
        where the system tells (Linux) what was opened is looked at once more, so that one put there in between is not followed.
        """
        check_name(name)
        real = os.path.realpath(self.root / name)
        if not is_clip_name(name) or not self._inside(real):
            raise FileNotFoundError(name)
        try:
            descriptor = os.open(real, _OPEN_FLAGS)
        except (NotADirectoryError, IsADirectoryError):
            raise FileNotFoundError(name) from None
        except OSError as error:
            if error.errno in _NAME_ERRNOS:
                raise FileNotFoundError(name) from None
            raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not self._inside(_opened(descriptor, real)):
            os.close(descriptor)
            raise FileNotFoundError(name)
        return descriptor, status, Path(real)


def _opened(descriptor: int, expected: str) -> str:
    """Where the open file lies; ``expected`` where the system does not say."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return expected
