"""Rows of the clip index made while the journals are read, and orders and sets made afterwards, are those a plain reading gives."""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eva_state import registers
from eva_state.clip_index import SORTS, ClipIndex, Search
from eva_state.clip_orders import UNBUILT_PAGES, Order
from eva_state.clip_rows import Row, facets_of
from eva_state.clip_source import Notes, _plain_facets
from eva_state.keys import combo_key
from eva_state.records import dump, plain
from eva_state.review_order import ReviewOrder
from eva_state.store import StateStore
from eva_state.video_folder import ClipFile, VideoFolder
from tests.eva_state.clip_world import KEY, NOW, World


@pytest.mark.parametrize("seed", range(3))
def test_rows_made_during_the_replay_are_those_read_from_the_records(tmp_path: Path, seed: int) -> None:
    """Whatever happened to a clip after its first record: replaced, taken back, banned, edited by hand, known by an old path."""
    world, rng = World(tmp_path), random.Random(seed)
    events: list[str] = []
    for number in range(60):
        name = f"{'sub/' if number % 5 == 0 else ''}C{number}.mp4"
        if number % 7:
            world.file(name)
        if number % 4:
            world.entry(name, rng.random(), prompt=rng.choice(["A Blue Cube", None, "fog"]), params={"cfg_scale": rng.choice([1, 3.5])})
        if rng.random() < 0.6:
            events.append(world.rate(name, rng.randint(1, 10), defects=["flicker"], tags=["x"], is_reference=number % 9 == 0))
    world.entry("C1.mp4", 0.99, prompt="made again")
    world.entry(str(world.videos / "C2.mp4"), 0.77)
    world.entry("odd.mp4", timestamp="yesterday", score=None, params={"steps": "many"})
    for event in rng.sample(events, 12):
        world.store.undo(event)
    world.rate("C3.mp4", 1)
    world.rate("C3.mp4", 9, tags=["again"])
    world.store.unrate("C4.mp4")
    world.store.ban_clip("C6.mp4", KEY)
    ratings = world.store.state_dir / "manual_ratings.json"
    world.store.close()
    edited = json.loads(ratings.read_text(encoding="utf-8"))
    edited["C8.mp4"] = {"rating": {"overall_quality": 4, "banned": True}, "timestamp": 5.0}
    ratings.write_text(json.dumps(edited), encoding="utf-8")

    def rows(seen: Notes | None) -> dict[str, Any]:
        with StateStore(world.store.state_dir, role="server", video_dir=world.videos, clock=lambda: NOW, seen=seen) as store:
            index = ClipIndex(store, world.videos, clock=lambda: NOW)
            assert store.seen is None, "the notes are not kept"
            index.refresh()
            return {row.name: msgspec.structs.asdict(row) for row in index._table.rows}

    plain, noted = rows(None), rows(Notes())
    assert noted == plain and sum(row["rated"] for row in plain.values()) > 15
    notes = Notes()
    assert rows(notes) == plain and len(notes.rows) > 30, "most rows were made on the way"


# ---------------------------------------------------------------- files that were only listed at the start
def test_known_clips_are_listed_at_the_start_and_looked_at_when_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    for name in ("a.mp4", "sub/b.mp4", "empty.mp4", "stranger.mp4", "fresh.mp4", "link.mp4", "note.txt"):
        world.file(name)
        if name != "stranger.mp4":
            world.entry(name, timestamp=NOW + len(name))
    world.entry("gone.mp4")
    os.truncate(world.videos / "empty.mp4", 0)
    os.utime(world.videos / "fresh.mp4", (NOW, NOW))  # written a moment ago, but its maker said that it is finished
    (world.videos / "link.mp4").unlink()
    (world.videos / "link.mp4").symlink_to(world.videos / "a.mp4")
    world.store.close()
    with StateStore(world.store.state_dir, role="server", video_dir=world.videos, clock=lambda: NOW, seen=Notes()) as store:
        looks: list[str] = []
        stat_of = VideoFolder._stat
        monkeypatch.setattr(VideoFolder, "_stat", lambda self, name: looks.append(name) or stat_of(self, name))  # type: ignore[func-returns-value]
        index = ClipIndex(store, world.videos, clock=lambda: NOW)
        assert looks == [] and index.folder.unseen == 4, "a.mp4, sub/b.mp4, empty.mp4 and fresh.mp4; the link was looked at"
        items, total = index.videos(0, 50)
        assert {item["name"]: item["size_mb"] for item in items} == dict.fromkeys(
            ["a.mp4", "sub/b.mp4", "fresh.mp4", "link.mp4", "stranger.mp4"], 0.0
        )
        assert total == 5 and sorted(looks) == ["a.mp4", "empty.mp4", "fresh.mp4", "sub/b.mp4"]
        assert index.row("a.mp4").file == ClipFile(4, int(NOW - 100) * 10**9)  # type: ignore[union-attr]
        index.videos(0, 50)
        assert len(looks) == 4, "each is looked at once"
        index.refresh()
        assert index.folder.unseen == 0 and index.counts()["existing"] == 5
        assert {item["name"] for item in index.search(Search(exists=False), 0, 50)[0]} == {"gone.mp4", "note.txt", "empty.mp4"}
        changes = index.changes_since(0)[1]
        assert changes is not None and {change["name"] for change in changes} == {"empty.mp4"}, "sizes are no news"


