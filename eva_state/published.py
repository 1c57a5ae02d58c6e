"""``journal/published.json``: what the published views are, so that a file somebody else wrote is told from EVA's own.

Of each view it holds the version on disk and, before a rename, the one about to be: inode, size and time of the file, the
newest record of each writer in it, and, once a process has closed, a digest of the content: a folder that was copied has
other inodes and times, and is known by it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

from eva_state.files import Files

log = logging.getLogger(__name__)
DIGEST = "sha256"  # of a noted version, where it is known
Stamp = tuple[int, int, int]  # inode, size, modification time in ns: all three stay when nobody touches the file


def stamp_of(status: os.stat_result) -> Stamp:
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def digest_of(path: Path) -> tuple[Stamp, str] | None:
    """Stamp and SHA-256 of a file; None where it changes meanwhile. Raises OSError."""
    with path.open("rb") as file:
        before, digest = stamp_of(os.fstat(file.fileno())), hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
        return (before, digest.hexdigest()) if stamp_of(os.fstat(file.fileno())) == before else None


def version_on_disk(path: Path, status: os.stat_result, versions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Which of the noted versions the file is; None: somebody wrote it.

    One that was copied or restored has another inode or time, and is told by its content where its digest was noted.
    """
    stamp = stamp_of(status)
    for version in versions:
        if tuple(version["stamp"]) == stamp:
            return version
    alike = [version for version in versions if version.get(DIGEST) and version["stamp"][1] == stamp[1]]
    if not alike or (found := digest_of(path)) is None or found[0] != stamp:
        return None
    return next((version for version in alike if version[DIGEST] == found[1]), None)


def forget_digests(state_dir: Path, files: Files) -> None:
    """From now on only inode, size and time tell a published file: one whose time is changed counts as somebody's."""
    form, views = read_note(note_of(state_dir))
    kept = {view: [{key: version[key] for key in version if key != DIGEST} for version in found] for view, found in views.items()}
    if views:
        files.write_file(note_of(state_dir), json.dumps({"form": form, "views": kept}).encode())


def note_of(state_dir: Path) -> Path:
    return state_dir / "journal" / "published.json"


class Note(NamedTuple):
    """What ``published.json`` says: the form of the items and the versions of each view that may be on disk, the newest last."""

    form: int
    views: dict[str, list[dict[str, Any]]]


def read_note(path: Path) -> Note:
    """Empty when there is none or it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
        views = found["views"]
        for version in (item for versions in views.values() for item in versions):
            _ = tuple(version["stamp"]), version["applied"].items()  # of another form: one of the errors below
        return Note(found.get("form", 0), views)
    except FileNotFoundError:
        return Note(0, {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): the views are compared with the whole journal instead", path, error)
        return Note(0, {})


def published_records(state_dir: Path) -> dict[str, int] | None:
    """The newest record of each writer that every view on disk contains, those left out that somebody else wrote; None: no view."""
    versions = []
    for view, found in read_note(note_of(state_dir)).views.items():
        try:
            version = version_on_disk(state_dir / view, (state_dir / view).stat(), found)
        except OSError:
            continue  # whoever publishes will say what is wrong
        if version is not None:
            versions.append(version["applied"])
    if not versions:
        return None
    writers = {writer for applied in versions for writer in applied}
    return {writer: min(applied.get(writer, 0) for applied in versions) for writer in writers}
