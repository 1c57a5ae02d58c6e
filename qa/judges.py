"""Builds what judges a clip: the fast analyzer, and on request deep analysis and taste. What is not there is said, never invented."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from eva_env_base import Settings, has_module

log = logging.getLogger("eva.judges")


class LazyAnalyzer:
    """The fast analyzer; OpenCV and PyAV are imported with the first clip, while the next one renders already.

    ``state_dir``: the same pass leaves thumbnail, filmstrip and series of every clip below ``cache/`` there, which the review
    server prunes; ``pictures`` tells of them by paths relative to ``state_dir``. None: nothing is left.
    """

    def __init__(self, state_dir: Path | None = None) -> None:
        self._state_dir = state_dir
        self._analyzer: Any = None
        self._complained = False  # said once: on a full disk every clip would say the same

    def analyze(self, path: Path) -> dict[str, Any]:
        if self._analyzer is None:
            import cv2

            from eva_p1.video_analyzer import VideoAnalyzer

            cv2.setNumThreads(1)  # clips are scored side by side, one thread each
            self._analyzer = VideoAnalyzer()
        if self._state_dir is None:
            return self._analyzer.analyze(path)
        shelf = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:2]
        found = self._analyzer.analyze(path, series=True, pictures=self._state_dir / "cache" / "analysis" / shelf)
        told = found.get("pictures", {})
        for name in {"thumbnail", "filmstrip", "scrub_strip", "series"} & told.keys():
            told[name] = Path(told[name]).relative_to(self._state_dir).as_posix()
        if why := found["absent"].get("pictures"):
            log.log(logging.INFO if self._complained else logging.WARNING, "%s", why)
            self._complained = True
        return found


def llm_judge(settings: Settings) -> Any:
    """The vision model behind the key of the settings, or None without a key. Nothing is imported or asked before the first clip."""
    if not settings.openrouter_key:
        return None
    from eva_p2.llm_judge import TIMEOUT, LlmJudge

    if not has_module("openai"):
        log.warning("a key for a vision model is given, but the openai package is not installed: clips are scored without it")
        return None
    key, base_url = settings.openrouter_key, settings.openrouter_base_url

    def make() -> Any:
        from eva_p1.openrouter_analyzer import OpenRouterAnalyzer

        return OpenRouterAnalyzer(key, base_url=base_url, timeout_s=TIMEOUT, retries=0)

    log.info("a vision model at %s is asked about every clip: a few of its frames and its prompt go there", base_url)
    return LlmJudge(make)


def deep_judge(processor: Any = None) -> Any:
    """Deep analysis by ``processor`` (None: one with every detector), or None where no detector can run; those that cannot are named."""
    if processor is None:
        from eva_p3.video_processor import VideoProcessor

        processor = VideoProcessor()
    reasons = {detector.metric: detector.unavailable() for detector in processor.detectors}
    for metric, reason in reasons.items():
        if reason:
            log.warning("deep analysis goes without %s: %s", metric, reason)
    if all(reasons.values()):
        log.warning("--use-enhanced-analysis: nothing of it can run here; clips are scored by the fast metrics alone")
        return None
    return processor


def explain_missing_taste(ratings: int) -> None:
    """Says that this build has no taste model and what becomes of the ``ratings``; the run goes on without it."""
    missing = [name for name in ("sklearn", "torch") if not has_module(name)]
    needs = f" It will also need {' and '.join(missing)}, which this Python lacks." if missing else ""
    kept = f"your {ratings} ratings steer the search itself and are kept for it"
    log.warning("--train-improved: this build has no taste model yet; %s.%s", kept, needs)
