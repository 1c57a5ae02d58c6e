"""How many combos (arms) of a search space a set of bans leaves, counted exactly without listing them.

The space is a product of six value lists, optionally restricted to some (sampler, scheduler) pairs; a ban is a key or a
pattern. Going through the fields one by one, the bans that still match split the space into a few groups of equal
fate; a group that no ban reaches counts as the product of what is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from eva_state.keys import ANY, format_number, normalise_pattern

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


def count_arms(space: Mapping[str, Any], bans: Iterable[str] = ()) -> int:
    """Arms of ``space`` that no ban covers."""
    pairs, rest = space_fields(space)
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

    parsed = [tuple(normalise_pattern(ban).split("|")) for ban in bans]
    return sum(
        count(0, frozenset(ban[2:] for ban in parsed if ban[0] in (ANY, sampler) and ban[1] in (ANY, scheduler)))
        for sampler, scheduler in pairs
    )
