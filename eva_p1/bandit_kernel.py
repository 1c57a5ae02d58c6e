"""The prior of the bandit's model: what is believed about the quality of a combo before any clip was made.

Notation
========  ================================================================  ==========
symbol    meaning                                                           shape
========  ================================================================  ==========
A         cells of the grid                                                 int
d         axes (sampler, scheduler, fps, cfg, steps, size)                  int
L_j       levels of axis j                                                  int
n         rows: observations and pulls in flight                            int
x         a cell, as one level index an axis                                (d,)
g         latent quality of every cell (mean human judgement, in [0,1])     (A,)
b         how the automatic score differs from g at every cell              (A,)
y         what was observed minus MEAN                                      (n,)
k_j       correlation of axis j's main effect                               (L_j, L_j)
q_j       correlation of axis j inside the all-axes term                    (L_j, L_j)
s0 s_j    sd of the level of g, and of axis j's main effect                 scalar
s_jk      sd of the interaction of axes j and k                             scalar
s_p s_r   sd of the all-axes smooth term; of the residual of a single cell  scalar
s_z       sd between clips of one cell (seed and prompt luck)               scalar
s_a s_h   sd of an automatic score, of a human rating, of one clip          scalar
s_d s_m   sd of b's level, of its main effects                              scalar
========  ================================================================  ==========

    g(x) ~ GP:  k(x,x') = s0^2 + sum_j s_j^2 k_j + sum_{j<k} s_jk^2 k_j k_k + s_p^2 prod_j q_j + s_r^2 [x = x']
    human  y = g(x) + z + e_h,    automatic  y = g(x) + b(x) + z + e_a,    z shared by the two judgements of one clip

A Bayesian linear model over one-hot factors and their pairs is the case k_j = identity; ordinal axes use the Matern 5/2
correlation, nominal ones the identity in main and pair terms and exp(-1/l) between different levels in the all-axes
term (Duvenaud et al. 2011, "Additive Gaussian processes"; Rasmussen & Williams 2006, ch. 4 and 5).

Every term is a product over axes, so that K(all cells, rows) @ weights never needs the (A, n) matrix: the weights are
scattered on the grid and each axis is contracted in turn, O(A sum L_j) whatever n is (Saatci 2011, ch. 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .bandit_grid import Grid

MEAN = 0.5  # rewards are in [0,1]; s0 says how little is claimed by this
HUMAN, AUTO, COMPARISON = 0, 1, 2


@dataclass(frozen=True)
class Layout:
    """Where each hyperparameter stands in the vector ``theta`` of natural logarithms (sds and lengthscales)."""

    d: int

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return list(combinations(range(self.d), 2))

    def names(self) -> list[str]:
        d = self.d
        return [
            "s0",
            *[f"s_{j}" for j in range(d)],
            *[f"s_{j}{k}" for j, k in self.pairs],
            "s_p",
            "s_r",
            *[f"l_{j}" for j in range(d)],
            *[f"lp_{j}" for j in range(d)],
            "s_z",
            "s_a",
            "s_h",
            "s_d",
            "s_m",
        ]

    def index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names())}


def prior_of_theta(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of the normal prior of ``theta``, (p,) each.

    The medians say: levels of one axis differ by about 0.05, interactions by about 0.02, the all-axes term adds 0.05,
    a clip's luck is about 0.06. The sds leave a factor of 2 to 3 either way; data decides.
    """
    median = {"s0": 0.2, "s_p": 0.05, "s_r": 0.02, "s_z": 0.06, "s_a": 0.05, "s_h": 0.06, "s_d": 0.1, "s_m": 0.05}
    spread = {"s0": 0.3, "s_p": 0.8, "s_r": 0.6, "s_z": 0.5, "s_a": 0.4, "s_h": 0.4, "s_d": 0.15, "s_m": 0.4}
    mean, sd = [], []
    for name in layout.names():
        if name in median:
            mean.append(np.log(median[name]))
            sd.append(spread[name])
        elif name.startswith("lp_"):
            mean.append(np.log(0.8))
            sd.append(0.7)
        elif name.startswith("l_"):
            mean.append(np.log(0.9))
            sd.append(0.5)
        elif len(name) == 4:
            mean.append(np.log(0.02))
            sd.append(0.7)
        else:
            mean.append(np.log(0.05))
            sd.append(0.8)
    return np.array(mean), np.array(sd)


