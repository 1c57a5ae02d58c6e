"""The live status: estimates of time, one picture of the run, and the file that carries it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eva_p1.agent_live import Board, LiveWriter, RunTimes
from eva_p1.agent_types import Job
from eva_state.live import write_live

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 10, "width": 640, "height": 480}


def job(number: int = 1, api: str = "http://a:1", **params: int) -> Job:
    mixed = {**PARAMS, **params}
    return Job(f"id{number}", api, mixed, f"key{number}", f"prompt {number}", "", 1, "x", 2.0, 0.0)


def test_run_times_of_the_same_work_are_used_first_and_scaled_otherwise() -> None:
    times = RunTimes()
    assert times.estimate(PARAMS, 2.0) is None and times.typical() is None
    for seconds in (10.0, 12.0, 30.0):
        times.add(PARAMS, 2.0, seconds)
    assert times.estimate(PARAMS, 2.0) == 12.0
    assert times.estimate({**PARAMS, "steps": 20}, 2.0) == pytest.approx(24.0)
    assert times.estimate({**PARAMS, "width": 320}, 2.0) == pytest.approx(6.0)
    assert times.estimate(PARAMS, 4.0) == pytest.approx(24.0, rel=0.05)


def test_run_times_forget_old_runs_and_ignore_nonsense() -> None:
    times = RunTimes()
    times.add(PARAMS, 2.0, 0.0)
    assert times.estimate(PARAMS, 2.0) is None
    for seconds in [100.0] * 20 + [1.0] * RunTimes.KEEP:
        times.add(PARAMS, 2.0, seconds)
    assert times.estimate(PARAMS, 2.0) == 1.0


def test_the_board_tells_what_renders_how_far_and_how_long() -> None:
    clock = [1000.0]
    board = Board(lambda: clock[0])
    board.begin(10, None)
    board.learn_time(PARAMS, 2.0, 20.0)
    first, second = job(1), job(2)
    board.server("http://a:1", state="running", waiting=[second])
    board.now(first)
    board.queued(first, 2)
    assert board.snapshot()["now"]["node"] == "waiting behind 2 prompts"
    clock[0] += 50
    board.progress(first, "KSampler", (3, 10))
    clock[0] += 5
    shown = board.snapshot()
    assert shown["now"] | {"seconds": 5.0} == shown["now"]
    assert (shown["now"]["node"], shown["now"]["step"], shown["now"]["steps"]) == ("KSampler", 3, 10)
    assert shown["now"]["seconds_left"] == 15.0, "waiting at the server is no run time"
    assert shown["next"]["combo_key"] == "key2"
    assert shown["eta_seconds"] == 15 + 9 * 20
    assert board.elapsed(first) == 5.0 and board.elapsed(second) == 0.0


def test_progress_of_a_prompt_that_is_not_shown_changes_nothing() -> None:
    board = Board(lambda: 0.0)
    board.now(job(1))
    board.progress(job(2), "KSampler", (3, 10))
    assert board.snapshot()["now"]["node"] is None


def test_time_to_go_is_shared_by_the_servers_at_work() -> None:
    board = Board(lambda: 0.0)
    board.begin(10, None)
    board.learn_time(PARAMS, 2.0, 20.0)
    for api in ("http://a:1", "http://b:1"):
        board.server(api, state="running")
    assert board.snapshot()["eta_seconds"] == 100.0
    board.server("http://b:1", state="waiting_for_server")
    assert board.snapshot()["eta_seconds"] == 200.0


def test_the_best_score_is_kept_and_counts_add_up() -> None:
    board = Board()
    board.begin(None, (0.5, "old"))
    assert not board.finished(tries=1, scored=True, run_minutes=1.0, score=0.4, combo_key="a")
    assert board.finished(tries=2, scored=True, run_minutes=1.0, score=0.6, combo_key="b")
    assert not board.finished(tries=3, scored=False, run_minutes=0.5)
    shown = board.snapshot()
    assert (shown["best_score"], shown["best_combo"]) == (0.6, "b")
    assert (shown["iteration"], shown["iterations"], shown["scored"], shown["failed"], shown["gpu_minutes"]) == (3, None, 2, 1, 2.5)


def test_the_writer_ends_with_stopped(tmp_path: Path) -> None:
    path = tmp_path / "agent_status.json"
    writer = LiveWriter(Board(), path, write_live, interval=0.01)
    writer.start()
    writer.stop()
    assert json.loads(path.read_text(encoding="utf-8"))["state"] == "stopped"


def test_a_status_that_cannot_be_written_is_reported_once_and_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def full(_path: Path, _data: object) -> None:
        raise OSError(28, "No space left on device")

    writer = LiveWriter(Board(), Path("agent_status.json"), full, interval=0.001)
    writer.start()
    writer.stop()
    assert caplog.text.count("No space left") == 1
