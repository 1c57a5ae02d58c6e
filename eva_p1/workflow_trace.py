"""Following one value upstream to where a person set it.

Three kinds of value are followed: a scalar (steps, fps, ...) to the literal or the value node that feeds it, a prompt to
its text, and a conditioning to the text encoder it came from. Classes are recognised by the inputs they have, so that
custom nodes work as well as ComfyUI's own; the few lists of names below are of input names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eva_p1.workflow_graph import Field, as_link, class_of, inputs_of, links_of

# Inputs that hold a prompt, in order of preference, by the role asked for.
_TEXT_INPUTS = ("text", "prompt", "clip_l", "t5xxl", "text_g", "text_l", "llama", "text_positive", "string", "caption")
_ROLE_TEXT_INPUTS = {
    "positive": ("positive_prompt", "positive", "positive_text"),
    "negative": ("negative_prompt", "negative", "negative_text"),
}
# Inputs of a text encoder: a node that holds a prompt and one of these (or whose prompt is linked) turns text into a conditioning.
_VALUE_INPUTS = (
    "value",
    "Value",
    "number",
    "int",
    "float",
    "Number",
    "text",
    "string",
    "String",
    "Text",
    "prompt",
    "INT",
    "FLOAT",
    "STRING",
    "int_",
    "a",
)
_CONDITIONING_INPUTS = (
    "conditioning",
    "cond",
    "conditioning_1",
    "conditioning1",
    "conditioning_to",
    "cond1",
    "text_embeds",
    "guider",
    "input",
    "any",
    "*",
    "",
)


def follow_scalar(graph: Mapping[str, Any], node_id: str, name: str) -> Field:
    """Where the scalar read by ``node_id.name`` is set.

    A literal is set at the input itself. A link is followed through reroutes to a value node (one literal, no links).
    A computed value (a node with several inputs) ends at the input itself: writing a literal there replaces the link.
    """
    here = Field(node_id, name)
    link = as_link(inputs_of(graph, node_id).get(name))
    seen: set[str] = set()
    while link is not None and link[0] in graph and link[0] not in seen:
        source = link[0]
        seen.add(source)
        inputs = inputs_of(graph, source)
        linked = list(links_of(graph, source))
        if not linked:
            literals = [key for key, value in inputs.items() if isinstance(value, (int, float, str)) and not isinstance(value, bool)]
            return Field(source, literals[0]) if len(literals) == 1 else here
        if len(inputs) != 1:
            return here
        link = (linked[0][1], linked[0][2])
    return here


def follow_text(graph: Mapping[str, Any], node_id: str, name: str) -> Field:
    """Where the text read by ``node_id.name`` is written.

    String nodes are followed; where a node joins several strings, a linked one is followed first, then the longest
    literal (the prompt proper: prefixes and suffixes are shorter). A text that cannot be traced is set at the input.
    """
    link = as_link(inputs_of(graph, node_id).get(name))
    found = _text_source(graph, link[0], set()) if link is not None else None
    return found or Field(node_id, name)


def _text_source(graph: Mapping[str, Any], node_id: str, seen: set[str]) -> Field | None:
    if node_id in seen or node_id not in graph:
        return None
    seen.add(node_id)
    for _, source, _ in links_of(graph, node_id):
        found = _text_source(graph, source, seen)
        if found is not None:
            return found
    inputs = inputs_of(graph, node_id)
    # A delimiter or a file name is a string too, but never the prompt.
    literals = [
        key
        for key, value in inputs.items()
        if isinstance(value, str) and key.lower() not in ("delimiter", "separator", "model", "clip_name")
    ]
    preferred = [key for key in (*_VALUE_INPUTS, *_TEXT_INPUTS) if key in literals]
    if not literals:
        return None
    if preferred and len(literals) == 1 or len(preferred) == 1:
        return Field(node_id, preferred[0])
    joined = [key for key in literals if key.lower().startswith(("string", "text", "prompt"))]
    if joined:
        return Field(node_id, max(joined, key=lambda key: len(inputs[key])))
    return Field(node_id, preferred[0]) if preferred else (Field(node_id, literals[0]) if len(literals) == 1 else None)


class NoText(Exception):
    """A conditioning that no text reaches; the message says why, for the report of what cannot be set."""


def follow_conditioning(graph: Mapping[str, Any], node_id: str, role: str, slot: int = 0) -> list[Field]:
    """The texts behind a conditioning, as the inputs to write (two for encoders with two text inputs).

    ``node_id`` and ``slot`` name the output that carries the conditioning, ``role`` is ``positive`` or ``negative``.
    Raises :class:`NoText` where the path ends without a text.
    """
    seen: set[tuple[str, str]] = set()
    while (node_id, role) not in seen:
        seen.add((node_id, role))
        if "ZeroOut" in class_of(graph, node_id):
            raise NoText(f"it comes from {class_of(graph, node_id)}, which discards the text")
        texts = _texts_of(graph, node_id, role)
        if texts:
            return texts
        links = {name: (source, source_slot) for name, source, source_slot in links_of(graph, node_id)}
        if "positive" in links and "negative" in links:
            # Such a node hands both on, positive first; a crossed wire is followed as wired.
            role_here = "negative" if slot == 1 else "positive" if slot == 0 and _is_pair_output(graph, node_id) else role
            node_id, slot = links[role_here]
            role = role_here
            continue
        for name in (role, *_CONDITIONING_INPUTS):
            if name in links:
                node_id, slot = links[name]
                break
        else:
            if len(links) != 1:
                raise NoText(f"no text could be found behind {class_of(graph, node_id) or 'a missing node'}")
            node_id, slot = next(iter(links.values()))
    raise NoText("its links form a circle")


def _is_pair_output(graph: Mapping[str, Any], node_id: str) -> bool:
    """True when both output 0 and output 1 of the node are read somewhere: it hands on a positive and a negative."""
    read = {link[1] for other in graph for value in inputs_of(graph, other).values() if (link := as_link(value)) and link[0] == node_id}
    return {0, 1} <= read


def _texts_of(graph: Mapping[str, Any], node_id: str, role: str) -> list[Field]:
    """The prompt inputs of a text encoder; empty for any other node."""
    inputs = inputs_of(graph, node_id)
    role_names = [name for name in _ROLE_TEXT_INPUTS[role] if isinstance(inputs.get(name), str)]
    linked_roles = [name for name in _ROLE_TEXT_INPUTS[role][:1] if as_link(inputs.get(name))]
    names = role_names or linked_roles or [name for name in _TEXT_INPUTS if isinstance(inputs.get(name), str) or as_link(inputs.get(name))]
    return [follow_text(graph, node_id, name) for name in names]
