"""Review server: seconds from start to the first /health answer, and memory held, on an empty state.

    python benchmarks/server_start.py [--runs 5]

Yardsticks: 1 s, and 60 MB without torch or mediapipe imported. Beside them: a bare `python -c pass` and a bare
`http.server` on this machine, because both figures include the interpreter.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "mediapipe", "numpy", "cv2")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def timed_start(command: list[str], url: str) -> tuple[float, float, list[str]]:
    """(seconds to the first answer, resident MB of the process tree, heavy libraries mapped)."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            if process.poll() is not None or time.perf_counter() - began > 30:
                raise SystemExit(f"no answer from {command}: exit code {process.poll()}")
            try:
                urllib.request.urlopen(url, timeout=1).read()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.005)
        seconds = time.perf_counter() - began
        time.sleep(1.0)  # let the first publication and folder scan happen before memory is read
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        maps = {Path(item.path).parts for member in tree for item in member.memory_maps()}
        heavy = [name for name in HEAVY if any(name in parts for parts in maps)]
        return seconds, sum(member.memory_info().rss for member in tree) / 1e6, heavy
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    server, plain = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            folders = ["--state-dir", f"{folder}/state", "--video-dir", f"{folder}/output"]
            Path(folder, "output").mkdir()
            command = [sys.executable, "simple_web_server.py", "--port", str(port), *folders]
            server.append(timed_start(command, f"http://127.0.0.1:{port}/health"))
            port = free_port()
            command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", folder]
            plain.append(timed_start(command, f"http://127.0.0.1:{port}/"))
    print(f"{'':24}{'median':>10}{'worst':>10}{'yardstick':>12}{'bare http.server':>20}")
    for label, index, unit, limit in (("start to /health", 0, "s", 1.0), ("resident memory", 1, "MB", 60.0)):
        values, bare = [run[index] for run in server], [run[index] for run in plain]
        print(
            f"{label:24}{statistics.median(values):>8.2f} {unit:<2}{max(values):>7.2f} {unit:<2}{limit:>8.0f} {unit:<2}"
            f"{statistics.median(bare):>17.2f} {unit}"
        )
    heavy = sorted({name for run in server for name in run[2]})
    print(f"heavy libraries loaded: {', '.join(heavy) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
