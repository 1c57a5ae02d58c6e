"""What only the policies that use the model promise."""

from __future__ import annotations

import numpy as np
import pytest

from eva_p1.bandit_policies import MODEL_POLICIES
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_state.keys import combo_key
from tests.eva_p1.bandit_play import ARMS, SPACE, play, quality


@pytest.fixture(params=sorted(MODEL_POLICIES))
def learner(request) -> MultiDimensionalBandit:
    return MultiDimensionalBandit(space=SPACE, seed=3, policy=request.param)


def test_strength_is_shared_between_combos(learner):
    """After 25 of 216 arms, the bet is nearly the best one: no isolated-arm policy can know that."""
    play(learner, 25)
    assert quality(learner.recommend()) >= max(map(quality, ARMS)) - 0.101


def test_a_rating_changes_the_very_next_choice():
    """The automatic score loves lcm; a person who agrees about the others says otherwise."""
    bandit = MultiDimensionalBandit(space=SPACE, seed=0, beta=0.0)
    tried = [ARMS[i * 17 % len(ARMS)] for i in range(12)]
    for i, arm in enumerate(tried):
        bandit.update(arm, 0.9 if arm["sampler"] == "lcm" else 0.5, video=str(i))
    first = bandit.select_params()
    bandit.update(first, 0.9, video="first")
    assert first["sampler"] == "lcm"
    assert bandit.update(first, 0.1, source="human", video="first") == []
    second = bandit.select_params()
    bandit.cancel(second)
    assert second != first
    for i, arm in enumerate(tried):
        bandit.update(arm, 0.2 if arm["sampler"] == "lcm" else 0.5, source="human", video=str(i))
    assert bandit.select_params()["sampler"] != "lcm"


def test_pulls_in_flight_spread_out():
    bandit = MultiDimensionalBandit(space=SPACE, seed=4)
    play(bandit, 10)
    flying = [combo_key(bandit.select_params()) for _ in range(8)]
    assert len(set(flying)) >= 6
    assert bandit.in_flight == flying


def test_out_of_memory_is_avoided_at_that_size_only(learner):
    big = [arm for arm in ARMS if arm["width"] == 1280]
    for arm in big[::25]:
        learner.fail(arm, "oom", 0.5)
    chosen = [learner.select_params() for _ in range(10)]
    assert sum(params["width"] == 1280 for params in chosen) <= 1


def test_a_lost_prompt_says_nothing_about_its_combo():
    bandit = MultiDimensionalBandit(space=SPACE, seed=4)
    for _ in range(5):
        bandit.fail(ARMS[0], "lost")
    assert bandit.predict(ARMS[0])["success"] == 1.0
    bandit.fail(ARMS[0], "error")
    assert bandit.predict(ARMS[0])["success"] < 0.7


def test_prices_are_learned_and_weighed():
    def tries(exponent):
        bandit = MultiDimensionalBandit(space=SPACE, seed=1, cost_exponent=exponent)
        rng, paid = np.random.default_rng(0), []
        for i in range(30):
            params = bandit.select_params()
            paid.append(params["steps"] * params["width"] * params["height"] / 4e6)
            bandit.update(params, float(np.clip(0.5 + 0.1 * rng.standard_normal(), 0, 1)), cost_minutes=paid[-1], video=str(i))
        return bandit, sum(paid)

    thrifty, little = tries(1.0)
    _, much = tries(0.0)
    assert little < 0.7 * much
    told = thrifty.predict({**ARMS[0], "steps": 30, "width": 1280, "height": 720})["minutes"]
    assert told == pytest.approx(30 * 1280 * 720 / 4e6, rel=0.5)


def test_comparisons_move_the_latent_score():
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    left, right = ARMS[0], ARMS[-1]
    bandit.update(left, 0.5, video="l")
    bandit.update(right, 0.5, video="r")

    def lead():
        return bandit.predict(left)["mean"] - bandit.predict(right)["mean"]

    even = lead()
    first = bandit.compare("l", "r", "left")
    assert lead() > even + 0.01
    second = bandit.compare("l", "r", "left")
    two = lead()
    bandit.compare("l", "r", "right", id=second)
    assert lead() < two
    bandit.forget_comparison(first)
    bandit.forget_comparison(second)
    bandit.forget_comparison("unknown")
    assert lead() == pytest.approx(even, abs=1e-6)
    high = bandit.predict(left)["mean"]
    bandit.compare("l", "r", "both_bad", id="bad")
    assert bandit.predict(left)["mean"] < high
    with pytest.raises(ValueError, match="'x'"):
        bandit.compare("x", "r", "left")
    with pytest.raises(ValueError, match="winner"):
        bandit.compare("l", "r", "maybe")


