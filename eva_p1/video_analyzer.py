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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eva_env_base import EXIT_FAILED, EXIT_OK, ClipError, run_door

from . import frame_measures as spatial
from .analysis_config import AnalysisConfig
from .clip_pass import Gathered, read_clip
from .clip_pictures import PictureTaker
from .decode import Luma
from .metric_scores import exposure_of_histograms, exposure_score, falling, overall_score, ramp
from .temporal_measures import QUANTILES, Finding, TemporalMeasures, frame_span, measure_time

log = logging.getLogger(__name__)


class VideoAnalyzer:
    """Measures clips. Holds no state between clips: one object may serve several threads."""

    def __init__(self, config: AnalysisConfig | None = None, clock: Callable[[], float] = time.monotonic):
        self.config = config or AnalysisConfig()
        self._clock = clock

    def analyze(self, path: str | Path, series: bool = False, pictures: str | Path | None = None) -> dict[str, Any]:
        """Measures the clip at ``path``.

        Returns ``{"video", "metrics", "raw", "findings", "absent", "version"}``: ``metrics`` in [0,1], 1 best, holding
        only what could be measured; ``absent`` says why the others are not there; ``raw`` in own units (see
        ``docs/metrics.md``); ``findings`` for the scrub bar, worst first. ``series=True`` adds per-frame ``series``;
        ``pictures``, a folder, gets a thumbnail and a filmstrip from the same pass, told of under ``pictures``, and the series
        as a file where both are asked for; a folder that cannot be written costs these alone, with the reason under ``absent``.
        Raises :class:`eva_env_base.ClipError` with the reason when the clip cannot be measured at all.
        """
        clip = Path(path)
        taker = None if pictures is None else PictureTaker(Path(pictures))
        gathered = read_clip(clip, self.config, self._clock, taker)
        result = self._result(str(path), gathered, series)
        if taker is not None:
            try:
                result["pictures"] = taker.write(clip, gathered.info, result.get("series"))
            except ClipError as error:
                result["absent"]["pictures"] = str(error)
        return result

    # -- judging
    def _result(self, name: str, gathered: Gathered, with_series: bool) -> dict[str, Any]:
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
        codes = np.stack(gathered.cells)
        # Of whole codes, which a radix sort puts in order in a fraction of the time that numbers take.
        ordered = np.sort(codes.reshape(info.frames, -1), axis=1, kind="stable")
        grid = luma_share(codes, black, white)
        noise = float(np.median([sample.noise for sample in gathered.sampled]))
        raw["noise_sigma"] = noise
        cell_noise = noise / (white - black) / math.sqrt(gathered.cell_pixels)

        self._judge_blur(gathered, scores, absent, raw)
        self._judge_blocks(gathered, scores, absent, raw)
        bars = letterbox(gathered.brightest, black + 0.05 * (white - black))
        raw["letterbox"] = bars
        self._judge_exposure(gathered, bars, scores, raw)
        ends = [round(share * (ordered.shape[1] - 1)) for share in (0.01, 0.99)]
        lowest, highest = luma_share(ordered[:, ends], black, white).T
        quantiles = luma_share(ordered[:, :: max(1, ordered.shape[1] // QUANTILES)], black, white)
        dark = highest < config.black_level
        findings = runs_of(dark, seconds, "black")
        raw["black_share"] = float(dark.mean())
        # The extremes of pure noise lie about 2.3 standard deviations to each side.
        raw["contrast"] = float(max(0.0, np.median(highest - lowest) - 4.65 * cell_noise))
        guards = {
            "empty": ramp(raw["contrast"], *config.content_range),
            "short": ramp(info.frames, *config.short_range),
            "noise": falling(noise, config.noise_curve),
        }
        colours = [sample.pure_colour for sample in gathered.sampled if sample.pure_colour is not None]
        if colours:
            raw["pure_colour_share"] = float(np.mean(colours))
            guards["colour"] = falling(raw["pure_colour_share"], config.colour_curve)
        over_time: TemporalMeasures | None = None
        if info.frames >= 2:
            over_time = measure_time(grid, quantiles, seconds, cell_noise, config)
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
                "seconds": _tidy(seconds.tolist()), "luma": _tidy(grid.mean(axis=(1, 2)).tolist()),
                "flicker": _tidy(over_time.flicker_series.tolist()) if over_time else [],
                "motion": _tidy(over_time.motion_series.tolist()) if over_time else [],
            }  # fmt: skip
        return result

    def _judge_blur(self, gathered: Gathered, scores: dict[str, float], absent: dict[str, str], raw: dict[str, Any]) -> None:
        config = self.config
        energies = [sample.edges for sample in gathered.sampled if sample.edges is not None]
        if min(gathered.height, gathered.width) < spatial.MIN_SIDE:
            absent["blur"] = f"the picture is smaller than {spatial.MIN_SIDE} pixels"
        elif not energies:
            absent["blur"] = "no edge in the picture to judge sharpness by"
        else:
            width = spatial.edge_width(energies, config.blur_scales)
            relative = width * (480 / min(gathered.height, gathered.width)) ** config.blur_size_exponent
            raw["edge_width_px"], raw["edge_width_at_480"] = width, relative
            scores["blur"] = falling(relative, config.blur_curve)

    def _judge_blocks(self, gathered: Gathered, scores: dict[str, float], absent: dict[str, str], raw: dict[str, Any]) -> None:
        if min(gathered.height, gathered.width) < spatial.MIN_SIDE:
            absent["blockiness"] = f"the picture is smaller than {spatial.MIN_SIDE} pixels"
            return
        samples = list(gathered.sampled)
        columns = np.mean([sample.columns for sample in samples], axis=0)
        rows = np.mean([sample.rows for sample in samples], axis=0)
        grids = [spatial.block_grid(*profiles, self.config.block_periods) for profiles in zip(columns, rows)]
        small, *large = grids
        blocks = max(
            small, *(replace(grid, excess=grid.excess - self.config.block_large_free) for grid in large), key=lambda grid: grid.excess
        )
        raw["block_excess"], raw["block_period_px"] = blocks.excess, blocks.period
        steps = [sample.quantiser for sample in gathered.sampled if sample.quantiser is not None]
        if steps:
            raw["quantiser_step"] = float(np.mean(steps))
        defect = max(0.0, blocks.excess) + raw.get("quantiser_step", 0.0) / self.config.quantiser_full
        raw["block_defect"] = defect
        scores["blockiness"] = falling(defect, self.config.block_curve)

    def _judge_exposure(self, gathered: Gathered, bars: dict[str, float], scores: dict[str, float], raw: dict[str, Any]) -> None:
        config, full_range = self.config, gathered.info.full_range
        black = 0 if full_range else 16
        barred = min(0.9, 1.0 - (1.0 - bars["top"] - bars["bottom"]) * (1.0 - bars["left"] - bars["right"]))
        inside = np.stack(gathered.exposed)
        if barred > 0:  # bars are black by intent: taken off the dark end of every frame
            dark_end = inside[:, : black + 9]
            held = dark_end.sum(axis=1, keepdims=True)
            dark_end *= np.where(held > 0, np.maximum(0.0, held - barred) / np.maximum(held, 1e-12), 0.0)
            inside /= np.maximum(inside.sum(axis=1, keepdims=True), 1e-12)
        figures = exposure_of_histograms(inside, full_range, config.clip_margin)
        per_frame = np.array([exposure_score(figure.tolist(), config) for figure in figures])
        counted = np.sort(per_frame)[int(config.exposure_trim * len(per_frame)) :]
        scores["exposure"] = float(counted.mean())
        raw["luma_mean"], raw["clipped_black"], raw["clipped_white"], raw["luma_spread"], raw["luma_darkest"] = (
            float(value) for value in np.median(figures, axis=0)
        )

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


def luma_share(codes: Luma, black: int, white: int) -> NDArray[np.float32]:
    """Luma codes on a scale from 0, ``black``, to 1, ``white``; what lies beyond is cut."""
    share = codes.astype(np.float32)
    share -= black
    share /= white - black
    return np.clip(share, 0.0, 1.0, out=share)


def letterbox(brightest: Luma, dark: float) -> dict[str, float]:
    """Share of the height (top, bottom) and width (left, right) that is black in every frame; a wholly black clip has no bars.

    ``brightest``: the brightest code each place ever had, (height, width); ``dark``: codes up to here are black.
    """
    # A line is lit where a twentieth of its pixels is: a logo or a few damaged pixels do not end a bar.
    above = brightest > dark
    by_row, by_column = (np.count_nonzero(above, axis=axis) > 0.05 * (above.shape[axis] - 1) for axis in (1, 0))
    bars = {}
    for name, profile in (("top", by_row), ("bottom", by_row[::-1]), ("left", by_column), ("right", by_column[::-1])):
        lit = np.flatnonzero(profile)
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
    parser.add_argument("--pictures", metavar="DIR", help="write a thumbnail and a filmstrip of each clip into this folder")
    parser.add_argument(
        "--time-limit", type=float, default=AnalysisConfig.time_limit_s, metavar="S", help="seconds a clip may take (default: %(default)g)"
    )
    given = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    analyzer = VideoAnalyzer(AnalysisConfig(time_limit_s=given.time_limit))
    code = EXIT_OK
    for clip in given.clips:
        try:
            answer = analyzer.analyze(clip, series=given.series, pictures=given.pictures)
        except ClipError as error:
            answer, code = {"video": clip, "error": str(error)}, EXIT_FAILED
        if "pictures" in answer.get("absent", {}):
            code = EXIT_FAILED
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(run_door(main))
