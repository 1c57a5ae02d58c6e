"""What to try in place of a prompt that ran the GPU out of memory: the same again, with fewer pixels, else with fewer frames."""

from __future__ import annotations

from typing import Any

from eva_p1.agent_types import Params
from eva_p1.search_space import SearchSpace

# Memory grows with pixels x frames. A step of less than a fifth is within what a server's other programs take and give back, so it
# would probably fail again.
MOST = 0.8


def smaller_params(params: Params, space: SearchSpace) -> Params | None:
    """The costliest params of ``space`` below these that need at most :data:`MOST` of the pixels x frames; None where there are none.

    Sampler, scheduler, cfg and steps stay. A smaller size comes first, of the same orientation where there is one; else a lower frame
    rate, which at the same length means fewer frames.
    """
    width, height, fps = params["width"], params["height"], params["fps"]
    sizes = [size for size in space.size if size[0] * size[1] <= MOST * width * height]
    if sizes:
        best = max(sizes, key=lambda size: (_orientation(*size) == _orientation(width, height), size[0] * size[1]))
        return {**params, "width": best[0], "height": best[1]}
    rates = [rate for rate in space.fps if rate <= MOST * fps]
    return {**params, "fps": max(rates)} if rates else None


def _orientation(width: Any, height: Any) -> int:
    return (width > height) - (width < height)
