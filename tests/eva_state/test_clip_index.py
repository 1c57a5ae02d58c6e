"""The index answers like a plain reading of state and folder would, whatever happened in which order."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eva_state import clip_index
from eva_state.clip_index import SORTS, ClipIndex, Search
from eva_state.clip_rows import FEW, Bits, rows_of
from eva_state.clip_source import name_of_entry
from eva_state.keys import matches
from tests.eva_state.clip_world import KEY, NOW, World


class Indexed(World):
    """With an index over both."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.index = self.open()

    def open(self) -> ClipIndex:
        return ClipIndex(self.store, self.videos, clock=lambda: self.now)

    def file(self, name: str, data: bytes = b"data", age: float = 100.0) -> None:
        super().file(name, data, age)
        self.index.refresh()

    def found(self, index: ClipIndex | None = None, **wanted: Any) -> list[str]:
        items, total = (index or self.index).search(Search(**wanted), 0, 500)
        assert total == len(items)
        return [item["name"] for item in items]

    def queue(self) -> list[str]:
        return [item["name"] for item in self.index.videos(0, 500)[0]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Indexed]:
    made = Indexed(tmp_path)
    yield made
    made.index.close()
    made.store.close()


def test_the_three_sources_make_one_clip(world: Indexed) -> None:
    world.file("a.mp4")
    world.entry("a.mp4", 0.7)
    world.rate("a.mp4", 8)
    world.entry("only history.mp4")
    world.rate("only rating.mp4")
    world.file("only file.mp4")
    assert sorted(world.found()) == ["a.mp4", "only file.mp4", "only history.mp4", "only rating.mp4"]
    assert world.queue() == ["only file.mp4"]
    item = world.index.search(Search(text="a.mp4"), 0, 1)[0][0]
    assert (item["score"], item["manual_overall"], item["exists"]) == (0.7, 8, True)


def test_a_rating_leaves_the_queue_at_once_and_undo_brings_it_back(world: Indexed) -> None:
    world.file("a.mp4")
    world.file("b.mp4", age=50)
    assert world.queue() == ["b.mp4", "a.mp4"]
    event = world.rate("b.mp4")
    assert world.queue() == ["a.mp4"]
    world.store.undo(event)
    assert world.queue() == ["b.mp4", "a.mp4"]
    assert world.index.counts()["avg_rating"] is None


def test_a_generated_clip_shows_without_waiting_for_the_folder_watch(world: Indexed) -> None:
    (world.videos / "new.mp4").write_bytes(b"data")
    world.entry("new.mp4")
    assert world.queue() == ["new.mp4"]


def test_a_removed_file_leaves_the_queue_and_keeps_its_history(world: Indexed) -> None:
    world.file("a.mp4")
    world.entry("a.mp4")
    (world.videos / "a.mp4").unlink()
    world.index.refresh()
    assert world.queue() == [] and world.found(exists=False) == ["a.mp4"]


@pytest.mark.parametrize("asked_before", [False, True])
def test_the_best_clip_is_the_same_whether_its_range_is_known_or_not(world: Indexed, asked_before: bool) -> None:
    for name, score in (("a.mp4", 0.5), ("b.mp4", 0.9), ("c.mp4", 0.9), ("no score.mp4", None)):
        world.entry(name, score)
    index = world.open()
    if asked_before:
        assert world.found(index, min_score=0.6) == ["c.mp4", "b.mp4"]
    counts = index.counts()
    assert (counts["best_score"], counts["best_clip"], counts["total"]) == (0.9, "c.mp4", 4)
    world.entry("c.mp4", 0.1)
    assert index.counts()["best_clip"] == "b.mp4"
    index.close()


def test_a_file_without_traces_is_forgotten(world: Indexed) -> None:
    world.file("a.mp4")
    (world.videos / "a.mp4").unlink()
    world.index.refresh()
    assert world.found() == [] and not world.index.knows("a.mp4")


def test_knows(world: Indexed) -> None:
    world.file("a.mp4")
    world.rate("rated.mp4")
    world.entry("made.mp4")
    assert all(world.index.knows(name) for name in ("a.mp4", "rated.mp4", "made.mp4"))
    assert not any(world.index.knows(name) for name in ("b.mp4", "../a.mp4", "", "\0"))


