"""A small space whose best settings are known, and a bandit that plays in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.search_space import SearchSpace

SPACE = {
    "sampler": ["euler", "heun", "lcm"],
    "scheduler": ["simple", "karras"],
    "fps": [16, 24],
    "cfg_scale": [1, 3.5, 7],
    "steps": [4, 12, 30],
    "size": [[832, 480], [1280, 720]],
}
ARMS = list(SearchSpace.from_dict(SPACE).arms())


def quality(params: dict[str, Any]) -> float:
    return 0.3 + 0.3 * (params["sampler"] == "heun") + 0.1 * (params["cfg_scale"] == 3.5) + 0.15 * (params["steps"] >= 12)


def play(bandit: MultiDimensionalBandit, pulls: int, seed: int = 0, noise: float = 0.05, **told: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    chosen = []
    for i in range(pulls):
        params = bandit.select_params()
        chosen.append(params)
        bandit.update(params, float(np.clip(quality(params) + noise * rng.standard_normal(), 0, 1)), video=f"clip{seed}_{i}.mp4", **told)
    return chosen
