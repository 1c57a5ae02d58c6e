"""The budget of a run: nothing is begun that is not expected to fit, and everything that was paid counts."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eva_p1.agent_budget import Spend
from eva_p1.agent_types import AgentOptions, Job
from eva_p1.bandit_prices import NothingFits
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_state.store import StateStore
from tests.agent_fakes import FAST, SMALL_SPACE, FakeComfy, make_agent

EVEN_SPACE = {**SMALL_SPACE, "cfg_scale": [5], "steps": [8]}  # every combo is the same work, as the fake server's even times say


def _job(number: int = 1) -> Job:
    return Job(f"p{number}", "http://a", {}, "key", "", "", 1, "", 2.0, 0.0)


def test_dollars_and_minutes_together_are_the_smaller_of_both() -> None:
    assert Spend(AgentOptions()).limit is None and Spend(AgentOptions()).left is None
    assert Spend(AgentOptions(budget_minutes=30)).limit == 30
    assert Spend(AgentOptions(budget_dollars=3, gpu_price=2)).limit == 90
    assert Spend(AgentOptions(budget_minutes=30, budget_dollars=3, gpu_price=2)).limit == 30


def test_a_try_counts_as_expected_then_as_it_runs_then_as_it_was() -> None:
    running, expected = {"p1": 0.0}, {"p1": 2.0}
    spend = Spend(AgentOptions(budget_minutes=10), lambda job: expected[job.prompt_id], lambda job: running[job.prompt_id])
    job = _job()
    spend.commit(job)
    spend.commit(job)
    assert spend.left == 8.0 and spend.spent == 0.0
    expected["p1"] = 4.0  # other tries told that it will take longer
    assert spend.left == 6.0
    running["p1"] = 5 * 60.0
    assert spend.left == pytest.approx(5.0)
    spend.ended(job, 5.5)
    assert spend.left == pytest.approx(4.5) and spend.spent == 5.5 and not spend.under_way


def test_nothing_fits_only_ends_the_run_when_nothing_is_under_way() -> None:
    spend = Spend(AgentOptions(budget_minutes=10))
    job = _job()
    spend.commit(job)
    assert not spend.refused() and spend.waits
    spend.ended(job, 2.0)  # it took less than expected: there is room again
    assert not spend.waits and spend.left == 8.0
    assert spend.refused()


def test_a_try_on_a_server_that_stays_away_counts_but_keeps_nobody_waiting() -> None:
    spend = Spend(AgentOptions(budget_minutes=10), lambda _job: 4.0)
    job = _job()
    spend.commit(job)
    assert not spend.refused() and spend.waits
    spend.set_aside(job)
    assert spend.left == 6.0 and not spend.waits and not spend.under_way and spend.refused()
    spend.commit(job)  # the server is back
    assert spend.left == 6.0 and spend.under_way == 1
    spend.ended(job, 3.0)
    assert spend.left == 7.0


def test_report_in_minutes_and_dollars() -> None:
    spend = Spend(AgentOptions(budget_dollars=1, gpu_price=2))
    spend.ended(_job(), 15)
    report = spend.report()
    assert (report["minutes"], report["limit"], report["left"]) == (15, 30, 15)
    assert (report["dollars"], report["limit_dollars"], report["left_dollars"]) == (0.5, 1.0, 0.5)


def test_the_bandit_chooses_only_what_fits() -> None:
    bandit = MultiDimensionalBandit(space=SMALL_SPACE, seed=1)
    for steps in (8, 20):
        params = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 5, "steps": steps, "width": 640, "height": 480}
        for _ in range(3):
            bandit.update(params, 0.5, cost_minutes=steps / 4, seconds=5.0, server="http://a")
    for _ in range(6):
        chosen = bandit.select_params(within=3.5, seconds=5.0, server="http://a")
        assert chosen["steps"] == 8 and bandit.expected_minutes(chosen, 5.0, "http://a") <= 3.5
    with pytest.raises(NothingFits, match="cheapest try is expected to take"):
        bandit.select_params(within=0.5, probe=True, seconds=5.0, server="http://a")


def test_with_no_price_known_one_of_the_cheapest_is_a_probe() -> None:
    bandit = MultiDimensionalBandit(space={**SMALL_SPACE, "steps": [4, 30], "size": [[320, 240], [1280, 720]]}, seed=1)
    with pytest.raises(NothingFits):
        bandit.select_params(within=0.01)
    for _ in range(5):
        chosen = bandit.select_params(within=0.01, probe=True)
        assert (chosen["steps"], chosen["width"]) != (30, 1280)


def _run(tmp_path: Path, clients: list[FakeComfy], iterations: int | None = None, **limits: Any) -> tuple[Any, dict[str, Any]]:
    (tmp_path / "video").mkdir(exist_ok=True)
    with StateStore(tmp_path / "state", role="agent") as store:
        agent = make_agent(store, clients, tmp_path, space=EVEN_SPACE, options=replace(FAST, **limits))
        return agent, agent.search_v4(iterations)


def test_a_run_ends_before_a_try_that_would_not_fit(tmp_path: Path) -> None:
    """Every try takes half a minute whatever it is; two minutes hold four."""
    agent, stats = _run(tmp_path, [FakeComfy(tmp_path / "video", seconds=30.0)], budget_minutes=2.2)
    assert stats["iterations"] == 4 and stats["budget"]["minutes"] == pytest.approx(2.0)
    assert stats["budget"]["left"] == pytest.approx(0.2)
    assert any("the budget ends the run" in text for text in agent.board.snapshot()["messages"])
    assert agent.board.snapshot()["budget"]["limit"] == 2.2


@pytest.mark.parametrize(("iterations", "ended"), [(2, 2), (50, 4)])
def test_the_first_limit_that_is_reached_ends_the_run(tmp_path: Path, iterations: int, ended: int) -> None:
    _, stats = _run(tmp_path, [FakeComfy(tmp_path / "video", seconds=30.0)], iterations, budget_minutes=2.2)
    assert stats["iterations"] == ended


def test_dollars_at_a_price_end_a_run_too(tmp_path: Path) -> None:
    _, stats = _run(tmp_path, [FakeComfy(tmp_path / "video", seconds=30.0)], budget_dollars=0.11, gpu_price=3.0)
    assert stats["iterations"] == 4
    assert stats["budget"]["dollars"] == pytest.approx(0.10) and stats["budget"]["left_dollars"] == pytest.approx(0.01)


def test_failed_and_out_of_memory_tries_are_paid_for(tmp_path: Path) -> None:
    outcomes = {2: "oom", 3: "crash"}
    client = FakeComfy(tmp_path / "video", seconds=30.0, outcome=lambda number, _graph: outcomes.get(number, "ok"), manual=True)
    (tmp_path / "video").mkdir()
    with StateStore(tmp_path / "state", role="agent") as store:
        clock = {"now": 0.0}
        options = replace(FAST, budget_minutes=2.2, depth=1)
        agent = make_agent(store, [client], tmp_path, space=EVEN_SPACE, options=options, clock=lambda: clock["now"])
        stats: dict[str, Any] = {}
        run = threading.Thread(target=lambda: stats.update(agent.search_v4(20)))
        run.start()
        try:
            while run.is_alive():
                prompt = client.running()
                if prompt is None or not agent.board.snapshot()["now"] or (agent.board.snapshot()["now"]["step"] is None):
                    run.join(0.01)
                    continue
                clock["now"] += 30.0  # failures are timed by the agent's own clock
                client.finish()
        finally:
            agent.stop()
            run.join(20)
        kinds = [failure["kind"] for failure in store.failures()]
    assert sorted(kinds) == ["error", "oom"]
    assert stats["failed"] == 2 and stats["iterations"] == 4
    assert stats["budget"]["minutes"] == pytest.approx(2.0, abs=0.05)


def test_several_servers_share_one_budget(tmp_path: Path) -> None:
    clients = [FakeComfy(tmp_path / "video", url=f"http://fake:{port}", seconds=30.0, job_time=0.02) for port in (1, 2, 3)]
    _, stats = _run(tmp_path, clients, budget_minutes=4.2)
    assert stats["iterations"] == 8 and stats["budget"]["minutes"] <= 4.2


def test_a_run_counts_its_own_spending_only(tmp_path: Path) -> None:
    for _ in range(2):
        _, stats = _run(tmp_path, [FakeComfy(tmp_path / "video", seconds=30.0)], budget_minutes=1.2)
        assert stats["iterations"] == 2


def test_what_an_improvement_cost_is_told(tmp_path: Path) -> None:
    _, stats = _run(tmp_path, [FakeComfy(tmp_path / "video", seconds=30.0)], 6)
    assert stats["budget"]["limit"] is None and stats["budget"]["minutes"] == pytest.approx(3.0)
    assert {"gained", "minutes_per_hundredth"} <= set(stats["budget"])
