"""Learning the hyperparameters again beside the choices, so that none of them waits for it.

With a thousand results on 200,000 arms learning takes seconds. It runs on copies of the rows in a thread of its own; when it
is done, the next result brings the new posterior in line with what happened meanwhile and takes it over. Choices made in the
meantime use the old hyperparameters and all results.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import numpy as np

from .bandit_fit import fit_theta
from .bandit_grid import Grid
from .bandit_model import Posterior

logger = logging.getLogger(__name__)
SMALL = 3_000_000  # rows x cells up to which learning takes a fraction of a second, and is done at once
SMALL_ROWS = 150


def worth_a_thread(posterior: Posterior) -> bool:
    """True when learning again would keep a choice waiting."""
    return len(posterior) > SMALL_ROWS or len(posterior) * posterior.grid.size > SMALL


class Refit:
    """One learning under way. The rows are copied at the start; nothing here touches the posterior in use."""

    def __init__(self, posterior: Posterior, theta: np.ndarray, seed: int, rater: tuple[float, int] | None):
        self.grid: Grid = posterior.grid
        self._theta, self._seed, self._rater = theta, seed, rater
        self._rows = [(row_id, replace(row)) for row_id, row in posterior.items()]
        self._made: Posterior | None = None
        self._thread = threading.Thread(target=self._learn, name="bandit-refit", daemon=True)
        self._thread.start()

    def _learn(self) -> None:
        rng = np.random.default_rng(self._seed)
        try:
            theta = fit_theta(self.grid, [row for _, row in self._rows], self._theta, rng, rater=self._rater)
            self._made = Posterior.of(self.grid, theta, self._rows)
        except Exception:  # a thread has no caller to raise to; the old hyperparameters stay in use
            logger.exception("learning the bandit's hyperparameters failed; the earlier ones stay in use")

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> None:
        """Until it is done."""
        self._thread.join()

    def take_over(self, old: Posterior) -> Posterior:
        """The posterior to use from now on: with what was learned, and all rows of ``old``.

        ``old`` itself when learning failed, or when its rows changed in a way that would take longer to follow than to
        learn again (another grid, the first rating).
        """
        if self._made is None or old.grid is not self.grid or not self._made.follow(old):
            return old
        return self._made
