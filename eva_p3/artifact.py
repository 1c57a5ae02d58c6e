"""``artifact_score``: banding, bursts of noise, over-saturated colour."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .detection_types import Detection, Finding, Gray, Rgb, Sample, falling

BANDING_SIDE = 640
BANDING_FRAMES = 3  # the costliest measure, and bands last longer than a frame
BANDING_HALF, BANDING_STEEP = 2.5, 1.5  # percent of the pixels
REACH = 4
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
            findings.append(_finding("banding", shaded[worst], bands[worst] / 20))
        loud = int(np.argmax(bursts))
        if burst > BURST_HALF / 2:
            findings.append(_finding("noise_burst", samples[loud], burst / 20))
        vivid = int(np.argmax(pure))
        if pure[vivid] > SATURATED_HALF:
            findings.append(_finding("oversaturated", samples[vivid], pure[vivid]))
        return Detection(score, raw=raw, findings=findings)


def _finding(kind: str, sample: Sample, severity: float) -> Finding:
    return Finding(kind, sample.seconds, sample.seconds, sample.index, min(1.0, severity), Artifacts.metric)


def banding(luma: Gray) -> float:
    """Density of contours in what should be smooth shades, in percent of the picture's pixels.

    A contour pixel has, ``REACH`` pixels to both sides (across or along), an exactly flat patch of 5 x 5, and between the two
    a step of 3 to 16 codes. One code (two, where video range was stretched) is the least 8 bits can show; larger steps are
    edges. A dithered or noisy shade is never flat. The flat-patch idea is that of P. Tandon et al., "CAMBI: Contrast-aware
    multiscale banding index", PCS 2021.
    """
    factor = min(1.0, BANDING_SIDE / max(luma.shape))
    step = max(1, round(1 / factor))
    picture = np.ascontiguousarray(luma[::step, ::step])  # thinned, not averaged: averaging would dither the bands
    if min(picture.shape) <= 4 * REACH:
        return 0.0
    patch = np.ones((5, 5), np.uint8)
    flat = cv2.dilate(picture, patch) == cv2.erode(picture, patch)
    contours = 0
    for values, flats in ((picture, flat), (picture.T, flat.T)):
        before, after = values[:, : -2 * REACH].astype(np.int16), values[:, 2 * REACH :]
        height = np.abs(after - before)
        contours += int((flats[:, : -2 * REACH] & flats[:, 2 * REACH :] & (height >= 3) & (height <= 16)).sum())
    return 100.0 * contours / picture.size


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
