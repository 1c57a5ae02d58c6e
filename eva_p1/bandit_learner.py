"""Keeps the model in step with the ledger: every judgement of a clip, comparison and pull in flight is a row.

The ledger is what is known, the model what follows from it; the model can be made anew from the ledger at any time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eva_state.keys import combo_key

from .bandit_fit import fit_theta
from .bandit_grid import Grid, build_grid, point_of_key
from .bandit_kernel import AUTO, COMPARISON, HUMAN, Layout, carry_theta, prior_of_theta
from .bandit_model import Posterior
from .bandit_records import Clip, Comparison, Ledger
from .bandit_refit import Refit, worth_a_thread
from .bandit_rows import Row
from .bandit_state import PairEvidence
from .search_space import AXES, SearchSpace, params_of, point_of

logger = logging.getLogger(__name__)
PAIR_SPREAD = 0.02  # variance added to evidence on a sampler|scheduler pair, whose other parameters nobody wrote down
FIRST_FIT = 6  # rows before hyperparameters are learned at all
BOTH_BAD = 2 / 9  # the human reward (3 of 10) that "both bad" stands for
JUDGE_SD = 0.05  # doubt of a person comparing two clips, in reward units, beside the clips' own luck


class Learner:
    """Grid, posterior and the map from clips to rows. Not thread-safe: the bandit holds its lock."""

    def __init__(self, ledger: Ledger, pairs: Sequence[PairEvidence], space: SearchSpace, rng: np.random.Generator, learn: bool = False):
        self._ledger, self._pairs, self._rng = ledger, pairs, rng
        self._beyond: set[str] = set()  # combos for which the grid has no room
        self.flight: list[tuple[str, int]] = []  # (key, row id) of every pull without a result, oldest first
        self._theta = prior_of_theta(Layout(len(AXES)))[0]
        self._axes: tuple[str, ...] = AXES
        self._next_fit = FIRST_FIT
        self._rater: tuple[float, int] | None = None  # what repeated ratings say about a person's error: (sd, how many)
        self._refit: Refit | None = None
        self.build(space, learn=learn)

    # ------------------------------------------------------------ grid
    def build(self, space: SearchSpace, extra: Sequence[tuple[Any, ...]] = (), learn: bool = False) -> None:
        """Grid and model anew, from the ledger and the pulls in flight.

        ``learn``: with hyperparameters learned again, if that is due. They come first: the model is made once, with them.
        """
        self.space = space
        flying = [key for key, _ in self.flight]
        keys = [clip.key for clip in self._ledger.clips] + [failure.key for failure in self._ledger.failures] + flying
        points = [*extra, *(point_of_key(key, space.dimensions) for key in keys)]
        self.grid: Grid = build_grid(space, [point for point in points if _usable(point)])
        self._theta, self._axes = carry_theta(self._theta, self._axes, self.grid.names), self.grid.names
        self._cells: dict[str, int | None] = {}
        self._rows: dict[tuple[int, str], int] = {}
        rows, owners = [], []
        for clip in self._ledger.clips:
            for source in ("auto", "human"):
                row = self._judgement(clip, source)
                if row is not None:
                    rows.append(row)
                    owners.append((clip.number, source))
        for pair in self._pairs:
            middle = (levels[len(levels) // 2] for levels in self.grid.levels[2:])
            cell = self.grid.nearest_cell((pair.sampler, pair.scheduler, *middle))
            if cell is not None:
                rows.append(Row(cell, AUTO, -1, pair.mean, pair.count, PAIR_SPREAD))
        if self._refit is not None:
            self._refit, self._next_fit = None, 0  # it learns for a grid that is gone
        if learn and self._due(len(rows) + len(self._ledger.comparisons)):
            self._theta = fit_theta(self.grid, rows, self._theta, self._rng, rater=self._rater)
        self.posterior = Posterior(self.grid, self._theta)
        ids = self.posterior.add_many(rows) if rows else []
        self._rows.update(zip(owners, ids))
        self._compared: dict[str, list[int]] = {}
        for comparison in self._ledger.comparisons.values():
            self.compare(comparison)
        self.flight = []
        for key in flying:
            cell = self.cell_of(key)
            if cell is not None:
                self.flight.append((key, self.posterior.add(Row(cell))))

    def cell_of(self, key: str) -> int | None:
        """The cell that stands for a combo key: its own, or the nearest where the grid could not hold its levels."""
        if key not in self._cells:
            point = self.grid.point_of(key)
            self._cells[key] = self.grid.nearest_cell(point) if _usable(point) else None
        return self._cells[key]

    def widen_for(self, params: Mapping[str, Any]) -> None:
        """Makes the grid hold these params, as far as its size allows."""
        point_of(params)
        point = self.grid.point_of(combo_key(params))
        if self.grid.cell(point) is None and combo_key(params) not in self._beyond:
            self.build(self.space, [point])
            if self.grid.cell(point) is None:
                self._beyond.add(combo_key(params))

    # ------------------------------------------------------------ rows
    def take_off(self, key: str, cell: int) -> None:
        """A pull of this combo is in flight."""
        self.flight.append((key, self.posterior.add(Row(cell))))

    def land(self, key: str) -> bool:
        """The oldest pull of this combo is no longer in flight; False when there was none."""
        for i, (flying, row_id) in enumerate(self.flight):
            if flying == key:
                del self.flight[i]
                self.posterior.remove(row_id)
                return True
        return False

    def arrive(self, clip: Clip) -> bool:
        """The oldest pull of this new clip's combo gave the clip; False when none was in flight."""
        for i, (flying, row_id) in enumerate(self.flight):
            if flying == clip.key:
                del self.flight[i]
                if clip.auto is None:
                    self.posterior.remove(row_id)
                else:
                    self.posterior.finish(row_id, clip.number, clip.auto)
                    self._rows[clip.number, "auto"] = row_id
                return True
        return False

    def _judgement(self, clip: Clip, source: str) -> Row | None:
        value, cell = getattr(clip, source), self.cell_of(clip.key)
        if value is None or cell is None:
            return None
        return Row(cell, HUMAN if source == "human" else AUTO, clip.number, value, clip.count)

    def judged(self, clip: Clip, source: str) -> None:
        """Brings the row of one judgement up to date with the ledger: new, changed, or taken away."""
        known = self._rows.get((clip.number, source))
        row = self._judgement(clip, source)
        if known is not None and row is not None:
            self.posterior.set_value(known, row.value)
        elif known is not None:
            self.posterior.remove(self._rows.pop((clip.number, source)))
        elif row is not None:
            self._rows[clip.number, source] = self.posterior.add(row)

    def compare(self, comparison: Comparison) -> None:
        """Adds what a comparison says about the two combos (Thurstone 1927 with Gaussian noise).

        P(left wins) = Phi(difference / s). Its likelihood is replaced by the Gaussian that gives the same posterior mean
        and variance of the difference (assumed density filtering; Minka 2001, ch. 3), so that it is a row like any other.
        """
        left, right = self.cell_of(comparison.left), self.cell_of(comparison.right)
        rows: list[Row] = []
        if left is not None and right is not None:
            luck = 2 * self.posterior.kernel.vz
            if comparison.winner == "both_bad":
                rows = [Row(cell, HUMAN, -1, BOTH_BAD, extra=0.15**2) for cell in (left, right)]
            elif left != right:
                rows = [self._difference(left, right, comparison.winner, luck)]
        self._compared[comparison.id] = [self.posterior.add(row) for row in rows]

    def _difference(self, left: int, right: int, winner: str, luck: float) -> Row:
        noise = luck + 2 * JUDGE_SD**2
        if winner == "tie":
            return Row(left, COMPARISON, -1, 0.0, extra=noise, minus=right)
        if winner == "right":
            left, right = right, left
        pair = np.array([left, right])
        joint = self.posterior.joint(pair)
        mean = float(self.posterior.mean()[left] - self.posterior.mean()[right])
        var = max(float(joint[0, 0] + joint[1, 1] - 2 * joint[0, 1]), 1e-9)
        total = var + noise
        t = mean / math.sqrt(total)
        from scipy.special import log_ndtr

        ratio = math.exp(-0.5 * t * t - 0.5 * math.log(2 * math.pi) - float(log_ndtr(t)))
        after_mean = mean + var * ratio / math.sqrt(total)
        after_var = var - var * var / total * ratio * (ratio + t)
        site_var = 1.0 / max(1.0 / after_var - 1.0 / var, 1e-6)
        return Row(left, COMPARISON, -1, site_var * (after_mean / after_var - mean / var), extra=site_var, minus=right)

    def uncompare(self, comparison_id: str) -> None:
        for row_id in self._compared.pop(comparison_id, []):
            self.posterior.remove(row_id)

    # ------------------------------------------------------------ hyperparameters
    def refit_if_due(self, beside: bool = False) -> None:
        """Learns the hyperparameters again once a sixth more results are there than at the last time.

        ``beside``: in a thread of its own where it takes long; :meth:`catch_up` takes over what it found.
        """
        self.catch_up()
        if self._refit is not None or not self._due(sum(row.value is not None for row in self.posterior.rows)):
            return
        if beside and worth_a_thread(self.posterior):
            self._refit = Refit(self.posterior, self._theta, int(self._rng.integers(2**32)), self._rater)
            return
        self._theta = fit_theta(self.grid, self.posterior.rows, self._theta, self._rng, rater=self._rater)
        self.posterior.rebuild(self._theta)

    def _due(self, done: int) -> bool:
        """Whether ``done`` judgements are enough to learn again; then the next time is a sixth more of them away."""
        if done < self._next_fit:
            return False
        self._next_fit = done + max(3, done // 6)
        return True

    def catch_up(self, wait: bool = False) -> None:
        """Takes over hyperparameters that were learned beside the choices, if they are ready (``wait``: once they are)."""
        if self._refit is None or self._refit.running and not wait:
            return
        self._refit.wait()
        made = self._refit.take_over(self.posterior)
        if made is not self.posterior:
            self.posterior, self._theta = made, made.kernel.theta
        else:
            self._next_fit = 0  # nothing came of it: again at the next result
        self._refit = None

    def set_rater_noise(self, sd: float, count: int) -> None:
        """Prior knowledge of the human rater's error; see ``MultiDimensionalBandit.set_rater_noise``."""
        if self._rater != (sd, count):
            self._rater, self._next_fit = (sd, count), 0

    def row_of(self, clip: Clip, judge: int) -> int | None:
        """The row id of one judgement of a clip, or None."""
        return self._rows.get((clip.number, "human" if judge == HUMAN else "auto"))


def _usable(point: Sequence[Any]) -> bool:
    """False for the point of an old key whose numbers no combo can have (fps 0, say): kept in the file, not in the model."""
    try:
        point_of(params_of(point[: len(AXES)]))
    except ValueError:
        return False
    return True
