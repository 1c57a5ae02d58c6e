"""Reading ``/object_info``: what inputs a node class has, in which order, and which values they allow.

Two schemas are in use side by side: the classic one, where a list of allowed values stands in place of the type
(``[["euler", ...], {...}]``), and the newer ``["COMBO", {"options": [...]}]``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class InputSpec:
    """One input of a node class. ``type`` is ``COMBO`` for either form of list; ``options`` is ``None`` where the server names none."""

    name: str
    type: str
    options: tuple[Any, ...] | None
    config: Mapping[str, Any]
    required: bool


def parse_input(name: str, raw: Any, required: bool) -> InputSpec:
    """One entry of ``input.required`` or ``input.optional``."""
    parts = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    head = parts[0] if parts else "*"
    config = parts[1] if len(parts) > 1 and isinstance(parts[1], dict) else {}
    if isinstance(head, (list, tuple)):
        return InputSpec(name, "COMBO", tuple(head), config, required)
    if head == "COMBO":
        options = config.get("options")
        return InputSpec(name, "COMBO", tuple(options) if isinstance(options, (list, tuple)) else None, config, required)
    return InputSpec(name, str(head), None, config, required)


def node_inputs(info: Mapping[str, Any]) -> list[InputSpec]:
    """The inputs of a node class in the order the frontend shows them: required, then optional, each in ``input_order``."""
    found: list[InputSpec] = []
    order = info.get("input_order") or {}
    for group in ("required", "optional"):
        specs = (info.get("input") or {}).get(group) or {}
        names = [name for name in order.get(group) or [] if name in specs]
        names += [name for name in specs if name not in names]
        found += [parse_input(name, specs[name], group == "required") for name in names]
    return found


def options_of(object_info: Mapping[str, Any], node_class: str, name: str) -> list[Any] | None:
    """The values the server allows for an input, or ``None`` where it does not name them."""
    for spec in node_inputs(object_info.get(node_class) or {}):
        if spec.name == name:
            return None if spec.options is None else list(spec.options)
    return None


def nearest(value: Any, options: list[Any], count: int = 3) -> list[Any]:
    """The allowed values that look most like ``value``, best first: by spelling for text, by distance for numbers."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        numbers = [option for option in options if isinstance(option, (int, float)) and not isinstance(option, bool)]
        if numbers:
            return sorted(numbers, key=lambda option: abs(option - value))[:count]
    by_text = {str(option): option for option in options}
    lowered = {text.lower(): text for text in by_text}
    close = difflib.get_close_matches(str(value).lower(), list(lowered), n=count, cutoff=0.5)
    found = [by_text[lowered[text]] for text in close]
    return found or list(options[:count])
