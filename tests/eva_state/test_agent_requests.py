"""Requests to the agent, its answers, and repeated ratings, as events of the state."""

from __future__ import annotations

from pathlib import Path

import pytest

from eva_state.store import StateStore

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 320, "height": 192}
KEY = "euler|simple|16|3.5|20|320x192"


def state_of(store: StateStore, id: str) -> str:
    return next(item["state"] for item in store.requests() if item["id"] == id)


def test_a_request_reaches_the_agent_and_its_answer_the_server(tmp_path: Path) -> None:
    with StateStore(tmp_path, role="server") as server, StateStore(tmp_path, role="agent") as agent:
        done = server.request("try", {"params": PARAMS, "by": "review"}, id="r1")
        assert done.event_id == "r1" and not done.duplicate
        assert server.request("try", {"params": PARAMS, "by": "review"}, id="r1").duplicate
        agent.poll()
        (item,) = agent.requests()
        assert (item["action"], item["combo_key"], item["state"]) == ("try", KEY, "waiting")
        agent.answer_request("r1", "taken", prompt_id="p1")
        assert state_of(agent, "r1") == "waiting", "taken without a prompt at a server: the agent died in between"
        agent.submitted({"prompt_id": "p1", "params": PARAMS})
        assert state_of(agent, "r1") == "taken"
        agent.answer_request("r1", "returned", "paused")
        assert state_of(agent, "r1") == "waiting"
        agent.answer_request("r1", "made", video="a.mp4")
        server.poll()
        (item,) = server.requests()
        assert (item["state"], item["video"]) == ("made", "a.mp4")
    with StateStore(tmp_path, role="reader") as again:
        assert state_of(again, "r1") == "made"


@pytest.mark.parametrize(
    ("action", "details", "field"),
    [
        ("dance", {}, "action"),
        ("try", {}, "params"),
        ("try", {"name": "a.mp4"}, "params"),
        ("again", {}, "params"),
        ("try", {"params": {"sampler": "euler"}}, "params lack"),
        ("skip", {"prompt_id": 5}, "prompt_id"),
    ],
)
def test_a_malformed_request_is_refused(tmp_path: Path, action: str, details: dict[str, object], field: str) -> None:
    with StateStore(tmp_path, role="server") as server:
        with pytest.raises(ValueError, match=field):
            server.request(action, details)
        assert server.requests() == []


def test_an_answer_needs_a_request_and_a_known_outcome(tmp_path: Path) -> None:
    with StateStore(tmp_path, role="agent") as agent:
        with pytest.raises(KeyError):
            agent.answer_request("nobody", "obeyed")
        with pytest.raises(ValueError, match="outcome"):
            agent.answer_request("nobody", "maybe")


def test_a_repeated_rating_leaves_the_first_one_and_measures_consistency(tmp_path: Path) -> None:
    with StateStore(tmp_path, role="server") as store:
        with pytest.raises(ValueError, match="not rated"):
            store.repeat("a.mp4", {"overall_quality": 6})
        store.rate("a.mp4", {"overall_quality": 8})
        store.rate("b.mp4", {"overall_quality": 3})
        assert store.consistency() == {"repeats": 0, "mean_abs_difference": None}
        first = store.repeat("a.mp4", {"overall_quality": 6}, id="x1")
        assert store.repeat("a.mp4", {"overall_quality": 6}, id="x1").duplicate
        store.repeat("b.mp4", {"overall_quality": 3})
        assert store.consistency() == {"repeats": 2, "mean_abs_difference": 1.0}
        rating = store.rating("a.mp4")
        assert rating is not None and rating["rating"]["overall_quality"] == 8
        store.undo(first.event_id)
        assert store.consistency() == {"repeats": 1, "mean_abs_difference": 0.0}
        assert store.stats()["avg_rating"] == 5.5
    with StateStore(tmp_path, role="reader") as again:
        assert again.consistency() == {"repeats": 1, "mean_abs_difference": 0.0}
