"""Processes of the whole loop: simulator, review server, agent, each started as a person would."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE = 90.0
CHROMIUM_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


def wait_until(what: str, check: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """First truthy answer of ``check``; fails naming ``what`` at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


@dataclass
class Process:
    """A child whose output is kept, so that a failure can show it."""

    name: str
    popen: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    def line(self, pattern: str) -> re.Match[str]:
        def search() -> re.Match[str] | None:
            found = next((match for text in list(self.lines) if (match := re.search(pattern, text))), None)
            if found is None and self.popen.poll() is not None and not (self.reader and self.reader.is_alive()):
                pytest.fail(f"{self.name} ended with {self.popen.returncode}:\n{''.join(self.lines)}")
            return found

        return wait_until(f"{self.name} prints {pattern}", search)

    def wait(self, seconds: float = DEADLINE) -> int:
        try:
            code = self.popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} is still running:\n{''.join(self.lines[-40:])}")
        if self.reader:
            self.reader.join()
        return code

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(with_signal)
        try:
            return self.wait(20)
        finally:
            if self.popen.poll() is None:
                self.popen.kill()
                self.popen.wait()

    def output(self) -> str:
        return "".join(self.lines)


class World:
    """Folders and running processes of one test."""

    def __init__(self, folder: Path):
        self.state, self.video = folder / "auto_state", folder / "output"
        self.state.mkdir()
        self.video.mkdir()
        self.processes: list[Process] = []

    def start(self, name: str, *arguments: str) -> Process:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("EVA_", "COMFY", "WAN22_", "SERVER_", "PORT"))
        }
        popen = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env={**environment, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        process = Process(name, popen)

        def read() -> None:
            assert popen.stdout is not None
            with popen.stdout:
                for line in popen.stdout:
                    process.lines.append(line)

        process.reader = threading.Thread(target=read, daemon=True)
        process.reader.start()
        self.processes.append(process)
        return process

    # ------------------------------------------------------------ the three programs
    def simulator(self, *options: str) -> tuple[Process, str]:
        process = self.start("simulator", "-m", "eva_sim", "--port", "0", "--output-dir", str(self.video), *options)
        return process, process.line(r"listening on (http://\S+)")[1]

    def server(self, *options: str) -> tuple[Process, str]:
        process = self.start("server", "simple_web_server.py", "--port", "0", *self.folders, *options)
        return process, process.line(r"(http://\S+)")[1].rstrip("/")

    def agent(self, api: str, *options: str) -> Process:
        return self.start("agent", "run_agent_qa.py", "--api", api, *self.folders, "--seconds", "1", *options)

    @property
    def folders(self) -> list[str]:
        return ["--state-dir", str(self.state), "--video-dir", str(self.video)]

    # ------------------------------------------------------------ what other tools would read
    def view(self, name: str) -> Any:
        path = self.state / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def history(self) -> list[dict[str, Any]]:
        return self.view("knowledge.json").get("history", [])

    def ratings(self) -> dict[str, Any]:
        return {name: item for name, item in self.view("manual_ratings.json").items() if "rating" in item}

    def clips(self) -> set[str]:
        return {path.relative_to(self.video).as_posix() for path in self.video.rglob("*.mp4")}

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait()
            if process.reader:
                process.reader.join()


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.loads(answer.read())
