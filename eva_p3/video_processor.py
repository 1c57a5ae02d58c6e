"""Deep analysis of a clip: samples frames and runs the detectors on them.

``python -m eva_p3.video_processor CLIP...`` prints one JSON line a clip. What could not be measured is absent, with a reason.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from eva_env_base import EXIT_FAILED, EXIT_OK, ClipError, UsageError, run_door

from .detection_types import Detector
from .enhanced_analyzer import REGISTRY, build_detectors, deep_quality, version
from .frames import SamplingPlan, sample_frames
from .logger import log


class VideoProcessor:
    """Runs detectors over sampled frames of a clip. Holds no state between clips."""

    def __init__(
        self,
        detectors: Sequence[Detector] | None = None,
        plan: SamplingPlan | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.detectors = list(detectors) if detectors is not None else build_detectors()
        self.plan = plan or SamplingPlan()
        self._clock = clock

    def analyze_video(self, path: str | Path) -> dict[str, Any]:
        """``{"video", "metrics", "raw", "findings", "absent", "version"}``.

        ``metrics``: the scores measured, in [0,1], 1 best, and ``deep_quality``, their weighted mean (``raw`` says of which).
        ``absent``: metric -> why it is not there. Raises :class:`eva_env_base.ClipError` when the clip cannot be read.
        """
        samples, facts = sample_frames(Path(path), self.plan, self._clock)
        metrics: dict[str, float] = {}
        absent: dict[str, str] = {}
        findings: list[dict[str, Any]] = []
        raw: dict[str, Any] = {**facts, "sampled_frames": [sample.index for sample in samples]}
        for detector in self.detectors:
            reason = detector.unavailable()
            if reason:
                absent[detector.metric] = reason
                continue
            started = self._clock()
            try:
                found = detector.detect(samples)
            except (cv2.error, ValueError, ArithmeticError, IndexError, RuntimeError, MemoryError, np.linalg.LinAlgError) as error:
                # One detector that breaks on an odd clip must not cost the others' results; it is said, not hidden.
                log.exception("%s failed on %s", detector.metric, path)
                absent[detector.metric] = f"the detector failed: {type(error).__name__}: {error}"
                continue
            if found.score is None:
                absent[detector.metric] = found.reason
            else:
                metrics[detector.metric] = _round(found.score)
            raw[detector.metric] = {
                **{name: _round(value) for name, value in found.raw.items()},
                "seconds": _round(self._clock() - started),
            }
            findings += [finding.as_dict() for finding in found.findings]
        quality = deep_quality(metrics)
        if quality is None:
            absent["deep_quality"] = "no detector could measure this clip"
        else:
            raw["deep_quality_from"] = sorted(metrics)
            metrics["deep_quality"] = _round(quality)
        findings.sort(key=lambda finding: -finding["severity"])
        names = [detector.metric for detector in self.detectors]
        return {"video": str(path), "metrics": metrics, "raw": raw, "findings": findings, "absent": absent, "version": version(names)}


def _round(value: Any) -> Any:
    """Six significant digits; what is not finite becomes null."""
    if isinstance(value, bool) or not isinstance(value, (float, np.floating)):
        return value
    return float(f"{float(value):.6g}") if math.isfinite(value) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: one JSON line a clip; 1 when any clip could not be read."""
    parser = argparse.ArgumentParser(prog="python -m eva_p3.video_processor", description="Deep analysis of clips, one JSON line each.")
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a video file")
    parser.add_argument("--only", metavar="NAME[,NAME]", help=f"run these detectors only: {', '.join(REGISTRY)}")
    parser.add_argument("--pairs", type=int, default=SamplingPlan.pairs, metavar="N", help="frame pairs to sample (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.pairs < 1:
        raise UsageError(f"--pairs: {given.pairs} is too few; at least 1")
    names = [name.strip() for name in given.only.split(",") if name.strip()] if given.only else None
    if names is not None and (not names or any(name not in REGISTRY for name in names)):
        raise UsageError(f"--only: {given.only!r} names no detector; choose from {', '.join(REGISTRY)}")
    processor = VideoProcessor(build_detectors(names), SamplingPlan(pairs=given.pairs))
    code = EXIT_OK
    for clip in given.clips:
        try:
            answer = processor.analyze_video(clip)
        except ClipError as error:
            answer, code = {"video": clip, "error": str(error)}, EXIT_FAILED
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(run_door(main))
