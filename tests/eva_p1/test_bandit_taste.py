"""Ratings foretold: exact against the model's other formulas, honest on ratings it has not seen, and of use to pages."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eva_p1.bandit_kernel import AUTO, HUMAN, MEAN
from eva_p1.bandit_model import Posterior
from eva_p1.bandit_rows import Row
from eva_p1.bandit_taste import LEAST_RATINGS, check
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.review_order import OrderWriter, TasteWatch

SPACE = {
    "sampler": ["euler", "heun", "lcm", "uni_pc"],
    "scheduler": ["simple", "karras"],
    "fps": [16],
    "cfg_scale": [1, 3.5, 7],
    "steps": [10, 30],
    "size": [[832, 480]],
}
LIKED = {"euler": 0.2, "heun": 0.45, "lcm": 0.65, "uni_pc": 0.85}  # by this person; the automatic score says the reverse


def arm(rng: np.random.Generator) -> dict[str, Any]:
    levels = {name: values[int(rng.integers(len(values)))] for name, values in SPACE.items() if name != "size"}
    return {**levels, "width": 832, "height": 480}


def judged(count: int, rated: int, taste: Any, seed: int = 3) -> tuple[MultiDimensionalBandit, dict[str, float], dict[str, float]]:
    """A bandit that knows ``count`` clips, ``rated`` of them rated; what the person thinks of each, and the automatic scores."""
    rng = np.random.default_rng(seed)
    bandit = MultiDimensionalBandit(space=SPACE, seed=seed)
    person: dict[str, float] = {}
    scores: dict[str, float] = {}
    with bandit.bulk():
        for number in range(count):
            params, name = arm(rng), f"c{number}.mp4"
            scores[name] = float(np.clip(1.0 - LIKED[params["sampler"]] + 0.04 * rng.standard_normal(), 0, 1))
            person[name] = round(float(np.clip(taste(params, rng), 0, 1)) * 9) / 9
            bandit.update(params, scores[name], video=name)
            if number < rated:
                bandit.update(params, person[name], source="human", video=name)
    return bandit, person, scores


def contrary(params: dict[str, Any], rng: np.random.Generator) -> float:
    return LIKED[params["sampler"]] + 0.05 * rng.standard_normal()


def test_without_ratings_nothing_is_predicted() -> None:
    bandit, _, _ = judged(30, 0, contrary)
    assert bandit.predicted_ratings() == {} and bandit.taste_check() is None and bandit.rated_count() == 0


def test_predictions_follow_a_person_who_contradicts_the_automatic_score() -> None:
    bandit, person, scores = judged(60, 24, contrary)
    found = bandit.taste_check()
    assert found is not None and found.ratings == 24
    assert found.convinces(False) and found.error < 0.6 * found.error_of_mean
    expected = bandit.predicted_ratings()
    unrated = [name for name in person if int(name[1:-4]) >= 24]
    said = np.array([expected[name][0] for name in unrated])
    truth = np.array([person[name] for name in unrated])
    assert np.corrcoef(said, truth)[0, 1] > 0.8 and np.corrcoef([scores[name] for name in unrated], truth)[0, 1] < -0.8
    assert np.sqrt(np.mean((said - truth) ** 2)) == pytest.approx(found.error, rel=0.8), "the error that is told is the error there is"
    off = np.abs(said - truth) / np.array([expected[name][1] for name in unrated])
    assert np.mean(off < 2.5) > 0.85, "and the sd says how sure a prediction is"


def test_ratings_by_chance_are_not_foretold() -> None:
    bandit, _, _ = judged(60, 30, lambda params, rng: rng.random())
    found = bandit.taste_check()
    assert found is not None and not found.convinces(False)
    assert found.error > 0.85 * found.error_of_mean


def test_one_mark_for_everything_leaves_nothing_to_foretell() -> None:
    bandit, _, _ = judged(30, 14, lambda params, rng: 4 / 9)
    found = bandit.taste_check()
    assert found is not None and found.error_of_mean == pytest.approx(0.0) and not found.convinces(False)


def test_few_ratings_or_a_stop_give_no_figure() -> None:
    bandit, _, _ = judged(30, LEAST_RATINGS - 1, contrary)
    assert bandit.taste_check() is None
    bandit, _, _ = judged(30, LEAST_RATINGS, contrary)
    assert bandit.taste_check(lambda: True) is None and bandit.taste_check() is not None


def test_held_out_ratings_are_not_looked_at() -> None:
    """Each part's prediction stays the same whatever the ratings of that part were: only the error changes."""
    bandit, _, _ = judged(40, 15, contrary)
    grid, rows = bandit._learner.grid, bandit._learner.posterior.rows
    first = check(grid, rows, np.random.default_rng(1), lambda: False)
    part = np.random.default_rng(1).permutation(15) % 5
    humans = [row for row in rows if row.judge == HUMAN]
    moved = {id(humans[i]) for i in np.flatnonzero(part == 2)}
    shifted = [Row(row.cell, row.judge, row.clip, None if row.value is None else row.value + 10.0 * (id(row) in moved)) for row in rows]
    second = check(grid, shifted, np.random.default_rng(1), lambda: False)
    assert first is not None and second is not None
    assert second.error > 4 * first.error, "a rating that was held out must not have been learned from"


