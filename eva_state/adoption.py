"""Reads from a published view which item stands where, so that a start need not encode it anew to publish one change.

Only for files that are as this EVA left them (same inode, size and time as noted when they were written): each item is
one line there. Whoever adopts a file compares the keys found with those it expects, and encodes the view whole where
they differ.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from itertools import islice
from sys import intern
from typing import NamedTuple

import msgspec

from eva_state.blocks import BLOCK_ITEMS, Block, Section
from eva_state.pace import Pace

KeyOf = Callable[[bytes], "str | None"]  # the key of an item's line; None: not an item (yet). Raises ValueError
_NAMED = re.compile(rb'"((?:[^"\\]|\\.)*)": ')
_QUEUED = re.compile(rb'\{"video_id":"((?:[^"\\]|\\.)*)"')
_ENDS = frozenset({b"]\n", b"],\n", b"}\n", b"},\n", b"\n"})
_LONGEST_END = 3
_WORK_SECONDS, _REST_SECONDS = 0.001, 0.0005  # request threads get the interpreter this often


class Form(NamedTuple):
    """How an item's line tells its key. In an ordinary line, where nothing is escaped, it stands between two texts."""

    key_of: KeyOf
    before: bytes
    after: bytes


class Marked(NamedTuple):
    """A section begins after the line ``marker``. Lines with a key of ``not_items`` are none."""

    marker: bytes
    section: Section
    form: Form
    not_items: frozenset[str] = frozenset()


class _Entry(msgspec.Struct, gc=False):
    video: str


_ENTRY = msgspec.json.Decoder(_Entry).decode


def named_key(line: bytes) -> str:
    return _text(_NAMED, line)


def queued_key(line: bytes) -> str:
    return _text(_QUEUED, line)


def entry_key(line: bytes) -> str:
    return _ENTRY(line).video  # DecodeError is a ValueError


def _text(pattern: re.Pattern[bytes], line: bytes) -> str:
    found = pattern.match(line)
    if found is None:
        raise ValueError("not an item")
    inner = found.group(1)
    return json.loads(b'"%s"' % inner) if b"\\" in inner else inner.decode()


NAMED = Form(named_key, b'"', b'": ')
QUEUED = Form(queued_key, b'{"video_id":"', b'"')
ENTRY = Form(entry_key, b'{"video":"', b'"')


def adopt(fd: int, sections: Iterable[Marked]) -> list[Block] | None:
    """Fills the sections with the blocks of a published file. None when it does not read as expected (they are cleared)."""
    wanted = list(sections)
    blocks: list[Block] = []
    try:
        with open(os.dup(fd), "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.seek(0)
            lines = _Lines(file)
            for item in wanted:
                blocks += _section(lines, item)
    except (ValueError, RecursionError):
        for item in wanted:
            item.section.clear()
        return None
    return blocks


class _Lines:
    """Lines with their offsets; rests now and then."""

    def __init__(self, file: Iterable[bytes]):
        self._file = iter(file)
        self._back: list[bytes] = []  # read already, the next one last
        self._pace = Pace(work=_WORK_SECONDS, rest=_REST_SECONDS)
        self.offset = 0  # of the line after the last one given

    def next(self) -> bytes:
        line = self._back.pop() if self._back else next(self._file, None)
        if line is None:
            raise ValueError("the file ends too early")
        self.offset += len(line)
        return line

    def many(self, count: int) -> list[bytes]:
        """As many lines, or none where a section ends among them."""
        self._pace()
        lines = [self._back.pop() for _ in range(min(count, len(self._back)))]
        lines += islice(self._file, count - len(lines))
        if len(lines) < count or min(map(len, lines)) <= _LONGEST_END:
            self.give_back(lines)
            return []
        self.offset += sum(map(len, lines))
        return lines

    def give_back(self, lines: list[bytes], *, counted: bool = False) -> None:
        self._back += lines[::-1]
        if counted:
            self.offset -= sum(map(len, lines))


def _section(lines: _Lines, item: Marked) -> list[Block]:
    """Reads a block at once where its lines are ordinary, else line by line."""
    section = item.section
    section.clear()
    while lines.next() != item.marker:
        pass
    end = lines.offset
    while True:
        found = _block(lines, item, end) if section.blocks else None  # what is no item stands before the first one
        if found is not None:
            end = found
            continue
        filled = len(section.blocks[-1].keys) % BLOCK_ITEMS if section.blocks else 0
        for _ in range(BLOCK_ITEMS - filled):
            line = lines.next()
            if line in _ENDS:
                return section.blocks
            end = _item(lines, item, line, end)


def _block(lines: _Lines, item: Marked, end: int) -> int | None:
    """A whole block more, after the items up to the offset ``end``; where it ends, or None when it is not that simple."""
    section = item.section
    if len(section.blocks[-1].keys) < BLOCK_ITEMS:
        return None
    taken = lines.many(BLOCK_ITEMS)
    if not taken:
        return None
    keys = _plain_keys(taken, item.form)
    if len(set(keys)) < len(taken) or not item.not_items.isdisjoint(keys) or not section.where.keys().isdisjoint(keys):
        lines.give_back(taken, counted=True)
        return None
    block = Block()
    block.keys, block.offset = keys, end
    block.length = lines.offset - (2 if taken[-1].endswith(b",\n") else 1) - end
    section.blocks.append(block)
    section.where.update(dict.fromkeys(keys, block))
    return end + block.length


def _plain_keys(lines: list[bytes], form: Form) -> list[str]:
    """The keys of ordinary lines; none at all where one is not."""
    _, before, after = form
    at = len(before)
    try:
        found = b"\n".join([line[at : line.index(after, at)] for line in lines if line.startswith(before)])
    except ValueError:
        return []
    return [] if b"\\" in found or b'"' in found else list(map(intern, found.decode().split("\n")))


def _item(lines: _Lines, item: Marked, line: bytes, end: int) -> int:
    """One item more, or a line that is none; where the items end now."""
    section, where = item.section, item.section.where
    text = line[:-2] if line.endswith(b",\n") else line[:-1]
    start = lines.offset - len(line)
    key = item.form.key_of(text)
    if key is None or key in item.not_items:
        if section.blocks:
            raise ValueError("something stands between the items")
        return start + len(text)
    if key in where:
        raise ValueError(f"{key!r} occurs twice")
    key = intern(key)  # the text that the replica holds already
    block = section.blocks[-1] if section.blocks else None
    if block is None or len(block.keys) >= BLOCK_ITEMS:
        first = block is None
        block = Block()
        block.first, block.offset = first, start if first else end
        section.blocks.append(block)
    block.keys.append(key)
    where[key] = block
    block.length = start + len(text) - block.offset
    return start + len(text)
