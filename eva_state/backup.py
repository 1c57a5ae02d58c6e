"""One file that holds a state, and views written anew (``python -m eva_state backup``, ``rebuild``)."""

from __future__ import annotations

import os
import tempfile
import time
import zipfile
from pathlib import Path

from eva_env_base import StateError
from eva_state import documents
from eva_state.files import Files
from eva_state.journal import segments
from eva_state.published import forget_digests
from eva_state.store import StateStore
from eva_state.verify import WRITERS, Progress, Report, is_held, verify

OTHERS = ("reference_params.json",)  # the user's own
VIEWS_FOLDER = "views"  # in the archive: to look at; a restored state makes its own from the journal
_LEFT_OUT = ("locks", "published.json")  # of this machine and these very files


def backup(state_dir: Path, target: Path, progress: Progress | None = None) -> Report:
    """Writes a zip of the journal, the user's files and a copy of the views, unpacks it and checks every record of it.

    May run while others work: each segment is copied up to its last whole record. To restore, unpack it into an empty
    folder. Raises StateError when the target exists, cannot be written, or does not read back as it was written.
    """
    journal = state_dir / "journal"
    if not journal.is_dir():
        raise StateError(f"{state_dir}: there is no state here; name another with --state-dir")
    if target.exists():
        raise StateError(f"{target} exists already; name another file")
    whole = [path for writer in WRITERS for path in segments(journal / writer)]
    left = {journal / name for name in _LEFT_OUT}
    kept = [path for path in sorted(journal.rglob("*")) if path.is_file() and path not in whole and not left & {path, *path.parents}]
    named = [(path, path.relative_to(state_dir).as_posix()) for path in (*whole, *kept, *(state_dir / name for name in OTHERS))]
    named += [(state_dir / view, f"{VIEWS_FOLDER}/{view}") for view in documents.VIEWS]
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for number, (path, name) in enumerate(named, 1):
                try:
                    data = path.read_bytes()
                except FileNotFoundError:
                    continue  # never written, or removed meanwhile
                if path in whole:
                    data = data[: data.rfind(b"\n") + 1]
                archive.writestr(name, data)
                if progress is not None:
                    progress("files", number)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".eva-backup-") as folder:
            with zipfile.ZipFile(temporary) as archive:
                archive.extractall(folder)  # checks every file's checksum
            (Path(folder) / "journal").mkdir(exist_ok=True)
            report = verify(Path(folder), progress)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)  # noqa: PTH105
    except zipfile.BadZipFile as error:
        raise StateError(f"{target}: does not read back as it was written ({error}); is the disk failing?") from error
    except OSError as error:
        raise StateError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return report


def rebuild(state_dir: Path, video_dir: Path | None, *, discard_edits: bool = False, takeover: bool = False) -> list[Path]:
    """Writes every view anew from the journal. Hand edits are taken in first, or set aside with ``discard_edits``.

    Returns the files set aside. Raises StateError (StateLocked) while another process publishes or works as ``tool``.
    """
    if not (state_dir / "journal").is_dir():
        raise StateError(f"{state_dir}: there is no state here; name another with --state-dir")
    busy = f"{state_dir}: another process keeps the views up to date; stop server and agent first"
    if is_held(state_dir / "journal" / "locks", "publish") and not takeover:
        raise StateError(busy)
    aside: list[Path] = []
    forget_digests(state_dir, Files())
    for view in documents.VIEWS:
        path = state_dir / view
        if not path.exists():
            continue
        if discard_edits:
            aside.append(path.with_name(f"{view}.discarded-{time.strftime('%Y%m%d-%H%M%S')}"))
            os.replace(path, aside[-1])  # noqa: PTH105
        else:
            # A file with another time is not the one that was published: it is read, compared, and written whole.
            status = path.stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 2_000_000_000))
    with StateStore(state_dir, role="tool", video_dir=video_dir, takeover=takeover) as store:
        if not store.flush():
            raise StateError(busy)
        aside += [problem.kept for problem in store.problems if problem.kept is not None]
    return aside
