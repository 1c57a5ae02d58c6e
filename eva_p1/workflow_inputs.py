"""Inputs of a workflow that a person names: ``ModelSamplingSD3.shift`` and the like (see ``dimensions``).

The node is named by its id, its title or its class, in this order; every node that fits is set. The part behind the last dot
is the input.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eva_env_base import WorkflowError
from eva_p1.dimensions import Dimension, canonical
from eva_p1.workflow_graph import Field, Graph, as_link, class_of, inputs_of, title_of
from eva_p1.workflow_roles import Roles
from eva_p1.workflow_schema import InputSpec, nearest, node_inputs
from eva_state.keys import Value, extra_text


@dataclass(frozen=True)
class Setting:
    """Where a dimension is written. ``written``: what goes into the workflow for each level; ``own``: the workflow's own value."""

    name: str
    places: tuple[Field, ...]
    written: Mapping[Value, Any]
    own: Value | None


def find_settings(
    graph: Mapping[str, Any], dimensions: Sequence[Dimension], roles: Roles, object_info: Mapping[str, Any] | None = None
) -> tuple[Setting, ...]:
    """Where each dimension is written; seed policies are written nowhere.

    Raises :class:`WorkflowError` for a node or input the workflow has not, an input that is linked, that another part of the
    search sets already, or a value the server does not allow, naming the nearest that would do.
    """
    taken = _taken(roles)
    found: list[Setting] = []
    for item in dimensions:
        if item.is_seed:
            continue
        nodes = nodes_of(graph, item)
        name = item.input.rpartition(".")[2].strip()
        places = tuple(_place(graph, node, name, item, taken, object_info) for node in nodes)
        if len({place for other in found for place in other.places} & set(places)):
            raise WorkflowError(f"dimension {item.name}: another dimension sets {item.input} already")
        specs = [spec for place in places if (spec := _spec(graph, place, object_info)) is not None]
        written = {value: _allowed(value, specs, item) for value in item.values}
        found.append(Setting(item.name, places, written, _own(graph, places[0], item)))
    return tuple(found)


def write_settings(graph: Graph, settings: Sequence[Setting], extra: Mapping[str, Any]) -> Graph:
    """A copy of ``graph`` with the values of params' ``extra`` written. What it does not name keeps the workflow's own value."""
    result = copy.deepcopy(graph)
    for setting in settings:
        if extra.get(setting.name) is None:
            continue
        value = canonical(extra[setting.name], setting.name)
        for place in setting.places:
            result[place.node]["inputs"][place.input] = setting.written.get(value, value)
    return result


def nodes_of(graph: Mapping[str, Any], item: Dimension) -> list[str]:
    """Ids of the nodes a dimension names. Raises :class:`WorkflowError`, with the nearest names, where there are none."""
    wanted = item.input.rpartition(".")[0].strip()
    if wanted in graph:
        return [wanted]
    for named in (title_of, class_of):
        nodes = [node for node in graph if named(graph, node) == wanted]
        if nodes:
            return nodes
    names = list(dict.fromkeys([*(class_of(graph, node) for node in graph), *(title_of(graph, node) for node in graph)]))
    raise WorkflowError(
        f"dimension {item.name}: the workflow has no node {wanted!r} (by id, title or class); the nearest: {_list(nearest(wanted, names))}"
    )


def _place(
    graph: Mapping[str, Any], node: str, name: str, item: Dimension, taken: Mapping[Field, str], object_info: Mapping[str, Any] | None
) -> Field:
    where = f"{title_of(graph, node)!r} (node {node}, {class_of(graph, node)})"
    inputs = inputs_of(graph, node)
    known = [spec.name for spec in node_inputs((object_info or {}).get(class_of(graph, node)) or {})]
    settable = [key for key, value in inputs.items() if as_link(value) is None]
    if name not in inputs and name not in known:
        close = difflib.get_close_matches(name, settable, n=3, cutoff=0.3) or settable
        raise WorkflowError(f"dimension {item.name}: {where} has no input {name!r}; the nearest: {_list(close)}")
    link = as_link(inputs.get(name))
    if link is not None:
        raise WorkflowError(
            f"dimension {item.name}: input {name!r} of {where} is linked to {title_of(graph, link[0])!r} (node {link[0]}): "
            "name an input of that node"
        )
    place = Field(node, name)
    if place in taken:
        raise WorkflowError(f"dimension {item.name}: {item.input} is what {taken[place]} sets already")
    return place


def _taken(roles: Roles) -> dict[Field, str]:
    """Inputs that the six axes, the prompt, the seed and the file name set."""
    found: list[tuple[Field | None, str]] = [(place, "the prompt") for place in (*roles.positives, *roles.negatives)]
    for sampler in roles.samplers:
        found += [(sampler.sampler, "sampler"), (sampler.scheduler, "scheduler"), (sampler.cfg, "cfg_scale"), (sampler.steps, "steps")]
        found += [(sampler.seed, "the noise seed (name the input just 'seed' for a policy of seeds)")]
        found += [(place, "steps") for place in (sampler.start, sampler.end, sampler.split)]
    found += [(place, "fps") for place in roles.fps]
    if roles.latent is not None:
        found += [(roles.latent.width, "width"), (roles.latent.height, "height"), (roles.latent.length, "--seconds")]
    found += [(place, "the file name") for place in (roles.prefix, *roles.extra_saves)]
    return {place: what for place, what in found if place is not None}


def _spec(graph: Mapping[str, Any], place: Field, object_info: Mapping[str, Any] | None) -> InputSpec | None:
    specs = node_inputs((object_info or {}).get(class_of(graph, place.node)) or {})
    return next((spec for spec in specs if spec.name == place.input), None)


def _allowed(value: Value, specs: Sequence[InputSpec], item: Dimension) -> Any:
    """The value as the inputs want it. Raises :class:`WorkflowError` naming the nearest that is allowed."""
    for spec in specs:
        wrong = _wrong(value, spec)
        if wrong is not None:
            raise WorkflowError(f"dimension {item.name}: {item.input} cannot be {extra_text(value)!r}: {wrong}")
        if spec.options is not None:
            return next(option for option in spec.options if extra_text(option) == extra_text(value))
        if spec.type == "STRING":
            return extra_text(value)
    return value


def _wrong(value: Value, spec: InputSpec) -> str | None:
    if spec.type == "COMBO":
        options = [option for option in spec.options or () if isinstance(option, (str, int, float))]
        if spec.options is None or any(extra_text(option) == extra_text(value) for option in options if str(option).strip()):
            return None
        if not options:
            return "the server has nothing to choose from there"
        return f"the server does not list it; the nearest: {_list(nearest(value, options))}"
    if spec.type == "BOOLEAN":
        return None if isinstance(value, bool) else "it is true or false"
    if spec.type not in ("INT", "FLOAT"):
        return None
    if isinstance(value, (str, bool)):
        return "it is a number"
    if spec.type == "INT" and not float(value).is_integer():
        return f"it is a whole number; the nearest: {round(value)}"
    low, high = spec.config.get("min"), spec.config.get("max")
    if isinstance(low, (int, float)) and value < low:
        return f"the smallest value allowed, and the nearest, is {extra_text(low)}"
    if isinstance(high, (int, float)) and value > high:
        return f"the largest value allowed, and the nearest, is {extra_text(high)}"
    return None


def _own(graph: Mapping[str, Any], place: Field, item: Dimension) -> Value | None:
    value = inputs_of(graph, place.node).get(place.input)
    try:
        return None if value is None else canonical(value, item.name)
    except ValueError:  # a value that cannot stand in a key is no level either
        return None


def _list(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names)) or "none"