def test_rating_order_prefers_clips_that_may_decide():
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    rng = np.random.default_rng(0)
    for i in range(40):
        params = ARMS[int(rng.integers(len(ARMS)))]
        bandit.update(params, float(np.clip(quality(params) + 0.05 * rng.standard_normal(), 0, 1)), video=f"{i}")
    bandit.update(ARMS[0], 0.4, source="human", video="rated")
    order = bandit.rating_order()
    assert {name for name, _ in order} == {str(i) for i in range(40)}
    gains = [gain for _, gain in order]
    assert gains == sorted(gains, reverse=True) and gains[0] > 0
    keys = {clip.video: clip.key for clip in bandit._ledger.clips}
    first = np.mean([bandit.predict(keys[name])["mean"] for name, _ in order[:10]])
    last = np.mean([bandit.predict(keys[name])["mean"] for name, _ in order[-10:]])
    assert first > last
    assert [name for name, _ in bandit.rating_order(["3", "nobody"])] == ["3"]


def test_warm_start_from_elsewhere(caplog):
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    prior = [{"params": arm, "reward": quality(arm), "cost_minutes": 2} for arm in ARMS[::9]]
    assert bandit.warm_start([*prior, {"combo_key": "nonsense", "reward": 0.5}, {"params": ARMS[0], "reward": 7}]) == len(prior)
    assert "nonsense" in caplog.text and "7" in caplog.text
    assert quality(bandit.recommend()) >= max(map(quality, ARMS)) - 0.101


def test_explanation_names_what_matters():
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    play(bandit, 50, noise=0.03, cost_minutes=2.0)
    state = bandit._rng.bit_generator.state
    told = bandit.explain()
    assert bandit._rng.bit_generator.state == state  # asking must not change what comes next
    assert told["main_effects"][0]["axis"] == "sampler"
    best = told["main_effects"][0]["levels"][0]
    assert best["level"] == "heun" and best["low"] < 0.2 < best["high"]
    assert all(len(item["axes"]) == 2 and item["low"] <= item["effect"] <= item["high"] for item in told["interactions"])
    assert [arm["mean"] for arm in told["best"]] == sorted((arm["mean"] for arm in told["best"]), reverse=True)
    assert 0 <= told["p_close"] <= 1 and told["gap"] >= 0 and told["advice"] and told["next"]["why"]
    assert told["cost"]["minutes"] == 100
    few = MultiDimensionalBandit(space=SPACE, seed=1)
    play(few, 3)
    assert few.explain()["p_close"] < told["p_close"]


def test_ban_preview_counts():
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    bandit.update(ARMS[0], 0.5)
    bandit.update(ARMS[0], 0.7)
    preview = bandit.ban_preview("euler|*|*|*|*|*")
    assert preview == {"tries": 2, "mean": pytest.approx(0.6), "best": 0.7, "arms": 72, "arms_left": 144}
    assert bandit.ban_preview("lcm|*|*|*|*|*")["mean"] is None
    assert bandit.bans == {}


def test_suggests_to_ban_what_is_surely_bad():
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    rng = np.random.default_rng(0)
    for arm in ARMS[::3]:
        broken = (arm["sampler"], arm["scheduler"]) == ("lcm", "karras")
        bandit.update(arm, float(np.clip((0.1 if broken else 0.7) + 0.05 * rng.standard_normal(), 0, 1)))
    told = bandit.ban_suggestions()
    assert [item["key"] for item in told] == ["lcm|karras|*|*|*|*"]
    assert told[0]["mean"] < 0.3 and told[0]["high"] < 0.45 and told[0]["tries"] == 12
    assert bandit.bans == {}
    bandit.ban(told[0]["key"])
    assert bandit.ban_suggestions() == []


def test_rater_noise_is_learned_from_repeats():
    """What repeated ratings tell of a person's error decides how far one rating moves the estimate."""

    def after_a_rating(told):
        bandit = MultiDimensionalBandit(space=SPACE, seed=1)
        if told is not None:
            bandit.set_rater_noise(*told)
        arms = list(bandit.space.arms())
        for i in range(8):
            bandit.update(arms[5 * i], 0.5 + 0.01 * (i % 3), video=f"clip{i}")
            bandit.update(arms[5 * i], 0.5 + 0.01 * (i % 3), video=f"clip{i}", source="human")
        bandit.update(arms[7], 1.0, video="new", source="human")
        return bandit.predict(arms[7])["mean"]

    assert after_a_rating((0.25, 200)) < after_a_rating(None) < after_a_rating((0.01, 200))


@pytest.mark.parametrize("sd, count", [(0.0, 5), (-0.1, 5), (0.6, 5), (float("nan"), 5), ("0.1", 5), (0.1, 0), (0.1, 2.5), (0.1, True)])
def test_bad_rater_noise_is_refused(sd, count):
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    with pytest.raises(ValueError, match="rater noise"):
        bandit.set_rater_noise(sd, count)
