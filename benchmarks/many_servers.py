"""Throughput of one agent with several servers, beside the yardstick measured in the same run: the same agent with one server.

    python benchmarks/many_servers.py [--servers 4] [--job-seconds 4] [--tries 12]

Every server makes ``--tries`` clips, so that both runs last equally long. Throughput is clips a second between the first prompt any server
got and the end of the last clip, by the servers' own clocks. The clips are small: drawing them, which a GPU would not ask of this
machine, must not be what is measured. Results are held to be identical in form: all entries have the same fields, findings aside.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from agent_loop import agent_run

SPACE = {
    "sampler": ["euler", "dpmpp_2m", "uni_pc"],
    "scheduler": ["simple", "beta", "karras"],
    "fps": [16],
    "cfg_scale": [2, 3.5, 5],
    "steps": [8, 12, 20],
    "size": [[128, 96], [96, 64]],
}
BY_CLIP = {"findings", "analysis_notes"}  # fields an entry has only where its clip gives cause
WANTED = 0.95  # of as many times one server's throughput as there are servers


def measure(servers: int, tries: int, job_seconds: float) -> tuple[float, frozenset[str], str]:
    """(clips a second, fields of the entries, a line for a person) of one run."""
    with tempfile.TemporaryDirectory(prefix="eva-bench-") as scratch:
        folder = Path(scratch)
        pods = [folder / f"pod{number}" for number in range(servers)]
        _wall, figures = agent_run(folder, pods, SPACE, clip_seconds=0.5, iterations=tries * servers, job_seconds=job_seconds)
        history = json.loads((folder / "state" / "knowledge.json").read_text(encoding="utf-8"))["history"]
    forms = {frozenset(entry) - BY_CLIP for entry in history}
    if len(history) != tries * servers or len(forms) != 1:
        raise SystemExit(f"{len(history)} clips instead of {tries * servers}, in {len(forms)} forms")
    span = max(item["last_finished_at"] for item in figures) - min(item["first_prompt_at"] for item in figures)
    busy = sum(item["busy_seconds"] for item in figures) / (span * servers)
    shares = "+".join(str(item["jobs_done"]) for item in figures)
    begin = max(item["first_prompt_at"] for item in figures) - min(item["first_prompt_at"] for item in figures)
    end = max(item["last_finished_at"] for item in figures) - min(item["last_finished_at"] for item in figures)
    between = max(item["idle_seconds_between_jobs"] for item in figures)
    said = f"{servers} server(s): {shares} clips in {span:.2f} s, busy {busy:.1%} of the time"
    if servers > 1:
        said += f"; first prompts within {begin:.2f} s, ends within {end:.2f} s, at most {between:.2f} s idle between"
    return len(history) / span, forms.pop(), said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--servers", type=int, default=4, metavar="N")
    parser.add_argument("--tries", type=int, default=12, metavar="N", help="clips a server")
    parser.add_argument("--job-seconds", type=float, default=4.0, metavar="S")
    args = parser.parse_args()
    alone, form, said = measure(1, args.tries, args.job_seconds)
    print(said)
    together, other_form, said = measure(args.servers, args.tries, args.job_seconds)
    print(said)
    if form != other_form:
        raise SystemExit(f"entries differ in form: {sorted(form ^ other_form)}")
    times = together / alone
    print(f"throughput {together:.3f} clips/s, {times:.2f} x one server's {alone:.3f} clips/s   (limit {WANTED * args.servers:.2f})")
    return 0 if times >= WANTED * args.servers else 1


if __name__ == "__main__":
    sys.exit(main())
