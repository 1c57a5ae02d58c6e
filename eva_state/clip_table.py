"""The rows of the clip index with everything derived from them: bit sets, sort orders, text matches, sums.

It knows nothing of the store or the folder; ``clip_index`` puts rows in and asks. Not thread-safe: the index holds its lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from eva_state.clip_orders import Order, by_name
from eva_state.clip_rows import Bits, Row, day_of, facets_of_pattern, mask_of, rows_of
from eva_state.clip_sets import BUCKETS, LazySets, derived_of
from eva_state.clip_text import TextIndex, in_texts
from eva_state.keys import base_key, covers_others, matches, normalise_pattern

TEXT_QUERIES_KEPT = 64
SORTS = ("newest", "oldest", "score", "manual", "name", "rated")
FLAGS = ("present", "exists", "rated", "marked", "reference", "combo")


@dataclass(frozen=True)
class Search:
    """What to look for; ``None`` means any. ``text``: every word must occur in the name or the prompt, in any case.

    ``exact`` holds facet values such as ``("sampler", "euler")`` or ``("fps", 16)``. Scores are in [0,1], overalls 1..10.
    ``combo`` is a key or a pattern. ``descending`` ``None``: the way that ``sort`` usually runs.
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
    made_from: float | None = None  # unix seconds
    made_to: float | None = None
    names: frozenset[str] | None = None  # only these clips
    combo: str | None = None
    sort: str = "newest"
    descending: bool | None = None


