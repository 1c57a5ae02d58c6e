"""Summaries recover what was put into a history, and say what they could not use."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eva_env_base import StateError
from eva_p1.knowledge_analyzer import KnowledgeAnalyzer, read_history, read_try

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 640, "height": 384}


def entry(score=0.5, rating=None, **params):
    item = {"video": "a.mp4", "params": {**PARAMS, **params}, "score": score}
    return item if rating is None else {**item, "manual_rating": {"overall_quality": rating}}


def test_best_combos_are_not_lucky_ones():
    history = [entry(0.8, steps=30) for _ in range(10)] + [entry(0.85, steps=10)] + [entry(0.3, steps=4) for _ in range(10)]
    best = KnowledgeAnalyzer(history).best_combos(2)
    assert best[0].combo == "euler|simple|16|3.5|30|640x384" and best[0].tries == 10
    assert best[1].combo.split("|")[4] == "10" and best[1].mean == 0.85 > best[1].shrunk


def test_main_effects_give_credit_where_it_is_due():
    rng = np.random.default_rng(1)
    history = []
    for _ in range(400):
        good = rng.random() < 0.5
        steps = int(rng.choice([10, 20], p=[0.15, 0.85] if good else [0.85, 0.15]))  # many steps mostly with the good sampler
        history.append(entry(0.5 + 0.2 * good + rng.normal(0, 0.02), sampler="uni_pc" if good else "euler", steps=steps))
    effects = KnowledgeAnalyzer(history).main_effects()
    assert set(effects) == {"sampler", "steps"}, "parameters that never changed have no effect to tell"
    assert effects["sampler"][0].value == "uni_pc"
    assert effects["sampler"][0].effect - effects["sampler"][1].effect == pytest.approx(0.2, abs=0.02)
    assert abs(effects["steps"][0].effect - effects["steps"][1].effect) < 0.02
    assert abs(effects["steps"][0].mean - effects["steps"][1].mean) > 0.1, "the plain means are misled"
    assert all(0 < effect.error < 0.1 for items in effects.values() for effect in items)


def test_ratings_replace_scores():
    analyzer = KnowledgeAnalyzer([entry(0.9, rating=1), entry(0.1, rating=10, steps=8)])
    assert analyzer.best_combos()[0].combo.split("|")[4] == "8"
    assert analyzer.counts() == {"entries": 2, "rated": 2, "combos": 2, "skipped": {}}


def test_agreement():
    rng = np.random.default_rng(2)
    history = [entry(min(1.0, (rating - 1) / 9 * 0.8 + 0.1), rating=int(rating)) for rating in rng.integers(1, 11, 40)]
    found = KnowledgeAnalyzer(history).agreement()
    assert found["clips"] == 40 and found["rank_correlation"] == pytest.approx(1)
    assert KnowledgeAnalyzer(history[:3]).agreement() is None
    assert KnowledgeAnalyzer([entry(0.5, rating=5)] * 8).agreement() is None, "nothing varies"


@pytest.mark.parametrize(
    ("item", "reward"),
    [
        ({"params": {**PARAMS, "cfg": 7.0, "cfg_scale": None}, "score": 0.25}, 0.25),
        ({"params": PARAMS, "metrics": {"overall": 0.75}}, 0.75),
        ({"params": PARAMS, "score": 0.2, "manual_rating": {"rating": {"overall_quality": 10}}}, 1.0),
        ({"params": PARAMS, "manual_rating": {"overall": 1}}, 0.0),
        ({"params": PARAMS, "manual_rating": 5.5}, 0.5),
        (
            {"params": {key: value for key, value in PARAMS.items() if key not in ("width", "height")} | {"size": [832, 480]}, "score": 1},
            1.0,
        ),
        ({"params": PARAMS, "score": 0.4, "manual_rating": {"overall_quality": True}}, 0.4),
    ],
)
def test_forms_of_entries(item, reward):
    assert read_try(item).reward == pytest.approx(reward)


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (None, "not an object"),
        ({"score": 0.5}, "no params"),
        ({"params": {"sampler": "euler"}, "score": 0.5}, "params without a combo"),
        ({"params": PARAMS, "score": 7}, "neither score nor rating"),
        ({"params": PARAMS, "score": float("nan")}, "neither score nor rating"),
    ],
)
def test_what_cannot_be_used_is_counted(item, why):
    assert KnowledgeAnalyzer([item]).counts()["skipped"] == {why: 1}


def test_report_is_json_even_of_nothing():
    empty = KnowledgeAnalyzer([]).report()
    assert empty["best_clip"] is None and empty["best_combos"] == [] and empty["main_effects"] == {} and empty["agreement"] is None
    json.dumps(KnowledgeAnalyzer([entry(0.3), entry(0.6, rating=7, steps=8)]).report(), allow_nan=False)


def test_read_history(tmp_path):
    path = tmp_path / "knowledge.json"
    path.write_text(json.dumps({"history": [entry()]}), encoding="utf-8")
    assert len(read_history(path)) == 1
    for content, words in (("{", "not JSON"), ("{}", "no .history"), ("3", "no .history")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(StateError, match=words):
            read_history(path)
    with pytest.raises(StateError, match="none.json"):
        read_history(tmp_path / "none.json")
