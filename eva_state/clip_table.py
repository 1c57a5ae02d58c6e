"""The rows of the clip index with everything derived from them: bit sets, sort orders, text matches, sums.

It knows nothing of the store or the folder; ``clip_index`` puts rows in and asks. Not thread-safe: the index holds its lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eva_state.clip_rows import Bits, Order, Row, day_of, rows_of
from eva_state.keys import is_pattern, matches

TEXT_QUERIES_KEPT = 64
SORTS = ("newest", "oldest", "score", "manual", "name", "rated")
FLAGS = ("present", "exists", "rated", "marked", "reference")
_BUCKETS = {"score bucket": 100.0, "manual bucket": 2.0}  # buckets a unit


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


class RowTable:
    """Rows by number and by name. A number, once given to a name, stays its own."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.numbers: dict[str, int] = {}
        self.sets = {name: Bits() for name in FLAGS}
        self.combos: dict[str, Bits] = {}
        self.manual_sum, self.manual_count = 0.0, 0
        self.rated_days: dict[str, int] = {}
        self._facets: dict[tuple[str, Any], Bits] = {}
        self._banned_mask: int | None = None
        self._orders = {
            "newest": Order(lambda row: (row.created, row.name)),
            "score": Order(lambda row: row.score),
            "manual": Order(lambda row: row.manual),
            "name": Order(lambda row: row.name),
            "rated": Order(lambda row: row.rated_at),
        }
        self._built: set[str] = set()
        self._text_log: list[int] = []  # rows whose text changed, in order
        self._text_masks: OrderedDict[str, tuple[int, int]] = OrderedDict()  # word -> (rows, how much of the log they cover)

    def number_of(self, name: str) -> int:
        number = self.numbers.get(name)
        if number is None:
            number = self.numbers[name] = len(self.rows)
            self.rows.append(Row(name))
        return number

    def row(self, name: str) -> Row:
        return self.rows[self.number_of(name)]

    def put(self, new: Row) -> None:
        """Replaces the row of ``new.name`` and brings everything derived from it in line."""
        number = self.number_of(new.name)
        old = self.rows[number]
        self.rows[number] = new
        new.facets = (*new.facets, *_buckets(new))
        flags = {"present": new.present, "exists": new.file is not None, "rated": new.rated, "marked": new.marked}
        for flag, value in {**flags, "reference": new.reference}.items():
            self.sets[flag].set(number, value)
        if new.facets != old.facets:
            for facet in old.facets:
                self._facets[facet].set(number, False)
            for facet in new.facets:
                self._facets.setdefault(facet, Bits()).set(number)
        if new.combo != old.combo:
            if old.combo is not None:
                self.combos[old.combo].set(number, False)
            if new.combo is not None:
                self.combos.setdefault(new.combo, Bits()).set(number)
            self.bans_changed()
        if new.text != old.text:
            self._text_log.append(number)
        for sort in self._built:
            self._orders[sort].update(number, new)
        self._count_rating(old, -1)
        self._count_rating(new, +1)

    def _count_rating(self, row: Row, step: int) -> None:
        if row.manual is not None:
            self.manual_sum += step * row.manual
            self.manual_count += step
        if row.rated_at is not None:
            day = day_of(row.rated_at)
            self.rated_days[day] = self.rated_days.get(day, 0) + step

    def in_order(self, mask: int, sort: str, offset: int, limit: int) -> list[int]:
        name, descending = ("newest", False) if sort == "oldest" else (sort, sort != "name")
        if name not in self._built:
            self._orders[name].build(self.rows)
            self._built.add(name)
        order = self._orders[name]
        out, found = order.page(mask, descending, offset, limit)
        if len(out) < limit:  # those without a value come last, in the order in which they became known
            rest = [number for number in rows_of(mask) if not order.known(number)]
            start = max(0, offset - found)
            out += rest[start : start + limit - len(out)]
        return out

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
                value = value_of(self.rows[number])
                if value is not None and (low is None or value >= low) and (high is None or value <= high):
                    mask |= 1 << number
        return mask

    def _text_mask(self, word: str) -> int:
        """Rows whose text holds ``word``; kept for the next question and brought up to date by what changed since."""
        mask, covered = self._text_masks.pop(word, (0, 0))
        if covered == 0:
            data = bytearray((len(self.rows) >> 3) + 1)
            for number, row in enumerate(self.rows):
                if word in row.text:
                    data[number >> 3] |= 1 << (number & 7)
            mask = int.from_bytes(data, "little")
        else:
            for number in self._text_log[covered:]:
                bit = 1 << number
                mask = mask | bit if word in self.rows[number].text else mask & ~bit
        self._text_masks[word] = (mask, len(self._text_log))
        while len(self._text_masks) > TEXT_QUERIES_KEPT:
            self._text_masks.popitem(last=False)
        return mask

    def facet_values(self) -> dict[str, set[Any]]:
        """The values that occur, by kind."""
        seen: dict[str, set[Any]] = {}
        for (kind, value), bits in self._facets.items():
            if bits:
                seen.setdefault(kind, set()).add(value)
        return seen

    # ------------------------------------------------------------ bans
    def bans_changed(self) -> None:
        self._banned_mask = None

    def banned_rows(self, bans: Callable[[], Iterable[str]]) -> int:
        """Rows whose combo is banned, by its key or by a pattern."""
        if self._banned_mask is None:
            in_force = set(bans())
            patterns = [key for key in in_force if is_pattern(key)]
            self._banned_mask = 0
            for combo, bits in self.combos.items():
                if combo in in_force or any(matches(pattern, combo) for pattern in patterns):
                    self._banned_mask |= bits.as_int()
        return self._banned_mask

    def rows_of_pattern(self, pattern: str) -> tuple[int, int]:
        """``(rows whose combo the pattern covers, how many combos those are)``."""
        combos = [combo for combo in self.combos if matches(pattern, combo)] if is_pattern(pattern) else [pattern]
        mask, tried = 0, 0
        for combo in combos:
            bits = self.combos.get(combo)
            if bits:
                mask |= bits.as_int()
                tried += 1
        return mask, tried


def _bucket(value: float, scale: float) -> int:
    return int(min(max(value * scale, 0.0), 1e6))


def _buckets(row: Row) -> tuple[tuple[str, Any], ...]:
    out: list[tuple[str, Any]] = []
    if row.score is not None:
        out.append(("score bucket", _bucket(row.score, _BUCKETS["score bucket"])))
    if row.manual is not None:
        out.append(("manual bucket", _bucket(row.manual, _BUCKETS["manual bucket"])))
    return tuple(out)
