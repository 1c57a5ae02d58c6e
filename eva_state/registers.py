"""Registers, and the pure functions that read facts out of records (see ``model``)."""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from sys import intern
from typing import Any, NamedTuple

import msgspec

from eva_state import keys
from eva_state.records import Record

PARAMS = ("sampler", "scheduler", "fps", "cfg_scale", "steps", "width", "height")
Log = Record | list[Record] | None  # a register's records; a single one, the common case, costs no list
ORDER = attrgetter("order")


def added(found: Log, record: Record) -> Log:
    if found is None:
        return record
    if isinstance(found, list):
        insort(found, record, key=ORDER)
        return found
    return sorted((found, record), key=ORDER)


def newest(found: Log) -> Record | None:
    if isinstance(found, list):
        return next((record for record in reversed(found) if not record.undone), None)
    return None if found is None or found.undone else found


class Observation(NamedTuple):
    """One clip's reward in [0,1]: ``source`` is "human" once a person rated it, else "auto". ``ts`` unix seconds.

    ``params`` are those of the combo key and shared between observations: treat them as read-only.
    """

    video: str
    params: dict[str, Any]
    combo_key: str
    reward: float
    source: str
    cost_minutes: float | None
    ts: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What applying one record touched."""

    kind: str
    name: str | None = None
    key: str | None = None


class Clip(msgspec.Struct, eq=False, gc=False):
    """What is known of one clip. ``entry`` and ``rating`` are the records that hold now; rewards are in [0,1]."""

    name: str
    entry: Record | None = None
    rating: Record | None = None
    entry_log: Log = None
    rating_log: Log = None
    auto: float | None = None
    human: float | None = None
    cost: float | None = None
    ts: float = 0.0
    combo: str | None = None

    @property
    def reward(self) -> float | None:
        """A person's reward, else the automatic one; None without an entry."""
        if self.entry is None:
            return None
        return self.auto if self.human is None else self.human


def by_time(clip: Clip) -> tuple[float, str]:
    return (clip.ts, clip.name)


def prompt_of(record: Record) -> str:
    """The prompt id of a ``submitted`` record, without parsing it where its id tells."""
    if record.id.startswith("submitted:"):
        return record.id.removeprefix("submitted:")
    return record.data["prompt_id"]


def entry_in(data: dict[str, Any]) -> dict[str, Any] | None:
    """The history entry in the data of a ``generated`` or ``import`` record (None: it takes the entry away)."""
    return data["entry"] if "entry" in data else data["value"]


def combo_of(entry: dict[str, Any]) -> str | None:
    """The combo key of an entry, or None when its params are not complete."""
    params = entry.get("params")
    if not isinstance(params, dict):
        return None
    if params.get(keys.EXTRA):
        try:
            return intern(keys.combo_key(params))
        except ValueError:
            return None
    get = params.get
    values = get("sampler"), get("scheduler"), get("fps"), get("cfg_scale", get("cfg")), get("steps"), get("width"), get("height")
    return key_of(values)


def key_of(values: tuple[Any, ...]) -> str | None:
    """The combo key of :data:`PARAMS`' values, or None when they are not complete."""
    try:
        return _key_of(*values)
    except (TypeError, ValueError):  # TypeError: a list where a number should be cannot be looked up
        return None


@lru_cache(maxsize=65536, typed=True)
def _key_of(*values: Any) -> str:
    return intern(_plain_key(*values) or keys.combo_key(dict(zip((*PARAMS, "cfg"), values))))


def _plain_key(sampler: Any, scheduler: Any, fps: Any, cfg: Any, steps: Any, width: Any, height: Any) -> str | None:
    """:func:`keys.combo_key` of values as nearly all are, in a tenth of the time; None for any others."""
    whole = type(fps) is type(steps) is type(width) is type(height) is int and steps > 0 and width > 0 and height > 0
    if not whole or type(sampler) is not str or type(scheduler) is not str or not sampler.isidentifier() or not scheduler.isidentifier():
        return None
    if type(cfg) is float and cfg.is_integer():
        cfg = int(cfg)
    elif type(cfg) is not int and (type(cfg) is not float or cfg - cfg != 0):
        return None
    return f"{sampler}|{scheduler}|{fps}|{cfg!r}|{steps}|{width}x{height}"


def human_reward(rating: dict[str, Any]) -> float | None:
    """(q-1)/9 in [0,1], or None when ``overall_quality`` is no number."""
    return quality_reward(rating.get("overall_quality"))


def quality_reward(quality: Any) -> float | None:
    """:func:`human_reward` of the ``overall_quality`` itself."""
    if isinstance(quality, bool) or not isinstance(quality, (int, float)) or not math.isfinite(quality):
        return None
    return min(1.0, max(0.0, (quality - 1) / 9))


def unit(value: Any) -> float | None:
    """A number clipped to [0,1], or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return min(1.0, max(0.0, float(value)))
