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


def _batches(records: list[Record], decode: Callable[[bytes], list[Any]]) -> Iterator[tuple[list[Record], list[Any] | None]]:
    for start in range(0, len(records), _AT_ONCE):
        batch = records[start : start + _AT_ONCE]
        try:
            found: list[Any] | None = decode(b"[%s]" % b",".join([record.raw for record in batch]))
        except (msgspec.DecodeError, RecursionError):
            found = None
        yield batch, found


def judgements(store: StateStore) -> dict[str, Judgement | None]:
    """What the index keeps of every rating, by clip."""
    with store._lock:
        clips = [(clip.name, clip.rating) for clip in store._model.clips.values() if clip.rating is not None]
    out: dict[str, Judgement | None] = {}
    names = iter([name for name, _ in clips])
    for batch, found in _batches([record for _, record in clips], _RATINGS):
        if found is None:
            out |= {next(names): judgement_of(documents.rating_item(record)) for record in batch}
            continue
        for record, data in zip(batch, found):
            marks, stamp = data.rating, data.timestamp
            overall = marks.overall_quality
            out[next(names)] = Judgement(
                float(overall) if type(overall) is int and 0 < overall < 11 else number_or_none(overall),
                record.ts if stamp is msgspec.UNSET else number_or_none(stamp),
                marks.banned is True,
                marks.is_reference is True,
                (defects_of(marks.defects) if marks.defects else ()) + (tags_of(marks.tags) if marks.tags else ()),
            )
    return out


def entries(store: StateStore) -> Iterator[Shown]:
    """What the index keeps of every entry, in the order of the history."""
    with store._lock:
        records = [clip.entry for clip in store._model.clips.values() if clip.entry is not None]
    for batch, found in _batches(records, _ENTRIES):
        if found is None:
            yield from (_general(record) for record in batch)
        else:
            yield from (data.entry or data.value or Shown() for data in found)


def _general(record: Record) -> Shown:
    entry = entry_in(json.loads(record.raw)) or {}
    fields = {key: entry.get(key) for key in ("video", "video_path", "timestamp", "score", "prompt")}
    return Shown(**fields, params=msgspec.Raw(dump(entry.get("params"))))
