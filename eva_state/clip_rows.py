"""The rows of the clip index, and the bit sets and sort orders over them.

A set of rows is one big integer with a bit a row: AND, OR and counts over 100,000 rows work on 12.5 KB at memory speed.
"""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import compress
from operator import is_, is_not
from typing import Any, NamedTuple

import msgspec

from eva_state.keys import ANY, EXTRA, base_key, combo_key, extra_name, extra_of_key, extra_text, parse_combo_key
from eva_state.video_folder import ClipFile

FEW = 256  # members up to which a list of 4-byte numbers, searched through, beats a bit set
SPARSE = 32  # a set of fewer than one row in so many is read byte by byte
_SET = re.compile(rb"[^\0]", re.DOTALL)
_BITS_OF = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))
_BIT_VALUES = bytes.maketrans(b"01", b"\0\1")
_BIT_DIGITS = bytes.maketrans(b"\0\1", b"01")


class Bits:
    """A set of small non-negative integers: a short list while there are few, a byte array after."""

    __slots__ = ("_bytes", "_few")

    def __init__(self) -> None:
        self._few: array[int] | None = array("I")
        self._bytes = bytearray()

    def set(self, row: int, value: bool = True) -> None:
        if self._few is not None:
            if not value:
                if row in self._few:
                    self._few.remove(row)
                return
            if row not in self._few:
                self._few.append(row)
            if len(self._few) <= FEW:
                return
            self._bytes, self._few = bytearray(self.as_int().to_bytes((max(self._few) >> 3) + 1, "little")), None
            return
        index, bit = row >> 3, 1 << (row & 7)
        if index >= len(self._bytes):
            if not value:
                return
            self._bytes.extend(bytes(index + 1 - len(self._bytes) + len(self._bytes) // 8))
        if value:
            self._bytes[index] |= bit
        else:
            self._bytes[index] &= ~bit

    def update(self, rows: array[int]) -> None:
        """Adds rows, which must differ and not be in the set yet."""
        if self._few is not None and len(self._few) + len(rows) <= FEW:
            self._few.extend(rows)
            return
        joined = self.as_int() | mask_of(rows)
        self._bytes, self._few = bytearray(joined.to_bytes((joined.bit_length() + 7) >> 3, "little")), None

    @classmethod
    def of(cls, rows: list[int]) -> Bits:
        """The set of these rows, which must differ."""
        made = cls()
        if len(rows) <= FEW:
            made._few = array("I", rows)
        else:
            made._few, made._bytes = None, bytearray(mask_of(rows).to_bytes((max(rows) >> 3) + 1, "little"))
        return made

    @classmethod
    def where(cls, flags: list[bool]) -> Bits:
        """The set of rows whose flag is true; quicker than :meth:`of` where they are many."""
        count = sum(flags)
        if count <= FEW:
            return cls.of([row for row, flag in enumerate(flags) if flag])
        made = cls()
        made._few, made._bytes = None, bytearray(mask_where(flags).to_bytes((len(flags) >> 3) + 1, "little"))
        return made

    def __contains__(self, row: int) -> bool:
        if self._few is not None:
            return row in self._few
        index = row >> 3
        return index < len(self._bytes) and bool(self._bytes[index] & (1 << (row & 7)))

    def __bool__(self) -> bool:
        return bool(self._few) if self._few is not None else any(self._bytes)

    def as_int(self) -> int:
        return mask_of(self._few) if self._few is not None else int.from_bytes(self._bytes, "little")


def mask_of(rows: Collection[int]) -> int:
    """The set of these rows as an integer."""
    if not rows:
        return 0
    data = bytearray((max(rows) >> 3) + 1)
    for row in rows:
        data[row >> 3] |= 1 << (row & 7)
    return int.from_bytes(data, "little")


def mask_where(flags: list[bool]) -> int:
    """The set of rows whose flag is true; quicker than :func:`mask_of` where they may be many."""
    return int(bytes(flags)[::-1].translate(_BIT_DIGITS), 2) if flags else 0


def flags_of(mask: int, size: int) -> bytes:
    """One byte a row, 1 where ``mask`` holds it. ``size``: how many rows there are."""
    return format(mask, "b")[::-1].encode("ascii").ljust(size, b"0").translate(_BIT_VALUES)


def rows_of(mask: int) -> Iterator[int]:
    """The rows of ``mask``, ascending."""
    size = mask.bit_length()
    if mask.bit_count() * SPARSE > size:
        return compress(range(size), flags_of(mask, 0))
    found = _SET.finditer(mask.to_bytes((size + 7) >> 3, "little"))
    return (base + bit for place in found for base in (place.start() << 3,) for bit in _BITS_OF[place.group()[0]])


class Row(msgspec.Struct, gc=False):  # the collector need not walk rows: nothing they hold refers back
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
    text: str = ""  # lower case: name and prompt
    rated_at: float | None = None
    facets: tuple[tuple[str, Any], ...] = ()

    @property
    def created(self) -> float:
        if self.made is not None:
            return self.made
        return self.file.mtime if self.file is not None else self.rated_at or 0.0


def changed_rows(before: list[Row], now: list[Row]) -> list[int]:
    """The numbers of rows that were replaced or added since ``before`` was copied; mostly none, which is found out quickly."""
    new = list(range(len(before), len(now)))
    return new if all(map(is_, before, now)) else [*compress(range(len(before)), map(is_not, before, now)), *new]


def number_or_none(value: Any) -> float | None:
    """``value`` as a float when it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if number - number == 0 else None


class Judgement(NamedTuple):
    """What the index keeps of a rating."""

    overall: float | None  # 1..10
    rated_at: float | None  # unix seconds
    banned: bool
    reference: bool
    defects: tuple[tuple[str, str], ...]  # ("defect", word), and after them ("tag", word)


def judgement_of(item: Mapping[str, Any] | None) -> Judgement | None:
    """From an item of manual_ratings.json; None when it holds no rating."""
    rating = item.get("rating") if item is not None else None
    if item is None or not isinstance(rating, Mapping):
        return None
    return Judgement(
        number_or_none(rating.get("overall_quality")),
        number_or_none(item.get("timestamp")),
        rating.get("banned") is True,
        rating.get("is_reference") is True,
        defects_of(rating.get("defects")) + tags_of(rating.get("tags")),
    )


def defects_of(found: Any) -> tuple[tuple[str, str], ...]:
    """``(("defect", word), ...)`` of a rating's ``defects``."""
    words = dict.fromkeys(word for word in found if isinstance(word, str)) if isinstance(found, list) else ()
    return tuple(("defect", word) for word in words)


def tags_of(found: Any) -> tuple[tuple[str, str], ...]:
    """``(("tag", word), ...)`` of a rating's ``tags``."""
    return tuple(("tag", word) for _, word in defects_of(found))


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
    out: list[tuple[str, Any]] = [(name, params[name].strip()) for name in ("sampler", "scheduler") if isinstance(params.get(name), str)]
    cfg = params.get("cfg_scale", params.get("cfg"))
    numbers = {"fps": params.get("fps"), "cfg": cfg, **{name: params.get(name) for name in ("steps", "width", "height")}}
    clean = {name: shortest(number) for name, value in numbers.items() if (number := number_or_none(value)) is not None}
    out.extend(clean.items())
    if "width" in clean and "height" in clean:
        out.append(("size", (clean["width"], clean["height"])))
    extra = params.get(EXTRA)
    if isinstance(extra, Mapping):
        with suppress(ValueError):  # what is no key is no facet either
            out.extend([(f"={extra_name(name)}", extra_text(value)) for name, value in extra.items()])
    return tuple(out)


def facets_of_pattern(pattern: str) -> list[tuple[str, Any]]:
    """The facets that a combo must have to be covered by ``pattern``."""
    given = base_key(pattern).split("|")
    filled = [part if part != ANY else default for part, default in zip(given, ("-", "-", "1", "1", "1", "1x1"))]
    params = parse_combo_key("|".join(filled))
    values = (
        params["sampler"],
        params["scheduler"],
        params["fps"],
        params["cfg_scale"],
        params["steps"],
        (params["width"], params["height"]),
    )
    kinds = ("sampler", "scheduler", "fps", "cfg", "steps", "size")
    wanted = [(kind, value) for kind, value, part in zip(kinds, values, given) if part != ANY]
    return wanted + [(f"={name}", value) for name, value in extra_of_key(pattern).items()]


def day_of(moment: float) -> str:
    """The local calendar day of a unix time."""
    try:
        return _day_of_quarter(int(moment // 900))
    except (OverflowError, ValueError, OSError):
        return ""


@lru_cache(maxsize=4096)
def _day_of_quarter(quarter: int) -> str:
    # Every time zone's day begins at a full quarter of an hour of unix time.
    return time.strftime("%Y-%m-%d", time.localtime(quarter * 900))
