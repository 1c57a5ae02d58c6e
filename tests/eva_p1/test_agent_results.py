"""Clips are found by what the server says, and the server is not trusted with our disk."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from eva_env_base import ClipError, ComfyError, ComfyUnavailable, PromptFailed, PromptRejected
from eva_p1.agent_results import as_analysis, clip_name, failure_kind, take_clip, take_clip_patiently
from eva_p1.comfy_types import Finished, OutputFile


class Client:
    url = "http://a:1"

    def __init__(self, away: int = 0) -> None:
        self.fetched: list[str] = []
        self.away = away

    def fetch(self, output: OutputFile, dest: Path) -> Path:
        if self.away:
            self.away -= 1
            raise ComfyUnavailable("refused")
        self.fetched.append(output.filename)
        dest.write_bytes(b"1" * 500)
        return dest


def finished(*videos: OutputFile) -> Finished:
    return Finished("id", videos, videos, False, 1.0)


def test_a_local_clip_is_taken_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b_ї.mp4").write_bytes(b"1" * 500)
    client = Client()
    assert take_clip(client, finished(OutputFile("a b_ї.mp4", "sub")), tmp_path) == ("sub/a b_ї.mp4", tmp_path / "sub" / "a b_ї.mp4")
    assert client.fetched == []


@pytest.mark.parametrize("size", [None, 0, 12])
def test_a_missing_or_stunted_local_file_is_fetched(tmp_path: Path, size: int | None) -> None:
    if size is not None:
        (tmp_path / "a.mp4").write_bytes(b"1" * size)
    client = Client()
    assert take_clip(client, finished(OutputFile("a.mp4")), tmp_path)[0] == "a.mp4"
    assert client.fetched == ["a.mp4"]


def test_a_temporary_output_is_always_fetched_to_the_top(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"0" * 500)
    client = Client()
    name, path = take_clip(client, finished(OutputFile("a.mp4", "tmp", "temp")), tmp_path)
    assert name == "a.mp4" and path.read_bytes()[:1] == b"1" and client.fetched == ["a.mp4"]


@pytest.mark.parametrize(("filename", "folder"), [("../a.mp4", ""), ("a.mp4", "../x"), ("a.mp4", "/etc"), ("a.mp4", "C:\\x"), ("", "")])
def test_a_name_that_leads_out_of_the_folder_is_refused(filename: str, folder: str) -> None:
    with pytest.raises(ClipError, match="leads out"):
        clip_name(OutputFile(filename, folder))


def test_a_prompt_without_a_video_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(PromptFailed, match="without saving a video") as raised:
        take_clip(Client(), finished(), tmp_path)
    assert raised.value.kind == "no_output"


def test_a_paid_clip_is_waited_for(tmp_path: Path) -> None:
    client = Client(away=3)
    name, _path = take_clip_patiently(client, finished(OutputFile("a.mp4")), tmp_path, threading.Event(), (0.001, 0.01))
    assert name == "a.mp4"
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(ComfyUnavailable):
        take_clip_patiently(Client(away=1), finished(OutputFile("b.mp4")), tmp_path, stopping, (0.001, 0.01))


def test_an_analysis_without_overall_is_no_score() -> None:
    with pytest.raises(ClipError, match="too short"):
        as_analysis({"metrics": {"blur": 0.5}, "absent": {"overall": "too short"}}, Path("a.mp4"))
    analysis = as_analysis({"metrics": {"overall": 0.25}, "absent": {"flicker": "too short"}, "version": "1"}, Path("a.mp4"))
    assert analysis.score == 0.25 and analysis.notes == {"absent": {"flicker": "too short"}}


@pytest.mark.parametrize(
    ("error", "kind"),
    [(PromptFailed("x", kind="oom"), "oom"), (PromptRejected("x"), "rejected"), (ClipError("x"), "bad_clip"), (ComfyError("x"), "fetch")],
)
def test_failures_have_a_kind(error: ComfyError, kind: str) -> None:
    assert failure_kind(error) == kind
