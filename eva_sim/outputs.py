"""File names in the output folder, as ComfyUI chooses them, and writing a clip there under fault or not."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from eva_sim.render import ClipSpec


@dataclass(frozen=True)
class Folders:
    """Where files go; all absolute and resolved."""

    output: Path
    temp: Path
    input: Path

    def of(self, kind: str) -> Path | None:
        """The folder of a ``type`` in ``/view``."""
        return {"output": self.output, "temp": self.temp, "input": self.input}.get(kind)


class OutsideOutput(Exception):
    """A prefix leads out of the output folder."""


def expand_prefix(prefix: str, width: int, height: int) -> str:
    """Replaces what the server itself replaces: ``%width% %height% %year% %month% %day% %hour% %minute% %second%``."""
    now = time.localtime()
    parts = {"year": f"{now.tm_year}", "month": f"{now.tm_mon:02}", "day": f"{now.tm_mday:02}", "hour": f"{now.tm_hour:02}"}
    parts |= {"minute": f"{now.tm_min:02}", "second": f"{now.tm_sec:02}", "width": str(width), "height": str(height)}
    for name, value in parts.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def next_name(folder: Path, prefix: str, ending: str) -> tuple[Path, str, str]:
    """The path of the next file, its name and its subfolder: ``{prefix}_{highest + 1:05}{ending}``.

    Folders in the prefix become the subfolder and are made. Raises :class:`OutsideOutput`.
    """
    target = Path(os.path.normpath(folder / os.path.normpath(prefix)))
    if os.path.commonpath([folder, target.parent]) != str(folder):
        raise OutsideOutput(
            "**** ERROR: Saving image outside the output folder is not allowed.\n"
            f" full_output_folder: {target.parent}\n         output_dir: {folder}\n"
            f"         commonpath: {os.path.commonpath([folder, target.parent])}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(re.escape(target.name) + r"_(\d+)\D", re.IGNORECASE)
    taken = [int(match.group(1)) for match in (pattern.match(path.name) for path in target.parent.iterdir()) if match]
    name = f"{target.name}_{max(taken, default=0) + 1:05}{ending}"
    subfolder = target.parent.relative_to(folder).as_posix()
    return target.parent / name, name, "" if subfolder == "." else subfolder


def spoil(path: Path, mode: str) -> None:
    """Ruins a finished file: ``truncated`` keeps 40 %, ``zero`` nothing, ``garbage`` the length but not the content."""
    data = path.read_bytes()
    if mode == "zero":
        path.write_bytes(b"")
    elif mode == "garbage":
        path.write_bytes((b"this is not a video " * (len(data) // 20 + 1))[: len(data)])
    else:
        path.write_bytes(data[: int(len(data) * 0.4)])


def describe(spec: ClipSpec) -> str:
    """One line for the log."""
    levels = ", ".join(f"{name} {level:.2f}" for name, level in spec.defects.as_dict().items() if level > 0.1)
    return f"{spec.width}x{spec.height}, {spec.frames} frames at {spec.fps:g} fps; {levels or 'no defects'}"
