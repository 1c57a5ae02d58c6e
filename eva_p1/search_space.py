"""The search space: which values of each parameter the bandit may combine.

A space is the product of six axes (sampler, scheduler, fps, cfg_scale, steps, size) and of dimensions of the user's own
(``dimensions``), optionally restricted to some sampler|scheduler ``pairs``. One element of the product is an *arm*; its
parameters are a plain dict::

    {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 832, "height": 480}

with ``"extra": {"shift": 5}`` where the space has own dimensions.

Units and ranges: fps in frames a second, 1 to 240; cfg_scale 0 to 100 (1 switches guidance off in ComfyUI); steps 1 to
1000; width and height in pixels, 16 to 8192.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from eva_p1.dimensions import MAX_DIMENSIONS, Dimension, merged, read_dimensions, taken_out
from eva_state.keys import EXTRA

Number = int | float
AXES = ("sampler", "scheduler", "fps", "cfg_scale", "steps", "size")
NOMINAL_AXES = frozenset({"sampler", "scheduler"})
PARAM_NAMES = ("sampler", "scheduler", "fps", "cfg_scale", "steps", "width", "height")
_RANGES: dict[str, tuple[float, float]] = {"fps": (1, 240), "cfg_scale": (0, 100), "steps": (1, 1000), "size": (16, 8192)}
MAX_ARMS = 2_000_000  # one float64 array of this many arms is 16 MB; the model keeps a handful of them


def shortest(value: Number) -> Number:
    """7.0 -> 7, 3.5 -> 3.5: the form numbers have in combo keys."""
    return int(value) if float(value).is_integer() else float(value)


def _number(value: Any, axis: str) -> Number:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"search space: {axis} holds {value!r}, which is not a number")
    low, high = _RANGES[axis]
    if not low <= value <= high:
        raise ValueError(f"search space: {axis} holds {value!r}; it must lie between {low:g} and {high:g}")
    if axis in ("steps", "size") and not float(value).is_integer():
        raise ValueError(f"search space: {axis} holds {value!r}; it must be a whole number")
    return shortest(value)


def _read_number(text: str, axis: str) -> Number:
    try:
        return shortest(float(text))
    except (ValueError, OverflowError):
        raise ValueError(f"search space: {axis} holds {text!r}, which is not a number") from None


def _name(value: Any, axis: str) -> str:
    if not isinstance(value, str) or not value.strip() or any(c in value for c in "|*\n\r\0"):
        raise ValueError(f"search space: {axis} holds {value!r}; a name must be text without '|', '*' or line breaks")
    return value.strip()


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, str) and value.lower().count("x") == 1:
        left, right = value.lower().split("x")
        if not (left.strip().isdigit() and right.strip().isdigit()):
            raise ValueError(f"search space: size holds {value!r}; write it as [width, height]")
        value = [int(left), int(right)]
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"search space: size holds {value!r}; write it as [width, height]")
    return int(_number(value[0], "size")), int(_number(value[1], "size"))


def _level(axis: str, value: Any) -> Any:
    if axis in NOMINAL_AXES:
        return _name(value, axis)
    return _size(value) if axis == "size" else _number(value, axis)


def _levels(axis: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ValueError(f"search space: {axis} must be a list, not {values!r}")
    levels = tuple(dict.fromkeys(_level(axis, value) for value in values))
    if not levels:
        raise ValueError(f"search space: {axis} is an empty list; give it at least one value")
    return levels


@dataclass(frozen=True)
class SearchSpace:
    """Levels of every axis, in the order given; duplicates are dropped. ``pairs`` is None when every pair is allowed.

    ``extra`` are own dimensions; ``retired`` those an earlier space had: not chosen any more, and known for the sake of old clips.

    Raises ValueError naming the axis and the value that is wrong, or when no arm is left.
    """

    sampler: tuple[str, ...]
    scheduler: tuple[str, ...]
    fps: tuple[Number, ...]
    cfg_scale: tuple[Number, ...]
    steps: tuple[int, ...]
    size: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[str, str], ...] | None = None
    extra: tuple[Dimension, ...] = ()
    retired: tuple[Dimension, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra", read_dimensions(self.extra))
        if len(self.extra) > MAX_DIMENSIONS:
            raise ValueError(f"search space: extra has {len(self.extra)} dimensions; at most {MAX_DIMENSIONS} are handled")
        retired = taken_out(self.extra, read_dimensions(self.retired, "retired"))[: MAX_DIMENSIONS - len(self.extra)]
        object.__setattr__(self, "retired", retired)
        for axis in AXES:
            object.__setattr__(self, axis, _levels(axis, getattr(self, axis)))
        if self.pairs is not None:
            object.__setattr__(self, "pairs", self._checked_pairs(self.pairs))
        if self.grid_size > MAX_ARMS:
            raise ValueError(f"search space: {self.grid_size:,} combinations; at most {MAX_ARMS:,} are handled, shorten some lists")

    def _checked_pairs(self, pairs: Any) -> tuple[tuple[str, str], ...]:
        if isinstance(pairs, (str, bytes, Mapping)) or not isinstance(pairs, Iterable):
            raise ValueError(f"search space: pairs must be a list of [sampler, scheduler], not {pairs!r}")
        checked: dict[tuple[str, str], None] = {}
        for pair in pairs:
            if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise ValueError(f"search space: pairs holds {pair!r}; write it as [sampler, scheduler]")
            sampler, scheduler = _name(pair[0], "pairs"), _name(pair[1], "pairs")
            if sampler not in self.sampler or scheduler not in self.scheduler:
                raise ValueError(f"search space: pairs names {sampler}|{scheduler}, which sampler and scheduler do not list")
            checked[sampler, scheduler] = None
        if not checked:
            raise ValueError("search space: pairs is an empty list, which leaves nothing to try; leave it out to allow every pair")
        return tuple(checked)

    # ------------------------------------------------------------ size and members
    @property
    def grid_size(self) -> int:
        """Number of cells of the full product, disallowed pairs included."""
        return math.prod(len(getattr(self, axis)) for axis in AXES) * math.prod(len(item.values) for item in self.extra)

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Own dimensions in use, then those that are retired: the axes after the six."""
        return self.extra + self.retired

    @property
    def arm_count(self) -> int:
        """Number of arms (combos) the space allows."""
        if self.pairs is None:
            return self.grid_size
        return len(self.pairs) * (self.grid_size // (len(self.sampler) * len(self.scheduler)))

    def allows_pair(self, sampler: str, scheduler: str) -> bool:
        """True when this sampler and scheduler are in the space and may be combined."""
        if self.pairs is not None:
            return (sampler, scheduler) in self.pairs
        return sampler in self.sampler and scheduler in self.scheduler

    def __contains__(self, params: object) -> bool:
        if not isinstance(params, Mapping):
            return False
        try:
            point = point_of(params)
            own = params.get(EXTRA) or {}
            if not all(item.level_of(own) in item.values for item in self.extra):
                return False
            held = {item.name: item for item in self.retired}  # at the workflow's own value it is as if it were not named
            others = set(own) - {item.name for item in self.extra}
            if any(name not in held or held[name].level_of(own) != held[name].own for name in others):
                return False
        except (ValueError, TypeError, AttributeError):
            return False
        return all(value in getattr(self, axis) for axis, value in zip(AXES, point)) and self.allows_pair(point[0], point[1])

    def arms(self) -> Iterator[dict[str, Any]]:
        """Every arm as params, in a fixed order."""
        for point in product(*(getattr(self, axis) for axis in AXES)):
            if self.allows_pair(point[0], point[1]):
                for values in product(*(item.values for item in self.extra)):
                    own = dict(zip((item.name for item in self.extra), values))
                    yield {**params_of(point), EXTRA: own} if own else params_of(point)

    # ------------------------------------------------------------ derived spaces
    def restrict_to(self, samplers: Iterable[str] | None = None, schedulers: Iterable[str] | None = None) -> SearchSpace:
        """The part of this space that a server listing these samplers and schedulers can run (None: no restriction).

        Raises ValueError, listing both sides, when nothing is left.
        """
        changes: dict[str, Any] = {}
        for axis, listed in (("sampler", samplers), ("scheduler", schedulers)):
            if listed is None:
                continue
            offered = set(listed)
            kept = tuple(name for name in getattr(self, axis) if name in offered)
            if not kept:
                wanted = ", ".join(getattr(self, axis))
                raise ValueError(
                    f"search space: the server lists none of the {axis}s asked for ({wanted}); it has {', '.join(sorted(offered))}"
                )
            changes[axis] = kept
        if self.pairs is not None:
            kept_samplers, kept_schedulers = changes.get("sampler", self.sampler), changes.get("scheduler", self.scheduler)
            pairs = tuple(p for p in self.pairs if p[0] in kept_samplers and p[1] in kept_schedulers)
            if not pairs:
                raise ValueError("search space: the server can run none of the sampler|scheduler pairs that are allowed")
            changes["pairs"] = pairs
        return replace(self, **changes)

    def without(self, param: str, value: Any = None) -> SearchSpace:
        """This space with ``param`` held still, for a workflow that cannot set it.

        ``param`` is an axis name, or width or height for size. ``value`` is what the workflow itself uses; without
        it the first level stays. The axis remains in every combo, with that one value, so that keys keep their form.
        """
        axis = "size" if param in ("width", "height") else param
        if axis not in AXES:
            raise ValueError(f"search space: there is no parameter {param!r}; it has {', '.join(AXES)}")
        held = _level(axis, value) if value is not None else getattr(self, axis)[0]
        changes: dict[str, Any] = {axis: (held,)}
        if axis in NOMINAL_AXES and self.pairs is not None:
            other = 1 if axis == "sampler" else 0
            remaining = dict.fromkeys(pair[other] for pair in self.pairs)
            changes["pairs"] = tuple((held, name) if axis == "sampler" else (name, held) for name in remaining)
        return replace(self, **changes)

    def with_levels(self, text: str) -> SearchSpace:
        """This space with the levels of one axis given (``steps=8,12``), added (``sampler+=lcm``) or taken out (``size-=1280x720``).

        Works for own dimensions too. Raises ValueError naming what is wrong, or when nothing of the axis would be left.
        """
        name, sign, values = text.partition("=")
        how = name[-1:] if name[-1:] in ("+", "-") else ""
        axis = name.removesuffix(how).strip() if how else name.strip()
        own = {item.name: item for item in self.extra}
        if not sign or not values.strip() or axis not in (*AXES, *own):
            raise ValueError(f"{text!r} is not AXIS=VALUE,VALUE (or += or -=) with one of {', '.join((*AXES, *own))}")
        told: list[Any] = [value.strip() for value in values.split(",")]
        if axis in own:
            told = list(replace(own[axis], values=tuple(told)).values)
            before: tuple[Any, ...] = own[axis].values
        else:
            told = [_level(axis, _read_number(value, axis) if axis not in (*NOMINAL_AXES, "size") else value) for value in told]
            before = getattr(self, axis)
        if how == "-" and not set(told) <= set(before):
            raise ValueError(f"search space: {axis} does not hold {', '.join(str(value) for value in told if value not in before)}")
        levels = tuple(value for value in before if value not in told) if how == "-" else ((*before, *told) if how else tuple(told))
        if axis in own:
            return replace(self, extra=merged(self.extra, [replace(own[axis], values=levels)]))
        changes: dict[str, Any] = {axis: levels}
        if axis in NOMINAL_AXES and self.pairs is not None:
            at = ("sampler", "scheduler").index(axis)
            changes["pairs"] = tuple(pair for pair in self.pairs if pair[at] in levels)
        return replace(self, **changes)

    def remembering(self, earlier: SearchSpace) -> SearchSpace:
        """This space, with the dimensions an earlier one had and this one has not as retired."""
        return replace(self, retired=merged(self.retired, taken_out(self.extra, earlier.dimensions)))

    # ------------------------------------------------------------ files
    def to_dict(self) -> dict[str, Any]:
        """The form of a search-space file: lists only, ready for JSON."""
        out: dict[str, Any] = {axis: list(getattr(self, axis)) for axis in AXES}
        out["size"] = [list(size) for size in self.size]
        if self.pairs is not None:
            out["pairs"] = [list(pair) for pair in self.pairs]
        for name, items in ((EXTRA, self.extra), ("retired", self.retired)):
            if items:
                out[name] = {item.name: item.to_dict() for item in items}
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchSpace:
        """Reads ``{"sampler": [...], ..., "size": [[w, h], ...], "pairs"?: [[sampler, scheduler], ...], "extra"?: {...}}``.

        An axis that is missing takes the default's levels. Raises ValueError naming what is wrong.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"search space: expected an object with lists, got {type(data).__name__}")
        unknown = sorted(set(map(str, data)) - set(AXES) - {"pairs", EXTRA, "retired"})
        if unknown:
            raise ValueError(f"search space: unknown name {', '.join(unknown)}; known are {', '.join(AXES)}, pairs and extra")
        default = default_space()
        levels = {axis: data.get(axis, getattr(default, axis)) for axis in AXES}
        own = {name: read_dimensions(data.get(name), name) for name in (EXTRA, "retired")}
        return cls(**levels, pairs=data.get("pairs"), extra=own[EXTRA], retired=own["retired"])

    @classmethod
    def load(cls, path: str | Path) -> SearchSpace:
        """Reads a search-space file (JSON). Raises ValueError naming the file and what is wrong with it."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ValueError(f"search space file {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise ValueError(f"search space file {path} is not JSON: {error}") from error
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def as_space(space: SearchSpace | Mapping[str, Any] | None) -> SearchSpace:
    """A SearchSpace from any form a caller may hold; None gives the default."""
    if space is None:
        return default_space()
    return space if isinstance(space, SearchSpace) else SearchSpace.from_dict(space)


def point_of(params: Mapping[str, Any]) -> tuple[Any, ...]:
    """Params as levels in the order of ``AXES``; (width, height) become one size. Raises ValueError naming a missing or wrong one."""
    for name in PARAM_NAMES:
        if name not in params:
            raise ValueError(f"params lack {name!r}; they need {', '.join(PARAM_NAMES)}")
    try:
        return tuple(_size((params["width"], params["height"])) if axis == "size" else _level(axis, params[axis]) for axis in AXES)
    except ValueError as error:
        raise ValueError(str(error).replace("search space: ", "params: ", 1)) from error


def params_of(point: Sequence[Any]) -> dict[str, Any]:
    """The inverse of :func:`point_of`."""
    params = dict(zip(AXES, point))
    width, height = params.pop("size")
    return {**params, "width": width, "height": height}


def default_space() -> SearchSpace:
    """8 samplers x 6 schedulers x 3 fps x 5 cfg x 6 steps x 4 sizes = 17,280 arms.

    Samplers and schedulers are names ComfyUI ships; cfg, steps and sizes span what Wan 2.2 users run, from the
    4-step LoRA to full quality, 480p to 720p.
    """
    return SearchSpace(
        sampler=("euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "uni_pc", "res_multistep", "lcm"),
        scheduler=("simple", "sgm_uniform", "karras", "beta", "normal", "ddim_uniform"),
        fps=(16, 20, 24),
        cfg_scale=(1, 2, 3.5, 5, 7),
        steps=(4, 8, 12, 16, 20, 30),
        size=((832, 480), (480, 832), (640, 640), (1280, 720)),
    )
