"""``face_quality_score``: are faces certain, sharp and steady?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from . import mediapipe_models
from .detection_types import Detection, Finding, Rgb, Sample, absent, falling

log = logging.getLogger(__name__)

MIN_FACE = 24  # pixels; smaller faces cannot be judged
JITTER_HALF, JITTER_STEEP = 0.05, 2.0  # change of shape between neighbouring frames, in face sizes
SHARP_FROM, SHARP_FULL = 0.004, 0.03  # Laplacian variance over variance, at a face width of 96 pixels


class FaceQuality:
    """Mean over faces of detector confidence x sharpness x steadiness of the face mesh.

    Steadiness: landmarks of a face in two neighbouring frames are aligned by position, size and turn (Procrustes); what
    remains is a change of shape. Speaking and blinking stay small, a melting face does not.
    """

    metric = "face_quality_score"

    def unavailable(self) -> str:
        return mediapipe_models.why_not()

    def detect(self, samples: Sequence[Sample]) -> Detection:
        try:
            meshes = mediapipe_models.solution("face_mesh")
        except (ImportError, AttributeError, OSError) as error:
            return absent(f"mediapipe cannot be loaded: {error}")
        qualities: list[float] = []
        jitters: list[float] = []
        findings: list[Finding] = []
        with meshes.FaceMesh(static_image_mode=True, max_num_faces=4, refine_landmarks=False, min_detection_confidence=0.5) as mesh:
            for sample in samples:
                faces = _faces(mesh, sample.rgb)
                later = _faces(mesh, sample.rgb_next) if faces and sample.rgb_next is not None else []
                for face in faces:
                    crop = _crop(sample.rgb, face)
                    if crop is None:
                        continue
                    sharp = _sharpness(crop)
                    partner = min(later, key=lambda other: float(np.linalg.norm(other.mean(0) - face.mean(0))), default=None)
                    steady = 1.0
                    if partner is not None:
                        change = shape_change(face, partner)
                        jitters.append(change)
                        steady = falling(change, JITTER_HALF, JITTER_STEEP)
                    quality = sharp * steady
                    qualities.append(quality)
                    if quality < 0.4:
                        findings.append(_finding(sample, face, 1 - quality))
        if not qualities:
            return absent("no face in the clip")
        raw: dict[str, Any] = {"faces": len(qualities), "shape_change": float(np.mean(jitters)) if jitters else None}
        return Detection(float(np.mean(qualities)), raw=raw, findings=findings)


def _faces(mesh: Any, rgb: Rgb) -> list[np.ndarray]:
    """Landmarks in pixels, (468, 2) a face."""
    answer = mesh.process(np.ascontiguousarray(rgb))
    height, width = rgb.shape[:2]
    found = answer.multi_face_landmarks or []
    return [np.array([(point.x * width, point.y * height) for point in face.landmark]) for face in found]


def _box(face: np.ndarray) -> tuple[float, float, float, float]:
    left, top = face.min(axis=0)
    right, bottom = face.max(axis=0)
    return float(left), float(top), float(right - left), float(bottom - top)


def _crop(rgb: Rgb, face: np.ndarray) -> np.ndarray | None:
    left, top, width, height = _box(face)
    if min(width, height) < MIN_FACE:
        return None
    crop = rgb[max(0, int(top)) : int(top + height), max(0, int(left)) : int(left + width)]
    return crop if min(crop.shape[:2]) >= MIN_FACE else None


def _sharpness(crop: np.ndarray) -> float:
    """0..1 from the Laplacian's variance over the luma's variance at a fixed width: contrast and size cancel."""
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    gray = cv2.resize(gray, (96, max(16, round(96 * gray.shape[0] / gray.shape[1]))), interpolation=cv2.INTER_AREA).astype(np.float32)
    ratio = float(cv2.Laplacian(gray, cv2.CV_32F).var() / max(1.0, float(gray.var())))
    return float(np.clip((np.log(max(ratio, 1e-6)) - np.log(SHARP_FROM)) / (np.log(SHARP_FULL) - np.log(SHARP_FROM)), 0.0, 1.0))


def shape_change(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square distance of two landmark sets (points, 2) after the best shift, turn and scale, in sizes of the first."""
    one, two = first - first.mean(axis=0), second - second.mean(axis=0)
    size = float(np.sqrt((one**2).sum(axis=1).mean()))
    if size == 0:
        return 0.0
    left, stretch, right = np.linalg.svd(two.T @ one)
    turn = left @ right
    if np.linalg.det(turn) < 0:
        left[:, -1] *= -1
        stretch[-1] *= -1
        turn = left @ right
    scale = float(stretch.sum() / max((two**2).sum(), 1e-12))
    return float(np.sqrt(((scale * two @ turn - one) ** 2).sum(axis=1).mean()) / size)


def _finding(sample: Sample, face: np.ndarray, severity: float) -> Finding:
    height, width = sample.rgb.shape[:2]
    left, top, wide, tall = _box(face)
    box = (left / width, top / height, wide / width, tall / height)
    return Finding("poor_face", sample.seconds, sample.seconds, sample.index, severity, FaceQuality.metric, box)
