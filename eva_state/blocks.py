"""The body of a big view as blocks of items, so that publishing one change does not encode the whole file anew.

A view is parts in a row: plain bytes, and sections of items, one item a line. A section's items are grouped in
blocks of a few dozen. A new version of the file is put together from the old one: runs of unchanged blocks are
copied by the kernel, changed blocks are encoded. Memory: a dictionary slot an item; the text stays in the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from eva_state.files import Files

BLOCK_ITEMS = 64  # about a millisecond to encode; 100,000 items make 1,600 blocks
_WRITE_BYTES = 1 << 20
_WORK_SECONDS, _REST_SECONDS = 0.001, 0.0002  # a long encoding leaves the interpreter to request threads this often


class Block:
    __slots__ = ("changed", "first", "keys", "length", "offset")

    def __init__(self) -> None:
        self.keys: list[str] = []  # few: looked through in no time
        self.changed = 0  # grows with every change, so that one made while the file is written is not missed
        self.offset = self.length = -1  # in the published file; -1: not in it
        self.first = False  # encoded without a comma before its first item


class Section:
    """An ordered set of keys. ``encode(keys)`` gives the items' texts (fewer, where some are gone by now)."""

    def __init__(self, encode: Callable[[list[str]], list[bytes]]):
        self.encode = encode
        self.where: dict[str, Block] = {}
        self.blocks: list[Block] = []

    def touch(self, key: str) -> None:
        """The item is new or has changed."""
        block = self.where.get(key)
        if block is None:
            if not self.blocks or len(self.blocks[-1].keys) >= BLOCK_ITEMS:
                self.blocks.append(Block())
            block = self.where[key] = self.blocks[-1]
            block.keys.append(key)
        block.changed += 1

    def drop(self, key: str) -> None:
        block = self.where.pop(key, None)
        if block is not None:
            block.keys.remove(key)
            block.changed += 1

    def fill(self, keys: Iterable[str]) -> None:
        """These keys instead of what there is, all of them changed."""
        self.clear()
        for key in keys:
            self.touch(key)

    def clear(self) -> None:
        self.where.clear()
        self.blocks.clear()


class Layout:
    """Which blocks lie where in the published file. ``seen`` remembers each block's change count as encoded."""

    def __init__(self) -> None:
        self.seen: dict[Block, int] = {}

    def forget(self) -> None:
        """The published file is not what it was: everything must be encoded anew."""
        self.seen.clear()

    def adopt(self, blocks: Iterable[Block]) -> None:
        """The published file holds these blocks as they are."""
        self.seen = {block: block.changed for block in blocks}

    def write(self, parts: Iterable[bytes | Section], old: int | None, new: int, files: Files) -> Callable[[], None]:
        """Writes the parts to ``new``, copying unchanged blocks from ``old``. Call the result once the file is published."""
        buffer = bytearray()
        run_start = run_length = 0  # the run of old bytes waiting to be copied
        position = 0
        placed: list[tuple[Block, int, int, int, bool]] = []
        started = time.monotonic()

        def flush(limit: int = 0) -> None:
            if len(buffer) > limit:
                files.write_all(new, bytes(buffer))
                buffer.clear()

        def copy() -> None:
            nonlocal run_length
            if run_length and old is not None:
                flush()
                files.copy_range(old, new, run_start, run_length)
                run_length = 0

        for part in parts:
            if isinstance(part, bytes):
                copy()
                buffer += part
                position += len(part)
                continue
            empty = True
            for block in list(part.blocks):
                changed = block.changed
                if old is not None and block.offset >= 0 and self.seen.get(block) == changed and (block.first == empty or not block.length):
                    length = block.length
                    if run_length and run_start + run_length == block.offset:
                        run_length += length
                    else:
                        copy()
                        run_start, run_length = block.offset, length
                    if buffer and length:
                        flush()
                else:
                    copy()
                    texts = part.encode(list(block.keys))
                    body = b",\n".join(texts)
                    if body and not empty:
                        body = b",\n" + body
                    buffer += body
                    flush(_WRITE_BYTES)
                    length = len(body)
                    if time.monotonic() - started > _WORK_SECONDS:
                        time.sleep(_REST_SECONDS)
                        started = time.monotonic()
                placed.append((block, position, length, changed, empty))
                position += length
                empty = empty and length == 0
            copy()
        copy()
        flush()

        def done() -> None:
            self.seen = {}
            for block, offset, length, changed, first in placed:
                block.offset, block.length, block.first = offset, length, first
                self.seen[block] = changed

        return done
