"""UI format to API format, as ComfyUI's own frontend exports it.

Learned from the public sources (https://github.com/Comfy-Org/ComfyUI_frontend, ``src/utils/executionUtil.ts`` graphToPrompt and
``src/lib/litegraph/src/subgraph/ExecutableNodeDTO.ts``) and held to pairs it exported. In short: every node that is neither muted,
bypassed nor virtual is sent; its widgets first, then its links, each followed through bypassed nodes (by matching type), virtual
nodes and subgraph borders to a node that is sent; links to nodes that are not sent are taken out at the end.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eva_env_base import WorkflowError
from eva_p1.workflow_check import unknown_class_sentence
from eva_p1.workflow_graph import Graph as ApiGraph
from eva_p1.workflow_tokens import SAVE_CLASSES, dynamic_prompt, expand_tokens
from eva_p1.workflow_ui import BYPASSED, GETTERS, INPUT_NODE, MUTED, SETTERS, Graph, Node, Reader, spec_of
from eva_p1.workflow_widgets import limits, rounded

DEEPEST = 200  # links followed for one input; a chain of this length is a circle


def is_ui_format(data: Mapping[str, Any]) -> bool:
    """True for a workflow as the frontend saves it: a list of nodes with positions and widget values."""
    return isinstance(data.get("nodes"), list)


def convert_workflow(
    data: Mapping[str, Any],
    object_info: Mapping[str, Any],
    name: str = "the workflow",
    *,
    rng: random.Random | None = None,
    now: datetime | None = None,
) -> ApiGraph:
    """Converts a UI-format workflow. ``rng`` decides dynamic prompts, ``now`` dates in file names.

    Raises :class:`WorkflowError` for a workflow that is no UI format, is broken, or uses node classes the server does not have; the
    message names each of them and what to install.
    """
    if not is_ui_format(data):
        raise WorkflowError(f"{name} is not in ComfyUI's UI format: it has no list of nodes")
    groups = [n for n in data["nodes"] if isinstance(n, Mapping) and str(n.get("type", "")).startswith(("workflow/", "workflow>"))]
    if groups:
        shown = ", ".join(f"{str(n.get('title') or str(n['type'])[9:])!r} (node {n.get('id')})" for n in groups)
        raise WorkflowError(
            f"{name} uses group nodes, which ComfyUI replaced by subgraphs: {shown}. In ComfyUI, right-click each, choose "
            "'Convert to nodes', and save again, or use Workflow > Export (API)"
        )
    reader = Reader(data, object_info, name)
    if reader.unknown:
        raise WorkflowError(
            f"{name} cannot run on this server. " + " ".join(_what_to_install(entry, object_info) for entry in reader.unknown)
        )
    _apply_primitives(reader.root, reader.root, now or datetime.now(), set())
    return _Exporter(reader.root, rng or random.Random(), now or datetime.now(), name).export()


def _what_to_install(entry: tuple[str, str, str, Mapping[str, Any]], object_info: Mapping[str, Any]) -> str:
    kind, title, node_id, properties = entry
    where = f"{title!r} (node {node_id})"
    pack = properties.get("cnr_id") or properties.get("aux_id")
    if pack == "comfy-core":
        version = f" (the workflow was made with {properties['ver']})" if properties.get("ver") else ""
        return f"{where}: node class {kind!r} is part of ComfyUI itself: update it{version}."
    if pack:
        return f"{where}: node class {kind!r} comes with the node pack {pack!r}: install that with ComfyUI-Manager and restart ComfyUI."
    return unknown_class_sentence(kind, where, object_info)


def _apply_primitives(graph: Graph, root: Graph, now: datetime, seen: set[int]) -> None:
    """PrimitiveNodes write their value into the widgets they are linked to, held to the limits of all of them."""
    if id(graph) in seen:
        return
    seen.add(id(graph))
    for node in graph.nodes.values():
        if node.inner is not None:
            _apply_primitives(node.inner, root, now, seen)
        if node.type != "PrimitiveNode":
            continue
        values = node.raw_values if isinstance(node.raw_values, list) else []
        links = [graph.links[link_id] for link_ids in node.output_links[:1] for link_id in link_ids if link_id in graph.links]
        targets = []
        for link in links:
            target = graph.nodes.get(link.target)
            link_ids = {link_id for link_id, known in graph.links.items() if known is link}
            slot = next((slot for slot in target.inputs if slot.link in link_ids), None) if target else None
            if target is not None and slot is not None and slot.widget in target.widgets:
                targets.append((target, slot.widget))
        if not values or not targets:
            continue
        value = values[0]
        if isinstance(value, str) and node.properties.get("Run widget replace on values"):
            value = expand_tokens(value, _Lookup(root), now)
        specs = [spec for target, widget in targets if (spec := spec_of(target, widget)) is not None]
        if specs and specs[0].type in ("INT", "FLOAT") and isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = limits([spec for spec in specs if spec.type == specs[0].type])
            value = rounded(specs[0], min(max(value, low), high)) if low <= high else value
        for target, widget in targets:
            target.widgets[widget].value = rounded(spec_of(target, widget), value)


class _Lookup:
    """``%Node.widget%``: the node by its "Node name for S&R", else by its title; the first one found."""

    def __init__(self, root: Graph):
        self._nodes = root.all_nodes()

    def __call__(self, name: str, widget: str) -> object | None:
        named = [node for node in self._nodes if node.properties.get("Node name for S&R", _alias(node)) == name]
        for node in (named or [node for node in self._nodes if node.title == name])[:1]:
            if widget in node.widgets:
                value = node.widgets[widget].value
                return "" if value is None else value
        return None


def _alias(node: Node) -> str | None:
    return None if node.virtual or node.type in SAVE_CLASSES else node.type


@dataclass(frozen=True)
class _Place:
    """A node in one instance: ``path`` are the ids of the subgraph instances around it, ``host`` the innermost of them."""

    node: Node
    graph: Graph
    path: tuple[str, ...] = ()
    host: _Place | None = None

    @property
    def id(self) -> str:
        return ":".join((*self.path, self.node.id))


@dataclass(frozen=True)
class _Value:
    """What an input resolves to when it ends at an instance's own widget."""

    value: Any


