"""The agent's line and its controls, with a real agent and the simulator behind them; orders and hidden repeats of the queue."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
JOB_SECONDS = 6.0
OBEYED_MS = 2000  # the promise: the agent obeys within two seconds
SPACE = {"sampler": ["euler", "heun"], "scheduler": ["simple"], "fps": [16], "cfg_scale": [3.5, 5], "steps": [8], "size": [[160, 96]]}


class Maker:
    """A simulator and an agent on a site's folders."""

    def __init__(self, site: Any):
        self.site = site
        self.processes: list[subprocess.Popen[str]] = []
        self.agent: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> Maker:
        folders = ["--video-dir", str(self.site.video_dir), "--state-dir", str(self.site.state_dir)]
        space = self.site.state_dir.parent / "space.json"
        space.write_text(json.dumps(SPACE), encoding="utf-8")
        sim = self._run("-m", "eva_sim", "--port", "0", "--output-dir", str(self.site.video_dir), "--job-seconds", str(JOB_SECONDS))
        assert sim.stdout is not None
        url = next(word for line in sim.stdout for word in line.split() if word.startswith("http://"))
        self.agent = self._run("run_agent_qa.py", "--api", url, *folders, "--seconds", "1", "--space", str(space), *options)
        return self

    def _run(self, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        self.processes.append(process)
        return process

    def status(self) -> dict[str, Any]:
        return self.site.get("/api/agent")["status"] or {}

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@pytest.fixture
def maker(make_site: Callable[..., Any]) -> Iterator[Maker]:
    made = Maker(make_site(clips=0))
    yield made
    made.stop()


def obeyed(act: Callable[[], Any], seen: Callable[[], Any], what: str) -> float:
    """Does ``act`` and waits for ``seen``; returns the milliseconds between them."""
    began = time.monotonic()
    act()
    while not seen():
        assert time.monotonic() - began < 20, f"waited 20 s for: {what}"
        time.sleep(0.02)
    return (time.monotonic() - began) * 1000


def shot(page: Any, artifacts: Path, name: str) -> None:
    page.screenshot(path=artifacts / f"agent-{name}.png")


@pytest.fixture
def artifacts() -> Path:
    folder = PROJECT / "tests" / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder


def test_the_agent_is_seen_and_obeys_from_the_page(maker: Maker, make_context: Callable[..., Any], artifacts: Path) -> None:
    site = maker.site
    page = make_context(viewport={"width": 1280, "height": 760}).new_page()
    page.goto(site.url)
    page.locator("#agent .agent-text", has_text="No agent is running").wait_for()
    assert page.locator("#agent-pause").is_hidden()
    maker.start("--iterations", "0")
    page.locator("#agent .agent-text", has_text="Making").wait_for()

    page.keyboard.press("i")
    page.wait_for_function("() => { const img = document.querySelector('.agent-picture'); return !img.hidden && img.naturalWidth > 0; }")
    assert page.locator(".agent-facts").inner_text().count("|") == 0
    shot(page, artifacts, "panel")

    took = obeyed(lambda: page.keyboard.press("p"), lambda: maker.status().get("paused"), "pause")
    print(f"paused after {took:.0f} ms, promised {OBEYED_MS}")  # shown, not asserted: a busy machine proves nothing
    page.locator("#agent-pause", has_text="Resume").wait_for()
    site.until(lambda: maker.status()["now"] is None and len(site.get("/api/videos")))
    made = site.get("/api/stats")["total_generated"]
    page.locator("#agent .agent-text", has_text="Paused: nothing new starts").wait_for()
    shot(page, artifacts, "paused")
    assert maker.status()["state"] == "paused" and site.get("/api/stats")["total_generated"] == made

    page.locator("#agent-pause").click()
    first = site.until(lambda: (maker.status()["now"] or {}).get("prompt_id"))
    page.locator("#agent-skip:not([disabled])").click()
    site.until(lambda: (maker.status()["last"] or {}).get("kind"), "skipped")
    assert maker.status()["skipped"] == 1 and maker.status()["last"]["reason"]
    expected = [("skip", "obeyed"), ("resume", "obeyed"), ("pause", "obeyed")]  # the answer reaches the server a moment later
    site.until(lambda: [(item["action"], item["state"]) for item in site.get("/api/requests")["requests"]], expected)
    assert site.get("/api/requests")["requests"][0]["prompt_id"] == first

    site.until(lambda: maker.status()["now"])
    took = obeyed(lambda: page.keyboard.press("Shift+L"), lambda: maker.status().get("stop_after"), "stop after this one")
    print(f"stop after this one noticed after {took:.0f} ms, promised {OBEYED_MS}")
    page.locator("#agent .agent-text", has_text="Last clip").wait_for()
    assert maker.agent is not None and maker.agent.wait(30) == 0
    page.locator("#agent .agent-text", has_text="The agent has stopped").wait_for()
    assert "SIMULATOR" not in page.locator("#agent").inner_text()
    shot(page, artifacts, "stopped")


def test_orders_and_filters_of_the_queue(make_site: Callable[..., Any], page: Any) -> None:
    site = make_site(clips=6)
    page.goto(site.url)
    current = page.locator("#clip-name a")
    current.filter(has_text="clip_005").wait_for()
    page.locator(".queue-order").select_option("oldest")
    current.filter(has_text="clip_000").wait_for()
    page.locator(".queue-order").select_option("best_predicted")
    page.get_by_text("Nothing is predicted yet").wait_for()
    page.locator(".queue-order").select_option("informative")
    page.get_by_text("No agent has ranked the clips yet").wait_for()
    (site.state_dir / "review_order.json").write_text(json.dumps({"values": {"clip_002.mp4": 0.5}}), encoding="utf-8")
    page.reload()
    current.filter(has_text="clip_002").wait_for()
    page.locator("#queue-open").click()
    page.locator("select[name=queue_sampler] option[value=uni_pc]").wait_for(state="attached")
    page.locator("select[name=queue_sampler]").select_option("uni_pc")
    page.locator("#left", has_text="2 ").wait_for()
    page.locator("input[name=queue_min_score]").fill("1")
    page.get_by_text("No clip matches the filters").wait_for()
    page.get_by_role("button", name="Clear the filters").first.click()
    current.filter(has_text="clip_002").wait_for()


def test_hidden_repeats_are_recorded_beside_the_first_rating(make_site: Callable[..., Any], page: Any) -> None:
    site = make_site(clips=6, rated={0: 9, 1: 9, 2: 9})
    page.add_init_script("Math.random = () => 0;")  # every clip is followed by a repeat while there are some
    page.add_init_script("localStorage.setItem('eva.queue', JSON.stringify({ order: 'newest', share: 20 }));")
    page.goto(site.url)
    names = []
    for _ in range(4):
        page.locator("#clip-name a").wait_for()
        names.append(page.locator("#clip-name a").inner_text())
        page.keyboard.press("4")
        page.wait_for_function("(last) => document.querySelector('#clip-name a')?.textContent !== last", arg=names[-1])
    site.until(lambda: site.get("/api/stats")["consistency"]["repeats"], 2)
    assert names[0] == "clip_005.mp4" and names[1] in {"clip_000.mp4", "clip_001.mp4", "clip_002.mp4"}
    assert site.get("/api/stats")["consistency"]["mean_abs_difference"] == 5.0
    assert [site.rating(f"clip_00{number}.mp4")["overall_quality"] for number in range(3)] == [9, 9, 9]
    before = site.get("/api/stats")["consistency"]["repeats"]
    page.keyboard.press("Backspace")
    site.until(lambda: site.get("/api/stats")["consistency"]["repeats"], before - 1)


def test_clips_are_asked_for_from_the_page_of_a_clip(make_site: Callable[..., Any], page: Any) -> None:
    site = make_site(clips=2)
    page.goto(f"{site.url}/watch?name=clip_001.mp4")
    page.get_by_role("button", name="Again, new seed").click()
    page.locator(".request-said", has_text="made first when an agent runs").wait_for()
    page.get_by_role("button", name="Try parameters").click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_label("Steps").select_option(label="30")
    dialog.get_by_role("button", name="Ask the agent").click()
    asked = site.until(lambda: len(found := site.get("/api/requests")["requests"]) == 2 and found)
    page.locator(".requests li").nth(1).wait_for()
    assert page.locator(".requests li").all_inner_texts()[0].startswith("Again, new seed")  # the oldest goes first
    page.locator(".requests li").first.get_by_role("button", name="Take back").click()
    site.until(lambda: [item["state"] for item in site.get("/api/requests")["requests"]], ["waiting", "cancelled"])
    page.wait_for_function("() => document.querySelectorAll('.requests li').length === 1")
    assert [item["action"] for item in asked] == ["try", "again"] and all(item["state"] == "waiting" for item in asked)
    before = site.get("/api/video_details?name=clip_001.mp4")["details"]
    assert asked[0]["params"] == {**before["params"], "steps": 30} and asked[0]["prompt"] == before["prompt"]
    from eva_state.store import StateStore

    with StateStore(site.state_dir, role="agent") as agent:
        agent.answer_request(asked[0]["id"], "made", video="clip_000.mp4")
        link = page.locator(".request-said a", has_text="Open the new clip")
        link.wait_for()
    assert link.get_attribute("href") == "/watch?name=clip_000.mp4"
