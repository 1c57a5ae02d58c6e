"""A folder of the original system is taken in without loss, once."""

from __future__ import annotations

import json

import pytest

from eva_env_base import StateError
from eva_state import legacy
from eva_state.documents import BANDIT, BANS, KNOWLEDGE, QUEUE, RATINGS
from eva_state.reference import read_reference_params
from tests.eva_state.conftest import KEY, make_entry, make_params

OTHER = "uni_pc|beta|24|5|30|832x480"


def old_entry(video, **change):
    return {key: value for key, value in (make_entry("x") | {"video": video} | change).items() if value is not None}


@pytest.fixture
def old_folder(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    clips = tmp_path / "clips"
    (clips / "sub").mkdir(parents=True)
    (clips / "sub" / "c.mp4").write_bytes(b"x")

    def write(name, content):
        (folder / name).write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")

    write(
        RATINGS,
        {
            "a.mp4": {"rating": {"overall_quality": 8, "comments": "Гарно"}, "timestamp": 1.5, "rated_at": "2024-01-01 10:00:00"},
            str(clips / "sub" / "c.mp4"): {"rating": {"overall": 6, "visual_quality": 5}, "timestamp": 2.5},
            "gone.mp4": {"rating": {"quality": 3}},
            "feedback.mp4": {"user_feedback": {"overall_rating": 4}, "timestamp": 9.0},
            "unreadable.mp4": {"rating": {"comments": "no number"}},
        },
    )
    write(
        KNOWLEDGE,
        {
            "best_score": 0.9,
            "best_params": make_params(steps=99),
            "best_combo": ["euler", "simple"],
            "history": [
                old_entry("/workspace/ComfyUI/output/a.mp4", score=0.5, manual_rating={"overall_quality": 8}),
                old_entry(None, video_path="/workspace/ComfyUI/output/b.mp4", score=0.25),
                old_entry("/mnt/elsewhere/sub/c.mp4", score=0.75, **{"manual_rating": {"overall": 1}}),
                old_entry("d.mp4", score=0.1, timestamp=1.0),
                old_entry("d.mp4", score=0.2, timestamp=2.0, manual_rating={"overall_quality": 10}),
                "not an entry",
            ],
            "version": 4,
        },
    )
    write(
        BANDIT,
        {
            "combo_stats": {
                KEY.replace("|16|", "|16.0|"): {"total_reward": 3.5, "count": 7},
                OTHER: {"N": 2, "S": 1.5, "scores": [0.5, 1.0]},
            },
            "t": 12,
            "banned_combos": ["lcm|simple|16|1.0|4|832x480"],
            "note": "mine",
        },
    )
    write(
        QUEUE,
        {"pending": [{"video_id": "b.mp4", "priority": 7, "custom": 1}], "in_review": [], "completed": [{"video_id": "old.mp4"}], "x": 1},
    )
    write(BANS, [{"combo": "lcm|simple", "when": "2024", "why": "noise"}])
    return folder, clips


def test_everything_is_taken_in(open_store, old_folder):
    folder, clips = old_folder
    originals = {path.name: path.read_bytes() for path in folder.iterdir()}
    store = open_store("server", folder, video_dir=clips, publish_interval=3600)
    quality = {name: item["rating"]["overall_quality"] for name, item in store.ratings().items()}
    assert quality == {"a.mp4": 8, "sub/c.mp4": 6, "gone.mp4": 3, "feedback.mp4": 4, "d.mp4": 10}
    assert store.rating("a.mp4") == {
        "rating": {"overall_quality": 8, "comments": "Гарно"},
        "timestamp": 1.5,
        "rated_at": "2024-01-01 10:00:00",
    }
    assert store.rating("sub/c.mp4")["rating"] == {"overall": 6, "visual_quality": 5, "overall_quality": 6}
    assert store.entry("sub/c.mp4")["video_path"] == "/mnt/elsewhere/sub/c.mp4"
    assert store.entry("b.mp4")["score"] == 0.25 and store.entry("d.mp4")["score"] == 0.2
    assert len(store.history()) == 5  # the older one of d.mp4 too
    stats = store.combo_stats()
    assert stats[KEY]["N"] == 7 and stats[OTHER] == {"N": 2, "S": 1.5, "scores": [0.5, 1.0]}
    assert list(store.bans()) == ["lcm|simple|16|1|4|832x480"]
    assert store.stats()["bandit_iterations"] == 12
    assert store.flush()

    def read(name):
        return json.loads((folder / name).read_text(encoding="utf-8"))

    knowledge = read(KNOWLEDGE)
    assert knowledge["version"] == 4 and knowledge["history_unreadable"] == ["not an entry"]
    assert len(knowledge["history"]) == 5
    assert read(RATINGS)["unreadable.mp4"] == {"rating": {"comments": "no number"}}
    assert read(BANDIT)["note"] == "mine" and read(BANDIT)["t"] == 12
    assert read(BANS)[0] == {"combo": "lcm|simple", "when": "2024", "why": "noise"}
    queue = read(QUEUE)
    assert queue["x"] == 1 and queue["pending"][0]["custom"] == 1 and queue["pending"][0]["priority"] == 7
    assert {item["video_id"] for item in queue["completed"]} >= {"old.mp4", "a.mp4"}
    kept = {path.name.rsplit(".", 1)[0]: path.read_bytes() for path in (folder / "journal" / "legacy").iterdir()}
    assert kept == originals


def test_it_is_taken_in_once(open_store, old_folder):
    folder, clips = old_folder
    store = open_store("server", folder, video_dir=clips)
    size = store.stats(), store.combo_stats(), len(store.actions())
    store.close()
    store = open_store("server", folder, video_dir=clips)
    assert {key: value for key, value in store.stats().items() if key != "version"} == {k: v for k, v in size[0].items() if k != "version"}
    assert (store.combo_stats(), len(store.actions())) == size[1:]
    store.close()
    # The same when the note of what was published is lost.
    (folder / "journal" / "published.json").unlink()
    store = open_store("server", folder, video_dir=clips)
    assert (store.combo_stats(), len(store.actions())) == size[1:]


def test_a_human_rating_replaces_the_reward_of_a_clip_taken_in(open_store, old_folder):
    folder, clips = old_folder
    store = open_store("server", folder, video_dir=clips)
    before = store.combo_stats()[KEY]
    store.rate("b.mp4", {"overall_quality": 10})  # its automatic reward was 0.25
    after = store.combo_stats()[KEY]
    assert after["N"] == before["N"] and after["S"] == pytest.approx(before["S"] + 0.75)


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ({"combo_stats": {KEY: {"N": 2, "S": 1.0, "scores": [0.5, 0.5]}}}, {KEY: {"N": 2, "S": 1.0, "scores": [0.5, 0.5]}}),
        ({"combo_stats": {KEY: {"total_reward": 1.0, "count": 2}}}, {KEY: {"N": 2, "S": 1.0, "scores": []}}),
        ({"combo_stats": {KEY: {"scores": [0.5, 0.25]}}}, {KEY: {"N": 2, "S": 0.75, "scores": [0.5, 0.25]}}),
        ({"arms": [KEY, OTHER], "N": [3, 0], "S": [1.5, 0], "t": 3}, {KEY: {"N": 3, "S": 1.5, "scores": []}}),
        ({"arms": [["euler", "simple"]], "N": {"0": 2}, "S": {"0": 1.0}}, {"euler|simple|*|*|*|*": {"N": 2, "S": 1.0, "scores": []}}),
        ({"arms": [make_params()], "N": [1], "S": [0.5]}, {KEY: {"N": 1, "S": 0.5, "scores": []}}),
        ({"N": {KEY: 2}, "S": {KEY: 1.0}}, {KEY: {"N": 2, "S": 1.0, "scores": []}}),
        ({"combo_stats": {"?": 3}, "arms": None}, {}),
        ({}, {}),
    ],
)
def test_every_form_of_the_bandit_file(document, wanted):
    assert legacy.combo_stats(document) == wanted


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.mp4", "a.mp4"),
        ("sub/a.mp4", "sub/a.mp4"),
        ("/workspace/ComfyUI/output/sub/a.mp4", "sub/a.mp4"),
        ("C:\\ComfyUI\\output\\sub\\a.mp4", "sub/a.mp4"),
        ("/somewhere/a.mp4", "a.mp4"),
        (None, None),
        ("", None),
        (7, None),
    ],
)
def test_clip_names_from_paths(path, name):
    assert legacy.clip_name(path, None) == name


