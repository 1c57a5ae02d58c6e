"""Acknowledging one rating: p50 and p99 at 1,000 and at 100,000 entries, beside a bare append and fsync.

    python benchmarks/state_latency.py [--actions 400]

Yardsticks: the ratio of the p50 at 100,000 to that at 1,000 is at most 1.2 (one action costs the same), and the p50 is
near that of the bare append, which is what the disk takes. The three are measured in turns, one action each at a time,
so that what else the machine does hits all alike. Then once more while both stores publish their views every second (some
200 MB at 100,000 clips, on the same disk): that is a disk at work, not the cost of an action, and has no yardstick.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from state_fixture import clip_name, copy_of, state

from eva_state.store import StateStore

SIZES = (1_000, 100_000)
RATING = {"overall_quality": 7, "visual_quality": 6, "motion_quality": 8, "is_reference": False, "comments": "", "defects": ["flicker"]}


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def rater(store: StateStore, clips: int) -> Callable[[], None]:
    rng = random.Random(5)
    return lambda: void(store.rate(clip_name(rng.randrange(clips)), RATING))


def void(_: object) -> None:
    return None


def bare(path: Path) -> Callable[[], None]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    line = b"x" * 330 + b"\n"  # as long as a rating's record

    def append() -> None:
        os.write(fd, line)
        os.fsync(fd)

    return append


def measure(actions: int, publishing: bool, folder: Path) -> dict[str, list[float]]:
    with ExitStack() as stack:
        do: dict[str, Callable[[], None]] = {"bare append + fsync": bare(folder / f"bare-{publishing}")}
        stores = []
        for clips in SIZES:
            target = folder / f"{clips}-{publishing}"
            copy_of(state(clips) / "state", target, views=False)
            store = stack.enter_context(StateStore(target, "server"))
            store.flush()
            stores.append(store)
            do[f"rate() at {clips:,}"] = rater(store, clips)
        for act in do.values():
            act()  # the first one opens files
        for store in stores:
            store.flush()
            if not publishing:
                assert store._publisher is not None
                store._publisher._stop.set()
        found: dict[str, list[float]] = {name: [] for name in do}
        names = list(do)
        rng = random.Random(1)
        for _ in range(actions):
            rng.shuffle(names)
            for name in names:
                began = time.perf_counter()
                do[name]()
                found[name].append((time.perf_counter() - began) * 1e3)
            if publishing:
                time.sleep(0.02)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actions", type=int, default=400)
    actions = parser.parse_args().actions
    logging.basicConfig(level="ERROR")
    print(f"{'milliseconds':24}{'p50':>8}{'p99':>9}{'p50 : bare':>13}{'p50 : at 1,000':>17}")
    passed = True
    with tempfile.TemporaryDirectory(dir=os.environ.get("EVA_BENCHMARK_DIR")) as folder:
        for title, publishing in (("views left alone", False), ("views published meanwhile", True)):
            found = measure(actions, publishing, Path(folder))
            print(title)
            base, small = quantile(found["bare append + fsync"], 0.5), quantile(found[f"rate() at {SIZES[0]:,}"], 0.5)
            for name, values in found.items():
                p50 = quantile(values, 0.5)
                ratio = f"{p50 / small:.2f}" if name.startswith("rate") else ""
                print(f"  {name:22}{p50:>8.2f}{quantile(values, 0.99):>9.2f}{p50 / base:>13.2f}{ratio:>17}")
            ratio_found = quantile(found[f"rate() at {SIZES[1]:,}"], 0.5) / small
            passed = passed and (ratio_found <= 1.2 or publishing)
    print(f"yardstick: ratio of p50 at 100,000 to 1,000 at most 1.2: {'met' if passed else 'MISSED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
