from __future__ import annotations

import errno
import json
import os
import random

import pytest

from eva_state import documents
from eva_state.documents import BANDIT, BANS, KNOWLEDGE, QUEUE, RATINGS, VIEWS
from tests.eva_state.conftest import KEY, make_entry, make_params, wait_until


def read(store, view):
    return json.loads((store.state_dir / view).read_text(encoding="utf-8"))


def comparable(view, document):
    """A view's content without what may differ between two versions that say the same."""
    found = dict(document) if isinstance(document, dict) else document
    if isinstance(found, dict):
        found.pop("_eva", None)
    if view == BANDIT:
        found["arms"] = sorted(found["arms"])
    if view == KNOWLEDGE:
        found["history"] = sorted(found["history"], key=lambda item: json.dumps(item, sort_keys=True))
    if view == QUEUE:
        for name in documents.QUEUE_LISTS:
            found[name] = sorted(found[name], key=lambda item: item["video_id"])
    return found


def assert_views_say_what_the_journal_says(store):
    for view in VIEWS:
        assert comparable(view, read(store, view)) == comparable(view, documents.document(store._model, view)), view


def edit(store, view, change):
    """A tool that reads, changes and replaces a view."""
    content = read(store, view)
    change(content)
    temporary = store.state_dir / f"tool-{view}"
    temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
    temporary.replace(store.state_dir / view)


@pytest.fixture
def store(open_store):
    found = open_store("agent", publish_interval=3600)  # only when asked
    found.generated("p1", make_entry("a.mp4", 0.4), 0.4)
    found.generated("p2", make_entry("b.mp4", 0.6, steps=30), 0.6)
    found.rate("a.mp4", {"overall_quality": 8, "comments": "ok"})
    found.ban(KEY, reason="grainy", by="QA")
    assert found.flush()
    return found


def test_the_forms_of_the_views(store):
    ratings = read(store, RATINGS)
    assert list(ratings) == ["a.mp4"] and set(ratings["a.mp4"]) == {"rating", "timestamp", "rated_at"}
    bandit = read(store, BANDIT)
    assert bandit["combo_stats"][KEY] == {"N": 1, "S": pytest.approx(7 / 9), "scores": [pytest.approx(7 / 9)]}
    assert bandit["t"] == 2 and bandit["banned_combos"] == [KEY] and set(bandit["arms"]) == set(bandit["N"]) == set(bandit["combo_stats"])
    knowledge = read(store, KNOWLEDGE)
    assert knowledge["best_score"] == pytest.approx(7 / 9) and knowledge["best_params"] == make_params()
    assert knowledge["best_combo"] == ["euler", "simple"]
    assert knowledge["history"][0] == make_entry("a.mp4", 0.4) | {
        "manual_rating": {"overall_quality": 8, "comments": "ok"},
        "manual_rated_at": ratings["a.mp4"]["rated_at"],
    }
    queue = read(store, QUEUE)
    assert [item["video_id"] for item in queue["pending"]] == ["b.mp4"] and [item["video_id"] for item in queue["completed"]] == ["a.mp4"]
    keys = {"video_id", "original_path", "thumbnail_path", "generated_at", "auto_metrics", "prompt", "params", "combo", "priority"}
    assert set(queue["pending"][0]) == keys and queue["in_review"] == []
    bans = read(store, BANS)
    assert (bans[0]["action"], bans[0]["combo_key"], bans[0]["reason"], bans[0]["by"]) == ("ban", KEY, "grainy", "QA")
    assert read(store, BANDIT)["_eva"]["applied"] == {"agent": 4}


def test_incremental_versions_equal_whole_ones(open_store):
    store = open_store("agent", publish_interval=3600)
    rng = random.Random(7)
    ids = []
    for _round in range(60):
        for _ in range(rng.randrange(1, 12)):
            number, what = rng.randrange(400), rng.randrange(6)
            name = f"клип {number}.mp4"
            if what <= 2:
                store.generated(None, make_entry(name, rng.random(), steps=rng.randrange(1, 20)), rng.random())
            elif what == 3:
                ids.append(store.rate(name, {"overall_quality": rng.randrange(1, 11)}).event_id)
            elif what == 4 and ids:
                store.undo(ids.pop(rng.randrange(len(ids))))
            else:
                ids.append(store.ban_clip(name, KEY).event_id)
        assert store.flush()
        assert_views_say_what_the_journal_says(store)


