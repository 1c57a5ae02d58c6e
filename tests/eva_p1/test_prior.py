"""Starting from what was learned elsewhere: a state folder, a knowledge.json, a published prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eva_env_base import UsageError
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.prior import MOST, Prior, keep_prior, kept_prior, read_prior, summed, write_prior
from eva_p1.search_space import SearchSpace
from eva_state.keys import combo_key
from eva_state.store import StateStore
from tests.agent_fakes import SMALL_SPACE

SPACE = {**SMALL_SPACE, "extra": {"shift": {"input": "ModelSamplingSD3.shift", "values": [3, 5], "own": 8}}}
GOOD = {"sampler": "heun", "scheduler": "beta", "fps": 16, "cfg_scale": 5, "steps": 20, "width": 640, "height": 480}


def _fill(folder: Path) -> None:
    space = SearchSpace.from_dict(SPACE)
    with StateStore(folder, role="agent") as store:
        store.set_space(space.to_dict())
        for number, arm in enumerate([arm for arm in space.arms() for _ in range(2)]):
            score = 0.9 if arm["sampler"] == "heun" else 0.3
            entry = {
                "video": f"{number}.mp4",
                "timestamp": 1.0,
                "params": arm,
                "score": score,
                "prompt": "a secret",
                "api": "http://secret:1",
            }
            entry |= {
                "negative_prompt": "",
                "metrics": {},
                "combo": [arm["sampler"], arm["scheduler"]],
                "seconds": 3.0,
                "cost_minutes": 2.0,
            }
            store.generated(f"p{number}", entry, score, 2.0)
        store.rate("0.mp4", {"overall_quality": 1})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elsewhere")
    _fill(path)
    return path


def _taught(prior: Prior, space: dict[str, Any] = SMALL_SPACE) -> MultiDimensionalBandit:
    bandit = MultiDimensionalBandit(space=prior.known_to(SearchSpace.from_dict(space)), seed=1)
    assert bandit.warm_start(prior.results) == len(prior.results) > 0
    return bandit


def test_three_sources_teach_the_same(folder: Path, tmp_path: Path) -> None:
    published = tmp_path / "prior.json"
    from_state = read_prior(folder)
    write_prior(from_state, published)
    assert read_prior(published) == from_state
    assert "secret" not in published.read_text(encoding="utf-8") and ".mp4" not in published.read_text(encoding="utf-8")
    from_history = read_prior(folder / "knowledge.json")
    known = {(item["combo_key"], item["source"]): item for item in from_state.results}
    assert {(item["combo_key"], item["source"]): item for item in from_history.results} == known
    first = combo_key(next(SearchSpace.from_dict(SPACE).arms()))
    assert known[first, "human"]["reward"] == 0.0 and known[first, "auto"] == {
        **{"combo_key": first, "reward": 0.3, "count": 1, "source": "auto", "cost_minutes": 2.0, "seconds": 3.0}
    }
    for prior in (from_state, read_prior(published)):
        bandit = _taught(prior)
        assert bandit.recommend()["sampler"] == "heun" and "extra" not in bandit.recommend()
        assert bandit.expected_minutes(GOOD, 3.0) == pytest.approx(2.0, rel=0.5)


def test_what_was_tried_elsewhere_is_neither_paid_nor_banned_here(folder: Path) -> None:
    bandit = _taught(read_prior(folder), SPACE)
    assert bandit.status()["tries"] == 0 and bandit.status()["minutes"] == 0
    bad = {**GOOD, "sampler": "euler", "extra": {"shift": 5}}
    assert bandit.update(bad, 0.3) == [] and bandit.update(bad, 0.3) == []  # two here, two elsewhere
    assert bandit.update(bad, 0.3) != []


def test_a_prior_is_kept_for_later_runs_and_forgotten_on_demand(folder: Path, tmp_path: Path) -> None:
    assert kept_prior(tmp_path) == Prior()
    keep_prior(read_prior(folder), tmp_path)
    assert kept_prior(tmp_path) == read_prior(folder)
    keep_prior(Prior(), tmp_path)
    assert kept_prior(tmp_path).results == []
    (tmp_path / "prior.json").write_text("{", encoding="utf-8")
    assert kept_prior(tmp_path) == Prior()


def test_only_the_most_tried_combos_are_kept() -> None:
    items = [{"combo_key": f"a|b|16|{i}|20|8x8", "reward": 0.5, "source": "auto"} for i in range(1, MOST + 50)]
    found = summed([*items, items[-1]])
    assert len(found) == MOST and found[0]["count"] == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "neither"),
        ('{"format": "eva-prior"}', "neither"),
        ('{"format": "eva-prior", "version": 9, "results": []}', "version 9"),
    ],
)
def test_what_is_no_prior_is_named(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        read_prior(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_prior(tmp_path / "nothing.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no state folder"):
        read_prior(tmp_path / "empty")


def test_results_that_make_no_sense_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    bandit = MultiDimensionalBandit(space=SMALL_SPACE, seed=1)
    good: dict[str, Any] = {"combo_key": combo_key(GOOD), "reward": 0.5, "count": 3, "source": "human"}
    bad: list[dict[str, Any]] = [
        {**good, "count": 0},
        {**good, "source": "a friend"},
        {**good, "reward": 2},
        {**good, "combo_key": "x"},
        {"reward": 0.5},
    ]
    assert bandit.warm_start([good, *bad]) == 1
    assert len([record for record in caplog.records if "left out" in record.getMessage()]) == len(bad)
