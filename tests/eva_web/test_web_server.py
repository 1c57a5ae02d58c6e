"""The door ``simple_web_server.py`` as a process: start, address, signals, refusals, and what it must not load."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, project: Path) -> Iterator[Start]:
    """Starts the door over folders below tmp_path; what is still running at the end is killed."""
    started: list[subprocess.Popen[str]] = []
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("EVA_", "SERVER_", "PORT", "RUNPOD_", "COMFY"))}

    def run(*flags: str, environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, str(project / "simple_web_server.py"), "--root", str(tmp_path), "--video-dir", str(tmp_path), *flags]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env={**clean, **(environ or {})}
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def url_of(process: subprocess.Popen[str]) -> str:
    """The address it prints, on a line of its own."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(("http://", "https://")):
            return line.strip()
    raise AssertionError(f"no address printed; it said: {process.stderr.read() if process.stderr else ''}")


def read(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serves_and_stops(start: Start, tmp_path: Path, number: int, code: int) -> None:
    (tmp_path / "a.mp4").write_bytes(b"data")
    os.utime(tmp_path / "a.mp4", (1, 1))
    process = start("--port", "0")
    url = url_of(process)
    assert json.loads(read(url + "health")[1])["status"] == "ok"
    body = json.dumps({"video_name": "a.mp4", "rating": {"overall_quality": 8}}).encode()
    request = urllib.request.Request(url + "api/rate", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    ratings = json.loads((tmp_path / "auto_state" / "manual_ratings.json").read_text(encoding="utf-8"))
    assert ratings["a.mp4"]["rating"]["overall_quality"] == 8


def test_a_port_in_use(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("--port", str(port))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert str(port) in errors and "--port" in errors and "Traceback" not in errors


def test_a_second_server_on_the_same_state(start: Start) -> None:
    url_of(start("--port", "0"))
    second = start("--port", "0")
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 1 and "Traceback" not in errors and "server" in errors


def test_a_state_folder_that_cannot_be(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    process = start("--port", "0", "--state-dir", str(tmp_path / "file" / "state"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in errors and str(tmp_path / "file") in errors


@pytest.mark.parametrize(
    "flags", [["--port", "x"], ["--port", "99999"], ["--unknown"], ["--token", "t", "--no-token"], ["--log-level", "LOUD"]]
)
def test_wrong_usage(start: Start, flags: list[str]) -> None:
    process = start(*flags)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and "Traceback" not in errors and errors.strip()


def test_print_settings_and_help(start: Start, tmp_path: Path) -> None:
    process = start("--print-settings", "--token", "very-secret")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and str(tmp_path) in out and "very-secret" not in out
    assert start("--help").communicate(timeout=60)[0].startswith("usage:")


def test_a_given_token(start: Start) -> None:
    process = start("--port", "0", "--token", "a b&c")
    url = url_of(process)
    assert url.endswith("/?token=a%20b%26c")
    base = url.partition("?")[0]
    assert read(base + "api/stats")[0] == 401
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(url, timeout=30) as page:
        assert page.status == 200 and "token" not in page.url
    with opener.open(base + "api/stats", timeout=30) as answer:
        assert answer.status == 200


def test_a_random_token_away_from_loopback_and_none_when_asked(start: Start) -> None:
    url = url_of(start("--port", "0", "--host", "0.0.0.0"))
    assert "?token=" in url and len(url.partition("?token=")[2]) >= 32
    assert read(url.partition("?")[0] + "api/stats")[0] == 401


def test_no_token_when_asked(start: Start) -> None:
    process = start("--port", "0", "--host", "0.0.0.0", "--no-token")
    url = url_of(process)
    assert "token" not in url and read(url + "api/stats")[0] == 200
    process.terminate()
    assert "no token" in process.communicate(timeout=60)[1]


def test_the_address_on_a_pod(start: Start) -> None:
    url = url_of(start("--port", "0", environ={"RUNPOD_POD_ID": "abc123", "EVA_TOKEN": "tok"}))
    assert url.startswith("https://abc123-") and url.endswith(".proxy.runpod.net/?token=tok")


def test_nothing_heavy_is_loaded(project: Path) -> None:
    heavy = ("numpy", "torch", "cv2", "av", "mediapipe", "sklearn", "scipy", "PIL", "requests")
    text = (
        "import sys; sys.path.insert(0, sys.argv[1]); import simple_web_server, eva_web.server, eva_state.clip_index, eva_state.store\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    command = [sys.executable, "-c", text, str(project)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_memory_before_pictures_are_asked_for(start: Start) -> None:
    process = start("--port", "0")
    url = url_of(process)
    for path in ("", "health", "api/stats", "api/videos", "api/changes", "static/style.css"):
        assert read(url + path)[0] == 200
    status: Any = Path(f"/proc/{process.pid}/status")
    if not status.is_file():
        pytest.skip("this system does not tell a process's memory")
    held = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS"))
    assert int(held.split()[1]) < 60_000, held