def test_views_follow_by_themselves_and_are_current_after_close(open_store):
    store = open_store("server")
    store.rate("a.mp4", {"overall_quality": 5})
    wait_until(lambda: (store.state_dir / RATINGS).exists() and "a.mp4" in read(store, RATINGS))
    store.rate("b.mp4", {"overall_quality": 5})
    store.close()
    assert list(read(store, RATINGS)) == ["a.mp4", "b.mp4"]
    assert not list(store.state_dir.glob(".*.tmp"))


def test_the_last_to_close_publishes_what_the_other_recorded(open_store):
    agent = open_store("agent", publish_interval=3600, poll_interval=3600)
    server = open_store("server", publish_interval=3600)
    server.rate("a.mp4", {"overall_quality": 5})
    server.close()
    agent.close()
    assert list(read(agent, RATINGS)) == ["a.mp4"]


def test_an_unchanged_view_is_not_written_again(open_store, store):
    before = {view: (store.state_dir / view).stat().st_mtime_ns for view in VIEWS}
    store.flush()
    store.close()
    again = open_store("agent", publish_interval=3600)
    again.flush()
    assert before == {view: (again.state_dir / view).stat().st_mtime_ns for view in VIEWS}
    again.ban("*|*|16|*|*|*")
    again.flush()
    after = {view: (again.state_dir / view).stat().st_mtime_ns for view in VIEWS}
    assert {view for view in VIEWS if after[view] != before[view]} == {BANDIT, BANS}


def test_one_process_publishes_and_the_other_takes_over(open_store):
    first, second = open_store("agent"), open_store("server")
    assert first.flush() and not second.flush()
    second.rate("a.mp4", {"overall_quality": 5})
    wait_until(lambda: "a.mp4" in read(first, RATINGS))
    first.close()
    wait_until(second.flush)
    second.rate("b.mp4", {"overall_quality": 5})
    assert second.flush() and list(read(second, RATINGS)) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("offline", [False, True])
def test_hand_edits_of_ratings_become_events(open_store, store, offline):
    store.rate("c.mp4", {"overall_quality": 3})
    store.flush()

    def change(ratings):
        ratings["a.mp4"]["rating"]["overall_quality"] = 2
        ratings["a.mp4"]["note"] = "a tool's own"
        del ratings["c.mp4"]
        ratings["new.mp4"] = {"rating": {"overall_quality": 9}, "timestamp": 5.0, "rated_at": "2020-01-01 00:00:00"}
        ratings["strange"] = [1, 2]

    if offline:
        store.close()
    edit(store, RATINGS, change)
    if offline:
        store = open_store("agent", publish_interval=3600)
    assert store.flush()
    assert store.rating("a.mp4")["rating"] == {"overall_quality": 2, "comments": "ok"}
    assert store.rating("c.mp4") is None
    assert store.rating("new.mp4") == {"rating": {"overall_quality": 9}, "timestamp": 5.0, "rated_at": "2020-01-01 00:00:00"}
    found = read(store, RATINGS)
    assert found["a.mp4"]["note"] == "a tool's own" and found["strange"] == [1, 2] and "c.mp4" not in found
    count = len(store.actions())
    store.flush()
    store.close()
    again = open_store("agent", publish_interval=3600)
    again.flush()
    assert len(again.actions()) == count  # taken in once
    edited = next(item for item in again.actions() if item.get("name") == "a.mp4")
    again.undo(edited["event_id"])
    assert again.rating("a.mp4")["rating"]["overall_quality"] == 8


