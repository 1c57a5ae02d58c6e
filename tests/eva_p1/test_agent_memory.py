"""Which clips of a long history are taught: the best combos whole, what people judged, the latest."""

from __future__ import annotations

import random

from eva_p1.agent_memory import worth_teaching
from eva_state.registers import Observation


def clip(number: int, key: str, reward: float, source: str = "auto") -> Observation:
    return Observation(f"clip_{number}.mp4", {}, key, reward, source, None, float(number))


def history(count: int) -> list[Observation]:
    rng = random.Random(1)
    return [clip(n, f"combo {n % 40}", rng.random() / 2, "human" if n % 9 == 0 else "auto") for n in range(count)]


def test_a_short_history_is_taught_whole() -> None:
    seen = history(30)
    assert worth_teaching(seen, most=30) == seen


def test_the_best_combos_are_taught_whole_and_lucky_clips_alone_are_not() -> None:
    seen = history(400)
    seen[0:3] = [clip(n, "best", 0.8) for n in range(3)]  # the oldest of all
    seen[3] = clip(3, "combo 3", 1.0)
    taught = worth_teaching(seen, most=60)
    assert {"clip_0.mp4", "clip_1.mp4", "clip_2.mp4"} <= {each.video for each in taught} and "clip_3.mp4" not in {e.video for e in taught}


def test_what_people_judged_and_the_latest_fill_the_rest_in_order() -> None:
    seen = history(400)
    taught = worth_teaching(seen, compared={"clip_130.mp4"}, most=300)
    names = [each.video for each in taught]
    assert len(names) == 300 and names == sorted(names, key=lambda name: int(name[5:-4])), "in their order, each once"
    assert "clip_130.mp4" in names and set(names) >= {each.video for each in seen if each.source == "human"} and names[-1] == "clip_399.mp4"
