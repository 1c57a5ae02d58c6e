"""Every list, search and count of clips, answered from memory.

A clip is a file of the video folder, an entry of the history, a rating, or what of these there is under one name. The
index follows the store's events and a cheap watch of the folder; no question reads a file. One clip that changes costs
the same at 100 clips and at 100,000.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eva_state.clip_items import search_item, video_item
from eva_state.clip_rows import Judgement, Row, day_of, judgement_of
from eva_state.clip_source import brief_of, load_rows, name_of_entry, row_of
from eva_state.clip_table import SORTS, RowTable, Search, choices_of
from eva_state.clip_text import in_names, in_texts
from eva_state.pace import Pace
from eva_state.predictions import ORDER_FILE, Predictions
from eva_state.video_folder import UNSEEN, ClipFile, VideoFolder

if TYPE_CHECKING:
    from eva_state.store import Change, StateStore

__all__ = ["SORTS", "ClipIndex", "Search"]

log = logging.getLogger(__name__)

LOOKS = 5  # so often a page is put together again because a file on it turned out to be no clip
WARM_AFTER = 0.5  # seconds after the start: who waits for the first answers comes first
LOOKS_A_SCAN = 100  # batches of listed files looked at between two scans of the folder
BREATH = 0.005  # seconds between two pieces of work in the background: whoever asks something meanwhile hardly waits
CHANGES_KEPT = 5000  # a page that slept through more starts afresh


class ClipIndex:
    """Build it, then :meth:`start` the watch of the folder (or call :meth:`refresh`); :meth:`close` ends it. Thread-safe."""

    def __init__(self, store: StateStore, video_dir: Path, *, clock: Callable[[], float] = time.time, scan_interval: float = 1.0):
        self.folder = VideoFolder(video_dir, clock)
        self.predictions = Predictions(store.state_dir / ORDER_FILE)
        self._store = store
        self._clock = clock
        self._scan_interval = scan_interval
        self._lock = threading.RLock()
        self._scan_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pending: deque[Change] = deque()  # the store's changes not yet taken in
        self._table = RowTable()
        self._files: dict[str, ClipFile] = {}
        self._orphans: dict[str, set[str]] = {}  # base name -> names with an entry or rating but no file
        self._adopted: dict[str, str] = {}  # such a name -> the file that stands for it
        self._positions = 0
        self._version = 0
        self._changes: deque[tuple[int, dict[str, Any]]] = deque(maxlen=CHANGES_KEPT)
        self._unsubscribe = store.subscribe(self._pending.append)  # never blocks the store: taken in by whoever asks next
        collecting = gc.isenabled()
        gc.disable()  # a large load only makes objects that stay: looking through them over and over takes a quarter of it
        try:
            with self._lock:
                self._load()
        finally:
            if collecting:
                gc.enable()

    # ------------------------------------------------------------ life
    def start(self) -> ClipIndex:
        """Starts the thread that watches the folder."""
        self._thread = threading.Thread(target=self._watch, name="eva-clip-index", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        self._stop.set()
        self._unsubscribe()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def __enter__(self) -> ClipIndex:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        if not self._stop.wait(min(WARM_AFTER, self._scan_interval)):
            self._table.warm_up(self._lock, Pace(self._stop.wait))
        while not self._stop.wait(self._scan_interval):
            try:
                self.refresh()
            except OSError as error:
                log.warning("looking through %s: %s", self.folder.root, error)

    def refresh(self) -> None:
        """Takes in what changed in the folder and in the store."""
        with self._scan_lock:
            changed, gone = self.folder.scan()
        self.predictions.look()
        with self._lock:
            self._drain()
            for name in gone:
                self._set_file(name, None)
            for name, file in changed.items():
                self._set_file(name, file)
        for _ in range(LOOKS_A_SCAN):
            if not self.folder.unseen or self._stop.is_set():
                break
            with self._scan_lock:
                looked = self.folder.look_at_some()
            with self._lock:
                for name, seen in looked.items():
                    self._look(name, seen)
            self._stop.wait(BREATH)

    # ------------------------------------------------------------ taking in
    def _load(self) -> None:
        with self._scan_lock:
            rows, self._positions, files = load_rows(self._store, self.folder.root, lambda known: self.folder.scan(known)[0])
        self._files = dict(files)
        for name in rows:
            if name not in self._files:
                self._orphans.setdefault(name.rpartition("/")[2], set()).add(name)
        self._table.fill(list(rows.values()))
        for name in self._files:
            if not rows[name].found and self._orphan_for(name) is not None:
                self._refresh(name)

    def _reload(self) -> None:
        """The store read everything anew: so do we, name by name; the files stay."""
        self._orphans.clear()
        self._adopted.clear()
        self._table.bans_changed()
        for row in self._table.rows:
            row.position = -1
        for position, entry in enumerate(self._store.iter_history()):
            self._positions = position + 1
            if (name := name_of_entry(entry, self.folder.root)) is not None:
                self._table.row(name).position = position
        names = list(dict.fromkeys([*self._table.numbers, *(name for name, _ in self._store.iter_ratings())]))
        for name in names:
            self._set_orphan(name)
        for name in names:
            self._refresh(name)
        self._version += 1
        self._changes.clear()

    def _drain(self) -> None:
        while self._pending:
            change = self._pending.popleft()
            if change.kind == "reload":
                self._reload()
                continue
            self._note(change.kind, change.name, change.key, change.event_id)
            if change.kind in ("ban", "unban", "undo", "import"):
                self._table.bans_changed()
            if change.name:
                self._changed(change.name)

    def _changed(self, name: str) -> None:
        row = self._table.row(name)
        if row.position < 0 and self._store.entry(name) is not None:
            row.position, self._positions = self._positions, self._positions + 1
        if name not in self._files and (file := self.folder.look(name)) is not None:
            self._set_file(name, file)
            return
        self._set_orphan(name)
        self._refresh(name)
        if name in self._adopted:
            self._refresh(self._adopted[name])

    def _note(self, kind: str, name: str | None, key: str | None = None, event_id: str | None = None) -> None:
        self._version += 1
        self._changes.append((self._version, {"kind": kind, "name": name, "key": key, "event_id": event_id}))

    def _set_file(self, name: str, file: ClipFile | None) -> None:
        if self._files.get(name) == file:
            return
        if file is not None:
            self._files[name] = file
        else:
            del self._files[name]
        self._set_orphan(name)
        if file is not None and name in self._adopted:  # the file itself came: nobody needs to stand for it
            self._refresh(self._adopted[name])
        self._refresh(name)
        self._note("file" if file is not None else "gone", name)

    def _look(self, name: str, file: ClipFile | None) -> None:
        """Size and time of a file that was only listed so far; None: it is no clip after all."""
        if self._files.get(name) is not UNSEEN:
            return
        row = self._table.rows[self._table.numbers[name]]
        if file is None or row.made is None:
            self._set_file(name, file)
        else:  # nothing is found or sorted by them
            self._files[name] = row.file = file

    def look_at(self, rows: Iterable[Row]) -> bool:
        """Looks at the files of these rows that were only listed so far. False where one is no clip after all: ask again."""
        looked = [(row.name, self.folder.peek(row.name)) for row in rows if row.file is UNSEEN]
        if looked:
            with self._lock:
                for name, file in looked:
                    self._look(name, file)
        return all(file is not None for _, file in looked)

    def _set_orphan(self, name: str) -> None:
        base = name.rpartition("/")[2]
        if name not in self._files and (self._store.entry(name) is not None or self._store.rating(name) is not None):
            self._orphans.setdefault(base, set()).add(name)
        elif base in self._orphans:
            self._orphans[base].discard(name)
            if not self._orphans[base]:
                del self._orphans[base]

    def _orphan_for(self, name: str) -> str | None:
        """The one name without a file that shares this file's base name: an entry from before the file moved."""
        candidates = [other for other in self._orphans.get(name.rpartition("/")[2], ()) if self._adopted.get(other, name) == name]
        return candidates[0] if len(candidates) == 1 else None

    def _refresh(self, name: str) -> None:
        row = self._table.row(name)
        entry, rating, alias, before = self._store.entry(name), self._store.rating(name), None, row.alias
        if entry is None and name in self._files:
            alias = self._orphan_for(name)
        if before is not None and before != alias and self._adopted.get(before) == name:
            del self._adopted[before]
        if alias is not None:
            self._adopted[alias] = name
            entry = self._store.entry(alias)
            rating = rating or self._store.rating(alias)
        position = row.position if alias is None else self._table.row(alias).position
        self._table.put(self._row(name, entry, judgement_of(rating), alias, position))
        for other in {before, alias} - {None} if before != alias else ():
            assert other is not None
            self._refresh(other)  # hides or shows the name that this file stands for, or stood for

    def _row(self, name: str, entry: Mapping[str, Any] | None, judged: Judgement | None, alias: str | None, position: int) -> Row:
        brief = None if entry is None else brief_of(name, entry)
        return row_of(name, brief, judged, alias, position, self._files.get(name), name not in self._adopted)

    # ------------------------------------------------------------ questions
    @property
    def version(self) -> int:
        """Grows with every change of the state or the folder that this process has seen."""
        with self._lock:
            self._drain()
            return self._version

    def changes_since(self, version: int) -> tuple[int, list[dict[str, Any]] | None]:
        """``(version now, changes)``, the latter None when they go back further than what is kept."""
        with self._lock:
            self._drain()
            behind = self._version - version
            if not 0 <= behind <= len(self._changes):
                return self._version, None
            return self._version, [change for number, change in self._changes if number > version] if behind else []

    def row(self, name: str) -> Row | None:
        """What the index holds under a name; None when it never heard of it. Not to be changed."""
        with self._lock:
            self._drain()
            return self._table.row(name) if name in self._table.numbers else None

    def knows(self, name: str) -> bool:
        """Whether there is a clip of that name: a file, an entry or a rating."""
        row = self.row(name)
        return (row is not None and (row.file is not None or row.found or row.rated)) or self.folder.look(name) is not None

    def videos(self, offset: int, limit: int, sort: str = "newest") -> tuple[list[dict[str, Any]], int]:
        """Unrated clips that exist: ``(items from offset, how many in all)``. ``sort`` is one of ``SORTS``."""
        return self._page(Search(rated=False, exists=True, sort=sort), offset, limit, video_item)

    def search(self, wanted: Search, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Clips that match: ``(items from offset, how many in all)``."""
        return self._page(wanted, offset, limit, search_item)

    def _page(self, wanted: Search, offset: int, limit: int, item: Any) -> tuple[list[dict[str, Any]], int]:
        if wanted.text:
            self._look_for(wanted)
        for _ in range(LOOKS):
            with self._lock:
                self._drain()
                mask = self._table.mask(wanted, self._store.bans)
                total = mask.bit_count()
                numbers = self._table.in_order(mask, wanted.sort, offset, limit, wanted.descending) if offset < total else []
                rows = [(self._table.rows[number], is_banned) for number, is_banned in self._with_bans(numbers)]
            if self.look_at(row for row, _ in rows):
                break
        said = self.predictions.latest
        return [item(row, self._store, is_banned, said) for row, is_banned in rows], total

    def _look_for(self, wanted: Search) -> None:
        """Learns which rows hold the words; mostly outside the lock, so that who asks something else does not wait."""
        with self._lock:
            words, covered = self._table.unscanned(wanted)
            names = self._table.names[:] if words else []
            rows = [] if self._table.text.ready else self._table.rows[:]
        for word in words:
            mask = in_texts(rows, word) if rows else in_names(names, word)
            with self._lock:
                if not rows:
                    mask |= self._table.text.in_prompts(word)
                self._table.remember(word, mask, covered)

    def _banned(self) -> int:
        """Rows marked as banned by their rating, and rows whose combo is banned."""
        return self._table.banned_rows(self._store.bans) | self._table.sets["marked"].as_int()

    def _with_bans(self, numbers: list[int]) -> list[tuple[int, bool]]:
        """Each row with whether it is banned."""
        banned = self._banned()
        flags = banned.to_bytes((banned.bit_length() >> 3) + 1, "little")
        return [(n, n >> 3 < len(flags) and bool(flags[n >> 3] >> (n & 7) & 1)) for n in numbers]

    def affected(self, pattern: str) -> dict[str, Any]:
        """What a ban of ``pattern`` touches: clips ``queued`` and ``rated``, ``rated_mean`` (1..10 or None)."""
        with self._lock:
            self._drain()
            return self._table.affected(pattern)

    def options(self) -> dict[str, list[Any]]:
        """Distinct values that occur, for filter lists: ``samplers schedulers fps cfg steps sizes defects tags``; sizes are ``[w, h]``."""
        with self._lock:
            self._drain()
            seen = self._table.facet_values()
        return choices_of(seen)

    def counts(self) -> dict[str, Any]:
        """Counts of clips: ``total existing rated unrated banned reference avg_rating best_score best_clip rated_today``."""
        with self._lock:
            self._drain()
            table, sets = self._table, self._table.sets
            present, exists = sets["present"].as_int(), sets["exists"].as_int()
            rated = sets["rated"].as_int() & present
            best = table.best()
            return {
                "total": present.bit_count(),
                "existing": exists.bit_count(),
                "rated": rated.bit_count(),
                "unrated": (exists & ~rated).bit_count(),
                "banned": (self._banned() & present).bit_count(),
                "reference": (sets["reference"].as_int() & present).bit_count(),
                "avg_rating": round(table.manual_sum / table.manual_count, 4) if table.manual_count else None,
                "best_score": best.score if best is not None else None,
                "best_clip": best.name if best is not None else None,
                "rated_today": table.rated_days.get(day_of(self._clock()), 0),
            }
