"""What may be asked of a bandit without changing it: the bet, figures, explanations, which clip to rate next."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .bandit_explain import advice, best_arms, confidence, hopeless, interactions, main_effects, upper_bound
from .bandit_failures import success_probability
from .bandit_kernel import AUTO, HUMAN
from .bandit_learner import Learner
from .bandit_policies import MODEL_POLICIES, Choice, bound_index
from .bandit_prices import BanditPrices
from .bandit_records import AUTOBAN_MEAN, AUTOBAN_TRIES, POSTERIOR_TRIES, Ledger, key_from, total_cost
from .bandit_taste import Check, check
from .bandit_value import value_of_rating
from .search_space import SearchSpace


class BanditReads(BanditPrices):
    """The reading half of :class:`eva_p1.multi_bandit.MultiDimensionalBandit`."""

    _lock: threading.RLock
    _rng: np.random.Generator
    _ledger: Ledger
    _stale: bool  # the model does not follow the ledger just now
    _learner: Learner
    _allowed: np.ndarray
    _policy_name: str
    _beta: float
    _exponent: float

    def _settle(self) -> None:
        raise NotImplementedError

    # ------------------------------------------------------------ for the policies
    def _counts(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tries, finished and running, and sum of rewards of each of these cells."""
        grid, ledger = self._learner.grid, self._ledger
        tries, total = np.zeros(grid.size), np.zeros(grid.size)
        for key, stats in ledger.stats().items():
            cell = self._learner.cell_of(key)
            if cell is not None:
                tries[cell] += stats["N"]
                total[cell] += stats["S"]
        for key in [key for key, _ in self._learner.flight] + [failure.key for failure in ledger.failures]:
            cell = self._learner.cell_of(key)
            if cell is not None:
                tries[cell] += 1
        return tries[cells], total[cells]

    def _choice(self, cells: np.ndarray) -> Choice:
        success = success_probability(self._learner.grid, self._ledger)[cells]
        cost = self._cost_model() if self._exponent else None
        minutes = cost.minutes(cells) if cost is not None and cost.observed else None
        counts = partial(self._counts, cells)
        return Choice(cells, self._rng, self._learner.posterior, counts, success, minutes, self._exponent, self._beta)

    # ------------------------------------------------------------ the bet
    def recommend(self) -> dict[str, Any]:
        """The params it would bet on now: highest posterior mean among the arms, with ``mean`` and ``sd``."""
        with self._lock:
            self._settle()
            cells = np.flatnonzero(self._allowed)
            mean, sd = self._estimates(cells)
            best = int(np.argmax(mean))
            params = self._learner.grid.params(int(cells[best]))
            return {**params, "mean": float(np.clip(mean[best], 0.0, 1.0)), "sd": float(sd[best])}

    def _estimates(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._policy_name in MODEL_POLICIES:
            choice_success = success_probability(self._learner.grid, self._ledger)[cells]
            mean = self._learner.posterior.mean()[cells]
            return np.where(choice_success > 0.5, mean, mean * choice_success), self._learner.posterior.sd()[cells]
        tries, total = self._counts(cells)
        count = np.maximum(tries, 1)
        return np.where(total > 0, total / count, 0.0), 0.5 / np.sqrt(count)

    def predict(self, params: Mapping[str, Any] | str) -> dict[str, float]:
        """``mean`` and ``sd`` of a combo's quality; expected ``minutes`` and chance of ``success`` of a try.

        Raises ValueError for a combo that cannot be placed: a name in it was never heard of.
        """
        key = key_from(params)
        with self._lock:
            self._settle()
            cell = self._placed(key)
            at = np.array([cell])
            return {
                "mean": float(self._learner.posterior.mean()[cell]),
                "sd": float(self._learner.posterior.sd()[cell]),
                "minutes": float(self._cost_model().minutes(at)[0]),
                "success": float(success_probability(self._learner.grid, self._ledger)[cell]),
            }

    # ------------------------------------------------------------ figures
    @property
    def space(self) -> SearchSpace:
        """The search space in use."""
        return self._learner.space

    @property
    def arm_count(self) -> int:
        """Combos of the space."""
        return self._learner.space.arm_count

    @property
    def arms_left(self) -> int:
        """Combos of the space that are not banned."""
        with self._lock:
            return int(self._allowed.sum())

    @property
    def bans(self) -> dict[str, str]:
        """``{key or pattern: reason}``."""
        with self._lock:
            return dict(self._ledger.bans)

    @property
    def in_flight(self) -> list[str]:
        """Keys of the pulls that have no result yet, oldest first."""
        with self._lock:
            return [key for key, _ in self._learner.flight]

    def stats(self) -> dict[str, dict[str, Any]]:
        """``{key: {"N", "S", "scores"}}`` of every combo with a reward."""
        with self._lock:
            return self._ledger.stats()

    def status(self) -> dict[str, Any]:
        """Figures for a status line; cheap."""
        with self._lock:
            tried = Counter(clip.key for clip in self._ledger.clips)
            minutes = total_cost(self._ledger.clips, self._ledger.failures)
            return {
                "policy": self._policy_name,
                "tries": self._ledger.t,
                "combos_tried": len(tried),
                "rated": sum(clip.human is not None for clip in self._ledger.clips),
                "failures": len(self._ledger.failures),
                "in_flight": len(self._learner.flight),
                "arms": self.arm_count,
                "arms_left": self.arms_left,
                "bans": len(self._ledger.bans),
                "minutes": minutes,
                "recommended": self.recommend(),
            }

    # ------------------------------------------------------------ explanations
    def explain(self, top: int = 10) -> dict[str, Any]:
        """What was learned and what comes next, for people and programs.

        ``best`` arms and ``main_effects`` and ``interactions`` with 90 % intervals; ``p_close``: probability that the
        bet is within 0.02 of the true best; ``gap``: what is expected to be missing; ``next``: the arm with the highest
        bound for its price, and why; ``cost``: minutes paid and per 0.01 of improvement; ``advice``: a sentence.
        """
        with self._lock:
            self._settle()
            grid, posterior = self._learner.grid, self._learner.posterior
            cells = np.flatnonzero(self._allowed)
            choice = self._choice(cells)
            mean, sd = posterior.mean()[cells], posterior.sd()[cells]
            best = int(np.argmax(mean))
            # Its own generator: explaining must not change what is chosen next.
            sure = confidence(posterior, cells, int(cells[best]), np.random.default_rng(self._ledger.t))
            upper = int(np.argmax(bound_index(choice)))
            out = {
                **self.status(),
                "best": best_arms(grid, posterior, cells, self._results()[cells], top),
                "main_effects": main_effects(grid, posterior, self._allowed),
                "interactions": interactions(grid, posterior, self._allowed),
                **sure,
                "next": {
                    **grid.params(int(cells[upper])),
                    "mean": float(mean[upper]),
                    "sd": float(sd[upper]),
                    "why": _why(mean, sd, upper, best, choice.minutes),
                },
                "cost": self._cost_figures(float(mean[best])),
            }
            out["advice"] = advice(sure["p_close"], sure["gap"], self._ledger.t)
            return out

    def ban_suggestions(self, threshold: float = AUTOBAN_MEAN, least: int = AUTOBAN_TRIES) -> list[dict[str, Any]]:
        """Pairs and combos that are almost surely bad: upper 95 % bound below ``threshold`` after ``least`` tries.

        Nothing is banned by this: it is for a person, or a policy, to decide. See ``bandit_explain.hopeless``.
        """
        with self._lock:
            self._settle()
            return hopeless(self._learner.grid, self._learner.posterior, self._allowed, self._results(), threshold, least)

    def _results(self) -> np.ndarray:
        """Judged clips of every cell, (A,): a pull in flight or a failure says nothing about quality."""
        results = np.zeros(self._learner.grid.size)
        for key, stats in self._ledger.stats().items():
            cell = self._learner.cell_of(key)
            if cell is not None:
                results[cell] += stats["N"]
        return results

    def _posterior_reason(self, key: str, cell: int | None) -> str | None:
        """Why the model bans this combo now, or None: enough tries, and its upper 95 % bound below what is worth trying."""
        if self._stale or cell is None or not self._ledger.tried_enough(key, POSTERIOR_TRIES):
            return None
        high = upper_bound(self._learner.posterior, cell)
        if high >= AUTOBAN_MEAN:
            return None
        return f"autoban: {len(self._ledger.scores(key, here=True))} tries, upper 95 % bound {high:.2f} < {AUTOBAN_MEAN}"

    def _cost_figures(self, bet: float) -> dict[str, float | None]:
        """Minutes paid, and per 0.01 by which the bet is better than the average try of the first five."""
        paid = total_cost(self._ledger.clips, self._ledger.failures)
        first = [clip.reward for clip in self._ledger.clips[:5] if clip.reward is not None]
        gained = bet - float(np.mean(first)) if first else 0.0
        return {"minutes": paid, "gained": gained, "minutes_per_hundredth": paid / (100 * gained) if gained > 0.005 and paid else None}

    def rating_order(self, videos: Sequence[str] | None = None) -> list[tuple[str, float]]:
        """Unrated clips, most worth a person's rating first, with the expected gain (reward units) of rating each.

        ``videos`` restricts to these names. Clips the bandit does not know are left out.
        """
        with self._lock:
            self._settle()
            wanted = None if videos is None else set(videos)
            waiting = [
                (clip.video, row)
                for clip in self._ledger.clips
                if clip.video is not None and clip.human is None and (wanted is None or clip.video in wanted)
                if (row := self._learner.row_of(clip, AUTO)) is not None
            ]
            if not waiting:
                return []
            gain = value_of_rating(self._learner.posterior, np.flatnonzero(self._allowed), [row for _, row in waiting])
            order = np.argsort(-gain, kind="stable")
            return [(str(waiting[i][0]), float(gain[i])) for i in order]

    # ------------------------------------------------------------ a person's taste
    def predicted_ratings(self) -> dict[str, tuple[float, float]]:
        """Mean and sd, in reward units, of the rating each clip is expected to get; of a rated clip as if it were not rated.

        Nothing without ratings. Whether they are any good tells :meth:`taste_check`.
        """
        with self._lock:
            self._settle()
            found: list[tuple[str, int]] = []
            for clip in self._ledger.clips if any(clip.human is not None for clip in self._ledger.clips) else ():
                row = self._learner.row_of(clip, AUTO if clip.human is None else HUMAN)
                if clip.video is not None and row is not None:
                    found.append((clip.video, row))
            if not found:
                return {}
            mean, sd = self._learner.posterior.expected_ratings([row for _, row in found])
            return {name: (float(mean[i]), float(sd[i])) for i, (name, _) in enumerate(found)}

    def rated_count(self) -> int:
        """Clips with a human reward."""
        with self._lock:
            return sum(clip.human is not None for clip in self._ledger.clips)

    def taste_check(self, stopped: Callable[[], bool] = lambda: False) -> Check | None:
        """How far predictions are from ratings they have not seen (``bandit_taste``). Takes seconds, without the lock."""
        with self._lock:
            self._settle()
            grid, rows, seed = self._learner.grid, [replace(row) for row in self._learner.posterior.rows], self._ledger.t
        return check(grid, rows, np.random.default_rng(seed), stopped)


def _why(mean: np.ndarray, sd: np.ndarray, chosen: int, best: int, minutes: np.ndarray | None) -> str:
    if chosen == best:
        return "it is the current best, and a further try makes that surer"
    if minutes is not None and minutes[chosen] < 0.7 * minutes[best]:
        paid, usual = (f"{value:.1f}" if value >= 1 else f"{value:.1g}" for value in (minutes[chosen], minutes[best]))
        price = f", for {paid} minutes instead of {usual}"
    else:
        price = ""
    if sd[chosen] > 1.5 * sd[best]:
        return f"little is known there (sd {sd[chosen]:.3f} against {sd[best]:.3f} at the best): it may be better{price}"
    return f"its mean is {mean[chosen]:.3f} against {mean[best]:.3f} at the best, and it may turn out higher{price}"
