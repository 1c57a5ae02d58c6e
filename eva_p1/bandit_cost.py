"""What a try costs, in GPU minutes, learned from what was paid.

A Bayesian linear regression of log minutes on the logarithms of steps, pixels and frames (fps x seconds of the clip), on
whether guidance is off (cfg 1 halves the work in ComfyUI: one model pass a step instead of two), on the sampler (heun runs
the model twice a step), on the levels of the user's own dimensions, and on the server. The prior is physics: minutes
proportional to steps and frames and to pixels^1.2; a few tries settle the rest. Bishop 2006, "Pattern Recognition and
Machine Learning", eq. 3.50-3.54.

Servers differ by a factor each, drawn towards the common level until its own tries speak (SERVER_SD): a new server is
expected to be like the others.

The noise is Student's t, not normal, so that one try that waited for another program, or loaded the model from a slow
disk, moves nothing: its weight falls with the square of its distance. Found by iteratively reweighted least squares
(Lange, Little & Taylor 1989, "Robust statistical modeling using the t distribution").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np

from .bandit_grid import Grid

NOISE_SD = 0.2  # of log minutes: a try of one combo takes 20 % more or less from time to time (model loading, other load)
FREEDOM, ROUNDS = 4.0, 12  # degrees of freedom of the noise; at most so many rounds of reweighting
SETTLED = 1e-3  # of log minutes: a round that moves no coefficient further was the last
_PRIOR = (("level", 1.0, 1.5), ("steps", 1.0, 0.3), ("pixels", 1.2, 0.3), ("frames", 1.0, 0.4), ("cfg is 1", -0.5, 0.4))
SAMPLER_SD, DIMENSION_SD, SERVER_SD = 0.4, 0.2, 0.5
CLIP_SECONDS = 5.0  # where nobody told how long a clip is
EXPONENT = 0.4  # value is divided by minutes to this power; measured in benchmarks/bandit.py, see docs/bandit.md


class CostModel:
    """Minutes a try for every cell of a grid, on every server."""

    def __init__(self, grid: Grid):
        self._grid = grid
        self._lessons: list[tuple[int, float, float | None, str | None]] = []  # cell, log minutes, clip seconds, server
        self._coefficients: np.ndarray | None = None

    def learn(
        self,
        cells: Sequence[int],
        minutes: Sequence[float],
        seconds: Sequence[float | None] | None = None,
        servers: Sequence[str | None] | None = None,
    ) -> None:
        """Takes in what was paid: ``minutes`` > 0 for a try of each cell, with clips of ``seconds`` on ``servers`` (None: not told)."""
        lengths = seconds if seconds is not None else [None] * len(cells)
        names = servers if servers is not None else [None] * len(cells)
        self._lessons += [(int(c), math.log(m), s, name) for c, m, s, name in zip(cells, minutes, lengths, names, strict=True)]
        self._coefficients = None

    @property
    def observed(self) -> int:
        """Number of tries whose price is known. With none, only ratios between cells mean anything."""
        return len(self._lessons)

    def minutes(self, cells: np.ndarray, seconds: float | None = None, server: str | None = None) -> np.ndarray:
        """Median minutes of a try of these cells, (m,).

        ``seconds`` None: clips as long as those paid for; ``server`` None, or one without a try: an average one.
        """
        fit = self._fit()
        level, steps, pixels, frames, off = fit[:5]
        levels, d = self._grid.levels, len(self._grid.levels)
        by_axis: dict[int, np.ndarray] = {
            0: fit[5 : 5 + len(levels[0])],
            2: frames * np.log(np.array(levels[2], dtype=float) / 16),
            3: off * np.array([float(value == 1) for value in levels[3]]),
            4: steps * np.log(np.array(levels[4], dtype=float) / 20),
            5: pixels * np.log(np.array([w * h for w, h in levels[5]], dtype=float) / (832 * 480)),
        }
        at = 5 + len(levels[0])
        for j in range(6, d):
            by_axis[j] = fit[at : at + len(levels[j])]
            at += len(levels[j])
        by_server = dict(zip(self._servers(), fit[at:]))
        constant = level + frames * math.log(self._length(seconds) / CLIP_SECONDS)
        if by_server:
            constant += by_server.get(server or "", sum(by_server.values()) / len(by_server))
        index = self._grid.indices(cells)
        total = np.full(len(index), constant)
        for j, effect in by_axis.items():
            total += effect[index[:, j]]
        return np.exp(total)

    # ------------------------------------------------------------ inside
    def _length(self, seconds: float | None) -> float:
        if seconds is not None:
            return seconds
        told = [length for _, _, length, _ in self._lessons if length is not None]
        return median(told) if told else CLIP_SECONDS

    def _servers(self) -> list[str]:
        return list(dict.fromkeys(name for _, _, _, name in self._lessons if name is not None))

    def _features(self) -> np.ndarray:
        """(n, f): 1, logs relative to 20 steps, 832x480 and 80 frames, cfg is 1, one-hot sampler, dimensions and server."""
        levels = self._grid.levels
        index = self._grid.indices(np.array([cell for cell, *_ in self._lessons], dtype=np.int64))
        usual = self._length(None)
        length = np.log(np.array([usual if seconds is None else seconds for _, _, seconds, _ in self._lessons]) / CLIP_SECONDS)
        frames = np.log(np.array(levels[2], dtype=float) / 16)[index[:, 2]] + length
        off = np.array([float(value == 1) for value in levels[3]])[index[:, 3]]
        steps = np.log(np.array(levels[4], dtype=float) / 20)[index[:, 4]]
        pixels = np.log(np.array([w * h for w, h in levels[5]], dtype=float) / (832 * 480))[index[:, 5]]
        one_hot = [np.eye(len(levels[j]))[index[:, j]] for j in (0, *range(6, len(levels)))]
        servers = self._servers()
        where = np.zeros((len(index), len(servers)))
        for row, (*_, name) in enumerate(self._lessons):
            if name is not None:
                where[row, servers.index(name)] = 1.0
        return np.column_stack([np.ones(len(index)), steps, pixels, frames, off, *one_hot, where])

    def _fit(self) -> np.ndarray:
        if self._coefficients is not None:
            return self._coefficients
        levels = self._grid.levels
        spread = [SAMPLER_SD] * len(levels[0]) + [DIMENSION_SD] * sum(map(len, levels[6:])) + [SERVER_SD] * len(self._servers())
        mean = np.array([m for _, m, _ in _PRIOR] + [0.0] * len(spread))
        prior = np.diag(1.0 / np.square([s for _, _, s in _PRIOR] + spread))
        self._coefficients = mean
        if self._lessons:
            X, target = self._features(), np.array([told for _, told, _, _ in self._lessons])
            weights = np.ones(len(target))
            for _ in range(ROUNDS):
                weighted = X * (weights / NOISE_SD**2)[:, None]
                before = self._coefficients
                self._coefficients = np.linalg.solve(prior + weighted.T @ X, prior @ mean + weighted.T @ target)
                if np.abs(self._coefficients - before).max() < SETTLED:
                    break
                apart = (target - X @ self._coefficients) / NOISE_SD
                weights = (FREEDOM + 1) / (FREEDOM + apart**2)
        return self._coefficients
