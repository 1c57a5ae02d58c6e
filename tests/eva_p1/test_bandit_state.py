"""Every form of bandit_state.json, hand edits, broken files, and what comes back after a restart."""

from __future__ import annotations

import json
import logging

import pytest

from eva_p1.bandit_state import load_state
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.search_space import default_space

KEY = "euler|simple|16|7|20|832x480"
OTHER = "heun|beta|24|3.5|30|1280x720"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "auto_state" / "bandit_state.json"


def _write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_missing_file_is_an_empty_state_and_is_made_on_the_first_update(path):
    bandit = MultiDimensionalBandit(path, seed=1)
    assert not path.exists()
    params = bandit.select_params()
    bandit.update(params, 0.5, 2.0)
    assert list(_read(path)["combo_stats"].values()) == [{"N": 1, "S": 0.5, "scores": [0.5]}]
    assert _read(path)["t"] == 1


@pytest.mark.parametrize(
    ("form", "stats"),
    [
        ({"combo_stats": {"euler|simple|16.0|7.0|20|832x480": {"N": 2, "S": 1.2, "scores": [0.5, 0.7]}}}, [0.5, 0.7]),
        ({"combo_stats": {KEY: {"N": 3, "S": 1.8, "scores": [0.8]}}}, [0.8, 0.5, 0.5]),
        ({"combo_stats": {KEY: {"total_reward": 1.5, "count": 3}}}, [0.5, 0.5, 0.5]),
        ({"combo_stats": {KEY: {"total_reward": 0, "count": 0}}}, []),
        ({"arms": [KEY, OTHER], "N": [2, 0], "S": [1.0, 0.0], "t": 2}, [0.5, 0.5]),
        ({"arms": [KEY], "N": {KEY: 2}, "S": {KEY: 1.0}, "t": 2}, [0.5, 0.5]),
    ],
)
def test_every_form_is_read(path, form, stats):
    _write(path, form)
    told = MultiDimensionalBandit(path, seed=1).stats()
    assert told.get(KEY, {"scores": []})["scores"] == pytest.approx(stats)
    if stats:
        assert told[KEY]["N"] == len(stats) and told[KEY]["S"] == pytest.approx(sum(stats))


def test_pairs_of_the_original_system_inform_every_combo_of_the_pair(path):
    _write(path, {"arms": [["euler", "simple"], ["heun", "karras"], "lcm|beta"], "N": [9, 9, 0], "S": [8.1, 0.9, 0], "t": 18})
    bandit = MultiDimensionalBandit(path, seed=1)
    assert bandit.stats() == {}
    good = bandit.predict("euler|simple|24|1|4|640x640")["mean"]
    bad = bandit.predict("heun|karras|24|1|4|640x640")["mean"]
    assert good > bad + 0.05
    bandit.update(bandit.select_params(), 0.5)
    again = MultiDimensionalBandit(path, seed=1)
    assert again.predict("euler|simple|24|1|4|640x640")["mean"] > again.predict("heun|karras|24|1|4|640x640")["mean"] + 0.05


def test_everything_comes_back_after_a_restart(path):
    bandit = MultiDimensionalBandit(path, seed=1)
    arms = list(default_space().arms())
    for i in range(8):
        bandit.update(arms[i * 1999], 0.3 + 0.05 * i, cost_minutes=2.0 + i, video=f"тест {i}.mp4")
    bandit.update(arms[1999], 1.0, source="human", video="тест 1.mp4")
    bandit.compare("тест 2.mp4", "тест 3.mp4", "left", id="c1")
    bandit.ban("*|karras|*|*|*|*", "flickers")
    bandit.ban(KEY, "dull")
    bandit.unban(KEY)
    bandit.fail(arms[5], "oom", 0.7)
    again = MultiDimensionalBandit(path, seed=1)
    assert again.stats() == bandit.stats()
    assert again.bans == bandit.bans == {"*|karras|*|*|*|*": "flickers"}
    assert again.status()["minutes"] == pytest.approx(bandit.status()["minutes"])
    for arm in arms[:3]:
        one, two = again.predict(arm), bandit.predict(arm)
        assert (one["minutes"], one["success"]) == pytest.approx((two["minutes"], two["success"]))
    again.forget("тест 1.mp4")
    assert again.stats()[list(again.stats())[1]]["scores"] == [pytest.approx(0.35)]


