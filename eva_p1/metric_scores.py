"""From raw measurements to scores in [0,1], 1 best, and to ``overall``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .analysis_config import AnalysisConfig, ScoreCurve


def falling(size: float, curve: ScoreCurve) -> float:
    """Score of a defect of ``size`` >= 0: 1 at none, 0.5 at ``curve.half``, strictly falling."""
    return 1.0 / (1.0 + (max(0.0, size) / curve.half) ** curve.steep)


def ramp(value: float, nothing: float, all_of_it: float) -> float:
    """Smooth step: 0 at ``nothing``, 1 at ``all_of_it`` (which may be the smaller number)."""
    place = min(1.0, max(0.0, (value - nothing) / (all_of_it - nothing)))
    return place * place * (3.0 - 2.0 * place)


def exposure_of_histograms(shares: NDArray[np.float64], full_range: bool, margin: int) -> NDArray[np.float64]:
    """(mean 0..1, share clipped at black, at white, spread 0..1, darkest level 0..1) of histograms of luma codes.

    ``shares``: (histograms, 256), each of sum 1; the answer is (histograms, 5).

    Video-range luma has black at code 16 and white at 235 (ITU-R BT.601 and BT.709); full-range at 0 and 255.
    """
    black, white = (0, 255) if full_range else (16, 235)
    codes = np.clip((np.arange(256) - black) / (white - black), 0.0, 1.0)
    below = np.cumsum(shares, axis=1)
    darkest, brightest = (codes[np.minimum(255, np.count_nonzero(below < share, axis=1))] for share in (0.01, 0.99))
    clipped_white = shares[:, white - margin :].sum(axis=1)
    return np.stack([shares @ codes, below[:, black + margin], clipped_white, brightest - darkest, darkest], axis=1)


def exposure_score(figures: Sequence[float], config: AnalysisConfig) -> float:
    """How well a frame is exposed, from the five figures of :func:`exposure_of_histograms`.

    Clipped shares against ``clip_curve``, times how far the mean is from too dark or too bright, the spread from flat, and the
    darkest level from black: a picture lifted as a whole shows it there first.
    """
    mean, low, high, spread, darkest = figures
    flat = config.flat_floor + (1.0 - config.flat_floor) * ramp(spread, *config.flat_range)
    placed = ramp(mean, *config.mean_low) * ramp(mean, *config.mean_high) * falling(darkest, config.lift_curve)
    return flat * placed * falling(low + high, config.clip_curve)


def overall_score(scores: Mapping[str, float], guards: Mapping[str, float], config: AnalysisConfig) -> float | None:
    """Weighted power mean of the measured scores, times the guards; ``None`` when nothing was measured.

    ``(sum w_i s_i^p / sum w_i)^(1/p)`` with p = ``config.mean_power`` < 0 lies near the worst score: one ruinous defect
    cannot hide behind three good scores. Guards (frozen, empty) are not scores: they take away what a clip would win by
    holding still or showing nothing.
    """
    weights = dict(config.weights)
    known = {name: value for name, value in scores.items() if name in weights}
    if not known:
        return None
    power = config.mean_power
    total = sum(weights[name] for name in known)
    mean = sum(weights[name] * max(value, config.score_floor) ** power for name, value in known.items()) / total
    result = float(mean ** (1.0 / power))
    for guard in guards.values():
        result *= guard
    return min(1.0, max(0.0, result))
