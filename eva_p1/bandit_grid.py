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

from eva_state.keys import EXTRA, base_key, combo_key, extra_of_key, extra_value, normalise_pattern

from .bandit_records import ban_fields
from .dimensions import Dimension
from .search_space import AXES, NOMINAL_AXES, SearchSpace, params_of

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


def _names(dimension: Dimension, levels: Sequence[Any]) -> bool:
    """True where the levels are names; a single one among numbers (the workflow's own "auto", say) makes names of all."""
    return dimension.nominal or any(isinstance(level, (str, bool)) for level in levels)


def _own_distances(dimension: Dimension, levels: Sequence[Any]) -> np.ndarray:
    """The same for a dimension of the user's own: numbers on a scale where all levels together span about 1.

    Logarithmic where they are positive and span a factor of 4 or more.
    """
    if _names(dimension, levels):
        return 1.0 - np.eye(len(levels))
    places = np.array(levels, dtype=float)
    if places.min() > 0 and places.max() >= 4 * places.min():
        places = np.log(places)
    span = float(np.ptp(places)) or 1.0
    return np.abs(places[:, None] - places[None, :]) / span


def point_of_key(key: str, dimensions: Sequence[Dimension]) -> tuple[Any, ...]:
    """A combo key as levels: of the six axes, then of ``dimensions``; one it does not name is at the workflow's own value."""
    named = extra_of_key(key)
    return (*ban_fields(base_key(key)), *(extra_value(named[item.name]) if item.name in named else item.default for item in dimensions))


@dataclass(frozen=True)
class Grid:
    """``levels[j]`` lists axis j's levels; ``in_space`` marks the cells that are arms of the space, flat, (A,) bool."""

    names: tuple[str, ...]
    levels: tuple[tuple[Any, ...], ...]
    distances: tuple[np.ndarray, ...]
    in_space: np.ndarray
    dimensions: tuple[Dimension, ...] = ()  # the axes after the six
    retired: frozenset[str] = frozenset()  # those of them that params and keys name only off the workflow's own value

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(levels) for levels in self.levels)

    @property
    def size(self) -> int:
        """Number of cells, A."""
        return math.prod(self.shape)

    def is_nominal(self, j: int) -> bool:
        return _names(self.dimensions[j - len(AXES)], self.levels[j]) if j >= len(AXES) else self.names[j] in NOMINAL_AXES

    def cell(self, point: Sequence[Any]) -> int | None:
        """Flat index of a point (levels in axis order), or None when a level is not on the grid."""
        try:
            return int(np.ravel_multi_index([levels.index(v) for levels, v in zip(self.levels, point)], self.shape))
        except ValueError:
            return None

    def cell_of(self, params: Mapping[str, Any]) -> int | None:
        return self.cell(self.point_of(combo_key(params)))

    def point_of(self, key: str) -> tuple[Any, ...]:
        """The levels of a combo key in axis order."""
        return point_of_key(key, self.dimensions)

    def point(self, cell: int) -> tuple[Any, ...]:
        return tuple(levels[int(i)] for levels, i in zip(self.levels, np.unravel_index(int(cell), self.shape)))

    def params(self, cell: int) -> dict[str, Any]:
        point = self.point(cell)
        levels = zip(self.dimensions, point[len(AXES) :])
        own = {item.name: level for item, level in levels if item.name not in self.retired or level != item.default}
        params = params_of(point[: len(AXES)])
        return {**params, EXTRA: own} if own else params

    def indices(self, cells: np.ndarray) -> np.ndarray:
        """Level index of every cell on every axis, (n, d)."""
        return np.stack(np.unravel_index(np.asarray(cells, dtype=np.int64), self.shape), axis=1)

    def nearest_cell(self, point: Sequence[Any]) -> int | None:
        """Like :meth:`cell`, with ordinal levels moved to the closest on the grid; None for an unknown name."""
        index: list[int] = []
        for name, levels, value in zip(self.names, self.levels, point):
            j = len(index)
            if value in levels:
                index.append(levels.index(value))
            elif self.is_nominal(j):
                return None
            elif j >= len(AXES):
                if isinstance(value, str):
                    return None
                index.append(min(range(len(levels)), key=lambda i: abs(levels[i] - value)))
            else:
                place = _coordinate(name, value)
                index.append(min(range(len(levels)), key=lambda i: math.dist(place, _coordinate(name, levels[i]))))
        return int(np.ravel_multi_index(index, self.shape))

    def cover(self, covered: np.ndarray, pattern: str) -> None:
        """Marks the cells that a key or pattern covers in ``covered``, (A,) bool."""
        canonical = normalise_pattern(pattern)
        named = extra_of_key(canonical)
        if not set(named) <= {item.name for item in self.dimensions}:
            return
        own = [extra_value(named[item.name]) if item.name in named else None for item in self.dimensions]
        at: list[slice | int] = []
        for levels, wanted in zip(self.levels, [*ban_fields(base_key(canonical)), *own]):
            if wanted is not None and wanted not in levels:
                return
            at.append(slice(None) if wanted is None else levels.index(wanted))
        covered.reshape(self.shape)[tuple(at)] = True


def build_grid(space: SearchSpace, extra_points: Iterable[Sequence[Any]] = (), room: int | None = None) -> Grid:
    """The grid of ``space``, widened by the levels of ``extra_points``, most frequent first, while it has at most
    ``room`` (ROOM) cells or MAX_GROWTH times those of the space.

    Points give the six axes, and the space's dimensions where they know them."""
    names = (*AXES, *(item.name for item in space.dimensions))
    levels: list[list[Any]] = [list(getattr(space, axis)) for axis in AXES]
    levels += [list(item.values) for item in space.extra] + [[item.default] for item in space.retired]
    given = [len(axis_levels) for axis_levels in levels]
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
            dropped.append(f"{names[j]}={value}")
    if dropped:
        logger.info("past observations with %s are read as their nearest level, or set aside where a name is unknown", ", ".join(dropped))
    inside = [np.arange(len(axis_levels)) < count for axis_levels, count in zip(levels, given)]
    mask = np.ones((), dtype=bool)
    for part in inside:
        mask = mask[..., None] & part
    if space.pairs is not None:
        allowed = np.array([[space.allows_pair(a, b) for b in levels[1]] for a in levels[0]], dtype=bool)
        mask = mask & allowed.reshape(allowed.shape + (1,) * (len(levels) - 2))
    return Grid(
        names=names,
        levels=tuple(tuple(axis_levels) for axis_levels in levels),
        distances=(
            *(_distances(axis, axis_levels) for axis, axis_levels in zip(AXES, levels)),
            *(_own_distances(item, axis_levels) for item, axis_levels in zip(space.dimensions, levels[len(AXES) :])),
        ),
        in_space=mask.reshape(-1),
        dimensions=space.dimensions,
        retired=frozenset(item.name for item in space.retired),
    )
