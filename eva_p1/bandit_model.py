"""Exact posterior of the quality of every cell, kept up to date by rank-one steps.

Notation: see :mod:`eva_p1.bandit_kernel`; here beside it

========  ================================================================  ==========
symbol    meaning                                                           shape
========  ================================================================  ==========
K         covariance of the rows, noise included                            (n, n)
P         its inverse, kept explicitly                                      (n, n)
alpha     weights of the rows in the posterior mean: mean = K_Ax alpha      (n,)
c         posterior covariance of every cell with one row                   (A,)
========  ================================================================  ==========

Adding or removing a row changes every cell's variance by c^2 / (posterior variance of that row), and c is one product
of the prior with the grid (``Kernel.spread``). So a choice costs O(n^2 + A sum L_j), never O(n A).

A pull in flight is a row without a value: it lowers the variance around it (so that the next choice goes elsewhere) and
leaves the mean alone (Desautels, Krause & Burdick 2014, "Parallelizing exploration-exploitation tradeoffs", GP-BUCB).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .bandit_grid import Grid
from .bandit_kernel import AUTO, HUMAN, MEAN, Kernel, Layout, prior_of_theta

REBUILD_EVERY = 200  # rank-one steps between exact refreshes of P; the drift in between is below 1e-8 at our noise


@dataclass
class Row:
    """One observation of one cell. ``value`` None: in flight. ``count`` clips averaged; ``extra`` more noise variance."""

    cell: int
    judge: int = AUTO
    clip: int = -1
    value: float | None = None
    count: int = 1
    extra: float = 0.0


class Posterior:
    """What the rows say about g. Row ids are handed out by :meth:`add` and stay valid until :meth:`remove`."""

    def __init__(self, grid: Grid, theta: np.ndarray | None = None):
        layout = Layout(len(grid.shape))
        self.grid = grid
        self.kernel = Kernel(grid, prior_of_theta(layout)[0] if theta is None else theta)
        self._ids: list[int] = []
        self._rows: list[Row] = []
        self._next = 0
        self._steps = 0
        self._with_bias = False
        self._reset()

    def _reset(self) -> None:
        self._P = np.zeros((0, 0))
        self._var = np.full(self.grid.size, self.kernel.prior_var)
        self._mean: np.ndarray | None = None

    # ------------------------------------------------------------ rows
    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[Row]:
        return list(self._rows)

    @property
    def cells(self) -> np.ndarray:
        return np.array([row.cell for row in self._rows], dtype=np.int64)

    def add(self, row: Row) -> int:
        """Takes a row in and returns its id."""
        self._next += 1
        if row.judge == HUMAN and not self._with_bias:
            # Until a person has judged, the automatic score is all there is to go by; from now on it is only a witness.
            self._ids.append(self._next)
            self._rows.append(row)
            self.rebuild()
            return self._next
        cross = self._row_cov([row], self._rows)[0] if self._rows else np.zeros(0)
        own = float(self._row_cov([row], [row])[0, 0])
        beta = self._P @ cross
        schur = max(own - float(cross @ beta), 1e-10)
        weights = np.append(-beta, 1.0)
        c = self.kernel.spread(np.append(self.cells, row.cell), weights)
        self._var -= c * c / schur
        n = len(self._rows)
        P = np.empty((n + 1, n + 1))
        np.multiply.outer(beta, beta / schur, out=P[:n, :n])
        P[:n, :n] += self._P
        P[:n, n] = P[n, :n] = -beta / schur
        P[n, n] = 1.0 / schur
        self._P = P
        self._ids.append(self._next)
        self._rows.append(row)
        self._after_step()
        return self._next

    def set_value(self, row_id: int, value: float | None) -> None:
        """Gives a row in flight its result, or corrects it."""
        self._rows[self._at(row_id)].value = value
        self._mean = None

    def remove(self, row_id: int) -> None:
        """Forgets a row as if it had never been."""
        i = self._at(row_id)
        last_human = self._with_bias and not any(r.judge == HUMAN for k, r in enumerate(self._rows) if k != i)
        if last_human:
            del self._ids[i], self._rows[i]
            self.rebuild()
            return
        keep = np.arange(len(self._rows)) != i
        column, pivot = self._P[keep, i], float(self._P[i, i])
        weights = np.zeros(len(self._rows))
        weights[i] = 1.0
        weights[keep] = column / pivot  # P_ri / P_ii = -K_rr^-1 k_ri
        c = self.kernel.spread(self.cells, weights)
        self._var += c * c * pivot  # 1 / P_ii is the row's variance given the others
        self._P = self._P[np.ix_(keep, keep)] - np.multiply.outer(column, column / pivot)
        del self._ids[i], self._rows[i]
        self._after_step()

    def _after_step(self) -> None:
        self._mean = None
        self._steps += 1
        if self._steps >= REBUILD_EVERY:
            self._steps = 0
            self._P = self._inverse()

    def _at(self, row_id: int) -> int:
        try:
            return self._ids.index(row_id)
        except ValueError:
            raise KeyError(f"no row {row_id}") from None

    def rebuild(self, theta: np.ndarray | None = None) -> None:
        """Recomputes everything from the rows, with new hyperparameters if given."""
        if theta is not None:
            self.kernel = Kernel(self.grid, theta)
        self._with_bias = any(row.judge == HUMAN for row in self._rows)
        self._reset()
        self._steps = 0
        if not self._rows:
            return
        K = self._row_cov(self._rows, self._rows)
        lower = linalg.cholesky(K, lower=True)
        inverse_lower = linalg.solve_triangular(lower, np.eye(len(K)), lower=True)
        self._P = inverse_lower.T @ inverse_lower
        cells = self.cells
        for i in range(len(K)):
            c = self.kernel.spread(cells[: i + 1], inverse_lower[i, : i + 1])
            self._var -= c * c

    def _inverse(self) -> np.ndarray:
        K = self._row_cov(self._rows, self._rows)
        return linalg.cho_solve(linalg.cho_factor(K, lower=True), np.eye(len(K))) if len(K) else K

    def _row_cov(self, left: list[Row], right: list[Row]) -> np.ndarray:
        return row_covariance(self.kernel, left, right, self._with_bias)

    # ------------------------------------------------------------ what is known
    def alpha(self) -> np.ndarray:
        """Weights of the rows in the mean; rows in flight have weight 0 (their value is what the others predict)."""
        y = np.array([0.0 if row.value is None else row.value - MEAN for row in self._rows])
        done = np.array([row.value is not None for row in self._rows], dtype=bool)
        if done.all():
            return self._P @ y
        out = self._P[:, done] @ y[done]
        waiting = ~done
        fill = linalg.solve(self._P[np.ix_(waiting, waiting)], -out[waiting], assume_a="pos")
        out += self._P[:, waiting] @ fill
        out[waiting] = 0.0
        return out

    def mean(self) -> np.ndarray:
        """Posterior mean of every cell, (A,), in reward units (not clipped to [0,1])."""
        if self._mean is None:
            self._mean = MEAN + (self.kernel.spread(self.cells, self.alpha()) if self._rows else np.zeros(self.grid.size))
        return self._mean

    def sd(self) -> np.ndarray:
        """Posterior sd of every cell, (A,): of its true quality, not of the next clip's score."""
        return np.sqrt(np.maximum(self._var, 1e-12))

    def covariance_with(self, cells: np.ndarray, target: int) -> np.ndarray:
        """Posterior covariance of g between ``cells`` and the cell ``target``, (len(cells),)."""
        prior = self.kernel.cov(cells, np.array([target]))[:, 0]
        if not self._rows:
            return prior
        own = self.cells
        return prior - self.kernel.cov(cells, own) @ (self._P @ self.kernel.cov(own, np.array([target]))[:, 0])

    def column(self, target: int) -> np.ndarray:
        """Posterior covariance of every cell with the cell ``target``, (A,)."""
        cells = np.append(self.cells, target)
        weights = np.ones(1)
        if self._rows:
            weights = np.append(-(self._P @ self.kernel.cov(self.cells, np.array([target]))[:, 0]), 1.0)
        return self.kernel.spread(cells, weights)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One draw of g from the posterior, (A,), by Matheron's rule (Wilson et al. 2020, "Efficiently sampling functions")."""
        g = self.kernel.draw(rng)
        if not self._rows:
            return MEAN + g
        noise = row_covariance(self.kernel, self._rows, self._rows, self._with_bias, noise_only=True)
        seen = g[self.cells] + linalg.cholesky(noise, lower=True) @ rng.standard_normal(len(noise))
        fantasy = self.mean()[self.cells] - MEAN
        y = np.array([fantasy[i] if row.value is None else row.value - MEAN for i, row in enumerate(self._rows)])
        return MEAN + g + self.kernel.spread(self.cells, self._P @ (y - seen))


