"""``artifact_score``: banding, bursts of noise, over-saturated colour."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .detection_types import Detection, Finding, Gray, Rgb, Sample, falling

BANDING_SIDE = 640
BANDING_FRAMES = 3  # the costliest measure, and bands last longer than a frame
BANDING_HALF, BANDING_STEEP = 0.35, 2.0
NOISE_HALF, NOISE_STEEP = 14.0, 2.5
BURST_HALF, BURST_STEEP = 8.0, 2.0
SATURATED_HALF, SATURATED_STEEP = 0.30, 2.0


class Artifacts:
    """The worst of three defects decides, softly: their scores are multiplied.

    - banding: contours in what should be a smooth shade (:func:`banding`);
    - noise: white noise, its level and its sudden bursts between the sampled frames (:func:`noise_level`);
    - saturation: share of pixels driven to pure colour, as too strong a guidance does (:func:`saturated_share`).
    """

    metric = "artifact_score"

    def unavailable(self) -> str:
        return ""

    def detect(self, samples: Sequence[Sample]) -> Detection:
        shaded = samples[:: max(1, len(samples) // BANDING_FRAMES)]
        bands = [banding(sample.luma) for sample in shaded]
        noises = [noise_level(sample.luma) for sample in samples]
        pure = [saturated_share(sample.rgb) for sample in samples]
        usual = float(np.median(noises))
        bursts = [max(0.0, noise - usual) for noise in noises]
        burst = max(bursts)
        raw = {"banding": float(np.mean(bands)), "noise_sigma": usual, "noise_burst": burst, "saturated_share": float(np.mean(pure))}
        score = (
            falling(raw["banding"], BANDING_HALF, BANDING_STEEP)
            * falling(usual, NOISE_HALF, NOISE_STEEP)
            * falling(burst, BURST_HALF, BURST_STEEP)
            * falling(raw["saturated_share"], SATURATED_HALF, SATURATED_STEEP)
        )
        findings: list[Finding] = []
        worst = int(np.argmax(bands))
        if bands[worst] > BANDING_HALF:
            findings.append(_finding("banding", shaded[worst], bands[worst]))
        loud = int(np.argmax(bursts))
        if burst > BURST_HALF / 2:
            findings.append(_finding("noise_burst", samples[loud], burst / 20))
        vivid = int(np.argmax(pure))
        if pure[vivid] > SATURATED_HALF:
            findings.append(_finding("oversaturated", samples[vivid], pure[vivid]))
        return Detection(score, raw=raw, findings=findings)


def _finding(kind: str, sample: Sample, severity: float) -> Finding:
    return Finding(kind, sample.seconds, sample.seconds, sample.index, min(1.0, severity), Artifacts.metric)


def banding(luma: Gray, window: int = 31) -> float:
    """Strength of contours in smooth areas, 0 (none) to about 1.

    After P. Tandon et al., "CAMBI: Contrast-aware multiscale banding index", PCS 2021, simplified to one scale: where the
    picture is locally flat, how evenly a window is split between a pixel's own code v and the codes v +- 1..4. A dithered
    or noisy shade is not flat; a banded one is made of flat plateaus a step apart. Mean over the flat part of the picture,
    scaled by its share, over the contrasts 2..4 (a step of one code is the least 8 bits can show).
    """
    factor = min(1.0, BANDING_SIDE / max(luma.shape))
    picture = luma
    if factor < 1.0:
        step = round(1 / factor)
        picture = np.ascontiguousarray(luma[::step, ::step])  # thinned, not averaged: averaging would dither the bands
    if min(picture.shape) < window:
        return 0.0
    flat = cv2.absdiff(cv2.dilate(picture, np.ones((3, 3), np.uint8)), cv2.erode(picture, np.ones((3, 3), np.uint8))) == 0
    if flat.mean() < 0.02:
        return 0.0
    shares = {code: _share(picture, flat, code, window) for code in np.unique(picture[flat]).tolist()}
    strength = np.zeros(picture.shape, np.float32)
    nothing = np.zeros(picture.shape, np.float32)
    for code, own in shares.items():
        here = flat & (picture == code)
        for contrast in (2, 3, 4):
            other = np.maximum(shares.get(code + contrast, nothing)[here], shares.get(code - contrast, nothing)[here])
            mine = own[here]
            split = contrast * mine * other / np.maximum(mine + other, 1e-6)
            strength[here] = np.maximum(strength[here], split)
    return float(strength.sum() / picture.size)


def _share(picture: Gray, flat: NDArray[np.bool_], code: int, window: int) -> NDArray[np.float32]:
    mask = (flat & (picture == code)).astype(np.float32)
    return np.asarray(cv2.boxFilter(mask, -1, (window, window)), np.float32)


def noise_level(luma: Gray) -> float:
    """White noise as standard deviation in codes: median response to the difference of two Laplacians (Immerkaer 1996)."""
    if min(luma.shape) < 8:
        return 0.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(luma, cv2.CV_32F, kernel)[1:-1, 1:-1])
    return float(np.median(response) / 0.6745 / 6.0)


def saturated_share(rgb: Rgb) -> float:
    """Share of pixels of nearly pure colour: brightest minus darkest channel above 215 of 255."""
    spread = rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)
    return float((spread > 215).mean())
