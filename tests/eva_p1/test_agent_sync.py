"""The bandit follows the state: history at the start, and what people do while the agent runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eva_p1.agent_sync import StateSync, is_reward, reward_of_rating
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.search_space import SearchSpace
from eva_state.keys import combo_key
from eva_state.store import StateStore
from tests.agent_fakes import SMALL_SPACE

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 8, "width": 640, "height": 480}
OTHER = {**PARAMS, "sampler": "heun"}
KEY = combo_key(PARAMS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    with StateStore(tmp_path / "state", role="agent") as opened:
        yield opened


def add_clip(store: StateStore, number: int, params: dict[str, Any] = PARAMS, score: float = 0.5) -> str:
    video = f"clip_{number}.mp4"
    entry = {"video": video, "timestamp": 1.0, "params": params, "combo": [params["sampler"], params["scheduler"]], "score": score}
    store.generated(f"id{number}", {**entry, "prompt": "", "negative_prompt": "", "metrics": {}}, score, 1.0)
    return video


def synced(store: StateStore) -> tuple[StateSync, MultiDimensionalBandit]:
    bandit = MultiDimensionalBandit(space=SearchSpace.from_dict(SMALL_SPACE), seed=1)
    sync = StateSync(bandit, store)
    store.subscribe(sync.notice)
    sync.warm_start()
    return sync, bandit


@pytest.mark.parametrize(("quality", "reward"), [(1, 0.0), (10, 1.0), (5.5, 0.5), (11, 1.0)])
def test_rating_to_reward(quality: float, reward: float) -> None:
    assert reward_of_rating(quality) == pytest.approx(reward)


def test_what_counts_as_a_reward() -> None:
    assert is_reward(0) and is_reward(1.0) and not is_reward(True) and not is_reward(1.1) and not is_reward(None) and not is_reward("0.5")


def test_history_ratings_bans_and_failures_are_learned_at_the_start(store: StateStore) -> None:
    clip = add_clip(store, 1)
    add_clip(store, 2, OTHER, 0.8)
    store.rate(clip, {"overall_quality": 10})
    store.ban(combo_key({**PARAMS, "steps": 20}), reason="ugly", by="a person")
    for number, kind in enumerate(["oom", "withdrawn", "lost"]):
        store.failed(f"f{number}", {"params": OTHER, "combo_key": combo_key(OTHER), "kind": kind, "reason": "x", "cost_minutes": 0})
    sync, bandit = synced(store)
    stats = bandit.stats()
    assert stats[KEY]["scores"] == [1.0] and stats[combo_key(OTHER)]["scores"] == [0.8]
    assert bandit.status()["failures"] == 1 and len(bandit.bans) == 1
    assert sync.is_banned(combo_key({**PARAMS, "steps": 20})) and not sync.is_banned(KEY)
    store.unrate(clip)
    sync.drain()
    assert bandit.stats()[KEY]["scores"] == [0.5], "the automatic score of a rated clip is known too"


def test_a_pattern_bans_what_it_covers_until_it_is_lifted(store: StateStore) -> None:
    sync, bandit = synced(store)
    store.ban("heun|*|*|*|*|*", by="a person")
    _changes, banned, _autobans = sync.drain()
    assert banned == ["heun|*|*|*|*|*"] and sync.is_banned(combo_key(OTHER)) and not sync.is_banned(KEY)
    assert all(bandit.select_params()["sampler"] == "euler" for _ in range(5))
    store.unban("heun|*|*|*|*|*", by="a person")
    assert sync.drain()[1] == [] and not sync.is_banned(combo_key(OTHER)) and bandit.bans == {}


def test_undoing_a_ban_lifts_it(store: StateStore) -> None:
    sync, bandit = synced(store)
    event = store.ban(KEY, by="a person").event_id
    sync.drain()
    store.undo(event)
    sync.drain()
    assert not sync.is_banned(KEY) and bandit.bans == {}


def test_a_ban_of_everything_is_obeyed_though_the_bandit_refuses_it(store: StateStore) -> None:
    sync, _bandit = synced(store)
    store.ban("*|*|*|*|*|*", by="a person")
    sync.drain()
    assert sync.is_banned(KEY)
    store.unban("*|*|*|*|*|*", by="a person")
    sync.drain()
    assert not sync.is_banned(KEY)


def test_old_scores_do_not_bring_back_a_ban_that_a_person_lifted(store: StateStore) -> None:
    for number in range(4):
        add_clip(store, number, score=0.1)
    sync, bandit = synced(store)
    assert bandit.bans == {} and not sync.is_banned(KEY)


def test_a_rating_of_an_unknown_clip_teaches_nothing(store: StateStore) -> None:
    sync, bandit = synced(store)
    store.rate("somebody_elses.mp4", {"overall_quality": 3})
    changes, _banned, autobans = sync.drain()
    assert len(changes) == 1 and autobans == [] and bandit.stats() == {}


def test_ratings_can_bring_about_autobans(store: StateStore) -> None:
    clips = [add_clip(store, number, score=0.9) for number in range(3)]
    sync, _bandit = synced(store)
    for clip in clips:
        store.rate(clip, {"overall_quality": 1})
    assert [key for key, _reason in sync.drain()[2]] == [KEY]


class _Noise(MultiDimensionalBandit):
    """Remembers what it was told of the rater."""

    told: list[tuple[float, int]]

    def set_rater_noise(self, sd: float, count: int) -> None:
        self.told.append((sd, count))
        super().set_rater_noise(sd, count)


def test_repeated_ratings_tell_the_raters_own_noise(store: StateStore) -> None:
    bandit = _Noise(space=SearchSpace.from_dict(SMALL_SPACE), seed=1)
    bandit.told = []
    sync = StateSync(bandit, store)
    store.subscribe(sync.notice)
    for number, (first, second) in enumerate([(5, 8), (7, 7)]):
        clip = add_clip(store, number)
        store.rate(clip, {"overall_quality": first})
        if number == 0:
            sync.warm_start()
            assert not bandit.told
        store.repeat(clip, {"overall_quality": second})
        sync.drain()
    # differences 3 and 0 of marks: one rating's error is sqrt((9 + 0) / 2 / 2) marks, a ninth of that in reward units
    assert bandit.told == [(pytest.approx(3 / 2**0.5 / 9), 1), (pytest.approx(1.5 / 9), 2)]
    sync.drain()
    assert len(bandit.told) == 2
    restarted = _Noise(space=SearchSpace.from_dict(SMALL_SPACE), seed=1)
    restarted.told = []
    StateSync(restarted, store).warm_start()
    assert restarted.told == bandit.told[-1:]
