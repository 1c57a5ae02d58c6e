"""The files in deploy/: the start script keeps a server running and stops it in order; the unit names what is there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

psutil = pytest.importorskip("psutil")
needs_bash = pytest.mark.skipif(os.name != "posix" or shutil.which("bash") is None, reason="the script is for Linux")


@pytest.fixture
def script(project: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "output").mkdir()
    names = ("EVA_TOKEN", "EVA_STATE_DIR", "SERVER_HOST", "PORT")
    environ = {name: value for name, value in os.environ.items() if name not in names}
    environ |= {"WAN22_SYSTEM_DIR": str(tmp_path), "COMFY_OUTPUT_DIR": str(tmp_path / "output"), "SERVER_PORT": str(port)}
    environ |= {"ROLES": "server", "PYTHON": sys.executable, "RUNPOD_POD_ID": "pod", "SERVER_HOST": "127.0.0.1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(project / "deploy" / "runpod_start.sh"), *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, encoding="utf-8", timeout=60)

    run.port = port  # type: ignore[attr-defined]
    yield run
    run("stop")


def lives(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def servers(folder: Path) -> list[Any]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.endswith("simple_web_server.py") for word in words) and str(folder / "logs" / "access.log") in words:
            found.append(process)
    return found


@needs_bash
def test_the_start_script_keeps_the_server_running(script: Any, tmp_path: Path, helpers: Any) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "server.pid").write_text(f"{os.getpid()}\n")  # left by a pod before this one: some other process by now
    assert script("status").returncode == 1
    assert "server started" in script("start").stdout
    helpers.wait_for(lambda: lives(script.port), 30)
    assert (tmp_path / "logs" / "server.log").stat().st_mode & 0o077 == 0, "the address with the token stands in it"
    token = (tmp_path / "token").read_text(encoding="ascii").strip()
    assert len(token) >= 32 and (tmp_path / "token").stat().st_mode & 0o077 == 0
    told = script("status")
    assert told.returncode == 0 and "server runs" in told.stdout and told.stdout.strip().endswith(f"?token={token}")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{script.port}/api/stats", timeout=30)
    assert "runs already" in script("start").stdout
    (first,) = servers(tmp_path)
    first.kill()
    helpers.wait_for(lambda: [process.pid for process in servers(tmp_path)] not in ([], [first.pid]) and lives(script.port), 40)
    assert "server stopped" in script("stop").stdout
    assert not servers(tmp_path) and not lives(script.port)
    assert script("status").returncode == 1
    log = (tmp_path / "logs" / "server.log").read_text(encoding="utf-8")
    assert "exit code 137" in log and "Traceback" not in log
    assert "GET /api/stats" in (tmp_path / "logs" / "access.log").read_text(encoding="utf-8")


@needs_bash
def test_wrong_usage_is_told(script: Any) -> None:
    told = script("begin")
    assert told.returncode == 2 and "runpod_start.sh start" in told.stdout


def test_the_unit_starts_what_is_there(project: Path) -> None:
    text = (project / "deploy" / "eva-review.service").read_text(encoding="utf-8")
    command = re.search(r"^ExecStart=/usr/bin/env python3 (\S+) (.*)$", text, re.MULTILINE)
    assert command and (project / command[1]).is_file()
    from simple_web_server import parser

    known = parser().format_help()
    assert all(flag in known for flag in re.findall(r"--[a-z-]+", command[2]))
