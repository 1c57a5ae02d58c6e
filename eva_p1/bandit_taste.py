"""How well ratings can be foretold: a person's taste, as far as combos and automatic scores tell it.

What a person will give a clip is g(x) + z + e_h (notation: ``bandit_kernel``), so its expectation given everything known, the
clip's own automatic score included, is the posterior mean of its cell plus the expected luck z of the clip.

Whether that is worth showing is found out on ratings it has not seen: the ratings are dealt into FOLDS parts; for each part the
hyperparameters are learned and the model is solved without that part's ratings (their automatic scores stay, as they would for
a clip nobody rated), and the part is predicted. The rival is the mean of the ratings outside the part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .bandit_fit import fit_theta
from .bandit_grid import Grid
from .bandit_kernel import HUMAN, MEAN, Kernel, Layout, prior_of_theta
from .bandit_rows import Row, latent_covariance, row_covariance

FOLDS = 5
LEAST_RATINGS = 10  # fewer say nothing about an error
MOST_RATINGS, MOST_ROWS = 400, 1500  # of these, the latest: solving costs O(rows^3)
FIT_ROWS = 160  # for learning the hyperparameters of a part, some 25 times as dear; fewer than the agent's own, which errs on the safe side


class Check(NamedTuple):
    """Root mean square errors in reward units over ``ratings`` ratings. ``gain`` is the mean of (rival's squared error - ours)
    and ``doubt`` the standard error of that mean.
    """

    ratings: int
    error: float
    error_of_mean: float
    gain: float
    doubt: float

    def convinces(self, already: bool) -> bool:
        """Whether predictions are worth showing: better by more than chance; once shown (``already``), better at all."""
        return self.gain > (0.0 if already else self.doubt)


def check(grid: Grid, rows: Sequence[Row], rng: np.random.Generator, stopped: Callable[[], bool]) -> Check | None:
    """Errors on ratings that were held out. None with fewer than ``LEAST_RATINGS``, or once ``stopped()``."""
    done = [row for row in rows if row.value is not None]
    rated = [row for row in done if row.judge == HUMAN and row.clip >= 0][-MOST_RATINGS:]
    if len(rated) < LEAST_RATINGS:
        return None
    wanted = {row.clip for row in rated}
    others = [row for row in done if row.clip not in wanted]
    kept = [row for row in done if row.clip in wanted] + others[max(0, len(others) - (MOST_ROWS - 2 * len(rated))) :]
    truth = np.array([row.value for row in rated], dtype=float)
    guess, rival = np.empty(len(rated)), np.empty(len(rated))
    part = rng.permutation(len(rated)) % FOLDS
    for fold in range(FOLDS):
        if stopped():
            return None
        hidden = [rated[i] for i in np.flatnonzero(part == fold)]
        ids = {id(row) for row in hidden}
        guess[part == fold] = _predict(grid, [row for row in kept if id(row) not in ids], hidden, rng)
        rival[part == fold] = truth[part != fold].mean()
    ours, theirs = (truth - guess) ** 2, (truth - rival) ** 2
    better = theirs - ours
    doubt = float(better.std(ddof=1) / np.sqrt(len(better)))
    return Check(len(rated), float(np.sqrt(ours.mean())), float(np.sqrt(theirs.mean())), float(better.mean()), doubt)


def _predict(grid: Grid, rows: list[Row], wanted: Sequence[Row], rng: np.random.Generator) -> np.ndarray:
    """Expected values of ``wanted``, human judgements not among ``rows``, in [0,1], (len(wanted),)."""
    theta = fit_theta(grid, _telling(rows, rng), prior_of_theta(Layout(len(grid.shape)))[0], rng)
    from scipy import linalg  # here for the reason given in bandit_model

    kernel = Kernel(grid, theta)
    known = np.array([0.0 if row.centred is None else row.centred for row in rows])
    own = row_covariance(kernel, rows, rows, True)
    cross = row_covariance(kernel, wanted, rows, True)
    return np.clip(MEAN + cross @ linalg.cho_solve(linalg.cho_factor(own, lower=True), known), 0.0, 1.0)


def _telling(rows: list[Row], rng: np.random.Generator) -> list[Row]:
    """At most ``FIT_ROWS`` rows for the hyperparameters: the latest rated clips' two judgements, and some of the others."""
    rated = {row.clip for row in [row for row in rows if row.judge == HUMAN and row.clip >= 0][-FIT_ROWS // 3 :]}
    chosen = [row for row in rows if row.clip in rated]
    rest = [row for row in rows if row.clip not in rated]
    count = min(len(rest), max(0, FIT_ROWS - len(chosen)))
    return chosen + [rest[i] for i in rng.choice(len(rest), size=count, replace=False)]


def expected_rewards(
    kernel: Kernel, rows: Sequence[Row], P: np.ndarray, alpha: np.ndarray, mean: np.ndarray, var: np.ndarray, at: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of the human reward of the clips that rows ``at`` judge, (k,) each.

    ``P`` (n, n) is the inverse covariance of all rows, ``alpha`` (n,) their weights, ``mean`` and ``var`` (A,) the posterior of g.
    An automatic row (whose clip nobody rated) is read as it is; of a human row itself the leave-one-out prediction is given
    (Rasmussen & Williams 2006, eq. 5.12), so that a rating never foretells itself.
    """
    index = np.asarray(at, dtype=np.int64)
    cells = np.array([rows[i].cell for i in at], dtype=np.int64)
    pivot = P[index, index]
    human = np.array([rows[i].judge == HUMAN for i in at], dtype=bool)
    expected = mean[cells] + kernel.vz * alpha[index]
    variance = var[cells] + kernel.vz - kernel.vz**2 * pivot + kernel.vh
    auto = np.flatnonzero(~human)
    for start in range(0, len(auto), 256):  # in pieces: (256, n) at a time
        piece = auto[start : start + 256]
        shared = latent_covariance(kernel, cells[piece], rows)
        variance[piece] -= 2 * kernel.vz * np.einsum("kn,nk->k", shared, P[:, index[piece]])
    for k, i in enumerate(at):
        value = rows[i].value
        if human[k] and value is not None:
            expected[k], variance[k] = value - alpha[i] / pivot[k], 1.0 / pivot[k]
    return np.clip(expected, 0.0, 1.0), np.sqrt(np.maximum(variance, 1e-9))
