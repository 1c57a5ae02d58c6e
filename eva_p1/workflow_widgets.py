"""The widgets of a node class: in which order the frontend keeps their values, their defaults, their rounding.

A UI-format workflow stores widget values as a bare list, so everything hangs on the order. The rules below were learned from the
public frontend sources (https://github.com/Comfy-Org/ComfyUI_frontend, ``src/renderer/extensions/vueNodes/widgets/composables``,
``src/core/graph/widgets/dynamicWidgets.ts``, ``src/utils/litegraphUtil.ts``) and from pairs it exported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from eva_p1.workflow_schema import InputSpec, node_inputs, parse_input

DYNAMIC_COMBO, AUTOGROW, MATCH_TYPE = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_MATCHTYPE_V3"
# Types the frontend draws as a widget; every other type is a socket.
WIDGET_TYPES = frozenset({
    "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "MARKDOWN", "COLOR", "TEXTAREA", "IMAGECOMPARE", "CHART", "GALLERIA", "IMAGEUPLOAD",
    "FILEUPLOAD", "TREESELECT", "MULTISELECT", "SELECTBUTTON", "WEBCAM", "AUDIO_UI", "AUDIOUPLOAD", "AUDIO_RECORD", "LOAD_3D",
    "LOAD_3D_ANIMATION", "PREVIEW_3D", "PREVIEW_3D_ANIMATION", "BOUNDING_BOX", "CURVE", DYNAMIC_COMBO,
})  # fmt: skip
UPLOAD_FLAGS = ("image_upload", "video_upload", "animated_image_upload", "audio_upload", "mesh_upload")
SEED_NAMES = ("seed", "noise_seed")


@dataclass
class Widget:
    """One widget of one node. ``sent`` is False for one that has no value to send."""

    name: str
    value: Any
    spec: InputSpec | None = None
    sent: bool = True
    dynamic_prompts: bool = False


@dataclass
class NodeWidgets:
    """What a node class puts on a node: widgets by name in value order, sockets and widget inputs as ``(name, type)``."""

    widgets: dict[str, Widget] = field(default_factory=dict)
    sockets: list[tuple[str, str]] = field(default_factory=list)


def is_widget(spec: InputSpec) -> bool:
    """True where the frontend draws a widget for this input."""
    return str(spec.config.get("widgetType") or spec.type) in WIDGET_TYPES and not spec.config.get("forceInput")


def default_of(spec: InputSpec) -> Any:
    """The value a fresh widget shows."""
    default = spec.config.get("default")
    if spec.type == DYNAMIC_COMBO:
        return default or next((option.get("key") for option in _dynamic_options(spec)), None)
    if spec.type == "COMBO":
        return default if default else (spec.options[0] if spec.options else "Loading..." if spec.config.get("remote") else None)
    if default is not None:
        return default
    return {"INT": 0, "FLOAT": 0, "BOOLEAN": False}.get(spec.type, "")


def build_widgets(info: Mapping[str, Any], values: Any, drawn: frozenset[str] = frozenset()) -> NodeWidgets:
    """The widgets of a class with the saved ``widgets_values`` (a list by position, or a mapping by name) put in.

    ``drawn`` are inputs the saved node itself calls widgets: that tells of types a custom node pack brings its own widget for.
    """
    specs = node_inputs(info)
    found = NodeWidgets()
    named = values if isinstance(values, Mapping) else None
    stream = _Stream([] if named is not None else _without_forced(specs, values if isinstance(values, list) else []))
    for spec in specs:
        if is_widget(spec) or (spec.name in drawn and not spec.config.get("forceInput")):
            _add(found, spec, stream, named)
        elif spec.type == MATCH_TYPE:
            found.sockets.append((spec.name, str((spec.config.get("template") or {}).get("allowed_types") or "*")))
        elif spec.type != AUTOGROW:  # an autogrow input exists only as its grown parts, which the saved node lists
            found.sockets.append((spec.name, spec.type))
    if any(spec.config.get(flag) for spec in specs for flag in UPLOAD_FLAGS):
        stream.take()  # the upload button stands last
    if named is not None:
        _add_named_extras(found, specs, named)
    return found


class _Stream:
    """Saved values, taken one after another. ``missing`` marks the end: what is not saved keeps its default."""

    missing = object()

    def __init__(self, values: list[Any]):
        self._values = iter(values)

    def take(self) -> Any:
        return next(self._values, self.missing)


def _add(found: NodeWidgets, spec: InputSpec, stream: _Stream, named: Mapping[str, Any] | None) -> None:
    saved = stream.take() if named is None else named.get(spec.name, _Stream.missing)
    value = default_of(spec) if saved is _Stream.missing else saved
    empty = saved is _Stream.missing and value is None  # a list with nothing in it and nothing saved: the frontend sends no such key
    found.widgets[spec.name] = Widget(spec.name, value, spec, not empty, spec.config.get("dynamicPrompts") is True)
    for _ in range(control_slots(spec)):
        stream.take()
    if spec.type == DYNAMIC_COMBO:
        chosen = next((option for option in _dynamic_options(spec) if option.get("key") == value), {})
        for group in ("required", "optional"):
            for name, raw in ((chosen.get("inputs") or {}).get(group) or {}).items():
                inner = parse_input(f"{spec.name}.{name}", raw, group == "required")
                if is_widget(inner):
                    _add(found, inner, stream, named)
                elif inner.type != AUTOGROW:
                    found.sockets.append((inner.name, inner.type))


def _dynamic_options(spec: InputSpec) -> list[Mapping[str, Any]]:
    return [option for option in spec.config.get("options") or () if isinstance(option, Mapping)]


def control_slots(spec: InputSpec) -> int:
    """Extra values saved behind this one: the seed control, and for a list also its filter; the refresh button of a remote list."""
    control = spec.config.get("control_after_generate")
    if spec.type == "INT":
        return int(bool(spec.name.rsplit(".", 1)[-1] in SEED_NAMES if control is None else control))
    if spec.type == "COMBO":
        remote = spec.config.get("remote")
        refresh = isinstance(remote, Mapping) and bool(remote.get("refresh_button"))
        return (2 if control else 0) + int(refresh)
    return int(bool(control)) if spec.type == "FLOAT" else 0


def _without_forced(specs: list[InputSpec], values: list[Any]) -> list[Any]:
    """Workflows saved before frontend 1.16 hold a dummy value for every forceInput input: dropped where the count says so."""
    forced: list[bool] = []
    for spec in specs:
        if is_widget(spec) or spec.config.get("forceInput"):
            forced.append(bool(spec.config.get("forceInput")))
            if spec.config.get("control_after_generate"):
                forced.append(False)
    if len(forced) != len(values) or not any(forced):
        return values
    return [value for value, dropped in zip(values, forced) if not dropped]


def _add_named_extras(found: NodeWidgets, specs: list[InputSpec], named: Mapping[str, Any]) -> None:
    """VideoHelperSuite saves by name, and its output format brings widgets of its own (crf, pix_fmt, ...): those are sent too."""
    for spec in specs:
        formats = spec.config.get("formats")
        chosen = formats.get(named.get(spec.name)) if isinstance(formats, Mapping) else None
        for entry in chosen or ():
            if isinstance(entry, list) and entry and entry[0] in named and entry[0] not in found.widgets:
                found.widgets[entry[0]] = Widget(entry[0], named[entry[0]])


# ---------------------------------------------------------------- rounding, where a PrimitiveNode writes into a widget
def rounded(spec: InputSpec | None, value: Any) -> Any:
    """The value a number widget keeps when it is told ``value``: whole steps for INT, its decimals and limits for FLOAT."""
    if spec is None or isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return value
    if spec.type == "INT":
        step = spec.config.get("step") or 1
        if step == 1:
            return math.floor(value + 0.5)
        offset = math.fmod(spec.config.get("min") or 0, step)
        return _whole(math.floor((value - offset) / step + 0.5) * step + offset)
    if spec.type == "FLOAT":
        step = spec.config.get("step") or 0.5
        precision = max(0, -math.floor(math.log10(step)))
        unit = spec.config.get("round") or (10.0**-precision if precision else 0)
        if not unit:
            return value
        fixed = Decimal(math.floor(value / unit + 0.5) * unit).quantize(Decimal(1).scaleb(-precision), ROUND_HALF_UP)
        low, high = spec.config.get("min", 0), spec.config.get("max", 2048)
        return min(max(float(fixed), low), high)
    return value


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def limits(specs: list[InputSpec]) -> tuple[float, float]:
    """The range that all targets of a primitive allow."""
    low = max((spec.config.get("min", -math.inf) for spec in specs), default=-math.inf)
    high = min((spec.config.get("max", math.inf) for spec in specs), default=math.inf)
    return low, high
