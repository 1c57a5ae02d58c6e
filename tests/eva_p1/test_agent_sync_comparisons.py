"""Comparisons that people make in the browser reach the bandit, and leave it when they are undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eva_p1.agent_sync import StateSync
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_state.keys import combo_key
from eva_state.store import StateStore

SPACE = {"sampler": ["euler", "heun"], "scheduler": ["simple"], "fps": [16], "cfg_scale": [3.5], "steps": [20], "size": [[320, 192]]}


def params(sampler: str) -> dict[str, Any]:
    return {"sampler": sampler, "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 320, "height": 192}


def made(store: StateStore, sampler: str) -> str:
    name = f"{sampler}.mp4"
    store.generated(f"p-{sampler}", {"video": name, "timestamp": 1.0, "params": params(sampler), "score": 0.5}, 0.5, 1.0)
    return name


def means(bandit: MultiDimensionalBandit) -> dict[str, float]:
    return {sampler: bandit.predict(params(sampler))["mean"] for sampler in SPACE["sampler"]}


def test_a_comparison_counts_at_once_at_the_next_start_and_not_after_its_undo(tmp_path: Path) -> None:
    with StateStore(tmp_path, role="server") as store:
        left, right = made(store, "euler"), made(store, "heun")
        bandit = MultiDimensionalBandit(space=SPACE, seed=0)
        sync = StateSync(bandit, store)
        store.subscribe(sync.notice)
        sync.warm_start()
        even = means(bandit)
        done = [store.compare(left, right, "right") for _ in range(3)]
        sync.drain()
        after = means(bandit)
        assert after["heun"] - after["euler"] > even["heun"] - even["euler"] + 0.01

        restarted = MultiDimensionalBandit(space=SPACE, seed=0)
        StateSync(restarted, store).warm_start()
        assert means(restarted)["heun"] > means(restarted)["euler"]

        for comparison in done:
            store.undo(comparison.event_id)
        sync.drain()
        assert means(bandit)["heun"] - means(bandit)["euler"] < after["heun"] - after["euler"] - 0.01


def test_a_comparison_of_clips_without_params_is_left_alone(tmp_path: Path) -> None:
    with StateStore(tmp_path, role="server") as store:
        made(store, "euler")
        store.compare("euler.mp4", "found elsewhere.mp4", "left")
        bandit = MultiDimensionalBandit(space=SPACE, seed=0)
        assert StateSync(bandit, store).warm_start() == 1
        assert bandit.stats()[combo_key(params("euler"))]["N"] == 1
