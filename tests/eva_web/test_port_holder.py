"""A port in use: the message names who holds it and says what to do, without secrets."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eva_web.port_holder import holder, why_not
from eva_web.server import PortInUse, create_server

HOLD = (
    "import socket,sys\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); sys.stdin.read()"
)
needs_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="this system has no /proc/net/tcp")


@pytest.fixture
def other() -> Iterator[tuple[int, int]]:
    """(process id, port) of another program that listens and was given a secret."""
    command = [sys.executable, "-c", HOLD, "--token", "very-secret", "--openrouter-key=very-secret"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


@needs_proc
def test_the_holder_is_named(other: tuple[int, int]) -> None:
    pid, port = other
    found = holder(port)
    assert found is not None and found[0] == pid and "--token *** --openrouter-key=***" in found[1]
    assert "very-secret" not in found[1] and "\n" not in why_not("127.0.0.1", port, OSError(errno.EADDRINUSE, "in use"))


@needs_proc
def test_a_second_server_on_the_port_of_a_first(site: Any) -> None:
    settings = dataclasses.replace(site.settings, port=site.port)
    with pytest.raises(PortInUse) as refused:
        create_server(settings, site.store, site.index)
    text = str(refused.value)
    assert f"port {site.port}" in text and "another EVA review server" in text and f"process {os.getpid()}" in text and "--port" in text


def test_nobody_holds_a_free_port() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert holder(port) is None
    assert "another program" in why_not("127.0.0.1", port, OSError(errno.EADDRINUSE, "in use"))


@pytest.mark.parametrize(
    ("number", "word"), [(errno.EACCES, "above 1023"), (errno.EADDRNOTAVAIL, "--host"), (errno.ENODEV, "No such thing")]
)
def test_other_reasons(number: int, word: str) -> None:
    assert word in why_not("127.0.0.1", 80, OSError(number, "No such thing"))
