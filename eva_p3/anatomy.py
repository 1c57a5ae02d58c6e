"""``anatomy_score``: do bodies keep their build, and are their two sides alike?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import mediapipe_models
from .detection_types import Detection, Finding, Rgb, Sample, absent, falling

# mediapipe's pose landmarks: https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker
BONES = {
    "upper_arm": ((11, 13), (12, 14)),
    "forearm": ((13, 15), (14, 16)),
    "thigh": ((23, 25), (24, 26)),
    "shin": ((25, 27), (26, 28)),
    "side": ((11, 23), (12, 24)),
}
VISIBLE = 0.6
CHANGE_HALF, CHANGE_STEEP = 0.20, 2.0  # log change of a bone's length between neighbouring frames
SIDES_HALF, SIDES_STEEP = 0.45, 3.0  # log ratio of left to right, in world coordinates (perspective taken off)

World = NDArray[np.float64]


class Anatomy:
    """Pose landmarks in world coordinates: bones keep their length from frame to frame, and left matches right.

    Only bones whose both ends are seen count. mediapipe's model assumes a human build and mends small faults itself, so that
    a high score is weak evidence and a low one strong.
    """

    metric = "anatomy_score"

    def unavailable(self) -> str:
        return mediapipe_models.why_not()

    def detect(self, samples: Sequence[Sample]) -> Detection:
        try:
            poses = mediapipe_models.solution("pose")
        except (ImportError, AttributeError, OSError) as error:
            return absent(f"mediapipe cannot be loaded: {error}")
        scores: list[float] = []
        changes: list[float] = []
        sides: list[float] = []
        findings: list[Finding] = []
        with poses.Pose(static_image_mode=True, model_complexity=1, min_detection_confidence=0.5) as model:
            for sample in samples:
                body = _body(model, sample.rgb)
                if body is None:
                    continue
                uneven = side_difference(*body)
                later = _body(model, sample.rgb_next) if sample.rgb_next is not None else None
                change = length_change(body, later) if later is not None else None
                if uneven is None and change is None:
                    continue
                score = 1.0
                if uneven is not None:
                    sides.append(uneven)
                    score *= falling(uneven, SIDES_HALF, SIDES_STEEP)
                if change is not None:
                    changes.append(change)
                    score *= falling(change, CHANGE_HALF, CHANGE_STEEP)
                scores.append(score)
                if score < 0.4:
                    findings.append(Finding("odd_anatomy", sample.seconds, sample.seconds, sample.index, 1 - score, self.metric))
        if not scores:
            return absent("no body in the clip of which enough is seen")
        raw: dict[str, Any] = {
            "bodies": len(scores),
            "length_change": float(np.mean(changes)) if changes else None,
            "side_difference": float(np.mean(sides)) if sides else None,
        }
        return Detection(float(np.mean(scores)), raw=raw, findings=findings)


def _body(model: Any, rgb: Rgb) -> tuple[World, NDArray[np.float64]] | None:
    """(landmarks in metres (33, 3), visibility (33,)), or ``None`` where nobody is seen."""
    answer = model.process(np.ascontiguousarray(rgb))
    if answer.pose_world_landmarks is None:
        return None
    points = answer.pose_world_landmarks.landmark
    return np.array([(one.x, one.y, one.z) for one in points]), np.array([one.visibility for one in points])


def bone_lengths(points: World, seen: NDArray[np.float64]) -> dict[tuple[str, int], float]:
    """Length in metres by (bone, side) of the bones whose both ends are seen."""
    lengths = {}
    for bone, both in BONES.items():
        for side, (start, end) in enumerate(both):
            if min(seen[start], seen[end]) >= VISIBLE:
                lengths[bone, side] = float(np.linalg.norm(points[start] - points[end]))
    return lengths


def side_difference(points: World, seen: NDArray[np.float64]) -> float | None:
    """Mean |log(left / right)| over bones seen on both sides; ``None`` with fewer than two such bones."""
    lengths = bone_lengths(points, seen)
    ratios = [
        abs(float(np.log(max(lengths[bone, 0], 1e-3) / max(lengths[bone, 1], 1e-3))))
        for bone in BONES
        if (bone, 0) in lengths and (bone, 1) in lengths
    ]
    return float(np.mean(ratios)) if len(ratios) >= 2 else None


def length_change(first: tuple[World, NDArray[np.float64]], second: tuple[World, NDArray[np.float64]]) -> float | None:
    """Mean |log(after / before)| of the bones seen in both frames; ``None`` with fewer than three."""
    before, after = bone_lengths(*first), bone_lengths(*second)
    both = [key for key in before if key in after]
    if len(both) < 3:
        return None
    return float(np.mean([abs(np.log(max(after[key], 1e-3) / max(before[key], 1e-3))) for key in both]))
