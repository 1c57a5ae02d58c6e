"""In which order unrated clips are offered to a person.

| order | first come |
|---|---|
| ``newest`` ``oldest`` | by the time they were made |
| ``best`` ``worst`` | by automatic score |
| ``informative`` | those whose rating is expected to improve what the agent bets on most |
| ``best_predicted`` ``worst_predicted`` | by the rating the person is expected to give them |
| ``disagree`` | those whose automatic score is farthest from the rating expected, or else from what the person gave similar clips |
| ``random`` | by a hash of a seed and the name: the same order for the same seed |

Gains and expected ratings are the agent's (``predictions``). *Similar* means: the same combo, or, where nobody rated one of
those, the same sampler and scheduler (two ratings at least).
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from eva_state.clip_index import LOOKS, ClipIndex, Search
from eva_state.clip_items import video_item
from eva_state.clip_rows import Row, flags_of, mask_of, rows_of
from eva_state.predictions import NOTHING, Said

if TYPE_CHECKING:
    from eva_state.store import StateStore

ORDERS = ("informative", "newest", "oldest", "best", "worst", "best_predicted", "worst_predicted", "disagree", "random")
LEAST_PAIR = 2  # ratings of a sampler and scheduler from which they say something about another of their combos
DISAGREE_KEPT = 5.0  # seconds for which the comparison with all ratings is kept: it reads every row
_PLAIN = {"newest": ("newest", None), "oldest": ("oldest", None), "best": ("score", True), "worst": ("score", False)}


class Ranking(NamedTuple):
    """Clips in order, and what an item says about its place."""

    names: list[str]
    about: Callable[[Row], dict[str, Any]]


class ReviewOrder:
    """Pages of clips in any of :data:`ORDERS`. Thread-safe."""

    def __init__(self, index: ClipIndex, store: StateStore):
        self._index, self._store = index, store
        self._lock = threading.Lock()
        self._compared: tuple[float, int, Said, Ranking] | None = None
        self._kinds: dict[str, frozenset[str]] = {}  # clip -> what the metrics found in it

    def page(
        self, wanted: Search, order: str, offset: int, limit: int, *, seed: str = "", finding: str | None = None
    ) -> tuple[list[dict[str, Any]], int, str]:
        """``(items, how many in all, the order used)``: the latter is ``newest`` where nothing is known to order by.

        An item carries ``order_value`` (expected gain in reward units, or the difference in [0,1]) and, for ``disagree``,
        ``order_why``: ``score``, ``rated`` (both in [0,1]), ``ratings``, ``of``: ``prediction``, ``combo`` or ``pair``.
        """
        if finding is not None:
            self._learn_findings(wanted)
        said = self._index.predictions.look()
        ranking = self._ranking(order, said)
        used = order if ranking is None or ranking.names else "newest"
        index = self._index
        for _ in range(LOOKS):
            with index._lock:
                index._drain()
                table = index._table
                mask = table.mask(wanted, self._store.bans)
                if finding is not None:
                    mask &= mask_of([n for n in rows_of(mask) if finding in self._kinds.get(table.rows[n].name, ())])
                total = mask.bit_count()
                if used in _PLAIN:
                    sort, descending = _PLAIN[used]
                    numbers = table.in_order(mask, sort, offset, limit, descending)
                elif used == "random":
                    keyed = ((crc32(f"{seed}\n{table.rows[n].name}".encode("utf-8", "replace")), n) for n in rows_of(mask))
                    numbers = [n for _, n in heapq.nsmallest(offset + limit, keyed)[offset:]]
                else:
                    assert ranking is not None
                    numbers = self._ranked(ranking.names, mask, offset, limit)
                rows = [(table.rows[n], is_banned) for n, is_banned in index._with_bans(numbers)]
            if index.look_at(row for row, _ in rows):
                break
        items = [video_item(row, self._store, is_banned, said) for row, is_banned in rows]
        if ranking is not None:
            for item, (row, _) in zip(items, rows):
                item.update(ranking.about(row))
        return items, total, used

    def _ranked(self, names: Sequence[str], mask: int, offset: int, limit: int) -> list[int]:
        """Those of ``names`` in their order, then the rest of ``mask``, newest first. With the index locked."""
        table = self._index._table
        flags = flags_of(mask, len(table.rows))
        found: list[int] = []
        for name in names:
            number = table.numbers.get(name)
            if number is not None and flags[number]:
                found.append(number)
                if len(found) == offset + limit:
                    return found[offset:]
        rest = mask & ~mask_of(sorted(found))
        numbers = found[offset:]
        return numbers + table.in_order(rest, "newest", max(0, offset - len(found)), limit - len(numbers))

    def _ranking(self, order: str, said: Said) -> Ranking | None:
        if order == "informative":
            gains = said.gains
            return Ranking(said.informative, lambda row: {"order_value": gains[row.name]} if row.name in gains else {})
        if order in ("best_predicted", "worst_predicted"):
            return Ranking(said.best if order == "best_predicted" else said.worst, lambda _row: {})
        return self._disagreeing(said) if order == "disagree" else None

    # ------------------------------------------------------------ metrics disagree with me
    def _disagreeing(self, said: Said) -> Ranking:
        with self._lock:
            now, version = time.monotonic(), self._index.version
            if self._compared is not None:
                when, of_version, of_said, kept = self._compared
                if (of_version == version and of_said is said) or now - when < DISAGREE_KEPT:
                    return kept
            with self._index._lock:
                rows = self._index._table.rows[:]
            found = disagreements(rows, said)
            self._compared = (now, version, said, found)
            return found

    # ------------------------------------------------------------ what the metrics found
    def _learn_findings(self, wanted: Search) -> None:
        """Reads the findings of clips nobody asked about before; an entry is read once."""
        index = self._index
        with index._lock:
            index._drain()
            table = index._table
            mask = table.mask(wanted, self._store.bans)
            new = [(row.name, row.alias or row.name) for n in rows_of(mask) if (row := table.rows[n]).found and row.name not in self._kinds]
        for name, alias in new:
            found = (self._store.entry(alias) or {}).get("findings")
            listed = found if isinstance(found, list) else ()
            self._kinds[name] = frozenset(str(item["kind"]) for item in listed if isinstance(item, dict) and item.get("kind"))

    def finding_kinds(self) -> list[str]:
        """Kinds of findings among the unrated clips."""
        self._learn_findings(Search(rated=False, exists=True))
        return sorted({kind for kinds in list(self._kinds.values()) for kind in kinds})


def disagreements(rows: list[Row], said: Said = NOTHING) -> Ranking:
    """Unrated clips with an expected rating, or whose combo (or sampler and scheduler) a person rated; largest difference first."""
    sums: dict[str, list[float]] = {}
    for row in rows:
        if row.rated and row.manual is not None and row.combo is not None:
            total = sums.setdefault(row.combo, [0.0, 0])
            total[0] += (row.manual - 1) / 9
            total[1] += 1
    pairs: dict[str, list[float]] = {}
    for combo, (value, count) in sums.items():
        total = pairs.setdefault(_pair(combo), [0.0, 0])
        total[0] += value
        total[1] += count
    known: dict[str, dict[str, Any]] = {}  # by combo: what ratings of its like say

    def expected(combo: str) -> dict[str, Any]:
        if combo not in known:
            own, pair = sums.get(combo), pairs.get(_pair(combo), [0.0, 0])
            total, of = (own, "combo") if own else (pair, "pair")
            enough = own is not None or pair[1] >= LEAST_PAIR
            known[combo] = {"rated": round(total[0] / total[1], 4), "ratings": int(total[1]), "of": of} if enough else {}
        return known[combo]

    ratings = (said.check or {}).get("ratings", 0)

    def why(row: Row) -> dict[str, Any]:
        foretold = said.predicted(row.name, row.alias)
        if foretold is not None:
            return {"rated": round((foretold["mean"] - 1) / 9, 4), "ratings": ratings, "of": "prediction"}
        return expected(row.combo) if row.combo is not None else {}

    def about(row: Row) -> dict[str, Any]:
        if row.score is None or not (found := why(row)):
            return {}
        return {"order_value": round(abs(row.score - found["rated"]), 6), "order_why": {"score": row.score, **found}}

    if not sums and not said.expected:
        return Ranking([], lambda _row: {})
    open_rows = ((row, row.score) for row in rows if not row.rated and row.file is not None and row.score is not None)
    ranked = [(-abs(score - found["rated"]), row.name) for row, score in open_rows if (found := why(row))]
    ranked.sort()
    return Ranking([name for _, name in ranked], about)


def _pair(combo: str) -> str:
    return "|".join(combo.split("|", 2)[:2])


def queue_search(wanted: Search, *, rated: bool) -> Search:
    """``wanted`` among the clips of the queue; ``rated``: among those rated and not banned, to be shown again."""
    return replace(wanted, rated=True, banned=False, exists=True) if rated else replace(wanted, rated=False, exists=True)