class _Exporter:
    def __init__(self, root: Graph, rng: random.Random, now: datetime, name: str):
        self._root, self._rng, self._now, self._name = root, rng, now, name
        self._lookup = _Lookup(root)

    def export(self) -> ApiGraph:
        result: ApiGraph = {}
        self._emit(self._root, (), None, result)
        for node in result.values():
            inputs = node["inputs"]
            for key in [key for key, value in inputs.items() if isinstance(value, list) and len(value) == 2 and value[0] not in result]:
                del inputs[key]
        if not result:
            raise WorkflowError(f"{self._name} has no node that runs: all are muted, bypassed or notes")
        return result

    def _emit(self, graph: Graph, path: tuple[str, ...], host: _Place | None, result: ApiGraph) -> None:
        for node in graph.nodes.values():
            place = _Place(node, graph, path, host)
            if node.inner is not None:
                # Also inside a muted or bypassed instance: the nodes there have modes of their own.
                self._emit(node.inner, (*path, node.id), place, result)
            elif not node.virtual and node.mode not in (MUTED, BYPASSED) and (node.widgets or node.inputs or node.output_types):
                result[place.id] = {"inputs": self._inputs(place), "class_type": node.type, "_meta": {"title": node.title}}

    def _inputs(self, place: _Place) -> dict[str, Any]:
        node = place.node
        inputs: dict[str, Any] = {}
        for widget in node.widgets.values():
            if not widget.sent:
                continue
            value = widget.value
            if widget.dynamic_prompts and isinstance(value, str):
                value = dynamic_prompt(value, self._rng)
            elif widget.name == "filename_prefix" and node.type in SAVE_CLASSES and isinstance(value, str):
                value = expand_tokens(value, self._lookup, self._now)
            inputs[widget.name] = _wrapped(value)
        for index, slot in enumerate(node.inputs):
            found = self._input(place, index, None, 0)
            if isinstance(found, _Value):
                inputs[slot.name] = _wrapped(found.value)
            elif found is not None:
                inputs[slot.name] = [found[0].id, found[1]]
        return inputs

    # ------------------------------------------------------------ following links
    def _input(self, place: _Place, index: int, kind: str | None, depth: int) -> tuple[_Place, int] | _Value | None:
        """What feeds input ``index``: a node that is sent and its output, a promoted value, or nothing."""
        self._guard(place, depth)
        slot = place.node.inputs[index]
        link = place.graph.links.get(slot.link) if slot.link is not None else None
        if link is None:
            return None
        if place.host is not None and link.origin == INPUT_NODE:
            host = place.host
            if link.origin_slot >= len(host.node.inputs):
                return None
            outer = host.node.inputs[link.origin_slot]
            if outer.link is None:
                return _Value(host.node.widgets[outer.name].value) if outer.name in host.node.widgets else None
            return self._input(host, link.origin_slot, None, depth + 1)
        origin = place.graph.nodes.get(link.origin)
        if origin is None:
            return None
        return self._output(_Place(origin, place.graph, place.path, place.host), link.origin_slot, kind or slot.type, depth + 1)

    def _output(self, place: _Place, slot: int, kind: str, depth: int) -> tuple[_Place, int] | _Value | None:
        self._guard(place, depth)
        node = place.node
        if node.mode == BYPASSED:
            index = _bypass(node, slot, kind)
            return None if index is None else self._input(place, index, None, depth + 1)
        if node.inner is not None:
            return self._inside(place, node.inner, slot, kind, depth)
        if node.virtual:
            if node.type in GETTERS:
                return self._set_somewhere(place, slot, kind, depth)
            return self._input(place, slot, kind, depth + 1) if slot < len(node.inputs) else None
        return place, slot

    def _inside(self, place: _Place, inner: Graph, slot: int, kind: str, depth: int) -> tuple[_Place, int] | _Value | None:
        if slot >= len(inner.outputs):
            return None
        link = next((inner.links[link_id] for link_id in inner.outputs[slot][2] if link_id in inner.links), None)
        if link is None:
            return None
        path = (*place.path, place.node.id)
        if link.origin == INPUT_NODE:  # straight through: the output is one of the instance's inputs
            return self._input(place, link.origin_slot, kind, depth + 1) if link.origin_slot < len(place.node.inputs) else None
        origin = inner.nodes.get(link.origin)
        return None if origin is None else self._output(_Place(origin, inner, path, place), link.origin_slot, kind, depth + 1)

    def _set_somewhere(self, place: _Place, slot: int, kind: str, depth: int) -> tuple[_Place, int] | _Value | None:
        """A getter reads the setter of its name in the same graph, else in the graphs around it."""
        name = _first_value(place.node)
        around: _Place | None = place
        while around is not None:
            for node in around.graph.nodes.values():
                if node.type in SETTERS and _first_value(node) == name and slot < len(node.inputs):
                    return self._input(_Place(node, around.graph, around.path, around.host), slot, kind, depth + 1)
            around = around.host
        return None

    def _guard(self, place: _Place, depth: int) -> None:
        if depth > DEEPEST:
            raise WorkflowError(f"{self._name}: the links around {place.node.title!r} (node {place.id}) form a circle")


