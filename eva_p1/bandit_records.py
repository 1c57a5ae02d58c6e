"""What the bandit was told: clips with their judgements, bans, failures. No model here, only bookkeeping.

A clip has at most one automatic and one human reward; the human one replaces the automatic one in every statistic,
whichever arrived first (contract: reward). Rewards are in [0,1].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eva_state.keys import combo_key, is_pattern, matches, normalise_key, normalise_pattern, parse_combo_key

SOURCES = ("auto", "human")
WINNERS = ("left", "right", "tie", "both_bad")
AUTOBAN_TRIES, AUTOBAN_MEAN, AUTOBAN_BEST = 3, 0.45, 0.55  # the contract's rule, inherited from the original system
# The posterior rule is for what that one spares: a combo whose one lucky clip hides how bad the others are. Twice as many tries, so
# that it never contradicts the contract's rule where that one has just let a combo go.
POSTERIOR_TRIES = 6


@dataclass
class Clip:
    """One try of one combo. ``count`` > 1: that many tries of which only the mean is known (older state files)."""

    key: str
    video: str | None
    auto: float | None = None
    human: float | None = None
    cost_minutes: float | None = None
    count: int = 1
    number: int = 0
    seconds: float | None = None  # length of the clip, and the server that made it: what its price depends on
    server: str | None = None
    elsewhere: bool = False  # told by a warm start: it teaches, but was neither tried nor paid for here

    @property
    def reward(self) -> float | None:
        """What counts: the human reward where there is one."""
        return self.human if self.human is not None else self.auto


@dataclass(frozen=True)
class Failure:
    """A try that gave no clip. ``kind``: error, oom, interrupted, lost, no_output, timeout or any other word."""

    key: str
    kind: str
    cost_minutes: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A person saw two clips of these combos side by side. ``winner``: left, right, tie or both_bad."""

    id: str
    left: str
    right: str
    winner: str


def check_reward(reward: Any) -> float:
    """A reward as a float; ValueError when it is not a finite number in [0,1]."""
    if isinstance(reward, bool) or not isinstance(reward, (int, float)) and not hasattr(reward, "__float__"):
        raise ValueError(f"reward {reward!r} is not a number in [0, 1]")
    value = float(reward)
    if not math.isfinite(value) or not 0.0 <= value <= 1.0:
        raise ValueError(f"reward {reward!r} is outside [0, 1]")
    return value


def check_cost(cost: Any) -> float | None:
    """Minutes as a float, or None; ValueError when negative or not finite."""
    if cost is None:
        return None
    if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not math.isfinite(cost) or cost < 0:
        raise ValueError(f"cost_minutes {cost!r} is not a number of minutes of at least 0")
    return float(cost)


def key_from(params_or_key: Mapping[str, Any] | str) -> str:
    """Canonical combo key of params or of a key; ValueError naming what is wrong."""
    return combo_key(params_or_key) if isinstance(params_or_key, Mapping) else normalise_key(params_or_key)


