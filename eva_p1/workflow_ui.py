"""Reading a UI-format workflow: nodes, slots, links, subgraphs and the values on their widgets.

Format: https://docs.comfy.org/specs/workflow_json. Links come as 6-lists (0.4) or objects (1 and in subgraphs); a subgraph's own
inputs and outputs are the nodes -10 and -20. Native reroutes only shape the drawing: a link still names its two ends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eva_env_base import WorkflowError
from eva_p1.workflow_schema import InputSpec
from eva_p1.workflow_widgets import Widget, build_widgets, control_slots

log = logging.getLogger(__name__)
INPUT_NODE, OUTPUT_NODE = "-10", "-20"
MUTED, BYPASSED = 2, 4
_MISSING = object()
NOTES = frozenset({"Note", "MarkdownNote"})
# Nodes that exist only in the browser. Output n hands on input n; a getter hands on the input of the setter of the same name.
SETTERS, GETTERS = frozenset({"SetNode", "easy setNode"}), frozenset({"GetNode", "easy getNode"})
VIRTUAL = NOTES | SETTERS | GETTERS | {
    "Reroute", "PrimitiveNode", "Reroute (rgthree)", "Label (rgthree)", "Bookmark (rgthree)", "Fast Muter (rgthree)",
    "Fast Bypasser (rgthree)", "Fast Groups Muter (rgthree)", "Fast Groups Bypasser (rgthree)", "Mute / Bypass Relay (rgthree)",
    "Mute / Bypass Repeater (rgthree)", "Fast Actions Button (rgthree)",
}  # fmt: skip
# Nodes that link others without lines being drawn (https://github.com/chrisgoringe/cg-use-everywhere). Only their browser code does it, and
# it writes down which links it made: ``extra.ue_links`` of the graph (js/use_everywhere_graph_analysis.js there).
EVERYWHERE = ("Anything Everywhere", "Prompts Everywhere", "Seed Everywhere")


@dataclass
class Slot:
    """One input of a node. ``widget`` names the widget it stands for."""

    name: str
    type: str
    link: Any = None
    widget: str | None = None


@dataclass
class Link:
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass
class Node:
    """One node, or one instance of a subgraph (then ``inner`` is its definition)."""

    id: str
    type: str
    title: str
    mode: int
    properties: Mapping[str, Any]
    raw_values: Any
    inputs: list[Slot] = field(default_factory=list)
    output_types: list[str] = field(default_factory=list)
    output_links: list[list[Any]] = field(default_factory=list)
    widgets: dict[str, Widget] = field(default_factory=dict)
    inner: Graph | None = None
    saved: list[str] = field(default_factory=list)  # names of the inputs in the order of the file
    left_out: bool = False  # unknown to the server, and nothing is lost without it

    @property
    def virtual(self) -> bool:
        return self.inner is not None or self.left_out or self.type in VIRTUAL

    @property
    def off(self) -> bool:
        return self.mode in (MUTED, BYPASSED)

    @property
    def everywhere(self) -> bool:
        return self.type.startswith(EVERYWHERE)


@dataclass
class Graph:
    """The workflow, or the definition of a subgraph. ``inputs`` are a subgraph's own, as ``(name, type, link ids)``."""

    name: str
    nodes: dict[str, Node] = field(default_factory=dict)
    links: dict[Any, Link] = field(default_factory=dict)
    inputs: list[tuple[str, str, list[Any]]] = field(default_factory=list)
    outputs: list[tuple[str, str, list[Any]]] = field(default_factory=list)

    def all_nodes(self) -> list[Node]:
        """Every node, those inside subgraphs too."""
        found: list[Node] = []
        for node in self.nodes.values():
            found.append(node)
            if node.inner is not None:
                found += node.inner.all_nodes()
        return found


