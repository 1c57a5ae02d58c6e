"""What a history says: which combos did best, what each parameter does, how far scores and people agree.

Reads the items of ``knowledge.json``'s ``history`` (also of older files). Changes nothing.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eva_env_base import StateError
from eva_state import legacy
from eva_state.keys import FIELDS, combo_key, extra_of_key
from eva_state.registers import human_reward

#: Tries a combo's mean is pulled towards the mean of all, so that one lucky try does not lead the list.
PRIOR_TRIES = 2.0
#: Weight of the ridge that keeps effects of rarely tried values small, in tries.
RIDGE = 1.0
MIN_FOR_AGREEMENT = 5


@dataclass(frozen=True)
class Try:
    """One history item, as far as it can be used. ``reward`` in [0,1]: the person's where there is one."""

    combo: str
    video: str
    reward: float
    score: float | None
    human: float | None


@dataclass(frozen=True)
class ComboStat:
    """``mean`` and ``best`` in [0,1]; ``shrunk``: the mean pulled towards that of all, by which combos are ranked."""

    combo: str
    tries: int
    rated: int
    mean: float
    best: float
    shrunk: float


@dataclass(frozen=True)
class Effect:
    """What a value of a parameter adds to the reward, others equal, with its standard error; ``mean`` is the plain mean."""

    value: str
    tries: int
    mean: float
    effect: float
    error: float


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """The history of a ``knowledge.json``. Raises :class:`StateError` naming the file when there is none to read."""
    file = Path(path)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StateError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise StateError(f"{file}: not JSON in UTF-8: {error}") from error
    history = data.get("history") if isinstance(data, dict) else data
    if not isinstance(history, list):
        raise StateError(f'{file}: holds no "history" list')
    return history


class KnowledgeAnalyzer:
    """Summaries of a history. Items that cannot be used are counted with the reason, never guessed at."""

    def __init__(self, history: Iterable[Any]):
        self.tries: list[Try] = []
        self.skipped: dict[str, int] = defaultdict(int)
        for item in history:
            found = read_try(item)
            if isinstance(found, str):
                self.skipped[found] += 1
            else:
                self.tries.append(found)

    def counts(self) -> dict[str, Any]:
        """How much there is: usable entries, rated ones, combos, and what was skipped why."""
        return {
            "entries": len(self.tries),
            "rated": sum(one.human is not None for one in self.tries),
            "combos": len({one.combo for one in self.tries}),
            "skipped": dict(self.skipped),
        }

    def best_combos(self, top: int = 10) -> list[ComboStat]:
        """Combos by shrunk mean, best first."""
        if not self.tries:
            return []
        overall = float(np.mean([one.reward for one in self.tries]))
        groups: dict[str, list[Try]] = defaultdict(list)
        for one in self.tries:
            groups[one.combo].append(one)
        ranked = []
        for combo, members in groups.items():
            rewards = [one.reward for one in members]
            shrunk = (sum(rewards) + PRIOR_TRIES * overall) / (len(rewards) + PRIOR_TRIES)
            rated = sum(one.human is not None for one in members)
            ranked.append(ComboStat(combo, len(rewards), rated, float(np.mean(rewards)), max(rewards), shrunk))
        return sorted(ranked, key=lambda stat: (-stat.shrunk, stat.combo))[:top]

    def main_effects(self) -> dict[str, list[Effect]]:
        """For each parameter with at least two values, what each adds, others equal, best first.

        A ridge regression of the reward on one-hot parameters: where only good samplers were tried with many steps, plain
        means would give the steps the samplers' credit.
        """
        columns: list[tuple[str, str]] = []
        found = [{**dict(zip(FIELDS, one.combo.split("|"))), **extra_of_key(one.combo)} for one in self.tries]
        for name in dict.fromkeys(name for fields in found for name in fields):
            values = sorted({fields[name] for fields in found if name in fields})
            if len(values) >= 2:
                columns += [(name, value) for value in values]
        if not columns:
            return {}
        design = np.array([[float(fields.get(name) == value) for name, value in columns] for fields in found])
        rewards = np.array([one.reward for one in self.tries])
        effects, errors = _ridge(design, rewards - rewards.mean())
        result: dict[str, list[Effect]] = defaultdict(list)
        for index, (name, value) in enumerate(columns):
            member = design[:, index] > 0
            result[name].append(
                Effect(value, int(member.sum()), float(rewards[member].mean()), float(effects[index]), float(errors[index]))
            )
        return {name: sorted(items, key=lambda effect: -effect.effect) for name, items in result.items()}

    def agreement(self) -> dict[str, Any] | None:
        """Rank correlation of automatic scores with people's, and the mean difference; ``None`` with too few of both."""
        both = [(one.score, one.human) for one in self.tries if one.score is not None and one.human is not None]
        if len(both) < MIN_FOR_AGREEMENT:
            return None
        scores, humans = np.array(both, dtype=float).T
        if np.ptp(scores) == 0 or np.ptp(humans) == 0:
            return None
        correlation = stats.spearmanr(scores, humans).statistic
        return {"clips": len(both), "rank_correlation": float(correlation), "score_minus_human": float((scores - humans).mean())}

    def report(self, top: int = 10) -> dict[str, Any]:
        """All of it, ready for JSON."""
        best = max(self.tries, key=lambda one: one.reward, default=None)
        return {
            "counts": self.counts(),
            "best_clip": None if best is None else asdict(best),
            "best_combos": [asdict(stat) for stat in self.best_combos(top)],
            "main_effects": {name: [asdict(effect) for effect in effects] for name, effects in self.main_effects().items()},
            "agreement": self.agreement(),
        }


def read_try(item: Any) -> Try | str:
    """A history item as :class:`Try`, or why it cannot be one."""
    if not isinstance(item, Mapping):
        return "not an object"
    params = item.get("params")
    if not isinstance(params, Mapping):
        return "no params"
    if params.get("size") and not params.get("width") and isinstance(params["size"], Sequence) and len(params["size"]) == 2:
        params = {**params, "width": params["size"][0], "height": params["size"][1]}
    try:
        combo = combo_key(params)
    except ValueError:
        return "params without a combo"
    human = _human_reward(item.get("manual_rating"))
    score = _unit(item.get("score"))
    if score is None:
        metrics = item.get("metrics")
        score = _unit(metrics.get("overall")) if isinstance(metrics, Mapping) else None
    reward = human if human is not None else score
    if reward is None:
        return "neither score nor rating"
    return Try(combo, str(item.get("video") or item.get("video_path") or ""), reward, score, human)


def _human_reward(rating: Any) -> float | None:
    """(q - 1) / 9 of a rating, in any form older files use, or a bare number; ``None`` where there is none."""
    if isinstance(rating, Mapping) and isinstance(rating.get("rating"), Mapping):
        rating = rating["rating"]
    found = legacy.rating(dict(rating) if isinstance(rating, Mapping) else {"overall_quality": rating})
    return None if found is None else human_reward(found)


def _unit(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= 1:
        return None
    return float(value)


def _ridge(design: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and their standard errors of a ridge regression with weight ``RIDGE``; shapes (columns,)."""
    gram = design.T @ design + RIDGE * np.eye(design.shape[1])
    inverse = np.linalg.inv(gram)
    weights = inverse @ (design.T @ target)
    residual = target - design @ weights
    used = float(np.trace(design @ inverse @ design.T))
    variance = float(residual @ residual) / max(1.0, len(target) - used)
    return weights, np.sqrt(variance * np.diag(inverse))
