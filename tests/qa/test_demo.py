"""The demo never mixes simulated clips with real work, and ends what it started."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from eva_env_base import EvaError, resolve_settings
from qa.demo import choose_folders, free_port, holds_real_work, start, stop_child


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    state, video = tmp_path / "auto_state", tmp_path / "output"
    state.mkdir()
    video.mkdir()
    return state, video


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def test_empty_folders_may_be_used(folders: tuple[Path, Path]) -> None:
    assert holds_real_work(*folders) is None


def test_its_own_simulated_clips_may_be_added_to(folders: tuple[Path, Path]) -> None:
    state, video = folders
    write(state / "knowledge.json", {"history": [{"video": "a.mp4", "simulator": True}]})
    write(state / "manual_ratings.json", {"a.mp4": {"rating": {"overall_quality": 3}}})
    (video / "a.mp4").write_bytes(b"x")
    assert holds_real_work(state, video) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda state, video: write(state / "knowledge.json", {"history": [{"video": "a.mp4"}]}),
        lambda state, video: write(state / "manual_ratings.json", {"mine.mp4": {"rating": {"overall_quality": 9}}}),
        lambda state, video: write(state / "bandit_state.json", {"combo_stats": {}}),
        lambda state, video: (state / "knowledge.json").write_text("{broken", encoding="utf-8"),
        lambda state, video: (video / "mine.mp4").write_bytes(b"x"),
    ],
)
def test_real_work_is_left_alone(make, folders: tuple[Path, Path]) -> None:  # type: ignore[no-untyped-def]
    make(*folders)
    assert holds_real_work(*folders)
    root = folders[0].parent
    settings = resolve_settings({"root": str(root)}, {})
    state, video, note = choose_folders(settings)
    assert state == root / "demo" / "auto_state" and video == root / "demo" / "output" and note


def test_folders_named_by_flag_are_taken_as_they_are(folders: tuple[Path, Path]) -> None:
    (folders[1] / "mine.mp4").write_bytes(b"x")
    settings = resolve_settings({"state_dir": str(folders[0]), "video_dir": str(folders[1])}, {})
    assert choose_folders(settings) == (*folders, None)


def test_a_port_in_use_is_stepped_over_unless_it_was_asked_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port("127.0.0.1", port, fixed=False) != port
        with pytest.raises(EvaError, match=f"port {port} is in use"):
            free_port("127.0.0.1", port, fixed=True)


def test_a_child_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = start("thing", ["-c", "print('no luck'); raise SystemExit(3)"], tmp_path / "thing.log")
    with pytest.raises(EvaError, match=r"(?s)ended with code 3.*no luck"):
        child.wait_for_line("never", 30)
    stop_child(child)
    assert "no luck" in (tmp_path / "thing.log").read_text(encoding="utf-8")


def test_a_child_that_ignores_the_first_signal_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qa.demo.STOP_SECONDS", 0.5)
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = start("deaf", ["-c", program], tmp_path / "deaf.log")
    child.wait_for_line("up", 30)
    stop_child(child)
    assert child.process.poll() is not None


def test_setup_refuses_wrong_usage() -> None:
    for arguments in (["--no-serve"], ["--demo", "--test"], ["--demo", "--iterations", "0"], ["--demo", "--port", "x"], ["--nonsense"]):
        ended = subprocess.run(
            [sys.executable, "setup_qa_no_venv.py", *arguments], capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
        assert ended.returncode == 2, (arguments, ended.stderr)
        assert "Traceback" not in ended.stderr
