"""Review server under load: 100,000 clips with history and ratings, 8 clients, an agent that writes meanwhile.

    python benchmarks/server_load.py [--clips 100000] [--seconds 30] [--clients 8] [--rate 20]

Each client sends 20 requests a second on one connection: 30 % search (words, filters, sorts), 20 % videos, 25 % details,
15 % stats, 10 % rate. Another process is the agent: two clips a second and its live status. A time counts from when the
request was due, so that an answer that holds up the next one is not forgotten. Beside them, as a control, one client asks
a process that does nothing but answer: what even that takes is the machine's doing. Yardsticks: p99 of reads 25 ms, p99 of
rate 40 ms, no errors, start 3 s, 500 MB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import state_fixture
from http_clients import Client, machine, memory_mb, percentile, row, running_server

from eva_state.journal import Draft
from eva_state.live import write_live
from eva_state.store import StateStore

QUEUED = 2000  # clips that nobody has rated
MIX = (("search", 30), ("videos", 20), ("details", 25), ("stats", 15), ("rate", 10))
SORTS = ("newest", "score", "manual", "name", "rated", "oldest")


def entry_of(number: int, rng: random.Random, name: str) -> tuple[dict[str, Any], float]:
    _, generated, _ = state_fixture.clip(number, rng)
    return {**generated["entry"], "video": name, "timestamp": time.time()}, generated["reward"]


def prepare(folder: Path, clips: int) -> None:
    """A state and video folder of its own, with ``QUEUED`` clips more that wait for a rating."""
    source = state_fixture.state(clips, videos=True)
    state_fixture.copy_of(source / "state", folder / "state")
    target = folder / "videos" / "wan22"
    target.mkdir(parents=True)
    for path in (source / "videos" / "wan22").iterdir():
        os.link(path, target / path.name)
    rng = random.Random(7)
    drafts = []
    for number in range(QUEUED):
        name = f"wan22/queued_{number:05d}.mp4"
        (folder / "videos" / name).write_bytes(b"0")
        entry, reward = entry_of(number, rng, name)
        data = {"prompt_id": f"queued-{number}", "entry": entry, "reward": reward, "cost_minutes": 1.0}
        drafts.append(Draft("generated", data, f"generated:queued-{number}"))
    with StateStore(folder / "state", role="agent", video_dir=folder / "videos") as store:
        store.record_many(drafts)
        store.flush()


def agent(folder: str, stop: Any, a_second: float) -> None:
    """Writes as an agent would, only faster: a clip takes minutes of GPU time."""
    rng = random.Random(11)
    videos = Path(folder, "videos")
    with StateStore(Path(folder, "state"), role="agent", video_dir=videos) as store:
        number = 0
        while not stop.wait(1 / a_second):
            number += 1
            name = f"wan22/live_{number:06d}.mp4"
            (videos / name).write_bytes(b"0")
            entry, reward = entry_of(number, rng, name)
            store.submitted({"prompt_id": f"live-{number}", "params": entry["params"], "prompt": entry["prompt"]})
            store.generated(f"live-{number}", entry, reward, 1.0)
            write_live(Path(folder, "state", "agent_status.json"), {"state": "running", "iteration": number})


def request(kind: str, rng: random.Random, clips: int) -> tuple[str, str, bytes]:
    name = state_fixture.clip_name(rng.randrange(clips))
    if kind == "stats":
        return "GET", "/api/stats", b""
    if kind == "videos":
        return "GET", f"/api/videos?limit=50&offset={rng.choice((0, 0, 0, 50, 500))}&sort={rng.choice(('newest', 'score'))}", b""
    if kind == "details":
        return "GET", "/api/video_details?name=" + quote(name), b""
    if kind == "rate":
        rating = {"overall_quality": rng.randint(1, 10), "visual_quality": 7, "comments": "steady, a little soft"}
        return "POST", "/api/rate", json.dumps({"video_name": name, "rating": rating}).encode()
    words = " ".join(rng.sample(state_fixture.WORDS, rng.randint(1, 2)) + ([f"{rng.randrange(1000):03d}"] if rng.random() < 0.3 else []))
    choices = (
        f"q={quote(words)}",
        f"min_score={rng.random():.2f}&rated=true",
        f"sampler={rng.choice(state_fixture.SPACE['sampler'])}&min_overall={rng.randint(1, 9)}",
        f"q={quote(words)}&scheduler={rng.choice(state_fixture.SPACE['scheduler'])}&max_score=0.5",
        "reference=true",
        f"offset={rng.randrange(clips)}",
    )
    return "GET", f"/api/search?limit=50&{rng.choice(choices)}&sort={rng.choice(SORTS)}", b""


def bare(port: Any) -> None:
    """The control: answers whatever comes on one connection, without a look at it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port.put(listening.getsockname()[1])
        connection, _ = listening.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while connection.recv(65536):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def load(port: int, control: int, seconds: float, clients: int, a_second: float, clips: int, results: Any) -> None:
    """The clients' process. Puts ``{kind: [seconds]}``, errors by what they were, and requests a second."""
    times: dict[str, list[float]] = {kind: [] for kind in [*(kind for kind, _ in MIX), "control"]}
    slowest: list[tuple[float, str]] = []
    errors: Counter[str] = Counter()
    lock = threading.Lock()
    start = time.perf_counter() + 0.5

    def run(number: int) -> None:
        rng = random.Random(1000 + number)
        client = Client(port if number < clients else control)
        kinds, weights = zip(*MIX) if number < clients else (("control",), (1,))
        due, free = start + number / clients / a_second, 0.0
        while due < start + seconds:
            kind = rng.choices(kinds, weights)[0]
            method, target, body = request(kind, rng, clips) if kind != "control" else ("GET", "/", b"")
            late = time.perf_counter()
            if late < due:
                time.sleep(due - late)
            began = due if free > due else time.perf_counter()
            try:
                status, _ = client.ask(method, target, body)
            except OSError as error:
                status, client = 0, Client(port)
                with lock:
                    errors[repr(error)] += 1
            free = time.perf_counter()
            with lock:
                times[kind].append(free - began)
                slowest.append((free - began, target))
                if status not in (0, 200):
                    errors[f"{kind} {status}"] += 1
            due += 1 / a_second
        client.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((times, dict(errors), sorted(slowest)[-8:]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rate", type=float, default=20, help="requests a second of each client")
    parser.add_argument("--agent-rate", type=float, default=2, help="clips a second that the agent makes")
    flags = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), flags.clips)
        with running_server(Path(folder, "state"), Path(folder, "videos")) as (port, pid, started):
            before = memory_mb(pid)
            stop, results = context.Event(), context.Queue()
            writer = context.Process(target=agent, args=(folder, stop, flags.agent_rate))
            writer.start()
            time.sleep(6)  # the agent has read the state
            answering = context.Process(target=bare, args=(results,))
            answering.start()
            control = results.get(timeout=60)
            clients = context.Process(target=load, args=(port, control, flags.seconds, flags.clients, flags.rate, flags.clips, results))
            clients.start()
            times, errors, slowest = results.get(timeout=flags.seconds + 120)
            clients.join()
            answering.join(10)
            after = memory_mb(pid)
            stop.set()
            writer.join(60)
    reads = [value for kind, values in times.items() if kind not in ("rate", "control") for value in values]
    print(f"{flags.clips:,} clips, {flags.clients} clients at {flags.rate:g}/s for {flags.seconds:g} s; {machine()}")
    print(f"{'':12}{'requests':>9}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'worst ms':>10}")
    for kind, values in times.items():
        shares = [1000 * percentile(values, share) for share in (0.5, 0.9, 0.99, 1.0)]
        print(f"{kind:12}{len(values):>9}" + "".join(f"{value:>9.1f}" for value in shares[:3]) + f"{shares[3]:>10.1f}")
    print(row("p99 of reads", 1000 * percentile(reads, 0.99), "ms", 25))
    print(row("p99 of rate", 1000 * percentile(times["rate"], 0.99), "ms", 40))
    print(row("errors", sum(errors.values()), "", 0), errors or "")
    print(row("start to first answers", started, "s", 3))
    print(row("memory after start", before, "MB", 500))
    print(row("memory after the run", after, "MB", 500))
    print("slowest:", "; ".join(f"{1000 * seconds:.0f} ms {target[:90]}" for seconds, target in reversed(slowest)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
