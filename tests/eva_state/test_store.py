from __future__ import annotations

import errno
import threading

import pytest

from eva_env_base import StateError, StateFull, StateLocked
from eva_state.store import StateStore
from tests.eva_state.conftest import KEY, make_entry, make_params, wait_until

NAMES = ["a.mp4", "підпапка/кліп № 1.mp4", "quo\"te's.mp4", "new\nline.mp4", " ", "../x", "😀"]


@pytest.mark.parametrize("name", NAMES)
def test_a_rating_comes_back_whatever_the_clip_is_called(open_store, name):
    store = open_store()
    rating = {"overall_quality": 7, "comments": 'добре\n"так"', "defects": ["blur"], "unknown": {"kept": [1, None]}}
    done = store.rate(name, rating)
    assert not done.duplicate
    store.close()
    again = open_store()
    item = again.rating(name)
    assert item["rating"] == rating
    assert item["rated_at"][4] == "-" and len(item["rated_at"]) == 19 and item["timestamp"] > 1.7e9
    assert again.actions()[0]["event_id"] == done.event_id


@pytest.mark.parametrize(
    ("rating", "message"),
    [
        ({}, "overall_quality"),
        ({"overall_quality": "7"}, "overall_quality"),
        ({"overall_quality": True}, "overall_quality"),
        ({"overall_quality": 0}, "overall_quality"),
        ({"overall_quality": 10.5}, "overall_quality"),
        ({"overall_quality": float("nan")}, "overall_quality"),
        ({"overall_quality": 5, "x": object()}, "rating.x"),
        ([], "rating"),
    ],
)
def test_a_malformed_rating_is_refused_and_not_recorded(open_store, rating, message):
    store = open_store()
    with pytest.raises(ValueError, match=message):
        store.rate("a.mp4", rating)
    assert store.ratings() == {} and store.actions() == []


def test_the_same_id_again_changes_nothing_even_after_a_restart(open_store):
    store = open_store()
    first = store.rate("a.mp4", {"overall_quality": 7}, id="click-1")
    store.rate("a.mp4", {"overall_quality": 9}, id="click-2")
    assert store.rate("a.mp4", {"overall_quality": 7}, id="click-1") == type(first)("click-1", duplicate=True)
    assert store.rating("a.mp4")["rating"]["overall_quality"] == 9
    store.close()
    store = open_store()
    assert store.rate("a.mp4", {"overall_quality": 7}, id="click-1").duplicate
    assert len(store.actions()) == 2
    with pytest.raises(ValueError, match="already names a rating"):
        store.ban(KEY, id="click-1")


