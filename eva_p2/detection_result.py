"""What a deep analysis hands the agent, checked at the border: scores in [0,1], or absent with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DetectionResult:
    """A deep analysis. ``metrics`` holds finite numbers in [0,1] only; ``absent`` says why others are not there."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @property
    def deep_quality(self) -> float | None:
        """The deep score, or ``None`` where it could not be measured."""
        return self.metrics.get("deep_quality")

    @classmethod
    def of(cls, answer: Mapping[str, Any] | None) -> DetectionResult:
        """Reads an answer of ``eva_p3.video_processor.VideoProcessor.analyze_video``, or bare metrics.

        A score that is missing, not a number, or outside [0,1] becomes absent and says so; nothing is clamped or invented.
        """
        if answer is None:
            return cls(absent={"deep_quality": "no deep analysis was made"})
        inner = answer.get("metrics")
        given: Mapping[str, Any] = inner if isinstance(inner, Mapping) else answer
        absent = {str(name): str(reason) for name, reason in dict(answer.get("absent") or {}).items()}
        metrics: dict[str, float] = {}
        for name, value in given.items():
            fault = score_fault(value)
            if not fault:
                metrics[str(name)] = float(value)
            elif isinstance(inner, Mapping) or isinstance(value, (int, float)) or value is None:
                absent.setdefault(str(name), fault)
        if "deep_quality" not in metrics:
            absent.setdefault("deep_quality", "the deep analysis gave none")
        return cls(metrics, dict(answer.get("raw") or {}), tuple(answer.get("findings") or ()), absent, str(answer.get("version") or ""))


def score_fault(value: Any) -> str:
    """Why ``value`` is no score, or ``""``."""
    if value is None:
        return "not measured"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"not a number: {value!r}"
    if not math.isfinite(value):
        return "not a finite number"
    if not 0.0 <= value <= 1.0:
        return f"outside 0..1: {value!r}"
    return ""
