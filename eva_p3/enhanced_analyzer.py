"""The detectors' registry, and the one place where their scores become ``deep_quality``."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence

from .detection_types import Detector

#: Metric -> (module, class). Modules are imported when a processor is built, not before.
REGISTRY: dict[str, tuple[str, str]] = {
    "temporal_consistency": ("eva_p3.temporal_consistency", "TemporalConsistency"),
    "frequency_artifact_score": ("eva_p3.frequency_artifact", "FrequencyArtifacts"),
    "artifact_score": ("eva_p3.artifact", "Artifacts"),
    "face_quality_score": ("eva_p3.face_quality", "FaceQuality"),
    "anatomy_score": ("eva_p3.anatomy", "Anatomy"),
}
WEIGHTS: dict[str, float] = {
    "temporal_consistency": 0.30,
    "frequency_artifact_score": 0.15,
    "artifact_score": 0.20,
    "face_quality_score": 0.15,
    "anatomy_score": 0.20,
}
FORMULAS = 1


def build_detectors(names: Sequence[str] | None = None) -> list[Detector]:
    """The named detectors, or all. Raises ``KeyError`` for a name that is not registered."""
    built: list[Detector] = []
    for name in names if names is not None else REGISTRY:
        module, kind = REGISTRY[name]
        factory: Callable[[], Detector] = getattr(importlib.import_module(module), kind)
        built.append(factory())
    return built


def deep_quality(scores: Mapping[str, float]) -> float | None:
    """Weighted mean of the scores that were measured; ``None`` when there is none. Unknown names do not count."""
    known = {name: value for name, value in scores.items() if name in WEIGHTS}
    if not known:
        return None
    return sum(WEIGHTS[name] * value for name, value in known.items()) / sum(WEIGHTS[name] for name in known)


def version(names: Sequence[str]) -> str:
    """Formulas and a digest of weights and detectors: deep scores compare only within one version."""
    text = json.dumps([sorted(names), WEIGHTS], sort_keys=True)
    return f"{FORMULAS}-{hashlib.sha256(text.encode('utf-8')).hexdigest()[:8]}"
