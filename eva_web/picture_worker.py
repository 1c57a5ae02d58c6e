"""The helper process that decodes clips: into JPEG pictures, a series of measurements a frame, and the workflow stored in the file.

One JSON job a line in, one JSON answer a line out. Job ``{"kind": "thumb" | "filmstrip" | "series" | "workflow", "source",
"target"}``; answer ``{"width", "height"}`` or ``{"error"}``. It ends when its
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
SERIES_FRAMES, SERIES_WIDTH = 2000, 160
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


def series(source: str) -> dict[str, Any]:
    """``{"fps", "seconds", "brightness", "change", "detail", "cut"}``, a value a frame, in [0,1]; ``seconds`` is each frame's time.

    Over a small grey picture: ``brightness`` is its mean; ``change`` the mean difference from the frame before, so that a freeze is 0
    and a flash a peak; ``detail`` the mean difference between neighbouring pixels, which blur lowers. ``cut``: the clip goes on.
    """
    import av
    import numpy

    seconds: list[float] = []
    found: dict[str, list[float]] = {"brightness": [], "change": [], "detail": []}
    before: Any = None
    with av.open(source, mode="r") as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        fps = float(stream.average_rate or 0) or 16.0
        for number, frame in enumerate(container.decode(stream)):
            if number >= SERIES_FRAMES:
                break
            width = min(SERIES_WIDTH, even(frame.width))
            grey = frame.reformat(width=width, height=even(width * frame.height / frame.width), format="gray").to_ndarray()
            pixels = grey.astype(numpy.float32) / 255
            seconds.append(round(frame.time if frame.time is not None else number / fps, 4))
            found["brightness"].append(float(pixels.mean()))
            found["change"].append(0.0 if before is None or before.shape != pixels.shape else float(numpy.abs(pixels - before).mean()))
            sides = (numpy.abs(numpy.diff(pixels, axis=0)).mean(), numpy.abs(numpy.diff(pixels, axis=1)).mean())
            found["detail"].append(float(sum(sides) / 2))
            before = pixels
    if not seconds:
        raise ValueError("no frame can be decoded")
    rounded = {name: [round(value, 5) for value in values] for name, values in found.items()}
    return {"fps": round(fps, 4), "seconds": seconds, **rounded, "cut": len(seconds) >= SERIES_FRAMES}


def workflow(source: str) -> dict[str, Any]:
    """What ComfyUI stored in the file: ``workflow`` (as its editor opens it) and ``prompt`` (what ran), each where it is there."""
    import av

    with av.open(source, mode="r") as container:
        texts = {name.lower(): text for name, text in container.metadata.items()}
    if isinstance(texts.get("comment"), str) and texts["comment"].lstrip().startswith("{"):  # some savers put both into the comment
        try:
            texts = {**json.loads(texts["comment"]), **texts}
        except ValueError:
            pass  # a comment that only looks like JSON
    found = {}
    for name in ("workflow", "prompt"):
        value = texts.get(name)
        try:
            parsed = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            continue
        if isinstance(parsed, dict):
            found[name] = parsed
    return found


def make(kind: str, source: str, target: Path) -> tuple[int, int]:
    """Writes the picture; ``(width, height)`` in pixels."""
    import numpy

    if kind in ("series", "workflow"):
        made = series(source) if kind == "series" else workflow(source)
        target.write_text(json.dumps(made, separators=(",", ":")), encoding="utf-8")
        return 0, 0
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
