"""One writer's journal: a folder of append-only segments ``000001.jsonl``, ``000002.jsonl``, ...

Only the last segment is written to, and only at its end; the others are sealed. The one exception is
recovery: bytes after the last record known to be on disk (a torn tail, a write the disk refused) are
kept in a ``.broken`` file and cut, and the next record then starts a new segment, so that nobody who
follows by offset can mistake new bytes for old ones.
"""

from __future__ import annotations

import errno
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from eva_env_base import StateError, StateFull
from eva_state import records
from eva_state.files import FULL_ERRNOS, Files
from eva_state.records import Item, Record

log = logging.getLogger(__name__)
SEGMENT_BYTES = 16 << 20  # sealed beyond this: small enough to copy or check one at a time
SEGMENT_NAME = re.compile(r"^(\d{6,})\.jsonl$")
_BATCH_LINES = 500  # lines parsed in one call (see records.decode_many); more do not stay in the processor's cache
_READ_BYTES = 1 << 20


class Draft(NamedTuple):
    """A record to be: ``type``, ``data`` (already plain JSON) and ``id``."""

    type: str
    data: dict[str, Any]
    id: str


class Problem(NamedTuple):
    """Something wrong found in a segment: at ``offset`` of ``path``; ``kept`` names where the bytes were put."""

    path: Path
    offset: int
    message: str
    kept: Path | None = None

    def __str__(self) -> str:
        kept = f"; kept as {self.kept.name}" if self.kept else ""
        return f"{self.path}, byte {self.offset}: {self.message}{kept}"


