"""The price of a try: physics before data, data afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from eva_p1.bandit_cost import CostModel
from eva_p1.bandit_grid import build_grid
from eva_p1.search_space import default_space

GRID = build_grid(default_space())


def _cell(**changes) -> int:
    params = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 5, "steps": 20, "width": 832, "height": 480, **changes}
    cell = GRID.cell_of(params)
    assert cell is not None
    return cell


def _minutes(model, **changes) -> float:
    return float(model.minutes(np.array([_cell(**changes)]))[0])


def test_before_data_ratios_follow_the_work():
    model = CostModel(GRID)
    assert model.observed == 0
    base = _minutes(model)
    assert _minutes(model, steps=4) / base == pytest.approx(0.2)
    assert _minutes(model, width=1280, height=720) / base == pytest.approx((1280 * 720 / (832 * 480)) ** 1.2)
    assert _minutes(model, cfg_scale=1) < 0.7 * base
    assert _minutes(model, scheduler="karras") == base


def test_learns_a_law_it_was_not_told():
    rng = np.random.default_rng(0)
    cells = rng.integers(GRID.size, size=200)
    index = GRID.indices(cells)
    pixels = np.array([w * h for w, h in GRID.levels[5]])[index[:, 5]]
    steps = np.array(GRID.levels[4])[index[:, 4]]
    heun = index[:, 0] == GRID.levels[0].index("heun")
    paid = 0.01 * steps**0.8 * (pixels / 1e5) ** 1.5 * np.where(heun, 2.0, 1.0) * np.exp(0.1 * rng.standard_normal(200))
    model = CostModel(GRID)
    model.learn(cells.tolist(), paid.tolist())
    assert model.observed == 200
    assert _minutes(model, sampler="heun") / _minutes(model, sampler="euler") == pytest.approx(2.0, rel=0.15)
    assert _minutes(model, steps=30) == pytest.approx(0.01 * 30**0.8 * (832 * 480 / 1e5) ** 1.5, rel=0.2)


def test_two_lessons_equal_one():
    cells, paid = [_cell(), _cell(steps=4), _cell(sampler="heun")], [3.0, 0.8, 6.0]
    once, twice = CostModel(GRID), CostModel(GRID)
    once.learn(cells, paid)
    twice.learn(cells[:1], paid[:1])
    twice.learn(cells[1:], paid[1:])
    everywhere = np.arange(GRID.size)
    np.testing.assert_allclose(once.minutes(everywhere), twice.minutes(everywhere))