def test_hand_edits_of_the_other_views(open_store, store):
    def bandit(content):
        content["banned_combos"] = ["uni_pc|simple|16.0|7.0|20|832x480"]
        content["my_tool"] = {"kept": True}
        content["combo_stats"][KEY]["N"] += 2
        content["combo_stats"][KEY]["S"] += 0.5
        content["t"] = 40

    def knowledge(content):
        content["history"][1]["prompt"] = "edited"
        content["history"][1]["manual_rating"] = {"overall_quality": 4}
        content["history"].append(make_entry("new.mp4", 0.7))
        content["owner"] = "me"

    def queue(content):
        content["pending"][0]["priority"] = 99
        content["in_review"].append(content["pending"].pop())
        content["completed"].clear()

    edit(store, BANDIT, bandit)
    edit(store, KNOWLEDGE, knowledge)
    edit(store, QUEUE, queue)
    edit(store, BANS, lambda content: content.append({"who": "me", "what": "a note"}))
    assert store.flush()
    assert list(store.bans()) == ["uni_pc|simple|16|7|20|832x480"]
    assert store.combo_stats()[KEY]["N"] == 3 and store.combo_stats()[KEY]["S"] == pytest.approx(7 / 9 + 0.5)
    assert store.entry("b.mp4")["prompt"] == "edited" and store.rating("b.mp4")["rating"] == {"overall_quality": 4}
    assert store.entry("new.mp4") == make_entry("new.mp4", 0.7)
    assert read(store, BANDIT)["my_tool"] == {"kept": True} and read(store, KNOWLEDGE)["owner"] == "me"
    assert read(store, BANDIT)["t"] == 40 and read(store, BANDIT)["N"][KEY] == 3
    assert {"who": "me", "what": "a note"} in read(store, BANS)
    queue_now = read(store, QUEUE)
    assert [item["video_id"] for item in queue_now["completed"]] == ["b.mp4"]  # in review, and rated since
    assert queue_now["completed"][0]["priority"] == 99
    assert_views_say_what_the_journal_says(store)
    store.close()
    again = open_store("agent", publish_interval=3600)
    again.flush()
    assert_views_say_what_the_journal_says(again)
    assert again.combo_stats()[KEY]["N"] == 3


def test_an_edit_and_newer_events_are_merged(store):
    content = read(store, RATINGS)
    store.rate("c.mp4", {"overall_quality": 6})  # after the tool read the file, before it wrote
    content["a.mp4"]["rating"]["overall_quality"] = 1
    (store.state_dir / RATINGS).write_text(json.dumps(content), encoding="utf-8")
    store.flush()
    assert {name: item["rating"]["overall_quality"] for name, item in store.ratings().items()} == {"a.mp4": 1, "c.mp4": 6}
    assert_views_say_what_the_journal_says(store)


def test_a_removed_entry_of_the_history(store):
    edit(store, KNOWLEDGE, lambda content: content["history"].pop(0))
    store.flush()
    assert store.entry("a.mp4") is None and store.rating("a.mp4") is not None
    assert [item["video"] for item in read(store, KNOWLEDGE)["history"]] == ["b.mp4"]


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("content", ["", "{", '{"a.mp4": {"rating"', "\0\0\0\0", "[" * 100_000])
def test_a_broken_view_is_set_aside_and_rebuilt(open_store, store, content, offline):
    if offline:
        store.close()
    (store.state_dir / RATINGS).write_text(content)
    os.utime(store.state_dir / RATINGS, (1, 1))  # long ago: nobody is still writing it
    if offline:
        store = open_store("agent", publish_interval=3600)
    assert store.flush()
    assert list(read(store, RATINGS)) == ["a.mp4"]
    kept = list(store.state_dir.glob(RATINGS + ".broken-*"))
    assert [path.read_text() for path in kept] == [content]
    assert any("cannot be parsed" in str(problem) for problem in store.problems)


