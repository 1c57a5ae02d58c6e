"""Rows of the model: one judgement each, and how any two of them vary together. Notation: :mod:`eva_p1.bandit_kernel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .bandit_kernel import AUTO, COMPARISON, MEAN, Kernel


@dataclass
class Row:
    """One observation of one cell, or of the difference ``cell`` less ``minus``.

    ``value`` None: in flight. ``count`` clips averaged; ``extra`` more noise variance. A COMPARISON has no noise of its
    own but ``extra``, into which its clips' luck and the judge's doubt are already reckoned.
    """

    cell: int
    judge: int = AUTO
    clip: int = -1
    value: float | None = None
    count: int = 1
    extra: float = 0.0
    minus: int | None = None

    @property
    def centred(self) -> float | None:
        """What the row says about the zero-mean process: a difference has no mean to take off."""
        if self.value is None:
            return None
        return self.value - MEAN if self.minus is None else self.value


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([getattr(row, name) for row in rows], dtype=np.int64)


def scatter(rows: Sequence[Row], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells and weights that stand for a weighted sum of rows: a difference gives two cells."""
    cells = _column(rows, "cell")
    pairs = [(i, row.minus) for i, row in enumerate(rows) if row.minus is not None]
    if not pairs:
        return cells, weights
    at = [i for i, _ in pairs]
    return np.append(cells, [minus for _, minus in pairs]), np.append(weights, -weights[at])


def latent_covariance(kernel: Kernel, cells: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """Prior covariance of g at ``cells`` with what each row observes of g, (len(cells), n)."""
    out = kernel.cov(cells, _column(rows, "cell"))
    with_minus = [j for j, row in enumerate(rows) if row.minus is not None]
    if with_minus:
        out[:, with_minus] -= kernel.cov(cells, np.array([rows[j].minus for j in with_minus], dtype=np.int64))
    return out


def row_covariance(kernel: Kernel, left: Sequence[Row], right: Sequence[Row], with_bias: bool, noise_only: bool = False) -> np.ndarray:
    """Covariance between rows: of g, of the bias where both are automatic, and of the noise they share, (len(left), len(right))."""
    a, b = _column(left, "cell"), _column(right, "cell")
    if noise_only:
        out = np.zeros((len(left), len(right)))
    else:
        out = latent_covariance(kernel, a, right)
        with_minus = [i for i, row in enumerate(left) if row.minus is not None]
        if with_minus:
            out[with_minus] -= latent_covariance(kernel, np.array([left[i].minus for i in with_minus], dtype=np.int64), right)
    judge_a, judge_b = _column(left, "judge"), _column(right, "judge")
    if with_bias:
        out += kernel.bias_cov(a, b) * ((judge_a == AUTO)[:, None] & (judge_b == AUTO)[None, :])
    clip_a, clip_b = _column(left, "clip"), _column(right, "clip")
    same = (clip_a[:, None] == clip_b[None, :]) & (clip_a >= 0)[:, None]
    out += kernel.vz * same
    place = {id(row): i for i, row in enumerate(left)}
    for j, row in enumerate(right):
        i = place.get(id(row))
        if i is not None:
            out[i, j] += own_noise(kernel, row) - (kernel.vz if same[i, j] else 0.0)
    return out


def own_noise(kernel: Kernel, row: Row) -> float:
    """Noise variance of one row: luck of its clips, error of its judge, and what it brought along."""
    if row.judge == COMPARISON:
        return row.extra + 1e-6
    return (kernel.vz + (kernel.va if row.judge == AUTO else kernel.vh)) / row.count + row.extra
