"""One run of the bandit benchmark: one optimiser on one surface, its regret at the points asked for.

Regret is simple regret: the true quality of the best arm less that of the arm ``recommend`` names. A run is a function of
its arguments alone, and its figures at 30 pulls are the same whether it goes on to 300 or not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.bandit_rivals import OPTIMISERS, Eva, Optimiser
from benchmarks.bandit_surfaces import Surface, make_surface
from eva_p1.bandit_prices import NothingFits

RATED_SHARE = 0.3
BIAS_LEVEL, BIAS_SD, HUMAN_SD = 0.1, 0.1, 0.05
MOST_PULLS, MOST_CLIPS = 2_000, 1_000


def _score(surface: Surface, cell: int, rng: np.random.Generator) -> float:
    return float(np.clip(surface.quality[cell] + surface.noise * rng.standard_normal(), 0.0, 1.0))


def regret_run(family: str, seed: int, who: str, points: tuple[int, ...]) -> list[float]:
    """Simple regret after each of ``points`` pulls, one at a time, prices not told. ``who``: an optimiser."""
    surface, rng = make_surface(family, seed), np.random.default_rng([seed, 1])
    optimiser = OPTIMISERS[who](surface.space, seed)
    out = []
    for i in range(1, max(points) + 1):
        cell = optimiser.ask()
        optimiser.tell(cell, _score(surface, cell, rng), None)
        if i in points:
            out.append(surface.best - float(surface.quality[optimiser.recommend()]))
    return out


def minutes_run(family: str, seed: int, who: str, points: tuple[int, ...]) -> list[float]:
    """Simple regret when each of ``points`` GPU minutes is spent: a try that would not fit any more is not counted."""
    surface, rng = make_surface(family, seed), np.random.default_rng([seed, 1])
    optimiser: Optimiser = OPTIMISERS[who](surface.space, seed)
    spent = 0.0
    out: list[float] = []
    for _ in range(MOST_PULLS):
        cell = optimiser.ask()
        spent += float(surface.minutes[cell])
        while len(out) < len(points) and spent > points[len(out)]:
            out.append(surface.best - float(surface.quality[optimiser.recommend()]))
        if len(out) == len(points):
            return out
        optimiser.tell(cell, _score(surface, cell, rng), float(surface.minutes[cell]))
    raise RuntimeError(f"{who} did not spend {points} minutes in {MOST_PULLS} pulls")


def budget_run(family: str, seed: int, who: str, points: tuple[int, ...]) -> list[float]:
    """Like ``minutes_run`` for EVA, but it is told what is left of the budget and ends when nothing fits any more: one run a point."""
    out = []
    for budget in points:
        surface, rng = make_surface(family, seed), np.random.default_rng([seed, 1])
        eva, left = Eva(surface.space, seed), float(budget)
        for _ in range(MOST_PULLS):
            try:
                cell = eva.cell(eva.bandit.select_params(within=left, probe=True))
            except NothingFits:
                break
            left -= float(surface.minutes[cell])
            if left < 0:
                break
            eva.tell(cell, _score(surface, cell, rng), float(surface.minutes[cell]))
        else:
            raise RuntimeError(f"{who} did not spend {budget} minutes in {MOST_PULLS} pulls")
        out.append(surface.best - float(surface.quality[eva.recommend()]))
    return out


def flight_run(family: str, seed: int, who: str, points: tuple[int, ...]) -> list[float]:
    """Regret of EVA after so many results when ``who`` ("8 at once", say) pulls are always under way; 1 at once is ``regret_run``."""
    surface, rng = make_surface(family, seed), np.random.default_rng([seed, 1])
    eva, at_once = Eva(surface.space, seed), int(who.split()[0])
    flying: list[int] = []
    out = []
    for i in range(1, max(points) + 1):
        while len(flying) < at_once:
            flying.append(eva.ask())
        cell = flying.pop(0)
        eva.tell(cell, _score(surface, cell, rng), None)
        if i in points:
            out.append(surface.best - float(surface.quality[eva.recommend()]))
    return out


def human_run(family: str, seed: int, who: str, points: tuple[int, ...]) -> list[float]:
    """Regret of EVA when the automatic score is biased and ``RATED_SHARE`` of the clips is rated later.

    ``who``: "unrated", or "N late" for ratings that arrive N pulls after the clip. The bias has a level and an effect of
    its own for every level of sampler, cfg and steps. Which clips are rated is drawn beforehand, not chosen.
    """
    delay = None if who == "unrated" else int(who.split()[0])
    surface, rng = make_surface(family, seed), np.random.default_rng([seed, 2])
    index = np.stack(np.unravel_index(np.arange(len(surface.quality)), surface.shape), axis=1)
    bias = np.full(len(surface.quality), BIAS_LEVEL)
    for axis in (0, 3, 4):
        bias += (BIAS_SD / np.sqrt(3) * rng.standard_normal(surface.shape[axis]))[index[:, axis]]
    luck, auto, human, rated = (rng.standard_normal(MOST_CLIPS) for _ in range(4))
    is_rated = rated < np.quantile(rated, RATED_SHARE)
    eva = Eva(surface.space, seed)
    waiting: list[tuple[int, int, float]] = []
    out = []
    for i in range(1, max(points) + 1):
        params = eva.bandit.select_params()
        cell = eva.cell(params)
        clip = surface.quality[cell] + surface.noise / np.sqrt(2) * luck[i]
        eva.bandit.update(params, float(np.clip(clip + bias[cell] + surface.noise / np.sqrt(2) * auto[i], 0, 1)), video=str(i))
        if delay is not None and is_rated[i]:
            waiting.append((i + delay, cell, float(np.clip(clip + HUMAN_SD * human[i], 0, 1))))
        while waiting and waiting[0][0] <= i:
            due, rated_cell, rating = waiting.pop(0)
            eva.bandit.update(eva.params(rated_cell), rating, source="human", video=str(due - (delay or 0)))
        if i in points:
            out.append(surface.best - float(surface.quality[eva.recommend()]))
    return out


Run = Callable[[str, int, str, tuple[int, ...]], list[float]]
RUNS: dict[str, Run] = {"regret": regret_run, "minutes": minutes_run, "budget": budget_run, "flight": flight_run, "human": human_run}
