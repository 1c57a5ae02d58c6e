"""Where tries fail."""

from __future__ import annotations

import numpy as np
import pytest

from eva_p1.bandit_failures import success_probability
from eva_p1.bandit_grid import build_grid
from eva_p1.bandit_records import Clip, Failure, Ledger
from eva_p1.search_space import default_space

GRID = build_grid(default_space())


def _at(success, key) -> float:
    from eva_p1.bandit_records import ban_fields

    cell = GRID.cell(ban_fields(key))
    assert cell is not None
    return float(success[cell])


def _ledger(failed, fine=()) -> Ledger:
    ledger = Ledger(failures=[Failure(key, kind) for key, kind in failed])
    for key in fine:
        ledger.add(Clip(key, None, auto=0.6))
    return ledger


def test_without_failures_everything_succeeds():
    assert (success_probability(GRID, _ledger([], ["euler|simple|16|5|20|832x480"])) == 1.0).all()


@pytest.mark.parametrize("kind", ["interrupted", "lost"])
def test_what_is_not_the_combos_fault_does_not_count(kind):
    assert (success_probability(GRID, _ledger([("euler|simple|16|5|20|832x480", kind)] * 5)) == 1.0).all()


def test_out_of_memory_is_a_matter_of_size():
    success = success_probability(GRID, _ledger([("euler|simple|16|5|20|1280x720", "oom")] * 3))
    assert _at(success, "heun|karras|16|1|4|1280x720") < 0.5
    assert _at(success, "euler|simple|16|5|20|480x832") > 0.7


def test_a_broken_pair_fails_with_other_numbers_too():
    success = success_probability(GRID, _ledger([("lcm|karras|16|5|20|832x480", "error"), ("lcm|karras|24|1|8|640x640", "error")]))
    assert _at(success, "lcm|karras|20|3.5|12|832x480") < 0.6
    assert _at(success, "euler|simple|20|3.5|12|832x480") > 0.9
    assert _at(success, "lcm|simple|20|3.5|12|832x480") > _at(success, "lcm|karras|20|3.5|12|832x480") + 0.15


def test_later_successes_win_the_region_back():
    failed = [("euler|simple|16|5|20|832x480", "error")] * 2
    before = success_probability(GRID, _ledger(failed))
    after = success_probability(GRID, _ledger(failed, ["euler|simple|16|5|20|832x480"] * 12))
    assert _at(after, "euler|simple|16|5|20|832x480") > 0.8 > _at(before, "euler|simple|16|5|20|832x480")
    assert np.isfinite(after).all() and (after > 0).all() and (after <= 1).all()
