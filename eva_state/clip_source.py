"""What the clip index keeps of each entry and rating, read from their records without building the rest of them.

A replay that is told to (:class:`Notes`) makes it on the way; what it did not make is read from the records again, many in a
call. What does not fit the structures below is read in the general way: nothing depends on this module but time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from eva_state import documents, heads
from eva_state.clip_rows import Judgement, Row, combo_of, defects_of, facets_of, judgement_of, number_or_none, shortest, tags_of
from eva_state.heads import NULL, ByParams, Params
from eva_state.records import Record, dump
from eva_state.registers import Clip, entry_in
from eva_state.video_folder import ClipFile

if TYPE_CHECKING:
    from eva_state.store import StateStore

_AT_ONCE = 2000  # texts parsed in one call
_PARAM_NAMES = Params.__struct_fields__
Facets = tuple[tuple[str, Any], ...]
Derived = tuple[str | None, Facets]  # combo key and facets of an entry
NO_PARAMS: Derived = (None, ())


class Brief(msgspec.Struct, gc=False):
    """Of an entry: what the index shows, sorts and filters by. Everything but the record is None where it is unknown."""

    name: str | None  # the clip's, below the video folder
    made: float | None  # unix seconds
    score: float | None  # [0,1]
    text: str  # name and prompt in lower case
    derived: Derived


class Shown(msgspec.Struct, gc=False):
    """The same as it stands in a record. ``params`` are kept as text."""

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


class _Rating(msgspec.Struct, gc=False):
    rating: heads.Mark
    timestamp: Any = UNSET


_ENTRIES = msgspec.json.Decoder(list[_EntryData]).decode
_RATINGS = msgspec.json.Decoder(list[_Rating]).decode


def name_of_entry(entry: Shown | Mapping[str, Any], video_dir: Path) -> str | None:
    """The clip name of a history entry. Old entries hold an absolute path under ``video`` or ``video_path``.

    A path below ``video_dir`` gives the part below it; any other absolute path its file name.
    """
    video = entry.get("video") or entry.get("video_path")
    if not isinstance(video, str) or not video:
        return None
    if _below(video):
        return video
    if video[0] == "/":
        root = str(PurePosixPath(str(video_dir))).rstrip("/") + "/"
        return video[len(root) :] if video.startswith(root) else PurePosixPath(video).name or None
    if PureWindowsPath(video).drive:
        return PureWindowsPath(video).name or None
    return video


def _below(video: str) -> bool:
    """Whether it is a name as they are now, no path of the original system's."""
    return video[0] not in "/\\" and video[1:2] != ":"


def text_of(name: str, prompt: Any) -> str:
    """What a search looks through: name and prompt in lower case."""
    return f"{name}\n{prompt}".lower() if isinstance(prompt, str) else name.lower()


def derived_of(entry: Mapping[str, Any]) -> Derived:
    """Combo key and facets of an entry."""
    return combo_of(entry), facets_of(entry.get("params"))


def by_params() -> ByParams[Derived]:
    """:func:`derived_of`, remembered by the params' text."""

    def derived(params: Params) -> Derived:
        given = {key: value for key in _PARAM_NAMES if (value := getattr(params, key)) is not UNSET}
        return combo_of({"params": given}), facets_of(given)

    return ByParams[Derived](derived, NO_PARAMS)


def _plain_facets(raw: msgspec.Raw) -> Facets | None:
    """``facets_of`` of params as nearly all are, in a fraction of the time; None for any others."""
    try:
        p = heads.params_in(raw)
    except msgspec.DecodeError:
        return None
    cfg = p.cfg_scale
    if p.extra is not None or type(p.sampler) is not str or type(p.scheduler) is not str or type(cfg) not in (int, float):
        return None
    fps, steps, width, height = p.fps, p.steps, p.width, p.height
    if not type(fps) is type(steps) is type(width) is type(height) is int or cfg - cfg != 0:
        return None
    words = ("sampler", p.sampler.strip()), ("scheduler", p.scheduler.strip())
    return *words, ("fps", fps), ("cfg", shortest(cfg)), ("steps", steps), ("width", width), ("height", height), ("size", (width, height))


