"""CPU time of a choice, of taking in a result, and of learning the hyperparameters again."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.bandit_rivals import Eva
from eva_p1.search_space import SearchSpace

PULLS, MEASURED = 1_000, 15


def _space(scale: int) -> SearchSpace:
    return SearchSpace(
        sampler=tuple(f"sampler{i}" for i in range(8)),
        scheduler=tuple(f"scheduler{i}" for i in range(7 if scale == 1 else 14)),
        fps=(16, 20, 24),
        cfg_scale=(1, 2, 3.5, 5, 7) if scale == 1 else (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7),
        steps=(4, 8, 12, 16, 20, 30),
        size=((832, 480), (480, 832), (640, 640), (1280, 720)) if scale == 1 else tuple((320 + 64 * i, 480) for i in range(10)),
    )


def _pulls(eva: Eva, count: int) -> tuple[list[float], list[float]]:
    """Seconds of CPU of the calling thread for each choice and each result."""
    choose, learn = [], []
    for _ in range(count):
        start = time.thread_time()
        cell = eva.ask()
        middle = time.thread_time()
        eva.tell(cell, 0.6, 2.0)
        choose.append(middle - start)
        learn.append(time.thread_time() - middle)
    return choose, learn


def speed() -> None:
    """CPU of the calling thread at 1,000 pulls, on 20,160 and 201,600 arms: a choice, a result, and both while the
    hyperparameters are learned beside them; then what the learning takes in its own thread, and taking it over."""
    print("\nspeed: CPU ms on one core after 1,000 pulls; 'beside': while the hyperparameters are learned in the background")
    heads = ("choice p50", "choice max", "result p50", "beside max", "take over", "learning")
    print(f"{'arms':>10} " + " ".join(f"{head:>11}" for head in heads))
    for scale in (1, 10):
        space = _space(scale)
        eva = Eva(space, 1, background=True)
        learner = eva.bandit._learner
        rng = np.random.default_rng(1)
        with eva.bandit.bulk():
            for _ in range(PULLS - MEASURED):
                eva.tell(int(rng.integers(space.arm_count)), float(rng.uniform(0.5, 0.9)), 2.0)
        choose, learn = _pulls(eva, MEASURED)
        whole = time.process_time()
        learner._next_fit = 0
        learner.refit_if_due(beside=True)
        beside, _ = _pulls(eva, 3)
        assert learner._refit is not None, "the learning was over before three choices were made"
        mine = time.thread_time()
        learner._refit.wait()
        before = time.thread_time()
        learner.catch_up()
        take_over = time.thread_time() - before
        learning = time.process_time() - whole - sum(beside) - take_over - (before - mine)
        figures = [np.median(choose), max(choose), np.median(learn), max(beside), take_over, learning]
        print(f"{space.arm_count:>10,} " + " ".join(f"{1e3 * value:>11.1f}" for value in figures), flush=True)