@dataclass
class Ledger:
    """All clips, failures and bans. ``t`` counts tries (clips and failures)."""

    clips: list[Clip] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    bans: dict[str, str] = field(default_factory=dict)
    spared: dict[str, int] = field(default_factory=dict)  # key -> tries it had when a person unbanned it
    _by_video: dict[str, Clip] = field(default_factory=dict)
    _by_key: dict[str, list[Clip]] = field(default_factory=dict)
    _next: int = 0

    # ------------------------------------------------------------ clips
    def add(self, clip: Clip) -> Clip:
        clip.number = self._next
        self._next += 1
        self.clips.append(clip)
        self._by_key.setdefault(clip.key, []).append(clip)
        if clip.video is not None:
            self._by_video[clip.video] = clip
        return clip

    def drop(self, clip: Clip) -> None:
        """Forgets a clip of which nothing is known any more."""
        self.clips.remove(clip)
        self._by_key[clip.key].remove(clip)
        if not self._by_key[clip.key]:
            del self._by_key[clip.key]
        if clip.video is not None:
            del self._by_video[clip.video]

    def clip_of(self, video: str | None) -> Clip | None:
        return self._by_video.get(video) if video is not None else None

    def clips_of(self, key: str) -> list[Clip]:
        return self._by_key.get(key, [])

    @property
    def t(self) -> int:
        """Tries made here."""
        return sum(clip.count for clip in self.clips if not clip.elsewhere) + len(self.failures)

    # ------------------------------------------------------------ statistics
    def scores(self, key: str, here: bool = False) -> list[float]:
        """Effective rewards of a combo, oldest first; ``count`` tries known by their mean repeat it. ``here``: only those made here."""
        out: list[float] = []
        for clip in self.clips_of(key):
            if clip.reward is not None and not (here and clip.elsewhere):
                out += [clip.reward] * clip.count
        return out

    def stats_of(self, key: str) -> dict[str, Any]:
        scores = self.scores(key)
        return {"N": len(scores), "S": math.fsum(scores), "scores": scores}

    def stats(self) -> dict[str, dict[str, Any]]:
        """``{key: {"N", "S", "scores"}}`` of every combo with a reward."""
        return {key: stats for key in self._by_key if (stats := self.stats_of(key))["N"]}

    def matching(self, pattern: str) -> dict[str, Any]:
        """``tries`` of the combos a pattern matches, ``mean`` and ``best`` of their rewards (None without any)."""
        scores = [score for key in self._by_key if matches(pattern, key) for score in self.scores(key)]
        return {"tries": len(scores), "mean": math.fsum(scores) / len(scores) if scores else None, "best": max(scores, default=None)}

    # ------------------------------------------------------------ bans
    def spare(self, key: str) -> None:
        """A person took a ban back: the rule waits for AUTOBAN_TRIES more tries of every combo it concerned."""
        for known in [known for known in self._by_key if matches(key, known)]:
            self.spared[known] = len(self.scores(known, here=True))
        if not is_pattern(key):
            self.spared[key] = len(self.scores(key, here=True))

    def tried_enough(self, key: str, least: int) -> bool:
        """Whether an autoban rule that wants ``least`` tries may look at this combo: not banned, nor spared by a person for now."""
        tries = len(self.scores(key, here=True))
        return key not in self.bans and tries >= max(least, self.spared.get(key, -AUTOBAN_TRIES) + AUTOBAN_TRIES)

    def autoban_reason(self, key: str) -> str | None:
        """Why the contract's rule bans this combo now, or None. A combo that a person unbanned gets AUTOBAN_TRIES more tries."""
        if not self.tried_enough(key, AUTOBAN_TRIES):
            return None
        scores = self.scores(key, here=True)
        mean, best = math.fsum(scores) / len(scores), max(scores)
        if mean < AUTOBAN_MEAN and best < AUTOBAN_BEST:
            return f"autoban: {len(scores)} tries, mean {mean:.2f} < {AUTOBAN_MEAN}, best {best:.2f} < {AUTOBAN_BEST}"
        return None


def ban_fields(pattern: str) -> list[Any]:
    """A canonical pattern as levels in axis order, None for ``*``; ValueError for an unknown form."""
    canonical = normalise_pattern(pattern)
    if not is_pattern(canonical):
        params = parse_combo_key(canonical)
        return [
            params["sampler"],
            params["scheduler"],
            params["fps"],
            params["cfg_scale"],
            params["steps"],
            (params["width"], params["height"]),
        ]
    fields: list[Any] = []
    for i, part in enumerate(canonical.split("|")):
        if part == "*":
            fields.append(None)
        elif i < 2:
            fields.append(part)
        elif i == 5:
            width, height = part.split("x")
            fields.append((int(width), int(height)))
        else:
            number = float(part)
            fields.append(int(number) if number.is_integer() else number)
    return fields


def total_cost(clips: Iterable[Clip], failures: Iterable[Failure]) -> float:
    """Minutes paid here, as far as they were told."""
    told = [clip.cost_minutes for clip in clips if not clip.elsewhere] + [failure.cost_minutes for failure in failures]
    return math.fsum(cost for cost in told if cost is not None)
