"""Asks a vision model about finished clips, without ever holding the GPU up: a model that keeps failing is left alone for a while.

Runs on the scoring pool, while the servers render. A slow answer costs at most :data:`TIMEOUT` seconds of that pool; after
:data:`LIMIT` failures in a row nothing is asked for :data:`REST` seconds, so that clips do not pile up behind a dead service.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eva_env_base import ClipError

log = logging.getLogger("eva.analysis")

TIMEOUT = 30.0
LIMIT, REST = 3, 600.0


class LlmJudge:
    """``ask(path, prompt)`` gives an opinion as ``{"metrics", "reasons", "absent", "model"}``. Thread-safe, raises nothing.

    ``make``: builds the analyzer (``analyze(path, prompt) -> Opinion``) with the first clip, because its libraries are slow to import.
    """

    def __init__(self, make: Callable[[], Any], clock: Callable[[], float] = time.monotonic):
        self._make, self._clock = make, clock
        self._lock = threading.Lock()
        self._analyzer: Any = None
        self._failures, self._until, self._why = 0, 0.0, ""

    def ask(self, path: Path, prompt: str) -> dict[str, Any]:
        with self._lock:
            if self._clock() < self._until:
                return _absent(f"not asked, it failed {LIMIT} times in a row; the last reason: {self._why}")
            try:
                self._analyzer = self._analyzer or self._make()
            except ImportError as error:
                return _absent(f"{error.name or error} is not installed")
        try:
            opinion = asdict(self._analyzer.analyze(path, prompt))
        except ClipError as error:
            return _absent(str(error))  # the clip's fault, not the service's
        except Exception as error:  # noqa: BLE001
            # Only the kind is told: the text of an error nobody foresaw might hold the request, and with it the key.
            log.warning("the vision model's judgement of %s broke: %s", path.name, type(error).__name__)
            opinion = _absent(f"the judgement broke ({type(error).__name__})")
        self._count(opinion)
        return opinion

    def _count(self, opinion: Mapping[str, Any]) -> None:
        with self._lock:
            if opinion["metrics"]:
                self._failures = 0
                return
            self._failures += 1
            self._why = next(iter(opinion["absent"].values()), "no reason given")
            if self._failures >= LIMIT:
                self._failures, self._until = 0, self._clock() + REST
                log.warning(
                    "the vision model is not asked for %.0f minutes: %d failures in a row, the last: %s", REST / 60, LIMIT, self._why
                )


def _absent(reason: str) -> dict[str, Any]:
    return {"metrics": {}, "reasons": {}, "absent": {"llm_quality": reason}, "model": ""}
