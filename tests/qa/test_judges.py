"""Judges that cannot work say so and are left out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from eva_env_base import resolve_settings
from qa.cli import build_parser
from qa.judges import deep_judge, explain_missing_taste, llm_judge


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
