"""The search space: sizes, forms, restrictions, and clear refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eva_p1.bandit_grid import build_grid
from eva_p1.search_space import AXES, SearchSpace, as_space, default_space, params_of, point_of

SMALL = {
    "sampler": ["euler", "heun"],
    "scheduler": ["simple", "beta"],
    "fps": [16],
    "cfg_scale": [1, 3.5],
    "steps": [4, 8],
    "size": [[832, 480]],
}


def test_default_space():
    space = default_space()
    assert space.arm_count == 17_280 == len(list(space.arms()))
    assert next(space.arms()) in space


def test_dict_and_file_forms_agree(tmp_path):
    space = SearchSpace.from_dict({**SMALL, "pairs": [["euler", "beta"]]})
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    file = tmp_path / "space.json"
    file.write_text(json.dumps(space.to_dict()), encoding="utf-8")
    assert SearchSpace.load(file) == space == as_space(space.to_dict()) == as_space(space)
    assert space.arm_count == 4 == len(list(space.arms()))


def test_missing_axes_take_the_default_and_numbers_their_shortest_form():
    space = SearchSpace.from_dict({"fps": [16.0, 24], "size": ["832x480", [832, 480]]})
    assert space.sampler == default_space().sampler
    assert space.fps == (16, 24) and isinstance(space.fps[0], int)
    assert space.size == ((832, 480),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": []}, "sampler is an empty list"),
        ({"sampler": "euler"}, "sampler must be a list"),
        ({"sampler": [3]}, "sampler holds 3"),
        ({"sampler": ["a|b"]}, r"sampler holds 'a\|b'"),
        ({"fps": [0]}, "fps holds 0"),
        ({"fps": ["16"]}, "fps holds '16'"),
        ({"cfg_scale": [float("nan")]}, "cfg_scale holds nan"),
        ({"steps": [4.5]}, "steps holds 4.5"),
        ({"steps": [True]}, "steps holds True"),
        ({"size": [[832]]}, r"size holds \[832\]"),
        ({"size": ["832*480"]}, "832"),
        ({"size": [[8, 480]]}, "size holds 8"),
        ({"pairs": []}, "pairs is an empty list"),
        ({"pairs": [["euler"]]}, "pairs holds"),
        ({"pairs": [["lcm", "beta"]]}, r"lcm\|beta"),
        ({"colour": ["red"]}, "unknown name colour"),
        ({"steps": list(range(1, 1000)), "cfg_scale": list(range(100)), "fps": list(range(1, 200))}, "at most"),
    ],
)
def test_refusals_name_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace.from_dict({**SMALL, **change})


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "expected an object"), ('{"fps": []}', "fps")])
def test_bad_files_are_named(tmp_path, text, message):
    file = tmp_path / "my space.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        SearchSpace.load(file)
    assert "my space.json" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="absent.json"):
        SearchSpace.load(tmp_path / "absent.json")


def test_restricted_to_what_a_server_lists():
    space = SearchSpace.from_dict({**SMALL, "pairs": [["euler", "simple"], ["heun", "beta"]]})
    assert space.restrict_to(["euler", "uni_pc"], None).pairs == (("euler", "simple"),)
    assert space.restrict_to() == space
    with pytest.raises(ValueError, match="none of the samplers.*euler, heun.*lcm"):
        space.restrict_to(["lcm"])
    with pytest.raises(ValueError, match="none of the sampler"):
        space.restrict_to(["euler"], ["beta"])


def test_a_parameter_can_be_held_still():
    space = SearchSpace.from_dict({**SMALL, "pairs": [["euler", "simple"], ["heun", "beta"]]})
    assert space.without("cfg_scale").cfg_scale == (1,)
    assert space.without("cfg_scale", 6.0).cfg_scale == (6,)
    assert space.without("width", (640, 640)).size == ((640, 640),)
    held = space.without("sampler", "ddim")
    assert held.pairs == (("ddim", "simple"), ("ddim", "beta")) and held.arm_count == 8
    assert space.without("scheduler").pairs == (("euler", "simple"), ("heun", "simple"))
    with pytest.raises(ValueError, match="shift"):
        space.without("shift")


def test_points_and_params_are_inverse():
    arm = next(default_space().arms())
    assert params_of(point_of(arm)) == arm
    with pytest.raises(ValueError, match="height"):
        point_of({k: v for k, v in arm.items() if k != "height"})


def test_membership():
    space = SearchSpace.from_dict({**SMALL, "pairs": [["euler", "simple"]]})
    arm = {"sampler": "euler", "scheduler": "simple", "fps": 16.0, "cfg_scale": 1, "steps": 4, "width": 832, "height": 480}
    assert arm in space
    assert {**arm, "scheduler": "beta"} not in space and {**arm, "steps": 5} not in space
    assert "euler" not in space and {} not in space


# ---------------------------------------------------------------- the grid made from it
def test_grid_keeps_levels_of_old_observations_outside_the_space():
    space = SearchSpace.from_dict(SMALL)
    old = ("gone", "simple", 25, 1, 4, (832, 480))
    grid = build_grid(space, [old])
    assert grid.size == 3 * 2 * 2 * 2 * 2 and grid.in_space.sum() == space.arm_count
    cell = grid.cell(old)
    assert cell is not None and not grid.in_space[cell] and grid.point(cell) == old


def test_grid_growth_is_bounded_and_rare_levels_go_to_their_neighbour():
    space = SearchSpace.from_dict(SMALL)
    grid = build_grid(space, [("euler", "simple", 17 + i, 1, 4, (832, 480)) for i in range(30)], room=0)
    assert grid.size <= 4 * space.grid_size
    assert grid.cell(("euler", "simple", 46, 1, 4, (832, 480))) is None
    assert grid.nearest_cell(("euler", "simple", 46, 1, 4, (832, 480))) is not None
    assert grid.nearest_cell(("unheard of", "simple", 16, 1, 4, (832, 480))) is None


@given(st.lists(st.sampled_from(range(len(AXES))), unique=True), st.integers(0, 17_279))
def test_pattern_masks_agree_with_membership(free, cell):
    grid = build_grid(default_space())
    point = grid.point(cell)
    parts = ["*" if j in free else "x".join(map(str, value)) if isinstance(value, tuple) else str(value) for j, value in enumerate(point)]
    mask = np.zeros(grid.size, dtype=bool)
    grid.cover(mask, "|".join(parts))
    assert mask[cell]
    expected = 1
    for j in free:
        expected *= grid.shape[j]
    assert mask.sum() == expected