class RowTable(LazySets):
    """Rows by number and by name. A number, once given to a name, stays its own; a row is replaced, never changed."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.numbers: dict[str, int] = {}
        self.sets = {name: Bits() for name in FLAGS}
        self.manual_sum, self.manual_count = 0.0, 0
        self.rated_days: dict[str, int] = {}
        self._facets, self._buckets, self._combos = {}, {}, {}
        self._banned: int | None = None  # rows whose combo is banned by what stands in _ban_keys and _ban_patterns
        self._ban_keys: set[str] = set()
        self._ban_patterns: list[str] = []
        self._orders = {
            "newest": Order(self.rows, lambda row: row.created),
            "score": Order(self.rows, lambda row: row.score),
            "manual": Order(self.rows, lambda row: row.manual),
            "name": Order(self.rows, lambda row: row.name),
            "rated": Order(self.rows, lambda row: row.rated_at),
        }
        self.text = TextIndex()
        self.names: list[str] = []  # in lower case, by number
        self._best: Row | None = None  # of the rows that are present, the one with the highest score
        self._best_known = False
        self._text_log: list[int] = []  # rows whose text changed, in order
        self._text_masks: OrderedDict[str, tuple[int, int]] = OrderedDict()  # word -> (rows, how much of the log they cover)

    def number_of(self, name: str) -> int:
        number = self.numbers.get(name)
        if number is None:
            number = self.numbers[name] = len(self.rows)
            self.rows.append(Row(name))
            self.names.append(name.lower())
            for order in self._orders.values():
                order.insert(number)
        return number

    def row(self, name: str) -> Row:
        return self.rows[self.number_of(name)]

    def put(self, new: Row) -> None:
        """Replaces the row of ``new.name`` and brings everything derived from it in line."""
        number = self.number_of(new.name)
        old = self.rows[number]
        moved = [order for order in self._orders.values() if order.built and order.value_of(old) != order.value_of(new)]
        for order in moved:
            order.remove(number)
        self.rows[number] = new
        for order in moved:
            order.insert(number)
        for name, before, after in (
            ("present", old.present, new.present),
            ("exists", old.file is not None, new.file is not None),
            ("rated", old.rated, new.rated),
            ("marked", old.marked, new.marked),
            ("reference", old.reference, new.reference),
            ("combo", old.combo is not None, new.combo is not None),
        ):
            if before != after:
                self.sets[name].set(number, after)
        self._rederive(number, old, new)
        if new.combo != old.combo and self._banned is not None:
            covered = base_key(new.combo or "") in self._ban_keys or any(
                matches(pattern, new.combo or "") for pattern in self._ban_patterns
            )
            self._banned = self._banned | 1 << number if covered else self._banned & ~(1 << number)
        if new.text != old.text:
            self._text_log.append(number)
            self.text.changed(number, old.text, new.text)
        if self._best_known and old is not self._best and new.present and new.score is not None:
            if self._best is None or (new.score, new.name) > (self._best.score, self._best.name):
                self._best = new
        elif old is self._best:
            self._best_known = False
        if (new.manual, new.rated_at) != (old.manual, old.rated_at):
            self._count_rating(old, -1)
            self._count_rating(new, +1)

    def fill(self, rows: list[Row]) -> None:
        """Puts many rows of different names into an empty table: what :meth:`put` does one by one, in a fraction of the time."""
        assert not self.rows
        self.rows += rows
        self.numbers = {row.name: number for number, row in enumerate(rows)}
        self.names += [row.name.lower() for row in rows]
        for row in rows:
            if row.rated:
                self._count_rating(row, +1)
        del self._facets, self._buckets, self._combos
        flags = {
            "present": [row.present for row in rows],
            "exists": [row.file is not None for row in rows],
            "rated": [row.rated for row in rows],
            "marked": [row.marked for row in rows],
            "reference": [row.reference for row in rows],
            "combo": [row.combo is not None for row in rows],
        }
        self.sets = {name: Bits.where(flags[name]) for name in FLAGS}
        self._text_log = list(range(len(rows)))

    def warm_up(self, lock: AbstractContextManager[Any], pause: Callable[[], bool]) -> None:
        """Builds what questions would otherwise wait for: worked out beside ``lock``, put in place inside it, with ``pause()``
        (True: enough) in between.
        """
        with lock:
            rows = self.rows[:]
        names = by_name(rows, pause)
        for order in self._orders.values():
            blocks = order.blocks_of(rows, names, pause)
            with lock:
                order.build(rows, blocks)
            if pause():
                return
        with lock:
            rows = self.rows[:]
        found = derived_of(rows, pause)
        with lock:
            self.derive(rows, found)
        while not pause():
            with lock:
                if self.text.build_piece(self.rows):
                    return

    def _count_rating(self, row: Row, step: int) -> None:
        if row.manual is not None:
            self.manual_sum += step * row.manual
            self.manual_count += step
        if row.rated_at is not None:
            day = day_of(row.rated_at)
            self.rated_days[day] = self.rated_days.get(day, 0) + step

    # ------------------------------------------------------------ questions
    def in_order(self, mask: int, sort: str, offset: int, limit: int, descending: bool | None = None) -> list[int]:
        """Rows of ``mask`` sorted by one of ``SORTS``, from ``offset``: newest, highest and latest first, names from A to Z,
        unless ``descending`` says otherwise.
        """
        name, usual = ("newest", False) if sort == "oldest" else (sort, sort != "name")
        descending = usual if descending is None else descending
        return self._orders[name].page(mask, descending, offset, limit)

    def best(self) -> Row | None:
        """Of the rows that are present, the one with the highest score."""
        if not self._best_known:
            self._best, self._best_known = self._find_best(self.sets["present"].as_int()), True
        return self._best

    def _find_best(self, mask: int) -> Row | None:
        if "_buckets" not in vars(self):  # nobody has asked for them: one look at every row is much less than making them
            scored = (row for row in self.rows if row.present and row.score is not None)
            return max(scored, key=lambda row: (row.score, row.name), default=None)
        for bucket in sorted((key for key in self._buckets if key[0] == "score"), reverse=True):
            inside = self._buckets[bucket].as_int() & mask
            if inside:
                return max((self.rows[number] for number in rows_of(inside)), key=lambda row: (row.score, row.name))
        return None

    def mask(self, wanted: Search, bans: Callable[[], Iterable[str]]) -> int:
        """The rows that match. ``bans()`` gives the keys and patterns in force."""
        mask = self.sets["present"].as_int()
        for flag, value in (("rated", wanted.rated), ("reference", wanted.reference), ("exists", wanted.exists)):
            if value is not None:
                bits = self.sets[flag].as_int()
                mask &= bits if value else ~bits
        if wanted.banned is not None:
            banned = self.banned_rows(bans) | self.sets["marked"].as_int()
            mask &= banned if wanted.banned else ~banned
        for facet in wanted.exact:
            mask &= _as_int(self._facets.get(facet))
        for kind, low, high, value_of in (
            ("score", wanted.min_score, wanted.max_score, lambda row: row.score),
            ("manual", wanted.min_overall, wanted.max_overall, lambda row: row.manual),
        ):
            if low is not None or high is not None:
                mask &= self._between(kind, low, high, value_of)
        for kind, low, high in (("cfg", wanted.min_cfg, wanted.max_cfg), ("steps", wanted.min_steps, wanted.max_steps)):
            if low is not None or high is not None:
                wide = (facet for facet in self._facets if facet[0] == kind and (low is None or facet[1] >= low))
                mask &= _union(self._facets, (facet for facet in wide if high is None or facet[1] <= high))
        if wanted.combo is not None:
            mask &= self.rows_of_pattern(wanted.combo)
        if wanted.made_from is not None or wanted.made_to is not None:
            mask &= self._orders["newest"].between(wanted.made_from, wanted.made_to)
        if wanted.names is not None:
            mask &= mask_of([number for name in wanted.names if (number := self.numbers.get(name)) is not None])
        for word in words_of(wanted):
            mask &= self._text_mask(word)
        return mask

    def _between(self, kind: str, low: float | None, high: float | None, value_of: Callable[[Row], float | None]) -> int:
        """Rows whose value lies in [low, high]: by their order, or by whole buckets inside and row by row in the two at the edges."""
        if self._orders[kind].built:
            return self._orders[kind].between(low, high)
        scale = BUCKETS[kind]
        bottom, top = (-1.0 if low is None else low * scale), (1e9 if high is None else high * scale)
        whole, edges = 0, 0
        for (bucket_kind, bucket), bits in self._buckets.items():
            if bucket_kind == kind and bottom < bucket + 1 and bucket <= top:
                if bottom <= bucket and bucket + 1 <= top:
                    whole |= bits.as_int()
                else:
                    edges |= bits.as_int()
        values = ((number, value_of(self.rows[number])) for number in rows_of(edges))
        fit = [number for number, v in values if v is not None and (low is None or v >= low) and (high is None or v <= high)]
        return whole | mask_of(fit)

    def unscanned(self, wanted: Search) -> tuple[list[str], int]:
        """Words nobody asked for lately, with what :meth:`remember` needs to learn which rows hold them."""
        return [word for word in words_of(wanted) if word not in self._text_masks], len(self._text_log)

    def remember(self, word: str, mask: int, covered: int) -> None:
        """Which rows hold ``word``, as of the first ``covered`` changes of a text."""
        self._text_masks[word] = (mask, covered)
        while len(self._text_masks) > TEXT_QUERIES_KEPT:
            self._text_masks.popitem(last=False)

    def _text_mask(self, word: str) -> int:
        """Rows whose text holds ``word``: what is remembered, brought up to date by what changed since."""
        mask, covered = self._text_masks.pop(word, (0, -1))
        if covered < 0:
            mask = in_texts(self.rows, word)
        else:
            for number in set(self._text_log[covered:]):
                mask = mask | 1 << number if word in self.rows[number].text else mask & ~(1 << number)
        self.remember(word, mask, len(self._text_log))
        return mask

    def facet_values(self) -> dict[str, set[Any]]:
        """The values that occur, by kind."""
        seen: dict[str, set[Any]] = {}
        for (kind, value), bits in self._facets.items():
            if bits:
                seen.setdefault(kind, set()).add(value)
        return seen

    # ------------------------------------------------------------ bans
    def affected(self, pattern: str) -> dict[str, Any]:
        """What a ban of ``pattern`` touches: clips ``queued`` and ``rated``, ``rated_mean`` (1..10 or None)."""
        mask = self.rows_of_pattern(pattern) & self.sets["present"].as_int()
        rated = mask & self.sets["rated"].as_int()
        marks = [value for number in rows_of(rated) if (value := self.rows[number].manual) is not None]
        return {
            "queued": (mask & ~rated & self.sets["exists"].as_int()).bit_count(),
            "rated": rated.bit_count(),
            "rated_mean": round(sum(marks) / len(marks), 3) if marks else None,
        }

    def bans_changed(self) -> None:
        self._banned = None

    def banned_rows(self, bans: Callable[[], Iterable[str]]) -> int:
        """Rows whose combo is banned, by its key or by a pattern."""
        if self._banned is None:
            keys = set(bans())
            self._ban_patterns = [key for key in keys if covers_others(key)]
            self._ban_keys = keys.difference(self._ban_patterns)
            self._banned = _union(self._combos, (key for key in self._ban_keys if key in self._combos)) if keys else 0
            if keys and self._own:
                self._banned |= _union(self._combos, (key for key in self._combos if "=" in key and base_key(key) in self._ban_keys))
            for pattern in self._ban_patterns:
                self._banned |= self.rows_of_pattern(pattern)
        return self._banned

    def rows_of_pattern(self, pattern: str) -> int:
        """Rows whose combo the key or pattern covers."""
        pattern = normalise_pattern(pattern)
        if not covers_others(pattern):
            exact = _as_int(self._combos.get(pattern))
            return exact | _union(self._combos, (key for key in self._combos if key.startswith(f"{pattern}|"))) if self._own else exact
        if "_facets" not in vars(self):
            return _union(self._combos, (key for key in self._combos if matches(pattern, key)))
        mask = self.sets["combo"].as_int()
        for facet in facets_of_pattern(pattern):
            mask &= _as_int(self._facets.get(facet))
        return mask


def choices_of(seen: Mapping[str, set[Any]]) -> dict[str, list[Any]]:
    """The values that occur, sorted, under the names of filter lists; sizes as ``[w, h]``."""
    names = ("sampler", "scheduler", "fps", "cfg", "steps", "defect", "tag")
    out: dict[str, list[Any]] = {name if name in ("fps", "cfg", "steps") else f"{name}s": sorted(seen.get(name, ())) for name in names}
    out["sizes"] = [list(size) for size in sorted(seen.get("size", ()))]
    return out


def words_of(wanted: Search) -> list[str]:
    return wanted.text.lower().split()


def _as_int(bits: Bits | None) -> int:
    return 0 if bits is None else bits.as_int()


def _union(sets: Mapping[Any, Bits], keys: Iterable[Any]) -> int:
    mask = 0
    for key in keys:
        mask |= sets[key].as_int()
    return mask
