"""Small live JSON files (``agent_status.json``): replaced atomically, read by anybody, no part of the truth."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
STALE_SECONDS = 15.0  # a live file older than this means that its writer no longer runs


def write_live(path: Path, data: dict[str, Any]) -> None:
    """Replaces ``path`` atomically. Not fsynced: after a power cut an old status is as good as none.

    Raises OSError when the folder cannot be written (the caller decides whether that matters) and
    TypeError/ValueError for data that is not JSON.
    """
    write_live_bytes(path, json.dumps(data, ensure_ascii=False, allow_nan=False).encode("utf-8"))


def write_live_bytes(path: Path, content: bytes) -> None:
    """:func:`write_live` for a file of another form (a picture)."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)  # noqa: PTH105 - os.replace is atomic on every platform
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_live(path: Path) -> dict[str, Any] | None:
    """The file's object; None when it is absent, unreadable or not a JSON object (the reason is logged)."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return None
    if not isinstance(data, dict):
        log.warning("%s does not hold a JSON object", path)
        return None
    return data


def age_of(path: Path, now: float) -> float | None:
    """Seconds since ``path`` was last replaced, or None when it is absent."""
    try:
        return max(0.0, now - Path(path).stat().st_mtime)
    except FileNotFoundError:
        return None
