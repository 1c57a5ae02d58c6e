"""How fast a person can rate: 300 ratings of 5-second clips in a real Chromium against a real server, then on to 500 clips for the memory.

Prints, beside yardsticks: key to next frame (from the digit's press to the first frame of the next clip on screen) and to the clip
moving (its second frame, which at 16 frames a second is due 62 ms after the first), ratings a minute that would allow, growth of the
page's and the process's memory, tasks that held the page up, first paint of every page.

    python benchmarks/review_speed.py [--ratings 300] [--drive 500] [--size 832x480] [--seconds 5] [--json]

It needs what the page tests need (playwright and a Chromium, PyAV). A clip that was loaded ahead has its first frame decoded: it is on
screen with the first paint after the key, and ``requestVideoFrameCallback`` first tells of the second frame. One that was not ready
counts from its first callback. The ratings are driven through ``raw_chromium``: Playwright lets the renderer keep a copy of all that
was fetched, which would be weighed with the page. What is kept at 0 clips is a browser that has played one clip; codecs, the pool of
decoded frames and the loaded clips come with the first dozens.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from benchmarks.raw_chromium import Chromium, Session  # noqa: E402
from eva_state.store import StateStore  # noqa: E402
from tests.static.conftest import CHROMIUM_FLAGS, entry_of, find_chromium  # noqa: E402

KEY_TO_FRAME_MS = 100  # p95, the yardstick
FIRST_PAINT_MS = 300
WARM = 50  # ratings until codecs, decoded frames and the loaded clips have taken their room
LONG_TASK_MS = 50  # https://www.w3.org/TR/longtasks-1/
PAGES = ("/", "/search", "/compare", "/qa", "/insights", "/watch?name=clip_0001.mp4")

# Notes of every digit: when it was pressed, the paint after it (as the browser reports it: https://www.w3.org/TR/event-timing/), and the
# first frame callback of the next clip with the number of frames shown by then.
WATCH = """
() => {
  const speed = window.__speed = { presses: [], paints: {}, long: [] };
  addEventListener('keydown', (event) => {
    if (!/^[0-9]$/.test(event.key)) return;
    const pressed = event.timeStamp;
    const before = document.querySelector('.stage video.on');
    const look = () => {
      const now = document.querySelector('.stage video.on');
      if (!now || now === before) { requestAnimationFrame(look); return; }
      now.requestVideoFrameCallback((at, frame) =>
        speed.presses.push({ pressed, told: Math.max(at, performance.now()) - pressed, frames: frame.presentedFrames }));
    };
    requestAnimationFrame(look);
  }, true);
  const watch = (type, take, more) => new PerformanceObserver((list) => list.getEntries().forEach(take)).observe({ type, ...more });
  watch('longtask', (entry) => speed.long.push(entry.duration));
  const paint = (entry) => { if (entry.name === 'keydown') speed.paints[entry.startTime.toFixed(1)] = entry.duration; };
  watch('event', paint, { durationThreshold: 16 });
}
"""


def film(path: Path, width: int, height: int, seconds: float, shade: int) -> None:
    """A clip with detail in motion, so that decoding it costs what a model's clip costs."""
    import av
    import numpy

    rng = numpy.random.default_rng(shade)
    ground = rng.integers(40, 200, (height // 8, width // 8, 3), dtype=numpy.uint8).repeat(8, 0).repeat(8, 1)
    ground = numpy.pad(ground, ((0, height - ground.shape[0]), (0, width - ground.shape[1]), (0, 0)), "edge")
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23"}
        for number in range(round(seconds * 16)):
            picture = numpy.roll(ground, 3 * number, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def make_state(root: Path, clips: int, size: tuple[int, int], seconds: float) -> tuple[Path, Path]:
    """A folder of rendered clips with their history; every third one is upright."""
    video_dir, state_dir = root / "output", root / "state"
    video_dir.mkdir()
    sources = [root / f"{number}.mp4" for number in range(3)]
    for number, path in enumerate(sources):
        film(path, *(size if number else size[::-1]), seconds, 60 + 50 * number)
    now = time.time()
    with StateStore(state_dir, role="agent", video_dir=video_dir) as store:
        for number in range(clips):
            name, at = f"clip_{number:04}.mp4", now - 60 * (clips - number)
            shutil.copyfile(sources[number % len(sources)], video_dir / name)
            os.utime(video_dir / name, (at, at))
            store.generated(f"prompt-{number}", entry_of(name, number, at), 0.5, 2.0)
    return video_dir, state_dir


def start(video_dir: Path, state_dir: Path) -> tuple[subprocess.Popen[str], str]:
    command = [
        sys.executable,
        str(PROJECT / "simple_web_server.py"),
        "--video-dir",
        str(video_dir),
        "--state-dir",
        str(state_dir),
        "--port",
        "0",
    ]
    environ = {name: value for name, value in os.environ.items() if name not in ("EVA_TOKEN", "SERVER_HOST", "SERVER_PORT", "PORT")}
    process = subprocess.Popen(
        command, env={**environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("http://"):
            threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would hold the server up
            return process, line.strip().rstrip("/")
    raise SystemExit("the server did not start")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def heap(page: Session) -> float:
    """Megabytes of the page's JavaScript heap after a collection."""
    page.send("HeapProfiler.collectGarbage")
    return float(page.send("Runtime.getHeapUsage")["usedSize"]) / 1e6


def rate(browser: Chromium, ratings: int, drive: int) -> dict[str, Any]:
    page = browser.page
    page.until("document.querySelector('.stage video.on')?.currentTime > 0")
    page.evaluate(f"({WATCH})()")
    time.sleep(1.5)  # the clips ahead load, as they do while a person looks at the first
    memory: list[dict[str, Any]] = []

    def weigh(clips: int) -> None:
        elements = page.evaluate("document.querySelectorAll('*').length")
        memory.append({"clips": clips, "heap_mb": heap(page), "process_mb": browser.renderer_mb(), "elements": elements})

    weigh(0)
    began, took = time.perf_counter(), 0.0
    speed: dict[str, Any] = {}
    for number in range(max(ratings, drive)):
        page.press(1 + number % 9)
        page.until(f"window.__speed.presses.length > {number}")
        time.sleep(0.12)  # nobody judges faster; the next clips load meanwhile
        if number + 1 == ratings:
            took, speed = time.perf_counter() - began, page.evaluate("window.__speed")
        if number + 1 == WARM or (number + 1) % 100 == 0:
            weigh(number + 1)
    page.until("document.querySelector('#save-state[data-status=saved]')", 60.0)
    presses = speed["presses"]
    # Event timing tells nothing of what took less than 16 ms; 16 is then the most it can have been.
    waits = [press["told"] if press["frames"] < 2 else speed["paints"].get(f"{press['pressed']:.1f}", 16.0) for press in presses]

    def spread(values: list[float]) -> dict[str, float]:
        return {"p50": percentile(values, 0.5), "p95": percentile(values, 0.95), "max": max(values)}

    return {
        "ratings": len(waits),
        "key_to_frame_ms": spread(waits),
        "key_to_moving_ms": spread([press["told"] for press in presses]),
        "not_ready": sum(press["frames"] < 2 for press in presses),
        "ratings_per_minute_driven": 60 * ratings / took,
        "ratings_per_minute_possible": 60_000 / statistics.mean(waits),
        "memory": memory,
        "video_elements": page.evaluate("document.querySelectorAll('video').length"),
        "long_tasks": {"n": len(speed["long"]), "worst_ms": max(speed["long"], default=0)},
    }


def first_paints(browser: Any, url: str) -> dict[str, float]:
    out = {}
    for path in PAGES:
        times = []
        for _ in range(3):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.goto(url + path)
            page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
            times.append(page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            context.close()
        out[path] = statistics.median(times)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=300)
    parser.add_argument("--drive", type=int, default=500, help="clips rated in all, for the memory")
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    width, height = (int(part) for part in arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        clips = max(arguments.ratings, arguments.drive) + 5
        process, url = start(*make_state(Path(folder), clips, (width, height), arguments.seconds))
        try:
            path = find_chromium(playwright)
            if path is None:
                raise SystemExit("no Chromium found: install one, or run `python -m playwright install chromium`")
            launched = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
            paints = first_paints(launched, url)
            launched.close()
            with Chromium(path, CHROMIUM_FLAGS) as browser:
                browser.page.send("Page.navigate", url=url + "/")
                found = {**rate(browser, arguments.ratings, arguments.drive), "first_paint_ms": paints}
        finally:
            process.terminate()
            process.wait(30)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    show(found)
    return 0


def show(found: dict[str, Any]) -> None:
    wait, long = found["key_to_frame_ms"], found["long_tasks"]
    moving = found["key_to_moving_ms"]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    possible, driven = found["ratings_per_minute_possible"], found["ratings_per_minute_driven"]
    memory = [item for item in found["memory"] if item["clips"] in (0, WARM, 100, 300, found["memory"][-1]["clips"])]
    over = "after " + ", ".join(str(item["clips"]) for item in memory)

    def chain(name: str, form: str) -> str:
        return " -> ".join("?" if item[name] is None else format(item[name], form) for item in memory)

    lines = [
        (f"key to next frame  p50 {wait['p50']:.0f} ms, p95 {wait['p95']:.0f} ms, worst {wait['max']:.0f} ms", f"p95 {KEY_TO_FRAME_MS} ms"),
        (f"  not loaded yet   {found['not_ready']} of {found['ratings']}", "none"),
        (
            f"key to moving      p50 {moving['p50']:.0f} ms, p95 {moving['p95']:.0f} ms, worst {moving['max']:.0f} ms",
            "p95 100 ms, of which 62 are the clip's own",
        ),
        (f"ratings a minute   {possible:.0f} possible, {driven:.0f} driven", "a person gives 10 to 20"),
        (f"heap               {chain('heap_mb', '.1f')} MB {over}", "flat"),
        (f"renderer process   {chain('process_mb', '.0f')} MB", f"flat from {WARM} on"),
        (f"elements           {chain('elements', 'd')}, {found['video_elements']} of video", "flat, 5 of video"),
        (f"long tasks         {long['n']} over {LONG_TASK_MS} ms, worst {long['worst_ms']:.0f} ms", "none"),
        *((f"first paint        {value:.0f} ms  {path}", f"{FIRST_PAINT_MS} ms") for path, value in found["first_paint_ms"].items()),
    ]
    print(f"{found['ratings']} ratings on {os.cpu_count()} CPU cores without a GPU, load {load:.1f}; in brackets the yardsticks")
    for line, yardstick in lines:
        print(f"  {line:80} ({yardstick})")


if __name__ == "__main__":
    sys.exit(main())
