"""Dimensions of the user's own: read, combined, learned, added and taken out again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eva_p1.bandit_grid import build_grid
from eva_p1.bandit_kernel import Layout, carry_theta, prior_of_theta
from eva_p1.dimensions import Dimension, dimension_of_text
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.search_space import AXES, SearchSpace
from eva_state.keys import combo_key

SIX: dict[str, Any] = {
    "sampler": ["euler", "heun"],
    "scheduler": ["simple", "beta"],
    "fps": [16],
    "cfg_scale": [2, 5],
    "steps": [8, 20],
    "size": [[640, 480]],
}
SHIFT = {"input": "ModelSamplingSD3.shift", "values": [3, 5, 8], "own": 5}
STYLE = {"input": "LoraLoaderModelOnly.lora_name", "values": ["soft.safetensors", "sharp.safetensors"], "own": "soft.safetensors"}
PLAIN = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 8, "width": 640, "height": 480}


def _space(**extra: Any) -> SearchSpace:
    return SearchSpace.from_dict({**SIX, "extra": extra})


def test_flag_and_file_say_the_same() -> None:
    told = dimension_of_text("shift=ModelSamplingSD3.shift:3,5.0,8")
    assert told == Dimension("shift", "ModelSamplingSD3.shift", (3, 5, 8)) == _space(shift={**SHIFT, "own": None}).extra[0]
    titled = dimension_of_text("lora=High noise: LoRA.lora_name:a b.safetensors,c.safetensors")
    assert titled.input == "High noise: LoRA.lora_name" and titled.nominal and titled.values == ("a b.safetensors", "c.safetensors")
    assert dimension_of_text("seed_policy=seed:fixed,random").own == "random"


@pytest.mark.parametrize(
    "text",
    [
        "shift",
        "shift=5,8",
        "shift=Node:5",
        "shift=Node.in:",
        "Shift=N.in:5",
        "steps=N.in:5",
        "x=seed:sometimes",
        "a=N.in:1=2",
        "x=N.in:a|b",
    ],
)
def test_a_malformed_flag_is_named(text: str) -> None:
    with pytest.raises(ValueError):
        dimension_of_text(text)


@pytest.mark.parametrize(
    "item",
    [
        5,
        {"values": [1]},
        {"input": "N.x"},
        {"input": "N.x", "values": []},
        {"input": "N.x", "values": 5},
        {**SHIFT, "min": 1},
        {**SHIFT, "values": [None]},
    ],
)
def test_a_malformed_dimension_of_a_file_is_named(item: Any) -> None:
    with pytest.raises(ValueError, match="search space"):
        _space(shift=item)


def test_space_holds_every_combination_and_round_trips(tmp_path: Path) -> None:
    space = _space(shift=SHIFT, style=STYLE)
    arms = list(space.arms())
    assert len(arms) == space.arm_count == 16 * 3 * 2 == len({combo_key(arm) for arm in arms})
    assert all(arm in space for arm in arms)
    assert {**PLAIN, "extra": {"shift": 4}} not in space and {**PLAIN, "extra": {"other": 4}} not in space
    assert PLAIN in space  # it is at the workflow's own values
    file = tmp_path / "space.json"
    file.write_text(json.dumps(space.to_dict()), encoding="utf-8")
    assert SearchSpace.load(file) == space
    assert "extra" not in SearchSpace.from_dict(SIX).to_dict()


def test_keys_of_a_plain_space_keep_their_six_fields() -> None:
    bandit = MultiDimensionalBandit(space=SIX, seed=1)
    assert all(combo_key(bandit.select_params()).count("|") == 5 for _ in range(3))


def test_the_grid_places_old_clips_at_the_workflows_own_value() -> None:
    grid = build_grid(_space(shift=SHIFT))
    cell = grid.nearest_cell(grid.point_of(combo_key(PLAIN)))
    assert cell is not None and grid.params(cell)["extra"] == {"shift": 5}
    assert grid.cell_of({**PLAIN, "extra": {"shift": 5.0}}) == cell != grid.cell_of({**PLAIN, "extra": {"shift": 8}})
    assert grid.nearest_cell(grid.point_of(combo_key({**PLAIN, "extra": {"shift": 7.4}}))) == grid.cell_of({**PLAIN, "extra": {"shift": 8}})
    far, near = grid.distances[6][0, 2], grid.distances[6][1, 2]
    assert far == pytest.approx(1.0) and near == pytest.approx(0.6)


def _teach(bandit: MultiDimensionalBandit, best: Any, name: str = "shift", tries: int = 30) -> None:
    rng = np.random.default_rng(0)
    arms = list(bandit.space.arms())
    with bandit.bulk():
        for _ in range(tries):
            arm = arms[rng.integers(len(arms))]
            bandit.update(arm, float(np.clip((0.75 if arm["extra"][name] == best else 0.45) + 0.02 * rng.standard_normal(), 0, 1)))


@pytest.mark.parametrize(("name", "item", "best"), [("shift", SHIFT, 8), ("style", STYLE, "sharp.safetensors")])
def test_a_dimension_is_learned(name: str, item: dict[str, Any], best: Any) -> None:
    bandit = MultiDimensionalBandit(space=_space(**{name: item}), seed=1)
    _teach(bandit, best, name)
    assert bandit.recommend()["extra"] == {name: best}
    effects = {found["axis"]: found for found in bandit.explain()["main_effects"]}
    assert effects[name]["levels"][0]["level"] == str(best) and effects[name]["levels"][0]["low"] > 0


def test_adding_and_taking_out_a_dimension_keeps_what_was_learned() -> None:
    bandit = MultiDimensionalBandit(space=SIX, seed=1)
    with bandit.bulk():
        for arm in bandit.space.arms():
            bandit.update(arm, 0.8 if arm["sampler"] == "heun" else 0.4)
    before = bandit.predict({**PLAIN, "sampler": "heun"})
    bandit.set_space(_space(shift=SHIFT))
    after = bandit.predict({**PLAIN, "sampler": "heun", "extra": {"shift": 5}})
    assert after["mean"] == pytest.approx(before["mean"], abs=0.03) and bandit.recommend()["sampler"] == "heun"
    assert bandit.predict({**PLAIN, "sampler": "heun", "extra": {"shift": 8}})["sd"] > after["sd"]
    _teach(bandit, 8)
    bandit.set_space(SearchSpace.from_dict(SIX).remembering(_space(shift=SHIFT)))
    chosen = bandit.select_params()
    assert "extra" not in chosen and bandit.arm_count == 16
    assert (
        bandit.predict({**PLAIN, "extra": {"shift": 8}})["mean"] > bandit.predict(PLAIN)["mean"] + 0.1
    )  # what shift 8 gave did not mix in
    bandit.set_space(_space(shift=SHIFT))
    assert bandit.recommend()["extra"] == {"shift": 8}


def test_bans_cover_what_they_do_not_name() -> None:
    bandit = MultiDimensionalBandit(space=_space(shift=SHIFT), seed=1)
    assert bandit.arms_left == 48
    bandit.ban(combo_key(PLAIN), "bad at any shift")
    assert bandit.arms_left == 45
    bandit.ban("*|*|*|*|*|*|shift=3", "too little")
    assert bandit.arms_left == 30
    bandit.ban("heun|*|*|*|*|*|shift=8", "no")
    assert bandit.ban_preview("heun|beta|*|*|*|*|shift=5")["arms"] == 4
    assert bandit.ban_preview("*|*|*|*|*|*|other=5")["arms"] == 0
    for _ in range(10):
        params = bandit.select_params()
        assert params["extra"]["shift"] != 3 and (params["sampler"], params["extra"]["shift"]) != ("heun", 8)
    with pytest.raises(ValueError, match="leave no combo"):
        bandit.ban("*|*|*|*|*|*", "all")


def test_autoban_of_an_old_clips_combo_names_the_workflows_own_value() -> None:
    bandit = MultiDimensionalBandit(space=_space(shift=SHIFT), seed=1)
    banned: list[tuple[str, str]] = []
    for _ in range(3):
        banned += bandit.update(PLAIN, 0.1)
    assert [key for key, _ in banned] == [f"{combo_key(PLAIN)}|shift=5"]


def test_what_was_learned_of_the_six_axes_is_carried_over() -> None:
    theta = prior_of_theta(Layout(6))[0] + np.linspace(0, 1, len(Layout(6).names()))
    wider = carry_theta(theta, AXES, (*AXES, "shift"))
    old, new = dict(zip(Layout(6).names(), theta)), dict(zip(Layout(7).names(), wider))
    assert all(new[name] == value for name, value in old.items())
    assert new["s_6"] == dict(zip(Layout(7).names(), prior_of_theta(Layout(7))[0]))["s_6"]
    assert np.array_equal(carry_theta(wider, (*AXES, "shift"), AXES), theta)
    assert dict(zip(Layout(8).names(), carry_theta(wider, (*AXES, "shift"), (*AXES, "lora", "shift"))))["s_37"] == new["s_36"]


def test_state_file_keeps_own_dimensions(tmp_path: Path) -> None:
    file = tmp_path / "bandit_state.json"
    bandit = MultiDimensionalBandit(file, space=_space(shift=SHIFT), seed=1)
    arm = {**PLAIN, "extra": {"shift": 8}}
    bandit.update(arm, 0.9, cost_minutes=2.0, video="a.mp4", seconds=3.0, server="http://a")
    again = MultiDimensionalBandit(file, space=_space(shift=SHIFT), seed=1)
    assert again.stats() == {f"{combo_key(PLAIN)}|shift=8": {"N": 1, "S": 0.9, "scores": [0.9]}}
    assert again.expected_minutes(arm, 3.0, "http://a") == bandit.expected_minutes(arm, 3.0, "http://a")


def test_a_name_among_numbers_makes_names_of_all() -> None:
    """The workflow says "auto" where the search tries numbers, or an older clip had a name there."""
    for own, seen in (("auto", PLAIN), (5, {**PLAIN, "extra": {"shift": "auto"}})):
        bandit = MultiDimensionalBandit(space=_space(shift={**SHIFT, "own": own}), seed=1)
        bandit.update(seen, 0.9)
        bandit.update({**PLAIN, "extra": {"shift": 8}}, 0.2)
        assert bandit.predict(seen)["mean"] > bandit.predict({**PLAIN, "extra": {"shift": 8}})["mean"] + 0.2
        assert bandit.select_params()["extra"]["shift"] in (3, 5, 8)