def _first_value(node: Node) -> Any:
    return node.raw_values[0] if isinstance(node.raw_values, list) and node.raw_values else None


def _wrapped(value: Any) -> Any:
    """A list would be read as a link: the server unwraps this form."""
    return {"__value__": value} if isinstance(value, list) else value


def connects(one: str, other: str) -> bool:
    """Whether the frontend lets two types be linked: equal, one of several, or either open."""
    if one in ("", "*", "0") or other in ("", "*", "0") or one == other:
        return True
    return not {part.strip() for part in one.lower().split(",")}.isdisjoint(part.strip() for part in other.lower().split(","))


def _bypass(node: Node, slot: int, kind: str) -> int | None:
    """The input a bypassed node hands on: the one opposite if its type fits, else the first of the very type, else the first that fits."""
    if not node.inputs:
        return None
    if kind in ("", "*"):
        return slot if slot < len(node.inputs) else 0
    given = node.output_types[slot] if slot < len(node.output_types) else "*"

    def fits(index: int) -> bool:
        return connects(node.inputs[index].type, given) and connects(node.inputs[index].type, kind)

    if slot < len(node.inputs) and fits(slot):
        return slot
    exact = next((index for index, known in enumerate(node.inputs) if known.type == kind), None)
    return exact if exact is not None else next((index for index in range(len(node.inputs)) if fits(index)), None)
