"""Frames of a clip, one after another, and their planes straight from the decoder: no colour conversion where none is needed."""

from __future__ import annotations

import logging
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from eva_env_base import ClipError

log = logging.getLogger(__name__)

Luma = NDArray[np.uint8]

#: libavutil's AVCOL_RANGE_JPEG (https://ffmpeg.org/doxygen/trunk/pixfmt_8h.html): luma uses all of 0..255.
FULL_RANGE = 2

#: libavutil's AVVideoEncParams (https://ffmpeg.org/doxygen/trunk/video__enc__params_8h.html): number of blocks, offset and size
#: of a block, kind of coder and the frame's quantiser; each block ends with its own difference from that.
ENC_PARAMS, ENC_PARAMS_H264, ENC_PARAMS_MPEG = struct.Struct("@INNii"), 1, 2


@dataclass
class ClipInfo:
    """What the decoder found. Counts grow while the clip is read; nothing here comes from a header but where it says so."""

    codec: str = ""
    pixel_format: str = ""
    full_range: bool = False
    rotation: int = 0
    frames: int = 0
    damaged: int = 0
    """Packets that could not be decoded and frames the decoder marked corrupt."""
    header_frames: int = 0
    """Frames the container promises (0: it does not say)."""
    header_fps: float = 0.0
    times: list[float] = field(default_factory=list)
    """Presentation time of each frame in seconds, from 0."""
    interrupted: str = ""
    """Why reading ended early, if it did."""


def luma_of(frame: av.VideoFrame) -> Luma:
    """The luma plane of a decoded frame: uint8 (height, width), a view of the decoder's memory where it is 8-bit.

    More than 8 bits are cut to the top 8. Formats without a luma plane (RGB, palette) are converted to gray.
    """
    name = frame.format.name
    bits = _luma_bits(name)
    if bits:
        return _plane(frame.planes[0], bits, name)
    return np.asarray(frame.reformat(format="gray").to_ndarray(), np.uint8)


@cache
def _luma_bits(name: str) -> int:
    """Bits of a luma sample where the pixel format ``name`` keeps luma in a plane of its own, else 0."""
    shape = av.VideoFormat(name)
    component, others = shape.components[0], shape.components[1:]
    alone = component.is_luma and component.plane == 0 and all(other.plane != 0 for other in others)  # not packed, as YUYV is
    return int(component.bits) if alone and not shape.is_rgb and not shape.has_palette and 8 <= component.bits <= 16 else 0


def _plane(plane: av.video.plane.VideoPlane, bits: int, name: str) -> Luma:
    """A plane with one component as uint8, its padding cut off; more than 8 bits lose their lowest."""
    if bits == 8:
        return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
    kind = np.uint16 if name.endswith("be") == (sys.byteorder == "big") else np.dtype(np.uint16).newbyteorder()
    wide = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // 2)[: plane.height, : plane.width]
    # P010 and its kin keep their bits at the top of the word; planar formats at the bottom.
    drop = 8 if name.startswith(("p0", "p2", "p4")) else bits - 8
    return np.right_shift(wide, drop).astype(np.uint8)


def chroma_of(frame: av.VideoFrame) -> tuple[Luma, Luma] | None:
    """The two colour-difference planes, uint8 with 128 as neutral, at their own size; ``None`` where there are none apart."""
    name = frame.format.name
    bits = _chroma_bits(name)
    if not bits:
        return None
    _, blue, red = frame.planes[:3]
    return _plane(blue, bits, name), _plane(red, bits, name)


@cache
def _chroma_bits(name: str) -> int:
    """Bits of a colour-difference sample where the pixel format ``name`` keeps these in the second and third plane, else 0."""
    shape = av.VideoFormat(name)
    if shape.is_rgb or len(shape.components) < 3 or not 8 <= shape.components[0].bits <= 16:
        return 0
    return int(shape.components[1].bits) if [part.plane for part in shape.components[1:3]] == [1, 2] else 0


