"""The agent people run: the base agent, with deep analysis, a vision model's opinion and taste blended into the score where they are there.

Nothing of the base is copied: this class only changes :meth:`analyse`. What a clip is worth is decided in one place,
``eva_p2.enhanced_analyzer.blend``. A part that is missing or fails is absent from the metrics, with its reason, and never invented.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eva_env_base import ClipError
from eva_p1.agent_base import EnhancedVideoAgentV4
from eva_p1.agent_results import as_analysis
from eva_p1.agent_types import Analysis, Job
from eva_p2.enhanced_logger import AnalysisJournal

log = logging.getLogger("eva.analysis")


class EnhancedVideoAgentV4Merged(EnhancedVideoAgentV4):
    """Each part may be None.

    deep     ``analyze_video(path)``
    llm      ``ask(path, prompt)`` (``llm_judge.LlmJudge``), which raises nothing
    taste    ``predict(fast, deep, params)``
    journal  gets a line a clip
    """

    def __init__(
        self, *args: Any, deep: Any = None, llm: Any = None, taste: Any = None, journal: AnalysisJournal | None = None, **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        self.deep, self.llm, self.taste, self.journal = deep, llm, taste, journal

    def analyse(self, path: Path, job: Job) -> Analysis:
        """Fast metrics, then deep ones, opinion and taste where there are any, blended. Raises :class:`ClipError` as the base does."""
        fast = self.analyzer.analyze(path)
        deep, why_not = self._deep(path)
        opinion = None if self.llm is None else self.llm.ask(path, job.prompt)
        merged = fast if deep is None and opinion is None and self.taste is None else self._blend(fast, deep, opinion, job)
        if why_not:
            merged = {**merged, "absent": {**(merged.get("absent") or {}), "deep_quality": why_not}}
        analysis = as_analysis(merged, path)
        absent = analysis.notes.get("absent") or {}
        log.info("%s overall=%.4f %s", path.name, analysis.score, " ".join(f"{name}={value}" for name, value in analysis.metrics.items()))
        for name, reason in absent.items():
            log.info("%s has no %s: %s", path.name, name, reason)
        if self.journal is not None:
            self.journal.write(
                {
                    "timestamp": self._clock(),
                    "video": path.relative_to(self.video_dir).as_posix() if path.is_relative_to(self.video_dir) else path.name,
                    "prompt_id": job.prompt_id,
                    "combo_key": job.combo_key,
                    "fast": fast.get("metrics"),
                    "deep": None if deep is None else deep.get("metrics"),
                    "metrics": analysis.metrics,
                    "score": analysis.score,
                    "absent": absent,
                    "version": analysis.version,
                }
            )
        return analysis

    def _deep(self, path: Path) -> tuple[Mapping[str, Any] | None, str | None]:
        """(deep analysis, None), (None, why it failed), or (None, None) where none was asked for."""
        if self.deep is None:
            return None, None
        try:
            return self.deep.analyze_video(path), None
        except ClipError as error:
            return None, str(error)
        except Exception as error:
            log.exception("deep analysis of %s broke", path.name)
            return None, f"{type(error).__name__}: {error}"

    def _blend(
        self, fast: Mapping[str, Any], deep: Mapping[str, Any] | None, opinion: Mapping[str, Any] | None, job: Job
    ) -> Mapping[str, Any]:
        from eva_p2.enhanced_analyzer import blend

        taste = None if self.taste is None else self.taste.predict(fast, deep, job.params)
        return blend(fast, deep, taste, opinion)