def test_a_file_that_is_just_being_written_is_waited_for(store):
    text = (store.state_dir / RATINGS).read_text()
    (store.state_dir / RATINGS).write_text(text[:20])
    store.rate("c.mp4", {"overall_quality": 6})
    store.flush()
    if (store.state_dir / RATINGS).read_text() == text[:20]:  # not so on a machine that slept for a second here
        (store.state_dir / RATINGS).write_text(text.replace('"comments":"ok"', '"comments":"edited"'))
        store.flush()
        assert store.rating("a.mp4")["rating"]["comments"] == "edited" and store.rating("c.mp4")
        assert not list(store.state_dir.glob("*.broken-*"))


def test_a_deleted_view_is_written_again(store):
    (store.state_dir / KNOWLEDGE).unlink()
    store.flush()
    assert len(read(store, KNOWLEDGE)["history"]) == 2 and len(store.history()) == 2


def test_a_disk_that_fails_at_any_operation_leaves_whole_views(open_store, tmp_path, faulty):
    store = open_store("server", files=faulty, publish_interval=3600)
    store._publisher._stop.set()
    store._publisher._thread.join()  # the faults are for the test's own publications
    store.rate("start.mp4", {"overall_quality": 5})
    assert store.flush()
    for countdown in range(1, 60):
        faulty.count, faulty.countdown, faulty.short, faulty.once = 0, None, 9, True
        store.rate(f"{countdown}.mp4", {"overall_quality": 5})
        faulty.count, faulty.countdown = 0, countdown
        whole = store.flush()
        faulty.countdown = None
        for view in VIEWS:
            read(store, view)
        assert not list(store.state_dir.glob(".*.tmp"))
        assert store.flush()
        assert_views_say_what_the_journal_says(store)
    assert whole


def test_a_full_disk_does_not_lose_a_hand_edit(store, faulty):
    store._publisher._files = faulty
    store._writer._files = faulty
    faulty.fail["write"] = errno.ENOSPC
    edit(store, RATINGS, lambda content: content.update({"new.mp4": {"rating": {"overall_quality": 9}}}))
    assert not store.flush()
    assert "new.mp4" in read(store, RATINGS)
    faulty.fail.clear()
    assert store.flush()
    assert store.rating("new.mp4")["rating"] == {"overall_quality": 9}


def test_an_edit_just_before_the_close_is_taken_in(open_store, store):
    edit(store, RATINGS, lambda content: content["a.mp4"]["rating"].update(overall_quality=1))
    store.close()
    again = open_store("agent", publish_interval=3600)
    assert again.rating("a.mp4")["rating"]["overall_quality"] == 1
    assert read(again, RATINGS)["a.mp4"]["rating"]["overall_quality"] == 1


def test_a_subscriber_may_flush_when_a_hand_edit_arrives(store):
    seen = []
    store.subscribe(lambda change: seen.append((change.kind, store.flush())))
    edit(store, RATINGS, lambda content: content.update({"new.mp4": {"rating": {"overall_quality": 9}}}))
    assert store.flush()
    assert seen == [("rating", True)]


def test_an_edit_between_the_check_and_the_rename_is_not_overwritten(store, monkeypatch):
    def write_note(*args):
        edit(store, RATINGS, lambda content: content["a.mp4"]["rating"].update(overall_quality=1))
        note(*args)

    note = store._publisher._note
    store.rate("c.mp4", {"overall_quality": 6})
    monkeypatch.setattr(store._publisher, "_note", write_note)
    store.flush()
    monkeypatch.undo()
    store.flush()
    assert {name: item["rating"]["overall_quality"] for name, item in store.ratings().items()} == {"a.mp4": 1, "c.mp4": 6}
    assert_views_say_what_the_journal_says(store)


def test_a_view_written_in_place_is_not_copied_from(store):
    content = read(store, RATINGS)
    content["a.mp4"]["rating"]["overall_quality"] = 1
    (store.state_dir / RATINGS).write_text(json.dumps(content, indent=7), encoding="utf-8")
    assert store.flush()
    assert_views_say_what_the_journal_says(store)
    store.rate("c.mp4", {"overall_quality": 6})
    assert store.flush()
    assert_views_say_what_the_journal_says(store)
