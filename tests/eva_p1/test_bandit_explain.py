"""What is told to people holds: intervals cover the truth as often as they say, the best is as sure as it is said to be."""

from __future__ import annotations

import numpy as np
import pytest

from eva_p1.bandit_explain import CLOSE, advice, confidence, hopeless, interactions, main_effects
from eva_p1.bandit_grid import build_grid
from eva_p1.bandit_kernel import AUTO, MEAN
from eva_p1.bandit_model import Posterior
from eva_p1.bandit_rows import Row
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.search_space import SearchSpace
from eva_state.keys import combo_key

SPACE = SearchSpace(
    sampler=("euler", "heun", "lcm"),
    scheduler=("simple", "karras"),
    fps=(16,),
    cfg_scale=(1, 3.5, 7),
    steps=(4, 12, 30),
    size=((832, 480),),
)
GRID = build_grid(SPACE)
EVERY = np.arange(GRID.size)
ALLOWED = np.ones(GRID.size, dtype=bool)


def _world(seed: int, results: int) -> tuple[Posterior, np.ndarray]:
    """A posterior with this many results of a truth drawn from its own prior, and that truth."""
    rng = np.random.default_rng(seed)
    posterior = Posterior(GRID)
    truth = MEAN + posterior.kernel.draw(rng)
    noise = np.sqrt(posterior.kernel.vz + posterior.kernel.va)
    cells = rng.integers(GRID.size, size=results)
    posterior.add_many([Row(int(c), AUTO, i, float(truth[c] + noise * rng.standard_normal())) for i, c in enumerate(cells)])
    return posterior, truth


def _level(j: int, text: str) -> int:
    return ["x".join(map(str, level)) if isinstance(level, tuple) else str(level) for level in GRID.levels[j]].index(text)


def test_ninety_percent_intervals_hold_nine_times_in_ten():
    inside = {"main": [], "pair": []}
    index = GRID.indices(EVERY)
    for seed in range(25):
        posterior, truth = _world(seed, 25)
        for axis in main_effects(GRID, posterior, ALLOWED):
            j = GRID.names.index(axis["axis"])
            if GRID.shape[j] == 1:
                continue
            for level in axis["levels"]:
                effect = truth[index[:, j] == _level(j, level["level"])].mean() - truth.mean()
                inside["main"].append(level["low"] <= effect <= level["high"])
        for item in interactions(GRID, posterior, ALLOWED):
            j, k = (GRID.names.index(name) for name in item["axes"])
            if min(GRID.shape[j], GRID.shape[k]) == 1:
                continue
            at_j, at_k = (index[:, axis] == _level(axis, text) for axis, text in zip((j, k), item["levels"]))
            effect = truth[at_j & at_k].mean() - truth[at_j].mean() - truth[at_k].mean() + truth.mean()
            inside["pair"].append(item["low"] <= effect <= item["high"])
    assert {name: 0.84 <= np.mean(hits) <= 0.96 for name, hits in inside.items()} == {"main": True, "pair": True}


def test_sure_of_the_best_as_often_as_it_is_close():
    """Over many worlds the mean of ``p_close`` is the share in which the bet is close, that of ``gap`` the shortfall."""
    told, was, gap, shortfall = [], [], [], []
    for seed in range(60):
        posterior, truth = _world(seed, 30)
        best = int(np.argmax(posterior.mean()))
        sure = confidence(posterior, EVERY, best, np.random.default_rng(seed))
        told.append(sure["p_close"])
        gap.append(sure["gap"])
        shortfall.append(truth.max() - truth[best])
        was.append(shortfall[-1] <= CLOSE)
    assert np.mean(told) == pytest.approx(np.mean(was), abs=0.17)  # 2.6 standard errors of the share
    assert np.mean(gap) == pytest.approx(np.mean(shortfall), rel=0.35)


def test_advice_says_when_to_stop():
    assert "go on" in advice(0.99, 0.0, 5)
    assert "stopping is fine" in advice(0.95, 0.001, 50) and "95%" in advice(0.95, 0.001, 50)
    assert "0.12" in advice(0.2, 0.12, 50) and "go on" in advice(0.2, 0.12, 50)


def _pair_world(good: float) -> tuple[Posterior, np.ndarray]:
    """euler|karras is bad but for one arm, whose results are ``good``; everything else is 0.7."""
    index = GRID.indices(EVERY)
    pair = (index[:, 0] == 0) & (index[:, 1] == 1)
    exception = int(EVERY[pair][4])
    rows = [Row(int(c), AUTO, int(c), 0.15 if pair[c] else 0.7) for c in EVERY[::2] if c != exception]
    rows += [Row(exception, AUTO, 1000 + i, good) for i in range(4)]
    posterior = Posterior(GRID)
    posterior.add_many(rows)
    tries = np.bincount([row.cell for row in rows], minlength=GRID.size)
    return posterior, tries


def test_a_bad_pair_is_suggested_unless_the_best_may_lie_in_it():
    posterior, tries = _pair_world(0.15)
    bad = hopeless(GRID, posterior, ALLOWED, tries, 0.45, 3)
    assert [item["key"] for item in bad] == ["euler|karras|*|*|*|*"]
    assert bad[0]["high"] < 0.45
    posterior, tries = _pair_world(0.95)
    assert all("*" not in item["key"] for item in hopeless(GRID, posterior, ALLOWED, tries, 0.45, 3))


def test_only_results_count_as_evidence():
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    arms = list(SPACE.arms())
    with bandit.bulk():
        for arm in arms[::3]:
            bandit.update(arm, 0.7)
    bad = arms[1]
    for _ in range(6):
        bandit.fail(bad)
        bandit.select_params([bad])
    assert bandit.ban_suggestions(threshold=1.0, least=6) == []
    shown = {combo_key(arm): arm["tries"] for arm in bandit.explain(top=len(arms))["best"]}
    assert shown[combo_key(bad)] == 0 and shown[combo_key(arms[0])] == 1
