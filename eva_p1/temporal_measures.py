"""Measures over time: flicker, motion, freeze, flashes at the ends, cuts, black frames.

Notation: G is the series of block means, float32, shape (frames, rows, columns), 0 black .. 1 white. ``seconds`` has one
entry a frame. Everything is vectorised over the whole clip, so that a frame costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .analysis_config import AnalysisConfig

Series = NDArray[np.float64]
Grid = NDArray[np.float32]

QUANTILES = 64  # of the block means of a frame, for the change of brightness that no motion explains
PIECE = 24_000  # values worked on at once
MEDIAN_CELLS = 240  # at most, spread over the picture: more do not make a median of changes surer, and cost what sorting costs


@dataclass(frozen=True)
class Finding:
    """Something a person should look at, for the scrub bar. ``severity`` grows from 0 to 1."""

    kind: str
    start_s: float
    end_s: float
    frame: int
    severity: float


@dataclass(frozen=True)
class TemporalMeasures:
    """Raw measures over time. Series have one entry a frame; NaN where a frame has no neighbour to compare with."""

    flicker_global: float
    flicker_local: float
    flicker: float
    motion: float
    frozen_share: float
    longest_freeze_s: float
    repeated_share: float
    first_frame_jump: float
    last_frame_jump: float
    cuts: tuple[int, ...]
    flicker_series: Series
    motion_series: Series
    findings: tuple[Finding, ...]


def common_change(before: Grid, after: Grid, dark: float) -> Series:
    """Change of brightness common to the picture, for each pair of frames (pairs, cells): the median of the relative change.

    Cells darker than ``dark`` in either frame are left out; 0 where less than a twentieth is lit.
    """
    unlit = np.minimum(before, after) < dark
    relative = after - before
    relative /= np.maximum(before + after, dark)
    relative[unlit] = np.inf
    relative.sort(axis=1)
    relative *= 2.0
    count = relative.shape[1] - np.count_nonzero(unlit, axis=1)
    pair = np.arange(len(before))
    low, high = relative[pair, np.maximum(0, (count - 1) // 2)], relative[pair, np.minimum(count // 2, relative.shape[1] - 1)]
    return np.where(count >= 0.05 * relative.shape[1], (low.astype(np.float64) + high) / 2, 0.0)


def relative_change(before: Grid, after: Grid, dark: float) -> tuple[Series, Grid]:
    """Change of brightness from ``before`` to ``after`` (frames, rows, columns): common to the picture, and what is left.

    Flicker moves all cells the same way, motion moves them in all directions: the common part is their median. What is left
    is absolute (0..1).
    """
    some = spread_places(before[0].size)
    common = common_change(before.reshape(len(before), -1)[:, some], after.reshape(len(after), -1)[:, some], dark)
    rest = before + after
    rest *= common.astype(np.float32)[:, None, None] * np.float32(-0.5)
    rest += after
    rest -= before
    return common, rest


def spread_places(cells: int) -> NDArray[np.intp]:
    """Up to ``MEDIAN_CELLS`` places spread over a grid of so many cells, in step with neither its rows nor its columns."""
    return np.arange(cells) if cells <= MEDIAN_CELLS else (np.arange(MEDIAN_CELLS) * (cells / MEDIAN_CELLS)).astype(np.intp)


def agreed(first: Series, second: Series) -> Series:
    """The smaller of two estimates of the same change, 0 where they have opposite signs."""
    return np.where(first * second > 0, np.sign(first) * np.minimum(np.abs(first), np.abs(second)), 0.0)


def reversals(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """Size of a to-and-fro: min(|a|, |b|) where two successive changes have opposite signs, else 0.

    A gated second difference: it answers to flicker and flashes, and not to pans and fades (same sign) or cuts (one of
    the two changes is nearly nothing), on which the plain second difference fires.
    """
    back = -second
    both_up, both_down = np.minimum(first, back), np.maximum(first, back)  # the size of a to-and-fro up, and minus that of one down
    np.maximum(both_up, np.negative(both_down, out=both_down), out=both_up)
    return np.maximum(both_up, 0.0, out=both_up)


def measure_time(grid: Grid, ordered: Grid, seconds: Series, noise: float, config: AnalysisConfig) -> TemporalMeasures:
    """All temporal measures of a clip of at least two frames.

    ``ordered``: the cells of each frame by brightness, (frames, cells), about ``QUANTILES`` of them. ``noise``: sd of a cell's mean
    from white noise, 0..1.
    """
    frames = len(grid)
    flat = grid.reshape(frames, -1)
    some = np.ascontiguousarray(flat[:, spread_places(flat.shape[1])])
    # The same cells ordered by brightness: a pan or zoom moves cells about and leaves their order statistics nearly as they
    # were, a change of brightness moves both. What the two estimates agree on is no motion.
    common, rest = relative_change(grid[:-1], grid[1:], config.dark_cell)
    moved = rest.reshape(frames - 1, -1)
    motion = np.sqrt(np.maximum(0.0, np.einsum("ij,ij->i", moved, moved).astype(np.float64) / moved.shape[1] - 2 * noise**2))
    lit = flat.mean(axis=1) >= config.dark_cell  # out of or into black is a fade, not a cut
    cuts = tuple(frame for frame in find_cuts(motion) if lit[frame] and lit[frame - 1])

    flicker = np.zeros(frames)
    gains = common
    for lag in config.flicker_lags:
        if frames <= 2 * lag:
            break
        cells = common if lag == 1 else common_change(some[:-lag], some[lag:], config.dark_cell)
        change = agreed(cells, common_change(ordered[:-lag], ordered[lag:], config.dark_cell))
        gains = change if lag == 1 else gains
        middle = slice(lag, frames - lag)
        flicker[middle] = np.maximum(flicker[middle], reversals(change[:-lag], change[lag:]))
    head, tail = end_jumps(gains, cuts)
    flicker[0], flicker[-1] = max(flicker[0], head), max(flicker[-1], tail)
    global_rms = float(np.sqrt(np.mean(flicker**2)))

    local = 0.0
    if frames > 2:
        total = np.zeros(moved.shape[1])
        for part in pieces(frames - 2, moved.shape[1]):
            total += reversals(moved[:-1][part], moved[1:][part]).sum(axis=0)
        total.sort()
        local = float(total[round(0.95 * (total.size - 1))]) / (frames - 2)
    allowed = config.flicker_local_free + noise + config.flicker_local_motion * float(np.mean(motion))
    counted_local = max(0.0, local - allowed) * config.flicker_local_weight
    combined = float(np.hypot(global_rms, counted_local))

    plain = np.concatenate([largest(flat[1:][part] - flat[:-1][part]) for part in pieces(frames - 1, flat.shape[1])])
    holds = find_holds(grid, plain, common, rest, seconds, noise, config)
    span = frame_span(seconds)
    findings = [
        Finding("freeze", float(seconds[a]), float(seconds[b]), a, min(1.0, (seconds[b] - seconds[a]) / max(span, 1e-9))) for a, b in holds
    ]
    findings += flicker_findings(flicker, seconds, config)
    step = span / frames
    return TemporalMeasures(
        flicker_global=global_rms, flicker_local=local, flicker=combined,
        motion=float(np.median(motion)),
        frozen_share=float(sum(b - a for a, b in holds) / (frames - 1)),
        longest_freeze_s=float(max((seconds[b] - seconds[a] + step for a, b in holds), default=0.0)),
        repeated_share=repeated_share(plain, config.freeze_level + 4.0 * noise),
        first_frame_jump=head, last_frame_jump=tail, cuts=cuts,
        flicker_series=flicker, motion_series=np.concatenate([[np.nan], motion]), findings=tuple(findings),
    )  # fmt: skip


def frame_span(seconds: Series) -> float:
    """Seconds the clip lasts, its last frame's own time included."""
    if len(seconds) < 2:
        return 0.0
    return float((seconds[-1] - seconds[0]) * len(seconds) / (len(seconds) - 1))