def test_the_same_id_from_many_threads_is_recorded_once(open_store):
    store = open_store()
    done = []
    barrier = threading.Barrier(8)

    def click():
        barrier.wait()
        done.append(store.rate("a.mp4", {"overall_quality": 7}, id="x"))

    threads = [threading.Thread(target=click) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(item.duplicate for item in done) == [False] + [True] * 7
    assert len(store.actions()) == 1


def test_a_rating_replaces_the_whole_earlier_one_and_undo_brings_it_back(open_store):
    store = open_store()
    store.rate("a.mp4", {"overall_quality": 3, "comments": "first"})
    second = store.rate("a.mp4", {"overall_quality": 8})
    assert store.rating("a.mp4")["rating"] == {"overall_quality": 8}
    undo = store.undo(second.event_id)
    assert store.rating("a.mp4")["rating"] == {"overall_quality": 3, "comments": "first"}
    assert store.undo(second.event_id) == type(undo)(undo.event_id, duplicate=True)
    assert [item["type"] for item in store.actions()] == ["undo", "rating", "rating"]
    assert store.actions()[1]["undone"]
    store.undo(store.actions()[2]["event_id"])
    assert store.rating("a.mp4") is None
    store.close()
    assert open_store().rating("a.mp4") is None


def test_bans_unbans_and_their_undo(open_store):
    store = open_store()
    ban = store.ban("euler|simple|16.0|3.50|20|832x480", reason="grainy", by="QA")
    assert list(store.bans()) == [KEY]
    assert store.bans()[KEY]["reason"] == "grainy" and store.bans()[KEY]["event_id"] == ban.event_id
    unban = store.unban(KEY)
    assert store.bans() == {}
    store.undo(unban.event_id)
    assert list(store.bans()) == [KEY]
    store.undo(ban.event_id)
    assert store.bans() == {}
    store.ban("euler|*|*|*|*|*")
    assert store.banned_by(KEY) == "euler|*|*|*|*|*" and store.banned_by(KEY.replace("euler", "uni_pc")) is None
    with pytest.raises(ValueError, match="combo key"):
        store.ban("nonsense")


def test_a_ban_by_clip_is_one_event(open_store):
    store = open_store()
    store.rate("a.mp4", {"overall_quality": 9, "is_reference": True, "comments": "keep"})
    ban = store.ban_clip("a.mp4", KEY, reason="broken", by="QA")
    assert store.rating("a.mp4")["rating"] == {"overall_quality": 2, "is_reference": False, "comments": "keep", "banned": True}
    assert store.bans()[KEY]["name"] == "a.mp4"
    store.undo(ban.event_id)
    assert store.rating("a.mp4")["rating"]["overall_quality"] == 9 and store.bans() == {}


def test_comparisons(open_store):
    store = open_store()
    done = store.compare("a.mp4", "b.mp4", "left")
    assert [(item["left"], item["right"], item["winner"]) for item in store.compares()] == [("a.mp4", "b.mp4", "left")]
    store.undo(done.event_id)
    assert store.compares() == []
    with pytest.raises(ValueError, match="winner"):
        store.compare("a", "b", "neither")
    with pytest.raises(ValueError, match="itself"):
        store.compare("a", "a", "tie")


def test_what_cannot_be_undone(open_store):
    store = open_store("agent")
    with pytest.raises(KeyError):
        store.undo("nothing")
    done = store.generated("p", make_entry("a.mp4"), 0.5)
    with pytest.raises(ValueError, match="generated"):
        store.undo(done.event_id)
    undo = store.undo(store.rate("a.mp4", {"overall_quality": 5}).event_id)
    with pytest.raises(ValueError, match="undo"):
        store.undo(undo.event_id)


def test_the_life_of_a_prompt(open_store):
    store = open_store("agent")
    for id in ("p1", "p2", "p3"):
        store.submitted({"prompt_id": id, "params": make_params(), "combo_key": KEY})
    assert store.submitted({"prompt_id": "p1", "params": make_params()}).duplicate
    store.generated("p1", make_entry("a.mp4", 0.4), 0.4, 1.5)
    assert store.generated("p1", make_entry("a.mp4", 0.4), 0.4, 1.5).duplicate
    store.failed("p2", {"params": make_params(), "combo_key": KEY, "kind": "oom", "reason": "out of memory", "cost_minutes": 0.1})
    assert [item["prompt_id"] for item in store.in_flight()] == ["p3"]
    assert [item["kind"] for item in store.failures()] == ["oom"]
    store.close()
    store = open_store("agent")
    assert [item["prompt_id"] for item in store.in_flight()] == ["p3"]
    assert store.entry("a.mp4") == make_entry("a.mp4", 0.4) == store.history()[0]
    with pytest.raises(ValueError, match="reward"):
        store.generated("p3", make_entry("b.mp4"), 1.5)
    with pytest.raises(ValueError, match=r"entry\.video"):
        store.generated("p3", {"score": 1}, 0.5)


def test_a_persons_rating_stands_in_for_the_automatic_reward(open_store):
    store = open_store("agent")
    store.generated("p1", make_entry("a.mp4", 0.4), 0.4, 1.5)
    store.generated("p2", make_entry("b.mp4", 0.6), 0.6)
    assert store.combo_stats() == {KEY: {"N": 2, "S": 1.0, "scores": [0.4, 0.6]}}
    assert store.stats()["best_score"] == 0.6
    rated = store.rate("b.mp4", {"overall_quality": 1})
    assert store.combo_stats() == {KEY: {"N": 2, "S": 0.4, "scores": [0.4, 0.0]}}
    store.rate("b.mp4", {"overall_quality": 10})
    assert store.combo_stats() == {KEY: {"N": 2, "S": 1.4, "scores": [0.4, 1.0]}}
    assert store.stats()["best_score"] == 1.0
    found = {item.video: item for item in store.observations()}
    assert (found["a.mp4"].source, found["a.mp4"].reward, found["a.mp4"].cost_minutes) == ("auto", 0.4, 1.5)
    assert (found["b.mp4"].source, found["b.mp4"].reward, found["b.mp4"].params) == ("human", 1.0, make_params())
    store.undo(store.actions()[0]["event_id"])
    store.undo(rated.event_id)
    assert store.combo_stats() == {KEY: {"N": 2, "S": 1.0, "scores": [0.4, 0.6]}}
    assert store.stats()["best_score"] == 0.6


def test_stats_and_the_search_space(open_store):
    store = open_store("agent")
    space = {"sampler": ["euler"], "steps": [10, 20]}
    assert store.space() is None
    first = store.set_space(space)
    assert store.set_space(dict(space)) == type(first)(first.event_id, duplicate=True)
    store.rate("a.mp4", {"overall_quality": 4})
    store.rate("b.mp4", {"overall_quality": 8})
    stats = store.stats()
    assert (stats["total_rated"], stats["total_generated"], stats["avg_rating"], stats["best_score"]) == (2, 0, 6.0, 0.0)
    assert store.space() == space


def test_server_and_agent_see_each_other(open_store):
    server, agent = open_store("server"), open_store("agent")
    agent.generated("p1", make_entry("a.mp4", 0.4), 0.4)
    wait_until(lambda: server.entry("a.mp4"))
    server.rate("a.mp4", {"overall_quality": 10})
    wait_until(lambda: agent.combo_stats()[KEY]["S"] == 1.0)
    agent.ban(KEY, reason="autoban", by="agent")
    wait_until(lambda: server.bans())
    server.unban(KEY)  # written with a newer clock than the ban, whatever the wall clocks say
    wait_until(lambda: not agent.bans())
    assert server.combo_stats() == agent.combo_stats()


def test_a_second_process_of_a_role_is_refused_with_a_clear_message(open_store):
    store = open_store()
    with pytest.raises(StateLocked, match=r"another server already works on .*process \d+ on .+ since \d{4}"):
        StateStore(store.state_dir, "server").start()
    store.rate("a.mp4", {"overall_quality": 5})
    store.close()
    assert open_store().rating("a.mp4")


def test_a_reader_needs_no_role_and_writes_nothing(open_store):
    store = open_store()
    store.rate("a.mp4", {"overall_quality": 5})
    reader = open_store("reader")
    assert reader.rating("a.mp4")["rating"]["overall_quality"] == 5
    with pytest.raises(StateError, match="not open for writing"):
        reader.rate("a.mp4", {"overall_quality": 5})
    assert not reader.flush()


def test_changes_are_told_in_order_and_a_broken_subscriber_breaks_nothing(open_store, caplog):
    store = open_store()
    got = []

    def broken(change):
        raise RuntimeError("mine")

    store.subscribe(broken)
    end = store.subscribe(got.append)
    before = store.version
    done = store.rate("a.mp4", {"overall_quality": 5})
    store.ban(KEY)
    assert [(item.kind, item.name, item.key) for item in got] == [("rating", "a.mp4", None), ("ban", None, KEY)]
    assert got[0].event_id == done.event_id and got[0].writer == "server"
    assert store.changes_since(before) == got
    assert store.changes_since(store.version) == []
    assert store.changes_since(store.version + 1) is None
    assert "a subscriber failed" in caplog.text
    end()
    store.undo(done.event_id)
    assert len(got) == 2 and store.changes_since(before)[-1].kind == "undo"


def test_a_subscriber_may_use_the_store_and_hold_a_lock_of_its_own(open_store):
    store = open_store()
    lock = threading.Lock()
    seen = []

    def callback(change):
        with lock:
            seen.append(change.name)
        if change.kind == "rating" and change.name == "a.mp4":
            store.rate("from callback", {"overall_quality": 5})

    store.subscribe(callback)

    def work(which):
        for number in range(10):
            with lock:  # the order of locks that would deadlock, were callbacks waited for without end
                store_threads.append(which)
            store.rate(f"{which}-{number}", {"overall_quality": 5})

    store_threads: list[int] = []
    threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    with lock:
        store.rate("held", {"overall_quality": 5}) if not seen else None
    for thread in threads:
        thread.join()
    store.rate("a.mp4", {"overall_quality": 5})
    wait_until(lambda: "from callback" in seen)
    assert len(seen) == len(store.ratings())


def test_a_full_disk_refuses_the_request_and_the_store_goes_on(open_store, faulty):
    store = open_store(files=faulty)
    store.rate("a.mp4", {"overall_quality": 5})
    faulty.fail["write"] = errno.ENOSPC
    with pytest.raises(StateFull, match="free some space"):
        store.rate("b.mp4", {"overall_quality": 6}, id="b")
    assert list(store.ratings()) == ["a.mp4"]
    faulty.fail.clear()
    assert not store.rate("b.mp4", {"overall_quality": 6}, id="b").duplicate
    store.close()
    assert list(open_store().ratings()) == ["a.mp4", "b.mp4"]


def test_records_taken_back_by_the_disk_vanish_from_the_other_process(open_store, faulty):
    agent = open_store("agent")
    server = open_store("server", files=faulty)
    server.rate("a.mp4", {"overall_quality": 5})
    wait_until(lambda: agent.rating("a.mp4"))
    kinds = []
    agent.subscribe(lambda change: kinds.append(change.kind))

    def fsync(fd):
        wait_until(lambda: agent.rating("b.mp4") or "reload" in kinds)
        raise OSError(errno.EIO, "injected")

    faulty.fsync = fsync
    with pytest.raises(StateError, match="disk failed"):
        server.rate("b.mp4", {"overall_quality": 5})
    del faulty.fsync
    server.rate("c.mp4", {"overall_quality": 5})
    wait_until(lambda: agent.rating("c.mp4") and not agent.rating("b.mp4"))
    assert "reload" in kinds and list(server.ratings()) == ["a.mp4", "c.mp4"] == list(agent.ratings())
    agent.rate("d.mp4", {"overall_quality": 5})
    wait_until(lambda: server.rating("d.mp4"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError, match="state-dir"):
        StateStore(tmp_path / "file" / "state", "server").start()
    with pytest.raises(ValueError, match="role"):
        StateStore(tmp_path, "boss")
