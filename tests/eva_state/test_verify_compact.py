"""``verify`` finds every kind of damage and says what to do; ``compact`` changes nothing that can be asked for."""

from __future__ import annotations

import json
import os
import random

import pytest

from eva_env_base import StateError, StateLocked
from eva_state import compact as compact_module
from eva_state import records
from eva_state.compact import compact, difference, replay
from eva_state.documents import KNOWLEDGE, RATINGS
from eva_state.files import Files
from eva_state.records import Record
from eva_state.store import StateStore
from eva_state.verify import verify
from tests.eva_state.conftest import KEY, FaultyFiles, make_entry


def fill(folder, rounds=30, seed=1):
    """Some of everything, by two writers, in several segments."""
    rng = random.Random(seed)
    ids = []
    with (
        StateStore(folder, "agent", publish_interval=3600, segment_bytes=4000) as agent,
        StateStore(folder, "server", publish_interval=3600, segment_bytes=3000) as server,
    ):
        for number in range(rounds):
            name = f"{rng.randrange(20)}.mp4"
            agent.submitted({"prompt_id": f"p{number}", "api": "http://x", "prompt": "words " * 40, "params": {"steps": number}})
            if number % 7 == 3:
                agent.failed(f"p{number}", {"kind": "oom"})
            elif number % 7 != 5:  # some stay in flight
                agent.generated(f"p{number}", make_entry(name, rng.random(), steps=rng.randrange(1, 9)), rng.random(), 2.0)
            ids.append(server.rate(name, {"overall_quality": rng.randrange(1, 11)}, id=f"r{number}").event_id)
            if number % 5 == 0:
                ids.append(server.ban(KEY.replace("|20|", f"|{number + 1}|")).event_id)
                ids.append(server.compare(name, "other.mp4", "left").event_id)
            if number % 4 == 0:
                server.undo(ids.pop(rng.randrange(len(ids))))
        server.poll()
        agent.poll()
        assert agent.flush()
        server.rate("last.mp4", {"overall_quality": 1})
    with StateStore(folder, "tool"):
        pass  # views up to date
    return folder


@pytest.fixture
def state(tmp_path):
    return fill(tmp_path / "state")


def found(folder):
    report = verify(folder)
    return report, [str(finding) for finding in report.findings]


def segment(state, writer="server", number=1):
    return state / "journal" / writer / f"{number:06d}.jsonl"


def replace_line(path, number, line):
    lines = path.read_bytes().splitlines(keepends=True)
    offset = sum(map(len, lines[:number]))
    lines[number : number + 1] = [line] if line else []
    path.write_bytes(b"".join(lines))
    return offset


# ---------------------------------------------------------------- verify
def test_a_sound_state(state):
    report, lines = found(state)
    assert lines == [] and report.verdict.startswith("sound: ") and report.views == 5 and report.segments > 5
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    verify(state)
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before


def test_a_flipped_bit_is_found_with_file_and_offset(state):
    path = segment(state)
    lines = path.read_bytes().splitlines(keepends=True)
    broken = bytearray(lines[2])
    broken[60] ^= 1
    offset = replace_line(path, 2, bytes(broken))
    report, text = found(state)
    assert any(f"{path}, byte {offset}: corrupt record" in line and "compact" in line for line in text)
    assert any("records 3 to 3 are missing" in line for line in text) and report.problems


def test_a_torn_tail(state):
    path = sorted((state / "journal" / "agent").iterdir())[-1]
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"crc":"00')
    assert any(f"{path}, byte {size}: torn record of 10 bytes" in line for line in found(state)[1])


def test_a_record_that_is_just_being_written_is_no_problem(state):
    with StateStore(state, "agent", publish_interval=3600):
        path = sorted((state / "journal" / "agent").iterdir())[-1]
        size = path.stat().st_size
        with path.open("ab") as file:
            file.write(b'{"crc":"00')
        report, lines = found(state)
        assert not report.problems and any("just being written" in line for line in lines)
        os.truncate(path, size)


def test_a_missing_segment(state):
    segment(state, number=2).unlink()
    text = "\n".join(found(state)[1])
    assert "segments 2 to 2 are missing" in text


