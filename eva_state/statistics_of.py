"""The statistics behind the charts: rank correlation, shrunken means. Plain Python: the server loads no numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

FLOOR = 0.1  # of the variance that chance alone gives a group's mean: the least spread between groups that is assumed


class Correlation(NamedTuple):
    """Spearman's rank correlation with its interval; None where every value is the same."""

    rho: float
    low: float
    high: float
    n: int


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    out = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in range(start, end + 1):
            out[order[place]] = (start + end) / 2 + 1
        start = end + 1
    return out


def spearman(x: Sequence[float], y: Sequence[float], tests: int = 1) -> Correlation | None:
    """Rank correlation of paired values with a 95 % interval; with ``tests`` compared at once, 95 % for all of them together.

    Interval: Fisher's z with the standard error sqrt(1.06 / (n - 3)) for ranks, Fieller, Hartley and Pearson (1957),
    Biometrika 44, 470-481. ``tests``: Bonferroni.
    """
    n = len(x)
    if n < 3:
        return None
    a, b = ranks(x), ranks(y)
    mean = (n + 1) / 2
    sxy = sum((p - mean) * (q - mean) for p, q in zip(a, b))
    sxx, syy = sum((p - mean) ** 2 for p in a), sum((q - mean) ** 2 for q in b)
    if sxx == 0 or syy == 0:
        return None
    rho = max(-1.0, min(1.0, sxy / math.sqrt(sxx * syy)))
    if n <= 3:
        return Correlation(rho, -1.0, 1.0, n)
    z = math.atanh(max(-0.9999, min(0.9999, rho)))
    half = NormalDist().inv_cdf(1 - 0.025 / max(1, tests)) * math.sqrt(1.06 / (n - 3))
    return Correlation(rho, math.tanh(z - half), math.tanh(z + half), n)


class Mean(NamedTuple):
    """A group's mean drawn towards the mean of all, with a 95 % interval; ``raw`` is the plain mean."""

    n: int
    raw: float
    mean: float
    low: float
    high: float


def shrunken_means(sums: Mapping[object, Sequence[float]]) -> dict[object, Mean]:
    """From ``{group: (n, sum, sum of squares)}``, n at least 1.

    Random effects: group means scatter around the mean of all with variance t, values around their group's mean with
    variance s. A group of n is drawn to the mean of all by b = s / (s + n t), and is known to +-1.96 sqrt(t b + b b v + e):
    v is how well the mean of all groups is known, 1 / sum(1 / (t + s / n)), and e what estimating t costs, 2 (b d)**2 / (groups - 3)
    for a distance d of the group's mean from that of all (Morris, Journal of the American Statistical Association 78, 1983, 47-55).
    t by the method of moments (Searle, Casella and McCulloch, Variance Components, 1992, chapter 3), s pooled.
    """
    groups = len(sums)
    total = sum(n for n, _, _ in sums.values())
    if not total:
        return {}
    grand = sum(value for _, value, _ in sums.values()) / total
    inside = sum(max(0.0, squares - value * value / n) for n, value, squares in sums.values())
    if total > groups:
        s = inside / (total - groups)
    else:  # one value a group: all of the spread may be chance
        s = sum((value / n - grand) ** 2 for n, value, _ in sums.values()) / max(1, groups - 1)
    between = sum(n * (value / n - grand) ** 2 for n, value, _ in sums.values())
    spread = total - sum(n * n for n, _, _ in sums.values()) / total
    t = (between - (groups - 1) * s) / spread if groups > 1 and spread > 0 else 0.0
    t = max(t, FLOOR * s * groups / total)
    known = 1 / sum(1 / (t + s / n) for n, _, _ in sums.values()) if s > 0 else 0.0
    out: dict[object, Mean] = {}
    for group, (n, value, _) in sums.items():
        raw = value / n
        if s == 0:
            out[group] = Mean(int(n), raw, raw, raw, raw)
            continue
        weight = n * t / (n * t + s)
        mean = grand + weight * (raw - grand)
        half = 1.96 * math.sqrt(weight * s / n + (1 - weight) ** 2 * (known + 2 * (raw - grand) ** 2 / max(1, groups - 3)))
        out[group] = Mean(int(n), raw, mean, mean - half, mean + half)
    return out