def segments(folder: Path) -> list[Path]:
    """The segments of a journal folder, oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(match.group(1)), path) for path in folder.iterdir() if (match := SEGMENT_NAME.match(path.name))]
    return [path for _, path in sorted(found)]


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """Complete lines of a segment from ``offset``: pairs (offset after the batch, lines without newline)."""
    with path.open("rb") as file:
        file.seek(offset)
        rest = b""
        while chunk := file.read(_READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for start in range(0, len(lines), _BATCH_LINES):
                batch = lines[start : start + _BATCH_LINES]
                offset += sum(map(len, batch)) + len(batch)
                yield offset, batch


class Follower:
    """Reads a journal from where it last stopped. A line without its newline means "not yet"."""

    def __init__(self, folder: Path, *, quiet: bool = False):
        self.folder = folder
        self._quiet = quiet
        self.problems: list[Problem] = []
        self.last_seq = 0
        self._segment: Path | None = None
        self._offset = 0
        self._good_end = 0

    @property
    def position(self) -> tuple[Path | None, int, int]:
        """(segment, offset after the last complete line, offset after the last intact record)."""
        return self._segment, self._offset, self._good_end

    def poll(self) -> Iterator[list[Item]]:
        """New records in batches. Raises :class:`Rewound` when records read before are no longer there."""
        while True:
            if self._segment is None:
                found = segments(self.folder)
                if not found:
                    return
                self._segment, self._offset, self._good_end = found[0], 0, 0
            try:
                size = self._segment.stat().st_size
            except FileNotFoundError:
                raise Rewound(f"{self._segment} is gone") from None
            if size < self._good_end:
                raise Rewound(f"{self._segment} was cut to {size} bytes, {self._good_end} had been read")
            # The next segment must be looked for before reading on: only then is this one known to be complete.
            following = self._next_segment()
            if size > self._offset:
                yield from self._read()
            if following is None:
                return
            if self._segment.stat().st_size < self._good_end:
                raise Rewound(f"{self._segment} was cut while it was read")
            self._segment, self._offset, self._good_end = following, 0, 0

    def _next_segment(self) -> Path | None:
        assert self._segment is not None
        number = int(self._segment.stem)
        following = self.folder / f"{number + 1:06d}.jsonl"
        return following if following.exists() else None

    def _read(self) -> Iterator[list[Item]]:
        assert self._segment is not None
        for end, lines in read_lines(self._segment, self._offset):
            items = records.decode_many(lines)
            if self._all_follow(items):
                self._offset = self._good_end = end
                self.last_seq += len(items)
                yield items  # type: ignore[misc]
                continue
            good: list[Item] = []
            at = self._offset
            for line, item in zip(lines, items):
                if isinstance(item, tuple):
                    good.append(item)
                    self._good_end = at + len(line) + 1
                    seq = item[0].seq
                    if seq > self.last_seq + 1:
                        self._report(at, f"records {self.last_seq + 1} to {seq - 1} are missing")
                    self.last_seq = max(self.last_seq, seq)
                elif line:
                    self._report(at, f"corrupt record skipped ({item})")
                at += len(line) + 1
            self._offset = end
            if good:
                yield good

    def _all_follow(self, items: list[Item | records.BadRecord]) -> bool:
        """All are intact, and numbered on from the last one: the ordinary case, told quickly."""
        try:
            found = [item[0].seq for item in items]  # type: ignore[index]
        except TypeError:  # a BadRecord
            return False
        return found == list(range(self.last_seq + 1, self.last_seq + 1 + len(found)))

    def _report(self, offset: int, message: str) -> None:
        assert self._segment is not None
        problem = Problem(self._segment, offset, message)
        self.problems.append(problem)
        if not self._quiet:
            log.warning("%s", problem)


class Rewound(Exception):
    """Records a follower had read were taken back (a disk that failed at fsync): its replica must be rebuilt."""


class _Ticket:
    __slots__ = ("done", "drafts", "error", "result")

    def __init__(self, drafts: list[Draft]):
        self.drafts = drafts
        self.result: list[Record] = []
        self.error: BaseException | None = None
        self.done = False


class Writer:
    """The only writer of ``folder``. Opening it recovers the last segment. Thread-safe.

    Threads that append at the same time share one write and one fsync; each returns only after its own
    records are on disk. ``on_commit`` is called, in journal order, before any of them returns.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        follower: Follower,
        *,
        files: Files,
        clock: Callable[[], float] = time.time,
        lamport: Callable[[], int],
        on_commit: Callable[[list[Item]], None],
        segment_bytes: int = SEGMENT_BYTES,
    ):
        self.folder = folder
        self.name = name
        self.problems: list[Problem] = []
        self._files = files
        self._clock = clock
        self._lamport = lamport
        self._on_commit = on_commit
        self._segment_bytes = segment_bytes
        self._queue: list[_Ticket] = []
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._fd: int | None = None
        self._path: Path | None = None
        self._size = 0  # bytes of the open segment known to be on disk
        self._suspect = False  # the bytes beyond _size could not be taken back yet
        self._roll_next = False
        self._seq = follower.last_seq
        self._closed = False
        self._recover(follower)

    # ------------------------------------------------------------ recovery
    def _recover(self, follower: Follower) -> None:
        path, _, good_end = follower.position
        if path is None:
            return
        size = path.stat().st_size
        self._path, self._size = path, good_end
        if size > good_end:
            with path.open("rb") as file:
                file.seek(good_end)
                tail = file.read()
            kept = path.with_name(f"{path.stem}.{time.strftime('%Y%m%d-%H%M%S', time.localtime(self._clock()))}.{good_end}.broken")
            problem = Problem(path, good_end, f"torn or corrupt tail of {size - good_end} bytes cut", kept)
            try:
                if not kept.exists():
                    self._files.write_file(kept, tail)
                fd = self._files.open_append(path)
                try:
                    self._files.truncate(fd, good_end)
                    self._files.fsync(fd)
                finally:
                    self._files.close(fd)
            except OSError as error:
                raise StateError(
                    f"{path}: the torn tail cannot be cut ({error.strerror or error}); free some space or mend the disk"
                ) from error
            self.problems.append(problem)
            log.warning("%s", problem)
            self._roll_next = True
        else:
            self._roll_next = size >= self._segment_bytes

    def _number(self) -> int:
        found = segments(self.folder)
        return int(found[-1].stem) if found else 0

    # ------------------------------------------------------------ appending
    def append(self, drafts: list[Draft]) -> list[Record]:
        """Appends and fsyncs. Raises StateFull (nothing was recorded) or StateError (the disk failed; nothing was recorded)."""
        ticket = _Ticket(drafts)
        with self._queue_lock:
            self._queue.append(ticket)
        with self._commit_lock:
            if not ticket.done:
                with self._queue_lock:
                    batch, self._queue = self._queue, []
                self._commit(batch)
        if isinstance(ticket.error, StateError):
            raise type(ticket.error)(str(ticket.error)) from ticket.error  # one instance a thread: tracebacks are not shared
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    def _commit(self, batch: list[_Ticket]) -> None:
        lines: list[bytes] = []
        made: list[Item] = []
        lc = self._lamport()
        try:
            if self._closed:
                raise StateError(f"the journal {self.folder} is closed")
            now = float(self._clock())
            for ticket in batch:
                try:
                    mine: list[Item] = []
                    encoded: list[bytes] = []
                    for draft in ticket.drafts:
                        number = len(made) + len(mine) + 1
                        record = Record(self._seq + number, draft.id, lc + number, now, self.name, draft.type, records.dump(draft.data))
                        mine.append((record, draft.data))
                        encoded.append(records.encode(record))
                except (TypeError, ValueError) as error:
                    ticket.error = error  # this one alone is unfit; the others go on
                    ticket.done = True
                    continue
                ticket.result = [record for record, _ in mine]
                made += mine
                lines += encoded
            if made:
                self._write(b"".join(lines))
                self._seq = made[-1][0].seq
                self._on_commit(made)
        except BaseException as error:
            for ticket in batch:
                if not ticket.done:
                    ticket.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            for ticket in batch:
                ticket.done = True

    def _write(self, data: bytes) -> None:
        try:
            if self._suspect:
                self._take_back()
            self._ready(len(data))
            assert self._fd is not None
            self._files.write_all(self._fd, data)
            self._files.fsync(self._fd)
        except OSError as error:
            self._suspect = self._fd is not None
            if self._suspect:
                try:
                    self._take_back()
                except OSError as second:
                    log.error("%s: %s; nothing more is accepted until the disk recovers", self._path, second)
            reason = error.strerror or str(error)
            if error.errno in FULL_ERRNOS:
                raise StateFull(f"{self.folder} cannot be written ({reason}): nothing was recorded; free some space and repeat") from error
            raise StateError(f"{self.folder}: the disk failed ({reason}): nothing was recorded; repeat once it works again") from error
        self._size += len(data)

    def _take_back(self) -> None:
        """Cuts what was written beyond the last acknowledged record; the next record starts a new segment."""
        if self._fd is not None:
            self._files.truncate(self._fd, self._size)
            self._files.fsync(self._fd)
            fd, self._fd = self._fd, None
            self._files.close(fd)
        self._suspect = False
        self._roll_next = True

    def _ready(self, extra: int) -> None:
        """Makes ``_fd`` the segment to write to, starting a new one when due."""
        if self._path is None:
            self._roll_next = True
        full = self._size > 0 and self._size + extra > self._segment_bytes
        if self._fd is not None and not full:
            return
        if self._path is not None and not full and not self._roll_next:
            self._fd = self._files.open_append(self._path)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._number() + 1:06d}.jsonl"
        fd = self._files.open_append(path)
        try:
            self._files.fsync_dir(self.folder)
        except OSError:
            self._files.close(fd)
            raise
        old, self._fd = self._fd, fd
        self._path, self._size, self._roll_next = path, 0, False
        if old is not None:
            self._files.close(old)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is appended inside this block."""
        with self._commit_lock:
            yield

    def close(self) -> None:
        """Waits for appends under way, then refuses further ones."""
        with self._commit_lock:
            self._closed = True
            fd, self._fd = self._fd, None
            if fd is not None:
                try:
                    self._files.close(fd)
                except OSError as error:
                    if error.errno != errno.EBADF:
                        log.warning("%s: %s", self._path, error)