def carry_theta(theta: np.ndarray, before: Sequence[str], now: Sequence[str]) -> np.ndarray:
    """What was learned with the axes ``before``, for the axes ``now``: those of new axes at their prior, (p,)."""
    if list(before) == list(now):
        return theta
    known = dict(zip(Layout(len(before)).names(), theta))
    layout = Layout(len(now))
    out = prior_of_theta(layout)[0]
    for i, name in enumerate(layout.names()):
        kind, _, digits = name.partition("_")
        if digits.isdigit():  # s_0, s_01, l_0, lp_0: axes by their place, of which there are never more than ten
            places = [before.index(now[int(digit)]) if now[int(digit)] in before else -1 for digit in digits]
            name = f"{kind}_{''.join(map(str, sorted(places)))}"
        out[i] = known.get(name, out[i])
    return out


def matern52(r: np.ndarray) -> np.ndarray:
    """Matern 5/2 correlation at scaled distance r >= 0 (Rasmussen & Williams 2006, eq. 4.17)."""
    t = np.sqrt(5.0) * r
    return (1.0 + t + t * t / 3.0) * np.exp(-t)


def matern52_dlog(r: np.ndarray) -> np.ndarray:
    """Derivative of :func:`matern52` by the logarithm of the lengthscale: (t^2 + t^3)/3 exp(-t), t = sqrt(5) r."""
    t = np.sqrt(5.0) * r
    return t * t * (1.0 + t) / 3.0 * np.exp(-t)


