"""Every fault of the simulator and a cut line at every step against the whole agent: nothing paid twice, nothing lost, no hang."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eva_p1.agent_types import AgentOptions
from eva_p1.comfy_client import ComfyClient
from eva_p1.video_analyzer import VideoAnalyzer
from eva_sim.faults import KINDS
from eva_sim.handle import SimHandle, running_simulator, start_simulator
from eva_state.store import StateStore
from tests.agent_fakes import make_agent, until

TRIES = 4
SPACE = {
    "sampler": ["euler", "dpmpp_2m"], "scheduler": ["simple", "beta"], "fps": [16], "cfg_scale": [2, 5], "steps": [4, 8],
    "size": [[128, 80], [96, 64]],
}  # fmt: skip
OPTIONS = AgentOptions(seconds=0.6, backoff=(0.05, 0.2), job_timeout=15.0, max_failures=0, hold_unknown=0.1)
ROUTES = ("system_stats", "object_info", "prompt", "queue", "history", "view", "ws", "free", "interrupt")

# fault -> kinds of the failures it may leave; everything else must be scored
CASES: dict[str, tuple[str, ...]] = {
    "refuse:route=prompt,status=503,times=3": (),
    "refuse:route=prompt,status=502,every=2,times=4": (),
    "refuse:route=prompt,status=500,job=2": ("rejected",),
    "refuse:route=prompt,mode=validation,job=2": ("rejected",),
    "refuse:route=object_info,status=503,times=2": (),
    "refuse:route=history,status=504,times=3": (),
    "refuse:route=view,status=503,times=2": (),
    "hang:at=0.5,job=2": ("timeout",),
    "bad_output:mode=truncated,job=2": ("bad_clip",),
    "bad_output:mode=zero,job=2": ("bad_clip",),
    "bad_output:mode=garbage,job=2": ("bad_clip",),
    "no_output:mode=empty,job=2": ("no_output",),
    "no_output:mode=missing,job=2": ("bad_clip",),
    "error:at=0.5,job=2": ("error",),
    "oom:job=2": ("oom",),
    "slow:factor=5,job=2": (),
    "ws_drop:at=0.3": (),
    "ws_drop:at=0.1,repeat=1": (),
    "lose_queue:at=0.5,job=2": (),
    "lose_queue:at=0.5,down=1.0,job=2": (),
    "late_history:seconds=0.6": (),
    "drop:route=prompt,when=after,every=2": (),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    with StateStore(tmp_path / "state", role="agent", video_dir=tmp_path / "video") as opened:
        yield opened


class Run:
    """A search in a thread, which has to end by itself."""

    def __init__(self, store: StateStore, tmp_path: Path, url: str, **options: Any):
        self.client = ComfyClient(url, patience=0.5, timeout=3)
        self.agent = make_agent(store, [self.client], tmp_path, space=SPACE, analyzer=VideoAnalyzer(), options=replace(OPTIONS, **options))
        self.stats: dict[str, Any] = {}
        self.thread = threading.Thread(target=lambda: self.stats.update(self.agent.search_v4(TRIES)), daemon=True)
        self.thread.start()

    def end(self, seconds: float = 150.0) -> dict[str, Any]:
        try:
            self.thread.join(seconds)
            if self.thread.is_alive():
                self.agent.stop("the test gave up")
                self.thread.join(20)
                pytest.fail(f"the search did not end: {self.agent.board.snapshot()['messages']}")
            return self.stats
        finally:
            self.client.close()


def check(store: StateStore, tmp_path: Path, stats: dict[str, Any], kinds: tuple[str, ...] = ()) -> None:
    """Four tries ended, each once; every clip that was rendered is known; what failed says why."""
    history, failures = store.history(), [item for item in store.failures() if item["kind"] != "withdrawn"]
    assert (stats["scored"], stats["failed"]) == (len(history), len(failures)) == (TRIES - len(kinds), len(kinds))
    assert tuple(sorted(item["kind"] for item in failures)) == tuple(sorted(kinds)) and all(item["reason"] for item in failures)
    assert store.in_flight() == [], "nothing is lost"
    ids = Counter(item["prompt_id"] for item in [*history, *failures])
    assert max(ids.values()) == 1 and len({entry["video"] for entry in history}) == len(history)
    rendered = {path.relative_to(tmp_path / "pod").as_posix() for path in (tmp_path / "pod").rglob("*.mp4")}
    scored = {entry["video"] for entry in history}
    assert scored <= rendered and len(rendered - scored) <= kinds.count("bad_clip"), "nothing was paid for twice"


def test_every_kind_of_fault_is_tried() -> None:
    assert {case.partition(":")[0] for case in CASES} | {"crash"} == set(KINDS)


@pytest.mark.parametrize("fault", CASES)
def test_a_fault(store: StateStore, tmp_path: Path, fault: str) -> None:
    with running_simulator(tmp_path / "pod", port=0, job_seconds=0.25, faults=[fault]) as sim:
        timeout = 6.0 if fault.startswith("hang") else 60.0
        check(store, tmp_path, Run(store, tmp_path, sim.url, job_timeout=timeout).end(), CASES[fault])
        struck = sim.stats()
        assert struck["jobs_done"] + struck["jobs_failed"] <= TRIES + 2


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("route", ROUTES)
def test_the_line_cut_at_each_step(store: StateStore, tmp_path: Path, route: str, when: str) -> None:
    """The first request, and every fourth after it, of one kind never gets its answer."""
    faults = [f"drop:route={route},when={when},job=1", f"drop:route={route},when={when},every=4"]
    if route in ("free", "interrupt"):  # asked only after a failure
        faults += ["oom:job=2" if route == "free" else "hang:job=2"]
    kinds = {"free": ("oom",), "interrupt": ("timeout",)}.get(route, ())
    with running_simulator(tmp_path / "pod", port=0, job_seconds=0.25, faults=faults) as sim:
        check(store, tmp_path, Run(store, tmp_path, sim.url, job_timeout=6.0 if route == "interrupt" else 60.0).end(), kinds)
        assert sim.stats()["jobs_done"] == TRIES - len(kinds)


def test_a_crash_and_a_restart(store: StateStore, tmp_path: Path) -> None:
    first: SimHandle = start_simulator(tmp_path / "pod", port=0, job_seconds=0.25, faults=["crash:at=0.5,job=2"])
    run = Run(store, tmp_path, first.url)
    port = first.port
    assert first.wait_dead(30)
    until(lambda: run.agent.board.snapshot()["state"] == "waiting_for_server", "the crash is noticed")
    with running_simulator(tmp_path / "pod", port=port, job_seconds=0.25) as second:
        stats = run.end()
        assert second.stats()["jobs_done"] >= TRIES - 1
    check(store, tmp_path, stats)


def test_everything_at_once(store: StateStore, tmp_path: Path) -> None:
    faults = [
        *(f"drop:route={route},every=5" for route in ("prompt", "queue", "history", "view", "system_stats")),
        *("ws_drop:at=0.4,every=2", "late_history:seconds=0.3", "lose_queue:at=0.5,job=2", "error:at=0.5,job=3"),
    ]
    with running_simulator(tmp_path / "pod", port=0, job_seconds=0.25, faults=faults) as sim:
        stats = Run(store, tmp_path, sim.url, job_timeout=60.0).end(150)
    check(store, tmp_path, stats, ("error",))