def test_unknown_keys_and_what_is_not_understood_stay(path, caplog):
    odd = {"not a key": {"N": 1}, OTHER: {"N": "many"}}
    _write(
        path, {"mine": {"a": 1}, "combo_stats": {KEY: {"N": 1, "S": 0.4, "scores": [0.4]}, **odd}, "banned_combos": ["???", OTHER], "t": 1}
    )
    with caplog.at_level(logging.WARNING):
        bandit = MultiDimensionalBandit(path, seed=1)
    assert "not a key" in caplog.text and "???" in caplog.text
    bandit.update(bandit.select_params(), 0.5)
    data = _read(path)
    assert data["mine"] == {"a": 1}
    assert {key: data["combo_stats"][key] for key in odd} == odd
    assert set(data["banned_combos"]) == {"???", OTHER}
    assert list(bandit.bans) == [OTHER]


def test_a_hand_edit_wins_and_keeps_the_rest(path):
    bandit = MultiDimensionalBandit(path, seed=1)
    first, second = bandit.select_params(), bandit.select_params()
    bandit.update(first, 0.4, video="a")
    bandit.update(first, 0.6, video="b")
    bandit.update(second, 0.7, video="c")
    data = _read(path)
    keys = list(data["combo_stats"])
    data["combo_stats"][keys[0]] = {"N": 2, "S": 1.5, "scores": [0.6, 0.9]}
    data["combo_stats"][OTHER] = {"N": 1, "S": 0.2, "scores": [0.2]}
    del data["combo_stats"][keys[1]]
    data["banned_combos"] = ["lcm|*|*|*|*|*"]
    _write(path, data)
    again = MultiDimensionalBandit(path, seed=1)
    assert again.stats()[keys[0]]["scores"] == [0.6, 0.9]
    assert again.stats()[OTHER]["scores"] == [0.2]
    assert keys[1] not in again.stats()
    assert "lcm|*|*|*|*|*" in again.bans
    again.update(first, 0.1, source="human", video="b")  # the clip is still known by name
    assert sorted(again.stats()[keys[0]]["scores"]) == [0.1, 0.9]


@pytest.mark.parametrize("text", ["{", "", "[1, 2]", '"x"', b"\xff\xfe\x00"])
def test_a_broken_file_is_set_aside_not_overwritten(path, text, caplog):
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    raw = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        bandit = MultiDimensionalBandit(path, seed=1)
    kept = list(path.parent.glob("bandit_state.json.broken-*"))
    assert len(kept) == 1 and kept[0].read_bytes() == raw
    assert kept[0].name in caplog.text
    bandit.update(bandit.select_params(), 0.5)
    assert _read(path)["t"] == 1


def test_two_broken_files_in_one_second_are_both_kept(path):
    for text in ("{", "["):
        _write(path, text)
        load_state(path, clock=lambda: 1_700_000_000.0)
    assert sorted(p.read_text() for p in path.parent.glob("*.broken-*")) == ["[", "{"]


def test_a_combo_outside_the_space_is_kept_and_informs(path):
    _write(
        path,
        {
            "combo_stats": {
                "gone|simple|16|7|20|832x480": {"N": 1, "S": 0.9, "scores": [0.9]},
                "x|y|0|0|1|1x1": {"N": 1, "S": 1, "scores": [1]},
            }
        },
    )
    bandit = MultiDimensionalBandit(path, seed=1)
    assert len(bandit.stats()) == 2
    assert bandit.predict("gone|simple|16|7|20|832x480")["mean"] > 0.6
    assert bandit.select_params()["sampler"] in default_space().sampler


def test_nothing_half_written_is_left_when_the_disk_refuses(path, monkeypatch):
    bandit = MultiDimensionalBandit(path, seed=1)
    bandit.update(bandit.select_params(), 0.5)
    before = path.read_bytes()

    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eva_p1.bandit_state.os.fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        bandit.update(bandit.select_params(), 0.6)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["bandit_state.json"]


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bandit = MultiDimensionalBandit(seed=1)
    bandit.update(bandit.select_params(), 0.5)
    assert list(tmp_path.iterdir()) == []
