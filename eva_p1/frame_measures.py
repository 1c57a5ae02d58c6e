"""Measures of one frame's luma: edge spread (blur), block grid, noise, histogram.

Notation: Y is luma, uint8, shape (height, width). ``sigma`` is the standard deviation of a Gaussian in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .analysis_config import AnalysisConfig
from .decode import Luma

Profile = NDArray[np.float64]

#: Sharpness is measured on at most this many pixels: the busiest tiles of a large frame.
TILE, TILES = 128, 9
STRIP = 64  # rows
QUANTILE_PIXELS = 32_768  # pixels a quantile of a picture is taken from
MIN_SIDE = 32  # smaller pictures have no room for the coarse scale or for three periods of an 8-pixel grid
MAX_WIDTH = 16.0  # pixels; wider edges look the same at both scales
EDGE_CONTRAST = 2.0  # luma codes a pixel at the coarse scale: weaker gradients are shading, not edges


def thin(luma: Luma, width: int) -> Luma:
    """Every k-th row and column, so that about ``width`` columns stay. Histograms stay true (nothing is averaged)."""
    step = max(1, round(max(luma.shape) / width))
    return np.ascontiguousarray(luma[step // 2 :: step, step // 2 :: step])


def histogram(luma: Luma) -> NDArray[np.float64]:
    """Share of pixels at each of the 256 codes; shape (256,), sum 1."""
    counts = cv2.calcHist([luma], [0], None, [256], [0.0, 256.0])
    return counts.ravel().astype(np.float64) / luma.size


def block_means(sparse: Luma, cells: int) -> tuple[Luma, float]:
    """Means of the cells of a grid with ``cells`` cells along the longer side, and the pixels in a cell."""
    height, width = sparse.shape
    side = max(1, round(max(height, width) / cells))
    rows, columns = max(1, height // side), max(1, width // side)
    used = sparse[: rows * side, : columns * side] if min(height, width) >= side else sparse
    return np.asarray(cv2.resize(used, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8), used.size / (rows * columns)


def busiest_tiles(luma: Luma) -> Luma:
    """The frame itself when it is small, else its tiles of highest contrast side by side, (<= 384, <= 384).

    Sharpness is judged where there is something to be sharp: a large flat sky says nothing.
    """
    height, width = luma.shape
    if height * width <= TILES * TILE * TILE or height < TILE or width < TILE:
        return np.ascontiguousarray(luma)
    rows, columns = height // TILE, width // TILE
    coarse = cv2.resize(
        np.ascontiguousarray(luma[: rows * TILE : 4, : columns * TILE : 4]), (columns * 8, rows * 8), interpolation=cv2.INTER_AREA
    )
    contrast = coarse.reshape(rows, 8, columns, 8).astype(np.float32).std(axis=(1, 3)).ravel()
    side = math.isqrt(min(TILES, contrast.size))
    chosen = np.argsort(contrast)[::-1][: side * side]
    mosaic = np.empty((side * TILE, side * TILE), np.uint8)
    for place, tile in enumerate(chosen):
        top, left = (tile // columns) * TILE, (tile % columns) * TILE
        row, column = (place // side) * TILE, (place % side) * TILE
        mosaic[row : row + TILE, column : column + TILE] = luma[top : top + TILE, left : left + TILE]
    return mosaic


def noise_sigma(luma: Luma) -> float:
    """Standard deviation of white noise in luma codes, at least 0.

    J. Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996: the response to the difference of two Laplacians,
    which smooth shading and straight edges do not excite. The median of the absolute response stands in for its mean,
    so that texture in less than half of the picture does not count.
    """
    second = np.array([1, -2, 1], np.float32)
    response = cv2.convertScaleAbs(cv2.sepFilter2D(luma, cv2.CV_16S, second, second)[1:-1, 1:-1])  # capped at 255: sigma 63
    counts = cv2.calcHist([response], [0], None, [256], [0.0, 256.0]).ravel().astype(np.float64)
    # Interpolated median: most responses are a few whole numbers, and a plain median would move in steps.
    share = np.cumsum(counts) / response.size
    code = int(np.searchsorted(share, 0.5))
    below = share[code - 1] if code else 0.0
    median = code + (0.5 - below) / max(share[code] - below, 1e-12) - 0.5
    return float(max(0.0, median) / 0.6745 / 6.0)


@dataclass(frozen=True)
class EdgeEnergy:
    """Gradient energy on the strongest edges at a fine and a coarse scale, white noise taken off."""

    fine: float
    coarse: float


def edge_energy(picture: Luma, config: AnalysisConfig, noise: float, tiled: bool = False) -> EdgeEnergy | None:
    """Gradient energy across the strongest edges at the two scales of ``config.blur_scales``; ``None``: no edge at all.

    ``picture``: a frame's luma or, ``tiled``, its :func:`busiest_tiles`. The edges are the share ``config.blur_edge_share`` of
    pixels with the largest gradient at the coarse scale (noise is weak there), widened so that each edge's whole cross-section
    counts.
    """
    if min(picture.shape) < MIN_SIDE:
        return None
    source = cv2.multiply(picture, 0.5, dtype=cv2.CV_32F)  # a central difference is half of that of the neighbours
    fine, coarse = (_gradients(source, scale) for scale in config.blur_scales)
    border = math.ceil(2 * config.blur_scales[1])
    inside = _inner_mask(picture.shape, border, TILE if tiled else 0)
    energy = cv2.multiply(coarse[0], coarse[0])
    cv2.accumulateSquare(coarse[1], energy)
    # A quantile of every n-th pixel is that of all, for a fraction of the work; the rim and the seams are no candidates.
    step = max(1, round(math.sqrt(energy.size / QUANTILE_PIXELS)))
    some = energy[::step, ::step][inside[::step, ::step] > 0]
    if not some.size:
        return None
    kept = min(some.size, max(16 // step**2, int(config.blur_edge_share * some.size)))
    noise_coarse = noise**2 * _noise_gain(config.blur_scales[1])
    weakest = EDGE_CONTRAST**2 + 4 * noise_coarse
    threshold = float(np.partition(some, some.size - kept)[some.size - kept])
    strongest = cv2.bitwise_and(cv2.compare(energy, max(threshold, weakest), cv2.CMP_GE), inside)
    if cv2.countNonZero(strongest) < 16:
        return None
    reach = 2 * border + 1
    edges = cv2.bitwise_and(cv2.dilate(strongest, np.ones((reach, reach), np.uint8)), inside)
    share = float(cv2.countNonZero(edges))
    fine_sum, coarse_sum = (sum(cv2.norm(part, cv2.NORM_L2SQR, edges) for part in parts) for parts in (fine, coarse))
    energy_fine = fine_sum / share - noise**2 * _noise_gain(config.blur_scales[0])
    energy_coarse = coarse_sum / share - noise_coarse
    if energy_coarse <= 0 or energy_fine <= 0:
        return None
    return EdgeEnergy(energy_fine, energy_coarse)


def _gradients(source: NDArray[np.float32], scale: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Differences of the two neighbours, across and down, of ``source`` smoothed at ``scale``; the outermost pixels are left out."""
    reach = 2 * math.ceil(3.5 * scale) + 1
    smooth = cv2.GaussianBlur(source, (reach, reach), scale)
    across = cv2.subtract(smooth[1:-1, 2:], smooth[1:-1, :-2])
    return np.asarray(across, np.float32), np.asarray(cv2.subtract(smooth[2:, 1:-1], smooth[:-2, 1:-1]), np.float32)