# ---------------------------------------------------------------- moved files
def test_a_moved_file_keeps_its_history(world: Indexed) -> None:
    world.entry("old/a.mp4", 0.9)
    world.rate("old/a.mp4", 7)
    world.file("new/a.mp4")
    assert world.found() == ["new/a.mp4"]
    item = world.index.search(Search(), 0, 1)[0][0]
    assert (item["score"], item["manual_overall"], item["rated"]) == (0.9, 7, True)
    reopened = world.open()
    assert world.found(reopened) == ["new/a.mp4"]
    reopened.close()


def test_a_moved_file_is_marked_as_matched_by_its_base_name(world: Indexed) -> None:
    world.entry("old/a.mp4")
    world.file("new/a.mp4")
    item = world.index.videos(0, 10)[0][0]
    assert (item["name"], item["match_method"], item["found_in_knowledge"], item["combo_key"]) == ("new/a.mp4", "basename", True, KEY)
    world.file("old/a.mp4")  # the file itself comes back
    found = {item["name"]: item["match_method"] for item in world.index.videos(0, 10)[0]}
    assert found == {"old/a.mp4": "exact", "new/a.mp4": "none"}


def test_two_that_could_be_meant_match_nothing(world: Indexed) -> None:
    world.entry("x/a.mp4")
    world.entry("y/a.mp4")
    world.file("new/a.mp4")
    assert sorted(world.found()) == ["new/a.mp4", "x/a.mp4", "y/a.mp4"]
    assert world.index.videos(0, 10)[0][0]["match_method"] == "none"


def test_one_history_entry_is_not_given_to_two_files(world: Indexed) -> None:
    world.entry("old/a.mp4")
    world.file("one/a.mp4")
    world.file("two/a.mp4")
    assert sorted(item["match_method"] for item in world.index.videos(0, 10)[0]) == ["basename", "none"]


def test_a_moved_file_that_goes_gives_its_history_back(world: Indexed) -> None:
    world.entry("old/a.mp4")
    world.file("new/a.mp4")
    (world.videos / "new/a.mp4").unlink()
    world.index.refresh()
    assert world.found() == ["old/a.mp4"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"video": "a.mp4"}, "a.mp4"),
        ({"video": "sub/a.mp4"}, "sub/a.mp4"),
        ({"video": "/videos/sub/a.mp4"}, "sub/a.mp4"),
        ({"video": "/videos2/a.mp4"}, "a.mp4"),
        ({"video_path": "/elsewhere/x/a.mp4"}, "a.mp4"),
        ({"video": "C:\\out\\a.mp4"}, "a.mp4"),
        ({"video": ""}, None),
        ({"video": 5}, None),
        ({}, None),
    ],
)
def test_name_of_entry(entry: dict[str, Any], expected: str | None) -> None:
    assert name_of_entry(entry, Path("/videos")) == expected


# ---------------------------------------------------------------- bans, summaries, changes
def test_bans_mark_clips_by_key_and_by_pattern(world: Indexed) -> None:
    world.entry("a.mp4")
    world.entry("b.mp4", params={"steps": 30})
    world.entry("c.mp4", params={"sampler": "heun"})
    world.store.ban(KEY)
    assert world.found(banned=True) == ["a.mp4"]
    world.store.ban("*|simple|*|*|30|*")
    assert sorted(world.found(banned=True)) == ["a.mp4", "b.mp4"]
    world.entry("d.mp4", params={"steps": 30, "cfg_scale": 9})  # a combo that was banned before it was tried
    assert sorted(world.found(banned=True)) == ["a.mp4", "b.mp4", "d.mp4"]
    world.store.unban("*|simple|*|*|30|*")
    assert world.found(banned=True) == ["a.mp4"]


