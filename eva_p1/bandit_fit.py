"""Empirical Bayes: the hyperparameters of the model, learned from the rows by maximum a posteriori.

Maximises log p(y | theta) + log p(theta) by L-BFGS with exact gradients (Rasmussen & Williams 2006, eq. 5.9); the prior
of theta (``bandit_kernel.prior_of_theta``) keeps 30-odd hyperparameters honest when there are only a few rows.
"""

from __future__ import annotations

import numpy as np

from .bandit_grid import Grid
from .bandit_kernel import AUTO, COMPARISON, HUMAN, MEAN, Layout, matern52, matern52_dlog, prior_of_theta
from .bandit_rows import Row

MAX_FIT_ROWS = 256  # the likelihood costs O(n^3); beyond this many rows its maximum hardly moves
ITERATIONS = 25


class _Likelihood:
    """Negative log posterior of theta and its gradient for fixed rows."""

    def __init__(self, grid: Grid, rows: list[Row], rater: tuple[float, int] | None = None):
        self.grid, self.rows = grid, rows
        self.layout = Layout(len(grid.shape))
        self.place = self.layout.index()
        self.prior_mean, self.prior_sd = with_rater(self.layout, prior_of_theta(self.layout), rater)
        cells = np.array([row.cell for row in rows], dtype=np.int64)
        index = grid.indices(cells)
        d = self.layout.d
        self.r = [grid.distances[j][np.ix_(index[:, j], index[:, j])] for j in range(d)]
        self.eye_tables = [(self.r[j] == 0).astype(float) if grid.is_nominal(j) else None for j in range(d)]
        self.y = np.array([row.value - MEAN for row in rows if row.value is not None])
        self.count = np.array([row.count for row in rows], dtype=float)
        self.extra = np.array([row.extra for row in rows])
        judge = np.array([row.judge for row in rows])
        self.auto = (judge == AUTO).astype(float)
        self.with_bias = bool((judge == HUMAN).any())
        clip = np.array([row.clip for row in rows])
        same = (clip[:, None] == clip[None, :]) & (clip >= 0)[:, None]
        np.fill_diagonal(same, False)
        self.clip_share = same.astype(float)
        np.fill_diagonal(self.clip_share, 1.0 / self.count)
        self.same_cell = (cells[:, None] == cells[None, :]).astype(float)

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        d, at = self.layout.d, self.place
        value = np.exp(theta)
        v = value**2
        n = len(self.y)
        C: list[np.ndarray] = []
        dC: list[np.ndarray | None] = []
        Q: list[np.ndarray] = []
        dlogQ: list[np.ndarray] = []
        for j in range(d):
            eye = self.eye_tables[j]
            length_p = value[at[f"lp_{j}"]]
            if eye is not None:
                C.append(eye)
                dC.append(None)
                Q.append(np.exp(-self.r[j] / length_p))
                dlogQ.append(self.r[j] / length_p)
            else:
                length = value[at[f"l_{j}"]]
                C.append(matern52(self.r[j] / length))
                dC.append(matern52_dlog(self.r[j] / length))
                Q.append(matern52(self.r[j] / length_p))
                dlogQ.append(matern52_dlog(self.r[j] / length_p) / Q[-1])
        inner = []  # K_pairs+mains = sum_j C_j (v_j + sum_k>j v_jk C_k); the symmetric sum is needed for the gradient
        K = np.full((n, n), v[at["s0"]])
        for j in range(d):
            full = np.full((n, n), v[at[f"s_{j}"]])
            upper = full.copy()
            for k in range(d):
                if k != j:
                    term = v[at[f"s_{min(j, k)}{max(j, k)}"]] * C[k]
                    full += term
                    if k > j:
                        upper += term
            inner.append(full)
            K += upper * C[j]
        product = np.full((n, n), v[at["s_p"]])
        for table in Q:
            product *= table
        K += product
        K += v[at["s_r"]] * self.same_cell
        K += v[at["s_z"]] * self.clip_share
        both = np.outer(self.auto, self.auto)
        if self.with_bias:
            K += both * (v[at["s_d"]] + v[at["s_m"]] * sum(C))
        K[np.diag_indices(n)] += (self.auto * v[at["s_a"]] + (1 - self.auto) * v[at["s_h"]]) / self.count + self.extra + 1e-10
        from scipy import linalg  # here for the reason given in bandit_model

        try:
            factor = linalg.cho_factor(K, lower=True)
        except linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        inverse = linalg.cho_solve(factor, np.eye(n))
        alpha = inverse @ self.y
        z = (theta - self.prior_mean) / self.prior_sd
        nll = 0.5 * self.y @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * z @ z
        W = inverse - np.outer(alpha, alpha)
        grad = np.zeros_like(theta)
        grad[at["s0"]] = v[at["s0"]] * W.sum()
        for j in range(d):
            WC = W * C[j]
            grad[at[f"s_{j}"]] = v[at[f"s_{j}"]] * WC.sum()
            for k in range(j + 1, d):
                grad[at[f"s_{j}{k}"]] = v[at[f"s_{j}{k}"]] * np.vdot(WC, C[k])
            if dC[j] is not None:
                grad[at[f"l_{j}"]] = 0.5 * np.vdot(W * dC[j], inner[j])
        WP = W * product
        grad[at["s_p"]] = WP.sum()
        for j in range(d):
            grad[at[f"lp_{j}"]] = 0.5 * np.vdot(WP, dlogQ[j])
        grad[at["s_r"]] = v[at["s_r"]] * np.vdot(W, self.same_cell)
        grad[at["s_z"]] = v[at["s_z"]] * np.vdot(W, self.clip_share)
        diagonal = np.diag(W) / self.count
        grad[at["s_a"]] = v[at["s_a"]] * (diagonal * self.auto).sum()
        grad[at["s_h"]] = v[at["s_h"]] * (diagonal * (1 - self.auto)).sum()
        if self.with_bias:
            WB = W * both
            grad[at["s_d"]] = v[at["s_d"]] * WB.sum()
            grad[at["s_m"]] = v[at["s_m"]] * sum(np.vdot(WB, table) for table in C)
            for j in range(d):
                if dC[j] is not None:
                    grad[at[f"l_{j}"]] += 0.5 * v[at["s_m"]] * np.vdot(WB, dC[j])
        return float(nll), grad + z / self.prior_sd


