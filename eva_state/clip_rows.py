"""The rows of the clip index and the bit sets it filters with.

A bit set has one bit a row. Filters are AND, OR and counts over whole sets, which Python's big integers do at memory
speed: 100,000 rows are 12.5 KB.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eva_state.keys import combo_key
from eva_state.video_folder import ClipFile

FEW = 200  # rows up to which a plain set is smaller than a bit set of 100,000 rows


class Bits:
    """A set of small non-negative integers: a plain set while it is small, a byte array after."""

    __slots__ = ("_few", "_bytes")

    def __init__(self) -> None:
        self._few: set[int] | None = set()
        self._bytes = bytearray()

    def set(self, row: int, value: bool = True) -> None:
        if self._few is not None:
            if not value:
                self._few.discard(row)
                return
            self._few.add(row)
            if len(self._few) > FEW:
                few, self._few = self._few, None
                for member in few:
                    self.set(member)
            return
        index, mask = row >> 3, 1 << (row & 7)
        if index >= len(self._bytes):
            if not value:
                return
            self._bytes.extend(bytes(index + 1 - len(self._bytes) + len(self._bytes) // 8))
        if value:
            self._bytes[index] |= mask
        else:
            self._bytes[index] &= ~mask

    def __contains__(self, row: int) -> bool:
        if self._few is not None:
            return row in self._few
        index = row >> 3
        return index < len(self._bytes) and bool(self._bytes[index] & (1 << (row & 7)))

    def __bool__(self) -> bool:
        return bool(self._few) if self._few is not None else any(self._bytes)

    def as_int(self) -> int:
        if self._few is None:
            return int.from_bytes(self._bytes, "little")
        if not self._few:
            return 0
        data = bytearray((max(self._few) >> 3) + 1)
        for row in self._few:
            data[row >> 3] |= 1 << (row & 7)
        return int.from_bytes(data, "little")


def rows_of(mask: int) -> Iterator[int]:
    """The set bits of ``mask``, ascending."""
    data = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    for index, byte in enumerate(data):
        if byte:
            base = index << 3
            for bit in range(8):
                if byte & (1 << bit):
                    yield base + bit


class Order:
    """Rows sorted by a key that may change. Rows without a key (None) are left out."""

    def __init__(self, key_of: Callable[[Row], Any]):
        self._key_of = key_of
        self._sorted: list[tuple[Any, int]] = []
        self._keys: dict[int, Any] = {}

    def build(self, rows: list[Row]) -> None:
        pairs = [(self._key_of(row), number) for number, row in enumerate(rows)]
        self._sorted = sorted(pair for pair in pairs if pair[0] is not None)
        self._keys = {number: key for key, number in self._sorted}

    def update(self, number: int, row: Row) -> None:
        key = self._key_of(row)
        old = self._keys.get(number)
        if key == old:
            return
        if old is not None:
            del self._sorted[bisect_left(self._sorted, (old, number))]
            del self._keys[number]
        if key is not None:
            insort(self._sorted, (key, number))
            self._keys[number] = key

    def page(self, mask: int, descending: bool, offset: int, limit: int) -> tuple[list[int], int]:
        """Rows of ``mask`` in order from ``offset``, and how many of ``mask`` this order knows if fewer were found."""
        data = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
        size, found, out = len(data), 0, []
        for _, number in reversed(self._sorted) if descending else self._sorted:
            index = number >> 3
            if index < size and data[index] & (1 << (number & 7)):
                found += 1
                if found > offset:
                    out.append(number)
                    if len(out) >= limit:
                        break
        return out, found

    def known(self, number: int) -> bool:
        return number in self._keys


@dataclass(slots=True)
class Row:
    """One clip as the index holds it. Times are unix seconds; ``score`` is in [0,1]; ``manual`` is 1..10."""

    name: str
    file: ClipFile | None = None
    present: bool = False  # there is something to show; False for a name that another file stands for
    found: bool = False  # the history has an entry for it
    alias: str | None = None  # the name under which history and rating hold it, where that is another
    position: int = -1  # place in the history, from 0
    made: float | None = None  # when the history says that it was made
    score: float | None = None
    manual: float | None = None
    rated: bool = False
    marked: bool = False  # the rating says banned
    reference: bool = False
    combo: str | None = None
    text: str = ""  # lower case: name and prompts
    rated_at: float | None = None
    facets: tuple[tuple[str, Any], ...] = ()

    @property
    def created(self) -> float:
        if self.made is not None:
            return self.made
        return self.file.mtime if self.file is not None else self.rated_at or 0.0


def number_or_none(value: Any) -> float | None:
    """``value`` as a float when it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if number - number == 0 else None


def overall_of(rating: Mapping[str, Any] | None) -> float | None:
    """The ``overall_quality`` of a rating object, 1..10."""
    return number_or_none(rating.get("overall_quality")) if isinstance(rating, Mapping) else None


def combo_of(entry: Mapping[str, Any] | None) -> str | None:
    """The combo key of a history entry; None when its params do not make one."""
    params = (entry or {}).get("params")
    if not isinstance(params, Mapping):
        return None
    try:
        return combo_key(params)
    except ValueError:
        return None


def shortest(number: float) -> int | float:
    return int(number) if float(number).is_integer() else number


def facets_of(params: Any) -> tuple[tuple[str, Any], ...]:
    """The exact values a search can filter by: ``("sampler", "euler")``, ``("fps", 16)``, ``("size", (832, 480))``."""
    if not isinstance(params, Mapping):
        return ()
    out: list[tuple[str, Any]] = [(name, params[name]) for name in ("sampler", "scheduler") if isinstance(params.get(name), str)]
    cfg = params.get("cfg_scale", params.get("cfg"))
    numbers = {
        "fps": params.get("fps"),
        "cfg": cfg,
        "steps": params.get("steps"),
        "width": params.get("width"),
        "height": params.get("height"),
    }
    clean = {name: shortest(number) for name, value in numbers.items() if (number := number_or_none(value)) is not None}
    out.extend(clean.items())
    if "width" in clean and "height" in clean:
        out.append(("size", (clean["width"], clean["height"])))
    return tuple(out)


def defects_of(rating: Mapping[str, Any] | None) -> tuple[tuple[str, Any], ...]:
    """``("defect", word)`` for each defect a rating names."""
    defects = rating.get("defects") if isinstance(rating, Mapping) else None
    if not isinstance(defects, list):
        return ()
    return tuple(("defect", item) for item in dict.fromkeys(item for item in defects if isinstance(item, str)))


def day_of(moment: float) -> str:
    """The local calendar day of a unix time."""
    try:
        return time.strftime("%Y-%m-%d", time.localtime(moment))
    except (OverflowError, ValueError, OSError):
        return ""
