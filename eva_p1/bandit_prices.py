"""Prices inside the bandit: what a try of any combo is expected to cost, and which combos fit into what is left to spend."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from .bandit_cost import CostModel
from .bandit_grid import Grid
from .bandit_learner import Learner
from .bandit_records import Ledger, key_from

LATEST = 400  # tries whose prices are learned: hundreds settle every coefficient, and servers change with time
PROBES = 20  # with nothing known of prices and a budget that physics calls too small, the first try is one of this many cheapest


class NothingFits(ValueError):
    """No combo is expected to fit into what is left; ``cheapest``: expected minutes of the cheapest."""

    def __init__(self, within: float, cheapest: float):
        super().__init__(f"the cheapest try is expected to take {cheapest:.2g} GPU minutes, {max(0.0, within):.2g} are left")
        self.cheapest = cheapest


class BanditPrices:
    """The part of :class:`eva_p1.multi_bandit.MultiDimensionalBandit` that knows prices."""

    _lock: threading.RLock
    _ledger: Ledger
    _learner: Learner
    _priced: tuple[Grid, tuple[int, float], CostModel] | None = None

    def _settle(self) -> None:
        raise NotImplementedError

    def _cost_model(self) -> CostModel:
        """Learned from the latest clips whose price was told; what a failure cost before it broke off is not the price of a try."""
        paid = [clip for clip in self._ledger.clips if clip.cost_minutes]
        mark = (len(paid), math.fsum(clip.cost_minutes or 0.0 for clip in paid))
        if self._priced is not None and self._priced[0] is self._learner.grid and self._priced[1] == mark:
            return self._priced[2]
        model = CostModel(self._learner.grid)
        placed = [(cell, clip) for clip in paid[-LATEST:] if (cell := self._learner.cell_of(clip.key)) is not None]
        if placed:
            minutes = [clip.cost_minutes or 0.0 for _, clip in placed]
            model.learn([cell for cell, _ in placed], minutes, [clip.seconds for _, clip in placed], [clip.server for _, clip in placed])
        self._priced = (self._learner.grid, mark, model)
        return model

    def _placed(self, key: str) -> int:
        """The cell that stands for a combo. ValueError where a name in it was never heard of."""
        cell = self._learner.cell_of(key)
        if cell is None:
            raise ValueError(f"{key}: a name in it is in neither the search space nor any result")
        return cell

    def expected_minutes(self, params: Mapping[str, Any] | str, seconds: float | None = None, server: str | None = None) -> float:
        """Expected GPU minutes of a try with clips of ``seconds`` on ``server``. ValueError for a combo that cannot be placed."""
        key = key_from(params)
        with self._lock:
            self._settle()
            cell = self._placed(key)
            return float(self._cost_model().minutes(np.array([cell]), seconds, server)[0])

    @property
    def prices_known(self) -> int:
        """Number of tries whose price is known; with none, expectations are physics and may be off by a factor of ten."""
        with self._lock:
            return self._cost_model().observed

    def _affordable(self, cells: np.ndarray, within: float, probe: bool, seconds: float | None, server: str | None) -> np.ndarray:
        """Those of ``cells`` expected to take at most ``within`` minutes. With nothing known, ``probe`` allows some of the cheapest.

        Raises :class:`NothingFits` where there are none.
        """
        model = self._cost_model()
        minutes = model.minutes(cells, seconds, server)
        fitting = cells[minutes <= within]
        if len(fitting):
            return fitting
        if probe and not model.observed and within > 0:
            return np.sort(cells[np.argsort(minutes, kind="stable")[:PROBES]])
        raise NothingFits(within, float(minutes.min()))
