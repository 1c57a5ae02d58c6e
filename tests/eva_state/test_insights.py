"""Facts of all clips and what is worked out from them."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from eva_state.facts import FactTable
from eva_state.insights import Insights, consistency, verdict, work_out
from eva_state.statistics_of import Correlation
from eva_state.store import StateStore

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 5, "steps": 20, "width": 160, "height": 96}


def entry(number: int, score: float, **more: Any) -> dict[str, Any]:
    params = {**PARAMS, "sampler": "euler" if number % 2 else "ddim"}
    return {
        "video": f"c{number}.mp4",
        "timestamp": 1000.0 + number,
        "params": params,
        "metrics": {"blur": score, "flicker": 0.5},
        "score": score,
        **more,
    }


def fill(store: StateStore, clips: int, rated: int) -> None:
    rng = random.Random(1)
    for number in range(clips):
        score = 0.7 + rng.gauss(0, 0.05) if number % 2 else 0.4 + rng.gauss(0, 0.05)
        store.generated(f"p{number}", entry(number, round(score, 3)), score, 2.0)
    for number in range(rated):
        score = store.entry(f"c{number}.mp4")["score"]  # type: ignore[index]
        store.rate(f"c{number}.mp4", {"overall_quality": round(1 + 9 * score)})


@pytest.fixture
def store(tmp_path: Path):
    with StateStore(tmp_path, role="server", video_dir=tmp_path) as opened:
        yield opened


def test_the_numbers_follow_from_the_clips(store):
    fill(store, 40, 20)
    store.failed("px", {"params": PARAMS, "combo_key": "x", "kind": "oom", "reason": "no memory", "cost_minutes": 1.5})
    found = work_out(store, FactTable(store))
    assert (found["clips"], found["rated"]) == (40, 20)
    assert found["progress"]["pull"][-1] == 40 and found["progress"]["minutes"][-1] == 80
    assert found["progress"]["best"][-1] == max(found["progress"]["score"])
    assert found["cost"]["gpu_minutes"] == 80 and found["cost"]["failed_minutes"] == 1.5
    by_sampler = {item["value"]: item for item in found["effects"]["score"]["fields"]["sampler"]}
    assert by_sampler["ddim"]["high"] < by_sampler["euler"]["low"]
    assert found["trust"]["kind"] == "trust" and found["trust"]["metric"] in ("score", "blur")
    constant = next(item for item in found["metrics"] if item["name"] == "flicker")
    assert constant["rho"] is None and constant["n"] == 20


def test_dimensions_of_ones_own_have_effects_and_a_place_in_the_parallel_rows(store):
    for number in range(8):
        shift, score = (3, 0.8) if number % 2 else (8, 0.3)
        params = {**PARAMS, "extra": {"shift": shift}} if number > 1 else PARAMS  # the first two were made before there was the dimension
        store.generated(f"p{number}", {**entry(number, score), "params": params}, score, 1.0)
    found = work_out(store, FactTable(store))
    by_shift = {item["value"]: item for item in found["effects"]["score"]["fields"]["shift"]}
    assert {value: item["n"] for value, item in by_shift.items()} == {3: 3, 8: 3} and by_shift[3]["mean"] > by_shift[8]["mean"]
    rows = {row[8]: row[9] for row in found["parallel"]}
    assert rows["c0.mp4"] == {} and rows["c5.mp4"] == {"shift": 3}


def test_an_empty_state_has_numbers_too(store):
    found = work_out(store, FactTable(store))
    assert found["clips"] == 0 and found["progress"]["pull"] == [] and found["trust"]["kind"] == "few"
    assert found["cost"]["minutes_per_good"] is None and found["consistency"]["n"] == 0


def test_only_what_changed_is_read_again(store):
    fill(store, 10, 0)
    table = FactTable(store)
    before = {fact.name: fact for fact in table.facts()}
    store.rate("c3.mp4", {"overall_quality": 9})
    after = {fact.name: fact for fact in table.facts()}
    assert after["c3.mp4"].rating == 9 and before["c3.mp4"].rating is None
    assert all(after[name] is fact for name, fact in before.items() if name != "c3.mp4")
    done = store.rate("new.mp4", {"overall_quality": 2})
    assert "new.mp4" in {fact.name for fact in table.facts()}
    store.undo(done.event_id)
    assert "new.mp4" not in {fact.name for fact in table.facts()}


def test_clips_are_found_by_any_metric(store):
    fill(store, 10, 0)
    store.generated("odd", {**entry(99, 0.5), "metrics": {"own_metric": 0.25, "blur": None, "text": "no"}}, 0.5, 1.0)
    table = FactTable(store)
    assert table.names_where("own_metric", 0.2, 0.3) == {"c99.mp4"}
    assert len(table.names_where("blur", 0.55, None)) == 5
    assert table.names_where("nothing", None, None) == frozenset()


def test_answers_come_at_once_and_follow_the_state(store):
    fill(store, 5, 0)
    now = [0.0]
    insights = Insights(store, FactTable(store), clock=lambda: now[0])
    deadline = time.monotonic() + 20
    while insights.current(0.5)[0] is None:
        assert time.monotonic() < deadline
    store.rate("c1.mp4", {"overall_quality": 5})
    answer, stale = insights.current(0.0)
    assert answer is not None and stale  # not worked out more often than every two seconds
    now[0] = 10.0
    while insights.current(0.5)[1]:
        assert time.monotonic() < deadline
    answer, _ = insights.current()
    assert answer is not None and answer["rated"] == 1


def test_a_failure_is_told_and_tried_again(store, monkeypatch, caplog):
    now = [0.0]
    insights = Insights(store, FactTable(store), clock=lambda: now[0])
    monkeypatch.setattr(store, "failures", lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        for _ in range(100):
            insights.current(0.2)
    monkeypatch.undo()
    now[0] = 10.0
    deadline = time.monotonic() + 20
    while insights.current(0.5)[0] is None:
        assert time.monotonic() < deadline


def action(name: str, mark: float, ts: float, **more: Any) -> dict[str, Any]:
    return {"type": "rating", "name": name, "rating": {"overall_quality": mark}, "ts": ts, "undone": False, **more}


def test_a_second_mark_counts_as_a_repeat_only_after_a_while_and_a_hidden_repeat_always():
    newest_first = [
        action("a", 7, 2000.0),
        action("a", 6, 30.0),  # corrects the first: 6 stands
        action("b", 9, 60.0) | {"type": "repeat", "first": 8},
        action("c", 1, 5000.0, undone=True),
        action("c", 3, 12.0),
        action("b", 8, 11.0),
        action("a", 5, 10.0),
    ]
    found = consistency(newest_first)
    assert found["n"] == 2 and sorted(found["pairs"]) == [[6, 7], [8, 9]]
    assert found["within_one"] == 1 and found["same"] == 0 and found["sd"] == pytest.approx(0.7071, abs=1e-4)


def test_the_verdict_names_a_metric_only_where_chance_is_ruled_out():
    sure, unsure, against = Correlation(0.7, 0.5, 0.8, 50), Correlation(0.2, -0.1, 0.5, 50), Correlation(-0.6, -0.8, -0.3, 50)
    assert verdict([("blur", sure), ("motion", against)], 50) == {
        "kind": "trust", "metric": "blur", "rho": 0.7, "low": 0.5, "high": 0.8, "n": 50, "against": ["motion"],
    }  # fmt: skip
    assert verdict([("blur", unsure)], 50)["kind"] == "none"
    assert verdict([("blur", Correlation(0.3, 0.1, 0.5, 90))], 90)["kind"] == "weak"
    assert verdict([("blur", sure)], 5) == {"kind": "few", "n": 5, "need": 7}
