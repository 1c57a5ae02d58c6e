"""Builds what judges a clip: the fast analyzer, and on request deep analysis and taste. What is not there is said, never invented."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from eva_env_base import EvaError, Settings, has_module

log = logging.getLogger("eva.agent")


class LazyAnalyzer:
    """The fast analyzer; OpenCV and PyAV are imported with the first clip, while the next one renders already."""

    def __init__(self) -> None:
        self._analyzer: Any = None

    def analyze(self, path: Path) -> dict[str, Any]:
        if self._analyzer is None:
            from eva_p1.video_analyzer import VideoAnalyzer

            self._analyzer = VideoAnalyzer()
        return self._analyzer.analyze(path)


def deep_judge(settings: Settings) -> Any:
    """Deep analysis. Raises :class:`EvaError` saying what it needs where it cannot run."""
    if not has_module("eva_p3.video_processor"):
        raise EvaError("--use-enhanced-analysis: this build has no deep analysis (eva_p3.video_processor); run without the flag")
    from eva_p3.video_processor import VideoProcessor

    return VideoProcessor()


def taste_judge(settings: Settings, store: Any) -> Any:
    """The taste model, trained on the ratings of the state. Raises :class:`EvaError` saying what it needs where it cannot be trained."""
    if not has_module("eva_p3.training"):
        raise EvaError("--train-improved: this build has no taste model (eva_p3.training); run without the flag")
    raise EvaError("--train-improved: not connected")
