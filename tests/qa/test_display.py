"""What the terminal shows: plain lines anywhere, a panel of 80 columns on a tty."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eva_p1.agent_live import Board
from eva_p1.agent_types import Analysis, FailedTry, Job, ScoredClip
from qa.display import DisplayHandler, PlainDisplay, RichDisplay, duration, make_display, minutes, summary

PARAMS = {"sampler": "dpmpp_2m_sde", "scheduler": "ddim_uniform", "fps": 24, "cfg_scale": 3.5, "steps": 20, "width": 1280, "height": 720}
KEY = "dpmpp_2m_sde|ddim_uniform|24|3.5|20|1280x720"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def job() -> Job:
    return Job("id", "http://127.0.0.1:8188", PARAMS, KEY, "a kite", "", 1, "x", 5.0, 0.0)


def scored(best: bool = True) -> ScoredClip:
    metrics = {"blur": 0.81, "exposure": 0.77, "blockiness": 0.92, "flicker": 0.66, "overall": 0.712, "face_quality_score": None}
    return ScoredClip(job(), "eva_1.mp4", Path("eva_1.mp4"), Analysis(0.712, metrics), {}, 2.0, 7, best)


def watched(display: PlainDisplay) -> Board:
    board = Board(lambda: 0.0)
    board.begin(20, (0.65, "old"))
    board.set_simulator(True)
    agent: Any = SimpleNamespace(board=board, hooks=SimpleNamespace(add=lambda _policy: None))
    display.attach(agent)
    return board


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0, "0 s"), (59.4, "59 s"), (65, "1 min 05 s"), (3599.6, "1 h 00 min"), (8100, "2 h 15 min")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_gpu_time() -> None:
    assert minutes(31.24) == "31.2 GPU min" and minutes(900) == "15.0 GPU h"


def test_plain_lines_name_everything(tmp_path: Path) -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream, clock=lambda: 0.0)
    board = watched(display)
    board.finished(tries=7, scored=True, run_minutes=2.0, score=0.712, combo_key=KEY)
    display.on_scored(None, scored())  # type: ignore[arg-type]
    display.on_failed(None, FailedTry(job(), "oom", "the GPU ran out\nof memory " * 30, 1.0, 8))  # type: ignore[arg-type]
    text = stream.getvalue()
    assert "7/20  score 0.712 (new best)" in text and KEY in text and "flicker 0.66" in text and "eva_1.mp4" in text
    assert "8/20  FAILED (oom)" in text and "face" not in text
    assert all("  " in line[:10] for line in text.splitlines()), "every line starts with the time"


def test_the_panel_fits_80_columns_and_shows_what_renders() -> None:
    stream = Terminal()
    display = RichDisplay(stream, clock=lambda: 0.0)
    from rich.console import Console

    display._console = Console(file=stream, width=80, force_terminal=True, color_system=None, highlight=False)
    board = watched(display)
    running = job()
    board.learn_time(PARAMS, 5.0, 300.0)
    board.server(running.api, state="running", waiting=[job()])
    board.now(running)
    board.progress(running, "KSampler (Advanced) of the low-noise model", (11, 20))
    display.on_scored(None, scored())  # type: ignore[arg-type]
    display.on_failed(None, FailedTry(job(), "oom", "the GPU ran out of memory", 1.0, 8))  # type: ignore[arg-type]
    display._console.print(display.render())
    lines = stream.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    text = "\n".join(lines)
    assert "7/20" in text and "0.712★" in text and KEY in text and "blur 0.81" in text
    assert "SIMULATOR" in text and "11/20" in text and "5 min 00 s left" in text and "next" in text and "to go" in text
    assert "the GPU ran out of memory" in text


def test_long_lines_go_on_below_themselves() -> None:
    stream = Terminal()
    display = RichDisplay(stream, clock=lambda: 0.0)
    from rich.console import Console

    display._console = Console(file=stream, width=80, force_terminal=True, color_system=None, highlight=False)
    watched(display).finished(tries=7, scored=True, run_minutes=2.0, score=0.7, combo_key=KEY)
    metrics = {"blur": 0.81, "exposure": 0.77, "blockiness": 0.92, "flicker": 0.66, "deep_quality": 0.5, "taste": 0.4}
    analysis = Analysis(0.7, metrics, raw={"guards": {"colour": 0.3, "stutter": 0.4}})
    display.on_scored(None, ScoredClip(job(), "eva_1.mp4", Path("eva_1.mp4"), analysis, {}, 2.0, 7, False))  # type: ignore[arg-type]
    display.on_message("waiting for a server " + "that does not answer " * 8)
    display.on_failed(None, FailedTry(job(), "oom", "the GPU ran out of memory " * 4, 1.0, 8))  # type: ignore[arg-type]
    lines = stream.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert all(line.startswith(" " * 10) for line in lines if not line[:2].isdigit()), lines
    assert any(line.strip().startswith("deep_quality 0.50  taste 0.40  × colour 0.30") for line in lines), lines


def test_what_took_the_score_down_is_shown() -> None:
    """Four good scores beside a bad overall one would be a riddle: the guard that did it stands with them."""
    stream = io.StringIO()
    display = PlainDisplay(stream, clock=lambda: 0.0)
    watched(display).finished(tries=7, scored=True, run_minutes=2.0, score=0.3, combo_key=KEY)
    analysis = Analysis(0.3, {"blur": 0.9, "overall": 0.3}, raw={"guards": {"frozen": 0.33, "noise": 0.99}})
    display.on_scored(None, ScoredClip(job(), "eva_1.mp4", Path("eva_1.mp4"), analysis, {}, 2.0, 7, False))  # type: ignore[arg-type]
    assert "blur 0.90  × frozen 0.33" in stream.getvalue() and "noise" not in stream.getvalue()


def test_the_end_says_that_prompts_go_on() -> None:
    stream = io.StringIO()
    stats = {"scored": 0, "failed": 0, "gpu_minutes": 0.0, "best_score": None, "best_combo": None, "recommend": None}
    PlainDisplay(stream, clock=lambda: 0.0).end(stats, 1)
    assert "1 prompt is left at the server; run again" in stream.getvalue()


def test_warnings_of_other_modules_are_shown_and_the_agents_are_not_doubled() -> None:
    stream = io.StringIO()
    handler = DisplayHandler(PlainDisplay(stream, clock=lambda: 0.0))
    for name in ("eva_p1.comfy_client", "eva.agent"):
        handler.handle(logging.LogRecord(name, logging.WARNING, "", 0, "%s speaks", (name,), None))
    assert "warning: eva_p1.comfy_client speaks" in stream.getvalue() and "eva.agent" not in stream.getvalue()


def test_the_display_suits_the_stream() -> None:
    assert type(make_display(io.StringIO())) is PlainDisplay
    assert type(make_display(Terminal())) is RichDisplay


def test_the_summary_names_the_best_and_the_bet() -> None:
    stats = {
        "scored": 3,
        "failed": 1,
        "gpu_minutes": 2.0,
        "best_score": 0.7,
        "best_combo": KEY,
        "recommend": {**PARAMS, "mean": 0.65, "sd": 0.1},
    }
    text = "\n".join(summary(stats))
    assert "3 scored, 1 failed" in text and f"best 0.700  {KEY}" in text and "0.650 ± 0.100" in text and KEY in text
    assert "no clip scored" in "\n".join(summary({**stats, "best_score": None, "recommend": None}))
