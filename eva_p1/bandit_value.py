"""Value of information: how much one more judgement is expected to improve what the bandit would bet on.

Knowledge gradient over a set of promising cells S (Frazier, Powell & Dayanik 2009, "The knowledge-gradient policy for
correlated normal beliefs"):

    KG(x) = E[ max_a mean_a + c_a(x) / sqrt(c_x(x) + noise) Z ] - max_a mean_a,      Z ~ N(0,1)

with c(x) the posterior covariance of every a in S with x. The expectation is a midpoint rule over NODES quantiles of Z.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from .bandit_model import Posterior

NODES = 24
BY_BOUND, BY_MEAN, BOUND = 200, 100, 3.0  # S: the best by mean + 3 sd and the best by mean
_Z = np.array([NormalDist().inv_cdf((node + 0.5) / NODES) for node in range(NODES)])


def promising(posterior: Posterior, cells: np.ndarray, by_bound: int = BY_BOUND, by_mean: int = BY_MEAN) -> np.ndarray:
    """The cells that may yet turn out best, at most ``by_bound + by_mean`` of ``cells``."""
    mean, sd = posterior.mean()[cells], posterior.sd()[cells]
    first = np.argpartition(-(mean + BOUND * sd), min(by_bound, len(cells)) - 1)[:by_bound]
    second = np.argpartition(-mean, min(by_mean, len(cells)) - 1)[:by_mean]
    return cells[np.unique(np.concatenate([first, second]))]


def expected_gain(mean: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """E[max_a mean_a + slopes_ax Z] - max mean for every column x; mean (m,), slopes (m, k) -> (k,)."""
    total = np.zeros(slopes.shape[1])
    for z in _Z:
        total += np.max(mean[:, None] + z * slopes, axis=0)
    return np.maximum(total / NODES - mean.max(), 0.0)


def value_of_trying(posterior: Posterior, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, gain of one automatic score of each of S) in reward units."""
    chosen = promising(posterior, cells)
    joint = posterior.joint(chosen)
    noise = posterior.kernel.vz + posterior.kernel.va
    slopes = joint / np.sqrt(np.maximum(np.diag(joint), 1e-12) + noise)[None, :]
    return chosen, expected_gain(posterior.mean()[chosen], slopes)


def value_of_rating(posterior: Posterior, cells: np.ndarray, row_ids: Sequence[int]) -> np.ndarray:
    """Gain of a human rating of each of these already scored clips (their automatic rows), (k,).

    The clip's luck z is partly known from its automatic score; both what the rating says about the combo and, through
    the bias shared by all automatic scores, about every other combo is reckoned.
    """
    chosen = promising(posterior, cells)
    cross, variance = posterior.rating_covariance(row_ids, chosen)
    return expected_gain(posterior.mean()[chosen], cross / np.sqrt(variance)[None, :])
