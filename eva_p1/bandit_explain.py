"""What the model believes, in figures a person can use: effects with intervals, bets, and whether to go on.

Every interval is exact for the model: an effect is a weighted sum of cells, and so is its variance.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from eva_state.keys import combo_key

from .bandit_grid import Grid
from .bandit_model import Posterior
from .bandit_value import promising

CLOSE = 0.02  # "as good as the best": below what a person would notice
DRAWS = 256
Z90 = 1.645  # half width of a 90 % interval in sds


def level_text(level: Any) -> str:
    """A level as it stands in combo keys."""
    return f"{level[0]}x{level[1]}" if isinstance(level, tuple) else str(level)


def main_effects(grid: Grid, posterior: Posterior, allowed: np.ndarray) -> list[dict[str, Any]]:
    """How much each level is better than the average of all allowed arms: ``effect`` and 90 % ``low``/``high``, strongest axis first."""
    inside = np.flatnonzero(allowed)
    index = grid.indices(inside)
    base = allowed / len(inside)
    out: list[dict[str, Any]] = []
    for j, name in enumerate(grid.names):
        levels: list[dict[str, Any]] = []
        for i, level in enumerate(grid.levels[j]):
            members = inside[index[:, j] == i]
            if not len(members):
                continue
            weights = -base
            weights[members] += 1.0 / len(members)
            effect, sd = posterior.contrast(weights)
            levels.append({"level": level_text(level), "effect": effect, "sd": sd, "low": effect - Z90 * sd, "high": effect + Z90 * sd})
        levels.sort(key=lambda item: -item["effect"])
        out.append({"axis": name, "spread": levels[0]["effect"] - levels[-1]["effect"], "levels": levels})
    return sorted(out, key=lambda item: -float(item["spread"]))


def interactions(grid: Grid, posterior: Posterior, allowed: np.ndarray, top: int = 8) -> list[dict[str, Any]]:
    """The strongest departures of two levels together from what each does alone, with 90 % intervals.

    Candidates are found on the posterior mean; a departure whose interval is one-sided comes before any that is not.
    """
    inside = np.flatnonzero(allowed)
    index = grid.indices(inside)
    mean = posterior.mean()[inside]
    overall = mean.mean()
    found: list[tuple[float, int, int, int, int]] = []
    for j, k in combinations(range(len(grid.shape)), 2):
        flat = index[:, j] * grid.shape[k] + index[:, k]
        count = np.bincount(flat, minlength=grid.shape[j] * grid.shape[k]).reshape(grid.shape[j], grid.shape[k])
        total = np.bincount(flat, weights=mean, minlength=count.size).reshape(count.shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            cell = total / count
            departure = cell - total.sum(1, keepdims=True) / count.sum(1, keepdims=True) - total.sum(0) / count.sum(0) + overall
        for a, b in zip(*np.nonzero(count)):
            found.append((float(departure[a, b]), j, k, int(a), int(b)))
    found.sort(key=lambda item: -abs(item[0]))
    out: list[dict[str, Any]] = []
    for _, j, k, a, b in found[: 2 * top]:
        weights = np.zeros(grid.size)
        for sign, chosen in (
            (1, (index[:, j] == a) & (index[:, k] == b)),
            (-1, index[:, j] == a),
            (-1, index[:, k] == b),
            (1, np.ones(len(inside), dtype=bool)),
        ):
            weights[inside[chosen]] += sign / chosen.sum()
        effect, sd = posterior.contrast(weights)
        out.append(
            {
                "axes": [grid.names[j], grid.names[k]],
                "levels": [level_text(grid.levels[j][a]), level_text(grid.levels[k][b])],
                "effect": effect,
                "sd": sd,
                "low": effect - Z90 * sd,
                "high": effect + Z90 * sd,
            }
        )
    out.sort(key=lambda item: (abs(item["effect"]) < Z90 * item["sd"], -abs(item["effect"])))
    return out[:top]


def hopeless(
    grid: Grid, posterior: Posterior, allowed: np.ndarray, tries: np.ndarray, threshold: float, least: int
) -> list[dict[str, Any]]:
    """Sampler|scheduler pairs, then single arms, whose upper 95 % bound lies below ``threshold`` after ``least`` results.

    A pair's bound is that of the average over its arms; and a pair is spared while the bound of any arm in it reaches the
    best mean there is: banning it could take the best arm away. ``tries`` counts results per cell, (A,). Items: ``key`` (a
    pattern for a pair), ``mean``, ``high``, ``tries``; worst first.
    """
    index = grid.indices(np.arange(grid.size))
    mean, sd = posterior.mean(), posterior.sd()
    bet, upper = float(mean[allowed].max()), mean + Z90 * sd
    found: list[dict[str, Any]] = []
    covered = np.zeros(grid.size, dtype=bool)
    for a, b in np.ndindex(*grid.shape[:2]):
        members = allowed & (index[:, 0] == a) & (index[:, 1] == b)
        if tries[members].sum() < least or upper[members].max() >= bet:
            continue
        average, error = posterior.contrast(members / members.sum())
        if average + Z90 * error < threshold:
            covered |= members
            key = f"{grid.levels[0][a]}|{grid.levels[1][b]}|*|*|*|*"
            found.append({"key": key, "mean": average, "high": average + Z90 * error, "tries": int(tries[members].sum())})
    for cell in np.flatnonzero(allowed & ~covered & (tries >= least) & (upper < threshold)):
        key = combo_key(grid.params(int(cell)))
        found.append({"key": key, "mean": float(mean[cell]), "high": float(upper[cell]), "tries": int(tries[cell])})
    return sorted(found, key=lambda item: float(item["high"]))


def upper_bound(posterior: Posterior, cell: int) -> float:
    """The quality this cell exceeds with probability 5 %."""
    return float(posterior.mean()[cell] + Z90 * posterior.sd()[cell])


def confidence(posterior: Posterior, cells: np.ndarray, best: int, rng: np.random.Generator) -> dict[str, float]:
    """Is the current best good enough? ``p_close``: probability that no arm beats it by more than CLOSE; ``gap``: expected shortfall.

    From joint draws over the promising arms and a random sample of the others, so that p_close errs a little on the high
    side where thousands of untried arms are alike.
    """
    chosen = promising(posterior, cells, 300, 50)
    others = rng.choice(cells, size=min(150, len(cells)), replace=False)
    chosen = np.unique(np.concatenate([chosen, others, [best]]))
    joint = posterior.joint(chosen)
    lower = np.linalg.cholesky(joint + 1e-9 * np.eye(len(joint)) + 1e-6 * np.diag(np.diag(joint)))
    draws = posterior.mean()[chosen][:, None] + lower @ rng.standard_normal((len(chosen), DRAWS))
    shortfall = draws.max(axis=0) - draws[int(np.searchsorted(chosen, best))]
    return {"p_close": float((shortfall <= CLOSE).mean()), "gap": float(shortfall.mean())}


def advice(p_close: float, gap: float, tries: int) -> str:
    """When to stop, in a sentence."""
    if tries < 10:
        return "Too early to tell: go on."
    if p_close >= 0.9:
        return f"The current best is within {CLOSE} of the true best with probability {p_close:.0%}: stopping is fine."
    return f"Another arm may still be better by about {gap:.2f}: go on."


def best_arms(grid: Grid, posterior: Posterior, cells: np.ndarray, tries: np.ndarray, top: int = 10) -> list[dict[str, Any]]:
    """The ``top`` arms by posterior mean, with 90 % intervals and how often each was tried."""
    mean, sd = posterior.mean()[cells], posterior.sd()[cells]
    order = np.argsort(-mean)[:top]
    out = []
    for i in order:
        out.append(
            {
                **grid.params(int(cells[i])),
                "mean": float(mean[i]),
                "sd": float(sd[i]),
                "low": float(mean[i] - Z90 * sd[i]),
                "high": float(mean[i] + Z90 * sd[i]),
                "tries": int(tries[i]),
            }
        )
    return out
