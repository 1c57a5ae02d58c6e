"""Start-up and memory at 100,000 clips, beside a plain json.load of the same views.

    python benchmarks/state_start.py [--clips 100000] [--runs 3]

Yardsticks: 3 s and 400 MB. Every run is a process of its own: the store as the agent opens it, the store with the clip
index over a folder of as many files as the review server opens it, and `json.load` of the five views, which is the
least that the original had to do. `at once` is when the process has what it started for, interpreter start included;
CPU seconds tell what of it was this process's own on a busy machine. Memory is the peak of the resident set, and what
is left of it 10 s later, after the publisher has looked through the views.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

SECONDS, MEGABYTES = 3.0, 400.0


def child(what: str, folder: Path) -> None:
    """Opens it and tells on standard output when and with how much memory."""
    me = psutil.Process()
    if what == "json.load of the views":
        held = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "state").glob("*.json"))]
        report(me, len(held))
        return
    from eva_state.store import StateStore

    logging.basicConfig(level="ERROR")
    from eva_state.clip_source import Notes

    role, seen = ("agent", None) if what == "store" else ("server", Notes())
    with StateStore(folder / "state", role, video_dir=folder / "videos", seen=seen) as store:
        if what == "store":
            report(me, store.stats()["total_rated"])
            return
        from eva_state.clip_index import ClipIndex

        with ClipIndex(store, folder / "videos") as index:
            report(me, index.counts()["rated"])


def report(me: psutil.Process, count: int) -> None:
    cpu = me.cpu_times()
    found = {"wall": time.time() - me.create_time(), "cpu": cpu.user + cpu.system, "count": count}
    time.sleep(10.0)
    rss = me.memory_info().rss / 1e6
    status = Path("/proc/self/status")
    peak = rss
    if status.exists():
        peak = next(int(line.split()[1]) * 1024 / 1e6 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps(found | {"rss": rss, "peak": peak}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], Path(args.child[1]))
        return 0
    from state_fixture import state

    folder = state(args.clips, videos=True)
    print(f"{'at ' + format(args.clips, ',') + ' clips':30}{'at once':>10}{'CPU':>9}{'memory':>10}{'peak':>9}   best of {args.runs}")
    passed = True
    for what in ("json.load of the views", "store", "store + clip index"):
        found = []
        for _ in range(args.runs):
            command = [sys.executable, __file__, "--child", what, str(folder)]
            found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
        best = {key: min(item[key] for item in found) for key in ("wall", "cpu", "rss", "peak")}
        print(f"{what:30}{best['wall']:>8.2f} s{best['cpu']:>7.2f} s{best['rss']:>7.0f} MB{best['peak']:>6.0f} MB")
        passed = passed and (what.startswith("json") or (best["wall"] < SECONDS and best["rss"] < MEGABYTES))
    print(f"yardstick: {SECONDS:.0f} s and {MEGABYTES:.0f} MB: {'met' if passed else 'MISSED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
