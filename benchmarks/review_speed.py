"""How fast a person can rate: 300 ratings in a real Chromium against a real server.

Prints, beside yardsticks: key to next frame (from the digit's press to the first frame of the next clip on screen), ratings a
minute that would allow, growth of the page's memory, tasks that held the page up, first paint of every page.

    python benchmarks/review_speed.py [--ratings 300] [--clips 330] [--json]

It needs what the page tests need (playwright and a Chromium, PyAV). Frames are counted by ``requestVideoFrameCallback``.
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
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from eva_state.store import StateStore  # noqa: E402
from tests.static.conftest import CHROMIUM_FLAGS, COMBOS, entry_of, find_chromium, render  # noqa: E402

KEY_TO_FRAME_MS = 100  # p95, the yardstick
FIRST_PAINT_MS = 300
LONG_TASK_MS = 50  # https://www.w3.org/TR/longtasks-1/
PAGES = ("/", "/search", "/compare", "/qa", "/insights", "/watch?name=clip_0001.mp4")

# Notes when a digit is pressed and when the next clip's first frame is on screen.
WATCH = """
() => {
  window.__speed = { waits: [], long: [], pressed: 0, before: null };
  addEventListener('keydown', (event) => {
    if (!/^[0-9]$/.test(event.key)) return;
    const pressed = performance.now();
    const before = document.querySelector('.stage video.on');
    const look = () => {
      const now = document.querySelector('.stage video.on');
      if (!now || now === before) { requestAnimationFrame(look); return; }
      now.requestVideoFrameCallback((at) => window.__speed.waits.push(Math.max(at, performance.now()) - pressed));
    };
    requestAnimationFrame(look);
  }, true);
  const note = (list) => window.__speed.long.push(...list.getEntries().map((entry) => entry.duration));
  new PerformanceObserver(note).observe({ type: 'longtask' });
}
"""


def make_state(root: Path, clips: int) -> tuple[Path, Path]:
    """A folder of rendered clips with their history."""
    video_dir, state_dir = root / "output", root / "state"
    video_dir.mkdir()
    sources = {}
    for number, size in enumerate({(combo[5], combo[6]) for combo in COMBOS}):
        sources[size] = root / f"{size[0]}.mp4"
        render(sources[size], *size, 60 + 50 * number)
    now = time.time()
    with StateStore(state_dir, role="agent", video_dir=video_dir) as store:
        for number in range(clips):
            name, at = f"clip_{number:04}.mp4", now - 60 * (clips - number)
            shutil.copyfile(sources[COMBOS[number % len(COMBOS)][5:7]], video_dir / name)
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
            return process, line.strip().rstrip("/")
    raise SystemExit("the server did not start")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def heap(session: Any) -> float:
    """Megabytes of the page's JavaScript heap after a collection."""
    session.send("HeapProfiler.collectGarbage")
    found = {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}
    return float(found["JSHeapUsedSize"]) / 1e6


def rate(page: Any, session: Any, ratings: int) -> dict[str, Any]:
    page.evaluate(WATCH)
    page.wait_for_timeout(1500)  # the clips ahead load, as they do while a person looks at the first
    memory = [heap(session)]
    elements = [page.evaluate("() => document.querySelectorAll('*').length")]
    began = time.perf_counter()
    for number in range(ratings):
        page.keyboard.press(str(1 + number % 9))
        page.wait_for_function("n => window.__speed.waits.length > n", arg=number, timeout=20_000, polling=10)
        page.wait_for_timeout(120)  # nobody judges faster; the next clips load meanwhile
        if number == ratings // 2:
            memory.append(heap(session))
    took = time.perf_counter() - began
    memory.append(heap(session))
    elements.append(page.evaluate("() => document.querySelectorAll('*').length"))
    speed = page.evaluate("() => window.__speed")
    page.wait_for_selector("#save-state[data-status=saved]", timeout=60_000)
    waits = speed["waits"]
    return {
        "ratings": len(waits),
        "key_to_frame_ms": {"p50": percentile(waits, 0.5), "p95": percentile(waits, 0.95), "max": max(waits)},
        "ratings_per_minute_driven": 60 * ratings / took,
        "ratings_per_minute_possible": 60_000 / statistics.mean(waits),
        "heap_mb": memory,
        "elements": elements,
        "video_elements": page.evaluate("() => document.querySelectorAll('video').length"),
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
    parser.add_argument("--clips", type=int, default=330)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        process, url = start(*make_state(Path(folder), max(arguments.clips, arguments.ratings + 5)))
        try:
            browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=CHROMIUM_FLAGS)
            paints = first_paints(browser, url)
            page = browser.new_page(viewport={"width": 1100, "height": 620})
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            page.goto(url + "/")
            page.wait_for_function("() => document.querySelector('.stage video.on')?.currentTime > 0")
            found = {**rate(page, session, arguments.ratings), "first_paint_ms": paints}
            browser.close()
        finally:
            process.terminate()
            process.wait(30)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    wait, long = found["key_to_frame_ms"], found["long_tasks"]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    possible, driven = found["ratings_per_minute_possible"], found["ratings_per_minute_driven"]
    lines = [
        (f"key to next frame  p50 {wait['p50']:.0f} ms, p95 {wait['p95']:.0f} ms, worst {wait['max']:.0f} ms", f"p95 {KEY_TO_FRAME_MS} ms"),
        (f"ratings a minute   {possible:.0f} possible, {driven:.0f} driven", "a person gives 10 to 20"),
        (f"heap               {' -> '.join(f'{value:.1f}' for value in found['heap_mb'])} MB", "flat"),
        (f"elements           {found['elements'][0]} -> {found['elements'][1]}, {found['video_elements']} of video", "flat, 5 of video"),
        (f"long tasks         {long['n']} over {LONG_TASK_MS} ms, worst {long['worst_ms']:.0f} ms", "none"),
        *((f"first paint        {paint:.0f} ms  {path}", f"{FIRST_PAINT_MS} ms") for path, paint in found["first_paint_ms"].items()),
    ]
    print(f"{found['ratings']} ratings on {os.cpu_count()} CPU cores without a GPU, load {load:.1f}; in brackets the yardsticks")
    for line, yardstick in lines:
        print(f"  {line:72} ({yardstick})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
