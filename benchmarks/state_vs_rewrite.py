"""The cost of one rating, beside rewriting the JSON files, which is how the original system recorded it.

    python benchmarks/state_vs_rewrite.py [--clips 100000] [--ratings 50]

The original's way, as generously as it can be told: the parsed files stay in memory, and of the five only the two that
hold the rating (manual_ratings.json and knowledge.json) are written, once each, with json.dump(indent=2), without fsync
and without a rename. EVA's: rate(), acknowledged after fsync, and what it costs to bring the views up to date afterwards
(once a second, however many ratings there were, off the request path).
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from state_fixture import clip_name, copy_of, state

from eva_state.store import StateStore

RATING = {"overall_quality": 7, "visual_quality": 6, "motion_quality": 8, "is_reference": False, "comments": "", "defects": ["flicker"]}


def rewrite(folder: Path, clips: int, runs: int = 3) -> list[float]:
    """Seconds a rating took by rewriting."""
    paths = [folder / "manual_ratings.json", folder / "knowledge.json"]
    ratings, knowledge = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    found = []
    for number in range(runs):
        began = time.perf_counter()
        ratings[clip_name(number)] = {"rating": RATING, "timestamp": time.time(), "rated_at": "2026-01-01 00:00:00"}
        knowledge["history"][number]["manual_rating"] = RATING
        for path, content in zip(paths, (ratings, knowledge)):
            with path.with_suffix(".rewritten").open("w", encoding="utf-8") as file:
                json.dump(content, file, indent=2, ensure_ascii=False)
        found.append(time.perf_counter() - began)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--ratings", type=int, default=50)
    args = parser.parse_args()
    logging.basicConfig(level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        here = copy_of(state(args.clips) / "state", Path(folder) / "state", views=False)
        with StateStore(here, "server") as store:
            store.flush()
            assert store._publisher is not None
            store._publisher._stop.set()  # the views are brought up to date below, to be timed
            acknowledged, published = [], []
            for round_ in range(5):
                for number in range(args.ratings // 5):
                    began = time.perf_counter()
                    store.rate(clip_name(number * 37 + round_), RATING)
                    acknowledged.append(time.perf_counter() - began)
                began = time.perf_counter()
                store.flush()
                published.append(time.perf_counter() - began)
        size = sum((here / name).stat().st_size for name in ("manual_ratings.json", "knowledge.json"))
        slow = statistics.median(rewrite(here, args.clips))
    fast = statistics.median(acknowledged)
    print(f"one rating at {args.clips:,} clips ({size / 1e6:.0f} MB in the two files)")
    print(f"  rate(), acknowledged after fsync   {fast * 1e3:>10.2f} ms")
    print(f"  rewriting two JSON files           {slow * 1e3:>10.2f} ms   {slow / fast:,.0f} times as long")
    print(f"  a round of views, off the request  {statistics.median(published) * 1e3:>10.2f} ms   for {args.ratings // 5} ratings at once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
