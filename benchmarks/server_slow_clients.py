"""Review server against 1,000 slow connections: does a fresh client still get an answer at once?

    python benchmarks/server_slow_clients.py [--connections 1000] [--seconds 15]

A quarter each: silent from the start, a request line byte by byte (slowloris), a body byte by byte, a download that is
not read. They are held by another process. Meanwhile a fresh connection every 50 ms asks for /api/stats. Yardstick: 200 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from http_clients import Client, machine, percentile, row, running_server

HEAD = b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
LINE = b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"a" * 900
DOWNLOAD = b"GET /video/big.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n"


def hold(port: int, count: int, ready: Any, stop: Any) -> None:
    """Opens the slow connections and feeds them a byte a second; lost ones are opened again."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    connections: dict[int, tuple[socket.socket, bytes]] = {}
    step = 0

    def connect(number: int) -> None:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        kind = number % 4
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if kind == 2:
            connection.sendall(HEAD)
        if kind == 3:
            connection.sendall(DOWNLOAD)
        connection.setblocking(False)
        connections[number] = (connection, (b"", LINE, b"x" * 900, b"")[kind])

    for number in range(count):
        connect(number)
    ready.set()
    while not stop.wait(1.0):
        step += 1
        for number, (connection, data) in list(connections.items()):
            if not data:
                continue
            try:
                connection.send(data[step % len(data) : step % len(data) + 1])
            except OSError:
                connection.close()
                connect(number)
    for connection, _ in connections.values():
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    flags = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder, "videos")
        videos.mkdir()
        (videos / "big.mp4").write_bytes(bytes(20_000_000))
        os.utime(videos / "big.mp4", (1e9, 1e9))
        with running_server(Path(folder, "state"), videos) as (port, pid, _):
            ready, stop = context.Event(), context.Event()
            holder = context.Process(target=hold, args=(port, flags.connections, ready, stop))
            holder.start()
            assert ready.wait(60), "the slow connections could not be opened"
            times, errors = [], 0
            until = time.perf_counter() + flags.seconds
            while time.perf_counter() < until:
                began = time.perf_counter()
                try:
                    client = Client(port)
                    errors += client.ask("GET", "/api/stats")[0] != 200
                    client.close()
                except OSError:
                    errors += 1
                times.append(1000 * (time.perf_counter() - began))
                time.sleep(0.05)
            threads = 0
            with contextlib.suppress(OSError):
                threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
            stop.set()
            holder.join(30)
    print(f"{flags.connections} slow connections, {len(times)} fresh clients; the server has {threads} threads; {machine()}")
    print(f"/api/stats: median {statistics.median(times):.1f} ms, p99 {percentile(times, 0.99):.1f} ms")
    print(row("worst of the fresh clients", max(times), "ms", 200))
    print(row("errors", errors, "", 0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
