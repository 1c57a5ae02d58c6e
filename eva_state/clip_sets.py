"""Which rows share a value: the sets of the row table by facet, by range of score or mark, and by combo.

Telling them apart takes as long as making all rows, so a filled table does it when somebody first asks, or in the background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from eva_state.clip_rows import Bits, Row, changed_rows

AT_ONCE = 2000  # rows told apart between two breaths: a millisecond or two
BUCKETS = {"score": 128.0, "manual": 2.0}  # buckets a unit; powers of two, so that scaling never rounds
Derived = tuple[dict[Any, Bits], dict[Any, Bits], dict[Any, Bits]]


class LazySets:
    """``_facets``, ``_buckets`` and ``_combos`` of ``rows``, made when they are first needed. The caller locks."""

    rows: list[Row]
    _facets: dict[tuple[str, Any], Bits]
    _buckets: dict[tuple[str, int], Bits]
    _combos: dict[str, Bits]
    _own = False  # some combo has a dimension of the user's own

    def __getattr__(self, name: str) -> Any:
        if name == "_combos":
            self._set_combos(_sets_of((row.combo,) if row.combo is not None else () for row in self.rows))
        elif name in ("_facets", "_buckets"):
            self.derive()
        else:
            raise AttributeError(name)
        return vars(self)[name]

    def _set_combos(self, combos: dict[str, Bits]) -> None:
        self._combos = combos
        self._own = any("=" in key for key in combos)

    def derive(self, rows: list[Row] | None = None, found: Derived | None = None) -> None:
        """Makes them, unless they are there; ``found`` is what :func:`derived_of` said of ``rows``, an earlier copy of the rows."""
        if "_facets" in vars(self):
            return
        if rows is None or found is None:
            rows = self.rows[:]
            found = derived_of(rows)
        self._facets, self._buckets, combos = found
        kept = "_combos" in vars(self)  # and kept in line by put
        if not kept:
            self._set_combos(combos)
        empty = Row("")
        for number in changed_rows(rows, self.rows):
            self._rederive(number, rows[number] if number < len(rows) else empty, self.rows[number], combos=not kept)

    def _rederive(self, number: int, old: Row, new: Row, combos: bool = True) -> None:
        """Moves a row that changed among the sets that are there."""
        made = vars(self)
        if "_facets" in made:
            if new.facets != old.facets:
                _move(self._facets, old.facets, new.facets, number)
            if (new.score, new.manual) != (old.score, old.manual):
                _move(self._buckets, buckets_of(old), buckets_of(new), number)
        if combos and new.combo != old.combo and "_combos" in made:
            self._own = self._own or "=" in (new.combo or "")
            _move(self._combos, (old.combo,) if old.combo else (), (new.combo,) if new.combo else (), number)


def derived_of(rows: list[Row], pause: Callable[[], object] = lambda: None) -> Derived:
    """Facets, buckets and combos of rows; ``pause()`` between steps."""
    by_facets: dict[Any, list[int]] = {}
    by_combo: dict[Any, list[int]] = {}
    by_bucket: dict[Any, list[int]] = {}
    for start in range(0, len(rows), AT_ONCE):
        for number, row in enumerate(rows[start : start + AT_ONCE], start):
            if row.facets:
                by_facets.setdefault(row.facets, []).append(number)
            if row.combo is not None:
                by_combo.setdefault(row.combo, []).append(number)
            for bucket in buckets_of(row):
                by_bucket.setdefault(bucket, []).append(number)
        pause()
    facets: dict[Any, list[int]] = {}
    for shared, numbers in by_facets.items():
        for facet in shared:
            facets.setdefault(facet, []).extend(numbers)
    return _sets(facets, pause), _sets(by_bucket, pause), _sets(by_combo, pause)


def _sets(found: dict[Any, list[int]], pause: Callable[[], object]) -> dict[Any, Bits]:
    out: dict[Any, Bits] = {}
    done = 0
    for key, numbers in found.items():
        out[key] = Bits.of(numbers)
        done += len(numbers)
        if done > 4 * AT_ONCE:
            done = 0
            pause()
    return out


def _sets_of(keys: Iterable[Iterable[Any]]) -> dict[Any, Bits]:
    """The rows that have each key; ``keys`` gives those of every row in turn."""
    found: dict[Any, list[int]] = {}
    for number, own in enumerate(keys):
        for key in own:
            found.setdefault(key, []).append(number)
    return {key: Bits.of(numbers) for key, numbers in found.items()}


def _move(sets: dict[Any, Bits], old: Iterable[Any], new: Iterable[Any], number: int) -> None:
    for key in old:
        sets[key].set(number, False)
    for key in new:
        bits = sets.get(key)
        if bits is None:
            bits = sets[key] = Bits()
        bits.set(number)


def _bucket(value: float, scale: float) -> int:
    return int(min(max(value * scale, 0.0), 1e6))  # what lies outside any scale shares a bucket at its end


def buckets_of(row: Row) -> list[tuple[str, int]]:
    out = []
    if row.score is not None:
        out.append(("score", _bucket(row.score, BUCKETS["score"])))
    if row.manual is not None:
        out.append(("manual", _bucket(row.manual, BUCKETS["manual"])))
    return out
