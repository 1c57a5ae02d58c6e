"""A folder that was copied is known for what it is; what somebody wrote into the copy is still taken in."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from eva_state import hand_edits
from eva_state.backup import rebuild
from eva_state.documents import RATINGS, VIEWS
from eva_state.published import DIGEST, digest_of, note_of, read_note
from eva_state.store import StateStore
from tests.eva_state.conftest import make_entry
from tests.eva_state.test_adoption import forsake
from tests.eva_state.test_views import assert_views_say_what_the_journal_says, read


@pytest.fixture
def closed(open_store, tmp_path):
    """A state after a clean end, and a copy of it with other inodes and times."""
    store = open_store("server", publish_interval=3600)
    for number in range(150):
        store.generated(f"p{number}", make_entry(f"{number}.mp4", 0.5), 0.5)
    store.rate("7.mp4", {"overall_quality": 7})
    store.ban("euler|simple|16|3.5|20|832x480", reason="dull", by="me")
    store.close()
    return copied(store.state_dir, tmp_path / "copy")


def copied(source, target):
    shutil.copytree(source, target)
    for view in VIEWS:
        os.utime(target / view, (1_600_000_000, 1_600_000_000))
    return target


@pytest.fixture
def compared(monkeypatch):
    """The views that were compared item by item."""
    seen = []
    take_in = hand_edits.take_in
    monkeypatch.setattr(
        hand_edits, "take_in", lambda store, edited, files: seen.extend(e.view for e in edited) or take_in(store, edited, files)
    )
    return seen


def test_a_copy_is_not_taken_for_edited(closed, compared):
    for number in range(2):
        with StateStore(closed, role="server", publish_interval=3600) as store:
            store.rate("8.mp4", {"overall_quality": 3 + number})
            assert store.flush()
            assert_views_say_what_the_journal_says(store)
    assert compared == []


@pytest.mark.parametrize("as_long_as_before", [True, False])
def test_an_edit_in_a_copy_is_taken_in(closed, compared, as_long_as_before):
    text = (closed / RATINGS).read_bytes()
    edited = text.replace(b'"overall_quality":7', b'"overall_quality":2' if as_long_as_before else b'"overall_quality":10')
    assert edited != text
    (closed / RATINGS).write_bytes(edited)
    with StateStore(closed, role="server", publish_interval=3600) as store:
        assert store.rating("7.mp4")["rating"]["overall_quality"] == (2 if as_long_as_before else 10)
        assert store.flush()
        assert_views_say_what_the_journal_says(store)
    assert compared == [RATINGS]


def test_what_a_copy_of_a_killed_process_lacks_is_published(open_store, tmp_path, compared):
    store = open_store("server", publish_interval=3600)
    store.rate("a.mp4", {"overall_quality": 7})
    store.close()
    store = open_store("server", publish_interval=3600)
    store._publisher._stop.set()
    store._publisher._thread.join()
    store.rate("b.mp4", {"overall_quality": 8})
    forsake(store)
    folder = copied(store.state_dir, tmp_path / "copy")
    assert "b.mp4" not in json.loads((folder / RATINGS).read_text())
    with StateStore(folder, role="server", publish_interval=3600) as again:
        assert again.flush()
        assert "b.mp4" in read(again, RATINGS)
        assert_views_say_what_the_journal_says(again)
    assert compared == []


def test_without_a_digest_every_item_is_compared(closed, compared):
    note = json.loads(note_of(closed).read_text())
    for version in (item for found in note["views"].values() for item in found):
        assert len(version.pop(DIGEST)) == 64
    note_of(closed).write_text(json.dumps(note))
    with StateStore(closed, role="server", publish_interval=3600) as store:
        assert_views_say_what_the_journal_says(store)
    assert set(compared) == set(VIEWS)


def test_rebuild_writes_a_sealed_folder_anew(closed):
    path = closed / RATINGS
    before = path.stat().st_ino, path.read_bytes()
    assert rebuild(closed, None) == []
    assert path.stat().st_ino != before[0] and json.loads(path.read_bytes()) == json.loads(before[1])


def test_a_digest_is_of_one_version_only(closed, tmp_path):
    found = read_note(note_of(closed)).views[RATINGS]
    assert [version[DIGEST] for version in found] == [digest_of(closed / RATINGS)[1]]
    with StateStore(closed, role="server", publish_interval=3600) as store:
        store.rate("9.mp4", {"overall_quality": 3})
        assert store.flush()
        assert all(DIGEST not in version for version in read_note(note_of(closed)).views[RATINGS][1:]), "the new one is not read for it"
    assert [version[DIGEST] for version in read_note(note_of(closed)).views[RATINGS]] == [digest_of(closed / RATINGS)[1]]
