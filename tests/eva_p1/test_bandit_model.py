"""The rank-one posterior against textbook formulas, and the likelihood's gradient against differences."""

from __future__ import annotations

import numpy as np
import pytest

from eva_p1.bandit_fit import _Likelihood, fit_theta
from eva_p1.bandit_grid import build_grid
from eva_p1.bandit_kernel import AUTO, COMPARISON, HUMAN, MEAN, Kernel, Layout, prior_of_theta
from eva_p1.bandit_model import Posterior
from eva_p1.bandit_rows import Row, latent_covariance, row_covariance
from eva_p1.search_space import SearchSpace

SPACE = SearchSpace(
    sampler=("euler", "heun", "lcm"),
    scheduler=("simple", "karras"),
    fps=(16, 24),
    cfg_scale=(1, 3.5, 7),
    steps=(4, 12, 30),
    size=((832, 480), (480, 832), (1280, 720)),
)
GRID = build_grid(SPACE)
EVERY = np.arange(GRID.size)


def _textbook(posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of every cell from dense matrices (Rasmussen & Williams 2006, eq. 2.25 and 2.26)."""
    rows = posterior.rows
    with_bias = any(row.judge != AUTO for row in rows)
    K = row_covariance(posterior.kernel, rows, rows, with_bias)
    Kx = latent_covariance(posterior.kernel, EVERY, rows)
    done = np.array([row.value is not None for row in rows])
    y = np.array([row.centred for row in rows if row.value is not None])
    mean = MEAN + Kx[:, done] @ np.linalg.solve(K[np.ix_(done, done)], y)
    var = posterior.kernel.prior_var - np.einsum("ij,ji->i", Kx, np.linalg.solve(K, Kx.T))
    return mean, np.sqrt(var)


def _agrees(posterior: Posterior) -> None:
    mean, sd = _textbook(posterior)
    np.testing.assert_allclose(posterior.mean(), mean, atol=1e-9)
    np.testing.assert_allclose(posterior.sd(), sd, atol=1e-8)


def _filled(seed: int = 0, n: int = 40) -> tuple[Posterior, list[int], np.random.Generator]:
    rng = np.random.default_rng(seed)
    posterior = Posterior(GRID)
    ids = [posterior.add(Row(int(rng.integers(GRID.size)), AUTO, i, float(rng.random()), int(rng.integers(1, 4)))) for i in range(n)]
    return posterior, ids, rng


def test_automatic_rows_give_the_textbook_posterior():
    _agrees(_filled()[0])


def test_every_kind_of_row_together():
    posterior, ids, rng = _filled()
    for i in range(6):
        posterior.add(Row(posterior.rows[i].cell, HUMAN, i, float(rng.random())))  # the same clip, so the same luck
    posterior.add(Row(3, COMPARISON, -1, 0.1, extra=0.01, minus=70))
    posterior.add(Row(11))  # in flight
    posterior.add(Row(11))
    posterior.set_value(ids[3], 0.99)
    _agrees(posterior)


def test_removing_is_the_inverse_of_adding():
    posterior, _, _ = _filled()
    before_mean, before_sd = posterior.mean().copy(), posterior.sd().copy()
    extra = [posterior.add(Row(5)), posterior.add(Row(9, HUMAN, 2, 0.7)), posterior.add(Row(8, COMPARISON, -1, 0.1, extra=0.02, minus=4))]
    assert not np.allclose(posterior.sd(), before_sd)
    for row_id in (extra[1], extra[0], extra[2]):
        posterior.remove(row_id)
    np.testing.assert_allclose(posterior.mean(), before_mean, atol=1e-9)
    np.testing.assert_allclose(posterior.sd(), before_sd, atol=1e-8)
    with pytest.raises(KeyError):
        posterior.remove(extra[0])


def test_a_pull_in_flight_narrows_without_moving():
    posterior, _, _ = _filled()
    mean, sd = posterior.mean().copy(), posterior.sd().copy()
    posterior.add(Row(100))
    np.testing.assert_allclose(posterior.mean(), mean, atol=1e-9)
    assert posterior.sd()[100] < sd[100] - 1e-3
    assert (posterior.sd() <= sd + 1e-12).all()


def test_many_at_once_equal_one_by_one():
    one, _, _ = _filled(seed=4)
    many = Posterior(GRID)
    many.add_many(one.rows)
    np.testing.assert_allclose(many.mean(), one.mean(), atol=1e-10)
    np.testing.assert_allclose(many.sd(), one.sd(), atol=1e-9)


def test_contrasts_and_joint_covariances_are_exact():
    posterior, _, rng = _filled()
    posterior.add(Row(8, COMPARISON, -1, 0.1, extra=0.02, minus=4))
    rows = posterior.rows
    K = row_covariance(posterior.kernel, rows, rows, True)
    Kx = latent_covariance(posterior.kernel, EVERY, rows)
    cov = posterior.kernel.cov(EVERY, EVERY) - Kx @ np.linalg.solve(K, Kx.T)
    cells = rng.choice(GRID.size, 20, replace=False)
    np.testing.assert_allclose(posterior.joint(cells), cov[np.ix_(cells, cells)], atol=1e-10)
    weights = np.zeros(GRID.size)
    weights[cells] = rng.standard_normal(20)
    mean, sd = posterior.contrast(weights)
    assert mean == pytest.approx(posterior.mean() @ weights)
    assert sd == pytest.approx(np.sqrt(weights @ cov @ weights), rel=1e-6)


@pytest.mark.parametrize("people", [False, True])
def test_draws_have_the_posterior_mean_and_sd(people):
    posterior, _, rng = _filled(n=15)
    if people:
        posterior.add(Row(posterior.rows[2].cell, HUMAN, 2, 0.9))
    posterior.add(Row(33))
    draws = np.array([posterior.draw(rng) for _ in range(600)])
    standard_error = posterior.sd() / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - posterior.mean()) < 5.5 * standard_error).all()
    np.testing.assert_allclose(draws.std(0) / posterior.sd(), 1.0, atol=0.2)


def test_what_a_rating_would_tell_is_the_posterior_covariance():
    posterior, ids, _ = _filled(n=12)
    posterior.add(Row(50, HUMAN, 77, 0.4))
    rows = posterior.rows
    future = Row(rows[1].cell, HUMAN, rows[1].clip)
    K = row_covariance(posterior.kernel, rows, rows, True)
    known = row_covariance(posterior.kernel, rows, [future], True)
    expected = posterior.kernel.cov(EVERY, np.array([future.cell])) - latent_covariance(posterior.kernel, EVERY, rows) @ np.linalg.solve(
        K, known
    )
    cross, variance = posterior.rating_covariance([ids[1]], EVERY)
    np.testing.assert_allclose(cross, expected, atol=1e-10)
    own = row_covariance(posterior.kernel, [future], [future], True)[0, 0]
    assert variance[0] == pytest.approx(own - float((known.T @ np.linalg.solve(K, known))[0, 0]))


def test_a_biased_automatic_score_is_corrected_by_a_few_ratings():
    """The automatic score calls heun 0.3 too good; ratings of some clips must take that back for all heun combos."""
    rng = np.random.default_rng(3)
    posterior = Posterior(GRID)
    index = GRID.indices(EVERY)
    cells = rng.choice(GRID.size, 60, replace=False)
    for i, cell in enumerate(cells):
        posterior.add(Row(int(cell), AUTO, i, 0.5 + 0.3 * (index[cell, 0] == 1)))
    heun, others = EVERY[index[:, 0] == 1], EVERY[index[:, 0] != 1]
    fooled = posterior.mean()[heun].mean() - posterior.mean()[others].mean()
    for i in range(15):
        posterior.add(Row(int(cells[i]), HUMAN, i, 0.5))
    posterior.rebuild(fit_theta(GRID, posterior.rows, prior_of_theta(Layout(6))[0], rng))
    mended = posterior.mean()[heun].mean() - posterior.mean()[others].mean()
    assert fooled > 0.2
    assert abs(mended) < 0.4 * fooled


@pytest.mark.parametrize("judges", [(AUTO,), (AUTO, HUMAN)])
def test_gradient_of_the_likelihood(judges):
    rng = np.random.default_rng(1)
    rows = [Row(int(rng.integers(GRID.size)), int(rng.choice(judges)), i // 2, float(rng.random())) for i in range(30)]
    rows.append(Row(3, AUTO, 99, 0.2, count=4, extra=0.01))
    likelihood = _Likelihood(GRID, rows)
    theta = likelihood.prior_mean + 0.3 * rng.standard_normal(len(likelihood.prior_mean))
    value, gradient = likelihood(theta)
    step = 1e-5
    numeric = [(likelihood(theta + step * e)[0] - likelihood(theta - step * e)[0]) / (2 * step) for e in np.eye(len(theta))]
    np.testing.assert_allclose(gradient, numeric, atol=1e-6, rtol=1e-5)
    K = row_covariance(Kernel(GRID, theta), rows, rows, HUMAN in judges)
    z = (theta - likelihood.prior_mean) / likelihood.prior_sd
    dense = 0.5 * likelihood.y @ np.linalg.solve(K, likelihood.y) + 0.5 * np.linalg.slogdet(K)[1] + 0.5 * z @ z
    assert value == pytest.approx(dense, abs=1e-5)


def test_fit_finds_which_axis_matters():
    rng = np.random.default_rng(5)
    cells = rng.integers(GRID.size, size=120)
    index = GRID.indices(cells)
    rows = [Row(int(cell), AUTO, i, 0.5 + 0.2 * (index[i, 0] - 1) + 0.03 * rng.standard_normal()) for i, cell in enumerate(cells)]
    layout = Layout(6)
    theta = fit_theta(GRID, rows, prior_of_theta(layout)[0], rng)
    at = layout.index()
    assert theta[at["s_0"]] > np.log(0.1)
    assert all(theta[at[f"s_{j}"]] < np.log(0.05) for j in range(1, 6))
