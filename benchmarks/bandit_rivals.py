"""EVA's bandit and what a user might take instead, behind one small interface.

Every rival is used the way its documentation proposes for a mixed space, with the ordinal axes given as ordered integers
(kinder to them than categories), and recommends what its users would take: Optuna the best trial, random search the best
score seen, sklearn's GP the best posterior mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.search_space import AXES, SearchSpace, point_of

NOMINAL = (0, 1, 5)  # sampler, scheduler, size: no order that a rival could use


def shape_of(space: SearchSpace) -> tuple[int, ...]:
    """Levels of every axis of the space."""
    return tuple(len(getattr(space, axis)) for axis in AXES)


class Optimiser(Protocol):
    """Cells are flat indices into ``space.arms()``."""

    def ask(self) -> int: ...
    def tell(self, cell: int, score: float, minutes: float | None) -> None: ...
    def recommend(self) -> int: ...


class Eva:
    """MultiDimensionalBandit; ``options`` go to its constructor."""

    def __init__(self, space: SearchSpace, seed: int, **options: Any):
        self.bandit = MultiDimensionalBandit(space=space, seed=seed, **options)
        self._places = [{level: i for i, level in enumerate(getattr(space, axis))} for axis in AXES]
        self._shape = tuple(len(place) for place in self._places)
        self._arms = list(space.arms())
        self._told = 0

    def cell(self, params: dict[str, Any]) -> int:
        index = [place[level] for place, level in zip(self._places, point_of(params))]
        return int(np.ravel_multi_index(index, self._shape))

    def params(self, cell: int) -> dict[str, Any]:
        return self._arms[cell]

    def ask(self) -> int:
        return self.cell(self.bandit.select_params())

    def tell(self, cell: int, score: float, minutes: float | None) -> None:
        self._told += 1
        self.bandit.update(self._arms[cell], score, minutes, video=f"clip{self._told}")

    def recommend(self) -> int:
        return self.cell(self.bandit.recommend())


class RandomSearch:
    """Uniform choice; bets on the best score seen."""

    def __init__(self, space: SearchSpace, seed: int):
        self._rng, self._size = np.random.default_rng(seed), space.arm_count
        self._best = (-1.0, 0)

    def ask(self) -> int:
        return int(self._rng.integers(self._size))

    def tell(self, cell: int, score: float, minutes: float | None) -> None:
        self._best = max(self._best, (score, cell))

    def recommend(self) -> int:
        return self._best[1]


class OptunaSampler:
    """Optuna with one of its samplers (https://optuna.readthedocs.io/en/stable/reference/samplers/)."""

    def __init__(self, space: SearchSpace, seed: int, sampler: str):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # multivariate TPE and GPSampler announce themselves as experimental
            made = (
                optuna.samplers.TPESampler(multivariate=True, seed=seed)
                if sampler == "tpe"
                else optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)
            )
        self._study = optuna.create_study(direction="maximize", sampler=made)
        self._shape = shape_of(space)
        self._open: dict[int, list[Any]] = {}

    def ask(self) -> int:
        trial = self._study.ask()
        for j, levels in enumerate(self._shape):
            if j in NOMINAL:
                trial.suggest_categorical(f"x{j}", list(range(levels)))
            else:
                trial.suggest_int(f"x{j}", 0, levels - 1)
        cell = self._cell(trial.params)
        self._open.setdefault(cell, []).append(trial)
        return cell

    def _cell(self, params: dict[str, Any]) -> int:
        return int(np.ravel_multi_index([params[f"x{j}"] for j in range(len(self._shape))], self._shape))

    def tell(self, cell: int, score: float, minutes: float | None) -> None:
        self._study.tell(self._open[cell].pop(0), score)

    def recommend(self) -> int:
        return self._cell(self._study.best_params)


class SklearnGpUcb:
    """Gaussian process of scikit-learn on one-hot and scaled features, Matern 5/2 with a lengthscale each, UCB with beta 2.

    Hyperparameters are fitted again every 10 results (every one would take hours and changes little).
    """

    def __init__(self, space: SearchSpace, seed: int):
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        shape = shape_of(space)
        index = np.stack(np.unravel_index(np.arange(space.grid_size), shape), axis=1)
        parts = [np.eye(shape[j])[index[:, j]] if j in NOMINAL else index[:, [j]] / max(shape[j] - 1, 1) for j in range(len(shape))]
        self._X = np.concatenate(parts, axis=1)
        kernel = ConstantKernel(0.02, (1e-4, 1.0)) * Matern(np.ones(self._X.shape[1]), (0.1, 30.0), nu=2.5) + WhiteKernel(0.01, (1e-4, 0.1))
        self._gp = GaussianProcessRegressor(kernel, normalize_y=False, random_state=seed)
        self._rng = np.random.default_rng(seed)
        self._cells: list[int] = []
        self._scores: list[float] = []

    def _predict(self) -> tuple[np.ndarray, np.ndarray]:
        n = len(self._cells)
        y = np.array(self._scores)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a lengthscale at its bound is normal for an axis that does not matter
            if n % 10 == 0:
                self._gp.optimizer = "fmin_l_bfgs_b"
                self._gp.fit(self._X[self._cells], y - y.mean())
                self._gp.kernel = self._gp.kernel_
            else:
                self._gp.optimizer = None
                self._gp.fit(self._X[self._cells], y - y.mean())
            mean, sd = self._gp.predict(self._X, return_std=True)
        return mean, sd

    def ask(self) -> int:
        if len(self._cells) < 10:
            return int(self._rng.integers(len(self._X)))
        mean, sd = self._predict()
        return int(np.argmax(mean + 2.0 * sd))

    def tell(self, cell: int, score: float, minutes: float | None) -> None:
        self._cells.append(cell)
        self._scores.append(score)

    def recommend(self) -> int:
        return int(np.argmax(self._predict()[0]))


OPTIMISERS: dict[str, Callable[[SearchSpace, int], Optimiser]] = {
    "eva": lambda space, seed: Eva(space, seed),
    "eva-kg": lambda space, seed: Eva(space, seed, policy="kg"),
    "eva-thompson": lambda space, seed: Eva(space, seed, policy="thompson"),
    "ucb1": lambda space, seed: Eva(space, seed, policy="ucb1"),
    "random": lambda space, seed: RandomSearch(space, seed),
    "tpe": lambda space, seed: OptunaSampler(space, seed, "tpe"),
    "tpe-again": lambda space, seed: OptunaSampler(space, seed + 1000, "tpe"),  # how much is its own luck
    "optuna-gp": lambda space, seed: OptunaSampler(space, seed, "gp"),
    "sklearn-gp": lambda space, seed: SklearnGpUcb(space, seed),
}
