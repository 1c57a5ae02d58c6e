"""Learning beside the choices gives what learning in between would have given, and loses nothing that happens meanwhile."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from eva_p1 import bandit_refit
from eva_p1.bandit_model import Posterior
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.search_space import SearchSpace

SPACE = SearchSpace.from_dict(
    {"sampler": ["euler", "heun"], "scheduler": ["simple"], "fps": [16], "steps": [4, 12, 30], "size": [[832, 480]]}
)
ARMS = list(SPACE.arms())


@pytest.fixture
def gate(monkeypatch) -> threading.Event:
    """Everything is worth a thread, and learning waits for this event."""
    event, fit = threading.Event(), bandit_refit.fit_theta

    def fit_when_open(*args, **kwargs):
        assert event.wait(60)
        return fit(*args, **kwargs)

    monkeypatch.setattr(bandit_refit, "SMALL_ROWS", 0)
    monkeypatch.setattr(bandit_refit, "fit_theta", fit_when_open)
    yield event
    event.set()


def _tell(bandit, first, last, **told):
    rng = np.random.default_rng(first)
    for i in range(first, last):
        bandit.update(ARMS[i % len(ARMS)], float(rng.uniform(0.3, 0.9)), video=f"clip{i}", **told)


def _agrees_with_a_fresh_one(bandit):
    posterior = bandit._learner.posterior
    fresh = Posterior.of(posterior.grid, posterior.kernel.theta, posterior.items())
    np.testing.assert_allclose(posterior.mean(), fresh.mean(), atol=1e-8)
    np.testing.assert_allclose(posterior.sd(), fresh.sd(), atol=1e-7)


def test_equals_learning_in_between(gate):
    gate.set()
    beside, between = (MultiDimensionalBandit(space=SPACE, seed=1, background=on) for on in (True, False))
    for bandit in (beside, between):
        _tell(bandit, 0, 6)
    assert beside._learner._refit is not None and between._learner._refit is None
    beside._learner.catch_up(wait=True)
    for arm in ARMS:
        assert beside.predict(arm) == pytest.approx(between.predict(arm))


def test_what_happens_meanwhile_is_not_lost(gate):
    bandit = MultiDimensionalBandit(space=SPACE, seed=1, background=True)
    _tell(bandit, 0, 2, source="human")
    flying = bandit.select_params()
    _tell(bandit, 2, 7)
    before = bandit._learner.posterior
    assert bandit._learner._refit is not None and bandit._learner._refit.running
    bandit.update(ARMS[3], 0.9, video="clip3")  # another value for a known clip
    bandit.update(ARMS[4], 0.2, video="clip4", source="human")
    bandit.update(flying, 0.4, video="landed")
    bandit.cancel(bandit.select_params())
    bandit.select_params()
    bandit.forget("clip0")
    bandit.forget("clip1", "auto")
    rows = bandit._learner.posterior.items()
    gate.set()
    bandit._learner.catch_up(wait=True)
    assert bandit._learner.posterior is not before
    assert sorted(bandit._learner.posterior.items()) == sorted(rows)
    _agrees_with_a_fresh_one(bandit)
    _tell(bandit, 7, 9)
    _agrees_with_a_fresh_one(bandit)


def test_a_choice_does_not_wait(gate):
    bandit = MultiDimensionalBandit(space=SPACE, seed=1, background=True)
    _tell(bandit, 0, 8)
    assert bandit._learner._refit.running
    assert bandit.select_params() in ARMS
    assert bandit._learner._refit.running


def test_the_first_rating_meanwhile_makes_it_learn_again(gate):
    bandit = MultiDimensionalBandit(space=SPACE, seed=1, background=True)
    _tell(bandit, 0, 6)
    bandit.update(ARMS[0], 0.1, video="clip0", source="human")
    gate.set()
    bandit._learner.catch_up(wait=True)
    _agrees_with_a_fresh_one(bandit)
    _tell(bandit, 6, 7)
    assert bandit._learner._refit is not None
    bandit._learner.catch_up(wait=True)
    _agrees_with_a_fresh_one(bandit)


def test_another_space_meanwhile(gate):
    bandit = MultiDimensionalBandit(space=SPACE, seed=1, background=True)
    _tell(bandit, 0, 6)
    bandit.set_space(SPACE.restrict_to(samplers=["euler"]))
    gate.set()
    bandit._learner.catch_up(wait=True)
    assert bandit.select_params()["sampler"] == "euler"
    _agrees_with_a_fresh_one(bandit)


def test_failing_is_reported_and_choosing_goes_on(monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise FloatingPointError("no such luck")

    monkeypatch.setattr(bandit_refit, "SMALL_ROWS", 0)
    monkeypatch.setattr(bandit_refit, "fit_theta", broken)
    bandit = MultiDimensionalBandit(space=SPACE, seed=1, background=True)
    _tell(bandit, 0, 6)
    bandit._learner.catch_up(wait=True)
    assert "no such luck" in caplog.text and "stay in use" in caplog.text
    assert bandit.select_params() in ARMS


def test_a_seed_means_no_threads():
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    assert not bandit._background
    assert MultiDimensionalBandit(space=SPACE)._background
