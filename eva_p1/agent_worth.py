"""What a run was worth: how much better the bet became, and what an improvement cost."""

from __future__ import annotations

from typing import Any

FIRST = 5  # with nothing learned before, the run is measured against the mean of its first clips
LEAST_GAIN = 0.005  # reward units: below it "minutes per 0.01" would be a number made of noise


class Worth:
    """Begun before a run's first choice. Not thread-safe: the ledger's lock is held around every call."""

    def __init__(self, bandit: Any):
        self._bandit = bandit
        self._first: list[float] = []
        self._before: dict[str, Any] | None = None
        if bandit.status()["tries"]:
            self._before = _bet(bandit)

    def scored(self, reward: float) -> None:
        """A clip of this run was scored."""
        if len(self._first) < FIRST:
            self._first.append(reward)

    def report(self, minutes: float) -> dict[str, float | None]:
        """``gained``: expected reward of the bet now less that of the bet before the run, both as the model sees them now, or less the
        mean of the first clips where nothing was known before; ``minutes_per_hundredth``: ``minutes`` per 0.01 gained, None for no gain."""
        bet = _bet(self._bandit)
        if bet is None or not (self._before or self._first):
            return {"gained": None, "minutes_per_hundredth": None}
        before = self._bandit.predict(self._before)["mean"] if self._before else sum(self._first) / len(self._first)
        gained = float(self._bandit.predict(bet)["mean"] - before)
        return {"gained": gained, "minutes_per_hundredth": minutes / (100 * gained) if gained >= LEAST_GAIN and minutes else None}


def _bet(bandit: Any) -> dict[str, Any] | None:
    try:
        bet = dict(bandit.recommend())
    except ValueError:  # every combo is banned
        return None
    del bet["mean"], bet["sd"]
    return bet
