"""How the next combo is chosen once the model has spoken. Every policy passes the same contract suite.

A policy sees a :class:`Choice` and returns one cell of ``choice.cells``. Ties are broken at random with ``choice.rng``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .bandit_model import Posterior
from .bandit_value import value_of_trying

BETA = 3.0  # sds above the mean; measured on benchmarks/bandit_surfaces.py: 1 and 2 settle too early, 6 never does
LEAST_GAIN = 1e-3  # reward units; keeps the logarithm of a gain finite where no arm can beat the best


@dataclass
class Choice:
    """What a policy may use. Arrays are aligned with ``cells``, the allowed cells (flat grid indices), (m,)."""

    cells: np.ndarray
    rng: np.random.Generator
    posterior: Posterior
    counts: Callable[[], tuple[np.ndarray, np.ndarray]]  # tries (finished and running) and sum of rewards of each cell
    success: np.ndarray  # probability that a try gives a clip at all
    minutes: np.ndarray | None = None  # expected price of a try; None: prices are unknown or do not matter
    exponent: float = 0.0  # value is divided by minutes ** exponent
    beta: float = BETA


Policy = Callable[[Choice], int]


def _argmax(choice: Choice, value: np.ndarray) -> int:
    best = np.flatnonzero(value >= value.max() - 1e-12)
    return int(choice.cells[best[0] if len(best) == 1 else choice.rng.choice(best)])


def _for_cost(choice: Choice, value: np.ndarray, reference: float) -> np.ndarray:
    """Gain over ``reference`` for the price, as a logarithm; the plain value where prices do not matter."""
    if choice.minutes is None or choice.exponent == 0.0:
        return value
    return np.log(np.maximum(value - reference, LEAST_GAIN)) - choice.exponent * np.log(choice.minutes)


def bound_index(choice: Choice) -> np.ndarray:
    """What ``ucb`` maximises, (m,): (mean + beta sd) times the probability of getting a clip, for its price.

    With prices it is the logarithm of (bound - best mean) / minutes^exponent.
    """
    mean, sd = choice.posterior.mean()[choice.cells], choice.posterior.sd()[choice.cells]
    value = (mean + choice.beta * sd) * choice.success
    return _for_cost(choice, value, float((mean * choice.success).max()))


def model_ucb(choice: Choice) -> int:
    """The highest upper confidence bound of the model, for its price."""
    return _argmax(choice, bound_index(choice))


def knowledge_gradient(choice: Choice) -> int:
    """The try whose result is expected to improve the final bet most, for its price. See ``bandit_value``."""
    if not len(choice.posterior):
        return uniform(choice)
    cells, gain = value_of_trying(choice.posterior, choice.cells)
    at = np.searchsorted(choice.cells, cells)
    gain = gain * choice.success[at]
    if choice.minutes is not None:
        gain = gain / choice.minutes[at] ** choice.exponent
    return int(cells[choice.rng.choice(np.flatnonzero(gain >= gain.max()))])


def thompson(choice: Choice) -> int:
    """The best cell of one draw from the posterior (Thompson 1933), for its price."""
    draw = choice.posterior.draw(choice.rng)[choice.cells] * choice.success
    return _argmax(choice, _for_cost(choice, draw, float((choice.posterior.mean()[choice.cells] * choice.success).max())))


def ucb1(choice: Choice) -> int:
    """UCB1 on every combo by itself, nothing shared (Auer et al. 2002): the original system's rule."""
    tries, total = choice.counts()
    untried = tries == 0
    if untried.any():
        return int(choice.rng.choice(choice.cells[untried]))
    t = max(2.0, float(tries.sum()))
    return _argmax(choice, total / tries + np.sqrt(2.0 * np.log(t) / tries))


def uniform(choice: Choice) -> int:
    """Any allowed combo: the yardstick."""
    return int(choice.rng.choice(choice.cells))


POLICIES: dict[str, Policy] = {"ucb": model_ucb, "kg": knowledge_gradient, "thompson": thompson, "ucb1": ucb1, "random": uniform}
MODEL_POLICIES = frozenset({"ucb", "kg", "thompson"})