class Reader:
    """Builds :class:`Graph` objects. Unknown classes are collected in ``unknown``, as ``(class, node title, node id, properties)``."""

    def __init__(self, data: Mapping[str, Any], object_info: Mapping[str, Any], name: str):
        self._info, self._name = object_info, name
        definitions = data.get("definitions")
        subgraphs = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
        self._raw = {str(raw.get("id")): raw for raw in subgraphs or () if isinstance(raw, Mapping)}
        self._built: dict[str, Graph] = {}
        self._open: list[str] = []
        self.unknown: list[tuple[str, str, str, Mapping[str, Any]]] = []
        self.root = self._graph(data, "the workflow")

    def _graph(self, raw: Mapping[str, Any], name: str) -> Graph:
        graph = Graph(name)
        for link_id, link in _links(raw.get("links")):
            graph.links[link_id] = link
        graph.inputs, graph.outputs = _ends(raw.get("inputs")), _ends(raw.get("outputs"))
        for item in raw.get("nodes") or ():
            if not isinstance(item, Mapping) or "id" not in item or not isinstance(item.get("type"), str):
                raise WorkflowError(f"{self._name}: {name} holds a node without id or type; save the workflow again in ComfyUI")
            node = self._node(item)
            graph.nodes[node.id] = node
        self._link_everywhere(graph, raw.get("extra"))
        return graph

    def _link_everywhere(self, graph: Graph, extra: Any) -> None:
        """Links made without lines. Raises :class:`WorkflowError` naming the nodes where the file does not hold them."""
        made = extra.get("ue_links") if isinstance(extra, Mapping) else None
        if not isinstance(made, list):
            at_work = [node for node in graph.nodes.values() if node.everywhere and not node.off and any(slot.link for slot in node.inputs)]
            if at_work:
                named = ", ".join(f"{node.title!r} (node {node.id})" for node in at_work)
                raise WorkflowError(
                    f"{self._name}: {named} links other nodes without lines, and the file does not say which. In ComfyUI, right-click the "
                    "background, choose 'Convert all UEs to real links' and save again, or use Workflow > Export (API)"
                )
            return
        for number, item in enumerate(made):
            item = item if isinstance(item, Mapping) else {}
            controller, target = graph.nodes.get(str(item.get("controller"))), str(item.get("downstream"))
            slots = (item.get("upstream_slot"), item.get("downstream_slot"))
            if controller is None or controller.off or not all(isinstance(slot, int) for slot in slots):
                continue  # left from an earlier state of the graph
            origin_slot, index = int(slots[0] or 0), int(slots[1] or 0)
            link_id = ("everywhere", number)
            if target == OUTPUT_NODE and index < len(graph.outputs):
                graph.outputs[index][2].insert(0, link_id)
            elif target in graph.nodes and index < len(graph.nodes[target].saved):
                node = graph.nodes[target]
                slot = next((slot for slot in node.inputs if slot.name == node.saved[index]), None)
                if slot is None:
                    continue
                slot.link = link_id
            else:
                continue
            graph.links[link_id] = Link(str(item.get("upstream")), origin_slot, target, index)

    def _definition(self, subgraph_id: str) -> Graph:
        if subgraph_id in self._open:
            raise WorkflowError(f"{self._name}: the subgraph {self._raw[subgraph_id].get('name')!r} contains itself")
        if subgraph_id not in self._built:
            self._open.append(subgraph_id)
            raw = self._raw[subgraph_id]
            self._built[subgraph_id] = self._graph(raw, f"the subgraph {raw.get('name')!r}")
            self._open.pop()
        return self._built[subgraph_id]

    def _node(self, raw: Mapping[str, Any]) -> Node:
        kind = str(raw["type"])
        info = self._info.get(kind)
        properties = raw.get("properties") if isinstance(raw.get("properties"), Mapping) else {}
        known_title = (info or {}).get("display_name") or kind
        node = Node(
            id=str(raw["id"]),
            type=kind,
            title=str(raw.get("title") or known_title),
            mode=int(raw["mode"]) if isinstance(raw.get("mode"), int) else 0,
            properties=properties or {},
            raw_values=raw.get("widgets_values"),
        )
        saved = [slot for slot in raw.get("inputs") or () if isinstance(slot, Mapping)]
        node.saved = [str(slot.get("name", "")) if isinstance(slot, Mapping) else "" for slot in raw.get("inputs") or ()]
        outputs = [slot for slot in raw.get("outputs") or () if isinstance(slot, Mapping)]
        node.output_types = [str(slot.get("type", "*")) for slot in outputs]
        node.output_links = [list(slot.get("links") or ()) for slot in outputs]
        if kind in self._raw:
            node.inner = self._definition(kind)
            node.title = str(raw.get("title") or self._raw[kind].get("name") or kind)
            node.output_types = [kind_ for _, kind_, _ in node.inner.outputs]
            _configure_instance(node, saved)
        elif info is not None:
            built = build_widgets(info, node.raw_values, frozenset(filter(None, map(_widget_name, saved))))
            node.widgets = built.widgets
            defined = [Slot(name, kind_) for name, kind_ in built.sockets]
            defined += [Slot(w.name, w.spec.type if w.spec else "*", widget=w.name) for w in built.widgets.values()]
            node.inputs = _merge(defined, saved)
            node.output_types = [
                "COMBO" if isinstance(kind_, list) else str(kind_) for kind_ in info.get("output") or ()
            ] or node.output_types
            for index, slot in enumerate(outputs[: len(node.output_types)]):
                if node.output_types[index].startswith("COMFY_"):
                    node.output_types[index] = str(slot.get("type", "*"))
        else:
            node.inputs = _merge([], saved)
            linked = any(slot.link is not None for slot in node.inputs) or any(node.output_links)
            if kind not in VIRTUAL and not node.off:
                node.left_out = not linked or (node.everywhere and not any(node.output_links))
                if not node.left_out:
                    self.unknown.append((kind, node.title, node.id, node.properties))
                else:
                    log.info("%s: %r (node %s) is unknown to the server and gives nothing: left out", self._name, kind, node.id)
        return node


