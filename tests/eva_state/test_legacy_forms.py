"""Every form the original system's files have had, broken ones included: nothing is lost, nothing stops the start."""

from __future__ import annotations

import json
import math
import os

import pytest

from eva_state import legacy
from eva_state.documents import BANDIT, BANS, KNOWLEDGE, QUEUE, RATINGS, VIEWS
from tests.eva_state.conftest import KEY, make_entry, make_params

OTHER = "uni_pc|beta|24|5|30|832x480"
SURROGATE = "cut \ud83d"  # half an emoji, as a page that limits a text's length leaves it


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "state"
    found.mkdir()
    return found


def write(folder, name, content, encoding="utf-8"):
    (folder / name).write_bytes(json.dumps(content, indent=4, ensure_ascii=encoding == "ascii").encode(encoding, "surrogatepass"))


def take_in(open_store, folder, **options):
    store = open_store("server", folder, publish_interval=3600, **options)
    assert store.flush()
    return store


def read(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


# ---------------------------------------------------------------- ratings
@pytest.mark.parametrize(
    ("item", "rating", "more"),
    [
        ({"rating": {"overall_quality": 7, "mine": [1]}}, {"overall_quality": 7, "mine": [1]}, {}),
        ({"rating": {"overall": 6, "visual_quality": 5}}, {"overall": 6, "visual_quality": 5, "overall_quality": 6}, {}),
        ({"rating": {"quality": 3}}, {"quality": 3, "overall_quality": 3}, {}),
        (
            {"rating": {"user_feedback": {"overall_rating": 4, "x": 1}}},
            {"user_feedback": {"overall_rating": 4, "x": 1}, "overall_quality": 4},
            {},
        ),
        ({"user_feedback": {"overall_rating": 4}}, {"user_feedback": {"overall_rating": 4}, "overall_quality": 4}, {}),
        ({"rating": {"comments": "c"}, "user_feedback": {"overall_rating": 4}}, {"comments": "c", "overall_quality": 4}, {"user_feedback"}),
        ({"overall": 5, "comments": "flat"}, {"overall": 5, "comments": "flat", "overall_quality": 5}, {}),
        ({"rating": {"overall_quality": "8"}}, {"overall_quality": 8}, {}),
        ({"rating": {"overall_quality": "7,5", "quality": 2}}, {"overall_quality": 7.5, "quality": 2}, {}),
        ({"rating": {"overall_quality": None, "overall": 9}}, {"overall_quality": 9, "overall": 9}, {}),
        ({"rating": {"overall_quality": math.nan, "quality": 2}}, {"overall_quality": 2, "quality": 2}, {}),
        ({"rating": 8, "clip_id": "x"}, {"overall_quality": 8}, {"clip_id"}),
        (9, {"overall_quality": 9}, {}),
    ],
)
def test_every_form_of_a_rating(open_store, folder, item, rating, more):
    write(folder, RATINGS, {"a.mp4": item})
    store = take_in(open_store, folder)
    found = store.rating("a.mp4")
    assert found["rating"] == rating
    assert set(found) == {"rating", "timestamp", "rated_at", *more}
    assert read(folder, RATINGS)["a.mp4"] == found


@pytest.mark.parametrize(
    "item",
    [
        {"rating": {"comments": "no number"}},
        {"rating": {}},
        {},
        "good",
        None,
        [7],
        {"rating": {"overall_quality": math.inf}},
        {"overall": True},
    ],
)
def test_what_is_no_rating_is_kept_as_it_is(open_store, folder, item):
    write(folder, RATINGS, {"a.mp4": item, "b.mp4": {"rating": {"overall_quality": 5}}})
    store = take_in(open_store, folder)
    assert list(store.ratings()) == ["b.mp4"]
    kept = read(folder, RATINGS).get("a.mp4")
    assert kept == json.loads(json.dumps(item).replace("Infinity", "null"))


@pytest.mark.parametrize(
    ("times", "timestamp", "rated_at"),
    [
        ({"timestamp": 5.5, "rated_at": "2024-01-02 03:04:05"}, 5.5, "2024-01-02 03:04:05"),
        ({"timestamp": "2024-01-02T03:04:05Z"}, 1704164645.0, "2024-01-02T03:04:05Z"),
        ({"rated_at": "2024-01-02T03:04:05+00:00"}, 1704164645.0, "2024-01-02T03:04:05+00:00"),
        ({"timestamp": "yesterday", "rated_at": "2024-01-02T03:04:05+00:00"}, 1704164645.0, "2024-01-02T03:04:05+00:00"),
    ],
)
def test_when_it_was_rated(open_store, folder, times, timestamp, rated_at):
    write(folder, RATINGS, {"a.mp4": {"rating": {"overall_quality": 7}, **times}})
    found = take_in(open_store, folder).rating("a.mp4")
    assert (found["timestamp"], found["rated_at"]) == (timestamp, rated_at)
    if times.get("timestamp") == "yesterday":
        assert found["timestamp_original"] == "yesterday"


def test_one_clip_under_several_paths(open_store, folder):
    """The newest rating holds; the others are in the action history."""
    write(
        folder,
        RATINGS,
        {
            "/workspace/ComfyUI/output/sub/a.mp4": {"rating": {"overall_quality": 9}, "timestamp": 30.0},
            "sub/a.mp4": {"rating": {"overall_quality": 3}, "timestamp": 10.0},
            "D:\\ComfyUI\\output\\sub\\a.mp4": {"rating": {"overall_quality": 5}, "timestamp": 20.0},
            "sub\\a.mp4": {"rating": {"overall_quality": 4}},
        },
    )
    store = take_in(open_store, folder)
    assert {name: item["rating"]["overall_quality"] for name, item in store.ratings().items()} == {"sub/a.mp4": 9}
    assert [item["rating"]["overall_quality"] for item in store.actions()] == [9, 5, 3, 4]


def test_a_bare_list_of_ratings(open_store, folder):
    write(folder, RATINGS, [{"video": "a.mp4", "overall": 4}, {"video_path": "/x/output/b.mp4", "rating": {"quality": 5}}])
    store = take_in(open_store, folder)
    assert {name: item["rating"]["overall_quality"] for name, item in store.ratings().items()} == {"a.mp4": 4, "b.mp4": 5}


def test_a_linux_name_with_a_backslash_is_left_alone_later(open_store, folder):
    store = take_in(open_store, folder)
    store.rate("odd\\name.mp4", {"overall_quality": 5})
    store.flush()
    content = read(folder, RATINGS)
    content["b.mp4"] = {"rating": {"overall_quality": 6}}
    write(folder, RATINGS, content)
    store.flush()
    assert set(store.ratings()) == {"odd\\name.mp4", "b.mp4"}


# ---------------------------------------------------------------- history
def test_every_form_of_the_history(open_store, folder):
    entry = {key: value for key, value in make_entry("x").items() if key != "video"}
    history = [
        {**entry, "video": "/workspace/ComfyUI/output/a.mp4"},
        {**entry, "video_path": "/workspace/ComfyUI/output/b.mp4"},
        {**entry, "video": "C:\\ComfyUI\\output\\sub\\c.mp4", "video_path": "elsewhere"},
        {**entry, "video": None, "video_id": "d.mp4", "manual_rating": {"quality": 4}},
        {**entry, "video": "e.mp4", "manual_rating": {"comments": "no number"}},
        {**entry, "video": "f.mp4", "score": math.nan, "metrics": {"blur": math.inf}},
        {**entry, "video": "f.mp4", "timestamp": 1.0, "score": 0.25},
        {**entry, "note": "names no clip"},
        7,
        None,
    ]
    write(folder, KNOWLEDGE, {"history": history, "best_score": math.nan, "iteration": 9})
    store = take_in(open_store, folder)
    assert {"a.mp4", "b.mp4", "sub/c.mp4", "d.mp4", "e.mp4", "f.mp4"} <= {item.get("video") for item in store.history()}
    assert store.entry("sub/c.mp4")["video_path"] == "elsewhere"
    assert store.entry("sub/c.mp4")["video_original"] == "C:\\ComfyUI\\output\\sub\\c.mp4"
    assert store.rating("d.mp4")["rating"]["overall_quality"] == 4
    assert store.rating("e.mp4") is None and store.entry("e.mp4")["manual_rating"] == {"comments": "no number"}
    assert store.entry("f.mp4")["score"] is None and store.entry("f.mp4")["metrics"] == {"blur": None}
    knowledge = read(folder, KNOWLEDGE)
    assert len(knowledge["history"]) == 8 and knowledge["history_unreadable"] == [7, None] and knowledge["iteration"] == 9
    count = len(store.actions(100))
    store.close()
    assert len(take_in(open_store, folder).history()) == 8 and len(store.actions(100)) == count


@pytest.mark.parametrize(
    "content", [{"history": {"a.mp4": make_entry("a.mp4"), "b.mp4": {"score": 0.5}}}, [make_entry("a.mp4"), make_entry("b.mp4")]]
)
def test_a_history_by_name_or_as_a_bare_list(open_store, folder, content):
    write(folder, KNOWLEDGE, content)
    assert {item["video"] for item in take_in(open_store, folder).history()} == {"a.mp4", "b.mp4"}


def test_a_history_that_is_none_is_kept(open_store, folder):
    write(folder, KNOWLEDGE, {"history": "lost"})
    take_in(open_store, folder)
    assert read(folder, KNOWLEDGE)["history_unreadable"] == ["lost"]


# ---------------------------------------------------------------- bandit
def test_two_spellings_of_one_combo_are_added_up(open_store, folder):
    stats = {KEY: {"N": 2, "S": 1.0, "scores": [0.5, 0.5]}, KEY.replace("|16|", "|16.0|"): {"total_reward": 0.5, "count": 1, "last": "x"}}
    write(folder, BANDIT, {"combo_stats": stats})
    store = take_in(open_store, folder)
    assert store.combo_stats()[KEY] == {"N": 3, "S": 1.5, "scores": [0.5, 0.5], "last": "x"}
    assert read(folder, BANDIT)["combo_stats"][KEY]["last"] == "x"


def test_combos_that_cannot_be_read_are_kept(open_store, folder):
    odd = {"broken": {"N": "many"}, "text": "x"}
    write(folder, BANDIT, {"combo_stats": {**odd, KEY: [0.5, 0.25], OTHER: {"N": math.nan, "S": 1}}})
    store = take_in(open_store, folder)
    assert store.combo_stats() == {KEY: {"N": 2, "S": 0.75, "scores": [0.5, 0.25]}}
    assert read(folder, BANDIT)["combos_unreadable"] == {**odd, OTHER: {"N": None, "S": 1}}


def test_arms_that_carry_their_own_figures():
    assert legacy.combo_stats({"arms": {KEY: {"count": 2, "total_reward": 1.0}}}) == {KEY: {"N": 2, "S": 1.0, "scores": []}}


@pytest.mark.parametrize(
    "banned",
    [
        [KEY, ["lcm", "simple"]],
        {KEY: "grainy", "lcm|simple": {"reason": "grainy"}},
        [make_params(), {"combo_key": "lcm|simple", "reason": "grainy"}],
    ],
)
def test_every_form_of_banned_combos(open_store, folder, banned):
    write(folder, BANDIT, {"banned_combos": banned})
    store = take_in(open_store, folder)
    assert set(store.bans()) == {KEY, "lcm|simple|*|*|*|*"}
    assert store.banned_by("lcm|simple|16|1|4|832x480") and store.banned_by(KEY.replace("|20|", "|21|")) is None
    assert ("grainy" in {item["reason"] for item in store.bans().values()}) == (banned[0] != KEY if isinstance(banned, list) else True)


@pytest.mark.parametrize("odd", [[], {}, 7, "a|b|fast|1|2|3x4", "1|2|3|4|5|6|7"])
def test_a_ban_that_cannot_be_read_bans_nothing(open_store, folder, odd):
    write(folder, BANDIT, {"banned_combos": [KEY, odd]})
    store = take_in(open_store, folder)
    assert set(store.bans()) == {KEY} or odd == 7
    assert store.banned_by(OTHER) is None
    if odd != 7:  # a number is read as a sampler's name, which bans nothing that exists
        assert read(folder, BANDIT)["banned_unreadable"] == [odd]


# ---------------------------------------------------------------- queue, bans
def test_every_form_of_the_queue(open_store, folder):
    write(
        folder, QUEUE, {"pending": ["a.mp4", {"video_path": "/x/output/b.mp4", "mine": 1}, {"no": "clip"}, 3], "in_review": "none", "k": 1}
    )
    take_in(open_store, folder)
    queue = read(folder, QUEUE)
    assert [item["video_id"] for item in queue["pending"]] == ["a.mp4", "b.mp4"] and queue["pending"][1]["mine"] == 1
    assert queue["queue_unreadable"] == [{"no": "clip"}, 3, "none"] and queue["k"] == 1


def test_a_bare_list_as_queue(open_store, folder):
    write(folder, QUEUE, [{"video_id": "a.mp4"}])
    take_in(open_store, folder)
    assert [item["video_id"] for item in read(folder, QUEUE)["pending"]] == ["a.mp4"]


@pytest.mark.parametrize("content", [[{"a": 1}], {"x|y": [{"a": 1}]}, {"bans": [{"a": 1}]}])
def test_every_form_of_the_ban_history(open_store, folder, content):
    write(folder, BANS, content)
    take_in(open_store, folder)
    assert read(folder, BANS) == [{"a": 1}]


# ---------------------------------------------------------------- bytes
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "ascii"])
def test_every_encoding_of_a_file(open_store, folder, encoding):
    write(folder, RATINGS, {"кліп.mp4": {"rating": {"overall_quality": 7, "comments": "гарно"}}}, encoding)
    assert take_in(open_store, folder).rating("кліп.mp4")["rating"]["comments"] == "гарно"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_half_an_emoji_stops_nothing(open_store, folder, encoding):
    write(folder, RATINGS, {"a.mp4": {"rating": {"overall_quality": 7, "comments": SURROGATE}}, SURROGATE: {"overall": 3}}, encoding)
    write(folder, KNOWLEDGE, {"history": [make_entry("b.mp4") | {"prompt": SURROGATE}], SURROGATE: 1}, encoding)
    write(folder, BANS, [{"why": SURROGATE}], encoding)
    store = take_in(open_store, folder)
    assert store.rating("a.mp4")["rating"]["comments"] == "cut \ufffd" and "cut \ufffd" in store.ratings()
    assert store.entry("b.mp4")["prompt"] == "cut \ufffd"
    assert read(folder, BANS) == [{"why": "cut \ufffd"}]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b'{"a": 1} more', b"nul", b"[" * 100_000, b"\0\0\0\0"])
