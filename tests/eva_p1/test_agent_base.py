"""The agent's loop: what is tried, recorded, learned, and what happens when things go wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import UsageError
from eva_p1.agent_hooks import AgentHooks
from eva_state.keys import combo_key
from eva_state.store import StateStore
from qa.patches import RecentlyBadBan
from tests.agent_fakes import FAST, SMALL_SPACE, FakeAnalyzer, FakeComfy, Running, live_status, make_agent, until

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 8, "width": 640, "height": 480}


def test_a_search_scores_records_and_learns(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    stats = make_agent(store, [comfy], tmp_path).search_v4(4)
    assert (stats["iterations"], stats["scored"], stats["failed"]) == (4, 4, 0)
    assert len(comfy.posts) == 4, "no prompt more was paid for than asked for"
    history = store.history()
    assert len({entry["video"] for entry in history}) == 4
    entry = history[0]
    assert set(entry) >= {"video", "timestamp", "prompt", "negative_prompt", "params", "combo", "metrics", "score", "seed", "prompt_id"}
    assert entry["combo"] == [entry["params"]["sampler"], entry["params"]["scheduler"]]
    assert entry["simulator"] is True
    assert entry["seconds"] == 2.0 and entry["cost_minutes"] == 0.5
    assert store.in_flight() == []
    assert stats["bandit"]["tries"] == 4 and stats["bandit"]["in_flight"] == 0
    assert stats["gpu_minutes"] == pytest.approx(2.0)


def test_the_workflow_holds_what_the_entry_says(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    score, metrics, path, workflow = make_agent(store, [comfy], tmp_path).run_iteration_v4(PARAMS)
    assert score == metrics["overall"] == 0.6
    assert path.is_file() and path.parent == tmp_path / "video"
    entry = store.history()[0]
    texts = json.dumps(workflow)
    assert entry["prompt"] in texts and '"euler"' in texts
    samplers = [node["inputs"] for node in workflow.values() if node["class_type"] == "KSamplerAdvanced"]
    assert [inputs["steps"] for inputs in samplers] == [8, 8]
    assert entry["seed"] in [inputs["noise_seed"] for inputs in samplers]


def test_prompts_are_journalled_before_they_are_posted(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    seen: list[set[str]] = []
    plain = comfy.queue

    def spying(graph: Any, *, prompt_id: str, extra_data: Any = None) -> Any:
        seen.append({data["prompt_id"] for data in store.in_flight()} & {prompt_id})
        return plain(graph, prompt_id=prompt_id)

    comfy.queue = spying  # type: ignore[method-assign]
    make_agent(store, [comfy], tmp_path).search_v4(3)
    assert all(seen) and len(seen) == 3


def test_the_next_prompt_waits_at_the_server_while_a_clip_is_scored(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    analyzer = FakeAnalyzer()
    comfy.manual = True
    run = Running(make_agent(store, [comfy], tmp_path, analyzer=analyzer), 4)
    until(lambda: comfy.running() and len(comfy.pending()) == 1, "one running and one waiting")
    analyzer.gate.clear()
    comfy.finish()
    until(lambda: analyzer.calls == 1, "scoring of the first clip")
    until(lambda: comfy.running() and len(comfy.pending()) == 1, "one running and one waiting while the first is scored")
    assert len(comfy.posts) == 3 and store.history() == []
    analyzer.gate.set()
    for _ in range(3):
        comfy.finish()
    assert run.end()["scored"] == 4


def test_a_free_place_waits_for_the_score_while_there_is_time(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    analyzer = FakeAnalyzer()
    comfy.manual = True
    patient = replace(FAST, hold_unknown=60.0, hold_share=0.4)
    run = Running(make_agent(store, [comfy], tmp_path, analyzer=analyzer, options=patient), 3)
    until(lambda: len(comfy.posts) == 2, "two prompts")
    analyzer.gate.clear()
    comfy.finish()
    until(lambda: analyzer.calls == 1, "scoring of the first clip")
    assert len(comfy.posts) == 2, "the third choice is held until the score is in"
    analyzer.gate.set()
    until(lambda: len(comfy.posts) == 3, "the third prompt")
    assert len(store.history()) == 1
    comfy.finish()
    comfy.finish()
    assert run.end()["scored"] == 3


def test_a_stop_takes_waiting_prompts_back_and_leaves_the_running_one_to_be_picked_up(tmp_path: Path, comfy: FakeComfy) -> None:
    comfy.manual = True
    with StateStore(tmp_path / "state", role="agent") as store:
        run = Running(make_agent(store, [comfy], tmp_path), None)
        until(lambda: len(comfy.posts) == 2, "two prompts")
        run.agent.stop("asked")
        assert run.end()["iterations"] == 0
        (left,) = store.in_flight()
        assert comfy.running() is not None and left["prompt_id"] == comfy.running().prompt_id and comfy.pending() == []  # type: ignore[union-attr]
        assert [failure["kind"] for failure in store.failures()] == ["withdrawn"]
    assert live_status(tmp_path, "stopped")
    with StateStore(tmp_path / "state", role="agent") as store:
        comfy.manual = False
        stats = make_agent(store, [comfy], tmp_path).search_v4(2)
        assert stats["scored"] == 2 and stats["bandit"]["failures"] == 0
        assert left["prompt_id"] in {entry["prompt_id"] for entry in store.history()}
        assert len(comfy.posts) == 3, "the prompt in flight was not paid for twice"
        assert store.in_flight() == []


def test_a_ban_by_another_process_takes_the_waiting_prompt_back(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.manual = True
    run = Running(make_agent(store, [comfy], tmp_path), 3)
    waiting = until(comfy.pending, "a waiting prompt")[0].prompt_id
    key = next(data["combo_key"] for data in store.in_flight() if data["prompt_id"] == waiting)
    with StateStore(tmp_path / "state", role="server") as server:
        server.ban(key, reason="ugly", by="a person")
        until(lambda: waiting in comfy.deleted, "the banned prompt leaves the queue")
        until(lambda: len(comfy.posts) == 3, "another choice in its place")
    assert comfy.posts[2] != waiting
    for _ in range(3):
        comfy.finish()
    stats = run.end()
    assert (stats["scored"], stats["failed"]) == (3, 0)
    assert all(combo_key(entry["params"]) != key for entry in store.history())


def test_a_rating_by_another_process_reaches_the_bandit_and_its_undo_too(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    agent = make_agent(store, [comfy], tmp_path)
    agent.search_v4(2)
    clip = store.history()[0]
    key = combo_key(clip["params"])
    with StateStore(tmp_path / "state", role="server") as server:
        event = server.rate(clip["video"], {"overall_quality": 10}).event_id
        until(lambda: store.rating(clip["video"]), "the rating arrives")
        agent._drain()
        assert max(agent.bandit.stats()[key]["scores"]) == 1.0
        server.undo(event)
        until(lambda: not store.rating(clip["video"]), "the undo arrives")
        agent._drain()
    assert max(agent.bandit.stats()[key]["scores"]) == 0.6


def test_autobans_are_events(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    space = {"sampler": ["euler", "heun"], "scheduler": ["simple"], "fps": [16], "cfg_scale": [2], "steps": [8], "size": [[640, 480]]}
    agent = make_agent(store, [comfy], tmp_path, space=space, analyzer=FakeAnalyzer(lambda _path: 0.1), options=replace(FAST, depth=1))
    with pytest.raises(UsageError, match="nothing is left|no combo|banned"):
        agent.search_v4(30)
        raise UsageError("banned") if store.bans() and len(store.history()) == 30 else AssertionError(store.bans())
    assert store.bans() and all(ban["by"] == "autoban" for ban in store.bans().values())


def test_a_state_in_which_everything_is_banned_says_so(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    store.ban("*|*|*|*|*|*", reason="all of it", by="a person")
    with pytest.raises(UsageError, match="every combo is banned; lift a ban"):
        make_agent(store, [comfy], tmp_path).search_v4(3)
    assert comfy.posts == []


def test_a_rule_that_would_ban_the_last_combo_is_heard_once(
    store: StateStore, comfy: FakeComfy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = {"sampler": ["euler"], "scheduler": ["simple"], "fps": [16], "cfg_scale": [2], "steps": [8], "size": [[640, 480]]}
    agent = make_agent(store, [comfy], tmp_path, space=space, analyzer=FakeAnalyzer(lambda _path: 0.1), policies=[RecentlyBadBan()])
    agent.search_v4(6)
    said = [record for record in caplog.records if "is not banned" in record.getMessage() and record.levelname == "WARNING"]
    assert len(said) == 1 and not store.bans()


def test_an_unbanned_combo_stays_unbanned_after_a_restart(tmp_path: Path, comfy: FakeComfy) -> None:
    with StateStore(tmp_path / "state", role="agent") as store:
        agent = make_agent(store, [comfy], tmp_path, analyzer=FakeAnalyzer(lambda _path: 0.1))
        for _ in range(3):
            agent.run_iteration_v4(PARAMS)
        key = combo_key(PARAMS)
        assert key in store.bans()
        store.unban(key, by="a person")
    with StateStore(tmp_path / "state", role="agent") as store:
        agent = make_agent(store, [comfy], tmp_path)
        agent.run_iteration_v4({**PARAMS, "sampler": "heun"})
        assert key not in store.bans() and key not in agent.bandit.bans and not agent.is_banned(key)


def test_several_servers_share_the_tries_without_overshooting(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    clients = [comfy, *(FakeComfy(tmp_path / "video", url=f"http://fake:{n}") for n in (2, 3))]
    for client in clients:
        client.job_time = 0.02
    stats = make_agent(store, clients, tmp_path).search_v4(10)
    taken_back = [item for item in store.failures() if item["kind"] == "withdrawn"]  # at the end, for a server that stood idle
    assert stats["iterations"] == 10 and sum(len(client.posts) for client in clients) - len(taken_back) == 10
    assert all(client.posts for client in clients), "every server got work"


def test_the_space_is_what_the_server_lists_and_the_workflow_can_set(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.samplers = ("heun",)
    agent = make_agent(store, [comfy], tmp_path)
    agent.search_v4(3)
    assert {entry["params"]["sampler"] for entry in store.history()} == {"heun"}
    assert store.space()["sampler"] == ["heun"]  # type: ignore[index]
    assert any("does not offer sampler euler" in text for text in agent.board.snapshot()["messages"])
    with pytest.raises(UsageError, match="euler"):
        agent.run_iteration_v4(PARAMS)


def test_a_remote_clip_is_fetched(store: StateStore, tmp_path: Path) -> None:
    (tmp_path / "pod").mkdir()
    pod = FakeComfy(tmp_path / "pod")
    _score, _metrics, path, _workflow = make_agent(store, [pod], tmp_path).run_iteration_v4(PARAMS)
    assert path.parent == tmp_path / "video" and path.stat().st_size == 1000


def test_a_content_policy_refusal_draws_another_prompt(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    def check(text: str) -> None:
        if text.endswith("take 1"):
            raise ValueError("not this one")

    make_agent(store, [comfy], tmp_path, check_text=check).search_v4(1)
    assert store.history()[0]["prompt"].endswith("take 2")


def test_policies_propose_veto_and_are_told(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    class Policy(AgentHooks):
        name = "test"

        def __init__(self) -> None:
            self.proposals = [dict(PARAMS)]
            self.scored: list[Any] = []

        def propose(self, agent: Any) -> dict[str, Any] | None:
            return self.proposals.pop() if self.proposals else None

        def allow(self, params: dict[str, Any]) -> str | None:
            return None if params["steps"] == 8 else "only 8 steps today"

        def on_scored(self, agent: Any, result: Any) -> None:
            self.scored.append(result)
            raise RuntimeError("a policy's bug must not cost GPU time")

    policy = Policy()
    agent = make_agent(store, [comfy], tmp_path, policies=[policy])
    agent.search_v4(4)
    assert len(policy.scored) == 4
    assert {entry["params"]["steps"] for entry in store.history()} == {8}
    assert combo_key(PARAMS) in {combo_key(entry["params"]) for entry in store.history()}
    assert agent.bandit.in_flight == [], "refused choices do not stay in flight"


def test_the_same_seed_makes_the_same_choices(tmp_path: Path) -> None:
    def run(name: str) -> list[tuple[str, int, str]]:
        folder = tmp_path / name
        (folder / "video").mkdir(parents=True)
        comfy = FakeComfy(folder / "video", manual=True)
        with StateStore(folder / "state", role="agent") as store:
            running = Running(make_agent(store, [comfy], folder, options=replace(FAST, hold_unknown=60.0, hold_share=1.0)), 6)
            for done in range(1, 7):  # as with real jobs, a clip is scored long before the next one is rendered
                until(lambda done=done: len(comfy.posts) == min(6, done + 1), "the next choice")
                comfy.finish()
                until(lambda done=done: len(store.history()) == done, "the score")
            running.end()
            return [(combo_key(entry["params"]), entry["seed"], entry["prompt"]) for entry in store.history()]

    assert run("one") == run("two")


def test_a_server_that_names_its_prompts_itself_is_followed_by_its_name(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    plain = comfy.queue

    def renaming(graph: Any, *, prompt_id: str, extra_data: Any = None) -> Any:
        return plain(graph, prompt_id=f"own-{prompt_id}")

    comfy.queue = renaming  # type: ignore[method-assign]
    stats = make_agent(store, [comfy], tmp_path).search_v4(3)
    assert (stats["scored"], stats["failed"]) == (3, 0) and len(comfy.posts) == 3
    assert all(entry["prompt_id"].startswith("own-") for entry in store.history()) and store.in_flight() == []


def test_the_last_combo_is_never_banned_by_a_rule(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    agent = make_agent(
        store, [comfy], tmp_path, space={**SMALL_SPACE, "sampler": ["euler"], "scheduler": ["simple"], "cfg_scale": [2], "steps": [8]}
    )
    agent.run_iteration_v4(PARAMS)
    assert not agent.ban(combo_key(PARAMS), "bad", by="qa-ban")
    assert store.bans() == {}


def test_rewards_before_an_unban_do_not_count_for_policies(tmp_path: Path, comfy: FakeComfy) -> None:
    key = combo_key(PARAMS)
    with StateStore(tmp_path / "state", role="agent", poll_interval=0.02) as store:
        agent = make_agent(store, [comfy], tmp_path)
        agent.run_iteration_v4(PARAMS)
        agent.run_iteration_v4(PARAMS)
        assert agent.recent_rewards(key) == [0.6, 0.6]
        clip = store.history()[0]["video"]
        store.rate(clip, {"overall_quality": 1})
        agent._drain()
        assert agent.recent_rewards(key) == [0.0, 0.6], "a person's rating stands in for the automatic score"
        store.ban(key, by="a person")
        store.unban(key, by="a person")
        agent._drain()
        assert agent.recent_rewards(key) == []
        agent.run_iteration_v4(PARAMS)
    with StateStore(tmp_path / "state", role="agent") as store:
        agent = make_agent(store, [comfy], tmp_path)
        agent.run_iteration_v4(PARAMS)
        assert agent.recent_rewards(key) == [0.6, 0.6], "the same after a restart"


@pytest.mark.parametrize("iterations", [-1])
def test_wrong_iterations_are_refused(store: StateStore, comfy: FakeComfy, tmp_path: Path, iterations: int) -> None:
    with pytest.raises(UsageError, match="iterations"):
        make_agent(store, [comfy], tmp_path).search_v4(iterations)
