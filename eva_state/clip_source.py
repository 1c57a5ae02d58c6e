"""What the clip index keeps of each entry and rating, read from their records without building the rest of them.

Filling the index from whole entries takes three times as long. What does not fit the structures below is read in the
general way: nothing depends on this module but time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from eva_state import documents
from eva_state.clip_rows import Judgement, defects_of, judgement_of, number_or_none, tags_of
from eva_state.heads import NULL
from eva_state.records import Record, dump
from eva_state.registers import entry_in

if TYPE_CHECKING:
    from eva_state.store import StateStore

_AT_ONCE = 2000  # texts parsed in one call


class Shown(msgspec.Struct, gc=False):
    """Of an entry: what the index shows, sorts and filters by. ``params`` are kept as text."""

    video: Any = None
    video_path: Any = None
    timestamp: Any = None
    score: Any = None
    prompt: Any = None
    params: msgspec.Raw = NULL

    def get(self, key: str) -> Any:
        return getattr(self, key)


class _EntryData(msgspec.Struct, gc=False):
    entry: Shown | None = None
    value: Shown | None = None


class _Marks(msgspec.Struct, gc=False):
    overall_quality: Any = None
    is_reference: Any = None
    banned: Any = None
    defects: Any = None
    tags: Any = None


class _RatingData(msgspec.Struct, gc=False):
    rating: _Marks
    timestamp: Any = msgspec.UNSET


_ENTRIES = msgspec.json.Decoder(list[_EntryData]).decode
_RATINGS = msgspec.json.Decoder(list[_RatingData]).decode


def clips(store: StateStore) -> Iterator[tuple[str, Shown | None, Judgement | None]]:
    """What the index keeps of every clip's entry and rating, in the order of the history."""
    with store._lock:
        known = [(clip.name, clip.entry, clip.rating) for clip in store._model.clips.values()]
    for start in range(0, len(known), _AT_ONCE):
        batch = known[start : start + _AT_ONCE]
        entries = _entries([entry for _, entry, _ in batch if entry is not None])
        judged = _judgements([rating for _, _, rating in batch if rating is not None])
        for name, entry, rating in batch:
            yield name, None if entry is None else next(entries), None if rating is None else next(judged)


def _parsed(records: list[Record], decode: Callable[[bytes], list[Any]]) -> list[Any] | None:
    try:
        return decode(b"[%s]" % b",".join([record.raw for record in records]))
    except (msgspec.DecodeError, RecursionError):
        return None


def _judgements(records: list[Record]) -> Iterator[Judgement | None]:
    found = _parsed(records, _RATINGS)
    if found is None:
        yield from (judgement_of(documents.rating_item(record)) for record in records)
        return
    for record, data in zip(records, found):
        marks, stamp = data.rating, data.timestamp
        overall = marks.overall_quality
        yield Judgement(
            float(overall) if type(overall) is int and 0 < overall < 11 else number_or_none(overall),
            record.ts if stamp is msgspec.UNSET else number_or_none(stamp),
            marks.banned is True,
            marks.is_reference is True,
            (defects_of(marks.defects) if marks.defects else ()) + (tags_of(marks.tags) if marks.tags else ()),
        )


def _entries(records: list[Record]) -> Iterator[Shown]:
    found = _parsed(records, _ENTRIES)
    if found is None:
        return map(_general, records)
    return (data.entry or data.value or Shown() for data in found)


def _general(record: Record) -> Shown:
    entry = entry_in(json.loads(record.raw)) or {}
    fields = {key: entry.get(key) for key in ("video", "video_path", "timestamp", "score", "prompt")}
    return Shown(**fields, params=msgspec.Raw(dump(entry.get("params"))))
