"""Counting the arms that bans leave, against listing them all."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eva_state.keys import matches
from eva_web.arms import count_arms

SPACE: dict[str, Any] = {
    **{"sampler": ["a", "b"], "scheduler": ["s", "t"], "fps": [8, 16.0], "cfg_scale": [3.5, 7], "steps": [10, 20]},
    "size": [[8, 8], [16, 8]],
}
parts = [["a", "b", "c", "*"], ["s", "t", "*"], ["8", "16", "*"], ["3.5", "7", "9", "*"], ["10", "20", "*"], ["8x8", "16x8", "*"]]


def listed(space: dict[str, Any], bans: list[str]) -> int:
    pairs = space.get("pairs") or list(itertools.product(space["sampler"], space["scheduler"]))
    arms = [
        f"{sampler}|{scheduler}|{fps:g}|{cfg:g}|{steps}|{width}x{height}"
        for (sampler, scheduler), fps, cfg, steps, (width, height) in itertools.product(
            pairs, space["fps"], space["cfg_scale"], space["steps"], space["size"]
        )
    ]
    return sum(not any(matches(ban, arm) for ban in bans) for arm in arms)


@given(st.lists(st.tuples(*(st.sampled_from(values) for values in parts)).map("|".join), max_size=8), st.booleans())
def test_counting_is_listing(bans: list[str], paired: bool) -> None:
    space = {**SPACE, "pairs": [["a", "s"], ["b", "t"]]} if paired else SPACE
    assert count_arms(space, bans) == listed(space, bans)


def test_a_large_space_with_many_bans_is_counted_exactly() -> None:
    space = {
        **{"sampler": [f"sampler{n}" for n in range(20)], "scheduler": [f"scheduler{n}" for n in range(10)], "fps": [8, 12, 16, 24]},
        **{"cfg_scale": [n / 2 for n in range(2, 22)], "steps": list(range(10, 60, 5)), "size": [[8 * n, 8] for n in range(1, 6)]},
    }
    bans = [f"sampler{n % 20}|scheduler{n % 10}|16|{n % 20 / 2 + 1:g}|{10 + n % 10 * 5}|8x8" for n in range(1000)]
    bans += ["sampler3|*|*|*|*|*", "*|scheduler4|*|*|10|*"]
    total = 20 * 10 * 4 * 20 * 10 * 5
    patterns = 10 * 4 * 20 * 10 * 5 + 20 * 4 * 20 * 5 - 4 * 20 * 5
    singles = {ban for ban in bans[:1000] if not any(matches(pattern, ban) for pattern in bans[1000:])}
    assert count_arms(space, bans) == total - patterns - len(singles)


@pytest.mark.parametrize("space", [{}, {"sampler": ["a"]}, {**SPACE, "size": [5]}, {**SPACE, "fps": ["x"]}, {**SPACE, "steps": 5}])
def test_what_is_no_search_space(space: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="search space"):
        count_arms(space)


def test_own_dimensions_count_and_are_banned_by_name() -> None:
    space = {**SPACE, "extra": {"shift": {"input": "N.shift", "values": [3, 5.0, 8]}, "lora": {"input": "N.s", "values": [0.5, 1]}}}
    plain = count_arms(SPACE)
    assert count_arms(space) == 6 * plain
    assert count_arms(space, ["*|*|*|*|*|*|shift=5"]) == 4 * plain
    assert count_arms(space, ["*|*|*|*|*|*|shift=5", "*|*|*|*|*|*|lora=1|shift=8"]) == 3 * plain
    assert count_arms(space, ["*|*|*|*|*|*|other=5"]) == 6 * plain
    one = f"{SPACE['sampler'][0]}|{SPACE['scheduler'][0]}|*|*|*|*"
    assert 6 * plain - count_arms(space, [one]) == 6 * (plain - count_arms(SPACE, [one]))