class Notes:
    """Rows made while the store reads its journals: ``StateStore(..., seen=Notes())``. Each is of use while its records still hold."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}  # by the name that the records hold
        self._facets: dict[str, Facets] = {}  # combos are few, and tell the facets
        self._derived = by_params()

    def entry(self, name: str, record: Record, entry: heads.Entry, combo: str | None) -> None:
        made, score, video = entry.timestamp, entry.score, entry.video
        if type(made) is not float:  # number_or_none, written out for what is a float already (JSON has only finite ones)
            made = number_or_none(made)
        if type(score) is not float:
            score = number_or_none(score)
        if made is None or not video or not _below(video):
            return
        facets = None if combo is None else self._facets.get(combo)
        if facets is None:
            facets = None if combo is None else _plain_facets(entry.params)
            if facets is None:
                combo, facets = self._derived(entry.params)
            if combo is not None:
                self._facets[combo] = facets
        text = text_of(name, entry.prompt)
        # By place, because by name takes half as long again: file, present, found, alias, position; manual, rated, marked, reference
        self.rows[name] = Row(name, None, True, True, None, -1, made, score, None, False, False, False, combo, text, None, facets)

    def rating(self, name: str, record: Record, data: heads.RatingData) -> None:
        row, marks = self.rows.get(name), data.rating
        if row is None or marks is None:
            return
        row.rated = True
        if data.timestamp is UNSET and not marks.banned and not marks.is_reference and not marks.defects and not marks.tags:
            row.manual, row.rated_at = _mark(marks.overall_quality), record.ts
            return
        row.manual, row.rated_at, row.marked, row.reference, defects = _judgement(record, marks, data.timestamp)
        if defects:
            row.facets += defects

    def of(self, clip: Clip) -> Row | None:
        """The row, if the records it was made of are the only ones of their clip, and hold."""
        if clip.entry is None or clip.entry is not clip.entry_log or clip.rating is not clip.rating_log:
            return None  # a log of several records is a list
        row = self.rows.get(clip.name)
        return row if row is not None and row.rated is (clip.rating is not None) else None


def load_rows(
    store: StateStore, video_dir: Path, scan: Callable[[Container[str]], Mapping[str, ClipFile]]
) -> tuple[dict[str, Row], int, Mapping[str, ClipFile]]:
    """The rows of all clips, how many entries the history has, and the files. Uses up the store's notes.

    ``scan`` gives the files of the folder; it is told which names are of finished clips whose time of making the history holds.
    """
    notes, store.seen = store.seen if isinstance(store.seen, Notes) else Notes(), None
    rows: dict[str, Row] = {}
    position = 0
    others: list[tuple[str, Record | None, Record | None, int]] = []
    with store._lock:
        for clip in store._model.clips.values():
            row = notes.of(clip)
            if row is not None:
                rows[clip.name] = row
                row.position = position
            else:
                others.append((clip.name, clip.entry, clip.rating, position))
            position += clip.entry is not None
    files = scan(rows)
    for name, row in rows.items():
        row.file = files.get(name)
    only_rated: dict[str, Judgement] = {}
    for name, brief, judged, place in _read(others, video_dir):
        shown = None if brief is None else brief.name
        if shown is not None and (shown not in rows or rows[shown].position < place):
            found = judged if shown == name else judgement_of(store.rating(shown))
            rows[shown] = row_of(shown, brief, found, None, place, files.get(shown), True)
        if judged is not None and shown != name:
            only_rated[name] = judged
    for name in (*only_rated, *files):
        if name not in rows:
            rows[name] = row_of(name, None, only_rated.get(name), None, -1, files.get(name), True)
    return rows, position, files


def _read(
    clips: list[tuple[str, Record | None, Record | None, int]], video_dir: Path
) -> Iterator[tuple[str, Brief | None, Judgement | None, int]]:
    """What the records of these clips say."""
    derived = by_params()
    for start in range(0, len(clips), _AT_ONCE):
        batch = clips[start : start + _AT_ONCE]
        entries = _entries([entry for _, entry, _, _ in batch if entry is not None])
        judged = _judgements([rating for _, _, rating, _ in batch if rating is not None])
        for name, entry, rating, position in batch:
            brief = None if entry is None else _brief(name, next(entries), video_dir, derived)
            yield name, brief, None if rating is None else next(judged), position


def _brief(name: str, entry: Shown, video_dir: Path, derived: ByParams[Derived]) -> Brief:
    found = name_of_entry(entry, video_dir)
    if found == name:
        found = name  # one text, not two
    made, score = number_or_none(entry.timestamp), number_or_none(entry.score)
    return Brief(found, made, score, text_of(found or name, entry.prompt), derived(entry.params))


def brief_of(name: str, entry: Mapping[str, Any]) -> Brief:
    """Of a history entry as a whole, for the row of ``name``."""
    made, score = number_or_none(entry.get("timestamp")), number_or_none(entry.get("score"))
    return Brief(name, made, score, text_of(name, entry.get("prompt")), derived_of(entry))


def row_of(
    name: str, entry: Brief | None, judged: Judgement | None, alias: str | None, position: int, file: ClipFile | None, shown: bool
) -> Row:
    """The index's row. ``shown`` False: another file stands for this name where it has none of its own."""
    combo, facets = NO_PARAMS
    overall = rated_at = made = score = None
    marked = reference = False
    if entry is not None:
        made, score, text, (combo, facets) = entry.made, entry.score, entry.text, entry.derived
    else:
        text = name.lower()
    if judged is not None:
        overall, rated_at, marked, reference, defects = judged
        if defects:
            facets += defects
    found, rated = entry is not None, judged is not None
    present = file is not None or (shown and (found or rated))
    return Row(name, file, present, found, alias, position, made, score, overall, rated, marked, reference, combo, text, rated_at, facets)


def _parsed(records: list[Record], decode: Callable[[bytes], list[Any]]) -> list[Any] | None:
    try:
        return decode(b"[%s]" % b",".join([record.raw for record in records]))
    except (msgspec.DecodeError, RecursionError):
        return None


def _mark(overall: Any) -> float | None:
    return float(overall) if type(overall) is int and 0 < overall < 11 else number_or_none(overall)


def _judgement(record: Record, marks: heads.Mark, stamp: Any) -> Judgement:
    return Judgement(
        _mark(marks.overall_quality),
        record.ts if stamp is UNSET else number_or_none(stamp),
        marks.banned is True,
        marks.is_reference is True,
        (defects_of(marks.defects) if marks.defects else ()) + (tags_of(marks.tags) if marks.tags else ()),
    )


def _judgements(records: list[Record]) -> Iterator[Judgement | None]:
    found = _parsed(records, _RATINGS)
    if found is None:
        return (judgement_of(documents.rating_item(record)) for record in records)
    return (_judgement(record, data.rating, data.timestamp) for record, data in zip(records, found))


def _entries(records: list[Record]) -> Iterator[Shown]:
    found = _parsed(records, _ENTRIES)
    if found is None:
        return map(_general, records)
    return (data.entry or data.value or Shown() for data in found)


def _general(record: Record) -> Shown:
    entry = entry_in(json.loads(record.raw)) or {}
    fields = {key: entry.get(key) for key in ("video", "video_path", "timestamp", "score", "prompt")}
    return Shown(**fields, params=msgspec.Raw(dump(entry.get("params"))))
