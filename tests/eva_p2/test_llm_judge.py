"""The vision model never stops a run: it is absent with a reason, and left alone when it keeps failing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eva_env_base import ClipError
from eva_p1.openrouter_analyzer import Opinion
from eva_p2.llm_judge import LIMIT, REST, LlmJudge

CLIP = Path("a.mp4")


class Analyzer:
    def __init__(self, *answers: Any):
        self.answers, self.asked = list(answers), 0

    def analyze(self, path: Path, prompt: str) -> Opinion:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


GOOD = Opinion({"llm_anatomy": 0.5}, {"llm_anatomy": "fine"}, {}, "m")
BAD = Opinion(absent={"llm_anatomy": "the server answered 402"}, model="m")


def test_an_answer_is_handed_on() -> None:
    asked = LlmJudge(lambda: Analyzer(GOOD)).ask(CLIP, "a kite")
    assert asked == {"metrics": {"llm_anatomy": 0.5}, "reasons": {"llm_anatomy": "fine"}, "absent": {}, "model": "m"}


def test_after_failures_in_a_row_it_rests_and_is_asked_again_later() -> None:
    now, analyzer = [0.0], Analyzer(*[BAD] * LIMIT, GOOD)
    judge = LlmJudge(lambda: analyzer, clock=lambda: now[0])
    for _ in range(LIMIT):
        assert judge.ask(CLIP, "")["absent"] == BAD.absent
    absent = judge.ask(CLIP, "")["absent"]["llm_quality"]
    assert analyzer.asked == LIMIT and "the server answered 402" in absent
    now[0] = REST
    assert judge.ask(CLIP, "")["metrics"] == GOOD.metrics


def test_a_success_between_failures_keeps_it_going() -> None:
    analyzer = Analyzer(BAD, BAD, GOOD, BAD, BAD, GOOD)
    judge = LlmJudge(lambda: analyzer)
    for _ in range(6):
        judge.ask(CLIP, "")
    assert analyzer.asked == 6


@pytest.mark.parametrize("error", [ClipError("no frame could be decoded"), RuntimeError("header Authorization: sk-secret")])
def test_whatever_it_raises_is_a_reason_without_secrets(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    asked = LlmJudge(lambda: Analyzer(error)).ask(CLIP, "")
    assert asked["metrics"] == {} and asked["absent"]["llm_quality"]
    assert "sk-secret" not in str(asked) + caplog.text


def test_a_missing_library_is_a_reason() -> None:
    def make() -> Any:
        raise ModuleNotFoundError("No module named 'cv2'", name="cv2")

    assert LlmJudge(make).ask(CLIP, "")["absent"] == {"llm_quality": "cv2 is not installed"}