def test_expected_ratings_agree_with_conditioning_on_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the plain formula: the mean and variance of a human row given all rows (its own left out)."""
    from eva_p1.bandit_rows import row_covariance

    bandit, _, _ = judged(25, 8, contrary)
    bandit.compare("c1.mp4", "c2.mp4", "left")
    posterior: Posterior = bandit._learner.posterior
    rows = posterior.rows
    rated = {row.clip for row in rows if row.judge == HUMAN}
    at = [i for i, row in enumerate(rows) if row.judge == HUMAN or (row.judge == AUTO and row.clip not in rated)]
    mean, sd = posterior.expected_ratings([posterior._ids[i] for i in at])
    for k, i in enumerate(at):
        wanted = Row(rows[i].cell, HUMAN, rows[i].clip)
        known = [row for row in rows if row is not rows[i] or row.judge == AUTO]
        own = row_covariance(posterior.kernel, known, known, True)
        cross = row_covariance(posterior.kernel, [wanted], known, True)[0]
        solved = np.linalg.solve(own, cross)
        y = np.array([row.centred for row in known])
        assert mean[k] == pytest.approx(np.clip(MEAN + solved @ y, 0, 1), abs=1e-6)
        prior = row_covariance(posterior.kernel, [wanted], [wanted], True)[0, 0] + posterior.kernel.vh * 0
        assert sd[k] ** 2 == pytest.approx(prior - cross @ solved, rel=1e-4)


class Bandit:
    """What the writer asks of a bandit; ``gain`` is how convincing the check is."""

    def __init__(self) -> None:
        self.rated, self.gain, self.checks = 0, 0.1, 0

    def rated_count(self) -> int:
        return self.rated

    def taste_check(self, stopped: Any) -> Any:
        from eva_p1.bandit_taste import Check

        self.checks += 1
        return Check(self.rated, 0.1, 0.2, self.gain, 0.05)

    def predicted_ratings(self) -> dict[str, tuple[float, float]]:
        return {"a.mp4": (0.5, 0.1)}

    def rating_order(self, names: Any) -> list[tuple[str, float]]:
        return [("a.mp4", 0.25)]


def settled(watch: TasteWatch) -> None:
    if watch._thread is not None:
        watch._thread.join(20)


def test_a_check_is_made_again_after_a_sixth_more_ratings_and_keeps_what_is_shown_while_it_helps() -> None:
    bandit = Bandit()
    watch = TasteWatch(bandit)
    watch.look()
    assert bandit.checks == 0 and watch.found is None
    for rated, checks in ((30, 1), (31, 1), (34, 1), (35, 2), (36, 2), (20, 3)):
        bandit.rated = rated
        watch.look()
        settled(watch)
        assert bandit.checks == checks
    assert watch.found is not None and watch.found[1]
    for gain, shown in ((0.01, True), (-0.01, False), (0.01, False), (0.1, True)):
        bandit.gain, bandit.rated = gain, bandit.rated + 10
        watch.look()
        settled(watch)
        assert watch.found[1] is shown, f"gain {gain}"
    bandit.rated = 2  # taken back
    watch.look()
    assert watch.found is None
    watch.close()


def test_the_file_holds_predictions_only_once_they_convince(tmp_path: Any) -> None:
    bandit, written = Bandit(), []
    store = SimpleNamespace(version=1, iter_clips=lambda: iter(()))
    writer = OrderWriter(store, bandit, tmp_path / "order.json", lambda path, data: written.append(data), time.time)

    def publish() -> dict[str, Any]:
        store.version += 1
        writer._not_before = 0.0
        assert writer.publish()
        settled(writer._taste)
        return written[-1]

    assert publish()["predicted"] == {} and written[-1]["check"] is None
    bandit.rated, bandit.gain = 12, 0.0
    publish()
    assert publish()["predicted"] == {} and written[-1]["check"] == {"ratings": 12, "error": 0.9, "error_of_mean": 1.8, "used": False}
    bandit.rated, bandit.gain = 20, 0.2
    publish()
    assert publish()["predicted"] == {"a.mp4": [5.5, 0.9]} and written[-1]["check"]["used"] is True
    assert written[-1]["values"] == {"a.mp4": 0.25}
    writer._not_before = 0.0
    assert not writer.publish(), "nothing new, nothing written"
    writer.close()
    assert not any(thread.name == "eva-taste" for thread in threading.enumerate())
