"""GPU idle share and loop overhead of the agent, measured on the simulator; both processes run as a person would start them.

    python benchmarks/agent_loop.py [--iterations 20] [--job-seconds 2] [--servers 1]

Printed beside their yardsticks:

- idle share: seconds the simulator's queue was empty between its first prompt and the end of its last, over that span. Yardstick: a loop
  that scores each clip before it queues the next one, computed from the same run (its scoring times come between the jobs).
- overhead: wall time of the agent process (start and end included) over the simulator's busy time. Yardstick: 1, a server never waiting
  and an agent that starts in no time.
- with several servers: clips a minute over those of one server at work all the time.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
SPACE = {
    "sampler": ["euler", "dpmpp_2m", "uni_pc"],
    "scheduler": ["simple", "beta", "karras"],
    "fps": [16],
    "cfg_scale": [2, 3.5, 5],
    "steps": [8, 12, 20],
    "size": [[448, 256]],
}


def start_simulator(folder: Path, job_seconds: float) -> tuple[subprocess.Popen[str], str]:
    """A simulator on a free port, and its address."""
    command = [sys.executable, "-m", "eva_sim", "--port", "0", "--output-dir", str(folder), "--job-seconds", str(job_seconds)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        found = re.search(r"http://[\w.:]+", line)
        if found:
            return process, found[0]
        if not line:
            break
    process.kill()
    raise SystemExit("the simulator did not start")


def sim_stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/sim/stats", timeout=10) as answer:
        return json.load(answer)


def agent_run(
    folder: Path, clip_folders: list[Path], space: dict[str, Any], *, clip_seconds: float, iterations: int, job_seconds: float
) -> tuple[float, list[dict[str, Any]]]:
    """(wall seconds, each simulator's figures) of one run of the agent on a simulator for each of ``clip_folders``; state in ``folder``."""
    (folder / "space.json").write_text(json.dumps(space), encoding="utf-8")
    sims = [start_simulator(clips, job_seconds) for clips in clip_folders]
    try:
        command = [sys.executable, "run_agent_qa.py", "--api", ",".join(url for _, url in sims), "--state-dir", str(folder / "state")]
        command += ["--video-dir", str(folder / "clips"), "--space", str(folder / "space.json"), "--seed", "1"]
        command += ["--seconds", f"{clip_seconds:g}", "--iterations", str(iterations)]
        began = time.monotonic()
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        wall = time.monotonic() - began
        if done.returncode:
            raise SystemExit(f"the agent ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return wall, [sim_stats(url) for _, url in sims]
    finally:
        for process, _url in sims:
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def measure(iterations: int, job_seconds: float, servers: int) -> dict[str, float]:
    """One run of the agent; figures in seconds and shares."""
    with tempfile.TemporaryDirectory(prefix="eva-bench-") as scratch:
        folder = Path(scratch)
        folders = [folder / "clips"] * servers
        wall, figures = agent_run(folder, folders, SPACE, clip_seconds=2, iterations=iterations, job_seconds=job_seconds)
        history = json.loads((folder / "state" / "knowledge.json").read_text(encoding="utf-8"))["history"]
        if len(history) != iterations:
            raise SystemExit(f"{len(history)} clips instead of {iterations}")
        return {"wall": wall, "scoring": scoring_seconds(folder / "clips"), **combine(figures)}


def combine(figures: list[dict[str, Any]]) -> dict[str, float]:
    busy = sum(float(item["busy_seconds"]) for item in figures)
    idle = sum(float(item["idle_seconds_between_jobs"]) for item in figures)
    return {"busy": busy, "idle": idle}


def scoring_seconds(folder: Path) -> float:
    """Time to score one of these clips here, for the yardstick."""
    sys.path.insert(0, str(PROJECT))
    from eva_p1.video_analyzer import VideoAnalyzer

    clips = sorted(folder.rglob("*.mp4"))[:5]
    analyzer = VideoAnalyzer()
    analyzer.analyze(clips[0])
    began = time.monotonic()
    for clip in clips:
        analyzer.analyze(clip)
    return (time.monotonic() - began) / len(clips)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--iterations", type=int, default=20, metavar="N")
    parser.add_argument("--job-seconds", type=float, default=2.0, metavar="S")
    parser.add_argument("--servers", type=int, default=1, metavar="N")
    args = parser.parse_args()
    found = measure(args.iterations, args.job_seconds, args.servers)
    span = found["busy"] + found["idle"]
    naive = found["scoring"] / (found["scoring"] + args.job_seconds)
    print(
        f"{args.iterations} iterations, {args.servers} server(s), {args.job_seconds:g} s a job; a clip scores in {found['scoring']:.3f} s"
    )
    print(f"GPU idle share   {found['idle'] / span:7.2%}   (limit 1%; scoring before queueing would give {naive:.2%})")
    if args.servers == 1:
        print(f"wall / busy      {found['wall'] / found['busy']:7.3f}   (limit 1.05; {found['wall']:.2f} s over {found['busy']:.2f} s)")
    else:
        times = found["busy"] / found["wall"]
        print(f"throughput       {times:7.2f} x one server always busy   (limit 0.95 x {args.servers})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
