"""The one pass over a clip: what each frame leaves behind for judging, and for the pictures where they are wanted.

Every frame pays for its decoding, a thinned copy and a grid of block means; exposure, sharpness, blocks, noise and colour are
looked at in a bounded number of frames spread over the clip.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from eva_env_base import ClipError

from . import frame_measures as spatial
from .analysis_config import AnalysisConfig
from .clip_pictures import PictureTaker
from .decode import ClipInfo, Luma, chroma_of, luma_of, quantiser_step_of, read_frames

Item = TypeVar("Item")


class Spread(Generic[Item]):
    """Keeps between ``most`` and twice as many items, evenly spread over a clip whose length is known only at its end."""

    def __init__(self, most: int, promised: int):
        self.most = most
        self.held: dict[int, Item] = {}
        # The header's count only spreads the samples; when it lies, thinning keeps them spread.
        self._stride = max(1, math.ceil(promised / most))

    def wants(self, index: int) -> bool:
        """True when the frame ``index`` is to be kept. The first is always: no other may come, and it is the one coded by itself."""
        return index == 0 or index % self._stride == self._stride // 2

    def keep(self, index: int, item: Item) -> None:
        """Holds ``item`` of frame ``index``; when there are too many, every second one is let go."""
        self.held[index] = item
        if len(self.held) >= 2 * self.most:
            self._stride *= 2
            self.held = dict(list(self.held.items())[::2])


@dataclass(frozen=True)
class Sampled:
    """Measures of one frame at full resolution."""

    edges: spatial.EdgeEnergy | None
    noise: float
    columns: NDArray[np.float64]
    rows: NDArray[np.float64]
    pure_colour: float | None
    quantiser: float | None
    """Step of its blocks in luma codes, where the decoder tells."""


@dataclass
class Gathered:
    """What one pass over a clip leaves behind.

    ``cells``: block means in luma codes, one grid a frame; ``exposed``: histograms (256 shares); ``brightest``: the brightest code
    each place of the thinned frames had.
    """

    info: ClipInfo = field(default_factory=ClipInfo)
    height: int = 0
    width: int = 0
    cells: list[NDArray[np.uint8]] = field(default_factory=list)
    cell_pixels: float = 1.0
    brightest: Luma = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    exposed: list[NDArray[np.float64]] = field(default_factory=list)
    sampled: list[Sampled] = field(default_factory=list)


def read_clip(
    clip: Path, config: AnalysisConfig, clock: Callable[[], float] = time.monotonic, pictures: PictureTaker | None = None
) -> Gathered:
    """Reads the clip once. Raises :class:`eva_env_base.ClipError` where it cannot be measured; see :func:`.decode.read_frames`."""
    gathered = Gathered()
    info = gathered.info
    exposed: Spread[NDArray[np.float64]] = Spread(config.exposure_frames, 0)
    sampled: Spread[Sampled] = Spread(config.sampled_frames, 0)
    buffers, looked = spatial.Buffers(), -2
    for index, frame in enumerate(read_frames(clip, info, config.time_limit_s, clock)):
        luma = luma_of(frame)
        if looked == index - 1:
            # PyAV's side data and its frame refer to each other: until they are collected each keeps a whole picture in
            # memory. They are of the youngest generation here, whose collection takes microseconds; what it spares, as this
            # frame, grows older, so that the next one's side data must not be asked for.
            gc.collect(0)
        if index >= config.max_frames:
            raise ClipError(f"{clip}: more than {config.max_frames} frames; this measures short generated clips")
        if index == 0:
            gathered.height, gathered.width = luma.shape
            exposed, sampled = Spread(config.exposure_frames, info.header_frames), Spread(config.sampled_frames, info.header_frames)
        elif luma.shape != (gathered.height, gathered.width):
            resized = cv2.resize(np.ascontiguousarray(luma), (gathered.width, gathered.height), interpolation=cv2.INTER_AREA)
            luma = np.asarray(resized, np.uint8)
        sparse = spatial.thin(luma, config.sparse_width)
        cells, gathered.cell_pixels = spatial.block_means(sparse, config.grid_cells)
        gathered.cells.append(cells)
        if exposed.wants(index):
            exposed.keep(index, spatial.histogram(sparse[::2]))
            gathered.brightest = np.maximum(gathered.brightest, sparse) if gathered.brightest.size else sparse
        if sampled.wants(index):
            step = None
            if index - looked >= 2:
                step, looked = quantiser_step_of(frame), index
            sampled.keep(index, measure_frame(luma, sparse, frame, step, config, buffers))
        if pictures is not None:
            pictures.take(index, frame, info)
    gathered.exposed, gathered.sampled = list(exposed.held.values()), list(sampled.held.values())
    return gathered


def measure_frame(
    luma: Luma, sparse: Luma, frame: av.VideoFrame, step: float | None, config: AnalysisConfig, buffers: spatial.Buffers
) -> Sampled:
    """What is looked at in a few frames only, at full resolution."""
    columns, rows = np.zeros((0, 0)), np.zeros((0, 0))
    if min(luma.shape) >= spatial.MIN_SIDE:
        columns, rows = spatial.step_profiles(luma, config.block_step_caps)
    tiles = spatial.busiest_tiles(luma, sparse)
    noise = spatial.noise_sigma(tiles, buffers) if min(luma.shape) >= 3 else 0.0
    chroma = chroma_of(frame)
    pure = None if chroma is None else spatial.pure_colour_share(*chroma, config.pure_colour)
    return Sampled(spatial.edge_energy(tiles, config, noise, buffers), noise, columns, rows, pure, step)
