"""Sample efficiency of the bandit beside what a user might take instead, and its speed.

    python benchmarks/bandit.py --results results.jsonl            # everything, 20 seeds: hours on one core
    python benchmarks/bandit.py --results results.jsonl --print    # the tables of what is there, nothing is run
    python benchmarks/bandit.py --seeds 5 --parts regret --optimisers eva,tpe,random --pulls 30,100

With ``--results`` every figure is written to the file as soon as it is there, and what the file has is not run again:
stop with Ctrl-C, start again with the same command. Figures of changed code are made anew (``bandit_results``). Seeds
go round the families and optimisers, so that a run stopped early has as many seeds of one as of the other.

Parts: ``regret`` after so many pulls, ``minutes`` regret at equal GPU minutes, ``budget`` the same for EVA when it is told how many
there are, to be held against ``minutes``, ``flight`` 8 pulls at once, to be held against ``regret``, ``human`` late ratings with a
biased automatic score, ``speed`` CPU time of a choice. Every table gives the mean over seeds +- its standard error. The
surfaces are in ``bandit_surfaces``, the rivals in ``bandit_rivals``.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy is imported
from __future__ import annotations

import os

# One thread a process: "on one core" is what the figures claim, and seeds run side by side.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bandit_results import Cell, Results
from benchmarks.bandit_rivals import OPTIMISERS
from benchmarks.bandit_runs import RUNS
from benchmarks.bandit_speed import speed
from benchmarks.bandit_surfaces import FAMILIES

RESAMPLES = 4000
MINUTES_RIVALS = ("random", "ucb1", "tpe")  # of the rivals, those that are also run by GPU minutes
BUDGET, FLIGHT, HUMAN = ("budget told",), ("8 at once",), ("unrated", "0 late", "20 late")
TITLES = {
    "regret": "simple regret after so many pulls",
    "minutes": "simple regret at equal GPU minutes",
    "budget": "simple regret of EVA told its budget of GPU minutes",
    "flight": "simple regret of EVA with pulls in flight",
    "human": "simple regret of EVA with a biased score, 30 % of the clips rated",
}


def _timed(part: str, family: str, seed: int, who: str, points: tuple[int, ...]) -> tuple[list[float], float]:
    start = time.process_time()
    values = RUNS[part](family, seed, who, points)
    return values, time.process_time() - start


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def fill(
    results: Results, part: str, rows: Sequence[str], families: Sequence[str], seeds: Sequence[int], points: Sequence[int], jobs: int
) -> None:
    """Runs what ``results`` lacks."""
    todo = []
    for seed in seeds:
        for who in rows:
            for family in families:
                cells = [Cell(part, family, seed, who, at) for at in points]
                missing = [cell for cell in cells if results.get(cell) is None]
                if missing:
                    todo.append(missing)
    if not todo:
        return
    running: dict[Future, list[Cell]] = {}
    done, start = 0, time.monotonic()
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_ignore_interrupt)
    try:
        while todo or running:
            while todo and len(running) < 2 * jobs:
                cells = todo.pop(0)
                points_missing = tuple(cell.at for cell in cells)
                running[pool.submit(_timed, part, cells[0].family, cells[0].seed, cells[0].who, points_missing)] = cells
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cells = running.pop(future)
                values, cpu_s = future.result()
                results.put(cells, values, cpu_s)
                done += 1
                progress = f"{part}: {done} of {done + len(todo) + len(running)} runs, {time.monotonic() - start:.0f} s"
                print(f"  {progress}; {cells[0].who} on {cells[0].family}, seed {cells[0].seed}", file=sys.stderr, flush=True)
    finally:
        for process in list((pool._processes or {}).values()):  # a run takes minutes: nobody waits for it after Ctrl-C
            if todo or running:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


class Table:
    """The figures of one part: mean over seeds +- standard error, as far as they are there."""

    def __init__(self, results: Results, part: str, families: Sequence[str], seeds: Sequence[int], points: Sequence[int]):
        self._results, self._part, self._families, self._seeds, self._points = results, part, families, seeds, points

    def values(self, family: str, who: str, at: int, part: str | None = None) -> dict[int, float]:
        """``{seed: regret}``."""
        found = {seed: self._results.get(Cell(part or self._part, family, seed, who, at)) for seed in self._seeds}
        return {seed: value for seed, value in found.items() if value is not None}

    def show(self, rows: Sequence[str], unit: str, markdown: bool = False) -> None:
        """Prints the rows, as aligned text or as a Markdown table."""
        if markdown:
            return self._show_markdown(rows, unit)
        print(f"\n{TITLES[self._part]}; mean +- standard error (seeds)")
        print(f"{'':12}{'':14}" + "".join(f"{f'{at} {unit}':>23}" for at in self._points))
        for family in self._families:
            for who in rows:
                line = ""
                for at in self._points:
                    v = np.array(list(self.values(family, who, at).values()))
                    error = v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else np.nan
                    line += f"{v.mean():>10.4f} +-{error:.4f} ({len(v):>2})" if len(v) else f"{'-':>23}"
                print(f"{family:12}{who:14}{line}")

    def _show_markdown(self, rows: Sequence[str], unit: str) -> None:
        print(f"\n{TITLES[self._part]}\n\n| family | optimiser | " + " | ".join(f"{at} {unit}" for at in self._points) + " |")
        print("|---|---|" + "---|" * len(self._points))
        for family in self._families:
            for i, who in enumerate(rows):
                line = f"| {'' if i else family} | {who} |"
                for at in self._points:
                    v = np.array(list(self.values(family, who, at).values()))
                    seeds = "" if len(v) == len(self._seeds) else f" ({len(v)} seeds)"
                    line += f" {v.mean():.3f} +- {v.std(ddof=1) / np.sqrt(len(v)):.3f}{seeds} |" if len(v) > 1 else " |"
                print(line)
        print()

    def ratios(self, of: str, to: str, part: str | None = None) -> None:
        """Mean regret of one row by that of another (of another ``part``) on the seeds both have, with a 90 % interval."""
        rng = np.random.default_rng(0)
        for family in self._families:
            line = ""
            for at in self._points:
                a, b = self.values(family, of, at), self.values(family, to, at, part)
                both = sorted(set(a) & set(b))
                if both:
                    top, bottom = (np.array([values[seed] for seed in both]) for values in (a, b))
                    again = rng.integers(len(both), size=(RESAMPLES, len(both)))  # bootstrap over surfaces, both rows together
                    low, high = np.quantile(top[again].mean(axis=1) / np.maximum(bottom[again].mean(axis=1), 1e-9), (0.05, 0.95))
                    line += f"{top.mean() / max(bottom.mean(), 1e-9):>8.2f} [{low:.2f}, {high:.2f}] ({len(both):>2})"
                else:
                    line += f"{'-':>26}"
            print(f"{family:12}{of} / {to}:{line}")

    def gain_kept(self, late: str, at_once: str, never: str) -> None:
        """Share of the gain of immediate ratings that late ones give, all families together, with a jackknife error over seeds."""
        line = ""
        for at in self._points:
            sets = [{who: self.values(family, who, at) for who in (late, at_once, never)} for family in self._families]
            seeds = sorted(set.intersection(*(set(v) for group in sets for v in group.values())))
            if len(seeds) < 2:
                line += f"{'-':>19}"
                continue
            mean = {who: np.array([np.mean([group[who][seed] for group in sets]) for seed in seeds]) for who in (late, at_once, never)}

            def share(keep: np.ndarray, mean: dict[str, np.ndarray] = mean) -> float:
                n, o, z = (mean[who][keep].mean() for who in (never, at_once, late))
                return float((n - z) / (n - o))

            everyone = np.ones(len(seeds), dtype=bool)
            apart = np.array([share(np.arange(len(seeds)) != i) for i in range(len(seeds))])
            error = np.sqrt((len(seeds) - 1) * apart.var())
            line += f"{share(everyone):>8.2f} +- {error:.2f} ({len(seeds)} seeds)"
        print(f"share of the gain of immediate ratings kept, {late}:{line}")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(part) for part in text.split(",")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0, help="seeds 0 to 59 are for the tables, 100 and above for choosing settings")
    parser.add_argument("--parts", default="regret,minutes,budget,flight,human,speed")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--optimisers", default="eva,random,ucb1,tpe,optuna-gp,sklearn-gp", help=f"of {', '.join(OPTIMISERS)}")
    parser.add_argument("--pulls", type=_numbers, default=(30, 100, 300))
    parser.add_argument("--minutes", type=_numbers, default=(120, 400))
    parser.add_argument("--human-pulls", type=_numbers, default=(100, 300))
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--results", type=Path, help="file that keeps the figures; what it has is not run again")
    parser.add_argument("--print", action="store_true", help="show what the results file has, run nothing")
    parser.add_argument("--markdown", action="store_true", help="print the tables the way docs/bandit.md has them")
    args = parser.parse_args()
    args.optimisers, args.parts, args.families = args.optimisers.split(","), args.parts.split(","), args.families.split(",")
    for name, known in (("optimisers", OPTIMISERS), ("parts", [*RUNS, "speed"]), ("families", FAMILIES)):
        unknown = [value for value in getattr(args, name) if value not in known]
        if unknown:
            parser.error(f"--{name}: unknown {', '.join(unknown)}; there are {', '.join(known)}")
    if args.print and args.results is None:
        parser.error("--print shows a results file: name it with --results")
    return args


def main() -> int:
    args = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the processes under way end with this one
    results = Results(args.results)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    plans = {
        "regret": (args.optimisers, args.pulls, "pulls"),
        "minutes": ([n for n in args.optimisers if n in MINUTES_RIVALS or n.startswith("eva")], args.minutes, "minutes"),
        "budget": (list(BUDGET), args.minutes, "minutes"),
        "flight": (list(FLIGHT), args.pulls, "pulls"),
        "human": (list(HUMAN), args.human_pulls, "pulls"),
    }
    try:
        for part, (rows, points, unit) in plans.items():
            if part not in args.parts or not rows:
                continue
            if not args.print:
                fill(results, part, rows, args.families, seeds, points, args.jobs)
            table = Table(results, part, args.families, seeds, points)
            table.show(rows, unit, args.markdown)
            if part == "budget":
                table.ratios("budget told", "eva", "minutes")
            elif part == "flight":
                table.ratios("8 at once", "eva", "regret")
            elif part == "human":
                table.gain_kept("20 late", "0 late", "unrated")
            elif "eva" in rows:
                for rival in rows:
                    if rival != "eva":
                        table.ratios("eva", rival)
            sys.stdout.flush()
        if "speed" in args.parts and not args.print:
            speed()
    except KeyboardInterrupt:
        kept = f"; what is done is kept in {args.results}, the same command goes on" if args.results else ""
        print(f"interrupted{kept}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
