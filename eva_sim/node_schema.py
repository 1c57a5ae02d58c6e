"""Building blocks of ``/object_info`` entries. Two generations of answers exist and both are kept.

Classic classes list choices as ``[[...]]``; newer ones as ``["COMBO", {"options": [...]}]``, and their entries carry more keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BIG_SEED = 18446744073709551615
MAX_SIZE = 16384

Input = tuple[str, list[Any]]


def int_input(name: str, default: int | None, low: int, high: int, **more: Any) -> Input:
    """A whole number with limits; without ``default`` the schema has none."""
    config: dict[str, Any] = {} if default is None else {"default": default}
    return name, ["INT", {**config, "min": low, "max": high, **more}]


def float_input(name: str, default: float | None, low: float, high: float, step: float, **more: Any) -> Input:
    """A number with limits."""
    config: dict[str, Any] = {} if default is None else {"default": default}
    return name, ["FLOAT", {**config, "min": low, "max": high, "step": step, **more}]


def string_input(name: str, default: str | None = None, multiline: bool = False, **more: Any) -> Input:
    """A text."""
    config: dict[str, Any] = {"multiline": multiline, **more}
    if default is not None:
        config["default"] = default
    return name, ["STRING", config]


def bool_input(name: str, default: bool) -> Input:
    """Yes or no."""
    return name, ["BOOLEAN", {"default": default}]


def list_input(name: str, options: Sequence[str], **config: Any) -> Input:
    """Choices in the classic form."""
    return name, [list(options), config] if config else [list(options)]


def combo_input(name: str, options: Sequence[str], **config: Any) -> Input:
    """Choices in the newer form."""
    return name, ["COMBO", {**config, "multiselect": False, "options": list(options)}]


def link_input(name: str, kind: str, empty_config: bool = False) -> Input:
    """Something another node gives; some classes write an empty config, some none."""
    return name, [kind, {}] if empty_config else [kind]


def size_inputs(width: int, height: int, length: int | None, step: int = 16) -> list[Input]:
    """Width, height, (length,) batch size of an empty latent."""
    inputs = [
        int_input("width", width, max(16, step), MAX_SIZE, step=step),
        int_input("height", height, max(16, step), MAX_SIZE, step=step),
    ]
    if length is not None:
        inputs.append(int_input("length", length, 1, MAX_SIZE, step=4))
    return [*inputs, int_input("batch_size", 1, 1, 4096)]


def node(
    name: str,
    required: Sequence[Input],
    outputs: Sequence[str | tuple[str, str]],
    *,
    display: str | None = None,
    module: str = "nodes",
    category: str = "",
    optional: Sequence[Input] = (),
    hidden: dict[str, Any] | None = None,
    output_node: bool = False,
    experimental: bool = False,
    description: str = "",
) -> dict[str, Any]:
    """One entry of ``/object_info``. ``outputs``: types, or (type, slot name)."""
    types = [out if isinstance(out, str) else out[0] for out in outputs]
    labels = [out if isinstance(out, str) else out[1] for out in outputs]
    inputs: dict[str, Any] = {"required": dict(required)}
    if optional:
        inputs["optional"] = dict(optional)
    if hidden:
        inputs["hidden"] = dict(hidden)
    newer = module.startswith("comfy_extras.") and module != "comfy_extras.nodes_model_advanced"
    entry: dict[str, Any] = {
        "input": inputs,
        "input_order": {group: list(members) for group, members in inputs.items()},
        "output": types,
        "output_is_list": [False] * len(types),
        "output_name": labels,
        "name": name,
        "display_name": display if display or newer else name,
        "description": description,
        "python_module": module,
        "category": category,
        "output_node": output_node,
    }
    if newer:
        entry.update(output_tooltips=[None] * len(types), output_matchtypes=None)
        entry.update(deprecated=False, experimental=experimental, api_node=False)
    return entry
