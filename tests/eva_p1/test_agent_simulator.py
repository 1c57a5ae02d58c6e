"""The agent on the simulator: real client, real clips, real metrics, real faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eva_p1.agent_types import AgentOptions
from eva_p1.comfy_client import ComfyClient
from eva_p1.video_analyzer import VideoAnalyzer
from eva_sim.handle import SimHandle, running_simulator, start_simulator
from eva_state.store import StateStore
from tests.agent_fakes import make_agent, until

SPACE = {
    "sampler": ["euler", "dpmpp_2m"],
    "scheduler": ["simple", "karras"],
    "fps": [16],
    "cfg_scale": [2, 5],
    "steps": [4, 12],
    "size": [[256, 160]],
}
OPTIONS = AgentOptions(seconds=1.0, backoff=(0.05, 0.2))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    with StateStore(tmp_path / "state", role="agent", video_dir=tmp_path / "video") as opened:
        yield opened


def agent_on(store: StateStore, tmp_path: Path, *sims: SimHandle, **changes: Any) -> Any:
    clients = [ComfyClient(sim.url, patience=0.5) for sim in sims]
    arguments = {"space": SPACE, "analyzer": VideoAnalyzer(), "options": OPTIONS, **changes}
    return make_agent(store, clients, tmp_path, **arguments)


def close(agent: Any) -> None:
    for client in agent.clients:
        client.close()


def test_clips_are_made_measured_and_recorded(store: StateStore, tmp_path: Path) -> None:
    with running_simulator(tmp_path / "video", speed=200) as sim:
        agent = agent_on(store, tmp_path, sim)
        stats = agent.search_v4(5)
        close(agent)
        assert (stats["scored"], stats["failed"], stats["simulator"]) == (5, 0, True)
        assert sim.stats()["jobs_done"] == 5
    for entry in store.history():
        assert (tmp_path / "video" / entry["video"]).is_file()
        assert set(entry["metrics"]) >= {"blur", "exposure", "overall"} and entry["analysis_version"] and entry["run_seconds"] > 0
        assert entry["simulator"] is True


def test_remote_clips_are_fetched_through_view(store: StateStore, tmp_path: Path) -> None:
    with running_simulator(tmp_path / "pod", speed=200) as sim:
        agent = agent_on(store, tmp_path, sim)
        agent.search_v4(2)
        close(agent)
    for entry in store.history():
        assert (tmp_path / "video" / entry["video"]).read_bytes() == (tmp_path / "pod" / entry["video"]).read_bytes()


@pytest.mark.parametrize(
    ("fault", "kind"), [("error:job=2", "error"), ("oom:job=2", "oom"), ("no_output:job=2", "no_output"), ("bad_output:job=2", "bad_clip")]
)
def test_faults_are_recorded_and_the_loop_goes_on(store: StateStore, tmp_path: Path, fault: str, kind: str) -> None:
    with running_simulator(tmp_path / "video", speed=200, faults=[fault]) as sim:
        agent = agent_on(store, tmp_path, sim)
        stats = agent.search_v4(4)
        close(agent)
    assert (stats["scored"], stats["failed"]) == (3, 1)
    (failure,) = store.failures()
    assert failure["kind"] == kind and failure["reason"]
    assert store.in_flight() == []


def test_a_hanging_prompt_is_interrupted(store: StateStore, tmp_path: Path) -> None:
    with running_simulator(tmp_path / "video", speed=200, faults=["hang:job=1"]) as sim:
        agent = agent_on(store, tmp_path, sim, options=replace(OPTIONS, job_timeout=6.0))
        stats = agent.search_v4(3)
        close(agent)
    assert (stats["scored"], stats["failed"]) == (2, 1)
    assert store.failures()[0]["kind"] == "timeout"


def test_a_killed_server_that_comes_back_gets_the_lost_prompts_again(store: StateStore, tmp_path: Path) -> None:
    first = start_simulator(tmp_path / "video", job_seconds=30)
    agent = agent_on(store, tmp_path, first, options=replace(OPTIONS, max_failures=2))
    result: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: result.append(agent.search_v4(3)))
    thread.start()
    try:
        until(lambda: first.stats()["queue_remaining"] == 2, "one prompt running and one waiting")
        port = first.port
        first.kill()
        until(lambda: agent.board.snapshot()["state"] == "waiting_for_server", "the status says that the server is waited for")
        with running_simulator(tmp_path / "video", port=port, speed=200) as second:
            thread.join(30)
            assert not thread.is_alive()
            assert second.stats()["jobs_done"] == 3
    finally:
        agent.stop("end of test")
        thread.join(30)
        close(agent)
    assert result[0]["scored"] == 3 and result[0]["failed"] == 0
    assert len({entry["video"] for entry in store.history()}) == 3


def test_one_prompt_runs_and_one_waits(store: StateStore, tmp_path: Path) -> None:
    with running_simulator(tmp_path / "video", job_seconds=0.6) as sim:
        agent = agent_on(store, tmp_path, sim)
        agent.search_v4(6)
        close(agent)
        figures = sim.stats()
    share = figures["idle_seconds_between_jobs"] / (figures["busy_seconds"] + figures["idle_seconds_between_jobs"])
    assert share < 0.25, f"the simulator's queue was empty {share:.0%} of the time; scoring is not supposed to hold it up"


def test_four_servers_make_exactly_what_was_asked_for(store: StateStore, tmp_path: Path) -> None:
    sims = [start_simulator(tmp_path / f"pod{number}", job_seconds=0.3) for number in range(4)]
    try:
        agent = agent_on(store, tmp_path, *sims)
        stats = agent.search_v4(12)
        close(agent)
        assert stats["scored"] == 12 and sum(sim.stats()["jobs_done"] for sim in sims) == 12
        assert all(sim.stats()["jobs_done"] >= 2 for sim in sims)
    finally:
        for sim in sims:
            sim.stop()
    assert {entry["api"] for entry in store.history()} == {sim.url for sim in sims}
