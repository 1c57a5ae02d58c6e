"""Judges that cannot work say so and are left out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from eva_env_base import resolve_settings
from eva_p1.agent_results import as_analysis
from qa.cli import build_parser
from qa.judges import LazyAnalyzer, deep_judge, explain_missing_taste, llm_judge


def processor(*reasons: str) -> SimpleNamespace:
    detectors = [SimpleNamespace(metric=f"score_{n}", unavailable=lambda reason=reason: reason) for n, reason in enumerate(reasons)]
    return SimpleNamespace(detectors=detectors)


def test_detectors_that_cannot_run_are_named(caplog: pytest.LogCaptureFixture) -> None:
    some = processor("", "mediapipe is not installed")
    assert deep_judge(some) is some
    assert "without score_1: mediapipe is not installed" in caplog.text


def test_without_any_detector_there_is_no_deep_judge(caplog: pytest.LogCaptureFixture) -> None:
    assert deep_judge(processor("no", "no")) is None
    assert "fast metrics alone" in caplog.text


def test_the_missing_taste_model_is_said(caplog: pytest.LogCaptureFixture) -> None:
    explain_missing_taste(12)
    assert "no taste model" in caplog.text and "12 ratings" in caplog.text


def test_without_a_key_no_vision_model_is_asked(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    assert llm_judge(resolve_settings(build_parser().parse_args([]))) is None


def test_a_key_by_flag_or_environment_makes_one_and_is_never_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openai")
    caplog.set_level("DEBUG")
    assert llm_judge(resolve_settings(build_parser().parse_args(["--openrouter-key", "sk-flag"]))) is not None
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-env")
    assert llm_judge(resolve_settings(build_parser().parse_args([]))) is not None
    assert "frames and its prompt go there" in caplog.text and "sk-" not in caplog.text


def test_a_key_without_the_package_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("qa.judges.has_module", lambda _name: False)
    assert llm_judge(resolve_settings(build_parser().parse_args(["--openrouter-key", "sk-flag"]))) is None
    assert "openai package is not installed" in caplog.text and "sk-" not in caplog.text


def test_the_measuring_pass_leaves_pictures_and_series_below_the_state(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    from tests import media

    clip = media.encode(tmp_path / "a.mp4", media.panned("china", 5, size=(64, 48)))
    found = LazyAnalyzer(tmp_path / "state").analyze(clip)
    told = found["pictures"]
    assert cv2.getNumThreads() == 1
    for name in ("thumbnail", "filmstrip", "scrub_strip", "series"):
        assert told[name].startswith("cache/analysis/") and (tmp_path / "state" / told[name]).stat().st_size > 100
    entry = as_analysis(found, clip)
    assert entry.pictures["series"] == told["series"] and "frames" not in entry.pictures
    assert "pictures" not in LazyAnalyzer().analyze(clip)


def test_a_state_that_cannot_hold_pictures_costs_no_score(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tests import media

    clip = media.encode(tmp_path / "a.mp4", media.panned("china", 5, size=(64, 48)))
    (tmp_path / "state").write_text("a file", encoding="utf-8")
    found = LazyAnalyzer(tmp_path / "state").analyze(clip)
    assert found["metrics"]["overall"] >= 0 and "pictures" not in found and "cannot be written" in caplog.text
