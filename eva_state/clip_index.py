"""Every list, search and count of clips, answered from memory.

A clip is a file of the video folder, an entry of the history, a rating, or what of these there is under one name. The
index follows the store's events and a cheap watch of the folder; no question reads a file. One clip that changes costs
the same at 100 clips and at 100,000.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eva_state.clip_items import name_of_entry, search_item, video_item
from eva_state.clip_rows import Bits, Order, Row, combo_of, day_of, defects_of, facets_of, number_or_none, overall_of, rows_of
from eva_state.keys import is_pattern, matches
from eva_state.video_folder import ClipFile, VideoFolder

if TYPE_CHECKING:
    from eva_state.store import StateStore

log = logging.getLogger(__name__)

CHANGES_KEPT = 5000  # a page that slept through more starts afresh
TEXT_QUERIES_KEPT = 64
SORTS = ("newest", "oldest", "score", "manual", "name", "rated")


@dataclass(frozen=True)
class Search:
    """What to look for; ``None`` means any. ``text``: every word must occur in the name or a prompt, in any case.

    ``exact`` holds facet values such as ``("sampler", "euler")`` or ``("fps", 16)``. Scores are in [0,1], overalls 1..10.
    """

    text: str = ""
    rated: bool | None = None
    banned: bool | None = None
    reference: bool | None = None
    exists: bool | None = None
    exact: tuple[tuple[str, Any], ...] = ()
    min_score: float | None = None
    max_score: float | None = None
    min_overall: float | None = None
    max_overall: float | None = None
    min_cfg: float | None = None
    max_cfg: float | None = None
    min_steps: float | None = None
    max_steps: float | None = None
    sort: str = "newest"


class ClipIndex:
    """Build it, then :meth:`start` the watch of the folder (or call :meth:`refresh`); :meth:`close` ends it. Thread-safe."""

    def __init__(self, store: StateStore, video_dir: Path, *, clock: Callable[[], float] = time.time, scan_interval: float = 1.0):
        self.folder = VideoFolder(video_dir, clock)
        self._store = store
        self._clock = clock
        self._scan_interval = scan_interval
        self._lock = threading.RLock()
        self._scan_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pending: deque[Any] = deque()  # the store's changes not yet taken in
        self._rows: list[Row] = []
        self._numbers: dict[str, int] = {}
        self._orphans: dict[str, set[str]] = {}  # base name -> names with an entry or rating but no file
        self._adopted: dict[str, str] = {}  # such a name -> the file that stands for it
        self._sets = {name: Bits() for name in ("present", "exists", "rated", "marked", "reference", "found")}
        self._facets: dict[tuple[str, Any], Bits] = {}
        self._combos: dict[str, Bits] = {}
        self._banned_mask: int | None = None
        self._orders = {
            "newest": Order(lambda row: (row.created, row.name)),
            "score": Order(lambda row: row.score),
            "manual": Order(lambda row: row.manual),
            "name": Order(lambda row: row.name),
            "rated": Order(lambda row: row.rated_at),
        }
        self._built: set[str] = set()
        self._params_cache: dict[Any, tuple[str | None, tuple[tuple[str, Any], ...]]] = {}
        self._text_log: list[int] = []  # rows whose text changed, in order
        self._text_masks: OrderedDict[str, tuple[int, int]] = OrderedDict()  # word -> (rows, how much of the log they cover)
        self._manual_sum, self._manual_count = 0.0, 0
        self._rated_days: dict[str, int] = {}
        self._positions = 0
        self._version = 0
        self._changes: deque[tuple[int, dict[str, Any]]] = deque(maxlen=CHANGES_KEPT)
        store.subscribe(self._pending.append)
        with self._lock:
            self._load()

    # ------------------------------------------------------------ life
    def start(self) -> ClipIndex:
        """Starts the thread that watches the folder."""
        self._thread = threading.Thread(target=self._watch, name="eva-clip-index", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def __enter__(self) -> ClipIndex:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        while not self._stop.wait(self._scan_interval):
            try:
                self.refresh()
            except OSError as error:
                log.warning("looking through %s: %s", self.folder.root, error)

    def refresh(self) -> None:
        """Takes in what changed in the folder and in the store."""
        with self._scan_lock:
            changed, gone = self.folder.scan()
        with self._lock:
            self._drain()
            for name in gone:
                self._set_file(name, None)
            for name, file in changed.items():
                self._set_file(name, file)

    # ------------------------------------------------------------ taking in
    def _load(self) -> None:
        with self._scan_lock:
            changed, _ = self.folder.scan()
        entries: dict[str, tuple[int, Mapping[str, Any]]] = {}
        for position, entry in enumerate(self._store.history()):
            if (name := name_of_entry(entry, self.folder.root)) is not None:
                entries[name] = (position, entry)
            self._positions = position + 1
        ratings = self._store.ratings()
        missing = dict.fromkeys([*entries, *ratings])
        for name in missing:
            if name not in changed:
                self._orphans.setdefault(name.rpartition("/")[2], set()).add(name)
        for name in dict.fromkeys([*missing, *changed]):
            row = self._rows[self._number_of(name)]
            row.file = changed.get(name)
            found = entries.get(name)
            entry = found[1] if found is not None else None
            row.position = found[0] if found is not None else -1
            if entry is None and row.file is not None and (alias := self._orphan_for(name)) is not None:
                self._refresh(name)
                self._refresh(alias)
            else:
                self._apply(name, entry, ratings.get(name), None)

    def _drain(self) -> None:
        while self._pending:
            change = self._pending.popleft()
            if change.kind == "reload":
                self._reload()
                continue
            self._note(change.kind, change.name, change.key, change.event_id)
            if change.kind in ("ban", "unban", "undo", "import"):
                self._banned_mask = None
            if change.name:
                name = change.name
                number = self._number_of(name)
                row = self._rows[number]
                if row.position < 0 and self._store.entry(name) is not None:
                    row.position, self._positions = self._positions, self._positions + 1
                if row.file is None and (file := self.folder.look(name)) is not None:
                    self._set_file(name, file)
                else:
                    self._set_orphan(name)
                    self._refresh(name)
                    if name in self._adopted:
                        self._refresh(self._adopted[name])

    def _reload(self) -> None:
        """The store read everything anew: so do we, row by row, which keeps the files."""
        for number, row in enumerate(self._rows):
            row.position = -1
            self._set_orphan(row.name)
            self._text_log.append(number)
        self._banned_mask = None
        for position, entry in enumerate(self._store.history()):
            if (name := name_of_entry(entry, self.folder.root)) is not None:
                self._rows[self._number_of(name)].position = position
                self._positions = position + 1
        for name in dict.fromkeys([*self._numbers, *self._store.ratings()]):
            self._number_of(name)
            self._refresh(name)
        self._version += 1
        self._changes.clear()

    def _note(self, kind: str, name: str | None, key: str | None = None, event_id: str | None = None) -> None:
        self._version += 1
        self._changes.append((self._version, {"kind": kind, "name": name, "key": key, "event_id": event_id}))

    def _number_of(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._rows)
            self._rows.append(Row(name))
        return number

    def _set_file(self, name: str, file: ClipFile | None) -> None:
        row = self._rows[self._number_of(name)]
        if row.file == file:
            return
        row.file = file
        alias = row.alias
        self._set_orphan(name)
        if file is not None and name in self._adopted:  # the file itself came: nobody needs to stand for it
            self._refresh(self._adopted.pop(name))
        self._refresh(name)
        for other in {alias, row.alias}:
            if other is not None:
                self._refresh(other)
        self._note("file" if file is not None else "gone", name)

    def _set_orphan(self, name: str) -> None:
        row, base = self._rows[self._number_of(name)], name.rpartition("/")[2]
        if row.file is None and (self._store.entry(name) is not None or self._store.rating(name) is not None):
            self._orphans.setdefault(base, set()).add(name)
        elif base in self._orphans:
            self._orphans[base].discard(name)

    def _orphan_for(self, name: str) -> str | None:
        """The one name without a file that shares this file's base name: an entry from before the folder moved."""
        candidates = [other for other in self._orphans.get(name.rpartition("/")[2], ()) if self._adopted.get(other, name) == name]
        return candidates[0] if len(candidates) == 1 else None

    def _refresh(self, name: str) -> None:
        row = self._rows[self._number_of(name)]
        entry, rating, alias = self._store.entry(name), self._store.rating(name), None
        if entry is None and row.file is not None:
            alias = self._orphan_for(name)
        if row.alias is not None and row.alias != alias:
            self._adopted.pop(row.alias, None)
        if alias is not None:
            self._adopted[alias] = name
            entry = self._store.entry(alias)
            rating = rating or self._store.rating(alias)
            row.position = self._rows[self._number_of(alias)].position
        self._apply(name, entry, rating, alias)

    def _apply(self, name: str, entry: Mapping[str, Any] | None, item: Mapping[str, Any] | None, alias: str | None) -> None:
        """Brings the row of ``name``, and everything that is derived from it, in line."""
        number = self._numbers[name]
        row = self._rows[number]
        rating = item.get("rating") if item is not None else None
        rating = rating if isinstance(rating, Mapping) else None
        was_rated_at, was_manual, was_facets, was_combo, was_text = row.rated_at, row.manual, row.facets, row.combo, row.text
        row.alias, row.found = alias, entry is not None
        row.made = number_or_none((entry or {}).get("timestamp"))
        row.score = number_or_none((entry or {}).get("score"))
        row.manual, row.rated = overall_of(rating), rating is not None
        row.rated_at = number_or_none((item or {}).get("timestamp")) if row.rated else None
        row.marked = bool(rating and rating.get("banned") is True)
        row.reference = bool(rating and rating.get("is_reference") is True)
        row.combo, facets = self._derived(entry)
        row.facets = (*facets, *defects_of(rating), *_buckets(row))
        prompts = [value for key in ("prompt", "negative_prompt") if isinstance(value := (entry or {}).get(key), str)]
        row.text = "\n".join([name, *prompts]).lower()
        present = row.file is not None or ((row.found or row.rated) and name not in self._adopted)
        flags = {
            "present": present,
            "exists": row.file is not None,
            "rated": row.rated,
            "marked": row.marked,
            "reference": row.reference,
            "found": row.found,
        }
        for flag, value in flags.items():
            self._sets[flag].set(number, value)
        if row.facets != was_facets:
            for facet in was_facets:
                self._facets[facet].set(number, False)
            for facet in row.facets:
                self._facets.setdefault(facet, Bits()).set(number)
        if row.combo != was_combo:
            if was_combo is not None:
                self._combos[was_combo].set(number, False)
            if row.combo is not None:
                self._combos.setdefault(row.combo, Bits()).set(number)
            self._banned_mask = None
        if row.text != was_text:
            self._text_log.append(number)
        for sort in self._built:
            self._orders[sort].update(number, row)
        self._count_rating(was_manual, was_rated_at, -1)
        self._count_rating(row.manual, row.rated_at, +1)

    def _count_rating(self, manual: float | None, rated_at: float | None, step: int) -> None:
        if manual is not None:
            self._manual_sum += step * manual
            self._manual_count += step
        if rated_at is not None:
            day = day_of(rated_at)
            self._rated_days[day] = self._rated_days.get(day, 0) + step

    def _derived(self, entry: Mapping[str, Any] | None) -> tuple[str | None, tuple[tuple[str, Any], ...]]:
        params = (entry or {}).get("params")
        if not isinstance(params, Mapping):
            return None, ()
        key = tuple(str(params.get(name)) for name in ("sampler", "scheduler", "fps", "cfg_scale", "cfg", "steps", "width", "height"))
        known = self._params_cache.get(key)
        if known is None:
            if len(self._params_cache) > 200_000:
                self._params_cache.clear()
            known = self._params_cache[key] = combo_of(entry), facets_of(params)
        return known

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
            if behind < 0 or behind > len(self._changes):
                return self._version, None
            return self._version, [change for number, change in self._changes if number > version] if behind else []

    def knows(self, name: str) -> bool:
        """Whether there is a clip of that name: a file, an entry or a rating."""
        with self._lock:
            self._drain()
            number = self._numbers.get(name)
            known = number is not None and (number in self._sets["present"] or self._rows[number].found)
        return known or self.folder.look(name) is not None

    def row(self, name: str) -> Row | None:
        with self._lock:
            self._drain()
            number = self._numbers.get(name)
            return self._rows[number] if number is not None else None

    def videos(self, offset: int, limit: int, sort: str = "newest") -> tuple[list[dict[str, Any]], int]:
        """Unrated clips that exist: ``(items from offset, how many in all)``. ``sort`` is newest, oldest, score or name."""
        return self._page(Search(rated=False, exists=True, sort=sort), offset, limit, video_item)

    def search(self, wanted: Search, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Clips that match: ``(items from offset, how many in all)``."""
        return self._page(wanted, offset, limit, search_item)

    def _page(self, wanted: Search, offset: int, limit: int, item: Any) -> tuple[list[dict[str, Any]], int]:
        with self._lock:
            self._drain()
            mask = self._mask(wanted)
            total = mask.bit_count()
            rows = [self._rows[number] for number in self._in_order(mask, wanted.sort, offset, limit)] if offset < total else []
            banned = {row.name for row in rows if row.marked or self._is_banned(self._numbers[row.name])}
        return [item(row, self._store, row.name in banned) for row in rows], total

    def _in_order(self, mask: int, sort: str, offset: int, limit: int) -> list[int]:
        name, descending = ("newest", False) if sort == "oldest" else (sort, sort != "name")
        if name not in self._built:
            self._orders[name].build(self._rows)
            self._built.add(name)
        order = self._orders[name]
        out, found = order.page(mask, descending, offset, limit)
        if len(out) < limit:  # those without a value come last, in the order in which they became known
            rest = [number for number in rows_of(mask) if not order.known(number)]
            start = max(0, offset - found)
            out += rest[start : start + limit - len(out)]
        return out

    def _mask(self, wanted: Search) -> int:
        mask = self._sets["present"].as_int()
        for flag, value in (("rated", wanted.rated), ("reference", wanted.reference), ("exists", wanted.exists)):
            if value is not None:
                bits = self._sets[flag].as_int()
                mask &= bits if value else ~bits
        if wanted.banned is not None:
            banned = self._banned_rows() | self._sets["marked"].as_int()
            mask &= banned if wanted.banned else ~banned
        for facet in wanted.exact:
            bits_of = self._facets.get(facet)
            mask &= bits_of.as_int() if bits_of is not None else 0
        for kind, low, high, value_of in (
            ("score bucket", wanted.min_score, wanted.max_score, lambda row: row.score),
            ("manual bucket", wanted.min_overall, wanted.max_overall, lambda row: row.manual),
        ):
            if low is not None or high is not None:
                mask &= self._between(kind, low, high, value_of)
        for kind, low, high in (("cfg", wanted.min_cfg, wanted.max_cfg), ("steps", wanted.min_steps, wanted.max_steps)):
            if low is not None or high is not None:
                mask &= self._union(
                    facet
                    for facet in self._facets
                    if facet[0] == kind and (low is None or facet[1] >= low) and (high is None or facet[1] <= high)
                )
        for word in wanted.text.lower().split():
            if not mask:
                break
            mask &= self._text_mask(word)
        return mask

    def _union(self, facets: Iterable[tuple[str, Any]]) -> int:
        mask = 0
        for facet in facets:
            mask |= self._facets[facet].as_int()
        return mask

    def _between(self, kind: str, low: float | None, high: float | None, value_of: Callable[[Row], float | None]) -> int:
        """Rows whose value lies in [low, high]: whole buckets inside, row by row in the two at the edges."""
        scale = _BUCKETS[kind]
        first = -1 if low is None else _bucket(low, scale)
        last = 10**9 if high is None else _bucket(high, scale)
        mask = self._union(facet for facet in self._facets if facet[0] == kind and first < facet[1] < last)
        for edge in {first, last}:
            bits = self._facets.get((kind, edge))
            for number in rows_of(bits.as_int()) if bits is not None else ():
                value = value_of(self._rows[number])
                if value is not None and (low is None or value >= low) and (high is None or value <= high):
                    mask |= 1 << number
        return mask

    def _text_mask(self, word: str) -> int:
        """Rows whose text holds ``word``; kept for the next question and brought up to date by what changed since."""
        mask, covered = self._text_masks.pop(word, (0, 0))
        if covered == 0:
            data = bytearray((len(self._rows) >> 3) + 1)
            for number, row in enumerate(self._rows):
                if word in row.text:
                    data[number >> 3] |= 1 << (number & 7)
            mask = int.from_bytes(data, "little")
        else:
            for number in self._text_log[covered:]:
                bit = 1 << number
                mask = mask | bit if word in self._rows[number].text else mask & ~bit
        self._text_masks[word] = (mask, len(self._text_log))
        while len(self._text_masks) > TEXT_QUERIES_KEPT:
            self._text_masks.popitem(last=False)
        return mask

    # ------------------------------------------------------------ bans
    def _banned_rows(self) -> int:
        """Rows whose combo is banned, by its key or by a pattern."""
        if self._banned_mask is None:
            bans = self._store.bans()
            patterns = [key for key in bans if is_pattern(key)]
            self._banned_mask = 0
            for combo, bits in self._combos.items():
                if combo in bans or any(matches(pattern, combo) for pattern in patterns):
                    self._banned_mask |= bits.as_int()
        return self._banned_mask

    def _is_banned(self, number: int) -> bool:
        return bool(self._banned_rows() >> number & 1)

    def affected(self, pattern: str) -> dict[str, Any]:
        """What a ban of ``pattern`` touches: clips ``queued`` and ``rated``, ``rated_mean`` (1..10 or None), ``combos`` tried."""
        with self._lock:
            self._drain()
            combos = [combo for combo in self._combos if matches(pattern, combo)] if is_pattern(pattern) else [pattern]
            mask = 0
            for combo in combos:
                if combo in self._combos:
                    mask |= self._combos[combo].as_int()
            mask &= self._sets["present"].as_int()
            rated = mask & self._sets["rated"].as_int()
            marks = [value for number in rows_of(rated) if (value := self._rows[number].manual) is not None]
            return {
                "queued": (mask & ~rated & self._sets["exists"].as_int()).bit_count(),
                "rated": rated.bit_count(),
                "rated_mean": round(sum(marks) / len(marks), 3) if marks else None,
                "combos": len([combo for combo in combos if self._combos.get(combo)]),
            }

    # ------------------------------------------------------------ summaries
    def options(self) -> dict[str, list[Any]]:
        """Distinct values that occur, for filter lists: ``samplers schedulers fps cfg steps sizes defects``; sizes are ``[w, h]``."""
        with self._lock:
            self._drain()
            seen: dict[str, set[Any]] = {}
            for (kind, value), bits in self._facets.items():
                if bits:
                    seen.setdefault(kind, set()).add(value)
        kinds = {"samplers": "sampler", "schedulers": "scheduler", "fps": "fps", "cfg": "cfg", "steps": "steps", "defects": "defect"}
        out: dict[str, list[Any]] = {name: sorted(seen.get(kind, ())) for name, kind in kinds.items()}
        out["sizes"] = [list(size) for size in sorted(seen.get("size", ()))]
        return out

    def counts(self) -> dict[str, Any]:
        """Counts of clips: ``total existing rated unrated banned reference avg_rating best_score best_clip rated_today``."""
        with self._lock:
            self._drain()
            present, exists = self._sets["present"].as_int(), self._sets["exists"].as_int()
            rated = self._sets["rated"].as_int() & present
            best = self._in_order(present, "score", 0, 1) if present else []
            row = self._rows[best[0]] if best else None
            return {
                "total": present.bit_count(),
                "existing": exists.bit_count(),
                "rated": rated.bit_count(),
                "unrated": (exists & ~rated).bit_count(),
                "banned": ((self._banned_rows() | self._sets["marked"].as_int()) & present).bit_count(),
                "reference": (self._sets["reference"].as_int() & present).bit_count(),
                "avg_rating": round(self._manual_sum / self._manual_count, 4) if self._manual_count else None,
                "best_score": row.score if row is not None else None,
                "best_clip": row.name if row is not None and row.score is not None else None,
                "rated_today": self._rated_days.get(day_of(self._clock()), 0),
            }


_BUCKETS = {"score bucket": 100.0, "manual bucket": 2.0}  # buckets a unit


def _bucket(value: float, scale: float) -> int:
    return int(min(max(value * scale, 0.0), 1e6))


def _buckets(row: Row) -> tuple[tuple[str, Any], ...]:
    out: list[tuple[str, Any]] = []
    if row.score is not None:
        out.append(("score bucket", _bucket(row.score, _BUCKETS["score bucket"])))
    if row.manual is not None:
        out.append(("manual bucket", _bucket(row.manual, _BUCKETS["manual bucket"])))
    return tuple(out)
