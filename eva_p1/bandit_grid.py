"""The grid the model works on: one axis a parameter, one cell a combination of levels.

The grid holds the levels of the search space and, beside them, levels that only past observations use (a sampler the
user took out since), so that what was learned there still informs the rest. Cells outside the space are never proposed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .search_space import AXES, NOMINAL_AXES, SearchSpace, params_of, point_of

logger = logging.getLogger(__name__)
MAX_GROWTH = 4.0  # the grid may hold this many times the cells of the space to keep old levels; beyond, they are dropped
ROOM = 50_000  # cells a grid may always have: a small space costs nothing, and a narrowed one must not forget


def _coordinate(axis: str, level: Any) -> tuple[float, ...]:
    """Place of an ordinal level on a scale where the usual range is about 1 and equal steps matter about equally.

    Logarithmic throughout: from 4 to 8 steps changes a clip about as much as from 8 to 16. The divisors are fixed, not
    taken from the levels present, so that adding a level does not change what the others mean.
    """
    if axis == "fps":
        return (math.log2(level / 16) / 0.6,)
    if axis == "cfg_scale":
        return (math.log2(level + 0.5) / 2.5,)
    if axis == "steps":
        return (math.log2(level / 4) / 3.0,)
    width, height = level
    return (math.log2(width * height / 4e5) / 1.4, math.log2(width / height) / 1.6)


def _distances(axis: str, levels: Sequence[Any]) -> np.ndarray:
    """Distance between every two levels, (L, L). Nominal levels are all 1 apart."""
    if axis in NOMINAL_AXES:
        return 1.0 - np.eye(len(levels))
    points = np.array([_coordinate(axis, level) for level in levels], dtype=float)
    return np.sqrt(((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=-1))


@dataclass(frozen=True)
class Grid:
    """``levels[j]`` lists axis j's levels; ``in_space`` marks the cells that are arms of the space, flat, (A,) bool."""

    names: tuple[str, ...]
    levels: tuple[tuple[Any, ...], ...]
    distances: tuple[np.ndarray, ...]
    in_space: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(levels) for levels in self.levels)

    @property
    def size(self) -> int:
        """Number of cells, A."""
        return math.prod(self.shape)

    def is_nominal(self, j: int) -> bool:
        return self.names[j] in NOMINAL_AXES

    def cell(self, point: Sequence[Any]) -> int | None:
        """Flat index of a point (levels in axis order), or None when a level is not on the grid."""
        try:
            return int(np.ravel_multi_index([levels.index(v) for levels, v in zip(self.levels, point)], self.shape))
        except ValueError:
            return None

    def cell_of(self, params: Mapping[str, Any]) -> int | None:
        return self.cell(point_of(params))

    def point(self, cell: int) -> tuple[Any, ...]:
        return tuple(levels[int(i)] for levels, i in zip(self.levels, np.unravel_index(int(cell), self.shape)))

    def params(self, cell: int) -> dict[str, Any]:
        return params_of(self.point(cell))

    def indices(self, cells: np.ndarray) -> np.ndarray:
        """Level index of every cell on every axis, (n, d)."""
        return np.stack(np.unravel_index(np.asarray(cells, dtype=np.int64), self.shape), axis=1)

    def nearest_cell(self, point: Sequence[Any]) -> int | None:
        """Like :meth:`cell`, with ordinal levels moved to the closest on the grid; None for an unknown name."""
        index = []
        for name, levels, value in zip(self.names, self.levels, point):
            if value in levels:
                index.append(levels.index(value))
            elif name in NOMINAL_AXES:
                return None
            else:
                place = _coordinate(name, value)
                index.append(min(range(len(levels)), key=lambda i: math.dist(place, _coordinate(name, levels[i]))))
        return int(np.ravel_multi_index(index, self.shape))

    def mask(self, fields: Sequence[Any]) -> np.ndarray:
        """Cells that match a pattern: one level an axis, or None for any. (A,) bool."""
        parts = []
        for levels, wanted in zip(self.levels, fields):
            parts.append(np.array([wanted is None or level == wanted for level in levels], dtype=bool))
        out = np.ones((), dtype=bool)
        for part in parts:
            out = out[..., None] & part
        return out.reshape(-1)


def build_grid(space: SearchSpace, extra_points: Iterable[Sequence[Any]] = (), room: int | None = None) -> Grid:
    """The grid of ``space``, widened by the levels of ``extra_points``, most frequent first, while it has at most
    ``room`` (ROOM) cells or MAX_GROWTH times those of the space."""
    levels = [list(getattr(space, axis)) for axis in AXES]
    wanted: dict[tuple[int, Any], int] = {}
    for point in extra_points:
        for j, value in enumerate(point):
            if value not in levels[j]:
                wanted[j, value] = wanted.get((j, value), 0) + 1
    dropped = []
    for (j, value), _count in sorted(wanted.items(), key=lambda item: -item[1]):
        levels[j].append(value)
        if math.prod(map(len, levels)) > max(ROOM if room is None else room, MAX_GROWTH * space.grid_size):
            levels[j].pop()
            dropped.append(f"{AXES[j]}={value}")
    if dropped:
        logger.info("past observations with %s are read as their nearest level, or set aside where a name is unknown", ", ".join(dropped))
    inside = [np.arange(len(axis_levels)) < len(getattr(space, axis)) for axis, axis_levels in zip(AXES, levels)]
    mask = np.ones((), dtype=bool)
    for part in inside:
        mask = mask[..., None] & part
    if space.pairs is not None:
        allowed = np.array([[space.allows_pair(a, b) for b in levels[1]] for a in levels[0]], dtype=bool)
        mask = mask & allowed.reshape(allowed.shape + (1,) * (len(AXES) - 2))
    return Grid(
        names=AXES,
        levels=tuple(tuple(axis_levels) for axis_levels in levels),
        distances=tuple(_distances(axis, axis_levels) for axis, axis_levels in zip(AXES, levels)),
        in_space=mask.reshape(-1),
    )
