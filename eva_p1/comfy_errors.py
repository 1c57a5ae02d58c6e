"""The server's error answers, turned into sentences for a person.

Shapes as ComfyUI answers them (server.py ``post_prompt`` and execution.py ``validate_prompt``,
https://github.com/comfyanonymous/ComfyUI).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from eva_env_base import PromptFailed, PromptRejected
from eva_p1.workflow_check import not_in_list_sentence, unknown_class_sentence
from eva_p1.workflow_graph import class_of, title_of
from eva_p1.workflow_schema import options_of, parse_input

_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemory|allocation on device|CUBLAS_STATUS_ALLOC_FAILED|not enough memory|CUDNN_STATUS_ALLOC_FAILED", re.I
)
_OOM_ADVICE = "This error means you ran out of memory on your GPU"  # what execution.py adds: on workflows and batches, at length
# ENOSPC and EDQUOT as Python and FFmpeg word them.
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|There is not enough space on the disk", re.I)
ObjectInfo = Callable[[str], Mapping[str, Any]]  # /object_info/CLASS, answered lazily: only a long list needs it


def rejection(status: int, body: Any, graph: Mapping[str, Any], info: ObjectInfo) -> PromptRejected:
    """The error for a ``POST /prompt`` that was refused. ``body`` is the parsed answer, or its text."""
    if not isinstance(body, dict):
        return PromptRejected(
            f"ComfyUI answered {status} to the prompt and gave no reason (its log has one). The workflow may not be a graph it can read.",
            status=status,
        )
    node_errors = body.get("node_errors") if isinstance(body.get("node_errors"), dict) else {}
    sentences = node_sentences(node_errors or {}, graph, info)
    error = body.get("error")
    if not sentences:
        sentences = [_top_sentence(error, graph, info)]
    return PromptRejected("ComfyUI refused the prompt. " + " ".join(sentences), node_errors, status)


def _top_sentence(error: Any, graph: Mapping[str, Any], info: ObjectInfo) -> str:
    if not isinstance(error, dict):
        return str(error or "It gave no reason.")
    kind, message, details = (str(error.get(key) or "") for key in ("type", "message", "details"))
    named = re.search(r"Node ID '#(.*)'", details)
    node_id = named.group(1) if named else ""
    where = f"{title_of(graph, node_id)!r} (node {node_id})" if node_id else "A node"
    if kind == "invalid_prompt" or kind == "missing_node_type":
        unknown = class_of(graph, node_id)
        if unknown:
            return unknown_class_sentence(unknown, where, None)
        return f"{where} has no class_type: this is not an API-format workflow; export it with Workflow > Export (API)."
    if kind == "prompt_no_outputs":
        return "Its workflow has no node that writes a file (such as SaveVideo)."
    if kind == "no_prompt":
        return "It found no workflow in the request."
    if kind == "prompt_outputs_failed_validation" and not details:
        return "Its check of the links failed without naming a node: a circle of links, or an input linked to nothing."
    return f"{message or kind}{': ' + details if details else ''}."


def node_sentences(node_errors: Mapping[str, Any], graph: Mapping[str, Any], info: ObjectInfo) -> list[str]:
    """One sentence for each fault of each node: node title, input, value, and the nearest values that would do."""
    sentences = []
    for node_id, entry in node_errors.items():
        errors = entry.get("errors") if isinstance(entry, dict) else None
        name = class_of(graph, node_id) or str(entry.get("class_type", "") if isinstance(entry, dict) else "")
        where = f"{title_of(graph, node_id)!r} (node {node_id}, {name})"
        for error in errors or []:
            if isinstance(error, dict):
                sentences.append(f"{where}: {_node_sentence(error, name, info)}")
    return sentences


def _node_sentence(error: Mapping[str, Any], node_class: str, info: ObjectInfo) -> str:
    kind = str(error.get("type") or "")
    details = str(error.get("details") or "")
    extra = error.get("extra_info")
    extra = extra if isinstance(extra, dict) else {}
    name = str(extra.get("input_name") or details.split(",")[0].split(":")[0])
    value = extra.get("received_value")
    config = extra.get("input_config")
    spec = parse_input(name, config, True) if isinstance(config, list) else None
    if kind == "value_not_in_list":
        options = list(spec.options) if spec and spec.options is not None else options_of({node_class: info(node_class)}, node_class, name)
        if options is None:
            return f"{name} is {value!r}, which the server does not offer."
        return not_in_list_sentence(node_class, name, value, options)
    if kind == "required_input_missing":
        return f"the required input {name!r} is missing."
    if kind == "value_smaller_than_min" and spec:
        return f"{name} is {value}, the smallest value allowed is {spec.config.get('min')}."
    if kind == "value_bigger_than_max" and spec:
        return f"{name} is {value}, the largest value allowed is {spec.config.get('max')}."
    if kind == "invalid_input_type":
        return f"{name} is {value!r}, which is not a {spec.type if spec else 'usable'} value."
    if kind == "return_type_mismatch":
        wanted = spec.type if spec else "another type"
        return f"input {name!r} takes {wanted}, but is linked to {extra.get('linked_node')}, which gives {extra.get('received_type')}."
    if kind == "bad_linked_input":
        return f"input {name!r} is {value!r}, a link is [node id, output number]."
    if kind == "exception_during_inner_validation":
        return f"something it depends on through {name!r} is linked to a node or an output that does not exist ({details})."
    message = str(error.get("message") or kind or "refused")
    return f"{message}: {details}." if details else f"{message}."


def failure(prompt_id: str, status: Mapping[str, Any], graph: Mapping[str, Any]) -> PromptFailed:
    """The error for a history entry whose status is not success. An interrupt looks like an error but for its message."""
    for message in reversed(status.get("messages") or []):
        if not (isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict)):
            continue
        name, data = message
        node = None if data.get("node_id") is None else str(data["node_id"])
        title = title_of(graph, node) if node is not None and node in graph else str(data.get("node_type") or "a node")
        if name == "execution_interrupted":
            return PromptFailed(f"prompt {prompt_id} was interrupted at {title!r}", kind="interrupted", node=node)
        if name == "execution_error":
            kind = str(data.get("exception_type") or "error")
            text = " ".join(str(data.get("exception_message") or "").split())[:500]
            if _OUT_OF_MEMORY.search(kind) or _OUT_OF_MEMORY.search(text):
                text = text.split(_OOM_ADVICE)[0].strip()
                return PromptFailed(
                    f"the GPU ran out of memory at {title!r}: {text or kind}; fewer pixels or frames need less", kind="oom", node=node
                )
            if _DISK_FULL.search(text):
                return PromptFailed(f"the disk of the server is full, {title!r} says: {text}; make room there", kind="disk_full", node=node)
            return PromptFailed(f"{title!r} (node {node}) failed: {kind}: {text or 'no message'}", kind="error", node=node)
    return PromptFailed(f"prompt {prompt_id} failed and the server kept no reason", kind="error")