def test_affected(world: Indexed) -> None:
    for number in range(3):
        world.file(f"{number}.mp4")
        world.entry(f"{number}.mp4", params={"steps": 20 + 10 * (number == 2)})
    world.rate("0.mp4", 7)
    assert world.index.affected(KEY) == {"queued": 1, "rated": 1, "rated_mean": 7.0}
    assert world.index.affected("euler|*|*|*|*|*") == {"queued": 2, "rated": 1, "rated_mean": 7.0}
    assert world.index.affected("x|*|*|*|*|*") == {"queued": 0, "rated": 0, "rated_mean": None}


def test_rated_today(world: Indexed) -> None:
    world.rate("a.mp4")
    assert world.index.counts()["rated_today"] == 1
    world.rate("a.mp4")
    assert world.index.counts()["rated_today"] == 1
    world.now += 3 * 86_400
    assert world.index.counts()["rated_today"] == 0


def test_changes_since(world: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    start = world.index.version
    assert world.index.changes_since(start) == (start, [])
    world.file("a.mp4")
    world.rate("a.mp4")
    version, found = world.index.changes_since(start)
    assert found is not None and [change["kind"] for change in found] == ["file", "rating"]
    assert world.index.changes_since(version - 1) == (version, found[1:])
    assert world.index.changes_since(version + 1)[1] is None
    for _ in range(clip_index.CHANGES_KEPT):
        world.index._note("file", "x")
    assert world.index.changes_since(start)[1] is None


def test_the_watch_finds_new_files(world: Indexed) -> None:
    import time

    index = ClipIndex(world.store, world.videos, clock=lambda: world.now, scan_interval=0.02)
    with index:
        path = world.videos / "a.mp4"
        path.write_bytes(b"data")
        os.utime(path, (NOW - 100, NOW - 100))
        deadline = time.monotonic() + 60
        while not world.found(index):
            assert time.monotonic() < deadline
            time.sleep(0.01)


# ---------------------------------------------------------------- against a plain reading
def plainly(world: Indexed, wanted: Search) -> set[str]:
    """What the search must find, read from the store and the folder without any index."""
    bans = list(world.store.bans())
    files = {str(path.relative_to(world.videos)) for path in world.videos.rglob("*.mp4")}
    history = {entry["video"] for entry in world.store.history()}
    out = set()
    for name in files | history | set(world.store.ratings()):
        entry, item = world.store.entry(name) or {}, world.store.rating(name)
        rating = (item or {}).get("rating", {})
        params = entry.get("params", {})
        combo = "|".join(f"{params[k]}" for k in ("sampler", "scheduler", "fps", "cfg_scale", "steps")) + "|832x480" if params else None
        banned = rating.get("banned") is True or (combo is not None and any(matches(key, combo) for key in bans))
        checks = [
            wanted.rated is None or wanted.rated == (item is not None),
            wanted.banned is None or wanted.banned == banned,
            wanted.exists is None or wanted.exists == (name in files),
            wanted.min_score is None or (entry.get("score") is not None and entry["score"] >= wanted.min_score),
            wanted.min_overall is None or rating.get("overall_quality", -1) >= wanted.min_overall,
            all(params.get(kind) == value for kind, value in wanted.exact),
            all(word in f"{name}\n{entry.get('prompt', '')}".lower() for word in wanted.text.lower().split()),
        ]
        if all(checks):
            out.add(name)
    return out


CLIPS = [f"{letter}.mp4" for letter in "abcdef"]
actions = st.tuples(
    st.sampled_from(["file", "unlink", "entry", "rate", "ban", "unban", "undo"]), st.sampled_from(CLIPS), st.integers(0, 10**6)
)
searches = st.builds(
    Search,
    text=st.sampled_from(["", "a", "ball", "kite", "b.mp4"]),
    rated=st.sampled_from([None, True, False]),
    banned=st.sampled_from([None, True, False]),
    exists=st.sampled_from([None, True, False]),
    exact=st.sampled_from([(), (("steps", 20),), (("sampler", "heun"),)]),
    min_score=st.sampled_from([None, 0.0, 0.25, 0.5, 0.505, 1.0]),
    min_overall=st.sampled_from([None, 1, 5, 5.5, 10]),
    sort=st.sampled_from(SORTS),
)


def act(world: Indexed, kind: str, name: str, number: int) -> None:
    chance = random.Random(number)
    if kind == "file":
        world.file(name, b"x" * chance.randint(1, 9))
    elif kind == "unlink":
        (world.videos / name).unlink(missing_ok=True)
        world.index.refresh()
    elif kind == "entry":
        prompt = chance.choice(["a red ball", "a blue kite"])
        params = {"steps": chance.choice([20, 30]), "sampler": chance.choice(["euler", "heun"])}
        world.entry(name, chance.choice([0.2, 0.5, 0.504, 0.509, 0.8]), prompt=prompt, params=params)
    elif kind == "rate":
        world.rate(name, chance.choice([1, 5, 5.25, 9]), banned=chance.random() < 0.2)
    elif kind == "ban":
        world.store.ban(chance.choice([KEY, "heun|*|*|*|*|*", "*|*|*|*|30|*"]))
    elif kind == "unban":
        world.store.unban(chance.choice([KEY, "heun|*|*|*|*|*", "*|*|*|*|30|*"]))
    elif kind == "undo" and (known := world.store.actions(limit=3)):
        event = chance.choice(known)
        if event["type"] != "undo":
            world.store.undo(event["event_id"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(actions, max_size=15), st.lists(searches, min_size=3, max_size=6))
def test_any_history_is_searched_like_a_plain_reading(tmp_path_factory: Any, steps: list[Any], wanted: list[Search]) -> None:
    world = Indexed(tmp_path_factory.mktemp("world"))
    try:
        for number, step in enumerate(steps):
            act(world, *step)
            if number % 3 == 0:
                world.found(text=wanted[0].text)  # asked in between, so that what is kept must be brought up to date
        fresh = world.open()
        for search in wanted:
            expected = plainly(world, search)
            items, total = world.index.search(search, 0, 500)
            assert {item["name"] for item in items} == expected and total == len(items) == len(expected)
            assert [item["name"] for item in fresh.search(search, 0, 500)[0]] == [item["name"] for item in items]
        assert fresh.counts() == world.index.counts()
        fresh.close()
    finally:
        world.index.close()
        world.store.close()


@pytest.mark.parametrize("sort", SORTS)
def test_pages_cover_everything_once(world: Indexed, sort: str) -> None:
    for number in range(23):
        world.file(f"{number}.mp4", age=100 + number)
        if number % 2:
            world.entry(f"{number}.mp4", number / 50)
        if number % 3:
            world.rate(f"{number}.mp4", 1 + number % 9)
    whole = world.found(sort=sort)
    paged = [item["name"] for offset in range(0, 30, 7) for item in world.index.search(Search(sort=sort), offset, 7)[0]]
    assert paged == whole and len(set(whole)) == 23


# ---------------------------------------------------------------- bit sets
@given(st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=600))
def test_bits_are_a_set(steps: list[tuple[int, bool]]) -> None:
    bits, model = Bits(), set()
    for row, value in steps:
        bits.set(row, value)
        (model.add if value else model.discard)(row)
    assert list(rows_of(bits.as_int())) == sorted(model)
    assert bool(bits) == bool(model) and all((row in bits) == (row in model) for row in range(0, 3000, 7))


def test_bits_beyond_a_few() -> None:
    bits = Bits()
    for row in range(0, 10 * FEW, 2):
        bits.set(row)
    bits.set(4, False)
    bits.set(10**6, False)
    assert bits.as_int().bit_count() == 5 * FEW - 1 and 4 not in bits and 6 in bits and 10**7 not in bits


def test_questions_do_not_read_files(world: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    world.file("a.mp4")
    world.entry("a.mp4")
    world.index.counts()

    def forbidden(*args: Any, **_: Any) -> None:
        raise AssertionError(f"a question read {args}")

    for target in ("os.scandir", "os.stat", "builtins.open", "pathlib.Path.stat", "pathlib.Path.read_text"):
        monkeypatch.setattr(target, forbidden)
    ask: list[Callable[[], Any]] = [world.index.counts, world.index.options, world.queue, world.found, lambda: world.index.affected(KEY)]
    for question in ask:
        question()
    assert world.index.knows("a.mp4")
