"""Reads from a published view which item stands where, so that a start need not encode it anew to publish one change.

Only for files that are as this EVA left them (same inode, size and time as noted when they were written): each item is
one line there. Whoever adopts a file compares the keys found with those it expects, and encodes the view whole where
they differ.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable
from sys import intern
from typing import NamedTuple

import msgspec

from eva_state.blocks import BLOCK_ITEMS, Block, Section

KeyOf = Callable[[bytes], "str | None"]  # the key of an item's line; None: not an item (yet). Raises ValueError
_NAMED = re.compile(rb'"((?:[^"\\]|\\.)*)": ')
_QUEUED = re.compile(rb'\{"video_id":"((?:[^"\\]|\\.)*)"')
_ENDS = frozenset({b"]\n", b"],\n", b"}\n", b"},\n", b"\n"})
_WORK_SECONDS, _REST_SECONDS = 0.001, 0.0002  # request threads get the interpreter this often


class Marked(NamedTuple):
    """A section begins after the line ``marker``."""

    marker: bytes
    section: Section
    key_of: KeyOf


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
        self._count = 0
        self._since = time.monotonic()
        self.offset = 0  # of the line after the last one given

    def next(self) -> bytes:
        line = next(self._file, None)
        if line is None:
            raise ValueError("the file ends too early")
        self.offset += len(line)
        self._count += 1
        if not self._count & 127 and time.monotonic() - self._since > _WORK_SECONDS:
            time.sleep(_REST_SECONDS)
            self._since = time.monotonic()
        return line


def _section(lines: _Lines, item: Marked) -> list[Block]:
    section, key_of, where = item.section, item.key_of, item.section.where
    section.clear()
    while lines.next() != item.marker:
        pass
    block: Block | None = None
    end = lines.offset
    while (line := lines.next()) not in _ENDS:
        text = line[:-2] if line.endswith(b",\n") else line[:-1]
        start, before = lines.offset - len(line), end
        end = start + len(text)
        key = key_of(text)
        if key is None:
            if block is not None:
                raise ValueError("something stands between the items")
            continue
        if key in where:
            raise ValueError(f"{key!r} occurs twice")
        key = intern(key)  # the text that the replica holds already
        if block is None or len(block.keys) >= BLOCK_ITEMS:
            first = block is None
            block = Block()
            block.first, block.offset = first, start if first else before
            section.blocks.append(block)
        block.keys.append(key)
        where[key] = block
        block.length = end - block.offset
    return section.blocks