def test_files_only_listed_are_looked_at_in_the_background(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(30):
        world.file(f"c{number}.mp4")
        world.entry(f"c{number}.mp4")
    world.store.close()
    (world.videos / "c7.mp4").write_bytes(b"")
    with StateStore(world.store.state_dir, role="server", video_dir=world.videos, clock=lambda: NOW, seen=Notes()) as store:
        index = ClipIndex(store, world.videos, clock=lambda: NOW)
        assert index.folder.unseen == 30
        (world.videos / "c8.mp4").unlink()
        os.utime(world.videos, (NOW - 50, NOW - 50))
        index.refresh()
        assert index.folder.unseen == 0 and index.counts()["existing"] == 28
        assert all(row.file is None or row.file.size == 4 for row in index._table.rows)
        (world.videos / "c7.mp4").write_bytes(b"data")
        os.utime(world.videos / "c7.mp4", (NOW - 20, NOW - 20))
        index.folder._clock = lambda: NOW + 2
        index.refresh()
        index.folder._clock = lambda: NOW + 4
        index.refresh()
        assert index.counts()["existing"] == 29, "written to the end after all"
        store.rate("c1.mp4", {"overall_quality": 5})
        assert index.row("c1.mp4").file.size == 4  # type: ignore[union-attr]


def test_a_rating_before_a_clip_was_looked_at_keeps_it_unseen_but_shown_right(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.file("a.mp4")
    world.entry("a.mp4")
    world.store.close()
    with StateStore(world.store.state_dir, role="server", video_dir=world.videos, clock=lambda: NOW, seen=Notes()) as store:
        index = ClipIndex(store, world.videos, clock=lambda: NOW)
        event = store.rate("a.mp4", {"overall_quality": 5}).event_id
        assert index.counts()["rated"] == 1
        store.undo(event)
        review = ReviewOrder(index, store)
        (item,), total, _ = review.page(Search(rated=False, exists=True), "newest", 0, 5)
        assert (total, item["size_mb"]) == (1, 0.0)


# ---------------------------------------------------------------- orders and sets made afterwards
def some_rows(rng: random.Random, count: int) -> list[Row]:
    rows = []
    for number in range(count):
        score = rng.choice([None, round(rng.random(), 1)])
        combo = rng.choice([None, KEY, KEY.replace("euler", "heun"), KEY.replace("3.5", "7")])
        facets = () if combo is None else (("sampler", combo.split("|")[0]), ("cfg", float(combo.split("|")[3])))
        rows.append(Row(f"c{rng.random():.6f}-{number}.mp4", None, True, True, None, number, NOW, score, combo=combo, facets=facets))
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_a_page_is_the_same_before_and_after_an_order_is_built(seed: int) -> None:
    rng = random.Random(seed)
    rows = some_rows(rng, 300)
    wanted = sum(1 << number for number in range(300) if rng.random() < rng.choice([0.05, 0.5, 1.0]))
    asks = [(rng.random() < 0.5, rng.choice([0, 5, 50, 400]), rng.choice([1, 20, 500])) for _ in range(UNBUILT_PAGES)]
    lazy, built = Order(rows, lambda row: row.score), Order(rows, lambda row: row.score)
    built.build()
    for descending, offset, limit in asks:
        assert lazy.page(wanted, descending, offset, limit) == built.page(wanted, descending, offset, limit)
    assert lazy.between(0.2, 0.7) == built.between(0.2, 0.7) and lazy.between(None, 0.5) == built.between(None, 0.5)
    assert not lazy.built
    assert lazy.page(wanted, True, 0, 10) == built.page(wanted, True, 0, 10) and lazy.built, "who asks on gets it built"


@pytest.mark.parametrize("seed", range(5))
def test_what_changes_while_it_is_warmed_up_is_not_lost(tmp_path: Path, seed: int) -> None:
    """Between the copy that is sorted and the moment it is put in place, clips are rated, made and banned."""
    world, rng = World(tmp_path), random.Random(seed)
    try:
        for number in range(30):
            world.file(f"c{number}.mp4")
            world.entry(f"c{number}.mp4", rng.random(), params={"steps": rng.choice([10, 20])})
        index = ClipIndex(world.store, world.videos, clock=lambda: NOW)
        early = rng.random() < 0.5
        if early:
            world.store.ban(KEY)
            assert index.counts()["banned"]

        class Lock:
            """Lets something happen before each time the lock is taken."""

            def __enter__(self) -> None:
                number = rng.randrange(40)
                world.rate(f"c{number}.mp4", rng.randint(1, 10), defects=rng.choice([[], ["flicker"]]))
                world.entry(f"new{rng.random()}.mp4", rng.random(), params={"steps": 30})
                index.counts()
                index._lock.acquire()

            def __exit__(self, *_: object) -> None:
                index._lock.release()

        index._table.warm_up(Lock(), lambda: False)
        assert all(order.built for order in index._table._orders.values()) and index._table.text.ready
        fresh = ClipIndex(world.store, world.videos, clock=lambda: NOW)
        searches = [Search(sort=sort) for sort in SORTS] + [
            Search(exact=(("steps", 30),)),
            Search(exact=(("defect", "flicker"),)),
            Search(min_score=0.3, max_score=0.8),
            Search(min_overall=4),
            Search(combo=KEY),
            Search(combo="*|*|*|*|30|*"),
            Search(banned=early),
        ]
        for wanted in searches:
            mine, theirs = index.search(wanted, 0, 500), fresh.search(wanted, 0, 500)
            assert [item["name"] for item in mine[0]] == [item["name"] for item in theirs[0]], wanted
            assert [pair for pair in zip(mine[0], theirs[0]) if pair[0] != pair[1]] == [], wanted
        assert index.options() == fresh.options() and index.counts() == fresh.counts()
    finally:
        world.store.close()


@pytest.mark.parametrize("combo", [KEY, "*|simple|*|*|*|*", "heun|*|*|*|*|832x480", "lcm|*|*|*|*|*"])
def test_a_ban_covers_the_same_rows_before_and_after_facets_are_told_apart(tmp_path: Path, combo: str) -> None:
    world = World(tmp_path)
    try:
        for number in range(12):
            world.entry(f"c{number}.mp4", params={"sampler": ("euler", "heun")[number % 2], "steps": 10 + 10 * (number % 3)})
        index = ClipIndex(world.store, world.videos, clock=lambda: NOW)
        before = index.affected(combo)
        assert "_facets" not in vars(index._table), "a ban asks for combos alone"
        index.options()
        assert index.affected(combo) == before and "_facets" in vars(index._table)
    finally:
        world.store.close()


def test_the_watch_of_the_folder_warms_the_index_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        world.entry("a.mp4")
        with ClipIndex(world.store, world.videos, scan_interval=0.01) as index:
            deadline = threading.Event()
            for _ in range(2000):
                if index._table.text.ready:
                    break
                deadline.wait(0.01)
            assert all(order.built for order in index._table._orders.values()) and "_facets" in vars(index._table)
    finally:
        world.store.close()


ODD = st.one_of(st.integers(-2, 40), st.floats(), st.sampled_from([7.0, 3.5, 1e22, True, None, "7", "7.50", "", " euler ", "a|b", [], {}]))


FIELDS = {
    **dict.fromkeys(("sampler", "scheduler"), ODD | st.sampled_from(["euler", "uni_pc"])),
    **dict.fromkeys(("fps", "cfg_scale", "cfg", "steps", "width", "height", "extra"), ODD),
}


@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_what_is_quick_about_ordinary_params_says_the_same(params: dict[str, Any]) -> None:
    params = json.loads(dump(plain(params)))
    raw = msgspec.Raw(dump(params))
    found = _plain_facets(raw)
    assert found is None or found == facets_of(params)
    values = [params.get(name) for name in ("sampler", "scheduler", "fps", "cfg_scale", "steps", "width", "height")]
    try:
        expected = combo_key({name: value for name, value in params.items() if name not in ("extra", "cfg")})
    except ValueError:
        expected = None
    assert registers._plain_key(*values) in (None, expected)


def test_ordinary_params_take_the_quick_way() -> None:
    params = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 7.0, "steps": 20, "width": 832, "height": 480}
    assert _plain_facets(msgspec.Raw(dump(params))) == facets_of(params)
    assert registers._plain_key(*params.values()) == combo_key(params) == "euler|simple|16|7|20|832x480"
