"""Several servers, one of them sick: it is drained, its tries are made elsewhere, nothing is lost or paid for twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eva_p1.agent_types import AgentOptions
from eva_p1.comfy_client import ComfyClient
from eva_sim.handle import SimHandle, running_simulator, start_simulator
from eva_state.store import StateStore
from tests.agent_fakes import FAST, FakeComfy, make_agent, until

SPACE = {
    "sampler": ["euler", "dpmpp_2m"], "scheduler": ["simple", "karras"], "fps": [16], "cfg_scale": [2, 5], "steps": [4, 12],
    "size": [[96, 64]],
}  # fmt: skip
OPTIONS = AgentOptions(seconds=0.5, backoff=(0.05, 0.2), give_up=1.0, rest=2.0, hold_unknown=0.0)


@contextmanager
def fleet(
    store: StateStore, tmp_path: Path, *faults: str, job_seconds: float = 0.3, **changes: Any
) -> Iterator[tuple[Any, list[SimHandle]]]:
    """An agent on one simulator for each fault; "" is a healthy one."""
    with ExitStack() as stack:
        sims = [
            stack.enter_context(
                running_simulator(tmp_path / f"pod{number}", port=0, job_seconds=job_seconds, faults=[fault] if fault else [])
            )
            for number, fault in enumerate(faults)
        ]
        clients = [stack.enter_context(ComfyClient(sim.url, patience=0.5, timeout=5)) for sim in sims]
        yield make_agent(store, clients, tmp_path, **{"space": SPACE, "options": OPTIONS, **changes}), sims


class Search:
    """A search in a thread of its own, which must end."""

    def __init__(self, agent: Any, iterations: int):
        self.agent, self.stats = agent, {}
        self.thread = threading.Thread(target=lambda: self.stats.update(agent.search_v4(iterations)), daemon=True)
        self.thread.start()

    def end(self, seconds: float = 150.0) -> dict[str, Any]:
        self.thread.join(seconds)
        if self.thread.is_alive():
            self.agent.stop("the test gave up")
            raise AssertionError("the search did not end")
        return self.stats


def whole(store: StateStore, tmp_path: Path, iterations: int) -> None:
    """Every try is a clip of its own, whole in form whoever made it."""
    history = store.history()
    assert len({entry["video"] for entry in history}) == len({entry["prompt_id"] for entry in history}) == len(history) == iterations
    assert len({frozenset(entry) for entry in history}) == 1, "results are identical in form"
    assert all((tmp_path / "video" / entry["video"]).stat().st_size > 200 for entry in history)


@pytest.mark.parametrize("sick", ["refuse:route=prompt,status=503", "hang:at=0.5", "ws_drop:at=0.3,repeat=1", "slow:factor=8",
                                  "error:at=0.2", "lose_queue:at=0.5", "drop:route=prompt,when=after"])  # fmt: skip
def test_a_sick_server_does_not_hold_the_others_up(store: StateStore, tmp_path: Path, sick: str) -> None:
    options = replace(OPTIONS, job_timeout=5.0 if sick.startswith("hang") else 60.0, max_failures=1)
    with fleet(store, tmp_path, "", sick, options=options) as (agent, sims):
        stats = Search(agent, 8).end()
        assert stats["scored"] + stats["failed"] == 8
        assert sims[0].stats()["jobs_done"] >= 3
    whole(store, tmp_path, stats["scored"])
    tries = {entry["prompt_id"] for entry in store.history()} | {
        item["prompt_id"] for item in store.failures() if item["kind"] != "withdrawn"
    }
    assert len(tries) == 8 and store.in_flight() == []
    assert len(list(tmp_path.glob("pod*/**/*.mp4"))) == stats["scored"], "no clip was made twice or left behind"


def test_a_server_that_takes_no_prompts_rests_and_is_tried_again(store: StateStore, tmp_path: Path) -> None:
    with fleet(store, tmp_path, "", "refuse:route=prompt,status=503,times=8") as (agent, sims):
        search = Search(agent, 200)
        until(lambda: sims[1].stats()["jobs_done"] >= 1, "the mended server works again", 40)
        agent.stop("seen enough")
        search.end()
    assert any("takes no prompts" in text for text in agent.board.snapshot()["messages"]) or store.failures()


def test_a_dead_servers_tries_are_made_by_the_others(store: StateStore, tmp_path: Path) -> None:
    with fleet(store, tmp_path, "", "hang:at=0.5", job_seconds=0.5) as (agent, sims):
        search = Search(agent, 10)
        until(lambda: sims[1].stats()["queue_remaining"] == 2, "both places of the second server are taken")
        sims[1].kill()
        stats = search.end()
        assert (stats["scored"], stats["failed"]) == (10, 0)
        assert sims[0].stats()["jobs_done"] == 10
    left = store.in_flight()
    assert 1 <= len(left) <= 2 and {item["api"] for item in left} == {agent.clients[1].url}, "they may be paid for: kept for a later look"


def test_a_server_that_comes_back_during_the_run_is_used_again(store: StateStore, tmp_path: Path) -> None:
    first = start_simulator(tmp_path / "pod9", job_seconds=30)
    with running_simulator(tmp_path / "pod1", port=0, job_seconds=0.3) as healthy:
        clients = [ComfyClient(healthy.url, patience=0.5), ComfyClient(first.url, patience=0.5)]
        agent = make_agent(store, clients, tmp_path, space=SPACE, options=OPTIONS)
        search = Search(agent, 400)
        try:
            until(lambda: first.stats()["queue_remaining"] == 2, "both places are taken")
            port = first.port
            first.kill()
            until(lambda: any("stays away" in text for text in agent.board.snapshot()["messages"]), "it is given up for now")
            with running_simulator(tmp_path / "pod9", port=port, job_seconds=0.2) as second:
                until(lambda: second.stats()["jobs_done"] >= 2, "it works again", 40)
        finally:
            agent.stop("end of test")
            search.end()
            for client in clients:
                client.close()
    lost = [item for item in store.failures() if item["kind"] == "lost"]
    assert len(lost) == 2, "what the dead server forgot is recorded, once each"


def test_at_the_end_idle_servers_come_first(store: StateStore, tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    servers = [FakeComfy(tmp_path / "video", url=f"http://fake:{number}", manual=True) for number in range(3)]
    agent = make_agent(store, servers, tmp_path, options=FAST)
    search = Search(agent, 3)
    until(lambda: all(server.running() for server in servers), "each server has one of the three tries")
    for server in servers:
        server.finish()
    assert search.end()["scored"] == 3 and [len(server.posts) for server in servers] == [1, 1, 1]


def test_an_idle_server_takes_over_what_waits_at_another(store: StateStore, tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    slow, quick = FakeComfy(tmp_path / "video", url="http://slow:1", manual=True), FakeComfy(tmp_path / "video", url="http://quick:1")
    agent = make_agent(store, [slow, quick], tmp_path, options=FAST)
    search = Search(agent, 8)
    until(lambda: slow.deleted, "the waiting prompt of the slow server is taken back")
    until(lambda: len(quick.posts) == 7, "the quick one makes it")
    slow.finish()
    assert search.end()["scored"] == 8 and len(slow.posts) == 2
