"""Trust table of the fast metrics: what each score does along a ladder of its own defect, and what it must not answer to.

    python benchmarks/metrics_trust.py [--frames 12] [--only china] [--markdown]

Every figure stands beside its yardstick. Sources: photographs from scikit-learn, panned and encoded, and real clips where
present. AUC: the chance that a distorted clip scores below a pristine one, over all pairs of clips. The correlation with
ffmpeg's blurdetect and blockdetect is Spearman's, of raw measures, along each ladder (its median over clips) and pooled.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from metric_clips import media, sources
from scipy.stats import spearmanr

from eva_p1.video_analyzer import VideoAnalyzer

BLUR = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
X264 = (10, 18, 26, 34, 42, 51)
MPEG4 = (2, 5, 10, 18, 31)
FLICKER = (0.0, 0.02, 0.05, 0.1, 0.2)
DARKER, BRIGHTER = (0, -20, -40, -60, -80), (0, 30, 60, 90, 120)
MIDDLE = {"blur": 2.0, "x264": 34, "mpeg4": 10, "rescaled": 10, "flicker": 0.1, "darker": -40, "brighter": 60}
SCORE = {"x264": "blockiness", "mpeg4": "blockiness", "rescaled": "blockiness", "darker": "exposure", "brighter": "exposure"}
PAN_SPEEDS = (2, 5, 10, 20)


class Bench:
    """Encodes, measures and remembers. ``ladders[ladder][clip]`` is a list of (step, score, raw measure, ffmpeg's or None)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.analyzer = VideoAnalyzer()
        self.ladders: dict[str, dict[str, list[tuple[float, float, float, float | None]]]] = defaultdict(lambda: defaultdict(list))
        self.noise: dict[str, list[float]] = defaultdict(list)
        self.pan: dict[str, list[float]] = {}

    def measure(self, frames: list[media.Frame], **how: Any) -> tuple[dict[str, Any], Path]:
        path = media.encode(self.folder / "clip.mp4", frames, **how)
        return self.analyzer.analyze(path), path

    def note(self, ladder: str, clip: str, step: float, found: dict[str, Any], path: Path | None = None) -> None:
        score = SCORE.get(ladder, ladder)
        raw = {"blur": "edge_width_px", "blockiness": "block_defect", "flicker": "flicker_rms", "exposure": "luma_mean"}[score]
        theirs = None
        if path is not None:
            theirs = by_ffmpeg(path, "blurdetect", "blur") if score == "blur" else by_ffmpeg(path, "blockdetect", "block")
        self.ladders[ladder][clip].append((step, found["metrics"].get(score, float("nan")), found["raw"].get(raw, float("nan")), theirs))

    def run(self, clip: str, frames: list[media.Frame]) -> None:
        for sigma in BLUR:
            soft = media.blurred(frames, sigma)
            found, path = self.measure(soft)
            self.note("blur", clip, sigma, found, path)
            if sigma in (0.0, 2.0, 4.0):
                noisy, _ = self.measure(media.noisy(soft, 10))
                self.noise[clip].append(noisy["metrics"]["blur"] - found["metrics"]["blur"])
        for crf in X264:
            self.note("x264", clip, crf, *self.measure(frames, options={"crf": str(crf), "preset": "veryfast"}))
        self.note("rescaled", clip, 0, self.measure(media.rescaled(frames, 0.8))[0])
        for quantiser in MPEG4:
            found, path = self.measure(frames, codec="mpeg4", options={"qmin": str(quantiser), "qmax": str(quantiser)})
            self.note("mpeg4", clip, quantiser, found, path)
            if quantiser == MIDDLE["rescaled"]:
                self.note("rescaled", clip, quantiser, self.measure(media.rescaled(media.decoded(path), 0.8))[0])
        for amplitude in FLICKER:
            self.note("flicker", clip, amplitude, self.measure(media.flickering(frames, amplitude))[0])
        for ladder, shifts in (("darker", DARKER), ("brighter", BRIGHTER)):
            for shift in shifts:
                self.note(ladder, clip, abs(shift), self.measure(media.exposed(frames, shift))[0])

    def run_pans(self, frames: int) -> None:
        for name in media.PHOTOS:
            still = self.measure(media.panned(name, frames, speed=0.5))[0]["metrics"]["flicker"]
            self.pan[name] = [
                self.measure(media.panned(name, frames, speed=speed))[0]["metrics"]["flicker"] - still for speed in PAN_SPEEDS
            ]


def by_ffmpeg(path: Path, detector: str, key: str) -> float | None:
    """Mean over frames of ffmpeg's own detector; ``None`` where there is no ffmpeg."""
    if shutil.which("ffmpeg") is None:
        return None
    command = ["ffmpeg", "-hide_banner", "-threads", "1", "-i", str(path), "-vf", f"{detector},metadata=print:file=-", "-f", "null", "-"]
    text = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    values = [float(value) for value in re.findall(rf"lavfi\.{key}=([\d.]+)", text)]
    return statistics.fmean(values) if values else None


def auc(distorted: list[float], pristine: list[float]) -> float:
    """Chance that a distorted clip scores below a pristine one (ties count half)."""
    pairs = [(bad < good) + 0.5 * (bad == good) for bad in distorted for good in pristine]
    return float(np.mean(pairs))


def correlation(bench: Bench, ladder: str) -> tuple[float, float] | None:
    """(median over clips, pooled) rank correlation of the raw measure with ffmpeg's."""
    by_clip = [[(row[2], row[3]) for row in rows if row[3] is not None] for rows in bench.ladders[ladder].values()]
    by_clip = [rows for rows in by_clip if len(rows) > 2]
    if not by_clip:
        return None
    each = [spearmanr(*zip(*rows)).statistic for rows in by_clip]
    return float(np.median(each)), float(spearmanr(*zip(*[row for rows in by_clip for row in rows])).statistic)


def with_step(bench: Bench, ladder: str) -> tuple[float, float]:
    """Pooled rank correlation of our raw measure, and of ffmpeg's, with what was really done to the clips.

    Where ffmpeg's is below a yardstick, no measure that follows the truth can come nearer to ffmpeg's than that.
    """
    rows = [row for steps in bench.ladders[ladder].values() for row in steps if row[3] is not None]
    steps, _scores, ours, theirs = zip(*rows)
    return float(spearmanr(steps, ours).statistic), float(spearmanr(steps, theirs).statistic)


def report(bench: Bench) -> list[tuple[str, str, str, str]]:
    """Rows (what, figure, yardstick, met)."""
    rows: list[tuple[str, str, str, str]] = []

    def add(what: str, figure: str, yardstick: str, met: bool | None) -> None:
        rows.append((what, figure, yardstick, "?" if met is None else "yes" if met else "NO"))

    for ladder, clips in bench.ladders.items():
        if ladder != "rescaled":
            broken = [clip for clip, steps in clips.items() if not all(b[1] < a[1] for a, b in zip(steps, steps[1:]))]
            text = f"{len(clips) - len(broken)} of {len(clips)} clips" + (f" (not: {', '.join(broken)})" if broken else "")
            add(f"{ladder}: score strictly falls along the ladder", text, "every clip", not broken)
        middle = abs(MIDDLE[ladder])
        # What is pristine to the mpeg4 ladder is the source itself, as the first step of the x264 ladder has it.
        pristine = [steps[0][1] for steps in bench.ladders["x264" if ladder == "mpeg4" else ladder].values()]
        distorted = [score for steps in clips.values() for step, score, _, _ in steps if step == middle]
        value = auc(distorted, pristine)
        limit = 0.9 if ladder == "rescaled" else 0.95
        add(f"{ladder}: AUC at {MIDDLE[ladder]}", f"{value:.3f}", f">= {limit}", value >= limit)
    worst = max((max(deltas), clip) for clip, deltas in bench.noise.items())
    add("blur: noise of sd 10 raises the score by at most", f"{worst[0]:+.3f} ({worst[1]})", "<= 0.05", worst[0] <= 0.05)
    lowest = min((min(deltas), name) for name, deltas in bench.pan.items())
    add(f"flicker: a pan of {PAN_SPEEDS} px a frame costs at most", f"{-lowest[0]:.3f} ({lowest[1]})", "<= 0.05", -lowest[0] <= 0.05)
    for ladder, detector in (("blur", "blurdetect"), ("mpeg4", "blockdetect"), ("x264", "blockdetect")):
        found = correlation(bench, ladder)
        name = f"{ladder}: rank correlation with ffmpeg's {detector}, by clip / pooled"
        if found is None:
            add(name, "ffmpeg is not installed", ">= 0.9", None)
        else:
            add(name, f"{found[0]:.2f} / {found[1]:.2f}", ">= 0.9", min(map(abs, found)) >= 0.9)
            ours, theirs = with_step(bench, ladder)
            name = f"{ladder}: rank correlation with the ladder's own steps, pooled: ours / {detector}'s"
            add(name, f"{ours:.2f} / {theirs:.2f}", "ours is the larger", ours > theirs)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=12, help="frames of each source (default: %(default)s)")
    parser.add_argument("--only", default="", help="only sources whose name holds this")
    parser.add_argument("--ladders", action="store_true", help="print every score of every ladder")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for clip, frames in sources(given.frames):
            if given.only in clip:
                bench.run(clip, frames)
        bench.run_pans(24)
    if given.ladders:
        for ladder, clips in bench.ladders.items():
            for clip, steps in clips.items():
                print(f"{ladder:9} {clip:22}", " ".join(f"{step:g}:{score:.4f}({raw:.3f})" for step, score, raw, _ in steps))
        for name, deltas in bench.pan.items():
            print(f"pan       {name:22}", " ".join(f"{delta:+.3f}" for delta in deltas))
    print(f"analyzer version {bench.analyzer.config.version}; sources: {', '.join(bench.ladders['blur'])}\n")
    print("| what | figure | yardstick | met |\n|---|---|---|---|")
    for row in report(bench):
        print("| " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
