"""``temporal_consistency``: does each frame follow from the one before by motion alone?"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .detection_types import Detection, Finding, Gray, Sample, absent, falling

RESIDUAL_HALF, RESIDUAL_STEEP = 0.14, 2.0
UNMATCHED_HALF, UNMATCHED_STEEP = 0.45, 3.0
MATCH_PIXELS = 1.5  # forward and backward flow may differ by this much before a place counts as unmatched
CUT_RESIDUAL, CUT_UNMATCHED = 0.5, 0.5
MIN_SIDE = 48
STRUCTURE_SLOPE = 1.5  # luma codes a pixel


class TemporalConsistency:
    """Motion-compensated residual.

    Dense flow (DIS: T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016) is computed both ways.
    Where the two agree, the next frame is moved back and compared: what differs, relative to the picture's contrast, is
    boiling texture, morphing or popping. Where they do not agree, something appeared, vanished or changed shape. Brightness
    common to the picture is taken off (flicker is judged elsewhere), and pairs across a cut are left out.
    """

    metric = "temporal_consistency"

    def unavailable(self) -> str:
        return ""

    def detect(self, samples: Sequence[Sample]) -> Detection:
        pairs = [sample for sample in samples if sample.small_next is not None]
        if not pairs:
            return absent("the clip has no two frames in a row")
        if min(pairs[0].small.shape) < MIN_SIDE:
            return absent(f"the picture is smaller than {MIN_SIDE} pixels")
        measured: list[tuple[Sample, float, float]] = []
        cuts = 0
        for sample in pairs:
            assert sample.small_next is not None
            found = pair_residual(sample.small, sample.small_next)
            if found is None:
                continue
            residual, unmatched = found
            if residual > CUT_RESIDUAL and unmatched > CUT_UNMATCHED and len(pairs) > 2 and cuts < len(pairs) // 3:
                cuts += 1
                continue
            measured.append((sample, residual, unmatched))
        if not measured:
            return absent("the picture has no structure to follow")
        residual = float(np.mean([item[1] for item in measured]))
        unmatched = float(np.mean([item[2] for item in measured]))
        findings = [
            Finding("inconsistent_motion", sample.seconds, sample.seconds, sample.index, min(1.0, one), self.metric)
            for sample, one, _ in measured
            if one > 2 * RESIDUAL_HALF
        ]
        score = falling(residual, RESIDUAL_HALF, RESIDUAL_STEEP) * falling(unmatched, UNMATCHED_HALF, UNMATCHED_STEEP)
        raw = {"residual": residual, "unmatched_share": unmatched, "pairs": len(measured), "cut_pairs": cuts}
        return Detection(score, raw=raw, findings=findings)


def pair_residual(first: Gray, second: Gray) -> tuple[float, float] | None:
    """(mean residual over matched places relative to contrast, share of unmatched places), or ``None`` without structure."""
    contrast = float(first.std())
    if contrast < 2.0:
        return None
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    room = np.zeros((*first.shape, 2), np.float32)
    forward = np.asarray(flow.calc(first, second, room.copy()), np.float32)
    backward = np.asarray(flow.calc(second, first, room), np.float32)
    rows, columns = np.mgrid[0 : first.shape[0], 0 : first.shape[1]].astype(np.float32)
    to_x, to_y = columns + forward[..., 0], rows + forward[..., 1]
    inside = (to_x >= 0) & (to_x <= first.shape[1] - 1) & (to_y >= 0) & (to_y <= first.shape[0] - 1)
    back = cv2.remap(backward, to_x, to_y, cv2.INTER_LINEAR)
    disagreement = np.hypot(forward[..., 0] + back[..., 0], forward[..., 1] + back[..., 1])
    matched = inside & (disagreement <= MATCH_PIXELS + 0.05 * np.hypot(forward[..., 0], forward[..., 1]))
    before, after = _smooth(first), _smooth(second)
    # Flow is a guess where the picture is smooth: only places with structure can fail to match.
    slope = np.hypot(cv2.Sobel(before, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(before, cv2.CV_32F, 0, 1, scale=0.125))
    structured = inside & (slope > STRUCTURE_SLOPE)
    unmatched = 1.0 - float((matched & structured).sum() / structured.sum()) if structured.sum() > 50 else 0.0
    if matched.mean() < 0.02:
        return 1.0, unmatched
    moved = cv2.remap(after, to_x, to_y, cv2.INTER_LINEAR)
    one, two = before[matched], moved[matched]
    gain = float(np.cov(one, two)[0, 1] / max(float(np.var(two)), 1e-6))
    gain = min(1.5, max(0.67, gain))  # brightness common to the picture: a change of gain and offset
    difference = gain * (two - two.mean()) - (one - one.mean())
    return float(np.abs(difference).mean() / contrast), unmatched


def _smooth(picture: Gray) -> NDArray[np.float32]:
    """A little blur, so that film grain does not count as inconsistency."""
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.2), np.float32)
