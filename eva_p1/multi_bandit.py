"""The optimiser over combos: what to try next, and what to bet on.

    bandit = MultiDimensionalBandit(space={...}, seed=1)
    params = bandit.select_params()                      # marked as in flight
    bandit.update(params, 0.71, cost_minutes=4.2, video="clip_00001_.mp4")
    bandit.update(params, 8 / 9, source="human", video="clip_00001_.mp4")    # replaces the automatic reward
    bandit.recommend()                                   # params with "mean" and "sd"

The model is in ``bandit_model``; ``docs/bandit.md`` explains it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from eva_state.keys import combo_key, normalise_pattern

from .bandit_failures import success_probability
from .bandit_fit import fit_theta
from .bandit_grid import Grid, build_grid
from .bandit_kernel import AUTO, HUMAN, Layout, prior_of_theta
from .bandit_model import Posterior, Row
from .bandit_policies import BETA, POLICIES, Choice
from .bandit_records import SOURCES, Clip, Failure, Ledger, ban_fields, check_cost, check_reward
from .bandit_state import Loaded, load_state, save_state
from .search_space import SearchSpace, as_space, point_of

logger = logging.getLogger(__name__)
Params = dict[str, Any]
PAIR_SPREAD = 0.02  # variance added to evidence on a sampler|scheduler pair, whose other parameters nobody wrote down


class MultiDimensionalBandit:
    """Bayesian bandit over every combo of the space. Thread-safe.

    ``state_path``: a ``bandit_state.json`` to load and to keep up to date; None keeps everything in memory.
    ``space``: a SearchSpace or a dict in the contract's form; None is the default space.
    ``seed``: equal seeds and equal calls give equal choices. ``policy``: ucb (default), thompson, ucb1 or random.
    """

    def __init__(
        self,
        state_path: str | Path | None = None,
        space: SearchSpace | Mapping[str, Any] | None = None,
        seed: int | None = None,
        policy: str = "ucb",
        beta: float = BETA,
    ):
        if policy not in POLICIES:
            raise ValueError(f"unknown policy {policy!r}; choose one of {', '.join(POLICIES)}")
        self._lock = threading.RLock()
        self._rng = np.random.default_rng(seed)
        self._policy_name, self._policy, self._beta = policy, POLICIES[policy], beta
        self._path = Path(state_path) if state_path is not None else None
        self._loaded = load_state(self._path) if self._path is not None else Loaded()
        self._ledger: Ledger = self._loaded.ledger
        self._space = as_space(space)
        self._flight: list[tuple[str, int | None]] = []  # (key, row id) of every pull without a result, oldest first
        self._rows: dict[tuple[int, str], int] = {}  # (clip number, source) -> row id
        self._theta = prior_of_theta(Layout(6))[0]
        self._next_fit = 6
        self._holding = False
        self._build()

    # ------------------------------------------------------------ choosing
    def select_params(self, among: Sequence[Mapping[str, Any]] | None = None) -> Params:
        """The combo to try next, marked as in flight until ``update``, ``fail`` or ``cancel``.

        ``among`` restricts the choice to these params (they may lie outside the space); the chosen one is returned as
        given. Raises ValueError when every one of them is banned, or the list is empty.
        """
        with self._lock:
            allowed, given = self._allowed, {}
            if among is not None:
                given = {combo_key(params): dict(params) for params in among}
                if not given:
                    raise ValueError("select_params: the list of combos to choose from is empty")
                cells = [self._ensure_cell(params) for params in given.values()]
                allowed = np.zeros(self._grid.size, dtype=bool)
                allowed[cells] = True
                allowed &= ~self._banned
                if not allowed.any():
                    raise ValueError(f"select_params: every one of the {len(given)} combos to choose from is banned; unban one")
            cell = self._policy(self._choice(np.flatnonzero(allowed)))
            params = self._grid.params(cell)
            key = combo_key(params)
            self._flight.append((key, self._posterior.add(Row(cell))))
            return given.get(key, params)

    def _choice(self, cells: np.ndarray) -> Choice:
        tries, total = np.zeros(self._grid.size), np.zeros(self._grid.size)
        for key, stats in self._ledger.stats().items():
            cell = self._cell_of_key(key)
            if cell is not None:
                tries[cell], total[cell] = stats["N"], stats["S"]
        for item in [key for key, _ in self._flight] + [failure.key for failure in self._ledger.failures]:
            cell = self._cell_of_key(item)
            if cell is not None:
                tries[cell] += 1
        success = success_probability(self._grid, self._ledger)
        return Choice(cells, self._rng, self._posterior, tries[cells], total[cells], success[cells], self._beta)

    def cancel(self, params: Mapping[str, Any]) -> None:
        """Takes back one pull in flight of this combo, as if it had not been chosen. Nothing happens when there is none."""
        with self._lock:
            self._land(combo_key(params))

    def _land(self, key: str) -> bool:
        for i, (flying, row_id) in enumerate(self._flight):
            if flying == key:
                del self._flight[i]
                if row_id is not None:
                    self._posterior.remove(row_id)
                return True
        return False

    # ------------------------------------------------------------ learning
    def update(
        self,
        params: Mapping[str, Any],
        reward: float,
        cost_minutes: float | None = None,
        source: str = "auto",
        video: str | None = None,
    ) -> list[tuple[str, str]]:
        """Takes in the reward, in [0,1], of one clip of this combo; returns what that autobanned, as ``(key, reason)``.

        ``source`` is ``auto`` or ``human``. ``video`` names the clip: a human reward replaces the automatic one of the
        same clip, whichever came first, and a later reward of the same source replaces the earlier. Without a name
        every call is a clip of its own. Raises ValueError naming what is wrong; then nothing has changed.
        """
        reward, cost_minutes = check_reward(reward), check_cost(cost_minutes)
        if source not in SOURCES:
            raise ValueError(f"unknown source {source!r}; it is one of {', '.join(SOURCES)}")
        if video is not None and not isinstance(video, str):
            raise ValueError(f"video {video!r} is not a clip name")
        point_of(params)
        key = combo_key(params)
        with self._lock:
            self._ensure_cell(params)
            clip = self._ledger.clip_of(video)
            if clip is not None and clip.key != key:
                raise ValueError(f"clip {video!r} was made with {clip.key}, not with {key}")
            if clip is None:
                self._land(key)
                clip = self._ledger.add(Clip(key=key, video=video))
            setattr(clip, source, reward)
            if cost_minutes is not None:
                clip.cost_minutes = cost_minutes
            self._row_of(clip, source)
            self._refit_if_due()
            return self._after_change(key)

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """``with bandit.bulk():`` many results, a history say, are taken in together.

        The kernel is fitted to them with the next single result, not here: at a start the GPU is waiting for the first choice.
        """
        with self._lock:
            self._holding = True
            try:
                yield
            finally:
                self._holding = False
                self._build()
                self._save()

    def forget(self, video: str, source: str = "human") -> list[tuple[str, str]]:
        """Takes a clip's rating away (undo): its automatic reward counts again. Unknown clips or ratings are no error."""
        if source not in SOURCES:
            raise ValueError(f"unknown source {source!r}; it is one of {', '.join(SOURCES)}")
        with self._lock:
            clip = self._ledger.clip_of(video)
            if clip is None or getattr(clip, source) is None:
                return []
            setattr(clip, source, None)
            self._posterior.remove(self._rows.pop((clip.number, source)))
            if clip.reward is None and clip.cost_minutes is None:
                self._ledger.drop(clip)
            return self._after_change(clip.key)

    def fail(self, params: Mapping[str, Any], kind: str = "error", cost_minutes: float | None = None) -> None:
        """Records a try that gave no clip. ``kind``: error, oom, interrupted, lost, no_output, timeout."""
        cost_minutes = check_cost(cost_minutes)
        point_of(params)
        key = combo_key(params)
        with self._lock:
            self._land(key)
            self._ensure_cell(params)
            self._ledger.failures.append(Failure(key, str(kind), cost_minutes))
            self._save()

    def _row_of(self, clip: Clip, source: str) -> None:
        """Brings the model's row for one judgement of a clip up to date."""
        if self._holding:
            return  # the model is built from the ledger when the bulk is over
        value = getattr(clip, source)
        known = self._rows.get((clip.number, source))
        if known is not None:
            self._posterior.set_value(known, value)
            return
        cell = self._cell_of_key(clip.key)
        if cell is not None:
            row = Row(cell, HUMAN if source == "human" else AUTO, clip.number, value, clip.count)
            self._rows[clip.number, source] = self._posterior.add(row)

    def _after_change(self, key: str) -> list[tuple[str, str]]:
        banned = []
        reason = self._ledger.autoban_reason(key)
        if reason is not None and self._arms_left_without(key) > 0:
            self._ledger.bans[key] = reason
            self._apply_bans()
            banned.append((key, reason))
            logger.info("%s banned: %s", key, reason)
        self._save()
        return banned

    def _refit_if_due(self) -> None:
        done = sum(row.value is not None for row in self._posterior.rows)
        if self._holding or done < self._next_fit or self._policy_name not in ("ucb", "thompson"):
            return
        self._next_fit = done + max(3, done // 6)
        self._theta = fit_theta(self._grid, self._posterior.rows, self._theta, self._rng)
        self._posterior.rebuild(self._theta)

    # ------------------------------------------------------------ bans
    @property
    def bans(self) -> dict[str, str]:
        """``{key or pattern: reason}``."""
        with self._lock:
            return dict(self._ledger.bans)

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
            self._ledger.spared[key] = len(self._ledger.scores(key))
            self._apply_bans()
            self._save()

    def _apply_bans(self) -> None:
        banned = np.zeros(self._grid.size, dtype=bool)
        for pattern in self._ledger.bans:
            banned |= self._grid.mask(ban_fields(pattern))
        self._banned = banned
        self._allowed = self._grid.in_space & ~banned

    def _arms_left_without(self, pattern: str) -> int:
        return int((self._allowed & ~self._grid.mask(ban_fields(pattern))).sum())

    # ------------------------------------------------------------ the space
    @property
    def space(self) -> SearchSpace:
        return self._space

    def set_space(self, space: SearchSpace | Mapping[str, Any]) -> None:
        """Another search space; everything learned stays. ValueError when the bans leave nothing of it."""
        new = as_space(space)
        with self._lock:
            grid = build_grid(new)
            banned = np.zeros(grid.size, dtype=bool)
            for pattern in self._ledger.bans:
                banned |= grid.mask(ban_fields(pattern))
            if not (grid.in_space & ~banned).any():
                raise ValueError("the bans leave no combo of this search space; unban something or widen it")
            self._space = new
            self._build()

    @property
    def arm_count(self) -> int:
        """Combos of the space."""
        return self._space.arm_count

    @property
    def arms_left(self) -> int:
        """Combos of the space that are not banned."""
        with self._lock:
            return int(self._allowed.sum())

    def _build(self, extra: Sequence[tuple[Any, ...]] = ()) -> None:
        """Grid, model and masks from the ledger."""
        points = list(extra)
        keys = [clip.key for clip in self._ledger.clips] + [failure.key for failure in self._ledger.failures]
        for key in keys + [key for key, _ in self._flight]:
            points.append(tuple(ban_fields(key)))
        points = [point for point in points if _usable(point)]
        self._grid: Grid = build_grid(self._space, points)
        self._cells: dict[str, int | None] = {}
        self._posterior = Posterior(self._grid, self._theta)
        self._rows = {}
        with_human = any(clip.human is not None for clip in self._ledger.clips)
        # Human rows first: the first one makes the model start over, which is cheap only while it is empty.
        for source in ("human", "auto") if with_human else ("auto",):
            for clip in self._ledger.clips:
                if getattr(clip, source) is not None:
                    self._row_of(clip, source)
        for pair in self._loaded.pairs:
            cell = self._grid.nearest_cell((pair.sampler, pair.scheduler, *(levels[len(levels) // 2] for levels in self._grid.levels[2:])))
            if cell is not None:
                self._posterior.add(Row(cell, AUTO, -1, pair.mean, pair.count, PAIR_SPREAD))
        self._flight = [
            (key, None if (cell := self._cell_of_key(key)) is None else self._posterior.add(Row(cell))) for key, _ in self._flight
        ]
        self._apply_bans()

    def _cell_of_key(self, key: str) -> int | None:
        if key not in self._cells:
            point = tuple(ban_fields(key))
            self._cells[key] = self._grid.nearest_cell(point) if _usable(point) else None
        return self._cells[key]

    def _ensure_cell(self, params: Mapping[str, Any]) -> int:
        """The grid cell of these params, widening the grid if need be."""
        point = point_of(params)
        cell = self._grid.cell(point)
        if cell is None:
            self._build([point])
            cell = self._grid.cell(point)
        if cell is None:
            cell = self._grid.nearest_cell(point)
        if cell is None:
            raise ValueError(f"{combo_key(params)} lies outside the search space, which is too large to be widened")
        return cell

    # ------------------------------------------------------------ reading
    def recommend(self) -> Params:
        """The params it would bet on now: highest posterior mean among the arms, with ``mean`` and ``sd``."""
        with self._lock:
            cells = np.flatnonzero(self._allowed)
            if self._policy_name in ("ucb", "thompson"):
                mean, sd = self._posterior.mean()[cells], self._posterior.sd()[cells]
            else:
                mean, sd = self._plain_estimates(cells)
            best = int(np.argmax(mean))
            params = self._grid.params(int(cells[best]))
            return {**params, "mean": float(np.clip(mean[best], 0.0, 1.0)), "sd": float(sd[best])}

    def _plain_estimates(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        choice = self._choice(cells)
        seen = choice.tries > 0
        mean = np.where(seen, choice.total / np.maximum(choice.tries, 1), 0.0)
        return mean, np.where(seen, 0.5 / np.sqrt(np.maximum(choice.tries, 1)), 0.5)

    @property
    def in_flight(self) -> list[str]:
        """Keys of the pulls that have no result yet, oldest first."""
        with self._lock:
            return [key for key, _ in self._flight]

    def stats(self) -> dict[str, dict[str, Any]]:
        """``{key: {"N", "S", "scores"}}`` of every combo with a reward."""
        with self._lock:
            return self._ledger.stats()

    def status(self) -> dict[str, Any]:
        """Figures for a status line."""
        with self._lock:
            tried = Counter(clip.key for clip in self._ledger.clips)
            return {
                "policy": self._policy_name,
                "tries": self._ledger.t,
                "combos_tried": len(tried),
                "rated": sum(clip.human is not None for clip in self._ledger.clips),
                "failures": len(self._ledger.failures),
                "in_flight": len(self._flight),
                "arms": self.arm_count,
                "arms_left": self.arms_left,
                "bans": len(self._ledger.bans),
                "recommended": self.recommend(),
            }

    def explain(self) -> dict[str, Any]:
        """What was learned, for people: see ``status``."""
        return self.status()

    def _save(self) -> None:
        if self._path is not None and not self._holding:
            save_state(self._path, self._loaded)


def _usable(point: Sequence[Any]) -> bool:
    """False for the point of an old key whose numbers no combo can have (fps 0, say): kept in the file, not in the model."""
    try:
        sampler, scheduler, fps, cfg, steps, (width, height) = point
        point_of(
            {"sampler": sampler, "scheduler": scheduler, "fps": fps, "cfg_scale": cfg, "steps": steps, "width": width, "height": height}
        )
    except ValueError:
        return False
    return True