def _links(raw: Any) -> list[tuple[Any, Link]]:
    found: list[tuple[Any, Link]] = []
    for item in raw.values() if isinstance(raw, Mapping) else raw or ():
        if isinstance(item, Mapping):
            values = [item.get(key) for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
        elif isinstance(item, list) and len(item) >= 5:
            values = item[:5]
        else:
            continue
        if isinstance(values[2], int) and isinstance(values[4], int):
            found.append((values[0], Link(str(values[1]), values[2], str(values[3]), values[4])))
    return found


def _ends(raw: Any) -> list[tuple[str, str, list[Any]]]:
    if not isinstance(raw, list):
        return []
    return [
        (str(end.get("name", "")), str(end.get("type", "*")), list(end.get("linkIds") or ())) for end in raw if isinstance(end, Mapping)
    ]


def _merge(defined: list[Slot], saved: list[Mapping[str, Any]]) -> list[Slot]:
    """Inputs as the class defines them, with the saved links by name; saved inputs the class does not know come last."""
    by_name = {str(slot.get("name", "")): slot for slot in saved}
    for slot in defined:
        if slot.name in by_name:
            slot.link = by_name[slot.name].get("link")
    names = {slot.name for slot in defined}
    extra = [slot for slot in saved if str(slot.get("name", "")) not in names]
    return defined + [Slot(str(slot.get("name", "")), str(slot.get("type", "*")), slot.get("link"), _widget_name(slot)) for slot in extra]


def _widget_name(slot: Mapping[str, Any]) -> str | None:
    widget = slot.get("widget")
    return str(widget["name"]) if isinstance(widget, Mapping) and "name" in widget else None


# ---------------------------------------------------------------- instances of subgraphs
def _configure_instance(node: Node, saved: list[Mapping[str, Any]]) -> None:
    """Inputs of an instance, and its own values of promoted widgets.

    A promoted widget starts with the value inside. Saved values are first put in by position, then, where ``proxyWidgets`` names the
    positions, those of the entries ``["-1", name]`` by name; other entries only mirror a widget inside, whose own value counts.
    """
    assert node.inner is not None
    node.inputs = []
    by_name = {str(slot.get("name", "")): slot for slot in saved}
    for name, kind, link_ids in node.inner.inputs:
        promoted = _promoted(node.inner, link_ids)
        slot = by_name.get(name)
        node.inputs.append(Slot(name, kind, slot.get("link") if slot else None, name if promoted is not None else None))
        if promoted is not None:
            node.widgets[name] = Widget(name, promoted.value, promoted.spec)
    values = node.raw_values if isinstance(node.raw_values, list) else []
    proxies = node.properties.get("proxyWidgets")
    # Newer frontends name no positions; a list longer than the widgets then also holds the seed controls, as on a plain node.
    controls = not proxies and len(values) > len(node.widgets)
    stream = iter(values)
    for widget in node.widgets.values():
        value = next(stream, _MISSING)
        if value is not _MISSING:
            widget.value = value
        for _ in range(control_slots(widget.spec) if controls and widget.spec is not None else 0):
            next(stream, None)
    for index, entry in enumerate(proxies if isinstance(proxies, list) else ()):
        own = isinstance(entry, list) and len(entry) > 1 and str(entry[0]) == "-1"
        if own and index < len(values) and values[index] is not None and str(entry[1]) in node.widgets:
            node.widgets[str(entry[1])].value = values[index]


def _promoted(inner: Graph, link_ids: list[Any]) -> Widget | None:
    """The widget inside that a subgraph's input stands for."""
    for link_id in link_ids:
        link = inner.links.get(link_id)
        target = inner.nodes.get(link.target) if link else None
        slot = next((slot for slot in target.inputs if slot.link == link_id), None) if target else None
        if target is not None and slot is not None and slot.widget is not None and slot.widget in target.widgets:
            return target.widgets[slot.widget]
    return None


def spec_of(node: Node, widget: str) -> InputSpec | None:
    """The schema behind a widget."""
    return node.widgets[widget].spec if widget in node.widgets else None
