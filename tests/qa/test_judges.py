"""Judges that cannot work say so and are left out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qa.judges import deep_judge, explain_missing_taste


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
