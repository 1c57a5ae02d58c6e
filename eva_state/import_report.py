"""Takes the files of another folder in, or only tells what that would do (``python -m eva_state import DIR [--dry-run]``).

What this state knows already stands: a clip that is rated here keeps its rating, a clip with an entry keeps that. So taking
the same folder in twice changes nothing.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eva_env_base import StateError
from eva_state import documents, legacy
from eva_state.compact import replay
from eva_state.documents import BANS, KNOWLEDGE, QUEUE, QUEUE_LISTS, RATINGS, VIEWS
from eva_state.hand_edits import ORDER, Differ
from eva_state.journal import Draft
from eva_state.model import Model
from eva_state.records import Record, dump
from eva_state.reference import read_reference_params

if TYPE_CHECKING:
    from eva_state.store import StateStore

log = logging.getLogger(__name__)
REFERENCE = "reference_params.json"
SAMPLES = 5
_KINDS = {
    **{"rating": "ratings", "ban": "bans", "unban": "bans lifted", "history": "history entries", "base": "combos with statistics"},
    **{
        "t": "count of tries",
        "best": "best clip",
        "item": "queue items",
        "record": "ban history items",
        "extra": "unknown keys, kept as they are",
    },
}


@dataclass
class FileReport:
    """What was found in one file. ``taken``: counts by kind; ``notes`` and ``unreadable``: what, and samples of it."""

    name: str
    taken: Counter[str] = field(default_factory=Counter)
    kept_here: Counter[str] = field(default_factory=Counter)
    notes: dict[str, list[str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    absent: bool = False

    def note(self, what: str, sample: str) -> None:
        self.notes.setdefault(what, []).append(sample)

    def lines(self) -> Iterator[str]:
        if self.absent:
            yield f"{self.name}: not there"
            return
        yield f"{self.name}: " + (", ".join(f"{count} {what}" for what, count in self.taken.items()) or "nothing new")
        for what, count in self.kept_here.items():
            yield f"  {count} {what} known here already: what is here stands"
        for what, samples in self.notes.items():
            yield f"  {len(samples)} {what}: {_samples(samples)}"
        if self.unreadable:
            yield f"  {len(self.unreadable)} could not be read: {_samples(self.unreadable)}"


def _samples(found: list[str]) -> str:
    return "; ".join(text if len(text) <= 120 else text[:117] + "..." for text in found[:SAMPLES]) + (
        "; ..." if len(found) > SAMPLES else ""
    )


class Scratch:
    """Stands in for the store where nothing may be written: records are applied to a replica in memory only."""

    def __init__(self, model: Model, state_dir: Path, video_dir: Path | None):
        self._model = model
        self._lock = threading.RLock()
        self.state_dir, self.video_dir = state_dir, video_dir

    def rating(self, name: str) -> dict[str, Any] | None:
        clip = self._model.clips.get(name)
        return None if clip is None or clip.rating is None else documents.rating_item(clip.rating)

    def record_many(self, drafts: list[Draft]) -> int:
        for draft in drafts:
            seq = self._model.applied.get("tool", 0) + 1
            self._model.apply(Record(seq, draft.id, self._model.lc + 1, 0.0, "tool", draft.type, dump(draft.data)), draft.data)
        return len(drafts)

    def report(self, path: Path, message: str, kept: Path | None = None) -> None:
        log.warning("%s: %s", path, message)


def import_folder(source: Path, store: StateStore | Scratch, *, keep_in: Path | None = None) -> list[FileReport]:
    """Takes every known file of ``source`` into ``store``. ``keep_in``: where copies of the files are kept.

    Raises StateError when the folder holds none of them, StateFull when the disk is full (run it again: nothing is taken twice).
    """
    if not source.is_dir():
        raise StateError(f"{source}: is no folder")
    reports = [_import_file(source, view, store, keep_in) for view in sorted(VIEWS, key=ORDER.index)]
    reports.append(_reference(source, store, keep_in))
    if all(report.absent for report in reports):
        raise StateError(f"{source}: holds none of {', '.join((*VIEWS, REFERENCE))}; name the folder they lie in")
    return reports


def dry_run(source: Path, state_dir: Path, video_dir: Path | None) -> list[FileReport]:
    """What :func:`import_folder` would do. Nothing is written anywhere."""
    return import_folder(source, Scratch(replay(state_dir / "journal"), state_dir, video_dir))


def _import_file(source: Path, view: str, store: StateStore | Scratch, keep_in: Path | None) -> FileReport:
    report, path = FileReport(view), source / view
    try:
        content, doubled = legacy.load(path.read_bytes())
    except FileNotFoundError:
        report.absent = True
        return report
    except (OSError, ValueError, RecursionError) as error:
        report.unreadable.append(f"the whole file: {error}")
        return report
    for key in doubled:
        report.note("names that stand twice in one object (the last one counts, as in every JSON reader)", key)
    content = legacy.shaped(view, content)
    if keep_in is not None:
        _keep(path, keep_in)
    if view != BANS and not isinstance(content, dict):
        report.unreadable.append(f"the whole file: it holds a {type(content).__name__} instead of an object")
        return report
    with store._lock:
        now = documents.document(store._model, view)
        clips = {clip.name: (clip.entry is not None, clip.rating is not None) for clip in store._model.clips.values()}
    differ = Differ(store, [] if view == BANS else {}, now, first=True)  # type: ignore[arg-type]
    chosen = []
    for draft in differ.drafts(view, content):
        kind, name = draft.type, draft.data.get("name", "")
        if kind == "import":
            kind, _, name = draft.data["key"].partition("/")
        known = clips.get(name, (False, False))
        if (kind == "history" and known[0]) or (kind == "rating" and known[1]):
            report.kept_here[_KINDS[kind]] += 1
            continue
        if draft.type == "import" and kind != "history" and (holds := _imported(store, view, kind, name)) is not None:
            if kind not in ("extra", "record") and holds["value"] != draft.data["value"]:
                report.kept_here[_KINDS[kind]] += 1
            if kind != "extra" or holds["value"] == draft.data["value"]:
                continue
        if kind == "best" and draft.data["value"]["best_score"] <= (now.get("best_score") or 0.0):
            continue
        if kind == "extra" and name.endswith("unreadable"):
            found = draft.data["value"]
            report.unreadable += [f"{item!r}" for item in (found.items() if isinstance(found, dict) else found)]
        elif kind == "extra" and view == RATINGS:
            report.unreadable.append(f"{name!r}: {draft.data['value']!r}")
        else:
            report.taken[_KINDS[kind]] += 1
        chosen.append(draft)
    _describe(report, view, content, store.video_dir)
    store.record_many(chosen)
    return report


def _imported(store: StateStore | Scratch, view: str, kind: str, name: str) -> dict[str, Any] | None:
    """Data of the ``import`` record that holds for a name."""
    with store._lock:
        record = store._model.imports.get((view, kind), {}).get(name)
    return None if record is None else record.data


def _describe(report: FileReport, view: str, content: Any, video_dir: Path | None) -> None:
    """Notes on older forms and on what does not fit together."""
    if view == RATINGS and isinstance(content, dict):
        for written, value in content.items():
            name = legacy.clip_name(written, video_dir) or written
            if name != written:
                report.note("named by a path", f"{written!r} is {name!r}")
            data = legacy.rating_data(name, value)
            if data is None:
                continue
            inner = value.get("rating") if isinstance(value, dict) else None
            if not (isinstance(inner, dict) and legacy.is_number(inner.get("overall_quality"))):
                report.note("rated in an older form", f"{name!r}: overall {data['rating']['overall_quality']}")
            if not 1 <= data["rating"]["overall_quality"] <= 10:
                report.note("with an overall quality outside 1 to 10 (taken as they are)", f"{name!r}: {data['rating']['overall_quality']}")
            if video_dir is not None and video_dir.is_dir() and not (video_dir / name).is_file():
                report.note("ratings of clips that are no longer there (kept)", repr(name))
    if view == KNOWLEDGE and isinstance(content, dict):
        history = content.get("history")
        for entry in history if isinstance(history, list) else []:
            if isinstance(entry, dict):
                found = next((key for key in legacy.NAME_KEYS if isinstance(entry.get(key), str) and entry[key]), None)
                if found is None:
                    report.note("entries that name no clip (kept)", repr(entry)[:100])
                elif found != "video":
                    report.note(f"entries named by {found!r}", repr(entry[found]))
    if view == QUEUE and isinstance(content, dict):
        for name in QUEUE_LISTS:
            if name in content and not isinstance(content[name], list):
                report.note("lists that are none", f"{name} is {content[name]!r}")


def _reference(source: Path, store: StateStore | Scratch, keep_in: Path | None) -> FileReport:
    """The file is the user's: it is copied where there is none."""
    report, path = FileReport(REFERENCE), source / REFERENCE
    if not path.exists():
        report.absent = True
        return report
    try:
        found = read_reference_params(path)
    except StateError as error:
        report.unreadable.append(str(error))
        return report
    target = store.state_dir / REFERENCE
    if target.exists():
        if source.resolve() != store.state_dir.resolve():
            report.kept_here["reference file"] = 1
        return report
    report.taken["reference params"] = len(found)
    if keep_in is not None:
        shutil.copyfile(path, target)
    return report


def _keep(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{path.name}.{path.stat().st_mtime_ns}"
    if not target.exists():
        temporary = target.with_name(target.name + ".tmp")
        shutil.copyfile(path, temporary)
        temporary.replace(target)
