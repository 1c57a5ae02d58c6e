"""What the save nodes do: which clip they stand for, and putting it into its folder, under fault or not."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from eva_sim import graph
from eva_sim.clip_params import clip_spec
from eva_sim.faults import Fault
from eva_sim.outputs import Folders, expand_prefix, next_name, spoil
from eva_sim.render import ClipSpec, still_picture
from eva_sim.surface import QualitySurface

VIDEO_SAVERS, IMAGE_SAVERS = ("SaveVideo", "VHS_VideoCombine"), ("SaveImage", "PreviewImage")


def clip_of(node: Mapping[str, Any], outcomes: Mapping[str, graph.Outcome], surface: QualitySurface) -> ClipSpec | None:
    """The clip a save node writes; ``None`` for another node, or when what it saves cannot be made."""
    source = node["inputs"].get("video") or node["inputs"].get("images")
    if node["class_type"] not in (*VIDEO_SAVERS, *IMAGE_SAVERS) or not isinstance(source, list) or source[0] not in outcomes:
        return None
    found = outcomes[source[0]]
    if found.error is not None:
        return None
    value = found.outputs[source[1]]
    if isinstance(value, graph.Video):
        return clip_spec(surface, value.images, value.fps)
    rate = node["inputs"].get("frame_rate", 16)
    if isinstance(rate, list):
        rate = outcomes[rate[0]].outputs[rate[1]]
    return clip_spec(surface, value, float(rate))


def save_video(
    node: Mapping[str, Any], spec: ClipSpec, rendered: Path, folders: Folders, faults: Mapping[str, Fault], prefix: str
) -> tuple[str, dict[str, Any]] | None:
    """Moves the rendered clip to its place; returns (path below the folder, what the node shows), or ``None`` for no output.

    Raises :class:`eva_sim.outputs.OutsideOutput` or ``OSError``.
    """
    vhs = node["class_type"] == "VHS_VideoCombine"
    temporary = vhs and not node["inputs"].get("save_output", True)
    folder = folders.temp if temporary else folders.output
    path, name, subfolder = next_name(folder, expand_prefix(prefix, spec.width, spec.height), ".mp4" if vhs else "_.mp4")
    nothing = faults.get("no_output")
    if nothing is None:
        part = path.with_name(f".{name}.part")  # a watcher of the folder never sees half a clip, unless a fault wants it
        shutil.copyfile(rendered, part)
        if "bad_output" in faults:
            spoil(part, faults["bad_output"].options["mode"])
        part.replace(path)
    rendered.unlink()
    if nothing is not None and nothing.options["mode"] == "empty":
        return None
    below = f"{subfolder}/{name}" if subfolder else name
    place = {"filename": name, "subfolder": subfolder, "type": "temp" if temporary else "output"}
    if vhs:
        more = {"format": node["inputs"]["format"], "frame_rate": spec.fps, "workflow": name[:-4] + ".png", "fullpath": str(path)}
        return below, {"gifs": [{**place, **more}]}
    return below, {"images": [place], "animated": [True]}


def save_image(node: Mapping[str, Any], spec: ClipSpec, folders: Folders, prefix: str) -> dict[str, Any]:
    """Writes the clip's first frame as PNG; returns what the node shows."""
    temporary = node["class_type"] == "PreviewImage"
    folder = folders.temp if temporary else folders.output
    asked = "ComfyUI_temp" if temporary else expand_prefix(prefix, spec.width, spec.height)
    path, name, subfolder = next_name(folder, asked, "_.png")
    ok, data = cv2.imencode(".png", cv2.cvtColor(still_picture(spec), cv2.COLOR_RGB2BGR))
    if not ok:
        raise OSError(f"could not code {name}")
    path.write_bytes(data.tobytes())
    return {"images": [{"filename": name, "subfolder": subfolder, "type": "temp" if temporary else "output"}]}
