"""How the next combo is chosen once the model has spoken. Every policy passes the same contract suite.

A policy sees a :class:`Choice` and returns one cell of ``choice.cells``. Ties are broken at random with ``choice.rng``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .bandit_model import Posterior

BETA = 1.0  # sds above the mean; measured in benchmarks/bandit.py (0.5 to 2 differ little, 3 explores too long)


@dataclass
class Choice:
    """What a policy may use. Arrays are aligned with ``cells``, the allowed cells (flat grid indices), (m,)."""

    cells: np.ndarray
    rng: np.random.Generator
    posterior: Posterior
    tries: np.ndarray  # finished and running tries of each cell
    total: np.ndarray  # sum of rewards of the finished ones
    success: np.ndarray  # probability that a try gives a clip at all
    beta: float = BETA


Policy = Callable[[Choice], int]


def _argmax(choice: Choice, value: np.ndarray) -> int:
    best = np.flatnonzero(value >= value.max() - 1e-12)
    return int(choice.cells[best[0] if len(best) == 1 else choice.rng.choice(best)])


def model_ucb(choice: Choice) -> int:
    """Upper confidence bound of the model: mean + beta sd, times the probability of getting a clip."""
    mean, sd = choice.posterior.mean()[choice.cells], choice.posterior.sd()[choice.cells]
    return _argmax(choice, (mean + choice.beta * sd) * choice.success)


def thompson(choice: Choice) -> int:
    """The best cell of one draw from the posterior (Thompson 1933)."""
    return _argmax(choice, choice.posterior.draw(choice.rng)[choice.cells] * choice.success)


def ucb1(choice: Choice) -> int:
    """UCB1 on every combo by itself, nothing shared (Auer et al. 2002): the original system's rule."""
    untried = choice.tries == 0
    if untried.any():
        return int(choice.rng.choice(choice.cells[untried]))
    t = max(2.0, float(choice.tries.sum()))
    return _argmax(choice, choice.total / choice.tries + np.sqrt(2.0 * np.log(t) / choice.tries))


def uniform(choice: Choice) -> int:
    """Any allowed combo: the yardstick."""
    return int(choice.rng.choice(choice.cells))


POLICIES: dict[str, Policy] = {"ucb": model_ucb, "thompson": thompson, "ucb1": ucb1, "random": uniform}
