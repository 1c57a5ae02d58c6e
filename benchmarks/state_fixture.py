"""A big state folder, the same at every run: the fixture of the ``state_*`` benchmarks.

    python benchmarks/state_fixture.py [--clips 100000]     makes it (once) and prints where it lies

Each clip has a ``submitted`` and a ``generated`` record of the agent and a ``rating`` of the server, as long as a real
run's. The journals are written as the store would write them, but without an fsync a record. The views are then
published by a store. The folder is kept in the temporary folder and made again when it is incomplete.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eva_state import records
from eva_state.documents import local_time
from eva_state.journal import SEGMENT_BYTES
from eva_state.keys import combo_key
from eva_state.records import Record
from eva_state.store import StateStore

FORM = 1  # raise it when what is written here changes
CLIPS = 100_000
START = 1_700_000_000.0
SPACE = {
    "sampler": ["euler", "uni_pc", "dpmpp_2m", "dpmpp_sde", "lcm", "heun"],
    "scheduler": ["simple", "karras", "beta", "normal"],
    "fps": [16, 20, 24],
    "cfg_scale": [1, 2.5, 3.5, 5, 6.5, 7],
    "steps": [10, 20, 30, 40],
    "size": [(832, 480), (1280, 720), (480, 832)],
}
WORDS = (
    "a",
    "slow",
    "pan",
    "over",
    "calm",
    "water",
    "at",
    "dawn",
    "with",
    "soft",
    "light",
    "on",
    "old",
    "stone",
    "bridges",
    "birds",
    "above",
)
METRICS = ("blur", "exposure", "blockiness", "flicker", "overall", "anatomy_score", "face_quality_score", "artifact_score")


def clip_name(number: int) -> str:
    return f"wan22/clip_{number:06d}_00001.mp4"


def clip(number: int, rng: random.Random) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Data of a clip's ``submitted``, ``generated`` and ``rating`` records."""
    width, height = rng.choice(SPACE["size"])
    params = {name: rng.choice(values) for name, values in SPACE.items() if name != "size"} | {"width": width, "height": height}
    prompt = " ".join(rng.choices(WORDS, k=22))
    seed, score, made = rng.randrange(2**53), round(rng.random(), 4), START + 60.0 * number
    prompt_id = f"{rng.getrandbits(128):032x}"
    shared = {"prompt": prompt, "negative_prompt": "blurry, low quality, watermark", "params": params, "seed": seed}
    submitted = {"prompt_id": prompt_id, "api": "http://127.0.0.1:8188", **shared, "combo_key": combo_key(params), "prefix": "wan22/clip"}
    entry = {
        "video": clip_name(number),
        "timestamp": made,
        **shared,
        "combo": [params["sampler"], params["scheduler"]],
        "metrics": {name: round(rng.random(), 4) for name in METRICS},
        "score": score,
        "iteration": number,
    }
    marks = ("overall_quality", "visual_quality", "motion_quality", "prompt_adherence", "creativity", "technical_quality")
    rating: dict[str, Any] = {name: rng.randint(1, 10) for name in marks} | {"is_reference": rng.random() < 0.02, "comments": ""}
    if rng.random() < 0.3:
        rating["defects"] = ["flicker"]
    judged = {"name": clip_name(number), "rating": rating, "rated_at": local_time(made + 30)}
    return submitted, {"prompt_id": prompt_id, "entry": entry, "reward": score, "cost_minutes": 1.5}, judged


class _Journal:
    """Writes a writer's segments without fsync."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        self.folder, self.writer, self.seq, self.segment, self.lines, self.size = folder, folder.name, 0, 1, [], 0

    def add(self, id: str, lc: int, ts: float, kind: str, data: dict[str, Any]) -> None:
        self.seq += 1
        line = records.encode(Record(self.seq, id, lc, ts, self.writer, kind, records.dump(data)))
        if self.size + len(line) > SEGMENT_BYTES:
            self.flush()
        self.lines.append(line)
        self.size += len(line)

    def flush(self) -> None:
        (self.folder / f"{self.segment:06d}.jsonl").write_bytes(b"".join(self.lines))
        self.segment, self.lines, self.size = self.segment + 1, [], 0


def make_journals(state_dir: Path, clips: int) -> None:
    """Writes the journals of ``clips`` generated and rated clips into an empty folder."""
    rng = random.Random(clips)
    agent, server = _Journal(state_dir / "journal" / "agent"), _Journal(state_dir / "journal" / "server")
    lc = 0
    for number in range(clips):
        submitted, generated, rated = clip(number, rng)
        ts = START + 60.0 * number
        agent.add(f"submitted:{generated['prompt_id']}", lc + 1, ts - 50, "submitted", submitted)
        agent.add(f"generated:{generated['prompt_id']}", lc + 2, ts, "generated", generated)
        server.add(f"{rng.getrandbits(64):016x}", lc + 3, ts + 30, "rating", rated)
        lc += 3
    agent.flush()
    server.flush()


def _videos(folder: Path, clips: int) -> None:
    (folder / "wan22").mkdir(parents=True)
    for number in range(clips):
        (folder / clip_name(number)).write_bytes(b"0")


def state(clips: int = CLIPS, *, videos: bool = False) -> Path:
    """A folder with ``state/`` (journals and views) and, if asked, ``videos/`` (one small file a clip). Cached."""
    folder = Path(tempfile.gettempdir()) / f"eva-benchmark-state-{FORM}-{clips}"
    if not (folder / "complete").exists():
        print(f"making {folder} ...", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        make_journals(folder / "state", clips)
        with StateStore(folder / "state", "tool") as store:
            store.flush()
        (folder / "complete").touch()
    if videos and not (folder / "videos-complete").exists():
        shutil.rmtree(folder / "videos", ignore_errors=True)
        _videos(folder / "videos", clips)
        (folder / "videos-complete").touch()
    return folder


def copy_of(source: Path, target: Path, *, views: bool = True) -> Path:
    """A state folder of its own to work on; without ``views`` only the journals come along."""
    for path in sorted((source / "journal").rglob("*.jsonl")):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
    if views:
        for path in source.glob("*.json"):
            shutil.copy2(path, target / path.name)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=CLIPS)
    logging.basicConfig(level="WARNING")
    began = time.perf_counter()
    folder = state(parser.parse_args().clips, videos=True)
    journal = sum(path.stat().st_size for path in folder.glob("state/journal/*/*.jsonl"))
    views = sum(path.stat().st_size for path in folder.glob("state/*.json"))
    print(f"{folder}: {journal / 1e6:.0f} MB of journals, {views / 1e6:.0f} MB of views, {time.perf_counter() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
