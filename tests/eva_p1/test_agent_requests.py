"""What people ask of a running agent through the state: pause, skip, last clip, clips put before its own choices; previews."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eva_p1.agent_live import Board, LiveWriter
from eva_p1.agent_preview import MAX_SIDE, small_jpeg
from eva_p1.agent_requests import neighbours
from eva_p1.agent_types import Job
from eva_p1.search_space import SearchSpace
from eva_state.keys import combo_key
from eva_state.live import write_live
from eva_state.store import StateStore
from tests.agent_fakes import DEADLINE, SMALL_SPACE, FakeComfy, make_agent, until

PARAMS = {"sampler": "heun", "scheduler": "beta", "fps": 16, "cfg_scale": 5, "steps": 20, "width": 640, "height": 480}


class Run:
    """An agent that searches in a thread, and the server's side of the same state."""

    def __init__(self, tmp_path: Path, iterations: int | None = None, **changes: Any):
        state = tmp_path / "state"
        self.store = StateStore(state, role="agent", video_dir=tmp_path / "video", poll_interval=0.02).start()
        self.person = StateStore(state, role="server", video_dir=tmp_path / "video", poll_interval=0.02).start()
        self.comfy = FakeComfy(tmp_path / "video", manual=True)
        self.agent = make_agent(self.store, [self.comfy], tmp_path, **changes)
        self.status = tmp_path / "state" / "agent_status.json"
        self._thread = threading.Thread(target=self.agent.search_v4, args=(iterations,))

    def start(self) -> Run:
        self._thread.start()
        return self

    def ask(self, action: str, **details: Any) -> str:
        return self.person.request(action, details).event_id

    def state(self, id: str) -> str:
        return next(item["state"] for item in self.person.requests() if item["id"] == id)

    def answered(self, id: str, state: str) -> dict[str, Any]:
        until(lambda: self.state(id) == state, f"request {state}")
        return next(item for item in self.person.requests() if item["id"] == id)

    def ended(self) -> bool:
        self._thread.join(DEADLINE)
        return not self._thread.is_alive()

    def close(self) -> None:
        self.agent.stop("test over")
        if self._thread.ident is not None:
            assert self.ended()
        self.person.close()
        self.store.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "video").mkdir()
    made = Run(tmp_path)
    yield made
    made.close()


def test_a_pause_lets_the_running_clip_end_and_takes_the_waiting_one_back(run: Run) -> None:
    run.start()
    until(lambda: len(run.comfy.posts) == 2, "two prompts")
    run.answered(run.ask("pause"), "obeyed")
    until(lambda: run.comfy.pending() == [], "the waiting prompt to be taken back")
    until(lambda: json.loads(run.status.read_text())["state"] == "paused", "the status to say so")
    run.comfy.finish()
    until(lambda: run.store.stats()["total_generated"] == 1, "the running clip to be scored")
    posts = len(run.comfy.posts)
    status = until(lambda: (found := json.loads(run.status.read_text()))["now"] is None and found, "nothing under way")
    assert status["paused"] and status["state"] == "paused" and len(run.comfy.posts) == posts == 2
    assert [failure["kind"] for failure in run.store.failures()] == ["withdrawn"]
    run.answered(run.ask("resume"), "obeyed")
    until(lambda: len(run.comfy.posts) == 4, "new prompts")


def test_a_skipped_clip_is_recorded_as_skipped_and_teaches_nothing(run: Run) -> None:
    run.start()
    first = until(run.comfy.running, "a running prompt")
    run.answered(run.ask("skip", prompt_id=first.prompt_id), "obeyed")
    until(lambda: (now := run.comfy.running()) is not None and now.prompt_id != first.prompt_id, "the next prompt to run")
    (failure,) = until(run.store.failures, "the skip to be recorded")
    assert (failure["kind"], failure["prompt_id"]) == ("skipped", first.prompt_id)
    assert run.store.observations() == [] and run.agent.bandit.status()["failures"] == 0
    refused = run.answered(run.ask("skip", prompt_id=first.prompt_id), "refused")
    assert "not under way" in refused["message"]
    status = until(lambda: (found := json.loads(run.status.read_text()))["skipped"] and found, "the status to count it")
    assert (status["skipped"], status["failed"], status["iteration"]) == (1, 0, 1)


def test_stop_after_this_one_scores_it_and_ends_the_run(run: Run) -> None:
    run.start()
    until(lambda: len(run.comfy.posts) == 2, "two prompts")
    run.answered(run.ask("stop_after"), "obeyed")
    until(lambda: run.comfy.pending() == [], "the waiting prompt to be taken back")
    run.comfy.finish()
    assert run.ended()
    assert run.store.stats()["total_generated"] == 1 and run.store.in_flight() == []


def test_a_request_goes_before_the_agents_own_choice_with_prompt_and_params(run: Run) -> None:
    id = run.ask("again", params=PARAMS, prompt="a blue cube turns", negative_prompt="fog")
    run.store.poll()
    run.start()
    first = until(run.comfy.running, "a running prompt")
    (data,) = [item for item in run.store.in_flight() if item["prompt_id"] == first.prompt_id]
    assert (data["combo_key"], data["prompt"], data["negative_prompt"]) == (combo_key(PARAMS), "a blue cube turns", "fog")
    assert data["request"] == id
    run.answered(id, "taken")
    run.comfy.finish()
    made = run.answered(id, "made")
    entry = run.store.entry(made["video"])
    assert entry is not None and entry["request"] == id and entry["prompt"] == "a blue cube turns"


