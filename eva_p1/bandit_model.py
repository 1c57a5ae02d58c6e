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

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .bandit_grid import Grid
from .bandit_kernel import AUTO, HUMAN, MEAN, Kernel, Layout, prior_of_theta
from .bandit_rows import Row, latent_covariance, row_covariance, scatter
from .bandit_taste import expected_rewards

REBUILD_EVERY = 200  # rank-one steps between exact refreshes of P; the drift in between is below 1e-8 at our noise


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

    def items(self) -> list[tuple[int, Row]]:
        """``(id, row)`` of every row, oldest first."""
        return list(zip(self._ids, self._rows))

    def add(self, row: Row) -> int:
        """Takes a row in and returns its id."""
        if row.judge != AUTO and not self._with_bias:
            # Until a person has judged, the automatic score is all there is to go by; from now on it is only a witness.
            return self.add_many([row])[0]
        self._next += 1
        self._add(self._next, row)
        return self._next

    def _add(self, row_id: int, row: Row) -> None:
        cross = self._row_cov([row], self._rows)[0] if self._rows else np.zeros(0)
        own = float(self._row_cov([row], [row])[0, 0])
        beta = self._P @ cross
        schur = max(own - float(cross @ beta), 1e-10)
        c = self._spread([*self._rows, row], np.append(-beta, 1.0))
        self._var -= c * c / schur
        n = len(self._rows)
        P = np.empty((n + 1, n + 1))
        np.multiply.outer(beta, beta / schur, out=P[:n, :n])
        P[:n, :n] += self._P
        P[:n, n] = P[n, :n] = -beta / schur
        P[n, n] = 1.0 / schur
        self._P = P
        self._ids.append(row_id)
        self._rows.append(row)
        self._after_step()

    def add_many(self, rows: Sequence[Row]) -> list[int]:
        """Takes many rows in by one rebuild: cheaper than one by one from a few dozen on."""
        ids = [self._next + 1 + i for i in range(len(rows))]
        self._next += len(rows)
        self._ids += ids
        self._rows += rows
        self.rebuild()
        return ids

    @classmethod
    def of(cls, grid: Grid, theta: np.ndarray, items: Sequence[tuple[int, Row]]) -> Posterior:
        """A posterior with these rows under these ids."""
        out = cls(grid, theta)
        out._ids, out._rows = [row_id for row_id, _ in items], [row for _, row in items]
        out._next = max(out._ids, default=0)
        out.rebuild()
        return out

    def follow(self, other: Posterior) -> bool:
        """Takes over the rows of ``other``, which has the same grid, by single steps; False, unusable, where those would not do."""
        theirs, mine = dict(other.items()), dict(self.items())
        if other._with_bias != self._with_bias:
            return False
        for row_id in [row_id for row_id in self._ids if row_id not in theirs]:
            self.remove(row_id)
        for row_id, row in theirs.items():
            if row_id in mine:
                known = mine[row_id]
                known.clip, known.value = row.clip, row.value
        for row_id, row in theirs.items():
            if row_id not in mine:
                self._add(row_id, replace(row))
        self._next, self._mean = other._next, None
        return self._with_bias == other._with_bias

    def set_value(self, row_id: int, value: float | None) -> None:
        """Gives a row in flight its result, or corrects it."""
        self._rows[self._at(row_id)].value = value
        self._mean = None

    def finish(self, row_id: int, clip: int, value: float) -> None:
        """A pull in flight became this clip, which no other row speaks of: its covariances stay, so this costs nothing."""
        row = self._rows[self._at(row_id)]
        row.clip, row.value = clip, value
        self._mean = None

    def remove(self, row_id: int) -> None:
        """Forgets a row as if it had never been."""
        i = self._at(row_id)
        last_human = self._with_bias and all(r.judge == AUTO for k, r in enumerate(self._rows) if k != i)
        if last_human:
            del self._ids[i], self._rows[i]
            self.rebuild()
            return
        keep = np.arange(len(self._rows)) != i
        column, pivot = self._P[keep, i], float(self._P[i, i])
        weights = np.zeros(len(self._rows))
        weights[i] = 1.0
        weights[keep] = column / pivot  # P_ri / P_ii = -K_rr^-1 k_ri
        c = self._spread(self._rows, weights)
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
        self._with_bias = any(row.judge != AUTO for row in self._rows)
        self._reset()
        self._steps = 0
        if not self._rows:
            return
        from scipy import linalg  # here, because it takes 0.3 s and the first choice, for which a GPU waits, does without

        K = self._row_cov(self._rows, self._rows)
        lower = linalg.cholesky(K, lower=True)
        inverse_lower = linalg.solve_triangular(lower, np.eye(len(K)), lower=True)
        self._P = inverse_lower.T @ inverse_lower
        for i in range(len(K)):
            c = self._spread(self._rows[: i + 1], inverse_lower[i, : i + 1])
            self._var -= c * c

    def _inverse(self) -> np.ndarray:
        from scipy import linalg

        K = self._row_cov(self._rows, self._rows)
        return linalg.cho_solve(linalg.cho_factor(K, lower=True), np.eye(len(K))) if len(K) else K

    def _spread(self, rows: Sequence[Row], weights: np.ndarray) -> np.ndarray:
        return self.kernel.spread(*scatter(rows, weights))

    def _row_cov(self, left: Sequence[Row], right: Sequence[Row]) -> np.ndarray:
        return row_covariance(self.kernel, left, right, self._with_bias)

    # ------------------------------------------------------------ what is known
    def _values(self) -> np.ndarray:
        """y of every row; a row in flight gets what the others predict that it will show, (n,)."""
        y = np.array([0.0 if row.centred is None else row.centred for row in self._rows])
        waiting = np.array([row.value is None for row in self._rows], dtype=bool)
        if waiting.any():
            from scipy import linalg

            # The prediction is the y that leaves no weight on the row: P_ww y_w + P_wd y_d = 0
            y[waiting] = linalg.solve(self._P[np.ix_(waiting, waiting)], -(self._P[waiting] @ y), assume_a="pos")
        return y

    def alpha(self) -> np.ndarray:
        """Weights of the rows in the mean, (n,); 0 for rows in flight, up to rounding."""
        return self._P @ self._values()

    def mean(self) -> np.ndarray:
        """Posterior mean of every cell, (A,), in reward units (not clipped to [0,1])."""
        if self._mean is None:
            self._mean = MEAN + (self._spread(self._rows, self.alpha()) if self._rows else np.zeros(self.grid.size))
        return self._mean

    def sd(self) -> np.ndarray:
        """Posterior sd of every cell, (A,): of its true quality, not of the next clip's score."""
        return np.sqrt(np.maximum(self._var, 1e-12))

    def joint(self, cells: np.ndarray) -> np.ndarray:
        """Posterior covariance of g between these cells, (m, m). O(m n^2 + m^2 n): for a few hundred cells."""
        prior = self.kernel.cov(cells, cells)
        if not self._rows:
            return prior
        cross = latent_covariance(self.kernel, cells, self._rows)
        return prior - cross @ (self._P @ cross.T)

    def rating_covariance(self, row_ids: Sequence[int], cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a human rating of the clips behind these rows would share with g: covariances (len(cells), k), variances (k,).

        Meaningful once human ratings are in use; before, the automatic rows are themselves read as the truth.
        """
        future = [Row(self._rows[self._at(i)].cell, HUMAN, self._rows[self._at(i)].clip) for i in row_ids]
        known = row_covariance(self.kernel, self._rows, future, True)
        solved = self._P @ known
        prior = latent_covariance(self.kernel, cells, future)
        cross = prior - latent_covariance(self.kernel, cells, self._rows) @ solved
        variance = np.array([row_covariance(self.kernel, [row], [row], True)[0, 0] for row in future]) - (known * solved).sum(axis=0)
        return cross, np.maximum(variance, 1e-9)

    def expected_ratings(self, row_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd, in reward units, of what a person gives the clips behind these rows; see ``bandit_taste.expected_rewards``."""
        place = {row_id: i for i, row_id in enumerate(self._ids)}
        at = [place[row_id] for row_id in row_ids]
        return expected_rewards(self.kernel, self._rows, self._P, self.alpha(), self.mean(), self._var, at)

    def contrast(self, weights: np.ndarray) -> tuple[float, float]:
        """Posterior mean and sd of a weighted sum of cells, ``weights`` (A,): exact, whatever the weights."""
        used = np.flatnonzero(weights)
        everywhere = self.kernel.spread(used, weights[used])
        variance = float(everywhere @ weights)
        if self._rows:
            cells, signs = scatter(self._rows, np.ones(len(self._rows)))
            cross = everywhere[cells[: len(self._rows)]].copy()
            owners = [i for i, row in enumerate(self._rows) if row.minus is not None]
            cross[owners] -= everywhere[cells[len(self._rows) :]]
            variance -= float(cross @ self._P @ cross)
        return float(self.mean() @ weights), float(np.sqrt(max(variance, 0.0)))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One draw of g from the posterior, (A,), by Matheron's rule (Wilson et al. 2020, "Efficiently sampling functions")."""
        g = self.kernel.draw(rng)
        if not self._rows:
            return MEAN + g
        from scipy import linalg

        noise = row_covariance(self.kernel, self._rows, self._rows, False, noise_only=True)
        seen = self._observe(g) + linalg.cholesky(noise, lower=True) @ rng.standard_normal(len(noise))
        if self._with_bias:
            bias = self.kernel.draw_bias(rng)
            seen += np.array([bias[row.cell] if row.judge == AUTO else 0.0 for row in self._rows])
        return MEAN + g + self._spread(self._rows, self._P @ (self._values() - seen))

    def _observe(self, g: np.ndarray) -> np.ndarray:
        """What noiseless rows would see of a zero-mean g, (n,)."""
        return np.array([g[row.cell] - (0.0 if row.minus is None else g[row.minus]) for row in self._rows])
