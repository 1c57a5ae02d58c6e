"""CPU time of a choice, of taking in a result, and of learning the hyperparameters again."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.bandit_rivals import Eva
from eva_p1.search_space import SearchSpace


def speed() -> None:
    """CPU milliseconds of a choice and of taking in a result, at 1,000 pulls, on 20,160 and 201,600 arms."""
    print("\nspeed: CPU ms on one core after 1,000 pulls (hyperparameter fits apart)")
    print(f"{'arms':>10} {'choice p50':>11} {'choice max':>11} {'result p50':>11} {'refit s':>9}")
    for scale in (1, 10):
        space = SearchSpace(
            sampler=tuple(f"sampler{i}" for i in range(8)),
            scheduler=tuple(f"scheduler{i}" for i in range(7 * (2 if scale > 1 else 1))),
            fps=(16, 20, 24),
            cfg_scale=(1, 2, 3.5, 5, 7) if scale == 1 else (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7),
            steps=(4, 8, 12, 16, 20, 30),
            size=((832, 480), (480, 832), (640, 640), (1280, 720)) if scale == 1 else tuple((320 + 64 * i, 480) for i in range(10)),
        )
        eva = Eva(space, 1)
        rng = np.random.default_rng(1)
        with eva.bandit.bulk():
            for _ in range(985):
                eva.tell(int(rng.integers(space.arm_count)), float(rng.uniform(0.5, 0.9)), 2.0)
        choose, learn = [], []
        for _ in range(15):
            start = time.process_time()
            cell = eva.ask()
            middle = time.process_time()
            eva.tell(cell, 0.6, 2.0)
            choose.append(middle - start)
            learn.append(time.process_time() - middle)
        start = time.process_time()
        eva.bandit._learner._next_fit = 0
        eva.bandit._learner.refit_if_due()
        refit = time.process_time() - start
        figures = [np.median(choose), max(choose), np.median(learn)]
        print(f"{space.arm_count:>10,} " + " ".join(f"{1e3 * value:>11.1f}" for value in figures) + f" {refit:>9.2f}", flush=True)
