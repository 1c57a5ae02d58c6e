"""What was learned elsewhere, to start from: another state folder, its ``knowledge.json``, or a published prior.

A prior is a JSON file without prompts, names or addresses::

    {"format": "eva-prior", "version": 1, "space": {...},
     "results": [{"combo_key": "euler|simple|16|3.5|20|832x480", "reward": 0.71, "count": 3, "source": "auto",
                  "cost_minutes": 4.2, "seconds": 5}]}

``reward`` is the mean, in [0,1], of ``count`` (1) clips; ``source`` is ``auto`` or ``human``; the rest may be absent.
``space`` is the search space they come from, for the workflow's own values of dimensions.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eva_env_base import StateError, UsageError
from eva_p1.agent_sync import is_reward, price_facts, reward_of_rating
from eva_p1.search_space import SearchSpace
from eva_state.files import Files
from eva_state.keys import combo_key
from eva_state.store import StateStore

log = logging.getLogger(__name__)
PRIOR_NAME = "prior.json"  # in the state folder: what a run was told to start from, for the runs after it
FORMAT, VERSION = "eva-prior", 1
MOST = 500  # combos of a prior that are learned, the most tried first: each is a row of the model


@dataclass(frozen=True)
class Prior:
    """``results`` as ``MultiDimensionalBandit.warm_start`` takes them; ``space``: where they come from, as far as it is known."""

    results: list[dict[str, Any]] = field(default_factory=list)
    space: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        space = {} if self.space is None else {"space": self.space}
        return {"format": FORMAT, "version": VERSION, **space, "results": self.results}

    def known_to(self, space: SearchSpace) -> SearchSpace:
        """``space``, knowing of the dimensions these results have and it has not."""
        try:
            return space if self.space is None else space.remembering(SearchSpace.from_dict(self.space))
        except ValueError as error:
            log.warning("the search space of the prior cannot be read: %s", error)
            return space


def read_prior(path: Path) -> Prior:
    """From a state folder, a ``knowledge.json`` or a published prior. Raises :class:`UsageError` naming what is wrong."""
    if path.is_dir():
        if not any((path / name).exists() for name in ("journal", "knowledge.json", "bandit_state.json")):
            raise UsageError(f"{path} is no state folder: it has neither a journal nor a knowledge.json")
        try:
            with StateStore(path, role="reader") as store:
                return prior_of(store)
        except StateError as error:
            raise UsageError(str(error)) from error
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    if isinstance(data, dict) and isinstance(data.get("history"), list):
        return Prior(summed(_of_entries(data["history"])))
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("results"), list):
        raise UsageError(f'{path} is neither a knowledge.json (with "history") nor a prior (with "format": "{FORMAT}" and "results")')
    if data.get("version") != VERSION:
        raise UsageError(f"{path} is a prior of version {data.get('version')!r}; this build reads version {VERSION}")
    space = data.get("space")
    return Prior([dict(item) for item in data["results"] if isinstance(item, dict)], space if isinstance(space, dict) else None)


def prior_of(store: StateStore) -> Prior:
    """What a state knows, ready to be published: mean rewards by combo, no prompts, names or addresses."""
    found = []
    for seen in store.observations():
        facts = price_facts(store.entry(seen.video))
        found.append(
            {
                "combo_key": seen.combo_key,
                "reward": seen.reward,
                "source": seen.source,
                "cost_minutes": seen.cost_minutes,
                "seconds": facts["seconds"],
            }
        )
    return Prior(summed(found), store.space())


def keep_prior(prior: Prior, state_dir: Path) -> None:
    """Keeps a prior in the state folder, in place of an earlier one."""
    write_prior(prior, state_dir / PRIOR_NAME)


def write_prior(prior: Prior, path: Path) -> None:
    """Writes a prior, durably. Raises :class:`UsageError` where the file cannot be written."""
    try:
        Files().write_file(path, json.dumps(prior.to_dict(), ensure_ascii=False, indent=1, allow_nan=False).encode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def kept_prior(state_dir: Path) -> Prior:
    """The prior kept in the state folder; an empty one where there is none, or it cannot be read (which is reported)."""
    path = state_dir / PRIOR_NAME
    if not path.is_file():
        return Prior()
    try:
        return read_prior(path)
    except UsageError as error:
        log.warning("the prior is left out: %s", error)
        return Prior()


def summed(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One item a combo and source: mean reward, number of clips, mean price and length; the :data:`MOST` with the most clips."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for item in items:
        groups.setdefault((item["combo_key"], item["source"]), []).append(item)
    out = []
    for (key, source), group in sorted(groups.items(), key=lambda found: -len(found[1]))[:MOST]:
        result: dict[str, Any] = {"combo_key": key, "reward": _mean(group, "reward"), "count": len(group), "source": source}
        for name in ("cost_minutes", "seconds"):
            mean = _mean(group, name)
            if mean:
                result[name] = round(mean, 5)
        out.append(result)
    return out


def _mean(group: Iterable[Mapping[str, Any]], name: str) -> float | None:
    told = [float(item[name]) for item in group if item.get(name) is not None]
    return math.fsum(told) / len(told) if told else None


def _of_entries(history: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for entry in history:
        try:
            key = combo_key(entry["params"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.info("an entry of the history teaches nothing: %s", error)
            continue
        rating = entry.get("manual_rating")
        quality = rating.get("overall_quality") if isinstance(rating, dict) else rating
        reward, source = entry.get("score"), "auto"
        if isinstance(quality, (int, float)) and not isinstance(quality, bool) and math.isfinite(quality):
            reward, source = reward_of_rating(quality), "human"
        if is_reward(reward):
            price = entry.get("cost_minutes")
            paid = price if isinstance(price, (int, float)) and price > 0 else None
            yield {"combo_key": key, "reward": reward, "source": source, "cost_minutes": paid, "seconds": price_facts(entry)["seconds"]}