def test_a_request_whose_prompt_is_taken_back_is_made_later(run: Run) -> None:
    run.start()
    until(lambda: len(run.comfy.posts) == 2, "two prompts")
    id = run.ask("try", params=PARAMS)
    until(lambda: run.agent.desk.waiting == 1, "the request to be noticed")
    run.comfy.finish()
    until(lambda: run.state(id) == "taken", "the request to be taken")
    run.answered(run.ask("pause"), "obeyed")
    run.answered(id, "waiting")
    run.answered(run.ask("resume"), "obeyed")
    run.answered(id, "taken")
    run.comfy.finish()
    run.comfy.finish()
    run.answered(id, "made")


def test_a_request_that_was_taken_back_is_not_made(run: Run) -> None:
    run.start()
    until(lambda: len(run.comfy.posts) == 2, "two prompts")
    back, kept = run.ask("try", params=PARAMS), run.ask("try", params={**PARAMS, "steps": 8})
    until(lambda: run.agent.desk.waiting == 2, "the requests to be noticed")
    run.person.answer_request(back, "cancelled")
    until(lambda: run.agent.desk.waiting == 1, "the one taken back to leave the line")
    run.comfy.finish()
    run.answered(kept, "taken")
    assert run.state(back) == "cancelled"
    assert combo_key(PARAMS) not in {item["combo_key"] for item in run.store.in_flight()}


def test_what_is_banned_or_outside_the_space_is_refused_and_the_run_goes_on(run: Run) -> None:
    run.person.ban(combo_key(PARAMS), reason="no", by="test")
    run.store.poll()
    banned = run.ask("try", params=PARAMS)
    outside = run.ask("try", params={**PARAMS, "steps": 99})
    unknown = run.ask("again", name="nobody.mp4")
    run.store.poll()
    run.start()
    assert "banned" in run.answered(banned, "refused")["message"]
    assert "outside the search space" in run.answered(outside, "refused")["message"]
    assert "how that clip was made" in run.answered(unknown, "refused")["message"]
    until(lambda: len(run.comfy.posts) == 2, "the agent's own choices")


def test_controls_of_a_run_that_has_ended_do_not_touch_the_next(run: Run) -> None:
    old = run.ask("pause")
    kept = run.ask("vary", params=PARAMS, prompt="a blue cube")
    run.store.poll()
    run.start()
    assert "has ended" in run.answered(old, "refused")["message"]
    run.answered(kept, "taken")
    data = next(item for item in run.store.in_flight() if item.get("request") == kept)
    assert data["prompt"] == "a blue cube" and sum(data["params"][name] != PARAMS[name] for name in PARAMS) == 1


def test_the_order_of_the_review_is_published(run: Run, tmp_path: Path) -> None:
    run.start()
    made = []
    for _ in range(3):
        made.append(run.comfy.finish())
    until(lambda: run.store.stats()["total_generated"] == 3, "three clips")
    path = tmp_path / "state" / "review_order.json"
    until(lambda: path.exists() and len(json.loads(path.read_text())["values"]) == 3, "their order")
    assert all(value >= 0 for value in json.loads(path.read_text())["values"].values())


def test_neighbours_differ_in_one_parameter_and_lie_in_the_space() -> None:
    space = SearchSpace.from_dict({**SMALL_SPACE, "steps": [4, 8, 20, 30], "size": [[640, 480], [832, 480]]})
    found = neighbours(PARAMS, space)
    assert all(
        sum(other[name] != PARAMS[name] for name in ("sampler", "scheduler", "fps", "cfg_scale", "steps", "width")) == 1 for other in found
    )
    assert {other["steps"] for other in found} == {8, 20, 30} and all(other in space for other in found)
    assert neighbours({"sampler": "euler"}, space) == []


def _job() -> Job:
    return Job("p1", "http://a:1", PARAMS, combo_key(PARAMS), "a kite", "", 1, "x", 2.0, 0.0)


def test_the_preview_lies_beside_the_status_while_the_clip_is_made(tmp_path: Path) -> None:
    board, job = Board(), _job()
    writer = LiveWriter(board, tmp_path / "agent_status.json", write_live)
    preview = tmp_path / "agent_preview.jpg"
    preview.write_bytes(b"of an earlier run")
    writer._once()
    assert not preview.exists()
    board.now(job)
    board.preview(job, b"\xff\xd8\xff one")
    writer._once()
    status = json.loads((tmp_path / "agent_status.json").read_text())
    assert preview.read_bytes() == b"\xff\xd8\xff one" and status["now"]["preview"] == 1
    board.preview(job, b"\xff\xd8\xff two")
    writer._once()
    assert preview.read_bytes() == b"\xff\xd8\xff two"
    board.server(job.api, now=None)
    writer._once()
    assert not preview.exists()


def test_previews_become_small_jpegs() -> None:
    import cv2
    import numpy as np

    noise = np.random.default_rng(1).integers(0, 256, (1000, 700, 3), dtype=np.uint8)
    png = cv2.imencode(".png", noise)[1].tobytes()
    small = small_jpeg(png)
    assert small is not None and small.startswith(b"\xff\xd8\xff")
    picture = cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and max(picture.shape) == MAX_SIDE
    assert small_jpeg(b"no picture") is None and small_jpeg(b"") is None
