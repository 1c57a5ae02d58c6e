"""Writes deep analyses as JSON lines, so that a detector's answers can be studied over many clips."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .logger import log


class DetectionLogger:
    """Appends one line a clip to ``path``; starts a fresh file (``NAME.1``) beyond ``max_bytes``.

    A log is not the truth: a line that cannot be written is reported once and the work goes on.
    """

    def __init__(self, path: str | Path, max_bytes: int = 10_000_000, clock: Callable[[], float] = time.time):
        self.path, self.max_bytes, self._clock = Path(path), max_bytes, clock
        self._reported = False

    def write(self, answer: Mapping[str, Any]) -> bool:
        """Appends an answer of ``VideoProcessor.analyze_video``. Returns whether it was written."""
        line = json.dumps({"ts": round(self._clock(), 3), **answer}, ensure_ascii=False, sort_keys=True) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size + len(line.encode("utf-8")) > self.max_bytes:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            if not self._reported:
                log.warning("detections are not logged: %s: %s", self.path, error.strerror or error)
                self._reported = True
            return False
        return True
