"""Measures of one frame's luma: edge spread (blur), block grid, noise, histogram.

Notation: Y is luma, uint8, shape (height, width). ``sigma`` is the standard deviation of a Gaussian in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .analysis_config import AnalysisConfig
from .decode import Luma

Profile = NDArray[np.float64]

#: Sharpness is measured on at most this many tiles of a frame, the busiest, small enough to stay in the processor's cache.
TILE, TILES = 128, 4
STRIP = 64  # rows or columns
HARMONIC_CAP = 1.5
UNSEEN_STEP = 1.0  # codes added to the mean luma step: on a smooth picture a grid far below one code is not seen
SHORT_PERIOD, SHORT_FREE = 4.5, 0.1  # pixels, and the excess that resampling by 4:5 leaves at a period of 4 by itself
PROFILE_PIXELS = 150_000  # pixels a profile of luma steps is taken from, for each direction
MIN_SIDE = 32  # smaller pictures have no room for the coarse scale or for three periods of an 8-pixel grid
MAX_WIDTH = 16.0  # pixels; wider edges look the same at both scales
EDGE_CONTRAST = 2.0  # luma codes a pixel at the coarse scale: weaker gradients are shading, not edges


class Buffers:
    """Arrays used again from frame to frame of a clip: fresh memory of the system costs more than most of the work done in it."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}

    def get(self, name: str, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
        """The array called ``name``, with whatever was left in it; always the same one for the same shape."""
        if (name, shape) not in self._held:
            self._held[name, shape] = np.empty(shape, kind)
        return self._held[name, shape]


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
    if side % 2 == 0 and min(height, width) >= side:
        used = used[::2]  # half of a cell's rows tell its mean as well
    return np.asarray(cv2.resize(used, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8), used.size / (rows * columns)


def busiest_tiles(luma: Luma, sparse: Luma) -> Luma:
    """Copies of the ``TILES`` tiles of highest contrast, (tiles, height, width), ``TILE`` pixels a side where the frame has as many.

    ``sparse`` is the frame thinned. Sharpness is judged where there is something to be sharp: a large flat sky says nothing.
    """
    height, width = luma.shape
    rows, columns = max(1, min(height // TILE, sparse.shape[0])), max(1, min(width // TILE, sparse.shape[1]))
    tall, wide = height // rows, width // columns
    chosen = np.arange(rows * columns)
    if rows * columns > TILES:
        every = 2 if min(sparse.shape[0] // rows, sparse.shape[1] // columns) >= 32 else 1
        some = sparse[::every, ::every]
        inner = some[: some.shape[0] // rows * rows, : some.shape[1] // columns * columns].astype(np.float32)
        mean, square = (cv2.resize(of, (columns, rows), interpolation=cv2.INTER_AREA) for of in (inner, inner * inner))
        chosen = np.argsort((square - mean * mean).ravel())[::-1][:TILES]
    high, broad = (min(size, TILE if count > 1 else 3 * TILE // 2) for size, count in ((tall, rows), (wide, columns)))
    corners = [(int(tile) // columns * tall + (tall - high) // 2, int(tile) % columns * wide + (wide - broad) // 2) for tile in chosen]
    return np.stack([luma[top : top + high, left : left + broad] for top, left in corners])


def noise_sigma(tiles: Luma, buffers: Buffers) -> float:
    """Standard deviation of white noise in luma codes, at least 0, over all tiles (tiles, height, width) of a frame.

    J. Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996: the response to the difference of two Laplacians,
    which smooth shading and straight edges do not excite. The median of the absolute response stands in for its mean,
    so that texture in less than half of the picture does not count.
    """
    second = np.array([1, -2, 1], np.float32)
    # One tall picture of all tiles, without the lines where they meet. Magnitudes are capped at 255: sigma 63.
    tall = _tall(tiles[:, : max(MIN_SIDE, tiles.shape[1] // 2)])  # half of each tells it as well
    signed = cv2.sepFilter2D(tall, cv2.CV_16S, second, second, dst=buffers.get("laplacians", tall.shape, np.int16))
    size = cv2.convertScaleAbs(signed, dst=buffers.get("size", tall.shape, np.uint8))
    response = np.ascontiguousarray(np.asarray(size).reshape(len(tiles), -1, tiles.shape[2])[:, 1:-1, 1:-1])
    counts = cv2.calcHist([response.reshape(-1, response.shape[2])], [0], None, [256], [0.0, 256.0]).ravel().astype(np.float64)
    # Interpolated median: most responses are a few whole numbers, and a plain median would move in steps.
    share = np.cumsum(counts) / counts.sum()
    code = int(np.searchsorted(share, 0.5))
    below = share[code - 1] if code else 0.0
    median = code + (0.5 - below) / max(share[code] - below, 1e-12) - 0.5
    return float(max(0.0, median) / 0.6745 / 6.0)


def _tall(tiles: Luma) -> Luma:
    """The tiles below each other: one call of OpenCV for all of them."""
    return tiles.reshape(-1, tiles.shape[2])


@dataclass(frozen=True)
class EdgeEnergy:
    """Gradient energy on the strongest edges at a fine and a coarse scale, white noise taken off."""

    fine: float
    coarse: float


def edge_energy(tiles: Luma, config: AnalysisConfig, noise: float, buffers: Buffers) -> EdgeEnergy | None:
    """Gradient energy across the strongest edges at the two scales of ``config.blur_scales``; ``None``: no edge at all.

    ``tiles``: (tiles, height, width), the :func:`busiest_tiles` of a frame. The edges are the share ``config.blur_edge_share`` of
    pixels with the largest gradient at the coarse scale (noise is weak there), widened so that each edge's whole cross-section
    counts. The coarse scale is reached from the fine one on every second row and column, which the fine scale leaves no detail to
    be lost from: a step of a Gaussian pyramid (P. Burt and E. Adelson, "The Laplacian pyramid as a compact image code", IEEE
    Trans. Communications 31(4), 1983). Both gradients are differences over two pixels.
    """
    count, height, width = tiles.shape[0], tiles.shape[1] // 2 * 2, tiles.shape[2] // 2 * 2
    if min(height, width) < MIN_SIDE:
        return None
    fine_scale, coarse_scale = config.blur_scales
    kernel = _gaussian(fine_scale)
    tall = _tall(tiles[:, :height, :width])
    smooth = buffers.get("smooth", tall.shape, np.float32)
    cv2.sepFilter2D(tall, cv2.CV_32F, 0.5 * kernel, kernel, dst=smooth)  # half of the neighbours' difference is the gradient a pixel
    rest = math.sqrt(coarse_scale**2 - fine_scale**2) / 2
    reach = 2 * math.ceil(3.5 * rest) + 1
    half, across, down, square = (buffers.get(name, (tall.shape[0] // 2 - less, tall.shape[1] // 2 - less), np.float32)
                                  for name, less in (("half", 0), ("across", 1), ("down", 1), ("square", 1)))  # fmt: skip
    np.copyto(half, smooth[::2, ::2])
    cv2.GaussianBlur(half, (reach, reach), rest, dst=half)
    cv2.subtract(half[:-1, 1:], half[:-1, :-1], dst=across)
    cv2.subtract(half[1:, :-1], half[:-1, :-1], dst=down)
    energy = np.add(np.multiply(across, across, out=square), down * down, out=square)
    inside, places = _inside(count, height // 2, width // 2, math.ceil(1.1 * coarse_scale))
    candidates = energy.ravel()[places]
    kept = min(candidates.size, max(2, int(config.blur_edge_share * candidates.size)))
    noise_coarse = noise**2 * _noise_gain(coarse_scale)
    threshold = max(EDGE_CONTRAST**2 + 4 * noise_coarse, _nth_largest(candidates, kept))
    strongest = cv2.bitwise_and((energy >= threshold).view(np.uint8), inside)
    if cv2.countNonZero(strongest) < 4:
        return None
    edges = cv2.bitwise_and(cv2.dilate(strongest, _square(math.floor(coarse_scale))), inside)
    share = cv2.countNonZero(edges)
    coarse = sum(cv2.norm(part, cv2.NORM_L2SQR, edges) for part in (across, down)) / share - noise_coarse
    # Each place of the coarse scale stands for two by two pixels of the fine one; gradients begin at its second row and column.
    pixels = cv2.resize(edges, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)[1:, 1:]
    steps, fine = buffers.get("steps", (tall.shape[0] - 3, tall.shape[1] - 3), np.float32), 0.0
    for after, before in ((smooth[1:-2, 2:-1], smooth[1:-2, :-3]), (smooth[2:-1, 1:-2], smooth[:-3, 1:-2])):
        fine += cv2.norm(cv2.subtract(after, before, dst=steps), cv2.NORM_L2SQR, pixels)
    fine = fine / cv2.countNonZero(pixels) - noise**2 * _noise_gain(fine_scale)
    return EdgeEnergy(fine, coarse) if fine > 0 and coarse > 0 else None


def _nth_largest(values: NDArray[np.float32], n: int) -> float:
    """The n-th largest of ``values`` (1-d). A bound from every eighth leaves few to be ordered, which is most of the time."""
    some = values[::8]
    place = max(0, some.size - n // 4 - 8)
    candidates = values[values >= np.partition(some, place)[place]]
    if candidates.size < n:
        candidates = values
    return float(np.partition(candidates, candidates.size - n)[candidates.size - n])


def _noise_gain(scale: float) -> float:
    """Gradient energy that white noise of unit variance leaves at ``scale``: 2 * 1 / (8 pi scale**4), both axes."""
    return 1.0 / (4.0 * math.pi * scale**4)


@lru_cache(maxsize=8)
def _inside(count: int, height: int, width: int, rim: int) -> tuple[Luma, NDArray[np.intp]]:
    """For ``count`` tiles below each other, gradients between whose (height, width) places were taken: a mask of 1 where no border
    is nearer than ``rim``, and the flat places of every second of these (their quantile is that of all, for half of the work)."""
    mask = np.zeros((count, height, width), np.uint8)
    mask[:, rim : height - rim - 1, rim : width - rim - 1] = 1
    flat = np.ascontiguousarray(mask.reshape(count * height, width)[:-1, :-1])
    return flat, np.flatnonzero(flat)[::2]


@lru_cache(maxsize=8)
def _gaussian(scale: float) -> NDArray[np.float32]:
    """Weights of a Gaussian of ``scale`` pixels, sum 1."""
    return np.asarray(cv2.getGaussianKernel(2 * math.ceil(3.5 * scale) + 1, scale, cv2.CV_32F), np.float32)


@lru_cache(maxsize=8)
def _square(reach: int) -> Luma:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


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
    step = max(2, round(blue.shape[1] / 96))
    first, second = (plane[::step, ::step].astype(np.float32) - 128.0 for plane in (blue, red))
    return float(np.count_nonzero(first * first + second * second >= least * least) / first.size)


def step_profiles(luma: Luma, caps: tuple[int, ...]) -> tuple[Profile, Profile]:
    """Mean capped luma step between neighbours in codes, by column (caps, width - 1) and by row (caps, height - 1).

    Block edges are many small steps in one line; a cap keeps a few large natural edges from drowning them.
    """
    height, width = luma.shape
    columns = np.zeros((len(caps), width - 1))
    rows = np.zeros((len(caps), height - 1))
    # In strips that stay in the processor's cache, of which a large frame needs only every n-th.
    apart = STRIP * max(1, round(luma.size / PROFILE_PIXELS))
    seen_rows = seen_columns = 0
    for top in range(0, height, apart):
        strip = luma[top : top + STRIP]
        across = cv2.absdiff(strip[:, 1:], strip[:, :-1])
        seen_rows += len(strip)
        for place, cap in enumerate(caps):
            columns[place] += cv2.reduce(_capped(across, cap), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
    for left in range(0, width, apart):
        strip = luma[:, left : left + STRIP]
        down = cv2.absdiff(strip[1:], strip[:-1])
        seen_columns += strip.shape[1]
        for place, cap in enumerate(caps):
            rows[place] += cv2.reduce(_capped(down, cap), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
    return columns / seen_rows, rows / seen_columns


def _capped(steps: cv2.typing.MatLike, cap: int) -> cv2.typing.MatLike:
    return cv2.threshold(steps, cap, cap, cv2.THRESH_TRUNC)[1]


@dataclass(frozen=True)
class BlockGrid:
    """``excess``: mean extra luma step on the grid's lines relative to the mean step; ``period`` in pixels (0: no grid)."""

    excess: float
    period: float


def block_grid(columns: Profile, rows: Profile, periods: tuple[float, float], harmonics: int = 4) -> BlockGrid:
    """The strongest periodic grid of luma steps, whatever its phase and (also fractional) period.

    ``columns`` and ``rows`` are :func:`step_profiles`, averaged over frames. A grid of period p puts lines at f = 1/p and its
    harmonics into the spectrum of a profile; the mean of their magnitudes, above what the rest of the spectrum shows, times p
    is the height of the steps. No harmonic counts for more than ``HARMONIC_CAP`` times the fundamental: lines have all of them
    alike, while rescaling leaves patterns of 4 and 5 pixels that would pass for harmonics of a grid that is not there.
    Power-spectrum idea: Z. Wang, A. Bovik, B. Evans, "Blind measurement of blocking artifacts in
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
        lines = (profile - _running_median(profile, 5)) * _window(profile.size)
        spectrum = np.abs(np.fft.rfft(lines, size))
        # The median; the profile is padded to four times its length, so that neighbours tell the same.
        floor = float(np.sort(spectrum[frequencies[0] :: 2])[(spectrum.size - frequencies[0]) // 4])
        fundamental = spectrum[frequencies]
        total, counted = fundamental.copy(), np.ones(frequencies.size)
        for harmonic in range(2, harmonics + 1):
            place = frequencies[: np.searchsorted(frequencies, math.ceil(spectrum.size / harmonic))] * harmonic
            total[: place.size] += np.minimum(spectrum[place], HARMONIC_CAP * fundamental[: place.size])
            counted[: place.size] += 1.0
        heights += np.maximum(0.0, total / counted - 2.0 * floor) * (size / frequencies)
        activity += float(profile.mean())
        used += 1
    if not used:
        return best
    spans = size / frequencies
    excess = np.maximum(0.0, heights / (activity + UNSEEN_STEP * used) - np.where(spans < SHORT_PERIOD, SHORT_FREE, 0.0))
    if not excess.any():
        return best
    peak = int(np.argmax(excess / np.sqrt(spans)))  # a longer period gathers more floor: not for free
    return BlockGrid(float(excess[peak]), float(spans[peak]))


@lru_cache(maxsize=8)
def _window(size: int) -> Profile:
    """A Hann window of sum 1."""
    window = np.hanning(size)
    return np.asarray(window / window.sum(), np.float64)


def _running_median(values: Profile, reach: int) -> Profile:
    """Median of each value and its ``reach`` - 1 (2 or 4) neighbours; the ends are repeated outwards."""
    return np.asarray(cv2.medianBlur(values.astype(np.float32)[None, :], reach), np.float64).ravel()
