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


def _paid(rng, speeds, tries, seconds=5.0):
    """Tries of a physical law on servers of different speed: (cells, minutes, lengths, servers)."""
    cells = rng.integers(GRID.size, size=tries)
    index = GRID.indices(cells)
    work = np.array(GRID.levels[4])[index[:, 4]] / 20 * np.array([w * h for w, h in GRID.levels[5]])[index[:, 5]] / (832 * 480)
    work = work * np.array(GRID.levels[2])[index[:, 2]] * seconds / 80 * np.where(index[:, 3] == GRID.levels[3].index(1), 0.6, 1.0)
    names = [list(speeds)[i % len(speeds)] for i in range(tries)]
    minutes = 3.0 * work / np.array([speeds[name] for name in names]) * np.exp(0.1 * rng.standard_normal(tries))
    return cells.tolist(), minutes.tolist(), [seconds] * tries, names


def test_a_slow_and_a_fast_server_are_told_apart():
    model = CostModel(GRID)
    model.learn(*_paid(np.random.default_rng(1), {"http://fast": 3.0, "http://slow": 1.0}, 40))
    at = np.array([_cell()])
    fast, slow = (float(model.minutes(at, 5.0, name)[0]) for name in ("http://fast", "http://slow"))
    assert slow / fast == pytest.approx(3.0, rel=0.15)
    assert slow == pytest.approx(3.0, rel=0.2)
    assert fast < float(model.minutes(at, 5.0, "http://never-seen")[0]) == float(model.minutes(at)[0]) < slow


def test_a_server_is_like_the_others_until_its_own_tries_speak():
    cells, minutes, seconds, names = _paid(np.random.default_rng(2), {"http://a": 1.0}, 30)
    at, seen = np.array([_cell()]), []
    for tries in (0, 1, 8):
        model = CostModel(GRID)
        model.learn(cells, minutes, seconds, names)
        model.learn([_cell()] * tries, [9.0] * tries, [5.0] * tries, ["http://b"] * tries)
        seen.append(float(model.minutes(at, 5.0, "http://b")[0]))
    assert seen[0] < seen[1] < seen[2] < 9.2 and seen[2] > 7.5


def test_one_slow_outlier_moves_nothing():
    cells, minutes, seconds, names = _paid(np.random.default_rng(3), {"http://a": 1.0}, 12)
    at = np.array([_cell()])
    calm, disturbed = CostModel(GRID), CostModel(GRID)
    calm.learn(cells, minutes, seconds, names)
    disturbed.learn(cells, [*minutes[:-1], minutes[-1] * 25], seconds, names)
    assert float(disturbed.minutes(at)[0]) == pytest.approx(float(calm.minutes(at)[0]), rel=0.1)


def test_longer_clips_cost_more():
    rng = np.random.default_rng(4)
    model = CostModel(GRID)
    for seconds in (2.0, 5.0):
        model.learn(*_paid(rng, {"http://a": 1.0}, 15, seconds))
    at = np.array([_cell()])
    assert float(model.minutes(at, 5.0)[0] / model.minutes(at, 2.0)[0]) == pytest.approx(2.5, rel=0.15)
    assert float(model.minutes(at, 10.0)[0]) == pytest.approx(6.0, rel=0.25)
