"""Network volumes: no lock can be trusted there, so an owner file decides, and only a person takes over from another machine."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from eva_env_base import StateError, StateLocked
from eva_state import guard as guard_module
from eva_state.guard import Guard
from eva_state.mounts import NETWORK, TMPFS, Mount
from eva_state.owner import Host, OwnerFile, is_running, started_at, this_host, why_gone
from eva_state.store import StateStore
from tests.eva_state.conftest import wait_until

NET = Mount(NETWORK, "/workspace", "fuse.mfs", "mfs#master")
HERE = Host("here", boot="b1", pids="pid:[4026531836]", machine="m1")
FIRST = "pid:[4026531836]"
BEAT = 0.05


@pytest.fixture
def network(monkeypatch):
    """Every folder lies on a network volume."""
    monkeypatch.setattr(guard_module, "find_mount", lambda folder: NET)


def owner_of(folder, host, role="server", heartbeat=BEAT):
    folder.mkdir(parents=True, exist_ok=True)
    return OwnerFile(folder / f"{role}.owner", role, host=host, heartbeat=heartbeat)


def written(path):
    return json.loads(path.read_text())


# ---------------------------------------------------------------- who is certainly gone
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def record_of(host, pid, started=""):
    return {
        "host": host.name,
        "pid": pid,
        "started": started,
        "boot": host.boot,
        "pids": host.pids,
        "machine": host.machine,
        "pod": host.pod,
    }


def test_a_living_process_of_this_host_is_not_gone():
    assert why_gone(record_of(HERE, os.getpid(), started_at(os.getpid())), HERE) is None


@pytest.mark.skipif(os.name == "nt", reason="there the lock tells")
def test_a_dead_process_of_this_host_is_gone():
    assert "ended" in why_gone(record_of(HERE, dead_pid()), HERE)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_reused_process_number_is_told_apart():
    assert is_running(os.getpid(), started_at(os.getpid()))
    assert not is_running(os.getpid(), "1")
    assert "ended" in why_gone(record_of(HERE, os.getpid(), "1"), HERE)


@pytest.mark.parametrize(
    ("holder", "here", "gone"),
    [
        # another machine, another container: never
        (Host("other", "b2", FIRST, "m2"), HERE, False),
        (Host("other", "b1", "pid:[2]", "m1"), HERE, False),
        (Host("here", "b1", "pid:[2]", "m1"), HERE, False),
        # the same name elsewhere, or in containers of one image: it cannot be told
        (Host("here", "b2", FIRST, "m2"), HERE, False),
        (Host("here", "b2", "pid:[2]", "m1"), Host("here", "b1", "pid:[3]", "m1"), False),
        (Host("here", "b2", FIRST, ""), Host("here", "b1", FIRST, ""), False),
        # this machine before it was started anew
        (Host("here", "b2", FIRST, "m1"), HERE, True),
        # this pod before its restart, wherever it runs now
        (Host("c1", "b1", "pid:[2]", "", "pod7"), Host("c2", "b2", "pid:[9]", "", "pod7"), True),
        (Host("c1", "b1", "pid:[2]", "", "pod7"), Host("c1", "b1", "pid:[9]", "", "pod7"), True),
        (Host("c1", "b1", "pid:[2]", "", "pod7"), Host("c1", "b1", "pid:[2]", "", "pod8"), False),
        (Host("c1", "b1", "pid:[2]", "", "pod7"), Host("c1", "b1", "pid:[2]", "", ""), False),
    ],
)
def test_who_is_gone_for_certain(holder, here, gone):
    assert (why_gone(record_of(holder, os.getpid(), started_at(os.getpid())), here) is not None) == gone


def test_this_host_knows_itself():
    assert this_host({"RUNPOD_POD_ID": "p"}).pod == "p" and this_host({}).name


# ---------------------------------------------------------------- the file
def test_a_holder_on_another_host_is_never_taken_over_by_age(tmp_path):
    old = owner_of(tmp_path, Host("far", "b9"))
    old.claim()
    content = written(old.path) | {"heartbeat": 1.0, "since": 1.0}
    old.path.write_text(json.dumps(content))
    os.utime(old.path, (1, 1))
    with pytest.raises(StateLocked, match=r"on far, last sign of life \d{6,} s ago.*--takeover"):
        owner_of(tmp_path, HERE).claim()
    assert written(old.path) == content


def test_an_unreadable_owner_file_is_not_taken_over_without_being_asked(tmp_path):
    (tmp_path / "server.owner").write_bytes(b"{half")
    with pytest.raises(StateLocked, match="holder unknown"):
        owner_of(tmp_path, HERE).claim()
    assert owner_of(tmp_path, HERE).claim(takeover=True)


def test_a_takeover_is_noticed_by_the_holder(tmp_path, caplog):
    old, new = owner_of(tmp_path, Host("far")), owner_of(tmp_path, HERE)
    old.claim()
    old.start()
    old.check()
    assert new.claim(takeover=True)
    new.settle()
    new.start()
    wait_until(lambda: old.lost)
    with pytest.raises(StateLocked, match="on here"):
        old.check()
    new.check()
    old.release()
    assert written(new.path)["host"] == "here"  # the loser's end does not remove the winner's file
    new.release()
    assert not new.path.exists()
    assert "taken over by --takeover" in caplog.text


def test_a_process_that_was_stopped_looks_before_it_writes(tmp_path):
    old, new = owner_of(tmp_path, Host("far")), owner_of(tmp_path, HERE, heartbeat=10)
    old.claim()  # no heartbeat thread: as if the whole process stood still
    new.claim(takeover=True)
    old._seen -= 10  # more than a heartbeat has passed
    with pytest.raises(StateLocked):
        old.check()


def test_a_last_heartbeat_that_lands_on_the_new_owner_is_repaired(tmp_path):
    old, new = owner_of(tmp_path, Host("far")), owner_of(tmp_path, HERE, heartbeat=0.3)
    old.claim()
    text = old.path.read_text()
    assert new.claim(takeover=True)
    old.path.write_text(text)
    new.settle()
    assert written(new.path)["host"] == "here"


def test_of_two_that_take_over_at_once_one_gives_up(tmp_path):
    owner_of(tmp_path, Host("far")).claim()
    one, two = owner_of(tmp_path, Host("one")), owner_of(tmp_path, Host("two"))
    one.claim(takeover=True)
    two.claim(takeover=True)
    with pytest.raises(StateLocked, match="on two"):
        one.settle()
    two.settle()


def test_a_removed_owner_file_is_written_again(tmp_path, caplog):
    owner = owner_of(tmp_path, HERE)
    owner.claim()
    owner.start()
    owner.path.unlink()
    wait_until(owner.path.exists)
    owner.check()
    owner.release()
    assert "written again" in caplog.text


# ---------------------------------------------------------------- guard and store
def test_the_guard_on_a_network_volume(tmp_path, network, monkeypatch):
    locks = tmp_path / "journal" / "locks"
    first = Guard(locks, "server")
    first.acquire()
    assert first.held and written(locks / "server.owner")["pid"] == os.getpid()
    assert not Guard(locks, "server").try_acquire()
    with pytest.raises(StateLocked):
        Guard(locks, "server", takeover=True).acquire()  # the lock itself is held: it lives, whatever anybody says
    first.release()
    assert not (locks / "server.owner").exists() and not first.held


def test_a_volume_without_any_locks(tmp_path, network, monkeypatch, caplog):
    def fails(*args, **options):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(guard_module.filelock.FileLock, "acquire", fails)
    locks = tmp_path / "journal" / "locks"
    first, second = Guard(locks, "server"), Guard(locks, "server")
    first.acquire()
    assert first.held and not second.try_acquire()
    with pytest.raises(StateLocked, match="--takeover"):
        second.acquire()
    first.release()
    assert second.try_acquire()
    second.release()
    assert "cannot lock" in caplog.text


def test_a_local_disk_without_locks_is_refused(tmp_path, monkeypatch):
    def fails(*args, **options):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(guard_module.filelock.FileLock, "acquire", fails)
    with pytest.raises(StateError, match="cannot lock"):
        Guard(tmp_path / "locks", "server").acquire()


def test_a_store_taken_over_records_nothing_more(tmp_path, network, monkeypatch, caplog):
    locks = tmp_path / "journal" / "locks"
    far = OwnerFile(locks / "server.owner", "server", host=Host("far", "b9"), heartbeat=BEAT)
    locks.mkdir(parents=True)
    far.claim()
    with pytest.raises(StateLocked, match=r"process \d+ on far"):
        StateStore(tmp_path, "server").start()
    monkeypatch.setattr(OwnerFile, "settle", lambda self: None)  # nobody to wait for
    with StateStore(tmp_path, "server", takeover=True) as store:
        done = store.rate("a.mp4", {"overall_quality": 5})
        far.claim(takeover=True)  # and back
        guard = store._guard
        guard._owner._heartbeat = 0.0
        with pytest.raises(StateLocked, match="on far"):
            store.rate("b.mp4", {"overall_quality": 5})
        assert store.actions()[0]["event_id"] == done.event_id and len(store.actions()) == 1
    assert written(locks / "server.owner")["host"] == "far"


def test_the_start_says_what_the_folder_lies_on(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    with StateStore(tmp_path, "server"):
        pass
    assert f"{tmp_path}: " in caplog.text
    for mount, text in (
        (NET, "fuse.mfs (mfs#master) at /workspace: shared volume"),
        (Mount(TMPFS, "/dev/shm", "tmpfs", "shm"), "in memory"),
    ):
        caplog.clear()
        monkeypatch.setattr(guard_module, "find_mount", lambda folder, mount=mount: mount)
        with StateStore(tmp_path, "server"):
            pass
        assert any(text in record.getMessage() and record.levelno == logging.WARNING for record in caplog.records)
