"""The merged agent: what is blended, what is absent and why, and what its log says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import ClipError
from eva_p2.enhanced_logger import AnalysisJournal
from eva_p2.merged_agent import EnhancedVideoAgentV4Merged
from eva_state.store import StateStore
from tests.agent_fakes import FakeComfy, make_agent

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 8, "width": 640, "height": 480}


class Deep:
    def __init__(self, error: Exception | None = None):
        self.error = error

    def analyze_video(self, path: Path) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return {"metrics": {"artifact_score": 0.9, "deep_quality": 0.9}, "absent": {"anatomy_score": "no person"}, "version": "9"}


class Taste:
    def predict(self, fast: Any, deep: Any, params: Any) -> float:
        assert fast["metrics"]["overall"] == 0.6 and params == PARAMS
        return 1.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    with StateStore(tmp_path / "state", role="agent") as opened:
        yield opened


def merged(store: StateStore, tmp_path: Path, **parts: Any) -> EnhancedVideoAgentV4Merged:
    (tmp_path / "video").mkdir(exist_ok=True)
    agent = make_agent(store, [FakeComfy(tmp_path / "video")], tmp_path, kind=EnhancedVideoAgentV4Merged, **parts)
    assert isinstance(agent, EnhancedVideoAgentV4Merged)
    return agent


def test_without_deep_and_taste_it_scores_as_the_base_does(store: StateStore, tmp_path: Path) -> None:
    score, metrics, _path, _workflow = merged(store, tmp_path).run_iteration_v4(PARAMS)
    assert score == metrics["overall"] == 0.6
    assert "overall_simple" not in metrics and "deep_quality" not in metrics


def test_deep_quality_is_blended_and_the_fast_score_kept(store: StateStore, tmp_path: Path) -> None:
    score, metrics, _path, _workflow = merged(store, tmp_path, deep=Deep()).run_iteration_v4(PARAMS)
    assert score == pytest.approx(0.6 * 0.6 + 0.4 * 0.9)
    assert metrics["overall_simple"] == 0.6 and metrics["deep_quality"] == 0.9
    entry = store.history()[0]
    assert entry["score"] == pytest.approx(score) and entry["analysis_notes"]["absent"]["anatomy_score"] == "no person"
    assert "deep 9" in entry["analysis_version"]


def test_taste_takes_part_where_there_is_one(store: StateStore, tmp_path: Path) -> None:
    score, metrics, _path, _workflow = merged(store, tmp_path, taste=Taste()).run_iteration_v4(PARAMS)
    assert metrics["taste"] == 1.0 and score > 0.6


class Llm:
    def __init__(self, metrics: dict[str, float]):
        self.metrics = metrics

    def ask(self, path: Path, prompt: str) -> dict[str, Any]:
        assert path.is_file() and "red kite" in prompt
        return {
            "metrics": self.metrics,
            "reasons": {},
            "absent": {} if self.metrics else {"llm_anatomy": "no answer within 30 s"},
            "model": "m",
        }


def test_a_vision_models_opinion_takes_part_or_is_absent_with_its_reason(store: StateStore, tmp_path: Path) -> None:
    score, metrics, _path, _workflow = merged(store, tmp_path, llm=Llm({"llm_visual_quality": 1.0})).run_iteration_v4(PARAMS)
    assert score == pytest.approx(0.8 * 0.6 + 0.2) and metrics["llm_quality"] == 1.0
    score, metrics, _path, _workflow = merged(store, tmp_path, llm=Llm({})).run_iteration_v4(PARAMS)
    assert score == 0.6 and "llm_quality" not in metrics
    assert store.history()[1]["analysis_notes"]["absent"]["llm_anatomy"] == "no answer within 30 s"


@pytest.mark.parametrize("error", [ClipError("no frame could be read"), RuntimeError("out of memory")])
def test_a_deep_analysis_that_fails_is_absent_with_its_reason(store: StateStore, tmp_path: Path, error: Exception) -> None:
    score, metrics, _path, _workflow = merged(store, tmp_path, deep=Deep(error)).run_iteration_v4(PARAMS)
    assert score == 0.6 and "deep_quality" not in metrics
    assert str(error) in store.history()[0]["analysis_notes"]["absent"]["deep_quality"]


def test_every_clip_has_a_line_in_the_journal_of_analyses(store: StateStore, tmp_path: Path) -> None:
    journal = AnalysisJournal(tmp_path / "logs")
    agent = merged(store, tmp_path, deep=Deep(), journal=journal)
    agent.search_v4(3)
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "logs" / "merged_analysis.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["video"] for line in lines} == {entry["video"] for entry in store.history()}
    assert all(line["fast"]["overall"] == 0.6 and line["deep"]["deep_quality"] == 0.9 for line in lines)
