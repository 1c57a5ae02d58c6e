"""Out of memory: one smaller try in its place, recorded as what it is, and the bandit told about the combo that failed."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eva_p1.agent_hooks import AgentHooks
from eva_p1.agent_oom import smaller_params
from eva_p1.search_space import SearchSpace
from eva_state.keys import combo_key
from eva_state.store import StateStore
from tests.agent_fakes import FAST, SMALL_SPACE, FakeComfy, make_agent, until

SPACE = {**SMALL_SPACE, "size": [[1280, 720], [640, 640], [832, 480]]}
PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 24, "cfg_scale": 2, "steps": 8, "width": 1280, "height": 720}


@pytest.fixture
def comfy(tmp_path: Path) -> FakeComfy:
    (tmp_path / "video").mkdir()
    return FakeComfy(tmp_path / "video", outcome=too_large)


def too_large(_number: int, graph: dict[str, Any]) -> str:
    latent = next(node["inputs"] for node in graph.values() if {"width", "height", "length"} <= node["inputs"].keys())
    return "oom" if latent["width"] * latent["height"] > 500_000 else "ok"


@pytest.mark.parametrize(("sizes", "rates", "changed"), [
    ([[1280, 720], [832, 480], [640, 640], [320, 192]], [16, 24], {"width": 832, "height": 480}),  # the same orientation first
    ([[1280, 720], [640, 640], [480, 832]], [16, 24], {"width": 640, "height": 640}),  # else the largest
    ([[1280, 720], [1264, 720]], [12, 16, 20, 24], {"fps": 16}),  # a hair fewer pixels would fail again
    ([[1280, 720]], [20, 24], None),
    ([[1280, 720], [1920, 1080]], [24, 60], None),
])  # fmt: skip
def test_smaller_means_clearly_fewer_pixels_or_frames(sizes: Any, rates: Any, changed: dict[str, Any] | None) -> None:
    space = SearchSpace.from_dict({**SPACE, "size": sizes, "fps": rates})
    assert smaller_params(PARAMS, space) == (None if changed is None else {**PARAMS, **changed})


def only_large(allowed: tuple[int, ...] = (1280,)) -> AgentHooks:
    class Propose(AgentHooks):
        def propose(self, agent: Any) -> dict[str, Any]:
            return {**PARAMS, "fps": 16}

        def allow(self, params: dict[str, Any]) -> str | None:
            return None if params["width"] in allowed else "only these widths"

    return Propose()


def test_one_smaller_try_takes_its_place_with_the_same_prompt_and_seed(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    agent = make_agent(store, [comfy], tmp_path, space=SPACE, policies=[only_large((1280, 832))], options=replace(FAST, depth=1))
    stats = agent.search_v4(2)
    assert (stats["scored"], stats["failed"]) == (1, 1), "the smaller try is a try of its own"
    (failure,) = store.failures()
    (entry,) = store.history()
    assert failure["kind"] == "oom" and "832x480 is tried in its place" in failure["reason"]
    assert entry["retry_of"] == failure["prompt_id"] and entry["combo_key"].endswith("832x480")
    assert (entry["prompt"], entry["seed"]) == (failure["prompt"], failure["seed"])
    assert comfy.freed == 1, "what the failed prompt left in memory is freed"
    told = [item.key for item in agent.bandit._ledger.failures]
    assert told == [failure["combo_key"]], "the bandit learns where memory ends"


def test_a_smaller_try_that_fails_too_is_left_at_that(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.outcome = lambda number, graph: "oom" if number < 3 else "ok"
    agent = make_agent(store, [comfy], tmp_path, space=SPACE, policies=[only_large((1280, 832))], options=replace(FAST, depth=1))
    stats = agent.search_v4(3)
    assert (stats["scored"], stats["failed"]) == (1, 2)
    assert "left at that" in store.failures()[1]["reason"] and "retry_of" not in store.history()[0]


@pytest.mark.parametrize(("options", "space", "words"), [
    (FAST, {**SPACE, "size": [[1280, 720]]}, "nothing smaller"),
    (FAST, SPACE, "only these widths"),
    (replace(FAST, oom_retry=False), SPACE, "oom"),
])  # fmt: skip
def test_without_a_smaller_try_the_failure_is_recorded(
    store: StateStore, comfy: FakeComfy, tmp_path: Path, options: Any, space: Any, words: str
) -> None:
    agent = make_agent(store, [comfy], tmp_path, space=space, policies=[only_large()], options=options)
    stats = agent.search_v4(1)
    assert (stats["scored"], stats["failed"], len(comfy.posts)) == (0, 1, 1)
    assert words in store.failures()[0]["reason"]


def test_a_ban_meanwhile_calls_the_smaller_try_off(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    smaller = {**PARAMS, "fps": 16, "width": 832, "height": 480}

    class Ban(AgentHooks):
        def on_failed(self, agent: Any, failure: Any) -> None:
            agent.ban(combo_key(smaller), "seen before", by="test")

    agent = make_agent(
        store, [comfy], tmp_path, space=SPACE, policies=[only_large((1280, 832)), Ban()], options=replace(FAST, depth=1, max_failures=0)
    )
    agent.search_v4(2)
    assert [item["combo_key"] for item in store.failures()] == [combo_key({**PARAMS, "fps": 16})] * 2


def test_a_smaller_try_taken_back_is_made_later(store: StateStore, comfy: FakeComfy, tmp_path: Path) -> None:
    comfy.manual = True
    agent = make_agent(store, [comfy], tmp_path, space=SPACE, policies=[only_large((1280, 832))])
    thread = threading.Thread(target=agent.search_v4, args=(3,), daemon=True)
    thread.start()
    try:
        until(lambda: len(comfy.pending()) == 1, "one runs, one waits")
        comfy.finish()  # the first runs out of memory, the second starts, the smaller try waits behind it
        until(lambda: len(comfy.posts) == 3 and comfy.pending(), "the smaller try waits")
        agent.pause()
        until(lambda: not comfy.pending(), "it is taken back")
        agent.resume()
        until(lambda: len(comfy.posts) == 4 and comfy.pending(), "it waits again")
        comfy.finish()
        comfy.finish()
        thread.join(20)
        assert not thread.is_alive()
    finally:
        agent.stop("end of test")
        thread.join(20)
    first, second = [item for item in store.failures() if item["kind"] == "oom"]
    (entry,) = store.history()
    assert entry["retry_of"] == first["prompt_id"] != second["prompt_id"] and entry["seed"] == first["seed"]
