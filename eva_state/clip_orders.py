"""Rows in order of a value, in blocks: a page is found without walking through the rows before it.

Each block knows its rows as a list and as a set, so how many of the wanted rows lie in it is one operation on two sets. With
100,000 rows that is 200 steps to any page, wherever it begins.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from heapq import nlargest, nsmallest
from itertools import islice
from typing import Any

from eva_state.clip_rows import Row, changed_rows, mask_of, rows_of

BLOCK = 512  # rows of a new block; one of twice as many is cut in two
SORT_BELOW = 256  # wanted rows that are sorted by themselves sooner than the blocks are looked through
UNBUILT_PAGES = 2  # so many pages of an order are sorted out by themselves; who asks on gets it built
_PIVOTS_OF = 8  # rows drawn for each part, so that the parts become about equal

Blocks = list["Block"]


class Block:
    """Some rows that follow each other. ``mask`` is the set of them."""

    __slots__ = ("mask", "numbers")

    def __init__(self, numbers: array[int], mask: int | None = None):
        self.numbers = numbers
        self.mask = mask_of(numbers) if mask is None else mask


def in_pieces(numbers: Sequence[int], keys: Sequence[Any], pause: Callable[[], object] = lambda: None) -> Iterable[list[int]]:
    """``numbers`` sorted by ``keys[number]``, equal ones as they came, in parts of some hundreds; ``pause()`` between steps.

    One sort of 100,000 rows would not let go of the interpreter for 20 to 80 ms, and everybody who asks meanwhile would wait.
    """
    count = len(numbers) // BLOCK
    if count < 2:
        yield sorted(numbers, key=keys.__getitem__)
        return
    rng = random.Random(0)  # which rows are drawn decides about time alone
    drawn = sorted(keys[number] for number in rng.sample(numbers, min(len(numbers), count * _PIVOTS_OF)))
    pivots = sorted(set(drawn[_PIVOTS_OF // 2 :: _PIVOTS_OF]))
    parts: list[list[int]] = [[] for _ in range(len(pivots) + 1)]
    for start in range(0, len(numbers), 4 * BLOCK):
        for number in numbers[start : start + 4 * BLOCK]:
            parts[bisect_right(pivots, keys[number])].append(number)
        pause()
    for part in parts:
        part.sort(key=keys.__getitem__)
        yield part
        pause()


class Order:
    """Rows sorted by ``(value_of(row), name)``; rows without a value are left out. ``rows`` is the table's own list.

    Until it is built, a page costs a look at every row it is chosen from; from then on it is kept in line row by row.
    """

    def __init__(self, rows: list[Row], value_of: Callable[[Row], Any]):
        self.value_of = value_of
        self._rows = rows
        self._blocks: Blocks | None = None
        self._known = 0  # the set of all rows that have a value
        self._asked = 0

    def _key(self, number: int) -> tuple[Any, str]:
        row = self._rows[number]
        return self.value_of(row), row.name

    # ------------------------------------------------------------ building
    def blocks_of(self, rows: list[Row], by_name: Sequence[int], pause: Callable[[], object] = lambda: None) -> Blocks:
        """The order of ``rows``, a copy of the table's list; ``by_name``: their numbers by name. Needs no lock: rows are replaced,
        never changed in what orders them.
        """
        value_of = self.value_of
        keys = [value_of(row) for row in rows]
        blocks: Blocks = []
        pending: list[int] = []
        for part in in_pieces([number for number in by_name if keys[number] is not None], keys, pause):
            pending += part
            while len(pending) >= BLOCK:
                blocks.append(Block(array("I", pending[:BLOCK])))
                del pending[:BLOCK]
        return [*blocks, Block(array("I", pending))] if pending else blocks

    def build(self, rows: list[Row] | None = None, blocks: Blocks | None = None) -> None:
        """Builds it; ``blocks`` is what :meth:`blocks_of` said of ``rows``, where that was asked before."""
        if self._blocks is not None:
            return
        if rows is None or blocks is None:
            rows = self._rows[:]
            blocks = self.blocks_of(rows, by_name(rows))
        self._blocks, self._known = blocks, 0
        for block in blocks:
            self._known |= block.mask
        changed = changed_rows(rows, self._rows)
        if not changed:
            return
        gone = mask_of(changed)
        self._known &= ~gone
        for block in blocks:
            if block.mask & gone:
                left = array("I", [number for number in block.numbers if not gone >> number & 1])
                block.numbers, block.mask = left, block.mask & ~gone
        self._blocks = [block for block in blocks if block.numbers]
        for number in changed:
            self.insert(number)

    @property
    def built(self) -> bool:
        """Until it is built, keeping it costs nothing."""
        return self._blocks is not None

    # ------------------------------------------------------------ keeping
    def _place(self, blocks: Blocks, key: tuple[Any, str]) -> int:
        """The block whose first row comes last before or at ``key``."""
        return max(0, bisect_right(blocks, key, key=lambda block: self._key(block.numbers[0])) - 1)

    def remove(self, number: int) -> None:
        """Before the row changes."""
        blocks = self._blocks
        if blocks is None or not self._known >> number & 1:
            return
        key = self._key(number)
        place = self._place(blocks, key)
        block = blocks[place]
        del block.numbers[bisect_left(block.numbers, key, key=self._key)]
        block.mask ^= 1 << number
        self._known ^= 1 << number
        if not block.numbers:
            del blocks[place]

    def insert(self, number: int) -> None:
        """After the row has changed."""
        blocks = self._blocks
        if blocks is None or self.value_of(self._rows[number]) is None:
            return
        self._known |= 1 << number
        if not blocks:
            blocks.append(Block(array("I", [number])))
            return
        key = self._key(number)
        place = self._place(blocks, key)
        block = blocks[place]
        block.numbers.insert(bisect_left(block.numbers, key, key=self._key), number)
        block.mask |= 1 << number
        if len(block.numbers) >= 2 * BLOCK:
            blocks[place : place + 1] = [Block(block.numbers[:BLOCK]), Block(block.numbers[BLOCK:])]

    # ------------------------------------------------------------ asking
    def between(self, low: float | None, high: float | None) -> int:
        """The rows whose value lies in [low, high], as a set."""
        if self._blocks is None:
            values = ((number, self.value_of(row)) for number, row in enumerate(self._rows))
            return mask_of([n for n, v in values if v is not None and (low is None or v >= low) and (high is None or v <= high)])
        mask = 0
        for block in self._blocks:
            numbers = block.numbers
            if high is not None and self._value(numbers[0]) > high:
                break
            if low is not None and self._value(numbers[-1]) < low:
                continue
            if (low is None or self._value(numbers[0]) >= low) and (high is None or self._value(numbers[-1]) <= high):
                mask |= block.mask
                continue
            start = 0 if low is None else bisect_left(numbers, low, key=self._value)
            end = len(numbers) if high is None else bisect_right(numbers, high, key=self._value)
            mask |= mask_of(numbers[start:end])
        return mask

    def _value(self, number: int) -> Any:
        return self.value_of(self._rows[number])

    def page(self, mask: int, descending: bool, offset: int, limit: int) -> list[int]:
        """Rows of ``mask`` in order, from ``offset``; those without a value come last, by number."""
        if self._blocks is None:
            self._asked += 1
            if self._asked <= UNBUILT_PAGES:
                return self._page_of_unsorted(mask, descending, offset, limit)
            self.build()
        assert self._blocks is not None
        inside = mask & self._known
        count = inside.bit_count()
        if offset >= count:
            out: list[int] = []
        elif count < SORT_BELOW:
            out = sorted(rows_of(inside), key=self._key, reverse=descending)[offset : offset + limit]
        else:
            out = self._walk(self._blocks, inside, inside == self._known, descending, offset, limit)
        if len(out) < limit:
            start = max(0, offset - count)
            out += islice(rows_of(mask & ~inside), start, start + limit - len(out))
        return out

    @staticmethod
    def _walk(blocks: Blocks, inside: int, everything: bool, descending: bool, skip: int, limit: int) -> list[int]:
        out: list[int] = []
        for block in reversed(blocks) if descending else blocks:
            hit = block.mask if everything else block.mask & inside
            count = len(block.numbers) if everything else hit.bit_count()
            if skip >= count:
                skip -= count
                continue
            found: Sequence[int] = block.numbers
            if count < len(found):
                flags = hit.to_bytes((hit.bit_length() + 7) >> 3, "little")
                size = len(flags)
                found = [n for n in found if n >> 3 < size and flags[n >> 3] >> (n & 7) & 1]
            if descending:
                found = found[::-1]
            out += found[skip : skip + limit - len(out)]
            skip = 0
            if len(out) >= limit:
                break
        return out

    def _page_of_unsorted(self, mask: int, descending: bool, offset: int, limit: int) -> list[int]:
        known: list[int] = []
        without: list[int] = []
        for number in rows_of(mask):
            (without if self.value_of(self._rows[number]) is None else known).append(number)
        first = (nlargest if descending else nsmallest)(offset + limit, known, key=self._key)[offset:]
        start = max(0, offset - len(known))
        return first + without[start : start + limit - len(first)]


def by_name(rows: list[Row], pause: Callable[[], object] = lambda: None) -> list[int]:
    """The numbers of ``rows`` by name."""
    out: list[int] = []
    for part in in_pieces(range(len(rows)), [row.name for row in rows], pause):
        out += part
    return out
