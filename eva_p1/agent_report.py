"""What the bandit knows, put into one JSON file for everybody who has no model at hand: ``bandit_report.json``.

It is a live file like ``agent_status.json``, no part of the truth; ``docs/state.md`` has its fields. The agent writes it, the review
server serves it as it is, ``--status`` makes the same report from the state.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eva_p1.bandit_explain import CLOSE
from eva_state.keys import combo_key

log = logging.getLogger(__name__)
REPORT_NAME = "bandit_report.json"
PAUSE = 5.0  # seconds between two versions at least ...
SHARE = 0.03  # ... and so long that making them takes at most this share of a core
SUGGESTIONS, UNDER_WAY = 20, 8
_FIGURES = ("policy", "tries", "combos_tried", "rated", "failures", "arms", "arms_left", "bans", "p_close", "gap", "advice", "cost")
_ESTIMATE = ("mean", "sd", "low", "high", "tries")


def bandit_report(bandit: Any, budget: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``MultiDimensionalBandit.explain`` and its suggestions, by combo key. ``budget``: the run's ``Spend.report``.

    Raises ValueError where nothing is left to try.
    """
    told = bandit.explain()
    return {
        **{name: told[name] for name in _FIGURES},
        "close": CLOSE,
        "best": [{"combo_key": combo_key(arm), **{name: arm[name] for name in _ESTIMATE}} for arm in told["best"]],
        "main_effects": told["main_effects"],
        "interactions": told["interactions"],
        "next": {"combo_key": combo_key(told["next"]), **{name: told["next"][name] for name in ("mean", "sd", "why")}},
        "under_way": [_expected(bandit, key) for key in bandit.in_flight[:UNDER_WAY]],
        "ban_suggestions": suggestions(bandit),
        "budget": dict(budget) if budget is not None else None,
    }


def _expected(bandit: Any, key: str) -> dict[str, Any]:
    try:
        told = bandit.predict(key)
    except ValueError:  # a prompt of an earlier run, of a name this space never heard of
        return {"combo_key": key, "mean": None, "sd": None}
    return {"combo_key": key, "mean": told["mean"], "sd": told["sd"]}


def suggestions(bandit: Any) -> list[dict[str, Any]]:
    """What a person may want to ban, with the evidence; worst first. Nothing is banned by this.

    ``key`` (a pattern for a pair), ``tries``, ``mean`` and ``best`` of their rewards, ``expected`` and its upper 95 % bound ``upper``,
    ``arms`` it would take, ``reason`` in a sentence.
    """
    out = []
    for item in bandit.ban_suggestions()[:SUGGESTIONS]:
        seen = bandit.ban_preview(item["key"])
        if not seen["arms_left"] or seen["mean"] is None:
            continue
        found = {"key": item["key"], "tries": seen["tries"], "mean": seen["mean"], "best": seen["best"]}
        found |= {"expected": item["mean"], "upper": item["high"], "arms": seen["arms"]}
        rewards = f"{seen['tries']} tries, mean {seen['mean']:.2f}, best {seen['best']:.2f}"
        found["reason"] = f"{rewards}; with 95 % probability it is worth at most {item['high']:.2f}"
        out.append(found)
    return out


class ReportWriter:
    """Writes the report whenever something was learned, but not too often. Called from one thread."""

    def __init__(self, store: Any, bandit: Any, path: Path, write: Callable[[Path, dict[str, Any]], None], clock: Callable[[], float]):
        self._store, self._bandit, self._path, self._write, self._clock = store, bandit, path, write, clock
        self._version = -1
        self._not_before = 0.0
        self._failed = False

    def publish(self, budget: Mapping[str, Any] | None = None, last: bool = False) -> bool:
        """Makes and writes the report where it is due, ``last`` in any case; False otherwise, or where it cannot be (said once)."""
        version = self._store.version
        if version == self._version or (not last and time.monotonic() < self._not_before):
            return False
        began = time.monotonic()
        try:
            self._write(self._path, {"updated_at": self._clock(), **bandit_report(self._bandit, budget)})
        except (OSError, ValueError) as error:
            if not self._failed:
                log.warning("%s cannot be written: %s; the pages do without it", self._path, error)
            self._failed = True
            return False
        finally:
            self._version = version
            now = time.monotonic()
            self._not_before = now + max(PAUSE, (now - began) / SHARE)
        return True
