"""The command: first line, exit codes, a port in use, Ctrl-C, the crash of a process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def launch(tmp_path):
    """``launch("--port", "0")`` starts the command; all are ended."""
    started = []

    def start(*arguments, output=True):
        folder = ["--output-dir", str(tmp_path / "out")] if output else []
        process = subprocess.Popen(
            [sys.executable, "-m", "eva_sim", *folder, *arguments],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def url_of(process):
    line = process.stdout.readline()
    assert line.startswith("EVA simulator (not a real ComfyUI) listening on http://127.0.0.1:"), line + process.stderr.read()
    return line.split()[-1]


def end(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_serves_says_what_it_is_and_ends_on_ctrl_c(launch, connect, graph, tmp_path):
    process = launch("--port", "0", "--speed", "200", "--seed", "2")
    url = url_of(process)
    client = connect(url, listen=False)
    assert client.get("/system_stats")["system"]["eva_simulator_seed"] == 2
    assert client.finished(client.queue(graph()))["status"]["completed"]
    assert (tmp_path / "out" / "t" / "clip_00001_.mp4").stat().st_size > 1000
    client.queue(graph(slow=60.0))
    listener = connect(url)
    listener.hear()
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)  # its own deadline is far below the minute the job would take
    assert code == 130 and "Traceback" not in err and "simulator" in err


def test_sigterm_ends_it_cleanly(launch):
    process = launch("--port", "0")
    url_of(process)
    process.terminate()
    code, _, err = end(process)
    assert code == 0 and "Traceback" not in err


def test_a_port_in_use_is_said_so(launch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = end(launch("--port", str(port)))
    assert code == 1 and out == "" and f"port {port} on 127.0.0.1 is in use" in err and "--port" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "nope"], "no fault is called 'nope'"),
        (["--speed", "0"], "--speed 0.0: wants a number above 0"),
        (["--port", "70000"], "--port 70000"),
        (["--job-seconds", "-1"], "--job-seconds"),
        (["--speed", "fast"], "invalid float value"),
    ],
)
def test_wrong_usage(launch, arguments, words):
    code, _, err = end(launch(*arguments))
    assert code == 2 and words in err and "Traceback" not in err


def test_an_output_folder_that_cannot_be_made(launch, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    code, _, err = end(launch("--output-dir", str(tmp_path / "file" / "below"), "--port", "0", output=False))
    assert code == 1 and "output folder" in err and "--output-dir" in err and "Traceback" not in err


def test_help_and_missing_folder(launch):
    code, out, _ = end(launch("--help", output=False))
    assert code == 0 and "not a real ComfyUI" in out and "bad_output" in out
    code, _, err = end(launch(output=False))
    assert code == 2 and "--output-dir" in err


def test_the_crash_fault_ends_the_process(launch, connect, graph):
    process = launch("--port", "0", "--speed", "200", "--fault", "crash:job=2")
    client = connect(url_of(process), listen=False)
    client.finished(client.queue(graph(seed=1)))
    client.queue(graph(seed=2))
    code, _, _ = end(process)
    assert code == 70
    with pytest.raises(requests.ConnectionError):
        client.get("/queue")
