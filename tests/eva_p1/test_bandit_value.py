"""Value of information against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from eva_p1.bandit_grid import build_grid
from eva_p1.bandit_model import Posterior
from eva_p1.bandit_rows import Row
from eva_p1.bandit_value import expected_gain, promising, value_of_trying
from eva_p1.search_space import SearchSpace

SPACE = SearchSpace(("a", "b", "c"), ("x", "y"), (16, 24), (1, 5), (4, 20), ((832, 480), (480, 832)))
GRID = build_grid(SPACE)


def test_gain_agrees_with_simulation():
    rng = np.random.default_rng(0)
    mean, slopes = rng.normal(0.5, 0.1, 12), rng.normal(0, 0.1, (12, 5))
    z = rng.standard_normal(200_000)
    simulated = [np.max(mean[:, None] + slopes[:, [k]] * z, axis=0).mean() - mean.max() for k in range(5)]
    np.testing.assert_allclose(expected_gain(mean, slopes), simulated, rtol=0.06)  # the rule cuts the tails off, by 2 to 5 %


def test_no_gain_where_nothing_can_change():
    assert expected_gain(np.array([0.9, 0.1]), np.zeros((2, 3))) == pytest.approx(np.zeros(3))
    # a slope shared by all arms moves them together and decides nothing
    assert expected_gain(np.array([0.9, 0.1]), np.full((2, 1), 0.2))[0] == pytest.approx(0.0, abs=1e-12)


def test_promising_holds_the_best_by_mean_and_by_bound():
    posterior = Posterior(GRID)
    rng = np.random.default_rng(1)
    for i in range(30):
        posterior.add(Row(int(rng.integers(GRID.size)), 1, i, float(rng.random())))
    cells = np.arange(GRID.size)[::2]
    chosen = promising(posterior, cells, 5, 5)
    assert set(chosen) <= set(cells) and 5 <= len(chosen) <= 10
    assert cells[np.argmax(posterior.mean()[cells])] in chosen
    assert cells[np.argmax(posterior.mean()[cells] + 3 * posterior.sd()[cells])] in chosen
    assert len(promising(posterior, cells[:3], 50, 50)) == 3


def test_trying_what_is_known_is_worth_less():
    posterior = Posterior(GRID)
    for i in range(40):
        posterior.add(Row(7, 1, i, 0.6))
    cells, gain = value_of_trying(posterior, np.arange(GRID.size))
    assert (gain >= 0).all() and gain.max() > 0
    assert gain[list(cells).index(7)] < 0.5 * np.median(gain)