def _noise_gain(scale: float) -> float:
    """Gradient energy that white noise of unit variance leaves at ``scale``: 2 * 1 / (8 pi scale**4), both axes."""
    return 1.0 / (4.0 * math.pi * scale**4)


@lru_cache(maxsize=8)
def _inner_mask(shape: tuple[int, ...], border: int, tile: int) -> Luma:
    """255 away from the picture's rim and, where tiles were put side by side, from their seams; for :func:`_gradients`' shape."""
    axes = []
    for size in shape:
        place = np.arange(size) % tile if tile else np.arange(size)
        last = (tile or size) - 1
        axes.append((place >= border) & (place <= last - border))
    return (axes[0][:, None] & axes[1][None, :])[1:-1, 1:-1].astype(np.uint8) * 255


def edge_width(energies: list[EdgeEnergy], scales: tuple[float, float]) -> float:
    """Width of the edges in pixels, pooled over frames: the sigma their gradient has at the fine scale, > 0.

    A step edge blurred by ``sigma`` and seen at scale ``s`` has a Gaussian gradient of width sqrt(sigma^2 + s^2); its energy
    across the edge falls with 1 / width, so that R = E_fine / E_coarse = sqrt((sigma^2 + s2^2) / (sigma^2 + s1^2)). Solved
    for the width at the fine scale, sqrt(sigma^2 + s1^2) = sqrt((s2^2 - s1^2) / (R^2 - 1)): s1 for a perfect step, less for
    lines and texture finer than a step, at most ``MAX_WIDTH``. After J. Elder and S. Zucker, "Local scale control for edge
    detection and blur estimation", PAMI 20(7), 1998, and S. Zhuo and T. Sim, "Defocus map estimation from a single image",
    Pattern Recognition 44(9), 2011, with the energy of the whole cross-section in place of its peak. Contrast cancels;
    noise was taken off before. Wide edges (sigma above 3) are cut at the rim and come out up to 15 % narrower.
    """
    fine = sum(energy.fine for energy in energies)
    coarse = sum(energy.coarse for energy in energies)
    squared_ratio = (fine / coarse) ** 2
    spread = scales[1] ** 2 - scales[0] ** 2
    if squared_ratio <= 1.0 + spread / MAX_WIDTH**2:
        return MAX_WIDTH
    return math.sqrt(spread / (squared_ratio - 1.0))


