"""The whole loop as processes: generate, score, queue, rate in a real browser, learn; and nothing is lost on the way."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from eva_state.keys import combo_key
from tests.e2e.world import World, get_json, wait_until

pytestmark = pytest.mark.e2e
SPACE = {
    "sampler": ["euler", "dpmpp_2m"],
    "scheduler": ["simple", "beta"],
    "fps": [16],
    "cfg_scale": [3.5, 6],
    "steps": [8, 14],
    "size": [[256, 144], [144, 256]],
}
LIKED = "dpmpp_2m"
FIRST, SECOND = 10, 8


@pytest.fixture
def space(tmp_path: Path) -> list[str]:
    path = tmp_path / "space.json"
    path.write_text(json.dumps(SPACE), encoding="utf-8")
    return ["--space", str(path)]


def finished_prompts(api: str) -> int:
    stats = get_json(f"{api}/sim/stats")
    return stats["jobs_done"] + stats["jobs_failed"]


def keys_of(entries: list[dict[str, Any]]) -> list[str]:
    return [combo_key(entry["params"]) for entry in entries]


def test_ratings_and_a_ban_in_the_browser_change_what_is_tried_next(world: World, space: list[str], page: Any, artifacts: Path) -> None:
    _, api = world.simulator("--speed", "30")
    agent = world.agent(api, *space, "--iterations", str(FIRST), "--seed", "1")
    assert agent.wait() == 0, agent.output()
    first = world.history()
    assert len(first) == FIRST and world.clips() == {entry["video"] for entry in first}
    assert all(0 <= entry["score"] <= 1 and entry["simulator"] for entry in first)

    unrated = world.state.with_name("unrated_state")
    shutil.copytree(world.state, unrated)

    _, url = world.server()
    by_name = {entry["video"]: entry for entry in first}
    pressed: dict[str, int] = {}
    banned: str | None = None
    page.goto(url)
    page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    page.screenshot(path=artifacts / "e2e_review.png")
    for _ in range(FIRST):
        page.wait_for_function("done => !done.includes(document.querySelector('#clip-name').textContent)", arg=["", *pressed])
        name = page.text_content("#clip-name")
        liked = by_name[name]["params"]["sampler"] == LIKED
        if liked and banned is None:
            banned = combo_key(by_name[name]["params"])
            page.keyboard.press("b")
            pressed[name] = 2  # a ban by clip marks it with quality 2
        else:
            pressed[name] = 10 if liked else 1
            page.keyboard.press("0" if liked else "1")
    assert banned is not None, "the first clips held no liked sampler: choose another --seed"

    def recorded() -> dict[str, int]:
        return {name: item["rating"]["overall_quality"] for name, item in world.ratings().items()}

    wait_until("every rating is in manual_ratings.json", lambda: recorded() == pressed)
    assert set(pressed) == set(by_name)
    wait_until("the queue is empty", lambda: get_json(f"{url}/api/videos") == [])
    page.screenshot(path=artifacts / "e2e_end_of_queue.png")
    wait_until("the ban is in bandit_state.json", lambda: world.view("bandit_state.json")["banned_combos"] == [banned])

    # The same seed with and without the ratings: only they can make the difference. The server runs on meanwhile.
    rated_run = world.agent(api, *space, "--iterations", str(SECOND), "--seed", "2")
    assert rated_run.wait() == 0, rated_run.output()
    wait_until("the new clips wait for a rating", lambda: len(get_json(f"{url}/api/videos")) == SECOND)
    control = world.start(
        "control", "run_agent_qa.py", "--api", api, "--state-dir", str(unrated), "--video-dir", str(world.video),
        "--seconds", "1", *space, "--iterations", str(SECOND), "--seed", "2",
    )  # fmt: skip
    assert control.wait() == 0, control.output()
    chosen = keys_of(world.history()[FIRST:])
    without = keys_of(json.loads((unrated / "knowledge.json").read_text(encoding="utf-8"))["history"][FIRST:])
    assert len(chosen) == len(without) == SECOND
    assert chosen != without
    assert banned not in chosen
    taste = Counter(key.split("|")[0] for key in chosen)
    assert taste[LIKED] > SECOND / 2, f"{taste} although every {LIKED} clip was rated 10 and every other 1"
    assert recorded() == pressed
    assert len(world.history()) == FIRST + SECOND


def test_a_rating_given_while_the_agent_runs_reaches_it(world: World, space: list[str]) -> None:
    """Server and agent run at once; a ban of everything but one sampler steers the very next choices."""
    _, api = world.simulator("--job-seconds", "0.7")
    _, url = world.server()
    agent = world.agent(api, *space, "--seed", "5")
    wait_until("two clips", lambda: get_json(f"{url}/api/stats")["total_generated"] >= 2)
    import urllib.request

    body = json.dumps({"combo_key": "euler|*|*|*|*|*", "reason": "test"}).encode()
    request = urllib.request.Request(f"{url}/api/ban_combo", body, {"Content-Type": "application/json"})
    assert json.loads(urllib.request.urlopen(request, timeout=20).read())["status"] == "success"
    before = get_json(f"{url}/api/stats")["total_generated"]  # not from the view, which may be two seconds behind
    wait_until("six more clips", lambda: len(world.history()) >= before + 6)
    assert agent.stop(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM) == 130
    # What ran when the ban came may still end; nothing chosen after it may be of the banned sampler.
    later = world.history()[before + 2 :]
    assert later and {entry["params"]["sampler"] for entry in later} == {LIKED}


def test_kill_9_of_the_agent_pays_nothing_twice_and_loses_nothing(world: World, space: list[str]) -> None:
    _, api = world.simulator("--job-seconds", "1.2")
    for _ in range(2):
        agent = world.agent(api, *space, "--seed", "3")
        done = len(world.history())
        wait_until(
            "a clip more, another one running", lambda done=done: len(world.history()) > done and get_json(f"{api}/queue")["queue_running"]
        )
        agent.popen.kill()
        agent.wait()
    last = world.agent(api, *space, "--iterations", "4", "--seed", "3")
    assert last.wait() == 0, last.output()
    wait_until("the simulator is idle", lambda: not get_json(f"{api}/queue")["queue_running"])
    names = [entry["video"] for entry in world.history()]
    assert len(names) == len(set(names)), "a clip was recorded twice"
    assert set(names) == world.clips(), "a clip that was paid for is not recorded"
    assert finished_prompts(api) == len(names)


def test_kill_9_of_the_server_keeps_every_acknowledged_rating(world: World) -> None:
    import urllib.request

    for number in range(6):
        (world.video / f"clip {number} «ї».mp4").write_bytes(b"not a real clip, but a file with a name")
    given = {}
    for number in range(6):
        server, url = world.server()
        name = f"clip {number} «ї».mp4"
        body = json.dumps({"video_name": name, "rating": {"overall_quality": number + 1}}).encode()
        request = urllib.request.Request(f"{url}/api/rate", body, {"Content-Type": "application/json"})
        assert json.loads(urllib.request.urlopen(request, timeout=20).read())["status"] == "success"
        server.popen.kill()
        server.wait()
        given[name] = number + 1
    server, url = world.server()
    wait_until("all are rated", lambda: get_json(f"{url}/api/stats")["total_rated"] == len(given))
    assert server.stop() == 0
    assert {name: item["rating"]["overall_quality"] for name, item in world.ratings().items()} == given


def test_a_second_server_and_a_second_agent_are_refused(world: World, space: list[str]) -> None:
    _, api = world.simulator("--job-seconds", "1")
    world.server()
    second = world.start("second server", "simple_web_server.py", "--port", "0", *world.folders)
    assert second.wait() == 1 and "another server" in second.output()
    world.agent(api, *space)
    wait_until("the first agent works", lambda: get_json(f"{api}/queue")["queue_running"])
    second = world.agent(api, *space)
    assert second.wait() == 1 and "another agent" in second.output()


def test_the_demo_makes_clips_and_ends(world: World, tmp_path: Path) -> None:
    demo = world.start("demo", "setup_qa_no_venv.py", "--demo", "--no-serve", "--iterations", "2", "--root", str(tmp_path))
    assert demo.wait(180) == 0, demo.output()
    assert "SIMULATOR" in demo.output() and "http://127.0.0.1:" in demo.output()
    assert len(world.history()) == 2 and all(entry["simulator"] for entry in world.history())
    assert world.clips() == {entry["video"] for entry in world.history()}


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP on Windows")
def test_a_closed_terminal_ends_the_demo_and_everything_it_started(world: World, tmp_path: Path) -> None:
    demo = world.start("demo", "setup_qa_no_venv.py", "--demo", "--root", str(tmp_path), "--iterations", "50")
    demo.line("Review page")
    wait_until("a clip", world.history)
    started = psutil.Process(demo.popen.pid).children(recursive=True)
    assert len(started) >= 3
    assert demo.stop(signal.SIGHUP) == 130, demo.output()
    gone, alive = psutil.wait_procs(started, timeout=20)
    assert not alive, alive
