"""In which order unrated clips are offered to a person.

| order | first come |
|---|---|
| ``newest`` ``oldest`` | by the time they were made |
| ``best`` ``worst`` | by automatic score |
| ``informative`` | those whose rating is expected to improve what the agent bets on most (``review_order.json``, written by the agent) |
| ``disagree`` | those whose automatic score is farthest from what the person gave similar clips |
| ``random`` | by a hash of a seed and the name: the same order for the same seed |

*Similar* means: the same combo, or, where nobody rated one of those, the same sampler and scheduler (two ratings at least).
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from eva_state.clip_index import ClipIndex, Search
from eva_state.clip_items import video_item
from eva_state.clip_rows import Row, flags_of, mask_of, rows_of
from eva_state.live import read_live

if TYPE_CHECKING:
    from eva_state.store import StateStore

ORDERS = ("informative", "newest", "oldest", "best", "worst", "disagree", "random")
ORDER_FILE = "review_order.json"
LEAST_PAIR = 2  # ratings of a sampler and scheduler from which they say something about another of their combos
DISAGREE_KEPT = 5.0  # seconds for which the comparison with all ratings is kept: it reads every row
_PLAIN = {"newest": ("newest", None), "oldest": ("oldest", None), "best": ("score", True), "worst": ("score", False)}


class ReviewOrder:
    """Pages of clips in any of :data:`ORDERS`. Thread-safe."""

    def __init__(self, index: ClipIndex, store: StateStore, state_dir: Path):
        self._index, self._store, self._path = index, store, state_dir / ORDER_FILE
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._values: dict[str, float] = {}
        self._compared: tuple[float, int, dict[str, dict[str, Any]]] | None = None
        self._kinds: dict[str, frozenset[str]] = {}  # clip -> what the metrics found in it

    def page(
        self, wanted: Search, order: str, offset: int, limit: int, *, seed: str = "", finding: str | None = None
    ) -> tuple[list[dict[str, Any]], int, str]:
        """``(items, how many in all, the order used)``: the latter is ``newest`` where nothing is known to order by.

        An item carries ``order_value`` (expected gain in reward units, or the difference in [0,1]) and, for ``disagree``,
        ``order_why``: ``score``, ``rated`` (both in [0,1]), ``ratings``, ``of``: ``combo`` or ``pair``.
        """
        if finding is not None:
            self._learn_findings(wanted)
        values, why, used = self._ranks(order)
        index = self._index
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
                numbers = self._ranked(values, mask, offset, limit)
            banned = index._banned()
            rows = [(table.rows[n], bool(banned >> n & 1)) for n in numbers]
        items = [video_item(row, self._store, is_banned) for row, is_banned in rows]
        for item in items:
            if (value := values.get(item["name"])) is not None:
                item["order_value"] = round(value, 6)
            if (reason := why.get(item["name"])) is not None:
                item["order_why"] = reason
        return items, total, used

    def _ranked(self, values: Mapping[str, float], mask: int, offset: int, limit: int) -> list[int]:
        """Highest value first; those without one after them, newest first. With the index locked."""
        table = self._index._table
        flags = flags_of(mask, len(table.rows))
        found = [(-value, name, n) for name, value in values.items() if (n := table.numbers.get(name)) is not None and flags[n]]
        found.sort()
        numbers = [n for _, _, n in found[offset : offset + limit]]
        if len(numbers) < limit:
            rest = mask & ~mask_of([n for _, _, n in found])
            numbers += table.in_order(rest, "newest", max(0, offset - len(found)), limit - len(numbers))
        return numbers

    def _ranks(self, order: str) -> tuple[dict[str, float], dict[str, dict[str, Any]], str]:
        if order == "informative":
            values = self._informative()
            return values, {}, "informative" if values else "newest"
        if order == "disagree":
            why = self._disagreeing()
            return {name: abs(said["score"] - said["rated"]) for name, said in why.items()}, why, "disagree" if why else "newest"
        return {}, {}, order

    # ------------------------------------------------------------ most informative
    def _informative(self) -> dict[str, float]:
        """What the agent last said; nothing where it never did."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        stamp = (status.st_mtime_ns, status.st_ino)
        with self._lock:
            if stamp != self._stamp:
                found = (read_live(self._path) or {}).get("values")
                pairs = found.items() if isinstance(found, dict) else ()
                self._values = {str(name): float(value) for name, value in pairs if isinstance(value, (int, float))}
                self._stamp = stamp
            return self._values

    # ------------------------------------------------------------ metrics disagree with me
    def _disagreeing(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            now, version = time.monotonic(), self._index.version
            if self._compared is not None and (self._compared[1] == version or now - self._compared[0] < DISAGREE_KEPT):
                return self._compared[2]
            with self._index._lock:
                rows = self._index._table.rows[:]
            found = disagreements(rows)
            self._compared = (now, version, found)
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


def disagreements(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Unrated clips whose combo (or sampler and scheduler) a person rated: ``{name: {score, rated, ratings, of}}``, both in [0,1]."""
    sums: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if row.rated and row.manual is not None and row.combo is not None:
            for key in _groups(row.combo):
                total = sums.setdefault(key, [0.0, 0])
                total[0] += (row.manual - 1) / 9
                total[1] += 1
    found: dict[str, dict[str, Any]] = {}
    if not sums:
        return found
    for row in rows:
        if row.rated or row.file is None or row.score is None or row.combo is None:
            continue
        combo, pair = _groups(row.combo)
        for key, least, of in ((combo, 1, "combo"), (pair, LEAST_PAIR, "pair")):
            total = sums.get(key, [0.0, 0])
            if total[1] >= least:
                rated = round(total[0] / total[1], 4)
                found[row.name] = {"score": row.score, "rated": rated, "ratings": int(total[1]), "of": of}
                break
    return found


def _groups(combo: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    parts = combo.split("|")
    return (combo,), (parts[0], parts[1])


def queue_search(wanted: Search, *, rated: bool) -> Search:
    """``wanted`` among the clips of the queue; ``rated``: among those rated and not banned, to be shown again."""
    return replace(wanted, rated=True, banned=False, exists=True) if rated else replace(wanted, rated=False, exists=True)
