"""The helper process that decodes clips into JPEG pictures: one JSON job a line in, one JSON answer a line out.

Job ``{"kind": "thumb" | "filmstrip", "source", "target"}``; answer ``{"width", "height"}`` or ``{"error"}``. It ends when its
input ends, or after ``IDLE_SECONDS`` without a job.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

IDLE_SECONDS = 120.0
THUMB_WIDTH = 320  # pixels
STRIP_FRAMES, STRIP_HEIGHT = 10, 96
THUMB_AT = 0.35  # of the clip: past a fade-in, before the end
DECODE_ALL = 400  # frames up to which a clip is decoded through; a longer one is sought in
JPEG_QSCALE = 4  # 2 (best) .. 31, FFmpeg's scale for MJPEG


def frames_at(source: str, places: list[float]) -> list[Any]:
    """The decoded frames nearest to the given places in [0,1] of the clip's length. Raises ValueError for a clip without any."""
    import av

    with av.open(source, mode="r") as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        count = stream.frames
        if 0 < count <= DECODE_ALL:
            wanted = sorted({round(place * (count - 1)) for place in places})
            kept: dict[int, Any] = {}
            last: Any = None
            for number, frame in enumerate(container.decode(stream)):
                last = frame
                if number in wanted:
                    kept[number] = frame
                if number >= wanted[-1]:
                    break
            if last is None:
                raise ValueError("no frame can be decoded")
            return [kept.get(round(place * (count - 1)), last) for place in places]
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if duration <= 0 and container.duration:
            duration = container.duration / 1_000_000
        found: list[Any] = []
        for place in places:
            if duration > 0 and stream.time_base:
                container.seek(int(Fraction(place * duration) / stream.time_base), stream=stream, backward=True)
            here: Any = next(container.decode(stream), None) or (found[-1] if found else None)
            if here is None:
                raise ValueError("no frame can be decoded")
            found.append(here)
        return found


def scaled(frame: Any, width: int, height: int) -> Any:
    return frame.reformat(width=width, height=height, format="rgb24").to_ndarray()


def write_jpeg(pixels: Any, target: Path) -> None:
    """``pixels``: uint8 (height, width, 3), RGB."""
    import av

    height, width = pixels.shape[:2]
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height = width, height  # type: ignore[attr-defined]
    codec.pix_fmt = "yuvj420p"  # type: ignore[attr-defined]
    codec.time_base = Fraction(1, 25)
    codec.options = {"qmin": str(JPEG_QSCALE), "qmax": str(JPEG_QSCALE)}
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuvj420p", dst_color_range="JPEG")
    packets = [*codec.encode(frame), *codec.encode(None)]  # type: ignore[attr-defined]
    target.write_bytes(b"".join(bytes(packet) for packet in packets))


def even(number: float) -> int:
    return max(2, int(round(number / 2)) * 2)


def make(kind: str, source: str, target: Path) -> tuple[int, int]:
    """Writes the picture; ``(width, height)`` in pixels."""
    import numpy

    if kind == "thumb":
        frame = frames_at(source, [THUMB_AT])[0]
        width = min(THUMB_WIDTH, even(frame.width))
        pixels = scaled(frame, width, even(width * frame.height / frame.width))
    elif kind == "filmstrip":
        frames = frames_at(source, [number / (STRIP_FRAMES - 1) for number in range(STRIP_FRAMES)])
        width = min(even(STRIP_HEIGHT * frames[0].width / frames[0].height), 4 * STRIP_HEIGHT)
        pixels = numpy.ascontiguousarray(numpy.hstack([scaled(frame, width, STRIP_HEIGHT) for frame in frames]))
    else:
        raise ValueError(f"unknown kind of picture {kind!r}")
    write_jpeg(pixels, target)
    return pixels.shape[1], pixels.shape[0]


def answer(line: str) -> dict[str, Any]:
    """The answer to one job; every failure of a decoder is one about the clip, never about the helper."""
    job = json.loads(line)
    try:
        width, height = make(job["kind"], job["source"], Path(job["target"]))
    except (OSError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:  # PyAV's errors are OSErrors and ValueErrors
        return {"error": f"{type(error).__name__}: {error}".replace(job["source"], "the file")[:300]}
    return {"width": width, "height": height}


def main() -> int:
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return 0
        if not line.strip():
            return 0
        sys.stdout.write(json.dumps(answer(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