class Kernel:
    """The prior at one ``theta`` on one grid: per-axis tables, row covariances, and products with the whole grid."""

    def __init__(self, grid: Grid, theta: np.ndarray):
        self.grid, self.theta = grid, np.asarray(theta, dtype=float)
        self.layout = Layout(len(grid.shape))
        value = dict(zip(self.layout.names(), np.exp(self.theta)))
        d = self.layout.d
        self.v0, self.vp, self.vr = value["s0"] ** 2, value["s_p"] ** 2, value["s_r"] ** 2
        self.vmain = np.array([value[f"s_{j}"] ** 2 for j in range(d)])
        self.vpair = {(j, k): value[f"s_{j}{k}"] ** 2 for j, k in self.layout.pairs}
        self.vz, self.va, self.vh = value["s_z"] ** 2, value["s_a"] ** 2, value["s_h"] ** 2
        self.vd, self.vm = value["s_d"] ** 2, value["s_m"] ** 2
        self.main, self.prod = [], []
        for j in range(d):
            r = grid.distances[j]
            if grid.is_nominal(j):
                self.main.append(np.eye(len(r)))
                self.prod.append(np.exp(-r / value[f"lp_{j}"]))
            else:
                self.main.append(matern52(r / value[f"l_{j}"]))
                self.prod.append(matern52(r / value[f"lp_{j}"]))

    @property
    def prior_var(self) -> float:
        """Variance of g at any cell before data."""
        return float(self.v0 + self.vmain.sum() + sum(self.vpair.values()) + self.vp + self.vr)

    def cov(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Prior covariance of g between cells ``a`` and ``b`` (flat indices), (len(a), len(b))."""
        ia, ib = self.grid.indices(a), self.grid.indices(b)
        tables = [self.main[j][np.ix_(ia[:, j], ib[:, j])] for j in range(self.layout.d)]
        out = np.full((len(a), len(b)), self.v0)
        product = np.full((len(a), len(b)), self.vp)
        for j, table in enumerate(tables):
            inner = np.full_like(out, self.vmain[j])
            for k in range(j + 1, len(tables)):
                inner += self.vpair[j, k] * tables[k]
            out += inner * table
            product *= self.prod[j][np.ix_(ia[:, j], ib[:, j])]
        out += product
        out += self.vr * (np.asarray(a)[:, None] == np.asarray(b)[None, :])
        return out

    def bias_cov(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Prior covariance of the automatic score's bias b between cells, (len(a), len(b))."""
        ia, ib = self.grid.indices(a), self.grid.indices(b)
        out = np.full((len(a), len(b)), self.vd)
        for j in range(self.layout.d):
            out += self.vm * self.main[j][np.ix_(ia[:, j], ib[:, j])]
        return out

    def spread(self, cells: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """K(all cells, ``cells``) @ ``weights``: what weighted rows say about g everywhere, (A,)."""
        shape, d = self.grid.shape, self.layout.d
        index = self.grid.indices(cells)
        total = self._tables(index, weights)
        dense = np.bincount(cells, weights=weights, minlength=self.grid.size)
        product = dense.reshape(shape)
        for axis in range(d):  # contracting the first axis appends its image at the end: after d turns the order is back
            product = np.tensordot(product, self.prod[axis], axes=(0, 1))
        product *= self.vp
        for axes, table in total:
            product += table.reshape([shape[j] if j in axes else 1 for j in range(d)])
        out = product.reshape(-1)
        out += self.vr * dense
        return out

    def _tables(self, index: np.ndarray, weights: np.ndarray) -> list[tuple[tuple[int, ...], np.ndarray]]:
        """Pair tables holding level, main and pair effects, one for each pair of axes."""
        shape = self.grid.shape
        out: list[tuple[tuple[int, ...], np.ndarray]] = []
        for j, k in self.layout.pairs:
            counts = np.bincount(index[:, j] * shape[k] + index[:, k], weights=weights, minlength=shape[j] * shape[k])
            table = self.vpair[j, k] * (self.main[j] @ counts.reshape(shape[j], shape[k]) @ self.main[k])
            if j == 0:
                single = np.bincount(index[:, k], weights=weights, minlength=shape[k])
                table = table + (self.vmain[k] * (self.main[k] @ single))[None, :]
                if k == 1:
                    single = np.bincount(index[:, 0], weights=weights, minlength=shape[0])
                    table = table + (self.vmain[0] * (self.main[0] @ single))[:, None] + self.v0 * weights.sum()
            out.append(((j, k), table))
        return out

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One draw of g from the prior on the whole grid, (A,)."""
        shape, d = self.grid.shape, self.layout.d
        jitter = 1e-9
        main = [np.linalg.cholesky(m + jitter * np.eye(len(m))) for m in self.main]
        product = np.sqrt(self.vp) * rng.standard_normal(shape)
        for axis in range(d):
            chol = np.linalg.cholesky(self.prod[axis] + jitter * np.eye(shape[axis]))
            product = np.tensordot(product, chol, axes=(0, 1))
        out = product + np.sqrt(self.v0) * rng.standard_normal() + np.sqrt(self.vr) * rng.standard_normal(shape)
        for j in range(d):
            effect = np.sqrt(self.vmain[j]) * (main[j] @ rng.standard_normal(shape[j]))
            out += effect.reshape([shape[i] if i == j else 1 for i in range(d)])
        for (j, k), variance in self.vpair.items():
            effect = np.sqrt(variance) * (main[j] @ rng.standard_normal((shape[j], shape[k])) @ main[k].T)
            out += effect.reshape([shape[i] if i in (j, k) else 1 for i in range(d)])
        return out.reshape(-1)

    def draw_bias(self, rng: np.random.Generator) -> np.ndarray:
        """One draw of the automatic score's bias b on the whole grid, (A,)."""
        shape, d = self.grid.shape, self.layout.d
        out = np.full(shape, np.sqrt(self.vd) * rng.standard_normal())
        for j in range(d):
            chol = np.linalg.cholesky(self.main[j] + 1e-9 * np.eye(shape[j]))
            effect = np.sqrt(self.vm) * (chol @ rng.standard_normal(shape[j]))
            out += effect.reshape([shape[i] if i == j else 1 for i in range(d)])
        return out.reshape(-1)
