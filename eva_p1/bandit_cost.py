"""What a try costs, in GPU minutes, learned from what was paid.

A Bayesian linear regression of log minutes on the logarithms of steps, pixels and fps, on whether guidance is off
(cfg 1 halves the work in ComfyUI: one model pass a step instead of two), and on the sampler (heun runs the model twice a
step). The prior is physics: minutes proportional to steps, to fps and to pixels^1.2; a few tries settle the rest.
Bishop 2006, "Pattern Recognition and Machine Learning", eq. 3.50-3.54.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bandit_grid import Grid

NOISE_SD = 0.2  # of log minutes: a try of one combo takes 20 % more or less from time to time (model loading, other load)
_PRIOR = (("level", 1.0, 1.5), ("steps", 1.0, 0.3), ("pixels", 1.2, 0.3), ("fps", 1.0, 0.4), ("cfg is 1", -0.5, 0.4))
SAMPLER_SD = 0.4
EXPONENT = 0.4  # value is divided by minutes to this power; measured in benchmarks/bandit.py, see docs/bandit.md


class CostModel:
    """Minutes a try for every cell of a grid."""

    def __init__(self, grid: Grid):
        self._grid = grid
        mean = [m for _, m, _ in _PRIOR] + [0.0] * len(grid.levels[0])
        sd = [s for _, _, s in _PRIOR] + [SAMPLER_SD] * len(grid.levels[0])
        self._mean, self._precision = np.array(mean), np.diag(1.0 / np.square(sd))
        self._observed = 0

    def _features(self, cells: np.ndarray) -> np.ndarray:
        """(n, f): 1, logs relative to 20 steps, 832x480 and 16 fps, cfg is 1, one-hot sampler."""
        index, levels = self._grid.indices(cells), self._grid.levels
        fps = np.log(np.array(levels[2], dtype=float) / 16)[index[:, 2]]
        off = np.array([float(value == 1) for value in levels[3]])[index[:, 3]]
        steps = np.log(np.array(levels[4], dtype=float) / 20)[index[:, 4]]
        pixels = np.log(np.array([w * h for w, h in levels[5]], dtype=float) / (832 * 480))[index[:, 5]]
        sampler = np.eye(len(levels[0]))[index[:, 0]]
        return np.column_stack([np.ones(len(cells)), steps, pixels, fps, off, sampler])

    def learn(self, cells: Sequence[int], minutes: Sequence[float]) -> None:
        """Takes in what was paid: ``minutes`` > 0 for a try of each cell."""
        X = self._features(np.asarray(cells, dtype=np.int64))
        target = np.log(np.asarray(minutes, dtype=float))
        information = self._precision @ self._mean + X.T @ target / NOISE_SD**2
        self._precision = self._precision + X.T @ X / NOISE_SD**2
        self._mean = np.linalg.solve(self._precision, information)
        self._observed += len(target)

    @property
    def observed(self) -> int:
        """Number of tries whose price is known. With none, only ratios between cells mean anything."""
        return self._observed

    def minutes(self, cells: np.ndarray) -> np.ndarray:
        """Median minutes of a try of these cells, (m,)."""
        return np.exp(self._features(np.asarray(cells, dtype=np.int64)) @ self._mean)
