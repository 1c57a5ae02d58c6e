"""Checking a workflow against what a server offers, before a GPU minute is spent on it.

The rules are those of ComfyUI's own validation (execution.py, ``validate_inputs`` and ``validate_node_input``,
https://github.com/comfyanonymous/ComfyUI/blob/master/execution.py), so that what passes here passes there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eva_p1.workflow_graph import as_link, class_of, consumers, inputs_of, links_of, title_of, upstream
from eva_p1.workflow_roles import REQUIRED_ROLES, find_roles
from eva_p1.workflow_schema import InputSpec, nearest, node_inputs

_DYNAMIC_PREFIX = "COMFY_"  # COMFY_AUTOGROW_V3, COMFY_DYNAMICCOMBO_V3 and kin: their inputs are named by the server while validating
MODEL_ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".gguf", ".onnx")
# Part of CLASS.INPUT -> folder below models/ (https://github.com/comfyanonymous/ComfyUI/blob/master/folder_paths.py).
MODEL_FOLDERS = (
    ("visionloader", "clip_vision"),
    ("unet", "diffusion_models"),
    ("clip_name", "text_encoders"),
    ("vae", "vae"),
    ("lora", "loras"),
    ("ckpt", "checkpoints"),
    ("control_net", "controlnet"),
)
_NUMBERS: dict[str, type] = {"INT": int, "FLOAT": float}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a workflow. ``message`` is a sentence for a person; ``node`` and ``input`` may be empty."""

    kind: str
    message: str
    node: str = ""
    input: str = ""
    severity: str = "error"


def check_workflow(graph: Mapping[str, Any], object_info: Mapping[str, Any] | None = None) -> list[Problem]:
    """Everything wrong with an API-format graph: shape, roles and, with ``object_info``, classes, links and values."""
    problems = list(_shape(graph))
    if not problems:
        roles = find_roles(graph, object_info)
        problems += [Problem("missing_role", f"No {role} was found: the workflow needs {REQUIRED_ROLES[role]}.") for role in roles.missing]
        problems += [
            Problem("not_settable", f"{name} cannot be set: {reason}.", severity="note") for name, reason in roles.not_settable.items()
        ]
    if object_info is not None:
        for node_id in graph:
            problems += _node(graph, node_id, object_info)
        outputs = [n for n in graph if (object_info.get(class_of(graph, n)) or {}).get("output_node")]
        if not outputs:
            problems.append(Problem("prompt_no_outputs", "No node of this workflow writes anything, so the server would refuse it."))
    problems += _cycles(graph)
    return problems


def _shape(graph: Mapping[str, Any]) -> Iterator[Problem]:
    for node_id, node in graph.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            yield Problem("missing_class", f"Node {node_id} has no class_type.", str(node_id))
        elif not isinstance(node.get("inputs"), dict):
            yield Problem("missing_inputs", f"{_name(graph, node_id)} has no inputs.", str(node_id))


def _name(graph: Mapping[str, Any], node_id: str) -> str:
    return f"{title_of(graph, node_id)!r} (node {node_id}, {class_of(graph, node_id) or 'no class'})"


def unknown_class_sentence(name: str, where: str, object_info: Mapping[str, Any] | None) -> str:
    """What to do about a node class the server does not know."""
    sentence = (
        f"{where}: this server has no node class {name!r}. Install the custom node pack that provides it "
        f"(ComfyUI-Manager: Install Missing Custom Nodes; or search for {name!r} at https://registry.comfy.org), "
        f"update ComfyUI if the class is one of its own, and restart it"
    )
    close = nearest(name, list(object_info or {}))
    similar = [other for other in close if other.lower()[:4] == name.lower()[:4]]
    return sentence + (f". Similar classes there: {', '.join(similar)}." if similar else ".")


def _node(graph: Mapping[str, Any], node_id: str, object_info: Mapping[str, Any]) -> Iterator[Problem]:
    name = class_of(graph, node_id)
    if name not in object_info:
        if name:
            yield Problem("unknown_class", unknown_class_sentence(name, _name(graph, node_id), object_info), node_id)
        return
    inputs = inputs_of(graph, node_id)
    where = _name(graph, node_id)
    for spec in node_inputs(object_info[name]):
        if spec.name not in inputs:
            if spec.required and not spec.type.startswith(_DYNAMIC_PREFIX):
                yield Problem("required_input_missing", f"{where}: the required input {spec.name!r} is missing.", node_id, spec.name)
            continue
        value = inputs[spec.name]
        if isinstance(value, list):
            problem = _link(graph, where, node_id, spec, value, object_info)
        else:
            problem = _value(where, node_id, name, spec, value)
        if problem:
            yield problem


