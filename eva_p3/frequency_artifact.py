"""``frequency_artifact_score``: periodic patterns fixed to the pixel grid, as up-samplers and decoders leave them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .detection_types import Detection, Finding, Gray, Sample, absent, falling

CROP = 512
MIN_CROP = 128
LOWEST = 1 / 12  # cycles a pixel: slower patterns are picture content
LATTICE = 16  # patterns with a period that divides 16 pixels: strides and patch sizes in use
LATTICE_PEAK, ANY_PEAK = 8.0, 60.0  # power over the neighbourhood
AMPLITUDE_HALF, AMPLITUDE_STEEP = 1.6, 2.0  # luma codes


class FrequencyArtifacts:
    """Peaks of the two-dimensional spectrum.

    Transposed convolutions and patch-wise decoders leave checkerboards and grids: sharp peaks at multiples of 1/2, 1/4, 1/8
    and 1/16 cycles a pixel (A. Odena et al., "Deconvolution and checkerboard artifacts", Distill 2016; R. Durall et al.,
    "Watch your up-convolution", CVPR 2020). The frames are averaged first, so that what is fixed to the pixel grid stays and
    moving content fades. The measure is the root mean square of the peaks in luma codes.
    """

    metric = "frequency_artifact_score"

    def unavailable(self) -> str:
        return ""

    def detect(self, samples: Sequence[Sample]) -> Detection:
        side = min(CROP, *(size // LATTICE * LATTICE for size in samples[0].luma.shape))
        if side < MIN_CROP:
            return absent(f"the picture is smaller than {MIN_CROP} pixels")
        crops = [_centre(sample.luma, side) for sample in samples if sample.luma.shape == samples[0].luma.shape]
        mean = np.mean([_centred(crop) for crop in crops], axis=0)
        amplitude, frequency = pattern_amplitude(mean)
        raw = {"pattern_codes": amplitude, "period_px": 0.0 if frequency == 0 else 1.0 / frequency, "frames": len(crops)}
        findings = []
        if amplitude > AMPLITUDE_HALF:
            findings = [
                Finding("grid_pattern", samples[0].seconds, samples[-1].seconds, samples[0].index, min(1.0, amplitude / 8), self.metric)
            ]
        return Detection(falling(amplitude, AMPLITUDE_HALF, AMPLITUDE_STEEP), raw=raw, findings=findings)


def pattern_amplitude(picture: NDArray[np.floating]) -> tuple[float, float]:
    """(rms of periodic patterns in luma codes, frequency of the strongest in cycles a pixel) of a square picture."""
    side = picture.shape[0]
    window = np.outer(np.hanning(side), np.hanning(side))
    power = np.abs(np.fft.fft2(picture * window)) ** 2 / (window**2).sum() / side**2
    frequencies = np.fft.fftfreq(side)
    radius = np.hypot(frequencies[:, None], frequencies[None, :])
    usual = _neighbourhood(power)
    ratio = power / np.maximum(usual, 1e-9)
    multiple = np.zeros(side, bool)
    multiple[:: side // LATTICE] = True
    lattice = multiple[:, None] & multiple[None, :]
    peaks = (radius >= LOWEST) & ((ratio > ANY_PEAK) | (lattice & (ratio > LATTICE_PEAK)))
    if not peaks.any():
        return 0.0, 0.0
    # The window spreads each peak over its neighbours: 1.5 bins an axis for Hann's equivalent noise bandwidth.
    total = float((power - usual)[peaks].sum()) * 1.5**2
    strongest = np.unravel_index(int(np.argmax(np.where(peaks, power, 0.0))), power.shape)
    return float(np.sqrt(max(0.0, total))), float(radius[strongest])


def _neighbourhood(power: NDArray[np.floating], reach: int = 4) -> NDArray[np.floating]:
    """Mean power around each bin, its own 3 x 3 bins left out (a peak under the window is that wide); wraps around."""

    def box(half: int) -> NDArray[np.floating]:
        shifts = range(-half, half + 1)
        total = np.sum([np.roll(power, shift, 0) for shift in shifts], axis=0)
        return np.asarray(np.sum([np.roll(total, shift, 1) for shift in shifts], axis=0))

    outer, inner = (2 * reach + 1) ** 2, 9
    return (box(reach) - box(1)) / (outer - inner)


def _centre(luma: Gray, side: int) -> Gray:
    top, left = (luma.shape[0] - side) // 2, (luma.shape[1] - side) // 2
    return luma[top : top + side, left : left + side]


def _centred(luma: Gray) -> NDArray[np.float64]:
    """Mean taken off; slower content is kept out by the window and ``LOWEST``."""
    picture = luma.astype(np.float64)
    return picture - picture.mean()