def find_cuts(motion: Series) -> tuple[int, ...]:
    """Frames that open a new shot: a change far above the clip's usual one, of a single frame."""
    if motion.size < 3:
        return ()
    usual = float(np.median(motion))
    limit = max(0.06, 5 * usual)
    around = np.maximum(np.concatenate([[0.0], motion[:-1]]), np.concatenate([motion[1:], [0.0]]))
    return tuple(int(index) + 1 for index in np.flatnonzero((motion > limit) & (around < motion / 2)))


def end_jumps(common: Series, cuts: tuple[int, ...]) -> tuple[float, float]:
    """Relative brightness jump of the first and of the last frame beyond what the neighbouring steps do, each >= 0.

    Video models tend to flash at the ends. A fade (a run of similar steps) and a cut are no flash.
    """
    if common.size < 3:
        return 0.0, 0.0
    last = common.size

    def jump(step: float, near: Series) -> float:
        return max(0.0, abs(step) - 2.0 * float(np.max(np.abs(near))))

    head = 0.0 if 1 in cuts else jump(float(common[0]), common[1:4])
    tail = 0.0 if last in cuts else jump(float(common[-1]), common[-4:-1])
    return head, tail


def pieces(rows: int, width: int) -> Iterator[slice]:
    """Slices of ``rows`` rows of ``width`` values, each small enough for memory that need not be asked of the system anew."""
    height = max(1, PIECE // width)
    return (slice(start, min(rows, start + height)) for start in range(0, rows, height))


def largest(values: NDArray[np.floating]) -> Series:
    """Largest magnitude in each entry of ``values`` (entries, rows, columns)."""
    flat = values.reshape(len(values), -1)
    return np.asarray(np.maximum(flat.max(axis=1), -flat.min(axis=1)), np.float64)


def find_holds(
    grid: Grid, plain: Series, common: Series, rest: Grid, seconds: Series, noise: float, config: AnalysisConfig
) -> list[tuple[int, int]]:
    """Runs (first frame, last frame) in which the picture stands still for at least ``freeze_min_s``.

    Each run is compared with its first frame, so that slow motion adds up and is not taken for a freeze. Brightness common
    to all cells is taken off: a frozen picture that flickers is frozen. Needs 8 held frames a second at least.
    ``plain``: largest change between neighbours; ``common`` and ``rest``: :func:`relative_change` between them.
    """
    level = config.freeze_level + 4.0 * noise
    still = (plain <= level) | (_moved(grid[:-1], grid[1:], common, rest, config) <= level)
    holds: list[tuple[int, int]] = []
    start = 0

    def held(index: int) -> bool:
        before, after = grid[start : start + 1], grid[index : index + 1]
        # The plain difference is far cheaper: only when it says "moved" is the common change looked at.
        if float(np.abs(after - before).max()) <= level:
            return True
        return bool(_moved(before, after, *relative_change(before, after, config.dark_cell), config)[0] <= level)

    def close(end: int) -> None:
        if end - start >= 2 and seconds[end] - seconds[start] >= config.freeze_min_s:
            holds.append((start, end))

    for index in range(1, len(grid)):
        if still[index - 1] if start == index - 1 else held(index):
            continue
        close(index - 1)
        start = index
    close(len(grid) - 1)
    return holds


def _moved(before: Grid, after: Grid, common: Series, rest: Grid, config: AnalysisConfig) -> Series:
    """Largest change of a cell for each pair of frames, common brightness taken off (where cells may be clipped, not looked at)."""
    comparable = (before <= config.bright_cell) & (after <= config.bright_cell)
    everywhere = largest(rest)
    if comparable.all():
        return np.where(common == 0, everywhere, everywhere - 0.06 * np.abs(common))
    changed = largest(rest * comparable) - 0.06 * np.abs(common)
    return np.where((common == 0) | (comparable.mean(axis=(1, 2)) < 0.2), everywhere, changed)


def repeated_share(change: Series, level: float, reach: int = 6) -> float:
    """Share of frames that repeat the one before while their neighbours move: a stutter, or a lower frame rate in disguise.

    A frame repeats when its ``change``, the largest of a cell, is at most ``level`` and the largest change within ``reach`` frames is five
    times its own at least; steady slow motion, whose steps are all alike, does not count.
    """
    padded = np.pad(change, reach, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    return float(np.mean((change <= level) & (5 * change <= around) & (around > level)))


def flicker_findings(flicker: Series, seconds: Series, config: AnalysisConfig, most: int = 3) -> list[Finding]:
    """The worst stretches above ``config.flash_level``: a ``flash`` of up to two frames, else ``flicker``; worst first."""
    loud = flicker >= config.flash_level
    found: list[Finding] = []
    index = 0
    while index < loud.size:
        if not loud[index]:
            index += 1
            continue
        end = index
        while end + 1 < loud.size and loud[end + 1 : end + 4].any():
            end += 1
        peak = index + int(np.argmax(flicker[index : end + 1]))
        kind = "flash" if end - index < 2 else "flicker"
        found.append(Finding(kind, float(seconds[index]), float(seconds[end]), peak, min(1.0, float(flicker[peak]) / 0.25)))
        index = end + 1
    return sorted(found, key=lambda finding: -finding.severity)[:most]
