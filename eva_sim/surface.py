"""The hidden quality surface: which defects a clip gets, as a function of the parameters it was made with.

Notation (all levels in [0, 1], 0 is none):

========  ==========================================================================
symbol    meaning
========  ==========================================================================
s         steps actually run; ``need``: steps that suffice for this sampler, scheduler and size
g         cfg scale; ``knee``: cfg above which this sampler and scheduler burn
r         stochasticity of the sampler in [0, 1] (ancestral and sde samplers are high)
A         width * height in pixels, relative to the surface's favourite area
========  ==========================================================================

The numbers are invented; their *directions* follow what people report of diffusion samplers: second-order samplers need
fewer steps, ``cfg_pp`` samplers burn at low cfg, ancestral and sde samplers leave grain when stopped early, ``karras`` and
``exponential`` suit flow models badly with some multistep samplers. ``seed`` moves all of it, so that nothing can be learned
by heart: traits by about 15 %, and which pairs are broken, which schedulers freeze, and the favourite size altogether.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from eva_sim.names import SAMPLERS, SCHEDULERS

REFERENCE_AREA = 480 * 320


@dataclass(frozen=True)
class Defects:
    """Levels in [0, 1] of everything a person could object to in a clip."""

    blur: float = 0.0
    saturation: float = 0.0
    washed: float = 0.0
    noise: float = 0.0
    flicker: float = 0.0
    blockiness: float = 0.0
    frozen: float = 0.0
    broken: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Level by name."""
        return asdict(self)

    def mixed(self, other: Defects, share: float) -> Defects:
        """Weighted mean; ``share`` in [0, 1] is the weight of ``other``."""
        mine, theirs = asdict(self), asdict(other)
        return Defects(**{name: mine[name] * (1 - share) + theirs[name] * share for name in mine})


DEFECT_NAMES: tuple[str, ...] = tuple(f.name for f in fields(Defects))

# How much of the quality a full defect takes away. A broken clip is worthless, a frozen one nearly so.
COST = {
    "blur": 0.80,
    "saturation": 0.70,
    "washed": 0.45,
    "noise": 0.60,
    "flicker": 0.65,
    "blockiness": 0.60,
    "frozen": 0.75,
    "broken": 0.97,
}


@dataclass(frozen=True)
class _Traits:
    need: float
    knee: float
    stochastic: float


def _sampler_traits(name: str) -> _Traits:
    """Traits by family: order of the method, cfg_pp, ancestral or sde."""
    need = 20.0
    if any(part in name for part in ("heun", "dpm_2", "seeds_2", "2s")):
        need = 13.0
    if name in ("uni_pc", "uni_pc_bh2", "seeds_3", "sa_solver_pece", "er_sde"):
        need = 12.0
    if name.startswith(("dpmpp_2m", "dpmpp_3m", "res_multistep", "deis", "ipndm", "gradient_estimation", "sa_solver")):
        need = 15.0
    if name in ("dpm_fast", "ddpm", "lms"):
        need = 25.0
    if name == "lcm":
        need = 8.0
    stochastic = 0.0
    if "ancestral" in name:
        stochastic, need = 0.8, need + 5
    if "sde" in name and name != "er_sde":
        stochastic, need = 0.95, need + 5
    if name in ("ddpm", "lcm", "er_sde", "sa_solver"):
        stochastic = max(stochastic, 0.55)
    knee = 6.0 + 0.8 * stochastic
    if "cfg_pp" in name:
        knee = 2.6
    if name == "lcm":
        knee = 3.2
    return _Traits(need, knee, stochastic)


def _ramp(value: float, start: float, end: float) -> float:
    """0 up to ``start``, 1 from ``end`` on, smooth between (also downwards, when end < start)."""
    t = min(1.0, max(0.0, (value - start) / (end - start)))
    return t * t * (3 - 2 * t)


