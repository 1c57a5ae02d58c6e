"""One journal record: one line of JSON, checksummed.

``{"crc":"xxxxxxxx","seq":1,"id":"...","lc":1,"ts":1.5,"w":"server","type":"rating","data":{...}}\\n``

The checksum is the CRC-32 (as zlib's) of the line's bytes after ``{"crc":"xxxxxxxx",`` up to, not
including, the newline: the very bytes on disk, so that checking a record needs no second serialisation.
"""

from __future__ import annotations

import json
import logging
import math
from struct import pack
from sys import intern
from typing import Any
from zlib import crc32

import msgspec

from eva_state.heads import Head, read_heads

log = logging.getLogger(__name__)
TYPES = frozenset({"rating", "ban", "unban", "compare", "undo", "submitted", "generated", "failed", "space", "import"})
TYPES |= {"request", "answer", "repeat"}
_HEAD = b'{"crc":"'
_BODY_AT = len(_HEAD) + 8 + 2  # after the eight hex digits and `",`
_DATA = b',"data":'
_DATA_BYTES = len(_DATA)
_PARSE = msgspec.json.Decoder().decode


class BadRecord(ValueError):
    """A line that is not an intact record; the message says why."""


class Record(msgspec.Struct, eq=False, gc=False):
    """A record. ``lc`` is a Lamport clock, ``ts`` unix seconds, ``w`` the writer, ``raw`` the JSON text of its data.

    The data stay as text and are parsed when asked for: a history of 100,000 clips takes a quarter of the memory
    its parsed form would. ``undone`` is the replica's note, not part of the record. The garbage collector need not
    walk records (``gc=False``): they refer to nothing that could refer back.
    """

    seq: int
    id: str
    lc: int
    ts: float
    w: str
    type: str
    raw: bytes
    undone: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """The data, parsed anew at every call: keep it in a variable."""
        return parse(self.raw)

    @property
    def order(self) -> tuple[int, str, int]:
        """Newer records compare greater, the same way in every process."""
        return (self.lc, self.w, self.seq)

    def __repr__(self) -> str:
        return f"Record({self.w} {self.seq}, lc {self.lc}, {self.type}, {self.id!r})"


Item = tuple[Record, dict[str, Any] | Head | None]  # a record and its data, or what of it the replica needs, where known


def parse(text: bytes) -> Any:
    """The value of a JSON text of the journal. Raises ValueError (RecursionError for one nested too deeply)."""
    try:
        return _PARSE(text)
    except msgspec.DecodeError:
        return json.loads(text)  # what the strict parser will not read (a number too large for a float), this one may


def dump(value: Any) -> bytes:
    """Compact JSON. Raises ValueError/TypeError for what is not JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def encode(record: Record) -> bytes:
    """The record's line, newline included."""
    head = dump({"seq": record.seq, "id": record.id, "lc": record.lc, "ts": record.ts, "w": record.w, "type": record.type})
    body = b'%s,"data":%s}' % (head[1:-1], record.raw)
    return b'%s%08x",%s\n' % (_HEAD, crc32(body), body)


def check_line(line: bytes) -> None:
    """Raises :class:`BadRecord` unless ``line`` (without newline) carries its own checksum."""
    if line[: len(_HEAD)] != _HEAD or line[_BODY_AT - 2 : _BODY_AT] != b'",':
        raise BadRecord("not a record")
    if b"%08x" % crc32(line[_BODY_AT:]) != line[len(_HEAD) : _BODY_AT - 2]:
        raise BadRecord("checksum does not match")


def _raw_of(line: bytes) -> bytes:
    # Inside a JSON string a quote is escaped, so these bytes can only be the member itself; it is written last.
    return line[line.index(_DATA) + len(_DATA) : -1]


def decode(line: bytes) -> Item:
    """The record of one line (newline optional). Raises :class:`BadRecord`."""
    line = line.rstrip(b"\n")
    check_line(line)
    try:
        found = parse(line)
        data, seq, id, lc = found["data"], found["seq"], found["id"], found["lc"]
        record = Record(seq, id, lc, found["ts"], intern(found["w"]), intern(found["type"]), _raw_of(line))
    except (KeyError, TypeError) as error:
        raise BadRecord(f"field missing: {error}") from None
    except (ValueError, RecursionError) as error:
        raise BadRecord(str(error)) from None
    if type(seq) is not int or type(lc) is not int or type(id) is not str or type(data) is not dict:
        raise BadRecord("field of the wrong type")
    return record, data


def decode_many(lines: list[bytes]) -> list[Item | BadRecord]:
    """Decodes intact and broken lines alike, in order.

    Lines are parsed many in one call, and only as far as the replica needs them (:mod:`eva_state.heads`), which takes
    a quarter of the time.
    """
    good, out = (lines, []) if _all_sound(lines) else _sound(lines)
    heads = read_heads(good)
    if heads is None:  # some line is of a form of its own: the fewest possible are decoded in the general way
        half = len(lines) // 2
        return decode_many(lines[:half]) + decode_many(lines[half:]) if half else [_decode_or_error(line) for line in lines]
    found: list[Item | BadRecord] = [
        (Record(head.seq, head.id, head.lc, head.ts, head.w, head.kind, line[line.index(_DATA) + _DATA_BYTES : -1]), head)
        for head, line in zip(heads, good)
    ]
    if len(good) == len(lines):
        return found
    following = iter(found)
    return [next(following) if item is None else item for item in out]


def _all_sound(lines: list[bytes]) -> bool:
    """Whether every line carries its own checksum: :func:`check_line` for many, in half the time."""
    heads = b"".join([line[:_BODY_AT] for line in lines])
    sums = pack(f">{len(lines)}I", *[crc32(line[_BODY_AT:]) for line in lines])
    # Were a head anything else, it would not go away here, and more than the digits would be left.
    return heads.replace(_HEAD, b"").replace(b'",', b"") == sums.hex().encode()


def _sound(lines: list[bytes]) -> tuple[list[bytes], list[Item | BadRecord | None]]:
    """The intact lines; and for every line None, or what is to be said of it."""
    good: list[bytes] = []
    out: list[Item | BadRecord | None] = []
    for line in lines:
        try:
            check_line(line)
        except BadRecord as error:
            out.append(error)
        else:
            good.append(line)
            out.append(None)
    return good, out


def _decode_or_error(line: bytes) -> Item | BadRecord:
    try:
        return decode(line)
    except BadRecord as error:
        return error


def plain(value: Any, where: str = "value") -> Any:
    """A deep copy of ``value`` made of JSON types only, so that later changes of the caller's object do not matter.

    Numbers of other libraries (anything with ``item()``) become Python's; a number that is not finite
    becomes null, for JSON has none. Raises ValueError naming where the first unfit value stands.
    """
    if value is None or isinstance(value, (bool, str)):
        if isinstance(value, str):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                # A lone surrogate cannot be written as UTF-8 (names read with surrogateescape have them).
                raise ValueError(f"{where}: {value!r} is not valid Unicode text") from None
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            log.warning("%s is %r; recorded as null", where, value)
            return None
        return float(value)
    if isinstance(value, dict):
        return {_key(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    item = getattr(value, "tolist", None) or getattr(value, "item", None)
    if callable(item):
        return plain(item(), where)
    raise ValueError(f"{where}: {type(value).__name__} cannot be recorded as JSON")


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{where}: the key {key!r} is not text")
    return plain(key, where)
