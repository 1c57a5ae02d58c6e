"""Review server streaming: one large file against nginx, the first byte of a Range, and 32 clients that scrub at once.

    python benchmarks/server_stream.py [--megabytes 200] [--runs 5]

nginx (Debian: apt-get install nginx-light) serves the same file in the same run, one worker, sendfile on. Yardsticks:
0.6 of nginx's throughput, 5 ms to the first byte of a Range in the middle, and no stall over 500 ms while 32 clients ask
for random megabytes one after the other. Each figure is the median of the runs; the worst stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from http_clients import free_port, machine, percentile, row, running_server

CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type video/mp4;
  client_body_temp_path {folder}/b;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location /video/ {{ alias {videos}/; }} }}
}}
"""


@contextlib.contextmanager
def nginx(videos: Path) -> Iterator[int | None]:
    """Port of an nginx that serves ``videos`` below /video/; None where it is not installed."""
    program = shutil.which("nginx")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        Path(folder, "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=port, videos=videos), encoding="utf-8")
        Path(folder).chmod(0o755)
        process = subprocess.Popen([program, "-p", folder, "-c", f"{folder}/nginx.conf"], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            process.wait()


def fetch(port: int, target: str, part: str | None = None) -> tuple[float, float, float, int]:
    """``(seconds to the first byte of the body, longest pause between reads, seconds in all, bytes)``."""
    line = f"Range: bytes={part}\r\n" if part else ""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        buffer = bytearray(1 << 20)
        began = last = time.perf_counter()
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{line}Connection: close\r\n\r\n".encode())
        first, pause, taken = 0.0, 0.0, 0
        while size := connection.recv_into(buffer):
            now = time.perf_counter()
            if not first:
                assert buffer[9:12] in (b"200", b"206"), bytes(buffer[:100])
                head = buffer.find(b"\r\n\r\n", 0, size)
                taken, first = -(head + 4), now - began
            pause, last = max(pause, now - last), now
            taken += size
        return first, pause, last - began, taken


def scrub(port: int, target: str, size: int, clients: int, times: int, results: Any) -> None:
    """``clients`` threads that jump about in the file; puts the longest pause each of them saw."""
    longest: list[float] = []

    def run(number: int) -> None:
        rng = random.Random(number)
        for _ in range(times):
            at = rng.randrange(size - (1 << 20))
            longest.append(fetch(port, target, f"{at}-{at + (1 << 20) - 1}")[1])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(longest)


def streamed(port: int, target: str, runs: int, results: Any) -> None:
    """Puts ``[(seconds, bytes)]``; in a process of its own, so that client and server share no interpreter."""
    results.put([fetch(port, target)[2:] for _ in range(runs)])


def elsewhere(function: Any, *arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=function, args=(*arguments, results))
    process.start()
    found = results.get(timeout=300)
    process.join()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is another user
        videos = folder / "videos"
        videos.mkdir(mode=0o755)
        with (videos / "big.mp4").open("wb") as file:
            for _ in range(flags.megabytes):
                file.write(os.urandom(1_000_000))
        os.utime(videos / "big.mp4", (1e9, 1e9))
        size = flags.megabytes * 1_000_000
        with running_server(folder / "state", videos) as (port, _, _), nginx(videos) as other:
            target = "/video/big.mp4"
            speeds: dict[str, list[float]] = {"eva": [], "nginx": []}
            for _ in range(flags.runs):  # in turns, so that a busy moment of the machine hits both
                for label, at in (("eva", port), ("nginx", other)):
                    if at is not None:
                        for seconds, taken in elsewhere(streamed, at, target, 2):
                            assert taken == size, (label, taken)
                            speeds[label].append(size / seconds / 1e6)
            firsts = []
            for number in range(200):
                at = size // 2 + number * 4096
                firsts.append(1000 * fetch(port, target, f"{at}-{at + 65535}")[0])
            pauses = elsewhere(scrub, port, target, size, 32, 20)
    print(f"{flags.megabytes} MB, {flags.runs} runs; {machine()}")
    eva = statistics.median(speeds["eva"])
    if speeds["nginx"]:
        rival = statistics.median(speeds["nginx"])
        print(f"throughput: EVA {eva:.0f} MB/s (worst {min(speeds['eva']):.0f}), nginx {rival:.0f} MB/s (worst {min(speeds['nginx']):.0f})")
        print(row("EVA's share of nginx's throughput", eva / rival, "", 0.6, at_least=True))
    else:
        print(f"throughput: EVA {eva:.0f} MB/s; nginx is not installed (apt-get install nginx-light), so there is nothing to compare with")
    print(row("first byte of a Range, median", statistics.median(firsts), "ms", 5), f"p99 {percentile(firsts, 0.99):.2f} ms")
    print(row("longest stall of 32 scrubbing clients", 1000 * max(pauses), "ms", 500), f"p99 {1000 * percentile(pauses, 0.99):.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