def quantiser_step_of(frame: av.VideoFrame) -> float | None:
    """Mean step, in luma codes, at which the blocks of a frame were quantised; ``None`` where the decoder does not tell.

    H.264 (ITU-T H.264, 8.5.9): 2 ** ((QP - 4) / 6). MPEG-1, -2 and -4: twice the quantiser scale, which is what the decoder
    reports. Needs a decoder opened by :func:`read_frames`, which asks for it.
    """
    data: Any = frame.side_data.get("VIDEO_ENC_PARAMS")  # by name: what the container yields differs between PyAV releases
    if data is None:
        return None
    held = memoryview(data)
    if len(held) < ENC_PARAMS.size:
        return None
    blocks, offset, size, kind, frame_qp = ENC_PARAMS.unpack_from(held)
    if kind not in (ENC_PARAMS_H264, ENC_PARAMS_MPEG) or size != 20 or offset % 4 or len(held) < offset + blocks * size:
        return None
    table = np.frombuffer(held, np.int32, count=blocks * size // 4, offset=offset).reshape(blocks, size // 4)
    quantiser = frame_qp + (float(table[:, -1].mean()) if blocks else 0.0)
    return float(2.0 ** ((quantiser - 4.0) / 6.0)) if kind == ENC_PARAMS_H264 else float(quantiser)


def _is_full_range(frame: av.VideoFrame) -> bool:
    name = frame.format.name
    if name.startswith("yuvj") or frame.format.is_rgb or frame.format.has_palette:
        return True  # converted to gray, which is full range
    return int(frame.color_range) == FULL_RANGE or (name.startswith("gray") and int(frame.color_range) == 0)


def check_file(path: Path) -> None:
    """Raises :class:`ClipError` unless ``path`` is a readable, non-empty regular file."""
    try:
        if not path.exists():
            raise ClipError(f"{path}: no such clip")
        if not path.is_file():
            raise ClipError(f"{path}: not a file")
        if path.stat().st_size == 0:
            raise ClipError(f"{path}: the file is empty (was it still being written, or did the disk fill up?)")
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise ClipError(f"{path!s}: cannot be read: {error}") from error


def read_frames(path: Path, info: ClipInfo, time_limit_s: float, clock: Callable[[], float] = time.monotonic) -> Iterator[av.VideoFrame]:
    """Yields every decodable frame of the first video stream, filling ``info`` on the way; see :func:`luma_of`.

    Views of a frame's planes are valid until the next frame is asked for. One decoding thread. Damaged packets are counted and skipped.
    Raises :class:`ClipError`: missing, empty, not a video, nothing decodable, or slower than ``time_limit_s``.
    """
    check_file(path)
    deadline = clock() + time_limit_s
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ClipError(f"{path}: not a video that can be opened ({_reason(error)})") from error
    with container:
        if not container.streams.video:
            raise ClipError(f"{path}: holds no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ClipError(f"{path}: no decoder for its video stream")
        stream.thread_type = "NONE"  # one thread a clip: several clips are scored side by side
        stream.codec_context.options = {"export_side_data": "venc_params"}  # for quantiser_step_of(); costs nothing measurable
        info.codec = stream.codec_context.name
        info.header_frames = int(stream.frames or 0)
        info.header_fps = float(stream.average_rate or 0)
        for frame in _frames(container, stream, info):
            if clock() > deadline:
                raise ClipError(f"{path}: measuring took longer than the limit of {time_limit_s:g} s ({info.frames} frames read)")
            if info.frames == 0:
                info.pixel_format, info.full_range = frame.format.name, _is_full_range(frame)
                info.rotation = int(getattr(frame, "rotation", 0) or 0) % 360  # PyAV 14 and newer tell
            info.times.append(float(frame.time) if frame.time is not None else float("nan"))
            info.frames += 1
            yield frame
    if info.frames == 0:
        why = info.interrupted or (f"{info.damaged} damaged packets" if info.damaged else "the stream is empty")
        raise ClipError(f"{path}: no frame could be decoded ({why})")
    info.times = _clean_times(info)


def _frames(container: av.container.InputContainer, stream: av.VideoStream, info: ClipInfo) -> Iterator[av.VideoFrame]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, OSError) as error:
            info.interrupted = f"reading stopped: {_reason(error)}"
            return
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            info.damaged += 1
            log.debug("damaged packet: %s", error)
            continue
        for frame in frames:
            if frame.is_corrupt:
                info.damaged += 1
            yield frame


def _clean_times(info: ClipInfo) -> list[float]:
    """Seconds from the first frame; frames without or with a falling time stamp follow at the mean distance."""
    step = 1.0 / info.header_fps if info.header_fps > 0 else 1.0 / 25
    given = np.asarray(info.times, dtype=float)
    if np.isnan(given).any() or np.any(np.diff(given) <= 0):
        return [index * step for index in range(info.frames)]
    return [float(value) for value in given - given[0]]


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__
