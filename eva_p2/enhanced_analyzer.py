"""The one place where fast metrics, deep metrics and the taste model become ``overall``.

    overall_simple = the fast analysis's own overall, kept whenever overall is replaced
    with deep:  overall = 0.6 * overall_simple + 0.4 * deep_quality
    with taste: overall = 0.7 * (the above) + 0.3 * taste

A part that was not measured does not take part; nothing stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .detection_result import DetectionResult, score_fault

FAST_WEIGHT, DEEP_WEIGHT = 0.6, 0.4
TASTE_WEIGHT = 0.3


def blend(fast: Mapping[str, Any], deep: Mapping[str, Any] | None = None, taste: float | None = None) -> dict[str, Any]:
    """One analysis out of up to three, in the form of the fast one.

    ``fast``: an answer of ``VideoAnalyzer.analyze``; ``deep``: one of ``VideoProcessor.analyze_video`` or ``None``;
    ``taste``: predicted rating in [0,1] or ``None``. The inputs are left as they are.

    ``metrics`` holds all scores; ``overall`` is there when the fast or the deep analysis gave one. ``raw["deep"]`` holds the
    deep raw figures, ``findings`` both analyses', worst first, ``absent`` both analyses' reasons.
    """
    result: dict[str, Any] = dict(fast)
    metrics: dict[str, Any] = dict(fast.get("metrics") or {})
    absent: dict[str, str] = dict(fast.get("absent") or {})
    raw: dict[str, Any] = dict(fast.get("raw") or {})
    findings = list(fast.get("findings") or [])
    versions = [str(fast.get("version") or "")]
    simple = metrics.get("overall")
    if score_fault(simple):
        metrics.pop("overall", None)
        simple = None

    overall = simple
    if deep is not None:
        found = DetectionResult.of(deep)
        metrics.update({name: value for name, value in found.metrics.items() if name not in ("overall", "overall_simple")})
        absent.update({name: reason for name, reason in found.absent.items() if name not in metrics})
        if found.raw:
            raw["deep"] = dict(found.raw)
        findings += list(found.findings)
        versions.append(f"deep {found.version}")
        quality = found.deep_quality
        if quality is not None and simple is not None:
            overall = FAST_WEIGHT * simple + DEEP_WEIGHT * quality
        elif quality is not None:
            absent.setdefault("overall_simple", "the fast analysis gave no overall")
            overall = quality

    fault = "" if taste is None else score_fault(taste)
    if taste is not None and fault:
        absent["taste"] = fault
    elif taste is not None:
        metrics["taste"] = float(taste)
        versions.append("taste")
        if overall is not None:
            overall = (1.0 - TASTE_WEIGHT) * overall + TASTE_WEIGHT * float(taste)

    if overall is not None:
        if simple is not None and len(versions) > 1:
            metrics["overall_simple"] = simple
        metrics["overall"] = overall
        absent.pop("overall", None)
    result.update(
        metrics=metrics,
        raw=raw,
        absent=absent,
        findings=sorted(findings, key=lambda finding: -float(finding.get("severity", 0.0))),
        version=" + ".join(part for part in versions if part),
    )
    return result
