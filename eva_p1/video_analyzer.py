"""Fast metrics of a clip in one pass over its luma: blur, exposure, blockiness, flicker, overall.

``python -m eva_p1.video_analyzer CLIP...`` prints one JSON line a clip. Formulas and reference points: ``docs/metrics.md``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from eva_env_base import EXIT_FAILED, EXIT_OK, ClipError, run_door

from . import frame_measures as spatial
from .analysis_config import AnalysisConfig
from .decode import ClipInfo, Luma, chroma_of, luma_of, read_frames
from .metric_scores import exposure_of_histogram, exposure_score, falling, overall_score, ramp
from .temporal_measures import Finding, TemporalMeasures, frame_span, measure_time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sampled:
    """Measures of one frame at full resolution."""

    edges: spatial.EdgeEnergy | None
    noise: float
    columns: NDArray[np.float64]
    rows: NDArray[np.float64]
    pure_colour: float | None


@dataclass
class _Gathered:
    """What one pass over a clip leaves behind."""

    info: ClipInfo = field(default_factory=ClipInfo)
    height: int = 0
    width: int = 0
    histograms: list[NDArray[np.float64]] = field(default_factory=list)
    cells: list[NDArray[np.float32]] = field(default_factory=list)
    cell_pixels: float = 1.0
    brightest: Luma = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    sampled: dict[int, _Sampled] = field(default_factory=dict)


class VideoAnalyzer:
    """Measures clips. Holds no state between clips: one object may serve several threads."""

    def __init__(self, config: AnalysisConfig | None = None, clock: Callable[[], float] = time.monotonic):
        self.config = config or AnalysisConfig()
        self._clock = clock

    def analyze(self, path: str | Path, series: bool = False) -> dict[str, Any]:
        """Measures the clip at ``path``.

        Returns ``{"video", "metrics", "raw", "findings", "absent", "version"}``: ``metrics`` in [0,1], 1 best, holding
        only what could be measured; ``absent`` says why the others are not there; ``raw`` in own units (see
        ``docs/metrics.md``); ``findings`` for the scrub bar, worst first. ``series=True`` adds per-frame ``series``.
        Raises :class:`eva_env_base.ClipError` with the reason when the clip cannot be measured at all.
        """
        clip = Path(path)
        gathered = self._read(clip)
        return self._result(str(path), gathered, series)

    # -- reading
    def _read(self, clip: Path) -> _Gathered:
        config, gathered = self.config, _Gathered()
        info = gathered.info
        stride = 0
        for index, frame in enumerate(read_frames(clip, info, config.time_limit_s, self._clock)):
            luma = luma_of(frame)
            if index >= config.max_frames:
                raise ClipError(f"{clip}: more than {config.max_frames} frames; this measures short generated clips")
            if index == 0:
                gathered.height, gathered.width = luma.shape
                # The header's count only spreads the samples; when it lies, thinning below keeps them spread.
                stride = max(1, math.ceil(info.header_frames / config.sampled_frames))
            if luma.shape != (gathered.height, gathered.width):
                resized = cv2.resize(np.ascontiguousarray(luma), (gathered.width, gathered.height), interpolation=cv2.INTER_AREA)
                luma = np.asarray(resized, np.uint8)
            self._every_frame(luma, gathered)
            if index % stride == stride // 2:
                gathered.sampled[index] = self._full_resolution(luma, frame)
                if len(gathered.sampled) >= 2 * config.sampled_frames:
                    stride *= 2
                    gathered.sampled = {key: value for place, (key, value) in enumerate(gathered.sampled.items()) if place % 2 == 0}
            elif index == 0:
                gathered.sampled[0] = self._full_resolution(luma, frame)
        return gathered

    def _every_frame(self, luma: Luma, gathered: _Gathered) -> None:
        sparse = spatial.thin(luma, self.config.sparse_width)
        gathered.histograms.append(spatial.histogram(sparse))
        gathered.brightest = np.maximum(gathered.brightest, sparse) if gathered.brightest.size else sparse
        cells, gathered.cell_pixels = block_means(sparse, self.config.grid_cells)
        gathered.cells.append(cells)

    def _full_resolution(self, luma: Luma, frame: av.VideoFrame) -> _Sampled:
        noise = spatial.noise_sigma(spatial.busiest_tiles(luma)) if min(luma.shape) >= 3 else 0.0
        columns, rows = np.zeros((0, 0)), np.zeros((0, 0))
        if min(luma.shape) >= spatial.MIN_SIDE:
            columns, rows = spatial.step_profiles(luma, self.config.block_step_caps)
        chroma = chroma_of(frame)
        pure = None if chroma is None else spatial.pure_colour_share(*chroma, self.config.pure_colour)
        return _Sampled(spatial.edge_energy(luma, self.config, noise), noise, columns, rows, pure)

    # -- judging
    def _result(self, name: str, gathered: _Gathered, with_series: bool) -> dict[str, Any]:
        config, info = self.config, gathered.info
        black, white = (0, 255) if info.full_range else (16, 235)
        seconds = np.asarray(info.times)
        span = frame_span(seconds)
        scores: dict[str, float] = {}
        absent: dict[str, str] = {}
        raw: dict[str, Any] = {
            "frames": info.frames, "width": gathered.width, "height": gathered.height,
            "fps": (info.frames / span if span > 0 else None), "seconds": span, "codec": info.codec,
            "pixel_format": info.pixel_format, "full_range": info.full_range, "rotation": info.rotation, "damaged": info.damaged,
        }  # fmt: skip
        grid = np.clip((np.stack(gathered.cells) - black) / (white - black), 0.0, 1.0).astype(np.float32)
        noise = float(np.median([sample.noise for sample in gathered.sampled.values()]))
        raw["noise_sigma"] = noise
        cell_noise = noise / (white - black) / math.sqrt(gathered.cell_pixels)

        self._judge_blur(gathered, scores, absent, raw)
        self._judge_blocks(gathered, scores, absent, raw)
        histograms = np.stack(gathered.histograms)
        bars = letterbox(gathered.brightest, black + 0.05 * (white - black))
        raw["letterbox"] = bars
        exposures, dark = self._judge_exposure(histograms, bars, info.full_range, scores, raw)
        findings = runs_of(dark, seconds, "black")
        raw["black_share"] = float(dark.mean())

        levels = np.percentile(grid.reshape(info.frames, -1), (1, 99), axis=1)
        # The extremes of pure noise lie about 2.3 standard deviations to each side.
        raw["contrast"] = float(max(0.0, np.median(levels[1] - levels[0]) - 4.65 * cell_noise))
        guards = {
            "empty": ramp(raw["contrast"], *config.content_range),
            "short": ramp(info.frames, *config.short_range),
            "noise": falling(noise, config.noise_curve),
        }
        colours = [sample.pure_colour for sample in gathered.sampled.values() if sample.pure_colour is not None]
        if colours:
            raw["pure_colour_share"] = float(np.mean(colours))
            guards["colour"] = falling(raw["pure_colour_share"], config.colour_curve)
        over_time: TemporalMeasures | None = None
        if info.frames >= 2:
            over_time = measure_time(grid, seconds, cell_noise, config)
            self._judge_time(over_time, info.frames, scores, absent, raw)
            findings += over_time.findings
            if over_time.repeated_share > config.stutter_share and raw["fps"]:
                guards["stutter"] = ramp(raw["fps"] * (1.0 - over_time.repeated_share), *config.stutter_fps)
        else:
            absent["flicker"] = "the clip has one frame"
            raw.update({"frozen_share": 1.0, "motion": None})
        guards["frozen"] = 1.0 - ramp(raw["frozen_share"], *config.frozen_range)
        guards = {name: max(config.guard_floor, value) for name, value in guards.items()}
        raw["guards"] = guards
        if info.header_frames > info.frames or info.interrupted:
            missing = max(0, info.header_frames - info.frames)
            raw["frames_missing"] = missing
            findings.append(Finding("truncated", span, span, info.frames - 1, min(1.0, missing / max(1, info.header_frames))))
        overall = overall_score(scores, guards, config)
        if overall is None:
            absent["overall"] = "nothing could be measured"
        else:
            scores["overall"] = overall
        findings.sort(key=lambda finding: -finding.severity)
        result = {"video": name, "metrics": _tidy(scores), "raw": _tidy(raw), "findings": [_tidy(asdict(item)) for item in findings],
                  "absent": absent, "version": config.version}  # fmt: skip
        if with_series:
            result["series"] = {
                "seconds": _tidy(seconds.tolist()), "luma": _tidy(exposures[:, 0].tolist()),
                "flicker": _tidy(over_time.flicker_series.tolist()) if over_time else [],
                "motion": _tidy(over_time.motion_series.tolist()) if over_time else [],
            }  # fmt: skip
        return result

    def _judge_blur(self, gathered: _Gathered, scores: dict[str, float], absent: dict[str, str], raw: dict[str, Any]) -> None:
        config = self.config
        energies = [sample.edges for sample in gathered.sampled.values() if sample.edges is not None]
        if min(gathered.height, gathered.width) < spatial.MIN_SIDE:
            absent["blur"] = f"the picture is smaller than {spatial.MIN_SIDE} pixels"
        elif not energies:
            absent["blur"] = "no edge in the picture to judge sharpness by"
        else:
            width = spatial.edge_width(energies, config.blur_scales)
            relative = width * (480 / min(gathered.height, gathered.width)) ** config.blur_size_exponent
            raw["edge_width_px"], raw["edge_width_at_480"] = width, relative
            scores["blur"] = falling(relative, config.blur_curve)

    def _judge_blocks(self, gathered: _Gathered, scores: dict[str, float], absent: dict[str, str], raw: dict[str, Any]) -> None:
        if min(gathered.height, gathered.width) < spatial.MIN_SIDE:
            absent["blockiness"] = f"the picture is smaller than {spatial.MIN_SIDE} pixels"
            return
        samples = list(gathered.sampled.values())
        columns = np.mean([sample.columns for sample in samples], axis=0)
        rows = np.mean([sample.rows for sample in samples], axis=0)
        grids = [spatial.block_grid(*profiles, self.config.block_periods) for profiles in zip(columns, rows)]
        small, *large = grids
        blocks = max(
            small, *(replace(grid, excess=grid.excess - self.config.block_large_free) for grid in large), key=lambda grid: grid.excess
        )
        raw["block_excess"], raw["block_period_px"] = blocks.excess, blocks.period
        scores["blockiness"] = falling(blocks.excess, self.config.block_curve)

    def _judge_exposure(self, histograms: NDArray[np.float64], bars: dict[str, float], full_range: bool, scores: dict[str, float],
                        raw: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:  # fmt: skip
        config = self.config
        black, white = (0, 255) if full_range else (16, 235)
        barred = min(0.9, 1.0 - (1.0 - bars["top"] - bars["bottom"]) * (1.0 - bars["left"] - bars["right"]))
        inside = histograms.copy()
        if barred > 0:  # bars are black by intent: taken off the dark end of every frame
            dark_end = inside[:, : black + 9]
            held = dark_end.sum(axis=1, keepdims=True)
            dark_end *= np.where(held > 0, np.maximum(0.0, held - barred) / np.maximum(held, 1e-12), 0.0)
            inside /= np.maximum(inside.sum(axis=1, keepdims=True), 1e-12)
        figures = np.array([exposure_of_histogram(shares, full_range, config.clip_margin) for shares in inside])
        per_frame = np.array([exposure_score(figure[0], figure[1], figure[2], figure[3], config) for figure in figures])
        counted = np.sort(per_frame)[int(config.exposure_trim * len(per_frame)) :]
        scores["exposure"] = float(counted.mean())
        raw["luma_mean"], raw["clipped_black"], raw["clipped_white"], raw["luma_spread"] = (
            float(value) for value in np.median(figures, axis=0)
        )
        top_codes = np.array([np.searchsorted(row, 0.99) for row in np.cumsum(histograms, axis=1)])
        return figures, (top_codes - black) / (white - black) < config.black_level

    def _judge_time(self, over_time: TemporalMeasures, frames: int, scores: dict[str, float], absent: dict[str, str],
                    raw: dict[str, Any]) -> None:  # fmt: skip
        raw.update({
            "flicker_rms": over_time.flicker, "flicker_global_rms": over_time.flicker_global, "flicker_local": over_time.flicker_local,
            "motion": over_time.motion, "frozen_share": over_time.frozen_share, "longest_freeze_s": over_time.longest_freeze_s,
            "repeated_share": over_time.repeated_share,
            "first_frame_jump": over_time.first_frame_jump, "last_frame_jump": over_time.last_frame_jump, "cuts": list(over_time.cuts),
        })  # fmt: skip
        if frames >= 3:
            scores["flicker"] = falling(over_time.flicker, self.config.flicker_curve)
        else:
            absent["flicker"] = "flicker needs at least 3 frames"


def block_means(sparse: Luma, cells: int) -> tuple[NDArray[np.float32], float]:
    """Means of the cells of a grid with ``cells`` cells along the longer side, and the pixels in a cell."""
    height, width = sparse.shape
    side = max(1, round(max(height, width) / cells))
    rows, columns = max(1, height // side), max(1, width // side)
    used = sparse[: rows * side, : columns * side] if min(height, width) >= side else sparse
    means = cv2.resize(used, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    return means, used.size / (rows * columns)


def letterbox(brightest: Luma, dark: float) -> dict[str, float]:
    """Share of the height (top, bottom) and width (left, right) that is black in every frame; a wholly black clip has no bars.

    ``brightest``: the brightest code each place ever had, (height, width); ``dark``: codes up to here are black.
    """
    by_row, by_column = np.percentile(brightest, 95, axis=1), np.percentile(brightest, 95, axis=0)
    bars = {}
    for name, profile in (("top", by_row), ("bottom", by_row[::-1]), ("left", by_column), ("right", by_column[::-1])):
        lit = np.flatnonzero(profile > dark)
        bars[name] = float(lit[0] / profile.size) if lit.size else 0.0
    return bars


def runs_of(flags: NDArray[np.bool_], seconds: NDArray[np.float64], kind: str) -> list[Finding]:
    """One finding for each run of true ``flags``; severity is the share of the clip it takes."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [
        Finding(kind, float(seconds[first]), float(seconds[end - 1]), int(first), float((end - first) / flags.size))
        for first, end in zip(edges[::2], edges[1::2])
    ]


def _tidy(value: Any) -> Any:
    """JSON-ready copy: plain numbers with six significant digits, NaN and infinity as null."""
    if isinstance(value, dict):
        return {key: _tidy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tidy(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.6g}") if math.isfinite(value) else None
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: one JSON line a clip; 1 when any clip could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m eva_p1.video_analyzer", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a video file")
    parser.add_argument("--series", action="store_true", help="add the per-frame series")
    parser.add_argument(
        "--time-limit", type=float, default=AnalysisConfig.time_limit_s, metavar="S", help="seconds a clip may take (default: %(default)g)"
    )
    given = parser.parse_args(arguments)
    analyzer = VideoAnalyzer(AnalysisConfig(time_limit_s=given.time_limit))
    code = EXIT_OK
    for clip in given.clips:
        try:
            answer = analyzer.analyze(clip, series=given.series)
        except ClipError as error:
            answer, code = {"video": clip, "error": str(error)}, EXIT_FAILED
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(run_door(main))
