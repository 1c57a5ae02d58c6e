"""Sample efficiency of the bandit beside what a user might take instead, and its speed.

    python benchmarks/bandit.py                        # everything, 20 seeds: hours on one core
    python benchmarks/bandit.py --seeds 5 --parts regret --optimisers eva,tpe,random --pulls 30,100

Parts: ``regret`` after so many pulls, ``minutes`` regret at equal GPU minutes, ``flight`` 8 pulls at once against one at
a time, ``human`` late ratings with a biased automatic score, ``speed`` CPU time of a choice. Regret is simple regret: the
true quality of the best arm less that of the arm ``recommend`` names. Every table gives the mean over seeds +- its
standard error. The surfaces are in ``bandit_surfaces``, the rivals in ``bandit_rivals``.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy is imported
from __future__ import annotations

import os

# One thread a process: "on one core" is what the figures claim, and seeds run side by side.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bandit_rivals import OPTIMISERS, Eva, Optimiser
from benchmarks.bandit_surfaces import FAMILIES, Surface, make_surface
from eva_p1.search_space import SearchSpace

IN_FLIGHT = 8
RATED_SHARE, RATING_DELAY = 0.3, 20
BIAS_LEVEL, BIAS_SD, HUMAN_SD = 0.1, 0.1, 0.05
MOST_PULLS = 2_000


def _score(surface: Surface, cell: int, rng: np.random.Generator) -> float:
    return float(np.clip(surface.quality[cell] + surface.noise * rng.standard_normal(), 0.0, 1.0))


def regret_run(family: str, seed: int, name: str, pulls: tuple[int, ...]) -> list[float]:
    """Simple regret after each of ``pulls`` pulls, one at a time, prices not told."""
    surface, rng = make_surface(family, seed), np.random.default_rng([seed, 1])
    optimiser = OPTIMISERS[name](surface.space, seed)
    out = []
    for i in range(1, max(pulls) + 1):
        cell = optimiser.ask()
        optimiser.tell(cell, _score(surface, cell, rng), None)
        if i in pulls:
            out.append(surface.best - float(surface.quality[optimiser.recommend()]))
    return out


def minutes_run(family: str, seed: int, name: str, budgets: tuple[int, ...]) -> list[float]:
    """Simple regret when each of ``budgets`` GPU minutes is spent: a try that would not fit any more is not counted."""
    surface, rng = make_surface(family, seed), np.random.default_rng([seed, 1])
    optimiser: Optimiser = OPTIMISERS[name](surface.space, seed)
    spent, out = 0.0, []
    for _ in range(MOST_PULLS):
        cell = optimiser.ask()
        spent += float(surface.minutes[cell])
        while len(out) < len(budgets) and spent > budgets[len(out)]:
            out.append(surface.best - float(surface.quality[optimiser.recommend()]))
        if len(out) == len(budgets):
            return out
        optimiser.tell(cell, _score(surface, cell, rng), float(surface.minutes[cell]))
    raise RuntimeError(f"{name} did not spend {budgets} minutes in {MOST_PULLS} pulls")


def flight_run(family: str, seed: int, at_once: int, pulls: tuple[int, ...]) -> list[float]:
    """Regret of EVA after so many results when ``at_once`` pulls are always under way."""
    surface, rng = make_surface(family, seed), np.random.default_rng([seed, 1])
    eva = Eva(surface.space, seed)
    flying: list[int] = []
    out = []
    for i in range(1, max(pulls) + 1):
        while len(flying) < at_once:
            flying.append(eva.ask())
        cell = flying.pop(0)
        eva.tell(cell, _score(surface, cell, rng), None)
        if i in pulls:
            out.append(surface.best - float(surface.quality[eva.recommend()]))
    return out


def human_run(family: str, seed: int, delay: int | None, pulls: tuple[int, ...]) -> list[float]:
    """Regret of EVA when the automatic score is biased and ``RATED_SHARE`` of the clips is rated ``delay`` pulls later.

    ``delay`` None: nobody rates. The bias has a level and an effect of its own for every level of sampler, cfg and steps.
    """
    surface, rng = make_surface(family, seed), np.random.default_rng([seed, 2])
    index = np.stack(np.unravel_index(np.arange(len(surface.quality)), surface.shape), axis=1)
    bias = np.full(len(surface.quality), BIAS_LEVEL)
    for axis in (0, 3, 4):
        bias += (BIAS_SD / np.sqrt(3) * rng.standard_normal(surface.shape[axis]))[index[:, axis]]
    luck, auto, human, rated = (rng.standard_normal(max(pulls) + 1) for _ in range(4))
    is_rated = rated < np.quantile(rated, RATED_SHARE)
    eva = Eva(surface.space, seed)
    waiting: list[tuple[int, int, float]] = []
    out = []
    for i in range(1, max(pulls) + 1):
        params = eva.bandit.select_params()
        cell = eva.cell(params)
        clip = surface.quality[cell] + surface.noise / np.sqrt(2) * luck[i]
        eva.bandit.update(params, float(np.clip(clip + bias[cell] + surface.noise / np.sqrt(2) * auto[i], 0, 1)), video=str(i))
        if delay is not None and is_rated[i]:
            waiting.append((i + delay, cell, float(np.clip(clip + HUMAN_SD * human[i], 0, 1))))
        while waiting and waiting[0][0] <= i:
            due, rated_cell, rating = waiting.pop(0)
            eva.bandit.update(eva._arms[rated_cell], rating, source="human", video=str(due - (delay or 0)))
        if i in pulls:
            out.append(surface.best - float(surface.quality[eva.recommend()]))
    return out


def speed() -> None:
    """CPU milliseconds of a choice and of taking in a result, at 1,000 pulls, on 20,160 and 201,600 arms."""
    print("\nspeed: CPU ms on one core after 1,000 pulls (hyperparameter fits apart)")
    print(f"{'arms':>10} {'choice p50':>11} {'choice max':>11} {'result p50':>11} {'refit s':>9}")
    for scale in (1, 10):
        space = SearchSpace(
            sampler=tuple(f"sampler{i}" for i in range(8)),
            scheduler=tuple(f"scheduler{i}" for i in range(7 * (2 if scale > 1 else 1))),
            fps=(16, 20, 24),
            cfg_scale=(1, 2, 3.5, 5, 7) if scale == 1 else (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7),
            steps=(4, 8, 12, 16, 20, 30),
            size=((832, 480), (480, 832), (640, 640), (1280, 720)) if scale == 1 else tuple((320 + 64 * i, 480) for i in range(10)),
        )
        eva = Eva(space, 1)
        rng = np.random.default_rng(1)
        with eva.bandit.bulk():
            for _ in range(985):
                eva.tell(int(rng.integers(space.arm_count)), float(rng.uniform(0.5, 0.9)), 2.0)
        choose, learn = [], []
        for _ in range(15):
            start = time.process_time()
            cell = eva.ask()
            middle = time.process_time()
            eva.tell(cell, 0.6, 2.0)
            choose.append(middle - start)
            learn.append(time.process_time() - middle)
        start = time.process_time()
        eva.bandit._learner._next_fit = 0
        eva.bandit._learner.refit_if_due()
        refit = time.process_time() - start
        figures = [np.median(choose), max(choose), np.median(learn)]
        print(f"{space.arm_count:>10,} " + " ".join(f"{1e3 * value:>11.1f}" for value in figures) + f" {refit:>9.2f}", flush=True)


def _table(title: str, columns: list[str], rows: list[tuple[str, Callable[..., list[float]], tuple]], seeds: int, jobs: int) -> dict:
    """Runs every row for every family and seed, prints mean +- standard error; returns {(family, row): (seeds, columns)}."""
    print(f"\n{title}; mean +- standard error over {seeds} seeds")
    print(f"{'':14}{'':14}" + "".join(f"{column:>18}" for column in columns))
    found = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for family in FAMILIES:
            for label, function, arguments in rows:
                start = time.perf_counter()
                jobs_done = [pool.submit(function, family, seed, *arguments) for seed in range(seeds)]
                values = np.array([job.result() for job in jobs_done])
                found[family, label] = values
                error = values.std(axis=0, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.full(values.shape[1], np.nan)
                cells = "".join(f"{m:>10.4f} +-{e:.4f}" for m, e in zip(values.mean(axis=0), error))
                print(f"{family:14}{label:14}{cells}   ({time.perf_counter() - start:.0f} s)", flush=True)
    return found


def _ratio(title: str, found: dict, of: str, to: str) -> None:
    """Prints, for every family, the ratio of two rows' mean regrets."""
    for family in FAMILIES:
        top, bottom = found[family, of].mean(axis=0), found[family, to].mean(axis=0)
        print(f"{family:14}{title}: " + "  ".join(f"{a / max(b, 1e-9):.2f}" for a, b in zip(top, bottom)))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(part) for part in text.split(",")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--parts", default="regret,minutes,flight,human,speed")
    parser.add_argument("--optimisers", default="eva,random,ucb1,tpe,optuna-gp,sklearn-gp", help=f"of {', '.join(OPTIMISERS)}")
    parser.add_argument("--pulls", type=_numbers, default=(30, 100, 300))
    parser.add_argument("--minutes", type=_numbers, default=(120, 400))
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    args = parser.parse_args()
    names, parts = args.optimisers.split(","), args.parts.split(",")
    unknown = [name for name in names if name not in OPTIMISERS]
    if unknown:
        parser.error(f"unknown optimiser {', '.join(unknown)}; there are {', '.join(OPTIMISERS)}")
    pulls = [f"{n} pulls" for n in args.pulls]
    if "regret" in parts:
        found = _table("simple regret", pulls, [(name, regret_run, (name, args.pulls)) for name in names], args.seeds, args.jobs)
        for rival in names:
            if rival != "eva" and "eva" in names:
                _ratio(f"eva / {rival}", found, "eva", rival)
    if "minutes" in parts:
        chosen = [name for name in names if name in ("eva", "tpe", "random")]
        columns = [f"{n} minutes" for n in args.minutes]
        found = _table("regret at equal GPU minutes", columns, [(n, minutes_run, (n, args.minutes)) for n in chosen], args.seeds, args.jobs)
        if {"eva", "tpe"} <= set(chosen):
            _ratio("eva / tpe", found, "eva", "tpe")
    if "flight" in parts:
        rows = [("one at a time", flight_run, (1, args.pulls)), ("8 in flight", flight_run, (IN_FLIGHT, args.pulls))]
        found = _table("regret with pulls in flight", pulls, rows, args.seeds, args.jobs)
        _ratio("8 / 1", found, "8 in flight", "one at a time")
    if "human" in parts:
        rows = [
            (label, human_run, (delay, args.pulls)) for label, delay in (("no ratings", None), ("at once", 0), ("20 late", RATING_DELAY))
        ]
        found = _table("regret with a biased score, 30 % rated", pulls, rows, args.seeds, args.jobs)
        total = {label: sum(found[family, label].mean(axis=0) for family in FAMILIES) / len(FAMILIES) for label, _, _ in rows}
        share = (total["no ratings"] - total["20 late"]) / (total["no ratings"] - total["at once"])
        print("share of the gain of immediate ratings, all families: " + "  ".join(f"{value:.2f}" for value in share))
    if "speed" in parts:
        speed()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
