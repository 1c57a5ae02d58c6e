"""The texts of view items, put together from the texts in the records.

Parsing a record and encoding its item anew takes ten times as long. What does not fit is made that way: each function
gives the text of what its namesake in :mod:`eva_state.documents` says.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw

from eva_state import documents
from eva_state.heads import NULL
from eva_state.records import Record, dump


class _Generated(msgspec.Struct, gc=False):
    entry: Raw = NULL
    value: Raw = NULL


class _Rated(msgspec.Struct, gc=False):
    rating: Raw
    rated_at: str = ""
    timestamp: Any = UNSET
    extra: Any = UNSET


class _Queued(msgspec.Struct, gc=False):
    video_path: Any = None
    timestamp: Raw | msgspec.UnsetType = UNSET
    metrics: Raw = NULL
    prompt: Raw = Raw(b'""')
    params: Raw = NULL
    combo: Raw = NULL
    score: Any = None


_GENERATED = msgspec.json.Decoder(_Generated).decode
_RATED = msgspec.json.Decoder(_Rated).decode
_QUEUED = msgspec.json.Decoder(_Queued).decode


def entry_text(record: Record) -> bytes:
    """The history entry as it was recorded."""
    found = _GENERATED(record.raw)
    return bytes(found.entry if found.entry != NULL else found.value)


def rating_item(record: Record) -> bytes:
    try:
        found = _RATED(record.raw)
    except msgspec.DecodeError:
        return dump(documents.rating_item(record))
    if found.extra is not UNSET or found.timestamp is not UNSET or not found.rated_at:
        return dump(documents.rating_item(record))
    return b'{"rating":%s,"timestamp":%s,"rated_at":%s}' % (bytes(found.rating), dump(record.ts), dump(found.rated_at))


def history_item(entry: Record, rating: Record | None) -> bytes:
    text = entry_text(entry)
    if rating is None:
        return text
    try:
        found = _RATED(rating.raw)
    except msgspec.DecodeError:
        return dump(documents.history_item(entry, rating))
    if b'"manual_rat' in text or len(text) <= 2 or found.extra is not UNSET or not found.rated_at:
        return dump(documents.history_item(entry, rating))
    return b'%s,"manual_rating":%s,"manual_rated_at":%s}' % (text[:-1], bytes(found.rating), dump(found.rated_at))


def queue_item(name: str, entry: Record | None, override: dict[str, Any] | None) -> bytes:
    if entry is None or override:
        return dump(documents.queue_item(name, entry, override))
    try:
        found = _QUEUED(entry_text(entry))
    except msgspec.DecodeError:
        return dump(documents.queue_item(name, entry, override))
    return (
        b'{"video_id":%s,"original_path":%s,"thumbnail_path":null,"generated_at":%s,"auto_metrics":%s,"prompt":%s,"params":%s,'
        b'"combo":%s,"priority":%s}'
    ) % (
        dump(name),
        dump(found.video_path or name),
        dump(entry.ts) if isinstance(found.timestamp, msgspec.UnsetType) else bytes(found.timestamp),
        _or(found.metrics, b"{}"),
        bytes(found.prompt),
        _or(found.params, b"{}"),
        _or(found.combo, b"[]"),
        dump(documents.priority(found.score)),
    )


def _or(text: Raw, empty: bytes) -> bytes:
    """``value or empty``: what Python takes for false is replaced."""
    found = bytes(text)
    return found if found[:1] in b"{[" and len(found) > 2 else empty if found in (b"null", b"{}", b"[]", b'""', b"0", b"false") else found
