"""Writing parameters into a copy of a workflow, through its roles."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from eva_env_base import WorkflowError
from eva_p1.workflow_graph import Field, Graph, inputs_of
from eva_p1.workflow_roles import Roles, Sampler

SHORTEST_LENGTH = 5
SEED_LIMIT = 2**53  # a larger number loses digits in the browser, where workflows are opened again


def estimate_length(seconds: float, fps: float, step: int = 4, multiplier: int = 1) -> int:
    """Frames to ask for: the number of the form ``step * n + 1`` nearest to ``seconds * fps / multiplier``, at least 5.

    ``multiplier`` is what a frame interpolator in the workflow makes of one frame. Raises :class:`WorkflowError` for values that are
    not positive and finite.
    """
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and v > 0 for v in (seconds, fps)):
        raise WorkflowError(f"a clip needs a positive length and frame rate, got seconds={seconds!r} fps={fps!r}")
    wanted = seconds * fps / max(1, multiplier)
    nearest = step * math.floor((wanted - 1) / step + 0.5) + 1
    shortest = step * math.ceil((SHORTEST_LENGTH - 1) / step) + 1
    return max(shortest, nearest)


def apply_params(
    graph: Mapping[str, Any],
    roles: Roles,
    params: Mapping[str, Any],
    *,
    prompt: str,
    negative_prompt: str | None,
    seed: int,
    prefix: str,
    seconds: float | None,
) -> Graph:
    """A deep copy of ``graph`` with everything set that ``roles`` can set.

    ``params`` may hold any of ``sampler scheduler fps cfg_scale steps width height``; a name the workflow cannot be given
    (see :attr:`Roles.settable`) is left alone, an absent one keeps the workflow's own value. ``seconds`` is clip time;
    ``None`` keeps the workflow's length, as ``negative_prompt=None`` keeps its negative prompt. ``prefix`` goes to the
    saving node. Raises :class:`WorkflowError` for a missing role or a value of the wrong kind.
    """
    roles.require()
    wanted: list[tuple[Field | None, Any]] = []
    wanted += [(place, prompt) for place in roles.positives]
    if negative_prompt is not None:
        wanted += [(place, negative_prompt) for place in roles.negatives]
    wanted.append((roles.prefix, prefix))
    wanted += [(place, f"{prefix}_extra{number}") for number, place in enumerate(roles.extra_saves, 1)]
    for sampler in roles.samplers:
        wanted += [(sampler.sampler, params.get("sampler")), (sampler.scheduler, params.get("scheduler"))]
        wanted.append((sampler.cfg, _number(params, "cfg_scale", float)))
        if sampler.adds_noise:
            wanted.append((sampler.seed, int(seed) % SEED_LIMIT))
    steps = _number(params, "steps", int)
    if steps is not None:
        wanted += _steps(graph, roles.samplers, int(steps))
    fps = _number(params, "fps", float)
    wanted += [(place, _whole(fps) if isinstance(_current(graph, place), int) else fps) for place in roles.fps if fps is not None]
    if roles.latent is not None:
        wanted.append((roles.latent.width, _number(params, "width", int)))
        wanted.append((roles.latent.height, _number(params, "height", int)))
        if seconds is not None and roles.latent.length is not None:
            rate = fps if fps is not None and roles.fps else _own_fps(graph, roles)
            if rate is not None:
                length = estimate_length(seconds, rate, roles.latent.step, roles.frame_multiplier)
                wanted.append((roles.latent.length, length))
    return _write(graph, [(place, value) for place, value in wanted if place is not None and value is not None])


def _number(params: Mapping[str, Any], name: str, kind: type) -> float | int | None:
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise WorkflowError(f"{name}: {value!r} is not a number that can be set; give one of zero or more")
    if kind is int:
        if value != int(value) or value < 1:
            raise WorkflowError(f"{name}: {value!r} must be a whole number of at least 1")
        return int(value)
    return value


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _current(graph: Mapping[str, Any], place: Field) -> Any:
    return inputs_of(graph, place.node).get(place.input)


def _own_fps(graph: Mapping[str, Any], roles: Roles) -> float | None:
    rates = [value for place in roles.fps if isinstance(value := _current(graph, place), (int, float)) and value > 0]
    return float(rates[0]) if rates else None


def _steps(graph: Mapping[str, Any], samplers: tuple[Sampler, ...], steps: int) -> list[tuple[Field | None, Any]]:
    """Steps for every sampler, and the hand-over points between them moved in the base workflow's proportion.

    Each stage keeps at least one step where there are enough. An end beyond the base's last step (10000 by convention means
    "to the end") stays as it is. A hand-over that the workflow computes from its own steps is left to it.
    """
    writes: list[tuple[Field | None, Any]] = []
    for index, sampler in enumerate(samplers):
        writes.append((sampler.steps, steps))
        base = _current(graph, sampler.steps) if sampler.steps else None
        after = len(samplers) - 1 - index  # stages behind this one, each of which must keep a step

        def moved(value: int, low: int, high: int, base: Any = base, index: int = index) -> int:
            share = value / base if isinstance(base, int) and base > 0 else index / len(samplers)
            low = min(low, steps)
            return max(low, min(math.floor(share * steps + 0.5), max(low, high)))

        start, end, split = (None if place is None else _current(graph, place) for place in (sampler.start, sampler.end, sampler.split))
        if isinstance(start, int) and start > 0:
            writes.append((sampler.start, moved(start, index, steps - after - 1)))
        if isinstance(end, int):
            last = isinstance(base, int) and end >= base
            writes.append((sampler.end, (steps if end == base else max(end, steps)) if last else moved(end, index + 1, steps - after)))
        if isinstance(split, int):
            writes.append((sampler.split, moved(split, 1, steps - 1)))
    return writes


def _write(graph: Mapping[str, Any], writes: list[tuple[Field, Any]]) -> Graph:
    result: Graph = copy.deepcopy(dict(graph))
    for place, value in writes:
        result[place.node]["inputs"][place.input] = value
    return result
