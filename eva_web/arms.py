"""How many combos (arms) of a search space a set of bans leaves, counted exactly without listing them.

The space is a product of six value lists and of those of the user's own dimensions, optionally restricted to some
(sampler, scheduler) pairs; a ban is a key or a pattern. Going through the fields one by one, the bans that still match
split the space into a few groups of equal fate; a group that no ban reaches counts as the product of what is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from eva_state.keys import ANY, EXTRA, base_key, extra_of_key, extra_text, format_number, normalise_pattern

Ban = tuple[str, ...]


def space_fields(space: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """``(allowed pairs, [fps, cfg, steps, sizes])``, each value as it stands in a key. Raises ValueError for no search space."""
    try:
        pairs = space.get("pairs")
        if pairs is None:
            pairs = [(sampler, scheduler) for sampler in space["sampler"] for scheduler in space["scheduler"]]
        numbers = [[format_number(value) for value in space[name]] for name in ("fps", "cfg_scale", "steps")]
        sizes = [f"{format_number(width)}x{format_number(height)}" for width, height in space["size"]]
        allowed = [(str(sampler), str(scheduler)) for sampler, scheduler in pairs]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the recorded search space is not one: {error!r}") from None
    return list(dict.fromkeys(allowed)), [list(dict.fromkeys(values)) for values in (*numbers, sizes)]


def own_fields(space: Mapping[str, Any]) -> dict[str, list[str]]:
    """``{name: values as they stand in a key}`` of the user's own dimensions. Raises ValueError for no search space."""
    try:
        found = {name: [extra_text(value) for value in item["values"]] for name, item in (space.get(EXTRA) or {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the recorded search space is not one: {error!r}") from None
    return {name: list(dict.fromkeys(found[name])) for name in sorted(found)}


def count_arms(space: Mapping[str, Any], bans: Iterable[str] = ()) -> int:
    """Arms of ``space`` that no ban covers."""
    pairs, rest = space_fields(space)
    own = own_fields(space)
    rest = rest + list(own.values())
    sizes_left = [math.prod(len(values) for values in rest[depth:]) for depth in range(len(rest) + 1)]

    @cache
    def count(depth: int, tails: frozenset[Ban]) -> int:
        if not tails:
            return sizes_left[depth]
        if any(all(part == ANY for part in tail) for tail in tails):
            return 0  # at the last depth every remaining tail is empty, which is "all of it"
        total = 0
        named = {tail[0] for tail in tails} - {ANY}
        open_tails = frozenset(tail[1:] for tail in tails if tail[0] == ANY)
        for value in rest[depth]:
            if value in named:
                total += count(depth + 1, open_tails | frozenset(tail[1:] for tail in tails if tail[0] == value))
            else:
                total += count(depth + 1, open_tails)
        return total

    canonical = [normalise_pattern(ban) for ban in bans]
    parsed = [
        (*base_key(ban).split("|"), *(extra_of_key(ban).get(name, ANY) for name in own))
        for ban in canonical
        if set(extra_of_key(ban)) <= set(own)
    ]
    return sum(
        count(0, frozenset(ban[2:] for ban in parsed if ban[0] in (ANY, sampler) and ban[1] in (ANY, scheduler)))
        for sampler, scheduler in pairs
    )
