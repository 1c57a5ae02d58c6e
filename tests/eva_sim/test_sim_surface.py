"""The hidden truth: bounded, seeded, with good and bad regions, directions as people report them, and interactions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eva_sim.names import SAMPLERS, SCHEDULERS
from eva_sim.surface import COST, DEFECT_NAMES, Defects, QualitySurface, quality_of

BASE = {"sampler": "euler", "scheduler": "simple", "cfg_scale": 5.0, "steps": 20, "fps": 16, "width": 480, "height": 320}
SEEDS = range(6)

PARAMS = st.fixed_dictionaries(
    {
        "sampler": st.sampled_from(SAMPLERS),
        "scheduler": st.sampled_from(SCHEDULERS),
        "cfg_scale": st.floats(0, 100),
        "steps": st.integers(1, 200),
        "fps": st.floats(1, 120),
        "width": st.integers(16, 4096),
        "height": st.integers(16, 4096),
        "seed": st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    }
)


def level(surface, name, **changes):
    return getattr(surface.defects({**BASE, **changes}), name)


def grid(surface):
    samplers = SAMPLERS[::4]
    for sampler, scheduler, steps, cfg, fps in itertools.product(samplers, SCHEDULERS, (4, 12, 20, 30), (1, 3.5, 6, 10), (8, 16, 24)):
        params = {**BASE, "sampler": sampler, "scheduler": scheduler, "steps": steps, "cfg_scale": cfg, "fps": fps}
        yield params, surface.quality(params)


@settings(max_examples=150, deadline=None)
@given(PARAMS, st.integers(0, 5))
def test_levels_and_quality_are_bounded(params, seed):
    surface = QualitySurface(seed)
    levels = surface.defects(params).as_dict()
    assert set(levels) == set(DEFECT_NAMES) and all(0 <= value <= 1 for value in levels.values())
    assert 0 <= surface.quality(params) <= 1


def test_same_seed_same_truth_and_other_seed_another():
    one, same, other = QualitySurface(1), QualitySurface(1), QualitySurface(2)
    values = [[s.quality(params) for params, _ in itertools.islice(grid(one), 0, None, 7)] for s in (one, same, other)]
    assert values[0] == values[1]
    assert np.corrcoef(values[0], values[2])[0, 1] < 0.95
    assert len({s.is_broken(a, b) for s in (one, other) for a in SAMPLERS for b in SCHEDULERS}) == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_there_is_something_to_find_and_to_avoid(seed):
    values = np.array([quality for _, quality in grid(QualitySurface(seed))])
    assert values.max() > 0.85 and (values < 0.3).mean() > 0.2
    assert 0.01 < (values > 0.8).mean() < 0.35  # good settings are there, but not everywhere


@pytest.mark.parametrize("seed", SEEDS)
def test_directions(seed):
    s = QualitySurface(seed)
    assert level(s, "blur", steps=3) > 0.5 > level(s, "blur", steps=40)
    assert level(s, "saturation", cfg_scale=25) > 0.8 and level(s, "saturation", cfg_scale=3) == 0
    assert level(s, "washed", cfg_scale=0.5) > 0.5 and level(s, "washed", cfg_scale=4) == 0
    assert level(s, "noise", steps=5, sampler="dpmpp_sde") > level(s, "noise", steps=5) + 0.2
    assert level(s, "blockiness", width=64, height=48) > level(s, "blockiness")
    blurs = [level(s, "blur", steps=n) for n in range(1, 60)]
    assert all(a >= b for a, b in zip(blurs, blurs[1:]))
    burns = [level(s, "saturation", cfg_scale=g) for g in np.linspace(0, 30, 50)]
    assert all(a <= b for a, b in zip(burns, burns[1:]))


@pytest.mark.parametrize("seed", SEEDS)
def test_interactions(seed):
    """What one setting does depends on another: the best steps on the sampler, the burn on the sampler, flicker and freezing
    on the scheduler, steps on the size."""
    s = QualitySurface(seed)
    pairs = [name for name in SAMPLERS if not s.is_broken(name, "simple")]
    enough = {name: next(n for n in range(1, 120) if level(s, "blur", sampler=name, steps=n) < 0.1) for name in pairs}
    assert max(enough.values()) > 1.6 * min(enough.values())
    burnt = {name: level(s, "saturation", sampler=name, cfg_scale=6) for name in ("euler", "euler_cfg_pp")}
    assert burnt["euler_cfg_pp"] > burnt["euler"] + 0.3
    worst_fps = {c: max((8, 10, 12, 16, 20, 24, 30), key=lambda f, c=c: level(s, "flicker", scheduler=c, fps=f)) for c in SCHEDULERS}
    assert len(set(worst_fps.values())) > 1
    freezing = [c for c in SCHEDULERS if level(s, "frozen", scheduler=c, cfg_scale=2) > 0.5]
    assert 0 < len(freezing) < len(SCHEDULERS) and all(level(s, "frozen", scheduler=c, cfg_scale=6) < 0.1 for c in freezing)
    assert level(s, "blur", steps=14, width=1280, height=720) >= level(s, "blur", steps=14, width=320, height=192)


@pytest.mark.parametrize("seed", SEEDS)
def test_broken_pairs(seed):
    s = QualitySurface(seed)
    broken = [(a, b) for a in SAMPLERS for b in SCHEDULERS if s.is_broken(a, b)]
    assert 5 < len(broken) < 80 and ("euler", "simple") not in broken
    for sampler, scheduler in broken:
        assert s.quality({**BASE, "sampler": sampler, "scheduler": scheduler}) < 0.05
    for sampler in SAMPLERS:
        assert sum(s.is_broken(sampler, c) for c in SCHEDULERS) <= 5


def test_luck_is_moderate_and_belongs_to_the_clip():
    s = QualitySurface(0)
    params = {**BASE, "steps": 11}
    values = [s.quality({**params, "seed": k}) for k in range(200)]
    assert 0.005 < np.std(values) < 0.12
    assert abs(np.mean(values) - s.quality(params)) < 0.06
    assert s.quality({**params, "seed": 3}) == s.quality({**params, "seed": 3})


def test_a_distilling_lora_makes_few_steps_do_and_burns_sooner():
    s = QualitySurface(0)
    few = {**BASE, "steps": 4, "cfg_scale": 1.0}
    assert s.quality({**few, "speedup": 4.5}) > s.quality(few) + 0.3
    assert level(s, "saturation", cfg_scale=7, speedup=4.5) > level(s, "saturation", cfg_scale=7)


def test_quality_is_one_without_defects_and_falls_with_each():
    assert quality_of(Defects()) == 1
    for name in DEFECT_NAMES:
        assert quality_of(Defects(**{name: 1.0})) == pytest.approx(1 - COST[name])
    assert Defects(blur=1.0).mixed(Defects(), 0.25).blur == 0.75


def test_unknown_names_are_refused():
    with pytest.raises(KeyError):
        QualitySurface(0).defects({**BASE, "sampler": "nope"})
    with pytest.raises((KeyError, ValueError)):
        QualitySurface(0).defects({**BASE, "scheduler": "nope"})
