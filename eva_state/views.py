"""Publishes the views: off the request path, coalesced, whole or not at all.

One process publishes at a time (``journal/locks/publish.lock``); the other takes over when it ends or dies. A new
version is written to a unique temporary file, fsynced, noted in ``journal/published.json`` and renamed over the
old one; then the folder is fsynced. The note tells afterwards whether a file is as EVA left it (same inode, size and
modification time) and which records it contains; what differs was written by somebody else and is taken in
(``hand_edits``).
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eva_env_base import StateError
from eva_state import documents, hand_edits
from eva_state.files import Files
from eva_state.guard import Guard
from eva_state.layouts import ViewSet
from eva_state.published import DIGEST, Stamp, digest_of, note_of, read_note, stamp_of, version_on_disk

if TYPE_CHECKING:
    from eva_state.store import StateStore

log = logging.getLogger(__name__)
MAX_LAG_SECONDS = 2.0  # the contract's; the interval is kept below half of it
_KEEP_OPEN = os.name != "nt"  # Windows renames no open file: there every version is encoded whole
GRACE_SECONDS = 1.0  # a file that cannot be parsed may still be being written this long after its last change
UNDISTURBED_SECONDS = 5.0  # after a start; then files that lack nothing are looked through as well, for the first change to be quick


class Publisher:
    """Owns the view files while it holds the publish lock."""

    def __init__(self, store: StateStore, files: Files, interval: float, clock: Callable[[], float]):
        self._store = store
        self._dir = store.state_dir
        self._note_path = note_of(store.state_dir)
        self._files = files
        self._interval = min(interval, MAX_LAG_SECONDS / 2)
        self._clock = clock
        self._guard = Guard(store.state_dir / "journal" / "locks", "publish", clock=clock, takeover=store.takeover)
        self._views = ViewSet(lambda: store._model, store._lock)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._rebuild = True
        self._acquired = 0.0
        self._current_form = False  # the files on disk were written by this version of EVA, or one that writes the same
        self._replaced = False  # the published files may hold records that no longer exist
        self._fds: dict[str, int] = {}  # the published files, open to copy from
        self._stamps: dict[str, Stamp] = {}
        self._applied: dict[str, dict[str, int]] = {}  # what each published file contains
        self._digests: dict[str, tuple[Stamp, str]] = {}  # of files as they were last read for it
        self._failed = ""
        self._thread = threading.Thread(target=self._run, name="eva-state-publish", daemon=True)

    # ------------------------------------------------------------ life
    def start(self) -> None:
        """Takes in legacy files and hand edits at once, then publishes in the background."""
        with self._lock:
            while self._acquire() and self._take_in_edits():
                time.sleep(GRACE_SECONDS / 10)  # a file is broken or half written: time tells which
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.flush()
            self._stop.wait(self._interval)

    def close(self) -> None:
        """Brings the views up to date (if this process publishes) and gives the lock back."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            self._store.poll()  # what another process recorded last, which may have ended by now
        except (OSError, StateError) as error:
            log.error("%s: the other journals cannot be read now: %s", self._dir, error)
        self.flush()
        with self._lock:
            if self._guard.held:
                self._seal()
            for view in list(self._fds):
                self._forget(view)
            self._guard.release()

    def _seal(self) -> None:
        """Notes what the files hold, so that a copy of the folder is known for what it is without being compared item by item."""
        try:
            fresh = False
            for view, stamp in self._stamps.items():
                if view in self._digests and self._digests[view][0] == stamp:
                    continue
                found = digest_of(self._dir / view)
                if found is not None and found[0] == stamp:
                    self._digests[view], fresh = found, True
            if fresh:
                self._note({}, {})
        except OSError as error:
            log.info("%s: what the views hold cannot be noted: %s", self._dir, error)

    def model_replaced(self) -> None:
        """The store read everything anew, because records were taken back."""
        self._rebuild = self._replaced = True

    @property
    def publishing(self) -> bool:
        return self._guard.held

    def _acquire(self) -> bool:
        if self._guard.held:
            return True
        if not self._guard.try_acquire():
            return False
        self._rebuild = True
        self._stamps, self._applied = {}, {}
        self._clear_away()
        self._acquired = time.monotonic()
        self._current_form = read_note(self._note_path).form == documents.FORM
        return True

    def _clear_away(self) -> None:
        """Unfinished files of processes that died: only who holds the lock makes such files."""
        left = [path for view in documents.VIEWS for path in self._dir.glob(f".{view}.*.tmp")]
        left += self._note_path.parent.glob(f".{self._note_path.name}.*.tmp")
        for path in left:
            try:
                self._files.unlink(path)
            except OSError as error:
                log.warning("%s, left by a process that died, cannot be removed: %s", path, error)

    # ------------------------------------------------------------ publishing
    def flush(self) -> bool:
        """Takes in hand edits and publishes what changed. False when another process publishes or the disk refuses."""
        done = self._flush()
        self._store.deliver()  # outside the lock: a subscriber may call flush
        return done

    def _flush(self) -> bool:
        with self._lock:
            try:
                if not self._acquire():
                    return False
                self._publish(self._take_in_edits())
            except (OSError, StateError) as error:
                if str(error) != self._failed:
                    log.error("%s: the views cannot be brought up to date now: %s", self._dir, error)
                self._failed = str(error)
                return False
            if self._failed:
                log.info("%s: the views are up to date again", self._dir)
                self._failed = ""
            return True

    def _publish(self, waiting: set[str]) -> None:
        if self._rebuild and not self._prepare():
            return
        applied = self._views.take_changes()
        due = [view for view in documents.VIEWS if (view in self._views.due or not (self._dir / view).exists()) and view not in waiting]
        if not due:
            return
        for view in self._stamps:
            if view not in self._views.due:
                self._applied[view] = applied  # nothing newer concerns it
        fds: dict[str, int] = {}
        ready: list[tuple[str, Path, int, Stamp, Callable[[], None]]] = []
        try:
            for view in due:
                ready.append(self._write(view, applied))
                fds[view] = ready[-1][2]
            self._note({view: stamp for view, _, _, stamp, _ in ready}, applied)
            for view, temporary, _, stamp, done in ready:
                if not self._unchanged(view):
                    continue  # somebody wrote it since: theirs is taken in first, ours follows at the next round
                if not _KEEP_OPEN:
                    os.close(fds.pop(view))
                self._files.replace(temporary, self._dir / view)
                self._stamps[view], self._applied[view] = stamp, applied
                if _KEEP_OPEN:
                    self._forget(view)
                    self._fds[view] = fds.pop(view)
                self._views.due.discard(view)
                done()
            self._files.fsync_dir(self._dir)
        finally:
            for fd in fds.values():
                os.close(fd)
            for _, temporary, _, _, _ in ready:
                self._files.unlink(temporary)

    def _prepare(self) -> bool:
        """Finds out what the published files lack and what lies where in them. False when that can wait: they lack nothing."""
        with self._store._lock:
            model = self._store._model
            base, newest, idle = dict(model.base), dict(model.applied), not model.dirty
        # Files of another time (or of a journal that lost records) are written anew.
        usable = [
            view
            for view in documents.VIEWS
            if self._current_form
            and not self._replaced
            and view not in self._views.due
            and self._intact(view)
            and all(self._applied[view].get(writer, 0) >= seq for writer, seq in base.items())
            and all(newest.get(writer, 0) >= seq for writer, seq in self._applied[view].items())
        ]
        just_started = time.monotonic() - self._acquired < UNDISTURBED_SECONDS
        if idle and just_started and not self._views.due and len(usable) == len(documents.VIEWS):
            return False
        self._rebuild = self._replaced = False
        for view in list(self._fds):
            self._forget(view)
        published: dict[str, int | None] = {view: self._reopen(view) for view in usable}
        self._views.rebuild(published)
        return True

    def _reopen(self, view: str) -> int | None:
        """The published file, to copy from."""
        if not _KEEP_OPEN:
            return None
        fd = os.open(self._dir / view, os.O_RDONLY)
        if stamp_of(os.fstat(fd)) != self._stamps[view]:
            os.close(fd)
            return None
        self._fds[view] = fd
        return fd

    def _write(self, view: str, applied: dict[str, int]) -> tuple[str, Path, int, Stamp, Callable[[], None]]:
        old = self._fds.get(view)
        if old is not None and stamp_of(os.fstat(old))[1:] != self._stamps[view][1:]:
            self._views.layouts[view].forget()  # written in place by somebody else: nothing to copy from
            old = None
        temporary = self._dir / f".{view}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
        fd = self._files.open_new(temporary)
        try:
            done = self._views.layouts[view].write(self._views.parts(view, applied), old, fd, self._files)
            self._files.fsync(fd)
            stamp = stamp_of(os.fstat(fd))
        except BaseException:
            os.close(fd)
            self._files.unlink(temporary)
            raise
        return view, temporary, fd, stamp, done

    def _forget(self, view: str) -> None:
        fd = self._fds.pop(view, None)
        if fd is not None:
            os.close(fd)

    def _unchanged(self, view: str) -> bool:
        """The file is the one last published, or there is none."""
        try:
            return stamp_of((self._dir / view).stat()) == self._stamps.get(view)
        except FileNotFoundError:
            return True

    def _intact(self, view: str) -> bool:
        return view in self._stamps and (self._dir / view).exists() and self._unchanged(view)

    # ------------------------------------------------------------ the note
    def _note(self, new: dict[str, Stamp], applied: dict[str, int]) -> None:
        """Says, before the renames, what each file is and what it is about to become."""
        views: dict[str, list[Any]] = {}
        for view in documents.VIEWS:
            versions: list[dict[str, Any]] = []
            if view in self._stamps:
                versions = [{"stamp": self._stamps[view], "applied": self._applied[view]}]
                known, digest = self._digests.get(view, (None, ""))
                if known == self._stamps[view]:
                    versions[0][DIGEST] = digest
            if view in new:
                versions.append({"stamp": new[view], "applied": applied})
            views[view] = versions
        self._files.write_file(self._note_path, json.dumps({"form": documents.FORM, "views": views}).encode())

    # ------------------------------------------------------------ hand edits
    def _take_in_edits(self) -> set[str]:
        """Takes in what others wrote into the views. Returns the views that are just being written by somebody."""
        note: dict[str, list[dict[str, Any]]] | None = None
        waiting: set[str] = set()
        changed: list[hand_edits.Edited] = []
        stamps: dict[str, Stamp] = {}
        for view in documents.VIEWS:
            path = self._dir / view
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            stamp = stamp_of(status)
            if stamp == self._stamps.get(view):
                continue
            if view not in self._stamps:
                note = read_note(self._note_path).views if note is None else note
                known = version_on_disk(path, status, note.get(view, []))
                if known is not None:
                    self._stamps[view], self._applied[view] = stamp, known["applied"]
                    if known.get(DIGEST):
                        self._digests[view] = (stamp, known[DIGEST])
                    continue
                base = note[view][-1]["applied"] if note.get(view) else None
            else:
                base = self._applied[view]
            content = self._read_edited(path, status)
            if content is hand_edits.NOT_YET:
                waiting.add(view)
                continue
            if content is hand_edits.BROKEN:
                self._views.due.add(view)
                continue
            changed.append(hand_edits.Edited(view, content, base))
            stamps[view] = stamp
        if changed:
            hand_edits.take_in(self._store, changed, self._files)
        for view, stamp in stamps.items():  # only now: had the disk refused, they would be taken in again
            self._stamps[view], self._applied[view] = stamp, {}
            self._forget(view)  # written in place, perhaps: there is nothing of ours left to copy from
            self._views.due.add(view)
        return waiting

    def _read_edited(self, path: Path, status: os.stat_result) -> Any:
        try:
            return json.loads(path.read_bytes())  # UTF-8, -16 or -32, with or without BOM
        except (ValueError, RecursionError) as error:
            if time.time() - status.st_mtime < GRACE_SECONDS and not self._stop.is_set():
                return hand_edits.NOT_YET
            kept = path.with_name(f"{path.name}.broken-{time.strftime('%Y%m%d-%H%M%S', time.localtime(self._clock()))}")
            while kept.exists():
                kept = kept.with_name(kept.name + "x")
            self._files.replace(path, kept)
            self._files.fsync_dir(self._dir)
            self._store.report(path, f"cannot be parsed ({error}); rebuilt from the journal", kept)
            return hand_edits.BROKEN
