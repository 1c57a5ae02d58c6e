"""What the ``server_*`` benchmarks share: starting a server, keep-alive clients on plain sockets, percentiles."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Client:
    """One keep-alive connection. Reads as little Python as possible, so that the client does not measure itself."""

    def __init__(self, port: int):
        self.port = port
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def ask(self, method: str, target: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes]:
        """(status, body as sent)."""
        kind = "Content-Type: application/json\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {len(body)}\r\n{headers}\r\n"
        self._socket.sendall(head.encode() + body)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = self._socket.recv(1 << 16)
            if not more:
                raise ConnectionError("the server closed the connection")
            data += more
        lower = data[:end].lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        parts, have = [data[end + 4 :]], len(data) - end - 4
        while have < length:
            more = self._socket.recv(1 << 18)
            if not more:
                raise ConnectionError("the server closed the connection")
            parts.append(more)
            have += len(more)
        return int(data[9:12]), b"".join(parts)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def running_server(state: Path, videos: Path, *more: str) -> Iterator[tuple[int, int, float]]:
    """``(port, process id, seconds)`` of a review server: from the start of the process until /health, then the first page, and
    then the first answer of /api/videos were there, each on a connection of its own.
    """
    port = free_port()
    command = [sys.executable, "simple_web_server.py", "--port", str(port), "--state-dir", str(state), "--video-dir", str(videos)]
    began = time.perf_counter()
    # Where Python may not keep what it compiled, every start compiles the server anew, half a second: no user's does.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen([*command, "--log-level", "WARNING", *more], cwd=PROJECT, stdout=subprocess.DEVNULL, env=environ)
    try:
        while True:
            try:
                for target in ("/health", "/", "/api/videos?limit=50"):
                    client = Client(port)
                    status, body = client.ask("GET", target)
                    client.close()
                    assert status == 200 and body, (target, status)
                assert isinstance(json.loads(body), list)
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - began > 120:
                    raise SystemExit(f"no answer from {command}: exit code {process.poll()}") from None
                time.sleep(0.01)
        seconds = time.perf_counter() - began
        yield port, process.pid, seconds
    finally:
        process.terminate()
        process.wait()


def memory_mb(pid: int) -> float:
    """Resident megabytes of a process and its children."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(member.memory_info().rss for member in tree) / 1e6


def machine() -> str:
    """What the figures were taken on."""
    return f"{os.cpu_count()} cores, load {', '.join(f'{load:.1f}' for load in os.getloadavg())}, Python {sys.version.split()[0]}"


def row(label: str, value: float, unit: str, yardstick: float, *, at_least: bool = False) -> str:
    held = value >= yardstick if at_least else value <= yardstick
    relation = ">=" if at_least else "<="
    return f"{label:44}{value:>10.2f} {unit:<4}  yardstick {relation} {yardstick:g} {unit:<4} {'holds' if held else 'MISSED'}"
