"""QA policies: when they ban, and what a reference file may look like."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eva_env_base import UsageError
from eva_state.store import StateStore
from qa import agent_namespace
from qa.patches import RecentlyBadBan, ReferenceOnly, load_reference, qa_policies, reference_params

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 8, "width": 640, "height": 480}
KEY = "euler|simple|16|2|8|640x480"


class Agent:
    def __init__(self, rewards: list[float]):
        self.rewards = rewards
        self.bans: list[tuple[str, str, str]] = []

    def recent_rewards(self, key: str) -> list[float]:
        assert key == KEY
        return self.rewards

    def ban(self, key: str, reason: str, by: str) -> bool:
        self.bans.append((key, reason, by))
        return True

    def stop(self, reason: str) -> None:
        raise AssertionError(reason)


@pytest.mark.parametrize(
    ("rewards", "banned"),
    [
        ([0.5, 0.5], False),
        ([0.54, 0.54, 0.54], True),
        ([0.54, 0.55, 0.54], False),
        ([0.9, 0.1, 0.2, 0.3], True),
        ([0.1, 0.2, 0.3, 0.9], False),
    ],
)
def test_three_bad_tries_in_a_row_ban(rewards: list[float], banned: bool) -> None:
    agent = Agent(rewards)
    result: Any = SimpleNamespace(job=SimpleNamespace(combo_key=KEY))
    RecentlyBadBan().on_scored(agent, result)
    assert bool(agent.bans) is banned
    if banned:
        key, reason, by = agent.bans[0]
        assert key == KEY and "last 3 tries" in reason and by == "qa-ban"


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: [{"params": item} for item in items], lambda items: {"combos": items}])
def test_every_form_of_a_reference_file_is_read(tmp_path: Path, wrap: Any) -> None:
    path = tmp_path / "reference_params.json"
    path.write_text(json.dumps(wrap([PARAMS, {**PARAMS, "cfg_scale": 2.0}, {**PARAMS, "steps": 20}])), encoding="utf-8")
    assert [params["steps"] for params in load_reference(path)] == [8, 20], "2 and 2.0 are one combo"


def test_incomplete_items_are_reported_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "reference_params.json"
    path.write_text(json.dumps([{"sampler": "euler"}, PARAMS]), encoding="utf-8")
    assert load_reference(path) == [PARAMS]
    assert "item 1" in caplog.text
    path.write_text(json.dumps([{"sampler": "euler"}]), encoding="utf-8")
    with pytest.raises(UsageError, match="no complete combo"):
        load_reference(path)


def test_policies_of_a_run() -> None:
    assert [policy.name for policy in qa_policies()] == ["qa-ban"]
    assert [policy.name for policy in qa_policies([PARAMS])] == ["qa-ban", "reference-only"]
    with pytest.raises(UsageError):
        ReferenceOnly([])


def test_marked_clips_stand_in_for_a_reference_file(tmp_path: Path) -> None:
    """What a person marked in the review page is what --reference-only tries, unless a file says otherwise."""
    with pytest.raises(UsageError, match="marked as reference"):
        reference_params(None, tmp_path / "none")
    with StateStore(tmp_path, role="tool") as store:
        for number, steps in enumerate((8, 20, 8, 12)):
            entry = {"video": f"{number}.mp4", "timestamp": 1.0, "params": {**PARAMS, "steps": steps}, "metrics": {}, "score": 0.5}
            store.generated(f"id{number}", entry, 0.5, 1.0)
            store.rate(f"{number}.mp4", {"overall_quality": 9, "is_reference": number != 1})
        store.rate("foreign.mp4", {"overall_quality": 9, "is_reference": True})
    assert sorted(params["steps"] for params in reference_params(None, tmp_path)) == [8, 12]
    (tmp_path / "reference_params.json").write_text(json.dumps([{**PARAMS, "steps": 30}]), encoding="utf-8")
    assert [params["steps"] for params in reference_params(None, tmp_path)] == [30]
    with pytest.raises(UsageError, match="no reference file"):
        reference_params(tmp_path / "other.json", tmp_path)


def test_the_namespace_finds_the_main_classes_lazily() -> None:
    assert agent_namespace.AgentHooks.__name__ == "AgentHooks"
    assert "ComfyClient" in dir(agent_namespace)
    with pytest.raises(AttributeError, match="NoSuchThing"):
        agent_namespace.NoSuchThing  # noqa: B018