def test_a_missing_record_a_doubled_one_and_a_foreign_one(state):
    path = segment(state)
    lines = path.read_bytes().splitlines(keepends=True)
    replace_line(path, 3, b"")
    assert "records 4 to 4 are missing" in "\n".join(found(state)[1])
    path.write_bytes(b"".join([*lines[:4], lines[3], *lines[4:]]))
    text = "\n".join(found(state)[1])
    assert "record 4 follows record 4" in text and "was recorded before" in text
    foreign = records.encode(Record(1, "x", 1, 1.0, "agent", "rating", b'{"name":"a","rating":null}'))
    path.write_bytes(foreign)
    assert "written by 'agent' in the journal of 'server'" in "\n".join(found(state)[1])


@pytest.mark.parametrize(
    ("type", "data", "message"),
    [
        ("rating", {}, "rating 'x' lacks name, rating"),
        ("ban", {"reason": "r"}, "ban 'x' lacks key"),
        ("generated", {"entry": {"score": 1}}, "lacks entry.video"),
        ("undo", {"target": "nobody"}, "undoes 'nobody', which is in no journal"),
    ],
)
def test_a_record_without_sense(tmp_path, type, data, message):
    path = segment(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(records.encode(Record(1, "x", 1, 1.0, "server", type, records.dump(data))))
    report, lines = found(tmp_path)
    assert report.problems and any(message in line and "byte 0" in line for line in lines)


def test_a_type_of_a_newer_version_is_only_noted(tmp_path):
    path = segment(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(records.encode(Record(1, "x", 1, 1.0, "server", "dream", b"{}")))
    report, lines = found(tmp_path)
    assert not report.problems and any("'dream' is not known here" in line for line in lines)


def test_views(state):
    (state / RATINGS).write_text("{torn")
    text = "\n".join(found(state)[1])
    assert f"{state / RATINGS}: cannot be parsed" in text and "rebuild" in text
    (state / RATINGS).unlink()
    report, lines = found(state)
    assert not report.problems and any("is not there" in line for line in lines)
    content = json.loads((state / KNOWLEDGE).read_text())
    content["history"][0]["score"] = 0.123
    text = json.dumps(content)
    (state / KNOWLEDGE).write_text(text)
    report, lines = found(state)
    assert not report.problems and any("written by somebody else" in line for line in lines)


def test_a_view_that_rotted(state):
    path = state / RATINGS
    status = path.stat()
    data = path.read_bytes()
    with path.open("r+b") as file:  # in place, and with the time put back: nobody wrote this
        file.seek(data.index(b'"overall_quality":') + len(b'"overall_quality":'))
        old = file.read(1)
        file.seek(-1, 1)
        file.write(b"1" if old != b"1" else b"2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    report, lines = found(state)
    assert report.problems and any("does not say what the journal says" in line and "rebuild --discard-edits" in line for line in lines)


def test_no_state(tmp_path):
    with pytest.raises(StateError, match="no state here"):
        verify(tmp_path)


# ---------------------------------------------------------------- compact
def test_compacting_changes_nothing_that_can_be_asked_for(state):
    before = replay(state / "journal")
    views = {path.name: path.read_bytes() for path in state.iterdir() if path.is_file()}
    done = compact(state)
    assert done.stubs == len(before.finished) and done.after < done.before * 0.8 and done.lost == 0 and done.backup is None
    after = replay(state / "journal")
    assert difference(before, after) is None
    assert {path.name: path.read_bytes() for path in state.iterdir() if path.is_file()} == views
    assert found(state)[1] == [] and not list((state / "journal").glob("before-*"))
    again = compact(state)
    assert again.stubs == 0 and again.after == again.before
    with StateStore(state, "agent") as agent, StateStore(state, "server", publish_interval=3600) as server:
        assert server.rate("x", {"overall_quality": 1}, id="r3").duplicate
        assert agent.submitted({"prompt_id": "p1"}).duplicate and agent.generated("p1", make_entry("x"), 0.5).duplicate
        assert {item["prompt_id"] for item in agent.in_flight()} == {"p5", "p12", "p19", "p26"}
        assert all(item["api"] for item in agent.in_flight())
        old = next(item for item in server.iter_actions() if item["type"] == "rating" and not item["undone"])
        assert not server.undo(old["event_id"]).duplicate
    assert not verify(state).problems


@pytest.mark.parametrize("role", ["server", "agent", "tool"])
def test_it_is_refused_while_anything_runs(state, role):
    with StateStore(state, role), pytest.raises(StateLocked, match=f"another {role}"):
        compact(state)
    compact(state)


def test_corrupt_and_missing_records_are_moved_aside_and_noted(state):
    path = segment(state)
    lines = path.read_bytes().splitlines(keepends=True)
    replace_line(path, 2, b"rotten\n")
    replace_line(path, 5, b"")
    before = replay(state / "journal")
    done = compact(state, keep_backup=True)
    assert done.lost == 2 and (done.backup / "server" / path.name).exists()
    report, notes = found(state)
    assert not [line for line in notes if "PROBLEM" in line and "records" in line] and not [
        f for f in report.problems if "corrupt" in f.message
    ]
    assert sum("was lost" in line for line in notes) == 2
    (kept,) = (state / "journal" / "server").glob("*.broken")
    assert kept.read_bytes() == b"rotten" and any(kept.name in line for line in notes)
    assert difference(before, replay(state / "journal")) is None
    assert len(path.read_bytes().splitlines()) == len(lines)
    with StateStore(state, "server") as store:
        assert not store.problems


def test_a_torn_tail_is_left_for_the_next_start(state):
    path = sorted((state / "journal" / "agent").glob("*.jsonl"))[-1]
    with path.open("ab") as file:
        file.write(b"torn")
    compact(state)
    assert path.read_bytes().endswith(b"\ntorn")
    with StateStore(state, "agent") as store:
        assert any("torn" in problem.message for problem in store.problems)


def test_a_disk_that_fails_at_any_operation_leaves_a_state_that_says_the_same(tmp_path):
    fill(tmp_path / "state", rounds=12)
    journal = tmp_path / "state" / "journal"
    before = replay(journal)
    size = sum(path.stat().st_size for path in journal.rglob("*.jsonl"))
    failed = 0
    for countdown in range(1000):
        files = FaultyFiles()
        files.countdown, files.once = countdown, True
        try:
            compact(tmp_path / "state", files=files)
        except StateError as error:
            assert "nothing was changed" in str(error)
            failed += 1
            assert difference(before, replay(journal)) is None, countdown
            assert not verify(tmp_path / "state").problems, countdown
            continue
        break
    assert failed > 10 and sum(path.stat().st_size for path in journal.rglob("*.jsonl")) < size
    assert difference(before, replay(journal)) is None


def test_a_kill_between_two_segments_leaves_a_state_that_says_the_same(state, monkeypatch):
    """Every instant between two renames is a mix of old and new segments; nothing is put back."""
    before = replay(state / "journal")

    class Killed(BaseException):
        pass

    class Dying(Files):
        left = 3

        def replace(self, source, target):
            if not self.left:
                raise Killed
            self.left -= 1
            super().replace(source, target)

    monkeypatch.setattr(compact_module, "_restore", lambda *a: None)
    with pytest.raises(Killed):
        compact(state, files=Dying())
    monkeypatch.undo()
    assert difference(before, replay(state / "journal")) is None
    report, lines = found(state)
    assert not report.problems and any("before a compaction" in line for line in lines)
    assert compact(state).stubs > 0 and difference(before, replay(state / "journal")) is None


def test_a_result_that_would_differ_is_taken_back(state, monkeypatch):
    texts = {path: path.read_bytes() for path in (state / "journal").rglob("*.jsonl")}
    monkeypatch.setattr(
        compact_module, "stub", lambda record, prompt_id: Record(record.seq, "x", record.lc, record.ts, record.w, "space", b'{"space":{}}')
    )
    with pytest.raises(StateError, match="nothing was changed"):
        compact(state)
    assert {path: path.read_bytes() for path in (state / "journal").rglob("*.jsonl")} == texts
