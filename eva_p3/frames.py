"""Samples frames of a clip for the detectors: pairs of neighbours, spread evenly, in one decoding pass.

The fast analysis has its own reader of luma planes; the two rooms do not import each other, and this one needs colour,
pairs and three sizes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from eva_env_base import ClipError

from .detection_types import Gray, Rgb, Sample


@dataclass(frozen=True)
class SamplingPlan:
    """How many pairs, at which sizes. ``time_limit_s`` bounds decoding."""

    pairs: int = 8
    rgb_side: int = 960
    flow_side: int = 384
    time_limit_s: float = 120.0


@dataclass
class _Open:
    """A sampled frame that still waits for the one after it."""

    index: int
    seconds: float
    luma: Gray
    rgb: Rgb
    small: Gray
    small_next: Gray | None = None
    rgb_next: Rgb | None = None

    def closed(self) -> Sample:
        return Sample(self.index, self.seconds, self.luma, self.rgb, self.small, self.small_next, self.rgb_next)


def sample_frames(
    path: Path, plan: SamplingPlan | None = None, clock: Callable[[], float] = time.monotonic
) -> tuple[list[Sample], dict[str, float | int]]:
    """(samples in order, ``{"frames", "width", "height", "seconds"}``). Raises :class:`ClipError` with the reason."""
    plan = plan or SamplingPlan()
    try:
        if not path.is_file():
            raise ClipError(f"{path}: no such clip" if not path.exists() else f"{path}: not a file")
        if path.stat().st_size == 0:
            raise ClipError(f"{path}: the file is empty")
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClipError(f"{path}: not a video that can be opened ({reason})") from error
    taken: list[_Open] = []
    count, damaged = 0, 0
    first = last = 0.0
    size = (0, 0)
    deadline = clock() + plan.time_limit_s
    with container:
        if not container.streams.video:
            raise ClipError(f"{path}: holds no video stream")
        stream = container.streams.video[0]
        stride = max(1, math.ceil(int(stream.frames or 0) / plan.pairs))
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                break
            except (av.error.FFmpegError, OSError, ValueError):
                damaged += 1
                if damaged > 1000:
                    break
                continue
            for frame in frames:
                if clock() > deadline:
                    raise ClipError(f"{path}: deep analysis read for longer than {plan.time_limit_s:g} s")
                moment = float(frame.time) if frame.time is not None else last
                first = moment if count == 0 else first
                last = moment
                if count == 0:
                    size = (frame.width, frame.height)
                if taken and taken[-1].index == count - 1 and taken[-1].small_next is None:
                    taken[-1].small_next = _small(_luma(frame), plan.flow_side, taken[-1].small.shape)
                    taken[-1].rgb_next = _rgb(frame, plan.rgb_side)
                if count % stride == 0:
                    luma = _luma(frame)
                    taken.append(_Open(count, moment - first, luma, _rgb(frame, plan.rgb_side), _small(luma, plan.flow_side)))
                    if len(taken) > 2 * plan.pairs:  # the header promised fewer frames: keep every other sample
                        stride *= 2
                        taken = [item for item in taken if item.index % stride == 0]
                count += 1
    if not taken:
        raise ClipError(f"{path}: no frame could be decoded")
    seconds = (last - first) * count / (count - 1) if count > 1 else 0.0
    facts: dict[str, float | int] = {"frames": count, "width": size[0], "height": size[1], "seconds": round(seconds, 4)}
    return [item.closed() for item in taken], facts


def _luma(frame: av.VideoFrame) -> Gray:
    return np.asarray(frame.to_ndarray(format="gray"), np.uint8)


def _rgb(frame: av.VideoFrame, side: int) -> Rgb:
    factor = min(1.0, side / max(frame.width, frame.height))
    width, height = max(1, round(frame.width * factor)), max(1, round(frame.height * factor))
    return np.asarray(frame.to_ndarray(format="rgb24", width=width, height=height), np.uint8)


def _small(luma: Gray, side: int, shape: tuple[int, ...] | None = None) -> Gray:
    """About ``side`` pixels on the longer side (never enlarged), or exactly ``shape``."""
    if shape is None:
        factor = min(1.0, side / max(luma.shape))
        shape = (max(1, round(luma.shape[0] * factor)), max(1, round(luma.shape[1] * factor)))
    if shape == luma.shape:
        return luma
    return np.asarray(cv2.resize(luma, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
