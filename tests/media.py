"""Clips for tests and benchmarks, made from the photographs that come with scikit-learn: panned, distorted, encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
PHOTOS = ("china", "flower")


@cache
def photo(name: str) -> Frame:
    """The photograph as RGB uint8, (427, 640, 3): ``china`` (a temple, much detail) or ``flower`` (soft background)."""
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image(f"{name}.jpg"))


def panned(name: str, frames: int = 24, size: tuple[int, int] = (480, 320), speed: float = 2.0, zoom: float = 1.0) -> list[Frame]:
    """A camera move over a photograph: ``speed`` source pixels a frame, ``zoom`` times larger at the end; RGB frames."""
    source = photo(name)
    height, width = source.shape[:2]
    crop_width = min(width * 0.8, height * 0.95 * size[0] / size[1])
    made = []
    for index in range(frames):
        scale = 1.0 / (1.0 + (zoom - 1.0) * index / max(1, frames - 1))
        wide = crop_width * scale
        tall = wide * size[1] / size[0]
        room_x, room_y = width - wide, height - tall
        along = (index * speed) % (2 * room_x) if room_x > 0 else 0.0
        left = along if along <= room_x else 2 * room_x - along  # to and fro, so that long pans stay inside
        matrix = np.array([[wide / size[0], 0, left], [0, tall / size[1], room_y / 2]])
        moved = cv2.warpAffine(source, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT)
        made.append(np.asarray(moved, np.uint8))
    return made


def encode(
    path: Path,
    frames: Iterable[Frame],
    fps: float = 24,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
) -> Path:
    """Writes RGB (or gray) frames; near lossless H.264 unless told otherwise. ``times``: presentation in milliseconds."""
    if options is None:
        options = {"crf": "10", "preset": "veryfast"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, pixels in enumerate(frames):
            if index == 0:
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = pixel_format
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="gray" if pixels.ndim == 2 else "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def each(frames: list[Frame], change: Callable[[Frame, int], NDArray[np.floating] | Frame]) -> list[Frame]:
    """Every frame through ``change(frame, index)``, rounded and clipped to 0..255."""
    return [np.clip(np.rint(change(frame, index)), 0, 255).astype(np.uint8) for index, frame in enumerate(frames)]


def blurred(frames: list[Frame], sigma: float) -> list[Frame]:
    """Gaussian blur of ``sigma`` pixels."""
    return each(frames, lambda frame, _: cv2.GaussianBlur(frame, (0, 0), sigma) if sigma > 0 else frame)


def noisy(frames: list[Frame], deviation: float, seed: int = 5) -> list[Frame]:
    """White luma noise of the given standard deviation in codes."""
    rng = np.random.default_rng(seed)
    return each(frames, lambda frame, _: frame + rng.normal(0, deviation, frame.shape[:2])[..., None])


def flickering(frames: list[Frame], amplitude: float, seed: int = 7) -> list[Frame]:
    """Each frame's brightness times 1 +- ``amplitude``, drawn frame by frame."""
    gains = 1 + amplitude * np.random.default_rng(seed).uniform(-1, 1, len(frames))
    return each(frames, lambda frame, index: frame * gains[index])


def exposed(frames: list[Frame], shift: float) -> list[Frame]:
    """Brightness moved by ``shift`` codes, clipped."""
    return each(frames, lambda frame, _: frame.astype(np.float64) + shift)


def rescaled(frames: list[Frame], factor: float) -> list[Frame]:
    """Frames resampled to ``factor`` times the size (even sides)."""
    height, width = frames[0].shape[:2]
    size = (int(width * factor) // 2 * 2, int(height * factor) // 2 * 2)
    return [
        np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC), np.uint8) for frame in frames
    ]


def decoded(path: Path) -> list[Frame]:
    """All frames of a clip as RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
