"""The agent's logs in ``logs_improved/``: three readable files, and one structured JSON line a clip.

| file | holds |
|---|---|
| ``main.log`` | everything |
| ``analysis.log`` | what the analyses found, and what could not be measured |
| ``training.log`` | what the bandit and the taste model learned |
| ``merged_analysis.jsonl`` | a line a clip: video, params, fast, deep and blended metrics |

All rotate, because a pod's volume is small. A file that cannot be written is reported once and done without.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eva_env_base import LOG_FORMAT, LogFile

FOLDER = "logs_improved"
CHANNELS = {"analysis.log": "eva.analysis", "training.log": "eva.training"}
JSONL = "merged_analysis.jsonl"

log = logging.getLogger(__name__)


def open_channels(folder: Path) -> list[logging.Handler]:
    """Attaches the files of :data:`CHANNELS` to their loggers; give the result to :func:`close_channels` in the end."""
    handlers: list[logging.Handler] = []
    for name, channel in CHANNELS.items():
        handler = rotating(folder / name)
        if handler is not None:
            handler.setFormatter(logging.Formatter(LOG_FORMAT))
            logging.getLogger(channel).addHandler(handler)
            handlers.append(handler)
    return handlers


def close_channels(handlers: list[logging.Handler]) -> None:
    """Detaches and closes what :func:`open_channels` made."""
    for channel in CHANNELS.values():
        for handler in handlers:
            logging.getLogger(channel).removeHandler(handler)
    for handler in handlers:
        handler.close()


def rotating(path: Path) -> LogFile | None:
    """A rotating UTF-8 file handler, or None (reported) where the file cannot be opened."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return LogFile(path)
    except OSError as error:
        log.warning("no log file %s: %s", path, error.strerror or error)
        return None


class AnalysisJournal:
    """Appends one JSON line a clip to ``merged_analysis.jsonl``. Thread-safe; not the truth, only for people and scripts."""

    def __init__(self, folder: Path):
        self._handler = rotating(folder / JSONL)
        self._lock = threading.Lock()
        if self._handler is not None:
            self._handler.setFormatter(logging.Formatter("%(message)s"))

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes one line; keys keep their order."""
        if self._handler is None:
            return
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
        with self._lock:
            self._handler.emit(logging.LogRecord(JSONL, logging.INFO, "", 0, "%s", (text,), None))

    def close(self) -> None:
        if self._handler is not None:
            self._handler.close()