def pure_colour_share(blue: Luma, red: Luma, least: float) -> float:
    """Share of pixels whose colour difference (Cb, Cr as stored, 128 neutral) is ``least`` codes or more from gray.

    Pure red, green and blue lie at 114 to 120, vivid flowers below 90: only colour driven to its end comes near.
    """
    distance = np.square(blue[::2, ::2].astype(np.int32) - 128) + np.square(red[::2, ::2].astype(np.int32) - 128)
    return float(np.mean(distance >= least * least))


def step_profiles(luma: Luma, caps: tuple[int, ...]) -> tuple[Profile, Profile]:
    """Mean capped luma step between neighbours in codes, by column (caps, width - 1) and by row (caps, height - 1).

    Block edges are many small steps in one line; a cap keeps a few large natural edges from drowning them.
    """
    height, width = luma.shape
    columns = np.zeros((len(caps), width - 1))
    rows = np.zeros((len(caps), height - 1))
    # In strips that stay in the processor's cache: whole frames would cost their memory traffic several times over.
    for top in range(0, height, STRIP):
        strip = luma[top : top + STRIP + 1]
        across = cv2.absdiff(strip[:STRIP, 1:], strip[:STRIP, :-1])
        down = cv2.absdiff(strip[1:], strip[:-1]) if len(strip) > 1 else across[:0]
        for place, cap in enumerate(caps):
            columns[place] += cv2.reduce(cv2.min(across, float(cap)), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
            if len(down):
                sums = cv2.reduce(cv2.min(down, float(cap)), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
                rows[place, top : top + len(sums)] = sums.ravel()
    return columns / height, rows / width


@dataclass(frozen=True)
class BlockGrid:
    """``excess``: mean extra luma step on the grid's lines relative to the mean step; ``period`` in pixels (0: no grid)."""

    excess: float
    period: float


def block_grid(columns: Profile, rows: Profile, periods: tuple[float, float], harmonics: int = 4) -> BlockGrid:
    """The strongest periodic grid of luma steps, whatever its phase and (also fractional) period.

    ``columns`` and ``rows`` are :func:`step_profiles`, averaged over frames. A grid of period p puts lines at f = 1/p and its
    harmonics into the spectrum of a profile; the mean of their magnitudes, above what the rest of the spectrum shows, times p
    is the height of the steps. Power-spectrum idea: Z. Wang, A. Bovik, B. Evans, "Blind measurement of blocking artifacts in
    images", ICIP 2000; normalising by local activity: R. Muijs, I. Kirenko, "A no-reference blocking artifact measure for
    adaptive video processing", EUSIPCO 2005 (the source of ffmpeg's ``blockdetect``).
    """
    best = BlockGrid(0.0, 0.0)
    size = 1 << (max(columns.size, rows.size) * 4 - 1).bit_length()
    frequencies = np.arange(math.ceil(size / periods[1]), int(size / periods[0]) + 1)
    heights, activity = np.zeros(frequencies.size), 0.0
    used = 0
    for profile in (columns, rows):
        if profile.size < 3 * periods[0]:
            continue
        # Natural structure varies slowly along a profile: take off the local median, keep the lines.
        lines = profile - _running_median(profile, 5)
        window = np.hanning(lines.size)
        spectrum = np.abs(np.fft.rfft(lines * window, size)) / window.sum()
        floor = float(np.median(spectrum[frequencies[0] :]))
        total = np.zeros(frequencies.size)
        counted = np.zeros(frequencies.size)
        for harmonic in range(1, harmonics + 1):
            place = frequencies * harmonic
            valid = place < spectrum.size
            total += np.where(valid, spectrum[np.minimum(place, spectrum.size - 1)], 0.0)
            counted += valid
        heights += np.maximum(0.0, total / counted - 2.0 * floor) * (size / frequencies)
        activity += float(profile.mean())
        used += 1
    if not used or not heights.any():
        return best
    peak = int(np.argmax(heights / np.sqrt(size / frequencies)))  # a longer period gathers more floor: not for free
    return BlockGrid(float(heights[peak] / (activity + 0.25 * used)), float(size / frequencies[peak]))


def _running_median(values: Profile, reach: int) -> Profile:
    """Median of each value and its ``reach`` - 1 (2 or 4) neighbours; the ends are repeated outwards."""
    return np.asarray(cv2.medianBlur(values.astype(np.float32)[None, :], reach), np.float64).ravel()