def stable_rng(*parts: object) -> np.random.Generator:
    """A generator that depends on the text of ``parts`` alone, the same on every machine and run."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


class QualitySurface:
    """Ground truth of one simulated server. Two surfaces with the same seed are equal.

    ``params`` everywhere: ``sampler``, ``scheduler``, ``fps``, ``cfg_scale``, ``steps``, ``width``, ``height``; optionally
    ``seed`` (adds that clip's own luck), ``speedup`` (a distilling LoRA: steps count this many times, and cfg burns sooner).
    """

    def __init__(self, seed: int = 0):
        self.seed = int(seed)
        rng = stable_rng("surface", self.seed)
        self._traits: dict[str, _Traits] = {}
        for name in SAMPLERS:
            base = _sampler_traits(name)
            jitter = 1 + 0.15 * np.clip(rng.standard_normal(2), -2, 2)
            self._traits[name] = _Traits(float(base.need * jitter[0]), float(base.knee * jitter[1]), base.stochastic)
        # Affinity of pairs has rank 3, as tastes have: knowing some pairs tells something about the others.
        left, right = rng.standard_normal((len(SAMPLERS), 3)), rng.standard_normal((len(SCHEDULERS), 3))
        self._affinity = np.tanh(left @ right.T / 2.2)
        self._broken = self._choose_broken(rng)
        self._fps_dislike = {name: float(rng.uniform(9, 31)) for name in SCHEDULERS}
        self._flicker_gain = {name: float(rng.uniform(0.25, 1.0)) for name in SCHEDULERS}
        self._freezes = set(rng.choice([n for n in SCHEDULERS if n != "simple"], size=3, replace=False).tolist())
        self._favourite_area = REFERENCE_AREA * float(2 ** rng.uniform(-0.6, 1.1))
        self._favourite_aspect = float(rng.choice([1.5, 1.7, 0.75, 1.0]))

    def _choose_broken(self, rng: np.random.Generator) -> set[tuple[str, str]]:
        broken = {(s, c) for s in ("dpm_fast", "ddpm", "lms") for c in ("karras", "exponential")}
        for sampler in SAMPLERS:
            for scheduler in SCHEDULERS:
                if rng.random() < 0.08:
                    broken.add((sampler, scheduler))
        # Always something to find: the template's own pair works, and so do four schedulers of every sampler.
        broken.discard(("euler", "simple"))
        for sampler in SAMPLERS:
            bad = sorted(c for c in SCHEDULERS if (sampler, c) in broken)
            for scheduler in bad[5:]:
                broken.discard((sampler, scheduler))
        return broken

    def is_broken(self, sampler: str, scheduler: str) -> bool:
        """Whether this pair gives garbage whatever else is set."""
        return (sampler, scheduler) in self._broken

    def defects(self, params: Mapping[str, Any]) -> Defects:
        """Defect levels for ``params``. Raises ``KeyError`` for a missing field or unknown sampler or scheduler."""
        sampler, scheduler = str(params["sampler"]), str(params["scheduler"])
        traits = self._traits[sampler]
        affinity = float(self._affinity[SAMPLERS.index(sampler), SCHEDULERS.index(scheduler)])
        speedup = float(params.get("speedup", 1.0))
        s, g, fps = float(params["steps"]) * speedup, float(params["cfg_scale"]), float(params["fps"])
        width, height = float(params["width"]), float(params["height"])
        area = width * height / self._favourite_area
        octaves = math.log2(max(area, 1e-6))

        need = traits.need * (1 - 0.28 * affinity) * max(area, 0.05) ** 0.18
        lack = need / max(s, 0.5)
        blur = _ramp(lack, 1.05, 3.2) * 0.95 + 0.25 * _ramp(octaves, 1.2, 3.5)

        knee = traits.knee * (1 + 0.22 * affinity) / (speedup**0.45)
        saturation = _ramp(g, knee, knee * 2.1 + 1.0)
        washed = _ramp(g, 2.4, 0.8) * 0.85 * (0.1 if speedup > 1 else 1.0)

        grain = traits.stochastic * _ramp(lack, 0.75, 2.2) + 0.25 * _ramp(lack, 2.0, 6.0)
        noise = min(1.0, grain + 0.3 * saturation * traits.stochastic)

        gain = self._flicker_gain[scheduler] * (1 - 0.5 * affinity)
        near = math.exp(-(((fps - self._fps_dislike[scheduler]) / 4.5) ** 2))
        flicker = 0.8 * gain * near + 0.35 * _ramp(fps, 11, 6) + 0.25 * traits.stochastic * _ramp(g, knee * 0.8, knee * 1.8)

        aspect_gap = abs(math.log(width / height / self._favourite_aspect))
        blockiness = 0.75 * _ramp(-octaves, 0.9, 3.0) + 0.35 * _ramp(aspect_gap, 0.45, 1.2) + 0.3 * _ramp(fps, 25, 45)

        frozen = 0.0
        if scheduler in self._freezes:
            frozen = _ramp(g, 4.2, 2.2) * (0.4 if speedup > 1 else 1.0)
        frozen = max(frozen, 0.5 * _ramp(s, 4, 1))

        broken = 1.0 if self.is_broken(sampler, scheduler) else 0.0
        result = Defects(
            **{
                name: float(min(1.0, max(0.0, level)))
                for name, level in zip(DEFECT_NAMES, (blur, saturation, washed, noise, flicker, blockiness, frozen, broken))
            }
        )
        return self._with_luck(result, params)

    def _with_luck(self, levels: Defects, params: Mapping[str, Any]) -> Defects:
        """Every clip's own luck: defects come out up to a third weaker or stronger, and a little of one arrives unasked."""
        if params.get("seed") is None:
            return levels
        rng = stable_rng("luck", self.seed, params["seed"])
        changed = {}
        for name, level in levels.as_dict().items():
            factor = float(np.clip(1 + 0.14 * rng.standard_normal(), 0.66, 1.34))
            changed[name] = level if name == "broken" else min(1.0, level * factor)
        extra = ("blur", "noise", "flicker", "saturation")[int(rng.integers(4))]
        changed[extra] = min(1.0, changed[extra] + float(rng.exponential(0.035)))
        return replace(levels, **changed)

    def quality(self, params: Mapping[str, Any]) -> float:
        """Ground truth in [0, 1]: what an attentive person would think of the clip. 1 is flawless."""
        return quality_of(self.defects(params))


def quality_of(levels: Defects) -> float:
    """Product over defects of (1 - cost * level): one bad defect spoils a clip, many small ones add up."""
    quality = 1.0
    for name, level in levels.as_dict().items():
        quality *= 1 - COST[name] * level
    return quality
