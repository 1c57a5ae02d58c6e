"""The optimiser over combos: what to try next, and what to bet on.

    bandit = MultiDimensionalBandit(space={...}, seed=1)
    params = bandit.select_params()                      # marked as in flight
    bandit.update(params, 0.71, cost_minutes=4.2, video="clip_00001_.mp4")
    bandit.update(params, 8 / 9, source="human", video="clip_00001_.mp4")    # replaces the automatic reward
    bandit.recommend()                                   # params with "mean" and "sd"

The model is in ``bandit_model``, what people may ask of it in ``bandit_reads``; ``docs/bandit.md`` explains both.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from eva_state.keys import combo_key, normalise_pattern

from .bandit_cost import EXPONENT
from .bandit_learner import Learner
from .bandit_policies import BETA, MODEL_POLICIES, POLICIES
from .bandit_reads import BanditReads
from .bandit_records import SOURCES, WINNERS, Clip, Comparison, Failure, Ledger, check_cost, check_reward, key_from
from .bandit_state import Loaded, load_state, save_state
from .search_space import SearchSpace, as_space, point_of

logger = logging.getLogger(__name__)


class MultiDimensionalBandit(BanditReads):
    """Bayesian bandit over every combo of the space. Thread-safe.

    ``state_path``: a ``bandit_state.json`` to load and to keep up to date; None keeps everything in memory.
    ``space``: a SearchSpace or a dict in the contract's form; None is the default space.
    ``seed``: equal seeds and equal calls give equal choices. ``policy``: ucb (default), kg, thompson, ucb1 or random.
    ``cost_exponent``: value is divided by expected minutes to this power once prices were told; 0 ignores prices.
    ``background``: long learning goes on beside the choices, which then depend on when it is done; None: unless there is a ``seed``.
    """

    def __init__(
        self,
        state_path: str | Path | None = None,
        space: SearchSpace | Mapping[str, Any] | None = None,
        seed: int | None = None,
        policy: str = "ucb",
        beta: float = BETA,
        cost_exponent: float = EXPONENT,
        background: bool | None = None,
    ):
        if policy not in POLICIES:
            raise ValueError(f"unknown policy {policy!r}; choose one of {', '.join(POLICIES)}")
        self._lock = threading.RLock()
        self._rng = np.random.default_rng(seed)
        self._policy_name, self._beta, self._exponent = policy, beta, cost_exponent
        self._background = seed is None if background is None else background
        self._path = Path(state_path) if state_path is not None else None
        self._loaded = load_state(self._path) if self._path is not None else Loaded()
        self._ledger: Ledger = self._loaded.ledger
        self._bulk = False
        self._stale = False
        self._learner = Learner(self._ledger, self._loaded.pairs, as_space(space), self._rng, policy in MODEL_POLICIES)
        self._apply_bans()

    # ------------------------------------------------------------ choosing
    def select_params(
        self,
        among: Sequence[Mapping[str, Any]] | None = None,
        *,
        within: float | None = None,
        probe: bool = False,
        seconds: float | None = None,
        server: str | None = None,
    ) -> dict[str, Any]:
        """The combo to try next, marked as in flight until ``update``, ``fail`` or ``cancel``.

        ``among`` restricts the choice to these params (they may lie outside the space); the chosen one is returned as
        given. Raises ValueError when every one of them is banned, or the list is empty. ``within``: only what is expected to
        take at most these GPU minutes, with clips of ``seconds`` on ``server``; raises ``NothingFits`` where nothing does.
        ``probe``: with no price known at all, one of the cheapest is allowed all the same.
        """
        with self._lock:
            self._settle()
            given: dict[str, dict[str, Any]] = {}
            if among is not None:
                given = {combo_key(params): dict(params) for params in among}
                if not given:
                    raise ValueError("select_params: the list of combos to choose from is empty")
                allowed = self._cells_of(list(given.values()))
            else:
                allowed = np.flatnonzero(self._allowed)
            if not len(allowed):
                what = f"every one of the {len(given)} combos to choose from" if given else "every combo of the search space"
                raise ValueError(f"select_params: {what} is banned; unban something or widen the choice")
            if within is not None:
                allowed = self._affordable(allowed, within, probe, seconds, server)
            cell = POLICIES[self._policy_name](self._choice(allowed))
            params = self._learner.grid.params(cell)
            key = combo_key(params)
            self._learner.take_off(key, cell)
            return given.get(key, params)

    def _cells_of(self, wanted: Sequence[Mapping[str, Any]]) -> np.ndarray:
        for params in wanted:  # first all, because widening the grid renumbers its cells
            self._widen_for(params)
        allowed = np.zeros(self._learner.grid.size, dtype=bool)
        for params in wanted:
            cell = self._learner.grid.cell_of(params)
            if cell is None:
                raise ValueError(f"{combo_key(params)} lies outside the search space, which is too large to be widened for it")
            allowed[cell] = True
        return np.flatnonzero(allowed & ~self._banned)

    def _widen_for(self, params: Mapping[str, Any]) -> None:
        grid = self._learner.grid
        self._learner.widen_for(params)
        if self._learner.grid is not grid:
            self._apply_bans()

    def cancel(self, params: Mapping[str, Any]) -> None:
        """Takes back one pull in flight of this combo, as if it had not been chosen. Nothing happens when there is none."""
        with self._lock:
            self._learner.land(combo_key(params))

    # ------------------------------------------------------------ learning
    def update(
        self,
        params: Mapping[str, Any],
        reward: float,
        cost_minutes: float | None = None,
        source: str = "auto",
        video: str | None = None,
        seconds: float | None = None,
        server: str | None = None,
    ) -> list[tuple[str, str]]:
        """Takes in the reward, in [0,1], of one clip of this combo; returns what that autobanned, as ``(key, reason)``.

        Two rules ban: the contract's (3 tries, mean and best too low) and the model's (6 tries, upper 95 % bound too low).
        ``source`` is ``auto`` or ``human``. ``video`` names the clip: a human reward replaces the automatic one of the
        same clip, whichever came first, and a later reward of the same source replaces the earlier. Without a name
        every call is a clip of its own. The cost depends on ``seconds`` of clip and ``server``. Raises ValueError naming what
        is wrong; then nothing has changed.
        """
        reward, cost_minutes = check_reward(reward), check_cost(cost_minutes)
        _check_source(source)
        if video is not None and not isinstance(video, str):
            raise ValueError(f"video {video!r} is not a clip name")
        point_of(params)
        key = combo_key(params)
        with self._lock:
            clip = self._ledger.clip_of(video)
            if clip is not None and clip.key != key:
                raise ValueError(f"clip {video!r} was made with {clip.key}, not with {key}")
            if not self._bulk:
                self._widen_for(params)
            new = clip is None
            clip = clip or self._ledger.add(Clip(key=key, video=video))
            setattr(clip, source, reward)
            if new:
                self._learner.arrive(clip)
            if cost_minutes is not None:
                clip.cost_minutes = cost_minutes
            clip.seconds, clip.server = seconds or clip.seconds, server or clip.server
            self._judged(clip, source)
            return self._after_change(key)

    def forget(self, video: str, source: str = "human") -> list[tuple[str, str]]:
        """Takes a clip's rating away (undo): its automatic reward counts again. Unknown clips or ratings are no error."""
        _check_source(source)
        with self._lock:
            clip = self._ledger.clip_of(video)
            if clip is None or getattr(clip, source) is None:
                return []
            setattr(clip, source, None)
            self._judged(clip, source)
            if clip.reward is None and clip.cost_minutes is None:
                self._ledger.drop(clip)
            return self._after_change(clip.key)

    def fail(self, params: Mapping[str, Any], kind: str = "error", cost_minutes: float | None = None) -> None:
        """Records a try that gave no clip. ``kind``: error, oom, interrupted, lost, no_output, timeout."""
        cost_minutes = check_cost(cost_minutes)
        point_of(params)
        key = combo_key(params)
        with self._lock:
            self._learner.land(key)
            if not self._bulk:
                self._widen_for(params)
            self._ledger.failures.append(Failure(key, str(kind), cost_minutes))
            self._stale |= self._bulk
            self._save()

    def compare(self, left: str, right: str, winner: str, id: str | None = None) -> str:
        """A person compared two clips: ``winner`` is left, right, tie or both_bad. Returns the comparison's id.

        The same ``id`` again replaces. Raises ValueError for a clip the bandit was never told of.
        """
        if winner not in WINNERS:
            raise ValueError(f"unknown winner {winner!r}; it is one of {', '.join(WINNERS)}")
        with self._lock:
            clips = [self._ledger.clip_of(video) for video in (left, right)]
            for video, clip in zip((left, right), clips):
                if clip is None:
                    raise ValueError(f"clip {video!r} is unknown here: it can be compared once its score was told")
            assert clips[0] is not None and clips[1] is not None
            comparison = Comparison(id or uuid.uuid4().hex, clips[0].key, clips[1].key, winner)
            self.forget_comparison(comparison.id)
            self._ledger.comparisons[comparison.id] = comparison
            if self._bulk:
                self._stale = True
            else:
                self._learner.compare(comparison)
            self._save()
            return comparison.id

    def forget_comparison(self, id: str) -> None:
        """Takes a comparison back (undo). An unknown id is no error."""
        with self._lock:
            if self._ledger.comparisons.pop(id, None) is not None:
                self._stale |= self._bulk
                if not self._stale:
                    self._learner.uncompare(id)
                self._save()

    def set_rater_noise(self, sd: float, count: int) -> None:
        """Tells how well the person agrees with themselves, from clips they rated twice without knowing.

        ``sd``: standard deviation of one rating's error in reward units, above 0 and at most 0.5: the root mean square of the
        differences between first and second rating, in [0,1] units, divided by sqrt(2). ``count``: number of such
        differences, at least 1. It becomes the prior of the human noise, the stronger the larger ``count``, and replaces
        what an earlier call told. Not kept in the state file: tell it again after a start. Raises ValueError.
        """
        if not isinstance(sd, (int, float)) or isinstance(sd, bool) or not 0.0 < sd <= 0.5:
            raise ValueError(f"rater noise sd {sd!r} is not in (0, 0.5]; it is in reward units")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"rater noise count {count!r} is not a whole number of at least 1")
        with self._lock:
            self._learner.set_rater_noise(float(sd), count)
            if self._policy_name in MODEL_POLICIES and not self._bulk:
                self._learner.refit_if_due(self._background)

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """``with bandit.bulk():`` many results, a history say, are taken in together and fitted once, at the end."""
        with self._lock:
            outer, self._bulk = self._bulk, True
            try:
                yield
            finally:
                self._bulk = outer
                if not outer:
                    self._settle()
                    self._save()

    def _judged(self, clip: Clip, source: str) -> None:
        if self._bulk:
            self._stale = True
            return
        self._learner.judged(clip, source)
        if self._policy_name in MODEL_POLICIES:
            self._learner.refit_if_due(self._background)

    def _settle(self) -> None:
        """Makes the model follow the ledger again after a bulk."""
        if self._stale:
            self._stale = False
            self._learner.build(self._learner.space, learn=self._policy_name in MODEL_POLICIES)
            self._apply_bans()

    def _after_change(self, key: str) -> list[tuple[str, str]]:
        banned = []
        cell = self._learner.grid.cell(self._learner.grid.point_of(key))
        reason = self._ledger.autoban_reason(key) or self._posterior_reason(key, cell)
        if reason and cell is not None and self._learner.grid.in_space[cell]:  # an older clip's key may not name every dimension
            key = combo_key(self._learner.grid.params(cell))
        if reason is not None and key not in self._ledger.bans and self._arms_left_without(key) > 0:
            self._ledger.bans[key] = reason
            self._apply_bans()
            banned.append((key, reason))
            logger.info("%s banned: %s", key, reason)
        self._save()
        return banned

    # ------------------------------------------------------------ bans
    def ban(self, key: str, reason: str = "") -> None:
        """Never proposes this combo, or any combo matching this pattern, again. ValueError when that would leave no arm."""
        key = normalise_pattern(key)
        with self._lock:
            if self._arms_left_without(key) == 0:
                raise ValueError(f"banning {key} would leave no combo to try; unban something or widen the search space first")
            self._ledger.bans[key] = reason or "banned"
            self._apply_bans()
            self._save()

    def unban(self, key: str) -> None:
        """Takes a ban back; the autoban rule leaves that combo alone until it had 3 further tries. ValueError for an unknown ban."""
        key = normalise_pattern(key)
        with self._lock:
            if key not in self._ledger.bans:
                raise ValueError(f"{key} is not banned")
            del self._ledger.bans[key]
            self._ledger.spare(key)
            self._apply_bans()
            self._save()

    def ban_preview(self, key: str) -> dict[str, Any]:
        """What a ban would touch: ``arms`` it takes, ``arms_left``, ``tries`` made of them, their ``mean`` reward (None untried)."""
        key = normalise_pattern(key)
        with self._lock:
            return {
                **self._ledger.matching(key),
                "arms": self.arms_left - self._arms_left_without(key),
                "arms_left": self._arms_left_without(key),
            }

    def _ban_mask(self, patterns: Sequence[str]) -> np.ndarray:
        banned = np.zeros(self._learner.grid.size, dtype=bool)
        for pattern in patterns:
            self._learner.grid.cover(banned, pattern)
        return banned

    def _apply_bans(self) -> None:
        self._banned = self._ban_mask(list(self._ledger.bans))
        self._allowed = self._learner.grid.in_space & ~self._banned

    def _arms_left_without(self, pattern: str) -> int:
        return int((self._allowed & ~self._ban_mask([pattern])).sum())

    # ------------------------------------------------------------ the space
    def set_space(self, space: SearchSpace | Mapping[str, Any]) -> None:
        """Another search space; everything learned stays. ValueError, and nothing changed, when the bans leave nothing of it."""
        new = as_space(space)
        with self._lock:
            old = self._learner.space
            self._stale = False
            self._learner.build(new)
            self._apply_bans()
            if not self._allowed.any():
                self._learner.build(old)
                self._apply_bans()
                raise ValueError("the bans leave no combo of this search space; unban something or widen it")

    def warm_start(self, results: Sequence[Mapping[str, Any]]) -> int:
        """Learns from elsewhere: items with ``combo_key`` or ``params``, ``reward`` and maybe ``cost_minutes``; returns how many.

        Meant for another state folder's observations or a published prior (``eva_p1.prior``): ``count`` clips with this mean,
        judged by ``source``. It teaches, but is no try of this bandit's. Items that make no sense are reported and skipped.
        """
        taken = 0
        with self.bulk():
            for item in results:
                try:
                    key = key_from(item["combo_key"] if "combo_key" in item else item["params"])
                    source, count, seconds = item.get("source", "auto"), item.get("count", 1), check_cost(item.get("seconds"))
                    _check_source(source)
                    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                        raise ValueError(f"count {count!r} is not a number of clips")
                    price = check_cost(item.get("cost_minutes"))
                    clip = Clip(key=key, video=None, cost_minutes=price, count=count, seconds=seconds or None, elsewhere=True)
                    setattr(clip, source, check_reward(item["reward"]))
                except (KeyError, TypeError, ValueError) as error:
                    logger.warning("warm start: %r left out: %s", item, error)
                    continue
                self._ledger.add(clip)
                self._stale = True
                taken += 1
        return taken

    def _save(self) -> None:
        if self._path is not None and not self._bulk:
            save_state(self._path, self._loaded)


def _check_source(source: str) -> None:
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; it is one of {', '.join(SOURCES)}")
