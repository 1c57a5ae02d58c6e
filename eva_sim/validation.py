"""Checks a posted prompt as ComfyUI's ``execution.validate_prompt`` does, and answers errors of the same shape.

Shapes and the order of checks were learned from a recorded server 0.8.0; see ``docs/simulator.md``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LONG_LIST = 20  # lists longer than this are not repeated in the error (``input_config`` is null)

Prompt = Mapping[str, Any]
Table = Mapping[str, Mapping[str, Any]]
Reasons = list[dict[str, Any]]


@dataclass
class Verdict:
    """What validation found. ``outputs``: the output nodes that may run (empty: nothing runs)."""

    ok: bool
    error: dict[str, Any] | None
    outputs: list[str]
    node_errors: dict[str, Any] = field(default_factory=dict)


def top_error(kind: str, message: str, details: str = "") -> dict[str, Any]:
    """The ``error`` part of a refusal."""
    return {"type": kind, "message": message, "details": details, "extra_info": {}}


class _Checker:
    def __init__(self, prompt: Prompt, table: Table, image_exists: Callable[[str], bool]):
        self.prompt, self.table, self.image_exists = prompt, table, image_exists
        self.done: dict[str, tuple[bool, Reasons]] = {}

    def check(self, node_id: str) -> tuple[bool, Reasons]:
        """Checks one node and, through its links, everything before it. Raises what a malformed node makes Python raise."""
        if node_id in self.done:
            return self.done[node_id]
        node = self.prompt[node_id]
        inputs, entry = node["inputs"], self.table[node["class_type"]]
        valid, reasons = True, Reasons()
        groups = entry["input"]
        for group in ("required", "optional"):
            for name, spec in groups.get(group, {}).items():
                if name not in inputs:
                    if group == "required":
                        reasons.append(_reason("required_input_missing", "Required input is missing", name, {"input_name": name}))
                    continue
                value = inputs[name]
                kind, config = spec[0], (spec[1] if len(spec) > 1 else {})
                if isinstance(value, list):
                    valid &= self._check_link(name, value, kind, config, reasons)
                else:
                    self._check_value(node["class_type"], name, value, kind, config, inputs, reasons)
        self.done[node_id] = (valid and not reasons, reasons)
        return self.done[node_id]

    def _check_link(self, name: str, value: list[Any], kind: Any, config: Any, reasons: Reasons) -> bool:
        info = [kind, config]
        if len(value) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            reasons.append(_reason("bad_linked_input", message, name, {"input_name": name, "input_config": info, "received_value": value}))
            return False
        source = value[0]
        received = self.table[self.prompt[source]["class_type"]]["output"][value[1]]
        if not _types_fit(received, kind):
            details = f"{name}, received_type({received}) mismatch input_type({kind})"
            extra = {"input_name": name, "input_config": info, "received_type": received, "linked_node": value}
            reasons.append(_reason("return_type_mismatch", "Return type mismatch between linked nodes", details, extra))
            return False
        try:
            return self.check(source)[0]
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            extra = {
                "input_name": name,
                "input_config": info,
                "exception_message": str(error),
                "exception_type": type(error).__name__,
                "traceback": traceback.format_tb(error.__traceback__),
                "linked_node": value,
            }
            self.done[source] = (
                False,
                [_reason("exception_during_inner_validation", "Exception when validating inner node", str(error), extra)],
            )
            return False

    def _check_value(
        self, class_type: str, name: str, value: Any, kind: Any, config: Mapping[str, Any], inputs: Any, reasons: Reasons
    ) -> None:
        info = [kind, config]
        if kind in ("INT", "FLOAT", "STRING", "BOOLEAN"):
            convert: Callable[[Any], Any] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}[kind]
            try:
                converted = convert(value)
            except (ValueError, TypeError, OverflowError) as error:
                extra = {"input_name": name, "input_config": info, "received_value": value, "exception_message": str(error)}
                message = f"Failed to convert an input value to a {kind} value"
                reasons.append(_reason("invalid_input_type", message, f"{name}, {value}, {error}", extra))
                return
            inputs[name] = value = converted  # the server, too, keeps the converted value in the queue and the history
            extra = {"input_name": name, "input_config": info, "received_value": value}
            if "min" in config and value < config["min"]:
                reasons.append(_reason("value_smaller_than_min", f"Value {value} smaller than min of {config['min']}", name, extra))
            elif "max" in config and value > config["max"]:
                reasons.append(_reason("value_bigger_than_max", f"Value {value} bigger than max of {config['max']}", name, extra))
            return
        if class_type == "LoadImage" and name == "image":
            if not self.image_exists(str(value)):
                extra = {"input_name": name, "input_config": info, "received_value": value}
                details = f"{name} - Invalid image file: {value}"
                reasons.append(_reason("custom_validation_failed", "Custom validation failed for node", details, extra))
            return
        options = kind if isinstance(kind, list) else config.get("options") if kind == "COMBO" else None
        if options is not None and value not in options:
            long = len(options) > LONG_LIST
            shown = f"(list of length {len(options)})" if long else str(options)
            extra = {"input_name": name, "input_config": None if long else info, "received_value": value}
            reasons.append(_reason("value_not_in_list", "Value not in list", f"{name}: {value!r} not in {shown}", extra))


def _reason(kind: str, message: str, details: str, extra: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def _types_fit(received: Any, wanted: Any) -> bool:
    """A link fits when the types are equal, either is ``*``, or every received type of a list ``A,B`` is wanted."""
    if isinstance(wanted, list):
        return received == "COMBO" or received == wanted
    if received == wanted or "*" in (received, wanted):
        return True
    return set(str(received).split(",")) <= set(str(wanted).split(","))


def validate_prompt(prompt: Prompt, table: Table, image_exists: Callable[[str], bool] = lambda name: False) -> Verdict:
    """Decides whether ``prompt`` may run. Converted numbers are written back into it, as the real server does.

    Raises ``TypeError`` or ``AttributeError`` for a prompt that is no object; the server answers those with a plain 500.
    """
    outputs = []
    for node_id in prompt:
        node = prompt[node_id]
        place = f"Node ID '#{node_id}'"
        if not isinstance(node, dict) or "class_type" not in node:
            missing = "Cannot execute because a node is missing the class_type property."
            return Verdict(False, top_error("invalid_prompt", missing, place), [])
        entry = table.get(node["class_type"])
        if entry is None:
            unknown = f"Cannot execute because node {node['class_type']} does not exist."
            return Verdict(False, top_error("invalid_prompt", unknown, place), [])
        if entry["output_node"]:
            outputs.append(node_id)
    if not outputs:
        return Verdict(False, top_error("prompt_no_outputs", "Prompt has no outputs"), [])

    checker = _Checker(prompt, table, image_exists)
    good, failed_details = [], []
    node_errors: dict[str, Any] = {}
    for output in outputs:
        if _has_cycle(prompt, output):  # the real server runs out of recursion here and names no node
            continue
        try:
            valid, reasons = checker.check(output)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            extra = {"exception_type": type(error).__name__, "traceback": traceback.format_tb(error.__traceback__)}
            valid, reasons = False, [_reason("exception_during_validation", "Exception when validating node", str(error), extra)]
            checker.done[output] = (valid, reasons)
        if valid:
            good.append(output)
            continue
        failed_details += [f"{reason['message']}: {reason['details']}" for reason in reasons]
        reached = _upstream(prompt, output)
        for node_id, (node_valid, node_reasons) in checker.done.items():
            if node_valid or not node_reasons or node_id not in reached:
                continue
            entry = node_errors.setdefault(
                node_id, {"errors": node_reasons, "dependent_outputs": [], "class_type": prompt[node_id]["class_type"]}
            )
            entry["dependent_outputs"].append(output)
    if good:
        return Verdict(True, None, good, node_errors)
    refusal = top_error("prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(failed_details))
    return Verdict(False, refusal, [], node_errors)


def links(node: Any) -> list[str]:
    """Ids of the nodes ``node`` takes inputs from; malformed links are left out."""
    inputs = node.get("inputs") if isinstance(node, dict) else None
    values = inputs.values() if isinstance(inputs, dict) else ()
    return [value[0] for value in values if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)]


def _upstream(prompt: Prompt, start: str) -> set[str]:
    seen, todo = {start}, [start]
    while todo:
        for source in links(prompt[todo.pop()]):
            if source in prompt and source not in seen:
                seen.add(source)
                todo.append(source)
    return seen


def _has_cycle(prompt: Prompt, start: str) -> bool:
    state: dict[str, int] = {}  # 1: on the path being walked, 2: finished
    stack = [(start, iter(links(prompt[start])))]
    state[start] = 1
    while stack:
        node_id, rest = stack[-1]
        for source in rest:
            if state.get(source) == 1:
                return True
            if source in prompt and source not in state:
                state[source] = 1
                stack.append((source, iter(links(prompt[source]))))
                break
        else:
            state[node_id] = 2
            stack.pop()
    return False
