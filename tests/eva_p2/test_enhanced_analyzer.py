"""The blending rule: exact where everything is there, honest where something is not."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eva_p2.detection_result import DetectionResult, score_fault
from eva_p2.enhanced_analyzer import blend

FAST = {
    "video": "a.mp4",
    "metrics": {"blur": 0.9, "flicker": 0.8, "overall": 0.7},
    "raw": {"frames": 81},
    "findings": [{"kind": "flash", "severity": 0.2}],
    "absent": {"blockiness": "too small"},
    "version": "1-a",
}
DEEP = {
    "metrics": {"temporal_consistency": 0.6, "deep_quality": 0.5},
    "raw": {"pairs": 8},
    "findings": [{"kind": "banding", "severity": 0.6}],
    "absent": {"anatomy_score": "mediapipe is not installed"},
    "version": "1-b",
}
scores = st.floats(0, 1)


@given(fast=scores, deep=scores)
def test_the_seed_formula(fast, deep):
    metrics = blend({"metrics": {"overall": fast}}, {"metrics": {"deep_quality": deep}})["metrics"]
    assert metrics["overall"] == pytest.approx(0.6 * fast + 0.4 * deep)
    assert metrics["overall_simple"] == fast and metrics["deep_quality"] == deep


@given(fast=scores, deep=st.none() | scores, taste=st.none() | scores)
def test_overall_is_a_score_and_grows_with_each_part(fast, deep, taste):
    def overall(*parts):
        return blend({"metrics": {"overall": parts[0]}}, None if parts[1] is None else {"metrics": {"deep_quality": parts[1]}}, parts[2])[
            "metrics"
        ]["overall"]

    now = overall(fast, deep, taste)
    assert -1e-12 <= now <= 1 + 1e-12
    for place, part in enumerate((fast, deep, taste)):
        if part is not None:
            better = [fast, deep, taste]
            better[place] = min(1.0, part + 0.1)
            assert overall(*better) >= now - 1e-12


OPINION = {"metrics": {"llm_visual_quality": 0.9, "llm_anatomy": 0.5}, "reasons": {"llm_anatomy": "six fingers"}, "model": "m/1",
           "absent": {"llm_motion_quality": "the model gave no score"}}  # fmt: skip


def test_an_opinion_is_a_fifth_of_the_score_and_keeps_its_reasons():
    merged = blend(FAST, None, None, OPINION)
    assert merged["metrics"]["overall"] == pytest.approx(0.8 * 0.7 + 0.2 * 0.7) and merged["metrics"]["overall_simple"] == 0.7
    assert merged["metrics"]["llm_quality"] == pytest.approx(0.7) and merged["metrics"]["llm_anatomy"] == 0.5
    assert merged["raw"]["llm"] == {"model": "m/1", "reasons": {"llm_anatomy": "six fingers"}}
    assert merged["absent"]["llm_motion_quality"] and merged["version"] == "1-a + llm m/1"
    everything = blend(FAST, DEEP, 1.0, OPINION)["metrics"]["overall"]
    assert everything == pytest.approx(0.7 * (0.8 * (0.6 * 0.7 + 0.4 * 0.5) + 0.2 * 0.7) + 0.3 * 1.0)


@pytest.mark.parametrize("opinion", [{"metrics": {}, "absent": {"llm_anatomy": "no answer"}}, {}, {"metrics": {"llm_anatomy": 7}}])
def test_a_missing_opinion_changes_nothing(opinion):
    merged = blend(FAST, None, None, opinion)
    assert merged["metrics"] == FAST["metrics"] and merged["absent"]["llm_quality"] and merged["version"] == "1-a"


def test_an_opinion_alone_makes_no_score():
    assert "overall" not in blend({"metrics": {}}, None, None, OPINION)["metrics"]


def test_both_analyses_are_kept():
    before = copy.deepcopy((FAST, DEEP))
    merged = blend(FAST, DEEP)
    assert before == (FAST, DEEP), "the inputs are left as they are"
    assert merged["metrics"]["temporal_consistency"] == 0.6 and merged["metrics"]["blur"] == 0.9
    assert merged["raw"] == {"frames": 81, "deep": {"pairs": 8}}
    assert [finding["kind"] for finding in merged["findings"]] == ["banding", "flash"]
    assert merged["absent"] == {"blockiness": "too small", "anatomy_score": "mediapipe is not installed"}
    assert merged["version"] == "1-a + deep 1-b" and merged["video"] == "a.mp4"


def test_alone_the_fast_analysis_stays_as_it_is():
    assert blend(FAST) == FAST


def test_deep_without_its_quality_leaves_overall_alone():
    merged = blend(FAST, {"metrics": {"artifact_score": 0.1}, "absent": {"deep_quality": "no detector could measure this clip"}})
    assert merged["metrics"]["overall"] == 0.7 == merged["metrics"]["overall_simple"]
    assert merged["absent"]["deep_quality"].startswith("no detector")


def test_fast_without_overall():
    merged = blend({"metrics": {"blur": 0.5}}, {"metrics": {"deep_quality": 0.4}})
    assert merged["metrics"]["overall"] == 0.4 and "overall_simple" not in merged["metrics"]
    assert "overall_simple" in merged["absent"]
    assert "overall" not in blend({"metrics": {"blur": 0.5}})["metrics"], "nothing is invented"


def test_taste():
    merged = blend(FAST, DEEP, 0.9)
    assert merged["metrics"]["overall"] == pytest.approx(0.7 * (0.6 * 0.7 + 0.4 * 0.5) + 0.3 * 0.9)
    assert merged["metrics"]["taste"] == 0.9
    assert blend(FAST, None, 0.9)["metrics"]["overall"] == pytest.approx(0.7 * 0.7 + 0.3 * 0.9)
    odd = blend(FAST, None, math.nan)
    assert "taste" not in odd["metrics"] and odd["absent"]["taste"] == "not a finite number" and odd["metrics"]["overall"] == 0.7


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -0.1, 1.1, "0.5", True])
def test_what_is_no_score_becomes_absent(value):
    assert score_fault(value)
    found = DetectionResult.of({"metrics": {"deep_quality": value}})
    assert found.deep_quality is None and found.absent["deep_quality"]
    assert blend(FAST, {"metrics": {"deep_quality": value}})["metrics"]["overall"] == 0.7


def test_detection_result_of_nothing_and_of_bare_metrics():
    assert DetectionResult.of(None).absent == {"deep_quality": "no deep analysis was made"}
    assert DetectionResult.of({"deep_quality": 0.25}).deep_quality == 0.25
