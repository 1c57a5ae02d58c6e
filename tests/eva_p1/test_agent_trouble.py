"""The agent's loop when things go wrong: clips that fail, servers that are away or forget, disks that are full."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import ClipError, ComfyError, ComfyUnavailable, EvaError, PromptFailed, StateError, StateFull, WorkflowError
from eva_state.keys import combo_key
from eva_state.store import StateStore
from tests.agent_fakes import FAST, FakeAnalyzer, FakeComfy, Running, live_status, make_agent, until

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 8, "width": 640, "height": 480}


@pytest.mark.parametrize("outcome", ["oom", "error", "no_output", "rejected", "empty"])
def test_a_failed_try_is_recorded_and_the_loop_goes_on(store: StateStore, comfy: FakeComfy, tmp_path: Path, outcome: str) -> None:
    comfy.outcome = lambda number, _graph: outcome if number == 2 else "ok"
    stats = make_agent(store, [comfy], tmp_path).search_v4(4)
    assert (stats["iterations"], stats["scored"], stats["failed"]) == (4, 3, 1)
    (failure,) = store.failures()
    kind = {"empty": "fetch"}.get(outcome, outcome)
    assert failure["kind"] in (kind, "bad_clip") and failure["reason"] and failure["combo_key"]
    assert len(store.history()) == 3 and all(entry["score"] > 0 for entry in store.history())
    assert comfy.freed == (outcome == "oom")


def test_a_clip_that_cannot_be_measured_is_a_failure_not_a_zero(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    def refuse(path: Path) -> float:
        raise ClipError(f"{path.name} cannot be decoded")

    agent = make_agent(store, [comfy], tmp_path, analyzer=FakeAnalyzer(refuse))
    with pytest.raises(ClipError, match="cannot be decoded"):
        agent.run_iteration_v4(PARAMS)
    assert store.history() == [] and store.failures()[0]["kind"] == "bad_clip"
    assert agent.bandit.in_flight == []


def test_too_many_failures_in_a_row_end_the_run_with_the_reason(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.outcome = lambda _number, _graph: "error"
    agent = make_agent(store, [comfy], tmp_path, options=replace(FAST, max_failures=3))
    with pytest.raises(EvaError, match=r"3 tries in a row failed on http://fake:1, the last: KSampler: error"):
        agent.search_v4(50)
    assert 3 <= len(store.failures()) <= 5


def test_a_prompt_answered_from_the_cache_is_no_observation(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.outcome = lambda number, _graph: "cached" if number == 2 else "ok"
    stats = make_agent(store, [comfy], tmp_path, options=replace(FAST, depth=1)).search_v4(3)
    assert (stats["scored"], stats["failed"]) == (2, 1)
    assert store.failures()[0]["kind"] == "cached" and stats["bandit"]["failures"] == 0


def test_a_server_that_is_away_is_waited_for(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.away = True
    run = Running(make_agent(store, [comfy], tmp_path), 2)
    status = until(lambda: live_status(tmp_path, "waiting_for_server"), "the live status says that the server is waited for")
    assert "does not answer" in status["message"] and status["iteration"] == 0
    comfy.away = False
    assert run.end()["scored"] == 2


def test_a_server_that_goes_away_and_forgets_gets_its_prompts_again(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.manual = True
    run = Running(make_agent(store, [comfy], tmp_path), 3)
    until(lambda: len(comfy.posts) == 2, "two prompts")
    comfy.away = True
    comfy.restart()
    until(lambda: run.agent.board.snapshot()["state"] == "waiting_for_server", "waiting")
    comfy.away = False
    until(lambda: len(comfy.posts) == 4, "both prompts posted again")
    assert comfy.posts[:2] == comfy.posts[2:], "the same prompts, in the same order"
    for _ in range(3):
        comfy.finish()
    stats = run.end()
    assert (stats["scored"], stats["failed"]) == (3, 0)


def test_a_prompt_the_server_does_not_know_any_more_is_recorded_as_lost(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    job = {"api": comfy.url, "params": PARAMS, "combo_key": combo_key(PARAMS), "prompt": "p", "negative_prompt": "", "seed": 1}
    store.submitted({"prompt_id": "gone", "prefix": "x", "seconds": 2.0, **job})
    store.submitted({"prompt_id": "elsewhere", "prefix": "x", "seconds": 2.0, **job, "api": "http://other:1"})
    stats = make_agent(store, [comfy], tmp_path).search_v4(1)
    assert stats["scored"] == 1 and stats["failed"] == 0
    (failure,) = store.failures()
    assert failure["prompt_id"] == "gone" and failure["kind"] == "lost"
    assert [data["prompt_id"] for data in store.in_flight()] == ["elsewhere"]


def test_a_sick_server_rests_while_the_others_go_on(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    sick = FakeComfy(tmp_path / "video", url="http://sick:1", outcome=lambda _number, _graph: "error")
    comfy.job_time = 0.02
    stats = make_agent(store, [comfy, sick], tmp_path, options=replace(FAST, max_failures=2)).search_v4(12)
    assert stats["iterations"] == 12 and stats["failed"] == len(sick.posts) <= 4


def test_a_server_without_any_of_the_samplers_ends_the_run(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.samplers = ("other",)
    with pytest.raises(WorkflowError, match="none of the samplers"):
        make_agent(store, [comfy], tmp_path).search_v4(3)


def test_a_stuck_prompt_is_interrupted_and_recorded(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    plain = comfy.wait

    def impatient(prompt_id: str, **arguments: Any) -> Any:
        if comfy.posts.index(prompt_id) == 0:
            raise PromptFailed("ran for more than 1 s", kind="timeout")
        return plain(prompt_id, **arguments)

    comfy.wait = impatient  # type: ignore[method-assign]
    stats = make_agent(store, [comfy], tmp_path).search_v4(2)
    assert (stats["scored"], stats["failed"]) == (1, 1) and store.failures()[0]["kind"] == "timeout"


def test_a_post_whose_answer_was_lost_is_not_paid_for_twice(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    plain, hiccups = comfy.queue, [1]

    def hiccup(graph: Any, *, prompt_id: str, extra_data: Any = None) -> Any:
        queued = plain(graph, prompt_id=prompt_id)
        if hiccups:
            hiccups.pop()
            raise ComfyUnavailable("the answer to a prompt was lost")
        return queued

    comfy.queue = hiccup  # type: ignore[method-assign]
    stats = make_agent(store, [comfy], tmp_path).search_v4(3)
    assert stats["scored"] == 3 and len(comfy.posts) == 3


def test_trouble_while_looking_up_prompts_is_waited_out(tmp_path: Path, comfy: FakeComfy) -> None:
    with StateStore(tmp_path / "state", role="agent") as store:
        job = {"api": comfy.url, "params": PARAMS, "combo_key": combo_key(PARAMS), "prompt": "p", "negative_prompt": "", "seed": 1}
        store.submitted({"prompt_id": "gone", "prefix": "x", "seconds": 2.0, **job})
        plain, hiccups = comfy.state_of, [1, 2]

        def hiccup(prompt_id: str) -> str:
            if hiccups:
                raise ComfyError(f"answers nonsense {hiccups.pop()}")
            return plain(prompt_id)

        comfy.state_of = hiccup  # type: ignore[method-assign]
        stats = make_agent(store, [comfy], tmp_path).search_v4(1)
        assert stats["scored"] == 1 and [failure["kind"] for failure in store.failures()] == ["lost"]


def test_a_full_disk_ends_the_run_and_loses_nothing(store: StateStore, comfy: FakeComfy, tmp_path: Path, monkeypatch: Any) -> None:
    agent = make_agent(store, [comfy], tmp_path)
    plain = store.generated
    monkeypatch.setattr(store, "generated", lambda *_args: (_ for _ in ()).throw(StateFull("no space left in the state folder")))
    with pytest.raises(StateFull, match="no space"):
        agent.search_v4(5)
    assert store.history() == [] and store.in_flight()
    monkeypatch.setattr(store, "generated", plain)
    paid = {prompt.prompt_id for prompt in comfy.prompts if prompt.state == "done"}
    make_agent(store, [comfy], tmp_path).search_v4(max(2, len(paid)))
    assert paid <= {entry["prompt_id"] for entry in store.history()}


def test_a_server_whose_disk_is_full_is_paid_for_nothing_more(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.outcome = lambda number, _graph: "disk_full" if number > 2 else "ok"
    agent = make_agent(store, [comfy], tmp_path)
    with pytest.raises(EvaError, match=r"^http://fake:1: .*disk_full$"):
        agent.search_v4(20)
    assert len(store.history()) == 2 and [failure["kind"] for failure in store.failures() if failure["kind"] != "withdrawn"] == [
        "disk_full"
    ]
    assert agent.bandit.status()["failures"] == 0, "it says nothing about the combo"


def test_a_clip_that_finds_no_room_stays_on_its_server(store: StateStore, tmp_path: Path) -> None:
    """No failed try for what is paid for: the run ends, and the next one fetches the clip."""

    def no_room(_output: Any, _dest: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "pod").mkdir()
    comfy = FakeComfy(tmp_path / "pod")
    plain, comfy.fetch = comfy.fetch, no_room  # type: ignore[method-assign]
    with pytest.raises(StateError, match=r"_00001_.mp4 cannot be written .*No space left.*--video-dir"):
        make_agent(store, [comfy], tmp_path).search_v4(5)
    assert store.history() == [] and store.in_flight()
    assert {failure["kind"] for failure in store.failures()} <= {"withdrawn"}, "what still waited there is not paid for, and is taken back"
    comfy.fetch = plain  # type: ignore[method-assign]
    paid = {prompt.prompt_id for prompt in comfy.prompts if prompt.state == "done"}
    make_agent(store, [comfy], tmp_path).search_v4(max(2, len(paid)))
    assert paid <= {entry["prompt_id"] for entry in store.history()} and len(comfy.posts) == len(set(comfy.posts))
