"""From sampling passes to the parameters the hidden surface is asked about, and to the clip to render."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eva_sim.graph import Images, Pass
from eva_sim.render import ClipSpec
from eva_sim.surface import Defects, QualitySurface

EMPTY = Defects(blur=1.0, noise=1.0, washed=0.5, frozen=1.0)  # decoded without any sampling: fog


def _params(one: Pass, steps: int, images: Images, fps: float) -> dict[str, Any]:
    return {
        "sampler": one.sampler,
        "scheduler": one.scheduler,
        "cfg_scale": float(one.cfg),
        "steps": steps,
        "fps": float(fps),
        "width": images.width,
        "height": images.height,
        "seed": one.seed,
        "speedup": one.model.speedup,
    }


def effective_params(images: Images, fps: float) -> dict[str, Any] | None:
    """Parameters of a clip as one would name them: those of its first pass, with the steps of all. ``None`` without a pass."""
    passes = [one for one in (images.latent.passes if images.latent else ()) if one.steps]
    if not passes:
        return None
    return _params(passes[0], sum(one.steps for one in passes), images, fps)


def clip_defects(surface: QualitySurface, images: Images, fps: float) -> Defects:
    """Defects of a clip: the mean over its passes, weighted by steps, and what a wrong split of the steps adds.

    A schedule left before its end leaves noise; steps skipped between two passes, too, and blur.
    """
    passes = [one for one in (images.latent.passes if images.latent else ()) if one.steps]
    if not passes:
        return EMPTY
    total = sum(one.steps for one in passes)
    mixed: Defects | None = None
    so_far = 0
    luck_seed = passes[0].seed  # the second sampler adds no noise of its own, so its seed does not matter
    for one in passes:
        params = {**_params(one, total, images, fps), "seed": luck_seed}
        levels = surface.defects(params)
        so_far += one.steps
        mixed = levels if mixed is None else mixed.mixed(levels, one.steps / so_far)
    assert mixed is not None
    left = 1 - passes[-1].end / max(1, passes[-1].total)
    gap = sum(max(0.0, b.start / b.total - a.end / a.total) for a, b in zip(passes, passes[1:]))
    gap += passes[0].start / passes[0].total if passes[0].add_noise else 0.0
    if left > 0 or gap > 0:
        noise, blur = min(1.0, mixed.noise + 2 * left + gap), min(1.0, mixed.blur + left + 1.5 * gap)
        return replace(mixed, noise=noise, blur=blur)
    return mixed


def clip_spec(surface: QualitySurface, images: Images, fps: float) -> ClipSpec:
    """The clip these images stand for."""
    passes = images.latent.passes if images.latent else ()
    prompt, seed = (passes[0].positive, passes[0].seed) if passes else ("", 0)
    even = (images.width // 2 * 2, images.height // 2 * 2)  # yuv420p wants even sides
    return ClipSpec(str(prompt), int(seed), *even, images.frames, float(fps), clip_defects(surface, images, fps))
