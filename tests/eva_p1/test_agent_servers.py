"""Clips of the simulator and of a real server never meet in one state."""

from __future__ import annotations

from pathlib import Path

import pytest

from eva_env_base import EXIT_FAILED, StateError
from eva_state.store import StateStore
from tests.agent_fakes import FakeComfy, make_agent


def comfy(tmp_path: Path, simulator: bool, url: str = "http://one:1") -> FakeComfy:
    (tmp_path / "video").mkdir(exist_ok=True)
    made = FakeComfy(tmp_path / "video", url=url)
    made.is_simulator = simulator
    return made


@pytest.mark.parametrize("first", [True, False])
def test_a_state_with_clips_of_the_other_kind_is_refused(store: StateStore, tmp_path: Path, first: bool) -> None:
    make_agent(store, [comfy(tmp_path, first)], tmp_path).search_v4(2)
    assert [entry.get("simulator", False) for entry in store.history()] == [first] * 2
    other = comfy(tmp_path, not first)
    with pytest.raises(StateError) as caught:
        make_agent(store, [other], tmp_path).search_v4(2)
    assert caught.value.exit_code == EXIT_FAILED
    assert str(tmp_path / "state") in str(caught.value) and "--state-dir" in str(caught.value)
    assert other.posts == [] and len(store.history()) == 2 and store.in_flight() == []
    make_agent(store, [comfy(tmp_path, first, "http://two:1")], tmp_path).search_v4(1)
    assert len(store.history()) == 3, "its own kind goes on"


def test_one_run_does_not_drive_both_kinds(store: StateStore, tmp_path: Path) -> None:
    both = [comfy(tmp_path, True), comfy(tmp_path, False, "http://two:1")]
    with pytest.raises(StateError, match="the simulator"):
        make_agent(store, both, tmp_path).search_v4(50)
    assert len({entry.get("simulator", False) for entry in store.history()}) <= 1