def row_covariance(kernel: Kernel, left: list[Row], right: list[Row], with_bias: bool, noise_only: bool = False) -> np.ndarray:
    """Covariance between rows: of g, of the bias where both are automatic, and of the noise they share, (len(left), len(right))."""
    a, b = (np.array([row.cell for row in rows], dtype=np.int64) for rows in (left, right))
    judge_a, judge_b = (np.array([row.judge for row in rows]) for rows in (left, right))
    clip_a, clip_b = (np.array([row.clip for row in rows]) for rows in (left, right))
    out = np.zeros((len(left), len(right))) if noise_only else kernel.cov(a, b)
    if with_bias:
        out += kernel.bias_cov(a, b) * ((judge_a == AUTO)[:, None] & (judge_b == AUTO)[None, :])
    same = (clip_a[:, None] == clip_b[None, :]) & (clip_a >= 0)[:, None]
    out += kernel.vz * same
    identity = {id(row): i for i, row in enumerate(left)}
    for j, row in enumerate(right):
        i = identity.get(id(row))
        if i is not None:
            clip_part = kernel.vz / row.count
            out[i, j] += (kernel.va if row.judge == AUTO else kernel.vh) / row.count + row.extra
            out[i, j] += clip_part - (kernel.vz if same[i, j] else 0.0)
    return out


def sd_floor(kernel: Kernel) -> float:
    """The noise of one clip judged automatically: no estimate of a clip's own score can be better than this."""
    return math.sqrt(kernel.vz + kernel.va)
