"""A start goes on from the published files: it writes what they lack, and all of what is not as it should be."""

from __future__ import annotations

import json
import os
import random

import pytest

from eva_state import adoption
from eva_state.adoption import ENTRY, NAMED, Marked
from eva_state.blocks import Section
from eva_state.documents import KNOWLEDGE, RATINGS, VIEWS
from eva_state.files import Files
from eva_state.published import stamp_of
from tests.eva_state.conftest import KEY, make_entry
from tests.eva_state.test_views import assert_views_say_what_the_journal_says


class CountingFiles(Files):
    """Counts the bytes that are encoded anew; those copied from the file before are not."""

    written = 0

    def write_all(self, fd, data):
        self.written += len(data)
        super().write_all(fd, data)

    def copy_range(self, source, target, offset, count):
        written, before = self.written, os.lseek(target, 0, os.SEEK_CUR)
        super().copy_range(source, target, offset, count)
        assert os.lseek(target, 0, os.SEEK_CUR) == before + count
        self.written = written


def many(store, rng, count):
    """Some of everything that changes views."""
    ids = []
    for _ in range(count):
        number, what = rng.randrange(1500), rng.randrange(9)
        name = f'клип "{number}".mp4' if number % 97 == 0 else f"клип {number}.mp4"  # blocks with an escape in them, and without
        if what <= 3:
            store.generated(None, make_entry(name, rng.random(), steps=rng.randrange(1, 20)), rng.random())
        elif what <= 5:
            ids.append(store.rate(name, {"overall_quality": rng.randrange(1, 11)}).event_id)
        elif what == 6 and ids:
            store.undo(ids.pop(rng.randrange(len(ids))))
        elif what == 7:
            ids.append(store.ban_clip(name, KEY).event_id)
        else:
            store.unrate(name)


@pytest.fixture
def without_fsync(monkeypatch):
    """Speed where durability is not what is tested."""
    monkeypatch.setattr(Files, "fsync", lambda self, fd: None)


@pytest.mark.parametrize("clean", [True, False])
def test_a_start_publishes_only_what_the_views_lack(open_store, without_fsync, clean):
    rng = random.Random(int(clean))
    store = open_store("agent", publish_interval=3600)
    store._publisher._stop.set()  # the test publishes
    many(store, rng, 3000)
    assert store.flush()
    for _ in range(6):
        many(store, rng, 8)
        if rng.random() < 0.5:
            assert store.flush()
            many(store, rng, rng.randrange(3))
        if clean:
            store.close()
        else:
            forsake(store)
        files = CountingFiles()
        store = open_store("agent", publish_interval=3600, files=files)
        store._publisher._stop.set()
        many(store, rng, 4)
        assert store.flush()
        assert_views_say_what_the_journal_says(store)
        whole = sum((store.state_dir / view).stat().st_size for view in VIEWS)
        assert files.written < whole / 2  # a change touches a block; 1,500 clips are two dozen blocks
    store.close()


def forsake(store):
    """Leaves everything as a killed process would."""
    store._stop.set()
    for thread in store._threads:
        thread.join()
    store._threads.clear()
    publisher = store._publisher
    publisher._stop.set()
    publisher._thread.join()
    publisher._guard.release()
    store._publisher = None
    store._writer.close()
    store._writer = None
    store._guard.release()
    store._guard = None


@pytest.mark.parametrize("what", ["form", "missing", "twice", "older"])
def test_a_file_that_is_not_what_it_was_taken_for_is_written_whole(open_store, without_fsync, what):
    store = open_store("agent", publish_interval=3600)
    for number in range(200):
        store.generated(f"more{number}", make_entry(f"{number}.mp4", 0.5), 0.5)
    assert store.flush()
    store.close()
    note = store.state_dir / "journal" / "published.json"
    noted = json.loads(note.read_text())
    if what == "form":
        noted["form"] += 1
    elif what == "older":  # as if the view held records that the journal lost
        for version in (item for versions in noted["views"].values() for item in versions):
            version["applied"]["agent"] = 10_000
    else:
        path = store.state_dir / KNOWLEDGE
        lines = path.read_bytes().split(b"\n")
        at = lines.index(b'"history": [') + 1
        lines[at : at + 1] = [] if what == "missing" else [lines[at], lines[at]]
        path.write_bytes(b"\n".join(lines))
        noted["views"][KNOWLEDGE][-1]["stamp"] = stamp_of(path.stat())
    note.write_text(json.dumps(noted))
    files = CountingFiles()
    again = open_store("agent", publish_interval=3600, files=files)
    again.rate("7.mp4", {"overall_quality": 5})
    assert again.flush()
    assert_views_say_what_the_journal_says(again)
    assert files.written > (again.state_dir / KNOWLEDGE).stat().st_size


def test_two_entries_of_one_clip_do_not_confuse_the_next_start(open_store, tmp_path):
    entries = [make_entry("a.mp4", 0.5) | {"timestamp": stamp} for stamp in (5.0, 6.0)] + [make_entry("b.mp4", 0.1)]
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / KNOWLEDGE).write_text(json.dumps({"history": entries}))
    (tmp_path / "state" / RATINGS).write_text(json.dumps({"odd": [1], "b.mp4": {"rating": {"overall_quality": 4, "x": None}, "note": 1}}))
    for number in range(3):
        store = open_store("agent", publish_interval=3600)
        store.rate("c.mp4", {"overall_quality": number + 1})
        assert store.flush()
        assert_views_say_what_the_journal_says(store)
        assert len(store.history()) == 3
        store.close()


def test_items_put_together_from_texts_say_the_same(open_store, without_fsync):
    store = open_store("agent", publish_interval=3600)
    odd = [
        {"video": "1.mp4"},
        {"video": "2.mp4", "prompt": None, "params": None, "metrics": None, "combo": None, "timestamp": None, "score": "high"},
        {"video": "3.mp4", "manual_rating": {"overall_quality": 1}, "video_path": "/x/3.mp4"},
        {"video": '4 "\\".mp4', "params": {}, "combo": [], "metrics": {}, "score": 10**30},
        {"video": "5.mp4", "params": [1], "metrics": "none", "prompt": 5, "timestamp": 1e300, "video_path": 0},
        {"video": "6.mp4", "extra": {"manual_rating": 5}},
    ]
    for entry in odd:
        store.generated(None, entry, None)
        if entry["video"] != "6.mp4":
            store.rate(entry["video"], {"overall_quality": 5, "comments": 'a "b"\n'})
    store.flush()
    assert_views_say_what_the_journal_says(store)
    store.close()


def test_blocks_are_the_same_read_at_once_or_line_by_line(open_store, without_fsync, monkeypatch):
    store = open_store("agent", publish_interval=3600)
    store._publisher._stop.set()
    many(store, random.Random(5), 1500)
    assert store.flush()
    with (store.state_dir / RATINGS).open("rb") as ratings, (store.state_dir / KNOWLEDGE).open("rb") as knowledge:
        found = []
        for at_once in (True, False):
            if not at_once:
                monkeypatch.setattr(adoption, "_plain_keys", lambda lines, form: [])
            read = []
            for file, marker, form in ((ratings, b"{\n", NAMED), (knowledge, b'"history": [\n', ENTRY)):
                blocks = adoption.adopt(file.fileno(), [Marked(marker, Section(lambda keys: []), form)])
                read += [(block.keys, block.offset, block.length, block.first) for block in blocks]
            found.append(read)
    assert found[0] == found[1] and len(found[0]) > 10
