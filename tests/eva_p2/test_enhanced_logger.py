"""Logs: each channel to its file, one JSON line a clip, and a folder that cannot be written costs only the logs."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from eva_p2.enhanced_logger import CHANNELS, AnalysisJournal, close_channels, open_channels


def test_channels_write_to_their_files(tmp_path: Path) -> None:
    handlers = open_channels(tmp_path / "logs")
    try:
        for name in CHANNELS.values():
            logging.getLogger(name).warning("about %s: їжак", name)
    finally:
        close_channels(handlers)
    for file, name in CHANNELS.items():
        assert f"about {name}: їжак" in (tmp_path / "logs" / file).read_text(encoding="utf-8")
        assert not logging.getLogger(name).handlers


def test_the_journal_holds_one_line_a_clip(tmp_path: Path) -> None:
    journal = AnalysisJournal(tmp_path)
    journal.write({"video": 'a "b"\n.mp4', "score": 0.5, "deep": None})
    journal.write({"video": "100 %s.mp4"})
    journal.close()
    lines = (tmp_path / "merged_analysis.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["video"] for line in lines] == ['a "b"\n.mp4', "100 %s.mp4"]


def test_a_folder_that_cannot_be_made_is_reported_and_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert open_channels(tmp_path / "file" / "logs") == []
    journal = AnalysisJournal(tmp_path / "file" / "logs")
    journal.write({"video": "a.mp4"})
    journal.close()
    assert "no log file" in caplog.text
