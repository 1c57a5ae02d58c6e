"""Renders a clip: scene -> defects -> H.264 mp4, frame by frame, and small preview pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from eva_sim.damage import Damage
from eva_sim.scene import Scene
from eva_sim.surface import Defects, stable_rng

log = logging.getLogger(__name__)

Picture = NDArray[np.uint8]
CRF = 17  # nearly transparent: what can be seen is meant, not the encoder's
PREVIEW_SIDE = 256


class RenderCancelled(Exception):
    """The clip is no longer wanted."""


@dataclass(frozen=True)
class ClipSpec:
    """Everything a clip's pixels depend on. Equal specs give equal clips."""

    prompt: str
    seed: int
    width: int
    height: int
    frames: int
    fps: float
    defects: Defects = field(default_factory=Defects)
    mark: bool = True  # a faint "SIM" in the corner

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.fps


def frames_of(spec: ClipSpec) -> Iterator[Picture]:
    """Yields the clip's frames in order, each (height, width, 3) ``uint8`` RGB; never more than one is held."""
    scene = Scene(spec.prompt, spec.seed, spec.width, spec.height, spec.seconds)
    rng = stable_rng("damage", spec.seed, spec.prompt)
    damage = Damage(spec.defects, spec.width, spec.height, spec.frames, rng)
    stamp = _stamp(spec.width, spec.height) if spec.mark else None
    moment, drawn = -1.0, None
    for index in range(spec.frames):
        wanted = damage.moment(index)
        if drawn is None or wanted != moment:
            moment, drawn = wanted, scene.frame(wanted)
        picture = damage.apply(drawn, index)
        if stamp is not None:
            x, y, cover = stamp
            place = picture[y : y + cover.shape[0], x : x + cover.shape[1]]
            place[:] = (place * (1 - cover) + 235 * cover).astype(np.uint8)
        yield picture


def _stamp(width: int, height: int) -> tuple[int, int, NDArray[np.float32]] | None:
    """Place and coverage of the corner mark, or ``None`` where the picture is too small to carry it."""
    scale = max(0.28, min(width, height) / 900)
    (w, h), _ = cv2.getTextSize("SIM", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    if width < 4 * w or height < 6 * h:
        return None
    mask = np.zeros((h + 4, w + 4), np.uint8)
    cv2.putText(mask, "SIM", (2, h + 1), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1, cv2.LINE_AA)
    cover: NDArray[np.float32] = (mask.astype(np.float32) * np.float32(0.4 / 255))[..., None]
    return width - w - 6, height - h - 6, cover


def render_clip(
    spec: ClipSpec, path: Path, metadata: Mapping[str, Any] | None = None, cancelled: Callable[[], bool] = lambda: False
) -> Path:
    """Writes the clip as H.264, yuv420p, with the index before the data, so that browsers play it while it loads.

    ``metadata``: JSON values stored in the file, as ComfyUI stores ``prompt`` and ``workflow``.
    Raises :class:`RenderCancelled` as soon as ``cancelled()`` is true (the partial file is removed), ``OSError`` when the
    file cannot be written.
    """
    rate = Fraction(spec.fps).limit_denominator(1001)
    container = av.open(str(path), mode="w", format="mp4", options={"movflags": "use_metadata_tags+faststart"})
    finished = False
    try:
        container.metadata["comment"] = "EVA simulator: a simulated clip, no model made it"
        for key, value in (metadata or {}).items():
            container.metadata[key] = json.dumps(value)
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "yuv420p"
        stream.options = {"crf": str(CRF), "preset": "veryfast", "profile": "high", "threads": "1"}
        for picture in frames_of(spec):
            if cancelled():
                raise RenderCancelled(str(path))
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
        finished = True
    finally:
        container.close()
        if not finished:
            path.unlink(missing_ok=True)
    return path


class PreviewMaker:
    """Small JPEG pictures of a clip on its way from noise to picture."""

    def __init__(self, spec: ClipSpec):
        factor = min(1.0, PREVIEW_SIDE / max(spec.width, spec.height))
        self._size = (max(16, round(spec.width * factor)), max(16, round(spec.height * factor)))
        scene = Scene(spec.prompt, spec.seed, *self._size, spec.seconds)
        self._picture = scene.frame(0.5)
        self._noise = stable_rng("preview", spec.seed).integers(0, 256, self._picture.shape, dtype=np.uint8)

    def jpeg(self, progress: float) -> bytes:
        """The picture at ``progress`` in [0, 1]: 0 is noise, 1 is clear."""
        share = min(1.0, max(0.0, progress)) ** 0.7
        soft: Any = self._picture
        if share < 0.98:
            soft = cv2.GaussianBlur(soft, (0, 0), 0.3 + 5 * (1 - share))
        mixed = cv2.addWeighted(soft, share, self._noise, 1 - share, 0)
        ok, data = cv2.imencode(".jpg", cv2.cvtColor(mixed, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
        if not ok:
            raise RuntimeError("OpenCV could not code a preview as JPEG")
        return bytes(data.tobytes())


def still_picture(spec: ClipSpec) -> Picture:
    """The clip's first frame, for nodes that save images."""
    return next(frames_of(spec))
