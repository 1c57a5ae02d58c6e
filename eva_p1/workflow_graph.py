"""Reading an API-format graph: links, neighbours, order.

An API-format graph is ``{node id: {"class_type": str, "inputs": {name: literal | [node id, output slot]}, "_meta"?}}``.
Nothing here knows what a node does; that is :mod:`eva_p1.workflow_roles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Graph = dict[str, dict[str, Any]]


class Field(NamedTuple):
    """One input of one node: where a value is written."""

    node: str
    input: str


def as_link(value: Any) -> tuple[str, int] | None:
    """``(source node id, output slot)`` where ``value`` is a link, else ``None``."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)) and type(value[1]) is int:
        return str(value[0]), value[1]
    return None


def inputs_of(graph: Mapping[str, Any], node_id: str) -> dict[str, Any]:
    """The inputs of a node; empty where the node is missing or malformed."""
    node = graph.get(node_id)
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def class_of(graph: Mapping[str, Any], node_id: str) -> str:
    """The node's class, or an empty string."""
    node = graph.get(node_id)
    return str(node.get("class_type", "")) if isinstance(node, dict) else ""


def title_of(graph: Mapping[str, Any], node_id: str) -> str:
    """What a person calls the node: its title, else its class, else its id."""
    node = graph.get(node_id)
    if not isinstance(node, dict):
        return node_id
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    return str(title or node.get("class_type") or node_id)


def links_of(graph: Mapping[str, Any], node_id: str) -> Iterator[tuple[str, str, int]]:
    """``(input name, source node id, output slot)`` for every linked input whose source exists."""
    for name, value in inputs_of(graph, node_id).items():
        link = as_link(value)
        if link is not None and link[0] in graph:
            yield name, link[0], link[1]


def upstream(graph: Mapping[str, Any], start: str, strictly: bool = False) -> list[str]:
    """Every node ``start`` depends on, nearest first, itself before all of them. Cycles are harmless.

    ``strictly`` leaves ``start`` out, unless it depends on itself.
    """
    order: list[str] = [] if strictly else [start]
    seen = set(order)
    queue = [start]
    for node_id in queue:
        for _, source, _ in links_of(graph, node_id):
            if source not in seen:
                seen.add(source)
                order.append(source)
                queue.append(source)
    return order


def consumers(graph: Mapping[str, Any]) -> dict[str, list[Field]]:
    """For every node, the inputs that read any of its outputs."""
    found: dict[str, list[Field]] = {node_id: [] for node_id in graph}
    for node_id in graph:
        for name, source, _ in links_of(graph, node_id):
            found[source].append(Field(node_id, name))
    return found


def run_order(graph: Mapping[str, Any], nodes: list[str]) -> list[str]:
    """``nodes`` sorted so that each stands after those it depends on (ties keep the order given)."""
    depends = {node_id: set(upstream(graph, node_id)[1:]) & set(nodes) for node_id in nodes}
    ordered: list[str] = []
    waiting = list(nodes)
    while waiting:
        ready = [node_id for node_id in waiting if depends[node_id] <= set(ordered)]
        ordered += ready or waiting  # a cycle has no order: keep what was given, the server will refuse it
        waiting = [node_id for node_id in waiting if node_id not in ordered]
    return ordered
