"""Cost of the fast metrics beside decoding alone, ffmpeg's detectors, and with pictures; peak memory at 1080p.

    python benchmarks/metrics_speed.py [--repeats 5] [--no-generated]

CPU seconds (user and system, all threads) of one process, the least of several runs: wall time on a shared machine says little.
"decode" is a plain PyAV loop, one thread, that looks at every luma plane. Wall time stands only beside ffmpeg's, which runs
`blurdetect,blockdetect,signalstats` with its default threads on the same clip.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from metric_clips import PROJECT, REAL_CLIPS, media

from eva_p1.video_analyzer import VideoAnalyzer

SIZES = {"480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080), "4K": (3840, 2160)}
RATIO, FFMPEG_SHARE, MEMORY_MB = 1.35, 1 / 6, 150.0
FILTERS = "blurdetect,blockdetect,signalstats"
PEAK = """
import sys, threading, psutil
from {module} import {name}
held, done, process = [], threading.Event(), psutil.Process()
def watch():
    while not done.wait(0.005):
        held.append(process.memory_info().rss)
watcher = threading.Thread(target=watch)
watcher.start()
{call}
done.set()
watcher.join()
print(max([*held, process.memory_info().rss]) / 1e6)
"""


def decode(path: Path) -> int:
    """Decodes every frame on one thread and looks at its luma plane; returns their number."""
    frames = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            plane = frame.planes[0]
            np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
            frames += 1
    return frames


def least(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """(CPU seconds, wall seconds), each the least of ``repeats`` runs."""
    cpu, wall = [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        work()
        cpu.append(time.process_time() - began_cpu)
        wall.append(time.perf_counter() - began)
    return min(cpu), min(wall)


def clips(folder: Path, generated: bool) -> Iterator[Path]:
    yield from sorted(REAL_CLIPS.glob("*.mp4"))
    if generated:
        for name, size in SIZES.items():
            frames = media.noisy(media.panned("china", 24, size=size), 2)  # a little grain: a camera's clip has some
            yield media.encode(folder / f"generated {name}.mp4", frames, options={"crf": "20", "preset": "veryfast"})


def ffmpeg_wall(path: Path, repeats: int) -> float | None:
    """Wall seconds of ffmpeg's detectors, its start included, as ours includes opening the clip; ``None`` without ffmpeg."""
    if shutil.which("ffmpeg") is None:
        return None
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-i", str(path), "-an", "-vf", FILTERS, "-f", "null", "-"]
    return least(lambda: subprocess.run(command, check=True), repeats)[1]


def peak_megabytes(path: Path, module: str, name: str, call: str) -> float:
    """Largest resident memory, in MB, seen every 5 ms in a fresh Python that imports ``name`` and runs ``call``."""
    code = PEAK.format(module=module, name=name, call=call)
    ended = subprocess.run([sys.executable, "-c", code, str(path)], cwd=PROJECT, capture_output=True, text=True, check=True)
    return float(ended.stdout)


def verdict(met: bool) -> str:
    return "yes" if met else "NO"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-generated", action="store_true", help="shared clips only")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    analyzer = VideoAnalyzer()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        print(f"| clip | frames | decode ms | measure ms | ratio | <= {RATIO} | with pictures | ffmpeg wall / ours | >= 6 |")
        print("|---|---|---|---|---|---|---|---|---|")
        large = None
        for path in clips(folder, not given.no_generated):
            frames = decode(path)
            analyzer.analyze(path)  # both warm
            alone, _ = least(lambda path=path: decode(path), given.repeats)
            ours, wall = least(lambda path=path: analyzer.analyze(path), given.repeats)
            pictured, _ = least(lambda path=path: analyzer.analyze(path, pictures=folder / "pictures"), given.repeats)
            theirs = ffmpeg_wall(path, max(1, given.repeats // 2))
            ratio = ours / alone
            beside = "no ffmpeg | ?" if theirs is None else f"{theirs / wall:.1f} | {verdict(wall <= theirs * FFMPEG_SHARE)}"
            print(
                f"| {path.stem} | {frames} | {1e3 * alone:.1f} | {1e3 * ours:.1f} | {ratio:.2f} | {verdict(ratio <= RATIO)} "
                f"| {pictured / alone:.2f} | {beside} |",
                flush=True,
            )
            if frames and "1080p" in path.stem:
                large = path
        if large is not None:
            where = repr(str(folder / "kept"))
            calls = ("", "VideoAnalyzer().analyze(sys.argv[1])", f"VideoAnalyzer().analyze(sys.argv[1], series=True, pictures={where})")
            bare, peak, kept = (peak_megabytes(large, "eva_p1.video_analyzer", "VideoAnalyzer", call) for call in calls)
            print(f"\npeak memory at 1080p: {peak:.0f} MB, yardstick {MEMORY_MB:.0f} MB: {verdict(peak <= MEMORY_MB)}")
            print(f"with pictures and series: {kept:.0f} MB: {verdict(kept <= MEMORY_MB)}")
            print(f"of which Python with numpy, OpenCV and PyAV imported: {bare:.0f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
