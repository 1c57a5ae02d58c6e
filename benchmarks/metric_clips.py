"""Clips the metric benchmarks share: photographs that come with scikit-learn, panned and encoded, and real clips where present."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests import media  # noqa: E402

REAL_CLIPS = PROJECT.parent / "shared" / "clips"
#: Clips that are themselves free of visible coding damage; ``carphone_distorted`` is not.
PRISTINE = (
    "carphone_pristine", "cogvideo_1", "cogvideo_3", "konvid_10053703034", "ltx2_teacher_1", "ltx2_student_1", "vbench_people_walking",
)  # fmt: skip


def frames_of(path: Path, first: int = 0, count: int = 12) -> list[media.Frame]:
    """``count`` frames of a clip from the ``first`` on, as RGB."""
    import av

    made: list[media.Frame] = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= first:
                made.append(frame.to_ndarray(format="rgb24"))
            if len(made) == count:
                break
    return made


def sources(count: int = 12) -> Iterator[tuple[str, list[media.Frame]]]:
    """Name and undistorted RGB frames of every source, one after another."""
    for name in media.PHOTOS:
        yield f"{name} pan", media.panned(name, count)
    yield "china zoom", media.panned("china", count, speed=0.5, zoom=1.3)
    yield "flower slow", media.panned("flower", count, size=(640, 360), speed=0.7)
    for name in PRISTINE:
        path = REAL_CLIPS / f"{name}.mp4"
        if path.is_file():
            frames = frames_of(path, 10, count)
            if frames[0].shape[0] > 720:  # half the size: the ladders below would otherwise take minutes a clip
                frames = [np.asarray(cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)) for frame in frames]
            height, width = (side // 2 * 2 for side in frames[0].shape[:2])
            yield name, [np.ascontiguousarray(frame[:height, :width]) for frame in frames]
