"""A real server process on clips rendered here, and a real browser in front of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
WAIT = 30.0  # seconds until a test gives up on something that takes far less
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge")
COMBOS = (
    ("euler", "simple", 16, 5, 12, 160, 96),
    ("dpmpp_2m", "beta", 16, 3.5, 20, 160, 96),
    ("uni_pc", "karras", 16, 7, 30, 96, 160),
)
SPACE = {
    "sampler": ["euler", "dpmpp_2m", "uni_pc"],
    "scheduler": ["simple", "beta", "karras"],
    "fps": [16],
    "cfg_scale": [3.5, 5, 7],
    "steps": [12, 20, 30],
    "size": [[160, 96], [96, 160]],
}
FRAMES = 24  # 1.5 s at 16 frames a second


def render(path: Path, width: int, height: int, shade: int, rate: int = 16, frames: int = FRAMES) -> None:
    """A small H.264 clip: a bright square walks over a shaded ground. ``rate``: frames a second."""
    import av
    import numpy

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for number in range(frames):
            picture = numpy.full((height, width, 3), shade, dtype=numpy.uint8)
            left = 4 + number * (width - 32) // frames
            picture[20:44, left : left + 24] = (240, 200, 90)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Path]:
    """One clip a size; sites copy them."""
    pytest.importorskip("av", reason="PyAV renders the clips of these tests")
    folder = tmp_path_factory.mktemp("rendered")
    clips = {}
    for number, (width, height) in enumerate({(combo[5], combo[6]) for combo in COMBOS}):
        clips[width, height] = folder / f"{width}x{height}.mp4"
        render(clips[width, height], width, height, 60 + 50 * number)
    return clips


def picture_name(path: str, screen: str, lang: str, scheme: str) -> str:
    """Of a page's picture: the page and how it was shown."""
    name = (path.partition("?")[0].strip("/") or "review") + ("-table" if "table" in path else "")
    return f"page-{name}-{screen}-{lang}-{scheme}"