def test_a_broken_file_is_set_aside_and_stops_nothing(open_store, folder, view, text):
    (folder / view).write_bytes(text)
    os.utime(folder / view, (1e9, 1e9))  # nobody is just writing it
    write(folder, RATINGS if view != RATINGS else KNOWLEDGE, {})
    store = open_store("server", folder)
    store.rate("a.mp4", {"overall_quality": 5})
    assert store.flush()
    read(folder, view)
    (kept,) = [path for path in folder.iterdir() if path.name.startswith(f"{view}.broken-")]
    assert kept.read_bytes() == text and any(problem.kept == kept for problem in store.problems)


@pytest.mark.parametrize("view", [RATINGS, KNOWLEDGE, QUEUE, BANDIT])
@pytest.mark.parametrize("content", [7, "text", None, [1, 2]])
def test_a_file_of_the_wrong_shape_is_kept(open_store, folder, view, content):
    write(folder, view, content)
    before = (folder / view).read_bytes()
    store = take_in(open_store, folder)
    store.rate("a.mp4", {"overall_quality": 5})
    assert store.flush() and isinstance(read(folder, view), dict)
    (kept,) = (folder / "journal" / "legacy").glob(f"{view}.*")
    assert kept.read_bytes() == before


def test_a_deep_nest_stops_nothing(open_store, folder):
    (folder / RATINGS).write_text('{"a.mp4": {"rating": {"overall_quality": 5, "x": ' + "[" * 600 + "]" * 600 + "}}}")
    store = open_store("server", folder)
    store.rate("b.mp4", {"overall_quality": 5})
    assert store.flush()
    kept = [*folder.glob(f"{RATINGS}.broken-*"), *(folder / "journal" / "legacy").glob(f"{RATINGS}.*")]
    assert any("[" * 600 in path.read_text() for path in kept)