def _link(
    graph: Mapping[str, Any], where: str, node_id: str, spec: InputSpec, value: list[Any], object_info: Mapping[str, Any]
) -> Problem | None:
    link = as_link(value)
    if link is None:
        return Problem(
            "bad_linked_input", f"{where}: input {spec.name!r} is {value!r}, a link is [node id, output number].", node_id, spec.name
        )
    source, slot = link
    if source not in graph:
        return Problem(
            "missing_node", f"{where}: input {spec.name!r} is linked to node {source}, which is not in the workflow.", node_id, spec.name
        )
    outputs = (object_info.get(class_of(graph, source)) or {}).get("output")
    if outputs is None:
        return None  # an unknown class is reported at its own node
    if not 0 <= slot < len(outputs):
        return Problem(
            "missing_output",
            f"{where}: input {spec.name!r} is linked to output {slot} of {_name(graph, source)}, which has {len(outputs)} output(s).",
            node_id,
            spec.name,
        )
    if not types_match(outputs[slot], spec.type):
        return Problem(
            "return_type_mismatch",
            f"{where}: input {spec.name!r} takes {spec.type}, but {_name(graph, source)} gives {outputs[slot]}.",
            node_id,
            spec.name,
        )
    return None


def types_match(received: Any, wanted: str) -> bool:
    """Whether an output of type ``received`` may be linked to an input of type ``wanted``. ``A,B`` means either; ``*`` anything."""
    if isinstance(received, list):
        return wanted == "COMBO"
    if received == wanted or "*" in (received, wanted) or str(received).startswith(_DYNAMIC_PREFIX) or wanted.startswith(_DYNAMIC_PREFIX):
        return True
    return not {part.strip() for part in str(received).split(",")}.isdisjoint(part.strip() for part in wanted.split(","))


def _value(where: str, node_id: str, node_class: str, spec: InputSpec, value: Any) -> Problem | None:
    def problem(kind: str, text: str) -> Problem:
        return Problem(kind, f"{where}: {text}", node_id, spec.name)

    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    if spec.type in _NUMBERS:
        try:
            number = _NUMBERS[spec.type](value)
        except (TypeError, ValueError, OverflowError):
            return problem("invalid_input_type", f"{spec.name} is {value!r}, which is not a number.")
        for limit, wrong, kind, word in (
            (spec.config.get("min"), lambda n, m: n < m, "value_smaller_than_min", "smallest"),
            (spec.config.get("max"), lambda n, m: n > m, "value_bigger_than_max", "largest"),
        ):
            if isinstance(limit, (int, float)) and not math.isnan(number) and wrong(number, limit):
                return problem(kind, f"{spec.name} is {number}, the {word} value allowed is {limit}.")
    elif spec.type == "COMBO" and spec.options is not None and not spec.config.get("multiselect") and value not in spec.options:
        return problem("value_not_in_list", not_in_list_sentence(node_class, spec.name, value, list(spec.options)))
    return None


def not_in_list_sentence(node_class: str, name: str, value: Any, options: list[Any]) -> str:
    """One wording for a value the server does not offer, with the nearest it does, and where a model belongs."""
    mend = ""
    if isinstance(value, str) and value.lower().endswith(MODEL_ENDINGS):
        folder = next((folder for part, folder in MODEL_FOLDERS if part in f"{node_class}.{name}".lower()), "")
        mend = f" Put the file into ComfyUI's models{'/' if folder else ''}{folder} folder, or choose one the server has."
    if not options:
        return f"{name} is {value!r}, but the server has nothing to choose from there (no such file is installed).{mend}"
    shown = ", ".join(repr(option) for option in (options if len(options) <= 6 else nearest(value, options)))
    kind = "allowed values" if len(options) <= 6 else f"the nearest of {len(options)} allowed values"
    return f"{name} is {value!r}, which the server does not offer; {kind}: {shown}.{mend}"


def _cycles(graph: Mapping[str, Any]) -> list[Problem]:
    """Takes out, again and again, what depends on nothing left; what stays feeds itself."""
    waits = {node_id: {source for _, source, _ in links_of(graph, node_id)} for node_id in graph}
    ready = [node_id for node_id, sources in waits.items() if not sources]
    readers = consumers(graph)
    for node_id in ready:
        for reader in readers[node_id]:
            sources = waits[reader.node]
            if node_id in sources:
                sources.discard(node_id)
                if not sources:
                    ready.append(reader.node)
    stuck = [node_id for node_id in graph if waits[node_id] and node_id in upstream(graph, node_id, strictly=True)]
    if not stuck:
        return []
    return [Problem("cycle", f"{_name(graph, stuck[0])} is part of a circle of links; a workflow must not feed itself.", stuck[0])]