def keep_picture(page: Any, name: str) -> None:
    """Saves what a page looks like, for a person to look at (git-ignored)."""
    folder = PROJECT / "tests" / "artifacts"
    folder.mkdir(exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Generator[None, Any, Any]:
    """Keeps a picture of every open page of a test that failed."""
    report = yield
    if report.when == "call" and report.failed and "make_context" in item.funcargs:
        for number, page in enumerate(page for context in item.funcargs["make_context"].contexts for page in context.pages):
            keep_picture(page, f"{item.name}-{number}")
    return report


def entry_of(name: str, number: int, at: float) -> dict[str, Any]:
    """The history entry of clip ``number``."""
    sampler, scheduler, fps, cfg, steps, width, height = COMBOS[number % len(COMBOS)]
    score = round(0.35 + 0.05 * (number % 10), 3)
    return {
        "video": name,
        "timestamp": at,
        "prompt": f"a paper boat on a stream, take {number}" if number % 2 else f"a lighthouse at dusk, take {number}",
        "negative_prompt": "watermark",
        "params": {
            "sampler": sampler,
            "scheduler": scheduler,
            "fps": fps,
            "cfg_scale": cfg,
            "steps": steps,
            "width": width,
            "height": height,
        },
        "combo": [sampler, scheduler],
        "metrics": {"blur": 0.9, "exposure": 0.6, "blockiness": 0.3, "flicker": 0.8, "overall": score},
        "findings": [{"kind": "flicker", "start_s": 0.5, "end_s": 0.8, "frame": 8, "severity": 0.6}],
        "score": score,
        "seed": 1000 + number,
        "seconds": 1.5,
    }


@dataclass
class Site:
    """A running review server and the folders it works on."""

    url: str
    video_dir: Path
    state_dir: Path
    process: subprocess.Popen[str] | None
    command: list[str]
    lines: list[str] = field(default_factory=list)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=WAIT) as response:
            return json.load(response)

    def view(self, name: str) -> Any:
        path = self.state_dir / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def ratings(self) -> dict[str, int]:
        """Overall marks by clip, as the published file holds them."""
        return {name: item["rating"]["overall_quality"] for name, item in self.view("manual_ratings.json").items()}

    def marks(self) -> dict[str, int]:
        """The same, as the server answers at once."""
        return {item["name"]: item["manual_overall"] for item in self.get("/api/search?rated=true&limit=500")["items"]}

    def rating(self, name: str) -> dict[str, Any]:
        return (self.get(f"/api/video_details?name={name}")["manual_rating"] or {"rating": {}})["rating"]

    def journal(self) -> str:
        return "".join(path.read_text(encoding="utf-8") for path in sorted((self.state_dir / "journal").rglob("*")) if path.is_file())

    def until(self, what: Callable[[], Any], expected: Any = True) -> Any:
        """Asks until the answer is ``expected``; fails with the last answer."""
        deadline = time.monotonic() + WAIT
        while True:
            found = what()
            if found == expected or (expected is True and found):
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"still {found!r}, not {expected!r}\n" + "".join(self.lines[-20:]))
            time.sleep(0.05)

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WAIT)
        if process.stdout is not None:
            process.stdout.close()

    def start(self) -> None:
        """Starts the server (again), on the same address where there was one."""
        environ = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
        for name in ("EVA_TOKEN", "SERVER_HOST", "SERVER_PORT", "PORT", "RUNPOD_POD_ID", "EVA_LANG", "EVA_STATE_DIR", "COMFY_OUTPUT_DIR"):
            environ.pop(name, None)
        self.process = subprocess.Popen(
            self.command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        ready = threading.Event()
        found: list[str] = []

        def follow(stream: Any) -> None:
            for line in stream:
                self.lines.append(line)
                if line.startswith("http://"):
                    found.append(line.strip())
                    ready.set()
            ready.set()

        threading.Thread(target=follow, args=(self.process.stdout,), daemon=True).start()
        assert ready.wait(WAIT) and found, "the server did not start:\n" + "".join(self.lines)
        self.url = found[0].split("/?")[0].rstrip("/")


@pytest.fixture
def make_site(tmp_path: Path, rendered: dict[tuple[int, int], Path]) -> Iterator[Callable[..., Site]]:
    """``make_site(clips=6, token=None, rated={number: mark})`` starts a server on clips clip_000.mp4 (oldest) and on."""
    from eva_state.store import StateStore

    sites: list[Site] = []

    def make(clips: int = 6, token: str | None = None, rated: dict[int, int] | None = None) -> Site:
        root = tmp_path / f"site{len(sites)}"
        video_dir, state_dir = root / "output", root / "state"
        video_dir.mkdir(parents=True)
        names = [f"clip_{number:03}.mp4" for number in range(clips)]
        now = time.time()
        with StateStore(state_dir, role="agent", video_dir=video_dir) as store:
            store.set_space(SPACE)
            for number, name in enumerate(names):
                at = now - 60 * (clips - number)
                shutil.copyfile(rendered[COMBOS[number % len(COMBOS)][5:7]], video_dir / name)
                os.utime(video_dir / name, (at, at))
                store.generated(f"prompt-{number}", entry_of(name, number, at), 0.5, 2.0)
        if rated:
            with StateStore(state_dir, role="server", video_dir=video_dir) as store:
                for number, mark in rated.items():
                    store.rate(names[number], {"overall_quality": mark})
        command = [sys.executable, str(PROJECT / "simple_web_server.py"), "--video-dir", str(video_dir), "--state-dir", str(state_dir)]
        command += ["--port", "0", *(["--token", token] if token else [])]
        site = Site("", video_dir, state_dir, None, command)
        sites.append(site)
        site.start()
        site.command[site.command.index("--port") + 1] = site.url.rpartition(":")[2]
        return site

    yield make
    for site in sites:
        site.stop()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


# ---------------------------------------------------------------- browser
def find_chromium(playwright: Any) -> str | None:
    """A Chromium of this machine, or the one that Playwright installed."""
    for name in BROWSERS:
        if (path := shutil.which(name)) is not None:
            return path
    own = playwright.chromium.executable_path
    return own if own and Path(own).exists() else None


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser of these tests")
    with api.sync_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            pytest.skip("no Chromium found: install one, or run `python -m playwright install chromium`")
        launched = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def make_context(browser: Any) -> Iterator[Callable[..., Any]]:
    """Browser profiles of their own. What their pages report as errors fails the test, but for texts in ``expected_errors``."""
    contexts: list[Any] = []
    reported: list[str] = []
    expected: list[str] = []

    def make(**options: Any) -> Any:
        # A small window: without a GPU most of a test's time goes into painting video.
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 620}, **options})
        context.set_default_timeout(WAIT * 1000)
        context.on("console", lambda message: reported.append(message.text) if message.type == "error" else None)
        context.on("weberror", lambda error: reported.append(str(error.error)))
        contexts.append(context)
        return context

    make.expected_errors = expected  # type: ignore[attr-defined]
    make.contexts = contexts  # type: ignore[attr-defined]
    yield make
    for context in contexts:
        context.close()
    unexpected = [text for text in reported if not any(part in text for part in expected)]
    assert unexpected == [], "the pages reported errors"


@pytest.fixture
def context(make_context: Callable[..., Any]) -> Any:
    return make_context()


@pytest.fixture
def page(context: Any) -> Any:
    return context.new_page()
