"""One journal: what is acknowledged stays, what is torn is kept aside and cut, what the disk refuses is taken back."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from eva_env_base import StateError, StateFull
from eva_state.files import Files
from eva_state.journal import Draft, Follower, Rewound, Writer, segments
from tests.eva_state.conftest import FaultyFiles


class Journal:
    def __init__(self, folder: Path, files: Files | None = None, **options):
        self.seen = []
        follower = Follower(folder)
        for batch in follower.poll():
            self.seen += [record for record, _ in batch]
        self.replayed = [record.id for record in self.seen]
        self.problems = follower.problems
        self.writer = Writer(
            folder,
            "server",
            follower,
            files=files or Files(),
            clock=lambda: 1000.0,
            lamport=lambda: max((record.lc for record in self.seen), default=0),
            on_commit=lambda batch: self.seen.extend(record for record, _ in batch),
            **options,
        )

    def add(self, *ids: str):
        return self.writer.append([Draft("rating", {"name": id, "rating": None}, id) for id in ids])


def reread(folder: Path) -> list[str]:
    return [record.id for batch in Follower(folder).poll() for record, _ in batch]


def test_records_are_numbered_and_come_back(tmp_path):
    first = Journal(tmp_path)
    first.add("a")
    first.add("b", "c")
    first.writer.close()
    second = Journal(tmp_path)
    assert second.replayed == ["a", "b", "c"]
    second.add("d")
    assert [record.seq for record in second.seen] == [1, 2, 3, 4]
    assert [record.lc for record in second.seen] == [1, 2, 3, 4]


def test_a_cut_at_every_byte_of_the_last_record_loses_only_that_record(tmp_path):
    whole = tmp_path / "whole"
    journal = Journal(whole)
    journal.add("a")
    journal.add("b")
    start = (whole / "000001.jsonl").stat().st_size
    journal.add("c")
    data = (whole / "000001.jsonl").read_bytes()
    for cut in range(start, len(data)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "000001.jsonl").write_bytes(data[:cut])
        recovered = Journal(folder)
        assert recovered.replayed == ["a", "b"]
        kept = list(folder.glob("*.broken"))
        if cut == start:
            assert not kept and not recovered.writer.problems
        else:
            assert [path.read_bytes() for path in kept] == [data[start:cut]]
            assert "torn or corrupt tail" in str(recovered.writer.problems[0])
        recovered.add("d")
        recovered.writer.close()
        assert reread(folder) == ["a", "b", "d"]
        assert [record.seq for batch in Follower(folder).poll() for record, _ in batch] == [1, 2, 3]


def test_a_corrupt_last_record_is_cut_and_kept(tmp_path):
    journal = Journal(tmp_path)
    journal.add("a")
    journal.add("b")
    path = tmp_path / "000001.jsonl"
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    recovered = Journal(tmp_path)
    assert recovered.replayed == ["a"]
    assert len(list(tmp_path.glob("*.broken"))) == 1
    recovered.add("c")
    assert reread(tmp_path) == ["a", "c"]


def test_a_corrupt_record_in_the_middle_stops_nothing_and_stays(tmp_path):
    journal = Journal(tmp_path)
    for id in "abc":
        journal.add(id)
    path = tmp_path / "000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:30] + b"#" + lines[1][31:]
    path.write_bytes(b"".join(lines))
    recovered = Journal(tmp_path)
    assert recovered.replayed == ["a", "c"]
    messages = " ".join(map(str, recovered.problems))
    assert "corrupt record skipped" in messages and "records 2 to 2 are missing" in messages
    recovered.add("d")
    assert path.read_bytes() != b"" and lines[1] in path.read_bytes()
    assert reread(tmp_path) == ["a", "c", "d"]


@pytest.mark.parametrize("short", [None, 0, 1, 50])
def test_a_full_disk_refuses_and_records_nothing(tmp_path, short):
    files = FaultyFiles()
    journal = Journal(tmp_path, files)
    journal.add("a")
    files.fail["write"], files.short = errno.ENOSPC, short
    with pytest.raises(StateFull, match="nothing was recorded"):
        journal.add("b")
    assert reread(tmp_path) == ["a"]
    files.fail.clear()
    files.short = None
    journal.add("c")
    assert reread(tmp_path) == ["a", "c"] == [record.id for record in journal.seen]
    assert [record.seq for record in journal.seen] == [1, 2]


def test_a_disk_that_fails_at_fsync_accepts_nothing_until_it_works_again(tmp_path):
    files = FaultyFiles()
    journal = Journal(tmp_path, files)
    journal.add("a")
    files.fail = {"fsync": errno.EIO}
    for id in "bc":
        with pytest.raises(StateError, match="disk failed"):
            journal.add(id)
    files.fail = {"truncate": errno.EIO}
    with pytest.raises(StateError):
        journal.add("d")
    files.fail.clear()
    journal.add("e")
    assert reread(tmp_path) == ["a", "e"]


def test_who_had_read_a_record_that_was_taken_back_is_told(tmp_path):
    files = FaultyFiles()
    journal = Journal(tmp_path, files)
    journal.add("a")
    follower = Follower(tmp_path)

    def fsync(fd):
        if len(read) < 2:
            for batch in follower.poll():
                read.extend(record.id for record, _ in batch)
        raise OSError(errno.EIO, "injected")

    read: list[str] = []
    files.fsync = fsync
    with pytest.raises(StateError):
        journal.add("b")
    assert read == ["a", "b"]
    del files.fsync
    journal.add("c")
    with pytest.raises(Rewound):
        list(follower.poll())


def test_a_line_without_newline_means_not_yet(tmp_path):
    journal = Journal(tmp_path)
    journal.add("a")
    data = (tmp_path / "000001.jsonl").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    path = other / "000001.jsonl"
    path.write_bytes(b"")
    follower = Follower(other)
    got = []
    for end in range(len(data) + 1):
        path.write_bytes(data[:end])
        got += [record.id for batch in follower.poll() for record, _ in batch]
        assert got == (["a"] if end == len(data) else [])
    assert not follower.problems


def test_segments_are_sealed_at_their_size_and_followed(tmp_path):
    journal = Journal(tmp_path, segment_bytes=500)
    follower = Follower(tmp_path)
    got = []
    sealed = {}
    for number in range(20):
        journal.add(f"id{number}")
        got += [record.id for batch in follower.poll() for record, _ in batch]
        for path in segments(tmp_path)[:-1]:
            assert sealed.setdefault(path.name, path.read_bytes()) == path.read_bytes()
    assert got == [f"id{number}" for number in range(20)]
    assert len(segments(tmp_path)) > 3
    assert all(path.stat().st_size <= 500 for path in segments(tmp_path))
    journal.writer.close()
    assert Journal(tmp_path, segment_bytes=500).replayed == got


def test_many_threads_share_fsyncs_and_each_returns_after_its_own(tmp_path):
    files = FaultyFiles()
    journal = Journal(tmp_path, files)
    on_disk_late = []

    def work(which: int) -> None:
        for number in range(25):
            journal.add(f"{which}-{number}")
            if f'"{which}-{number}"'.encode() not in b"".join(path.read_bytes() for path in segments(tmp_path)):
                on_disk_late.append((which, number))

    threads = [threading.Thread(target=work, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = reread(tmp_path)
    assert not on_disk_late
    assert len(found) == len(set(found)) == 200
    assert [record.seq for record in journal.seen] == list(range(1, 201))
    for which in range(8):
        mine = [id for id in found if id.startswith(f"{which}-")]
        assert mine == [f"{which}-{number}" for number in range(25)]


def test_one_unfit_record_does_not_spoil_the_others(tmp_path):
    journal = Journal(tmp_path)
    with pytest.raises(ValueError):
        journal.writer.append([Draft("rating", {"x": float("nan")}, "bad")])
    journal.add("good")
    assert reread(tmp_path) == ["good"]
    assert journal.seen[0].seq == 1


@pytest.mark.parametrize("for_good", [False, True])
def test_a_disk_that_fails_at_any_single_operation_loses_nothing_acknowledged(tmp_path, for_good):
    for countdown in range(40):
        folder = tmp_path / str(countdown)
        files = FaultyFiles()
        files.countdown, files.short, files.once = countdown, 17, not for_good
        acknowledged = []
        try:
            journal = Journal(folder, files, segment_bytes=400)
            for id in "abcdef":
                journal.add(id)
                acknowledged.append(id)
        except StateError:
            pass
        files.countdown = None
        recovered = Journal(folder, files, segment_bytes=400)
        # What was refused is not there, unless the disk died before it could be taken back.
        refused = [id for id in "abcdef" if id not in acknowledged][: for_good * 1]
        assert recovered.replayed in (acknowledged, [*acknowledged, *refused])
        recovered.add("z")
        assert reread(folder) == [*recovered.replayed, "z"]
    assert acknowledged == list("abcdef")