def test_clip_names_below_the_video_folder(tmp_path):
    assert legacy.clip_name(str(tmp_path / "x" / "a.mp4"), tmp_path) == "x/a.mp4"
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.mp4").write_bytes(b"")
    assert legacy.clip_name("/old/disk/deep/er/a.mp4", tmp_path) == "deep/er/a.mp4"


PARAMS = {"sampler": "euler", "steps": 20}


@pytest.mark.parametrize(
    "content",
    [
        [PARAMS],
        [{"params": PARAMS, "score": 1}],
        {"combos": [PARAMS]},
        {"params_list": [{"params": PARAMS}]},
        {"list": [PARAMS, PARAMS]},
        {"reference_combinations": [PARAMS]},
        {"reference_videos": [{"video": "a.mp4", "params": PARAMS}]},
    ],
)
def test_every_form_of_reference_params(tmp_path, content):
    path = tmp_path / "reference_params.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_reference_params(path) == [PARAMS]


@pytest.mark.parametrize("text", ["{", "7", '{"other": []}', "[1]", '[{"params": 3}]'])
def test_a_malformed_reference_file_is_named(tmp_path, text):
    path = tmp_path / "reference_params.json"
    path.write_text(text)
    with pytest.raises(StateError, match=r"reference_params\.json"):
        read_reference_params(path)
    assert read_reference_params(tmp_path / "none.json") == []
