"""Where tries fail: the probability that a combo gives a clip at all.

A failure is neither a zero (the picture was not bad) nor nothing (the minutes are gone). Each cell gets a Beta-Bernoulli
estimate whose counts are the tries nearby, weighted by a product kernel (Nadaraya-Watson on counts):

    P(fail | x) = (PRIOR_FAIL + sum over failures w(x, x_i)) / (PRIOR_FAIL + PRIOR_OK + sum over all tries w(x, x_i))

Out of memory depends on frame size and frame count, so there w looks at size and fps only; any other failure most often
on a sampler|scheduler pair that does not work, so there w looks at these two, and a little at the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bandit_grid import Grid
from .bandit_records import Ledger

PRIOR_FAIL, PRIOR_OK = 0.04, 2.0
OWN_NEAR = 0.7  # the same for a dimension of the user's own
# correlation at distance 1 on each axis: sampler, scheduler, fps, cfg, steps, size
_NEAR = {"oom": (1.0, 1.0, 0.8, 1.0, 1.0, 0.05), "other": (0.15, 0.15, 0.9, 0.8, 0.8, 0.8)}
TRANSIENT = frozenset({"interrupted", "lost"})  # says nothing about the combo


def success_probability(grid: Grid, ledger: Ledger) -> np.ndarray:
    """Probability of a clip for every cell, (A,). All ones while nothing has failed."""
    telling = [failure for failure in ledger.failures if failure.kind not in TRANSIENT]
    success = np.ones(grid.size)
    if not telling:
        return success
    fine = [clip.key for clip in ledger.clips for _ in range(min(clip.count, 10))]
    for group, near in _NEAR.items():
        bad = [failure.key for failure in telling if (failure.kind == "oom") == (group == "oom")]
        if bad:
            lost, kept = _counts(grid, bad, near), _counts(grid, fine, near)
            success *= 1.0 - (PRIOR_FAIL + lost) / (PRIOR_FAIL + PRIOR_OK + lost + kept)
    return success


def _counts(grid: Grid, keys: Sequence[str], near: Sequence[float]) -> np.ndarray:
    """Weighted number of these tries around every cell, (A,)."""
    dense = np.zeros(grid.size)
    for key in keys:
        cell = grid.nearest_cell(grid.point_of(key))
        if cell is not None:
            dense[cell] += 1.0
    out = dense.reshape(grid.shape)
    for axis, correlation in enumerate((*near, *[OWN_NEAR] * (len(grid.shape) - len(near)))):
        out = np.tensordot(out, correlation ** grid.distances[axis], axes=(0, 1))
    return out.reshape(-1)