def with_rater(layout: Layout, prior: tuple[np.ndarray, np.ndarray], rater: tuple[float, int] | None) -> tuple[np.ndarray, np.ndarray]:
    """The prior of theta after a rater's repeated ratings told ``(sd, count)`` of their error.

    The logarithm of a standard deviation estimated from ``count`` independent differences has an error of about
    1 / sqrt(2 count), and multiplies into the prior of log s_h like any normal likelihood.
    """
    if rater is None:
        return prior
    (mean, sd), at = prior, layout.index()["s_h"]
    told, count = rater
    weight, own = 2.0 * count, 1.0 / sd[at] ** 2
    mean, sd = mean.copy(), sd.copy()
    mean[at] = (own * mean[at] + weight * np.log(told)) / (own + weight)
    sd[at] = (own + weight) ** -0.5
    return mean, sd


def fit_theta(
    grid: Grid,
    rows: list[Row],
    start: np.ndarray,
    rng: np.random.Generator,
    iterations: int = ITERATIONS,
    rater: tuple[float, int] | None = None,
) -> np.ndarray:
    """The most probable hyperparameters given the finished rows (comparisons apart), from ``start``; (p,) logarithms.

    ``rater``: the sd of a person's error and from how many repeated ratings it is known; see :func:`with_rater`.

    Beyond MAX_FIT_ROWS rows, all human rows, the latest and a random part of the rest are used.
    """
    done = [row for row in rows if row.value is not None and row.judge != COMPARISON]
    if len(done) < 3:
        return start
    if len(done) > MAX_FIT_ROWS:
        human = [i for i, row in enumerate(done) if row.judge == HUMAN][-MAX_FIT_ROWS // 2 :]
        latest = list(range(len(done) - MAX_FIT_ROWS // 4, len(done)))
        chosen = set(human) | set(latest)
        rest = [i for i in range(len(done)) if i not in chosen]
        chosen |= set(rng.choice(rest, size=MAX_FIT_ROWS - len(chosen), replace=False).tolist())
        done = [done[i] for i in sorted(chosen)]
    likelihood = _Likelihood(grid, done, rater)
    bounds = list(zip(likelihood.prior_mean - 4 * likelihood.prior_sd, likelihood.prior_mean + 4 * likelihood.prior_sd))
    from scipy import optimize  # a third of a second to import, and not needed before the first fit: the GPU waits meanwhile

    found = optimize.minimize(likelihood, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations})
    return np.asarray(found.x)
