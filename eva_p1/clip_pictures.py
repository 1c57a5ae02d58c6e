"""The thumbnail and the filmstrip of a clip, taken from the frames of the measuring pass, and its series as a file.

The filmstrip is one JPEG, a table of cells read row by row: one cell a frame for clips of up to 81 frames, else 81 spread over
the clip. ``frames`` tells which frame each cell shows, so that a scrub bar can jump to it. The scrub strip is ten of them in a row,
from the first to the last.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from eva_env_base import ClipError

from .decode import ClipInfo

Picture = NDArray[np.uint8]

CELLS, COLUMNS, SCRUB_CELLS = 81, 9, 10
CELL_LONG = 160  # pixels on the longer side of a cell
THUMB_LONG = 320  # pixels on the longer side of the thumbnail
THUMB_AT = 0.35  # of the clip: past a fade-in, before the end
JPEG_QUALITY = 85


@dataclass
class PictureTaker:
    """Collects small copies while a clip is read; :meth:`write` makes the files."""

    folder: Path
    cells: dict[int, Picture] = field(default_factory=dict)
    thumbnail: Picture | None = None
    _stride: int = 1
    _wanted: frozenset[int] = frozenset()

    def take(self, index: int, frame: av.VideoFrame, info: ClipInfo) -> None:
        """Looks at one frame; ``index`` counts from 0."""
        promised = info.header_frames
        if index == 0:
            self._stride = max(1, promised // CELLS)
            self._wanted = frozenset(int(number) for number in np.linspace(0, max(0, promised - 1), CELLS).round())
        # The promised frames are picked exactly; where the header promised too little, or nothing, every n-th goes on.
        if index in self._wanted or (index >= promised and index % self._stride == 0):
            self.cells[index] = shrunk(frame, CELL_LONG)
            if len(self.cells) > 2 * CELLS:
                self._stride *= 2
                self.cells = dict(list(self.cells.items())[::2])
        # Without a promised length, frames 0, 1, 2, 4, 8 ... each replace the one before: the last lies past the middle.
        chosen = index == round(THUMB_AT * (promised - 1)) if promised > 1 else index & (index - 1) == 0
        if index == 0 or chosen:
            self.thumbnail = shrunk(frame, THUMB_LONG)

    def write(self, clip: Path, info: ClipInfo, series: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Writes the JPEG files, complete or not at all, and tells of them; turned upright where the clip is rotated.

        ``series`` is written beside them, as JSON with the cells' frames under ``filmstrip_frames``.
        Names carry a digest of the clip's full path: clips of one name in different folders keep apart.
        Raises :class:`eva_env_base.ClipError` when the folder cannot be written.
        """
        turns = round(info.rotation / 90) % 4
        numbers = sorted(self.cells)
        if len(numbers) > CELLS:
            numbers = [numbers[round(place)] for place in np.linspace(0, len(numbers) - 1, CELLS)]
        cells = [np.rot90(self.cells[number], turns) for number in numbers]
        tall, wide = cells[0].shape[:2]
        cells = [_fitted(cell, wide, tall) for cell in cells]
        columns = min(COLUMNS, len(cells))
        sheet = np.zeros((math.ceil(len(cells) / columns) * tall, columns * wide, 3), np.uint8)
        for place, cell in enumerate(cells):
            row, column = divmod(place, columns)
            sheet[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide] = cell
        row_of_ten = np.hstack([cells[round(place)] for place in np.linspace(0, len(cells) - 1, SCRUB_CELLS)])
        stem = f"{clip.stem}-{hashlib.sha256(str(clip.resolve()).encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
        thumbnail, strip, scrub, table = (self.folder / f"{stem}.{kind}" for kind in ("thumb.jpg", "strip.jpg", "scrub.jpg", "series.json"))
        told: dict[str, Any] = {} if series is None else {"series": str(table)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_jpeg(thumbnail, np.rot90(cells[0] if self.thumbnail is None else self.thumbnail, turns))
            write_jpeg(strip, sheet)
            write_jpeg(scrub, row_of_ten)
            if series is not None:
                write_whole(table, json.dumps({**series, "filmstrip_frames": numbers}, separators=(",", ":")).encode())
        except OSError as error:
            raise ClipError(f"{clip}: its pictures cannot be written to {self.folder}: {error.strerror or error}") from error
        return told | {
            "thumbnail": str(thumbnail), "filmstrip": str(strip), "scrub_strip": str(scrub),
            "columns": columns, "cell_width": wide, "cell_height": tall,
            "frames": numbers, "seconds": [round(info.times[number], 4) for number in numbers],
        }  # fmt: skip


def shrunk(frame: av.VideoFrame, longest: int) -> Picture:
    """A copy of ``frame`` as BGR, (height, width, 3), its longer side at most ``longest``."""
    scale = min(1.0, longest / max(frame.width, frame.height))
    size = {"width": max(2, round(frame.width * scale / 2) * 2), "height": max(2, round(frame.height * scale / 2) * 2)}
    return np.asarray(frame.reformat(format="bgr24", interpolation="FAST_BILINEAR", **size).to_ndarray(), np.uint8)


def _fitted(cell: Picture, wide: int, tall: int) -> Picture:
    """``cell`` at the size of the others: a clip may change its own on the way."""
    if cell.shape[:2] == (tall, wide):
        return cell
    return np.asarray(cv2.resize(np.ascontiguousarray(cell), (wide, tall)), np.uint8)


def write_jpeg(path: Path, picture: Picture) -> None:
    """Writes ``picture`` (BGR) so that readers see the old file or the new one, never half of one. Raises ``OSError``."""
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OSError(f"no JPEG could be made of {path.name}")
    write_whole(path, data.tobytes())


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that readers see the old one or the new one, never half of one. Raises ``OSError``."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
