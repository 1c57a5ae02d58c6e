"""The one place where fast metrics, deep metrics, a vision model's opinion and the taste model become ``overall``.

    overall_simple = the fast analysis's own overall, kept whenever overall is replaced
    with deep:  overall = 0.6 * overall_simple + 0.4 * deep_quality
    with llm:   overall = 0.8 * (the above) + 0.2 * llm_quality, the mean of the llm_* scores the model gave
    with taste: overall = 0.7 * (the above) + 0.3 * taste

A part that was not measured does not take part; nothing stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .detection_result import DetectionResult, score_fault

FAST_WEIGHT, DEEP_WEIGHT = 0.6, 0.4
LLM_WEIGHT = 0.2  # below the others: it sees a few frames, and its words are not calibrated to ours
TASTE_WEIGHT = 0.3


def blend(
    fast: Mapping[str, Any],
    deep: Mapping[str, Any] | None = None,
    taste: float | None = None,
    opinion: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One analysis out of up to four, in the form of the fast one.

    ``fast``: an answer of ``VideoAnalyzer.analyze``; ``deep``: one of ``VideoProcessor.analyze_video`` or ``None``;
    ``taste``: predicted rating in [0,1] or ``None``; ``opinion``: one of ``LlmJudge.ask`` or ``None``. The inputs are left as they are.

    ``metrics`` holds all scores; ``overall`` is there when the fast or the deep analysis gave one. ``raw["deep"]`` holds the
    deep raw figures, ``raw["llm"]`` the vision model's name and words, ``findings`` both analyses', worst first, ``absent`` all reasons.
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

    if opinion is not None:
        overall = _with_opinion(opinion, overall, metrics, absent, raw, versions)

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


def _with_opinion(
    opinion: Mapping[str, Any],
    overall: float | None,
    metrics: dict[str, Any],
    absent: dict[str, str],
    raw: dict[str, Any],
    versions: list[str],
) -> float | None:
    """Takes a vision model's scores in and gives the new overall. The model alone never makes a score: it did not measure the clip."""
    scores = {name: float(value) for name, value in dict(opinion.get("metrics") or {}).items() if not score_fault(value)}
    absent.update({str(name): str(reason) for name, reason in dict(opinion.get("absent") or {}).items() if name not in scores})
    if not scores:
        absent.setdefault("llm_quality", "the vision model gave no score")
        return overall
    quality = sum(scores.values()) / len(scores)
    metrics.update(scores, llm_quality=quality)
    raw["llm"] = {"model": opinion.get("model"), "reasons": dict(opinion.get("reasons") or {})}
    versions.append(f"llm {opinion.get('model') or ''}".strip())
    return None if overall is None else (1.0 - LLM_WEIGHT) * overall + LLM_WEIGHT * quality
