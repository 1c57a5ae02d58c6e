"""Synthetic quality surfaces for the bandit benchmark: the true quality and cost of every arm of the default space.

Four families, each drawn afresh for every seed, scaled so that the arms span about [0.1, 0.9]:

- ``pairs``     main effects and pair effects, smooth along ordinal axes
- ``broken``    the same with a residual of its own for every combo and sampler|scheduler pairs that do not work
- ``costly``    quality rises with steps and size, and so does the price
- ``narrow``    a plateau on which little matters, and one narrow region that is better

These are drawn without using any part of the model under test: ordinal effects are random parabolas, bumps and
saturations on the level index, not Gaussian processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from eva_p1.search_space import AXES, SearchSpace, default_space

FAMILIES = ("pairs", "broken", "costly", "narrow")


@dataclass(frozen=True)
class Surface:
    """``quality`` (A,) in [0,1] and ``minutes`` (A,) > 0, in the order of ``space.arms()``; ``noise`` sd of one score."""

    family: str
    space: SearchSpace
    quality: np.ndarray
    minutes: np.ndarray
    noise: float

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(getattr(self.space, axis)) for axis in AXES)

    @property
    def best(self) -> float:
        return float(self.quality.max())


def _curve(rng: np.random.Generator, levels: int) -> np.ndarray:
    """A smooth random effect of an ordinal axis, standardised: parabola, saturation or logistic step."""
    x = np.linspace(0.0, 1.0, levels)
    kind = rng.integers(3)
    if kind == 0:
        y = -((x - rng.uniform(-0.1, 1.1)) ** 2)
    elif kind == 1:
        y = rng.choice([-1, 1]) * (1 - np.exp(-x * rng.uniform(1, 4)))
    else:
        y = rng.choice([-1, 1]) / (1 + np.exp(-(x - rng.uniform(0.2, 0.8)) * rng.uniform(4, 12)))
    return (y - y.mean()) / max(float(y.std()), 1e-6)


def _effect(rng: np.random.Generator, axis: str, levels: int) -> np.ndarray:
    if axis in ("sampler", "scheduler", "size"):
        y = rng.standard_normal(levels)
        return (y - y.mean()) / max(float(y.std()), 1e-6)
    return _curve(rng, levels)


def _additive_and_pairs(rng: np.random.Generator, shape: tuple[int, ...], pair_share: float = 0.5) -> np.ndarray:
    """Main effects of random strength plus half of the pairs, (grid), standardised."""
    d = len(shape)
    out = np.zeros(shape)
    for j, axis in enumerate(AXES):
        effect = _effect(rng, axis, shape[j]) * rng.gamma(2.0, 0.5)
        out += effect.reshape([shape[i] if i == j else 1 for i in range(d)])
    for j, k in combinations(range(d), 2):
        if rng.random() < pair_share:
            table = sum(
                rng.standard_normal() * np.outer(_effect(rng, AXES[j], shape[j]), _effect(rng, AXES[k], shape[k])) for _ in range(2)
            )
            out += 0.25 * np.asarray(table).reshape([shape[i] if i in (j, k) else 1 for i in range(d)])
    return (out - out.mean()) / out.std()


def _scaled(values: np.ndarray, low: float = 0.1, high: float = 0.9) -> np.ndarray:
    return low + (high - low) * (values - values.min()) / (values.max() - values.min())


def minutes_of(space: SearchSpace, rng: np.random.Generator) -> np.ndarray:
    """GPU minutes of every arm: start-up plus steps times pixels (to the power 1.15), heun and dpmpp_2m_sde dearer, (grid)."""
    steps = np.array(space.steps, dtype=float).reshape(1, 1, 1, 1, -1, 1)
    pixels = np.array([w * h for w, h in space.size], dtype=float).reshape(1, 1, 1, 1, 1, -1) / 4e5
    factor = np.array([2.0 if name == "heun" else 1.1 if name.endswith("sde") else 1.0 for name in space.sampler]).reshape(
        -1, 1, 1, 1, 1, 1
    )
    cfg = np.array([0.55 if value == 1 else 1.0 for value in space.cfg_scale]).reshape(1, 1, 1, -1, 1, 1)
    fps = np.array(space.fps, dtype=float).reshape(1, 1, -1, 1, 1, 1) / 16
    return 0.4 + rng.uniform(0.12, 0.25) * steps * pixels**1.15 * factor * cfg * fps


def make_surface(family: str, seed: int, space: SearchSpace | None = None, noise: float | None = None) -> Surface:
    """The surface of one family for one seed; ``noise`` is drawn from [0.05, 0.15] unless given."""
    space = space or default_space()
    rng = np.random.default_rng([FAMILIES.index(family), seed])
    shape = tuple(len(getattr(space, axis)) for axis in AXES)
    minutes = np.broadcast_to(minutes_of(space, rng), shape)
    drawn = rng.uniform(0.05, 0.15)
    if family == "pairs":
        quality = _scaled(_additive_and_pairs(rng, shape))
    elif family == "broken":
        base = _additive_and_pairs(rng, shape) + 0.2 * rng.standard_normal(shape)
        broken = rng.random(shape[:2]) < 0.15
        quality = _scaled(base, 0.15, 0.9)
        quality = np.where(broken.reshape(shape[:2] + (1,) * (len(shape) - 2)), 0.1 + 0.2 * (quality - 0.15), quality)
    elif family == "costly":
        base = _additive_and_pairs(rng, shape)
        steps = 1 - np.exp(-np.arange(shape[4]) * rng.uniform(0.5, 1.0))
        size = np.argsort(np.argsort([w * h for w, h in space.size], kind="stable")) / (shape[5] - 1)
        rise = steps.reshape(1, 1, 1, 1, -1, 1) * 2.5 + size.reshape(1, 1, 1, 1, 1, -1) * rng.uniform(0.7, 1.5)
        quality = _scaled(0.7 * base + rise)
    elif family == "narrow":
        quality = _narrow(rng, shape)
    else:
        raise ValueError(f"unknown family {family!r}; choose one of {', '.join(FAMILIES)}")
    return Surface(family, space, quality.reshape(-1), np.ascontiguousarray(minutes).reshape(-1), drawn if noise is None else noise)


def _narrow(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A plateau near 0.5 and one region, about 1 % of the arms, that rises to 0.9; its flanks reach a little further."""
    plateau = 0.5 + 0.03 * _additive_and_pairs(rng, shape)
    reach = np.ones(shape)
    for j, axis in enumerate(AXES):
        if axis in ("sampler", "scheduler"):
            centre = rng.choice(shape[j], size=2, replace=False)
            weight = np.full(shape[j], 0.35)
            weight[centre] = [1.0, 0.8]
        elif axis == "size":
            weight = rng.permutation(np.linspace(0.6, 1.0, shape[j]))
        else:
            x = np.linspace(0, 1, shape[j])
            weight = np.exp(-0.5 * ((x - rng.uniform(0, 1)) / 0.45) ** 2)
        reach = reach * weight.reshape([shape[i] if i == j else 1 for i in range(len(shape))])
    return np.clip(plateau + 0.4 * reach / reach.max(), 0.0, 1.0)
