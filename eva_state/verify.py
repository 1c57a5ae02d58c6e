"""Checks every record of every journal and every view, changing nothing (``python -m eva_state verify``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eva_env_base import StateError
from eva_state import documents, records
from eva_state.documents import APPLIED_KEY, BANDIT, KNOWLEDGE, QUEUE, QUEUE_LISTS, VIEWS
from eva_state.guard import Guard
from eva_state.journal import SEGMENT_NAME, read_lines, segments
from eva_state.model import Model
from eva_state.published import version_on_disk
from eva_state.records import Record

WRITERS = ("server", "agent", "tool")
# What a record of each type cannot do without.
NEEDED: dict[str, tuple[str, ...]] = {
    **{"rating": ("name", "rating"), "ban": ("key",), "unban": ("key",), "compare": ("left", "right", "winner"), "undo": ("target",)},
    **{"submitted": ("prompt_id",), "generated": ("entry",), "failed": (), "space": ("space",), "import": ("view", "key", "value")},
    "lost": ("reason",),
}
Progress = Callable[[str, int], None]


@dataclass
class Finding:
    """``problem``: something is wrong; else it is only worth knowing. ``todo`` says what to do."""

    path: Path
    offset: int | None
    message: str
    todo: str = ""
    problem: bool = True

    def __str__(self) -> str:
        where = str(self.path) if self.offset is None else f"{self.path}, byte {self.offset}"
        return f"{'PROBLEM' if self.problem else 'note   '}  {where}: {self.message}" + (f". {self.todo}" if self.todo else "")


@dataclass
class Report:
    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    segments: int = 0
    views: int = 0
    model: Model = field(default_factory=Model)

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.problem]

    @property
    def verdict(self) -> str:
        seen = f"{self.records} records in {self.segments} segments, {self.views} views"
        count = len(self.problems)
        return f"sound: {seen}" if not count else f"{count} problem{'s' if count > 1 else ''} in {seen}"


def verify(state_dir: Path, progress: Progress | None = None) -> Report:
    """May run while others work on the folder. Raises StateError when there is no state in ``state_dir``."""
    journal = state_dir / "journal"
    if not journal.is_dir():
        raise StateError(f"{state_dir}: there is no state here (no folder {journal.name}); name another with --state-dir")
    report = Report()
    targets: list[tuple[Path, int, str]] = []
    writers_of: dict[str, str] = {}
    for writer in WRITERS:
        folder = journal / writer
        if folder.is_dir():
            _check_journal(folder, is_held(journal / "locks", writer), report, targets, writers_of, progress)
    for path, offset, target in targets:
        if target not in report.model.events:
            report.findings.append(
                Finding(
                    path, offset, f"undoes {target!r}, which is in no journal", "Was a journal folder removed? Restore it from a backup"
                )
            )
    for path in sorted(journal.rglob("*.broken")):
        report.findings.append(
            Finding(path, None, f"{path.stat().st_size} bytes that were cut", "Kept for you; may be deleted", problem=False)
        )
    for path in sorted(journal.glob("before-compact-*")):
        report.findings.append(
            Finding(
                path, None, "the journal as it was before a compaction", "May be deleted where this report finds no problem", problem=False
            )
        )
    _check_views(state_dir, is_held(journal / "locks", "publish"), report)
    return report


def is_held(locks: Path, role: str) -> bool:
    """Whether some process holds a role now (tried by taking it for an instant)."""
    if not (locks / f"{role}.lock").exists() and not (locks / f"{role}.owner").exists():
        return False
    guard = Guard(locks, role)
    try:
        free = guard.try_acquire()
    except StateError:
        return False  # a folder that may only be read: nobody writes here
    guard.release()
    return not free


# ---------------------------------------------------------------- journals
def _check_journal(
    folder: Path, live: bool, report: Report, targets: list[tuple[Path, int, str]], writers_of: dict[str, str], progress: Progress | None
) -> None:
    found = segments(folder)
    numbers = [int(path.stem) for path in found]
    for before, after in zip(numbers, numbers[1:]):
        if after != before + 1:
            missing = f"segments {before + 1} to {after - 1} are missing: what follows is not read"
            report.findings.append(Finding(found[numbers.index(after)], None, missing, "Restore them from a backup"))
    for path in sorted(folder.iterdir()):
        if not SEGMENT_NAME.match(path.name) and path.suffix != ".broken":
            report.findings.append(Finding(path, None, "no file of EVA's; it is not read", problem=False))
    last_seq = last_lc = 0
    for path in found:
        report.segments += 1
        for offset, _, item in _lines(path):
            if isinstance(item, records.BadRecord):
                what = f"corrupt record ({item}); it is skipped, the others are read"
                report.findings.append(Finding(path, offset, what, "`compact` moves it aside; a backup of this file may hold it intact"))
                continue
            record, data = item
            report.records += 1
            if progress is not None:
                progress("records", report.records)
            if record.w != folder.name:
                report.findings.append(Finding(path, offset, f"written by {record.w!r} in the journal of {folder.name!r}", "Move it back"))
            if record.seq > last_seq + 1:
                lost = f"records {last_seq + 1} to {record.seq - 1} are missing"
                report.findings.append(Finding(path, offset, lost, "Restore them from a backup, or let `compact` note them as lost"))
            elif record.seq <= last_seq:
                report.findings.append(
                    Finding(path, offset, f"record {record.seq} follows record {last_seq}", "Two processes wrote at once?")
                )
            if record.lc <= last_lc:
                report.findings.append(Finding(path, offset, f"clock {record.lc} follows {last_lc}", "Two processes wrote at once?"))
            last_seq, last_lc = max(last_seq, record.seq), max(last_lc, record.lc)
            _check_record(path, offset, record, data, report, writers_of)
            if record.type == "undo" and isinstance(data.get("target"), str):
                targets.append((path, offset, data["target"]))
            report.model.apply(record, data)
        _check_tail(path, live and path == found[-1], report)


def _lines(path: Path) -> Iterator[tuple[int, bytes, tuple[Record, dict[str, Any]] | records.BadRecord]]:
    """Every complete line with its offset, fully checked (``submitted`` records too, whose data replay skips)."""
    offset = 0
    for _, lines in read_lines(path):
        for line in lines:
            try:
                record, _ = records.decode(line)
                yield offset, line, (record, record.data)
            except records.BadRecord as error:
                yield offset, line, error
            offset += len(line) + 1


def _check_record(path: Path, offset: int, record: Record, data: dict[str, Any], report: Report, writers_of: dict[str, str]) -> None:
    needed = NEEDED.get(record.type)
    if needed is None:
        if record.type in records.TYPES:
            return
        todo = "A newer EVA wrote it? Use that one"
        report.findings.append(Finding(path, offset, f"type {record.type!r} is not known here; without effect", todo, problem=False))
        return
    lacking = [key for key in needed if key not in data]
    if record.type == "generated" and not lacking and not isinstance((data["entry"] or {}).get("video"), str):
        lacking = ["entry.video"]
    if lacking:
        report.findings.append(
            Finding(path, offset, f"{record.type} {record.id!r} lacks {', '.join(lacking)}; without effect", "Tell its author")
        )
    if record.type == "lost":
        report.findings.append(Finding(path, offset, f"record {record.seq} was lost: {data.get('reason')}", problem=False))
    if record.id in writers_of:
        todo = "The first one counts; nothing need be done"
        report.findings.append(
            Finding(path, offset, f"id {record.id!r} was recorded before, by {writers_of[record.id]}", todo, problem=False)
        )
    writers_of[record.id] = record.w


def _check_tail(path: Path, live: bool, report: Report) -> None:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
    start = sum(len(line) + 1 for _, lines in read_lines(path) for line in lines)
    if live:
        report.findings.append(Finding(path, start, "a record is just being written", problem=False))
    else:
        todo = "It was never acknowledged; the next start cuts it and keeps it as .broken"
        report.findings.append(Finding(path, start, f"torn record of {size - start} bytes at the end", todo))


# ---------------------------------------------------------------- views
def _check_views(state_dir: Path, live: bool, report: Report) -> None:
    note = _read_note(state_dir / "journal" / "published.json", report)
    for view in VIEWS:
        _check_view(state_dir / view, [item for item in note.get(view, []) if len(item.get("stamp", ())) == 3], live, report)


def _check_view(path: Path, versions: list[dict[str, Any]], live: bool, report: Report) -> None:
    view = path.name
    try:
        status = path.stat()
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        report.findings.append(Finding(path, None, "is not there", "The next start, or `rebuild`, writes it", problem=False))
        return
    except (OSError, ValueError, RecursionError) as error:
        report.findings.append(Finding(path, None, f"cannot be parsed ({error})", "`rebuild` sets it aside and writes it anew"))
        return
    report.views += 1
    known = version_on_disk(path, status, versions)
    if live and known is None:
        return  # being replaced while we look
    if alike(view, found, documents.document(report.model, view)):
        return
    if known is None:
        what = "was written by somebody else since EVA wrote it"
        report.findings.append(Finding(path, None, what, "The next start takes the changes in", problem=False))
    elif live or known.get("applied") != report.model.applied:
        report.findings.append(Finding(path, None, "is older than the journal", "The next start brings it up to date", problem=False))
    else:
        report.findings.append(Finding(path, None, "does not say what the journal says", "`rebuild --discard-edits` writes it anew"))


def alike(view: str, one: Any, other: Any) -> bool:
    """Whether two contents of a view say the same. Mostly the order is the same too, and nothing need be sorted for it."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = one.keys() | other.keys()
        if all(key in one and key in other and one[key] == other[key] for key in keys if key != APPLIED_KEY):
            return True
    return bool(canonical(view, one) == canonical(view, other))


def _read_note(path: Path, report: Report) -> dict[str, list[dict[str, Any]]]:
    try:
        found = json.loads(path.read_bytes())["views"]
        return {view: [item for item in items if isinstance(item, dict)] for view, items in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        todo = "The next start writes it anew"
        report.findings.append(Finding(path, None, f"cannot be read ({error!r})", todo))
        return {}


def canonical(view: str, content: Any) -> Any:
    """A view's content without what does not matter: the mark, and the order of clips and combos."""
    if not isinstance(content, dict):
        return content
    out = {key: value for key, value in content.items() if key != APPLIED_KEY}
    lists = {BANDIT: ("arms", "banned_combos"), KNOWLEDGE: ("history",), QUEUE: QUEUE_LISTS}.get(view, ())
    for key in lists:
        if isinstance(out.get(key), list):
            out[key] = sorted(out[key], key=lambda item: json.dumps(item, sort_keys=True))
    return out
