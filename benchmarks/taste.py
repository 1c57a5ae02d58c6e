"""How well ratings are foretold, for persons who agree with the automatic score, have a taste of their own, or want the opposite.

    python benchmarks/taste.py [--clips 300] [--seed 0]

Every value of every setting has an effect on the automatic score and another on the person (sd 0.12 of the reward each); a clip's
luck has sd 0.08, the score's error 0.04, the person's 0.07, rounded to whole marks. Errors are root mean squares in marks: those
the check tells, found on ratings it had not seen, and the true ones on the clips nobody rated.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eva_p1.multi_bandit import MultiDimensionalBandit

LEVELS: dict[str, list[object]] = {
    "sampler": ["euler", "heun", "lcm", "uni_pc", "dpmpp_2m", "dpmpp_sde"],
    "scheduler": ["simple", "karras", "beta"],
    "fps": [16, 24],
    "cfg_scale": [1, 3.5, 5, 7],
    "steps": [10, 20, 30],
}
PERSONS: dict[str, Callable[[float, float, float], float]] = {  # of what the score likes, what the person likes, and the clip's luck
    "agrees": lambda score, own, luck: 0.5 + score + luck,
    "own taste": lambda score, own, luck: 0.5 + own + luck,
    "opposite settings": lambda score, own, luck: 0.5 - score + luck,
    "opposite in all": lambda score, own, luck: 0.5 - score - luck,
    "by chance": lambda score, own, luck: 0.5 + 3 * luck,
}
RATED = (12, 40, 120)


def trial(person: str, clips: int, rated: int, seed: int) -> str:
    """One row of the table."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 0.12, size=(2, len(LEVELS), 6))
    bandit = MultiDimensionalBandit(space={**LEVELS, "size": [[832, 480], [640, 480]]}, seed=seed)
    truth: list[float] = []
    with bandit.bulk():
        for number in range(clips):
            index = [int(rng.integers(len(values))) for values in LEVELS.values()]
            liked, own = (float(sum(table[axis, level] for axis, level in enumerate(index))) for table in effects)
            luck = float(rng.normal(0, 0.08))
            judged = PERSONS[person](liked, own, float(rng.normal(0, 0.08)) if person == "by chance" else luck) + rng.normal(0, 0.07)
            truth.append(round(float(np.clip(judged, 0, 1)) * 9) / 9)
            params = {name: values[level] for (name, values), level in zip(LEVELS.items(), index)} | {"width": 832, "height": 480}
            bandit.update(params, float(np.clip(0.5 + liked + luck + rng.normal(0, 0.04), 0, 1)), video=f"{number}")
            if number < rated:
                bandit.update(params, truth[-1], source="human", video=f"{number}")
    began = time.process_time()
    found = bandit.taste_check()
    seconds = time.process_time() - began
    assert found is not None
    expected = bandit.predicted_ratings()
    left = np.array(truth[rated:])
    errors = (left - [expected[f"{number}"][0] for number in range(rated, clips)], left - np.mean(truth[:rated]))
    true, of_mean = (9 * float(np.sqrt(np.mean(error**2))) for error in errors)
    told = f"{9 * found.error:>8.2f}{9 * found.error_of_mean:>8.2f}"
    shown = "shown" if found.convinces(False) else "not shown"
    return f"{person:20}{rated:>6}{told}{true:>10.2f}{of_mean:>8.2f}   {shown:10}{seconds:>6.1f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    print(f"{'person':20}{'rated':>6}{'error':>8}{'mean':>8}{'true':>10}{'mean':>8}   {'':10}{'CPU':>8}")
    for person in PERSONS:
        for rated in RATED:
            print(trial(person, flags.clips, rated, flags.seed), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
