"""Bits that flip in the middle of a journal: noticed, reported, kept, and nothing else is affected."""

from __future__ import annotations

import errno
import random

import pytest

from eva_env_base import StateError
from eva_state.files import Files
from eva_state.journal import Draft, Follower, Writer, segments
from eva_state.records import BadRecord, decode, decode_many
from tests.eva_state.test_views import assert_views_say_what_the_journal_says


@pytest.fixture
def written(open_store):
    """A folder whose server recorded a, b, c in one segment."""
    store = open_store()
    for name in "abc":
        store.rate(name, {"overall_quality": 5, "comments": 'say "ü"\n'}, id=f"id-{name}")
    store.close()
    [segment] = segments(store.state_dir / "journal" / "server")
    return store.state_dir, segment


def test_a_flip_of_any_bit_of_a_record_is_noticed(written):
    _, segment = written
    lines = segment.read_bytes().split(b"\n")[:-1]
    assert [decode(line)[0].id for line in lines] == ["id-a", "id-b", "id-c"]
    for at in range(len(lines[1])):
        for bit in range(8):
            broken = bytearray(lines[1])
            broken[at] ^= 1 << bit
            found = decode_many([lines[0], bytes(broken), lines[2]])
            assert isinstance(found[1], BadRecord), (at, bit)
            assert [item[0].id for item in (found[0], found[2])] == ["id-a", "id-c"]


def test_a_corrupt_record_in_the_middle_stops_nothing_is_told_and_stays(written, open_store):
    _, segment = written
    data = bytearray(segment.read_bytes())
    at = data.index(b"id-b") + 1
    data[at] ^= 1
    segment.write_bytes(data)
    store = open_store()
    assert list(store.ratings()) == ["a", "c"]
    messages = [str(problem) for problem in store.problems]
    assert any("corrupt record skipped" in text and str(segment) in text for text in messages)
    assert any("records 2 to 2 are missing" in text for text in messages)
    store.rate("d", {"overall_quality": 5})
    assert store.flush()
    assert_views_say_what_the_journal_says(store)
    store.close()
    assert bytes(data) == segment.read_bytes()[: len(data)]  # kept as it is, for whoever wants to mend it
    assert list(open_store().ratings()) == ["a", "c", "d"]


def test_rubbish_anywhere_stops_nothing(written, open_store):
    """Bytes of all kinds over random places of the journal: what is intact is read, the rest told."""
    _, segment = written
    whole = segment.read_bytes()
    lines = whole.splitlines(keepends=True)
    rng = random.Random(3)
    for _ in range(60):
        data = bytearray(whole)
        start = rng.randrange(len(data))
        length = rng.randrange(1, 200)
        data[start : start + length] = rng.choice([b"\0", b"\xff", b"\n", b"{}", b'{"crc":"']) * length
        segment.write_bytes(data)
        intact = [decode(line)[0].id for line in lines if line in bytes(data)]
        follower = Follower(segment.parent, quiet=True)
        assert [record.id for batch in follower.poll() for record, _ in batch] == intact
        if len(intact) < 3 and intact[-1:] == ["id-c"]:
            assert follower.problems


def test_who_follows_is_not_confused_by_the_recovery_of_a_torn_tail(tmp_path):
    """The other process has read up to the torn line; the writer dies, comes back, cuts it and writes on."""

    def writer(lamport=1):
        follower = Follower(tmp_path)
        seen = [record.id for batch in follower.poll() for record, _ in batch]
        made = Writer(tmp_path, "server", follower, files=Files(), lamport=lambda: lamport, on_commit=lambda batch: None)
        return made, seen

    def add(to, id):
        to.append([Draft("rating", {"name": id, "rating": None}, id)])

    first, _ = writer()
    add(first, "a")
    add(first, "b")
    other = Follower(tmp_path)
    read = [record.id for batch in other.poll() for record, _ in batch]
    segment = tmp_path / "000001.jsonl"
    whole = segment.read_bytes()
    torn = whole.splitlines(keepends=True)[1].replace(b'"b"', b'"t"')
    for cut in range(1, len(torn), 7):
        with segment.open("ab") as file:
            file.write(torn[:cut])
        read += [record.id for batch in other.poll() for record, _ in batch]
        again, seen = writer()
        assert seen == read and len(again.problems) == 1
        add(again, f"after {cut}")
        again.close()
        read += [record.id for batch in other.poll() for record, _ in batch]
        assert read[-1] == f"after {cut}" and not other.problems
        segment = segments(tmp_path)[-1]
    assert len(read) == len(set(read))


def test_after_an_fsync_error_nothing_is_accepted_until_the_disk_works_again(open_store, faulty):
    """What the kernel says of an fsync after a failed one cannot be trusted: the bytes are cut and written anew elsewhere."""
    store = open_store(files=faulty)
    store.rate("a", {"overall_quality": 5})
    before = segments(store.state_dir / "journal" / "server")
    faulty.fail = {"fsync": errno.EIO}
    for _ in range(3):
        with pytest.raises(StateError, match="disk failed"):
            store.rate("b", {"overall_quality": 5}, id="b")
    assert list(store.ratings()) == ["a"]
    faulty.fail = {"truncate": errno.EIO}  # fsync would succeed again, but what it failed on cannot be taken back
    for _ in range(3):
        with pytest.raises(StateError):
            store.rate("c", {"overall_quality": 5})
    faulty.fail.clear()
    assert not store.rate("b", {"overall_quality": 6}, id="b").duplicate
    assert len(segments(store.state_dir / "journal" / "server")) == len(before) + 1  # never after bytes of doubtful standing
    store.close()
    again = open_store()
    assert {name: item["rating"]["overall_quality"] for name, item in again.ratings().items()} == {"a": 5, "b": 6}
