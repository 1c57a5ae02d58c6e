"""Makes the journal smaller without changing what it says (``python -m eva_state compact``).

What goes is what nothing can ask for again: the text of prompts that were handed to a server and have ended since, a fifth
of a long journal and more. A stub with the same number, clock and id stays in the record's place. Every rating, ban,
comparison, undo, clip and failure stays, superseded and undone ones too: the action history stays whole, any age can be
undone, and every id is known for good. A corrupt record is moved to a ``.broken`` file and a ``lost`` record takes its place.

Safe at every instant: segments are replaced one by one, atomically, each by one that replays to the same. The old ones lie
(as links) in ``journal/before-compact-TIME/`` until the new journal, read back from disk, has been compared with what the
old one said.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eva_env_base import StateError
from eva_state import documents, records
from eva_state.files import Files
from eva_state.guard import Guard
from eva_state.journal import Follower, segments
from eva_state.model import Model
from eva_state.records import Record
from eva_state.verify import WRITERS, Progress, _lines, alike

MAX_LOST = 100_000  # more missing numbers than this are not filled one by one: something else is wrong


@dataclass
class Compacted:
    """Bytes and counts; ``backup`` is the folder of the old segments where it was kept."""

    before: int = 0
    after: int = 0
    stubs: int = 0
    lost: int = 0
    backup: Path | None = None


@contextmanager
def alone(state_dir: Path, *, takeover: bool = False, clock: Callable[[], float] = time.time) -> Iterator[None]:
    """Holds every role, so that nobody writes to the state. Raises StateLocked naming who does."""
    locks = state_dir / "journal" / "locks"
    with ExitStack() as stack:
        for role in (*WRITERS, "publish"):
            guard = Guard(locks, role, clock=clock, takeover=takeover)
            guard.acquire()
            stack.callback(guard.release)
        yield


def compact(
    state_dir: Path,
    *,
    keep_backup: bool = False,
    takeover: bool = False,
    files: Files | None = None,
    clock: Callable[[], float] = time.time,
    progress: Progress | None = None,
) -> Compacted:
    """Raises StateLocked while anything runs, StateError when the result would differ (then everything is as before)."""
    journal = state_dir / "journal"
    if not journal.is_dir():
        raise StateError(f"{state_dir}: there is no state here; name another with --state-dir")
    files = files or Files()
    with alone(state_dir, takeover=takeover, clock=clock):
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(clock()))
        backup = _fresh(journal / f"before-compact-{stamp}")
        old, result = replay(journal), Compacted()
        try:
            for writer in WRITERS:
                _compact_writer(journal / writer, backup, old, files, result, stamp, progress)
            differs = difference(old, replay(journal)) if backup.is_dir() else None  # nothing was replaced: nothing to compare
            if differs:
                raise StateError(f"{journal}: {differs} would not be the same after compacting; nothing was changed")
        except OSError as error:
            _restore(journal, backup, files)
            raise StateError(
                f"{journal}: the disk refused ({error.strerror or error}); nothing was changed, repeat with more room"
            ) from error
        except BaseException:
            _restore(journal, backup, files)
            raise
        if keep_backup and backup.is_dir():
            result.backup = backup
        else:
            shutil.rmtree(backup, ignore_errors=True)
        return result


def replay(journal: Path) -> Model:
    model = Model()
    for writer in WRITERS:
        for batch in Follower(journal / writer, quiet=True).poll():
            model.apply_all(batch)
    return model


def difference(old: Model, new: Model) -> str | None:
    """What two replicas do not agree on; None when they say the same."""

    facts: dict[str, Callable[[Model], Any]] = {
        "the ids of events": lambda model: {id: record.type for id, record in model.events.items() if record.type != "lost"},
        "the actions": lambda model: [(record.id, record.undone, record.raw) for record in model.actions],
        "what each writer wrote last": lambda model: model.applied,
        "finished prompts": lambda model: model.finished,
        "prompts in flight": lambda model: {id: record.raw for id, record in model.submitted.items()},
        "failures": lambda model: {id: record.raw for id, record in model.failed.items()},
        "comparisons": lambda model: set(model.compares),
        "repeated ratings": lambda model: set(model.repeats),
        "requests and answers": lambda model: model.requests.facts(),
        "the search space": lambda model: None if model.space is None else model.space.raw,
    }
    for what, fact in facts.items():
        if fact(old) != fact(new):
            return what
    for view in documents.VIEWS:  # one at a time: a big view takes hundreds of MB
        if not alike(view, documents.document(old, view), documents.document(new, view)):
            return view
    return None


def stub(record: Record, prompt_id: str) -> Record:
    """A ``submitted`` record with nothing but its prompt id in it."""
    return Record(record.seq, record.id, record.lc, record.ts, record.w, record.type, records.dump({"prompt_id": prompt_id}))


def _compact_writer(
    folder: Path, backup: Path, model: Model, files: Files, result: Compacted, stamp: str, progress: Progress | None
) -> None:
    last = Record(0, "", 0, 0.0, folder.name, "", b"{}")
    found = segments(folder)
    for path in found:
        out: list[bytes] = []
        bad: list[tuple[int, bytes]] = []
        changed = False
        for offset, line, item in _lines(path):
            if isinstance(item, records.BadRecord):
                bad.append((offset, line))
                changed = True
                continue
            record, data = item
            if last.seq + 1 < record.seq <= last.seq + MAX_LOST:
                out += _lost(last, record, f"kept as {path.stem}.{stamp}.{bad[-1][0]}.broken" if bad else "missing when it was compacted")
                result.lost += record.seq - last.seq - 1
                changed = True
            last = record if record.seq > last.seq else last
            prompt_id = data.get("prompt_id")
            if record.type == "submitted" and prompt_id in model.finished and set(data) != {"prompt_id"}:
                line = records.encode(stub(record, prompt_id)).rstrip(b"\n")
                result.stubs += 1
                changed = True
            out.append(line)
            if progress is not None:
                progress("records", len(out))
        new = b"".join(line + b"\n" for line in out)
        size = path.stat().st_size
        result.before += size
        result.after += len(new) if changed else size
        if not changed:
            continue
        tail = _tail(path)
        if tail and path != found[-1]:
            bad.append((size - len(tail), tail))
        elif tail:
            new += tail  # the next start cuts it, as ever
        for offset, line in bad:
            files.write_file(path.with_name(f"{path.stem}.{stamp}.{offset}.broken"), line)
        _keep(path, backup / folder.name, files)
        files.write_file(path, new)


def _lost(before: Record, after: Record, reason: str) -> list[bytes]:
    """Records in the place of those between two; their clocks lie between, too, or equal the earlier one."""
    out = []
    for seq in range(before.seq + 1, after.seq):
        lc = min(before.lc + seq - before.seq, max(after.lc - 1, before.lc))
        out.append(
            records.encode(
                Record(seq, f"lost:{after.w}:{seq}", lc, before.ts or after.ts, after.w, "lost", records.dump({"reason": reason}))
            ).rstrip(b"\n")
        )
    return out


def _tail(path: Path) -> bytes:
    """What stands after the last newline."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        step = min(size, 1 << 16)
        while True:
            file.seek(size - step)
            text = file.read(step)
            at = text.rfind(b"\n")
            if at >= 0 or step == size:
                return text[at + 1 :]
            step = min(size, step * 4)


def _keep(path: Path, folder: Path, files: Files) -> None:
    """The old segment under another name: a link where the file system has them, so that it costs no space."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
        fd = files.open_append(target)
        try:
            files.fsync(fd)
        finally:
            files.close(fd)
    files.fsync_dir(folder)
    files.fsync_dir(folder.parent)


def _restore(journal: Path, backup: Path, files: Files) -> None:
    """Puts the old segments back (renames: no space is needed)."""
    if not backup.is_dir():
        return
    for folder in sorted(backup.iterdir()):
        for path in sorted(folder.iterdir()):
            files.replace(path, journal / folder.name / path.name)
        files.fsync_dir(journal / folder.name)
    shutil.rmtree(backup, ignore_errors=True)


def _fresh(path: Path) -> Path:
    number = 1
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found
