"""A disk that dies at every single operation of a script of actions, and forgets what it was not told to keep.

``kill -9`` leaves to the kernel what was written; a power cut does not. So this disk knows what was fsynced. When it dies,
bytes that were not are cut (all, some, or none of them), a rename or a new file whose folder was not is undone or not,
and the operation at which it died is left half done. Then the folder is opened again on a sound disk and compared with
an account of what had been acknowledged, kept by other means than the store's.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import StateError
from eva_state.documents import RATINGS
from eva_state.store import StateStore
from eva_state.views import Publisher
from tests.eva_state.account import Account, Step, ban, ban_clip, compare, fail, finish, nothing, rate, submit, told, undo
from tests.eva_state.conftest import KEY
from tests.eva_state.failing_disk import Disk, SoundFiles
from tests.eva_state.test_adoption import forsake
from tests.eva_state.test_views import assert_views_say_what_the_journal_says

OTHER = "uni_pc|simple|16|3.5|20|832x480"


FLUSH: Step = (lambda store: store.flush(), nothing)
RESTART: Step = (nothing, nothing)
EDIT: Step = (nothing, nothing)
SCRIPT: list[Step] = [
    submit("p1"),
    finish("p1", "a.mp4", 0.25),
    rate("r1", "a.mp4", 7),
    FLUSH,
    rate("r2", "a.mp4", 3),
    ban("b1", KEY),
    ban_clip("c1", "b.mp4", OTHER),
    compare("k1"),
    FLUSH,
    undo("r2"),
    EDIT,
    FLUSH,
    RESTART,
    rate("r3", "c.mp4", 9),
    undo("k1"),
    submit("p2"),
    fail("p2"),
    FLUSH,
    undo("c1"),
    ban("n1", KEY, False),
    submit("p3"),
    RESTART,
    finish("p4", "d.mp4", 0.75),
    FLUSH,
]
EDITED = {"edited.mp4": 4}


class Run:
    """The script on one folder, until it ends or the disk does not answer."""

    def __init__(self, folder: Path, disk: Disk):
        self.folder, self.disk = folder, disk
        self.account = Account()
        self.refused: list[Step] = []
        self.edited = self.ended = False
        self.store: StateStore | None = None

    def open(self, files: Disk | SoundFiles) -> StateStore:
        return StateStore(self.folder, "server", poll_interval=3600, segment_bytes=900, files=files).start()

    def leave(self) -> None:
        if self.store is not None:
            forsake(self.store)
            self.store = None

    def go(self) -> None:
        try:
            self.store = self.open(self.disk)
            for step in SCRIPT:
                self.step(step)
            self.ended = True
        except StateError:
            assert self.disk.dead or self.disk.errno_once is not None
        self.leave()

    def step(self, step: Step) -> None:
        if step is RESTART:
            self.leave()
            self.store = self.open(self.disk)
        elif step is EDIT:
            path = self.folder / RATINGS
            if path.exists():
                content = json.loads(path.read_bytes())
                content |= {name: {"rating": {"overall_quality": quality}} for name, quality in EDITED.items()}
                path.write_text(json.dumps(content), encoding="utf-8")
                self.edited = True
        else:
            try:
                assert self.store is not None
                step[0](self.store)
            except StateError:
                self.refused.append(step)
                if self.disk.dead:
                    raise
                return
            except KeyError:
                assert self.refused  # what was to be undone
                return
            step[1](self.account)
            if step[1] is not nothing:
                assert not self.disk.dead

    def expected(self, account: Account) -> dict[str, Any]:
        found = account.facts()
        if self.edited:
            found["ratings"] = found["ratings"] | EDITED
        return found


@pytest.fixture
def folder(tmp_path):
    """In memory where the system has such a file system: this makes and removes thousands of files."""
    memory = Path("/dev/shm")
    if not (memory.is_dir() and os.access(memory, os.W_OK)):
        yield tmp_path / "state"
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="eva-test-") as made:
        yield Path(made) / "state"


@pytest.fixture
def by_hand(monkeypatch):
    """Views are published where the script says, not by a thread: operation number n is the same at every run."""
    monkeypatch.setattr(Publisher, "_run", nothing)


def recover(run: Run) -> None:
    """On a sound disk: all that was acknowledged is there, and the views say what the journal says."""
    store = run.open(SoundFiles())
    try:
        assert store.flush()
        found = told(store)
        wanted = [run.expected(run.account)]
        if run.refused and run.disk.dead:  # the disk died before it could take the refused action back: it may have stayed
            run.refused[-1][1](run.account)
            wanted.append(run.expected(run.account))
        assert any(found == item for item in wanted), f"{found}\nis none of\n{wanted}\ndied at {run.disk.at}, {run.disk.died_at}"
        assert_views_say_what_the_journal_says(store)
        assert not list(run.folder.rglob(".*.tmp"))  # a dead process left its unfinished files: they are cleared away
        store.rate("after.mp4", {"overall_quality": 5})
        assert store.flush()
        assert_views_say_what_the_journal_says(store)
    finally:
        store.close()


@pytest.mark.parametrize("torn", [0, 40])
def test_power_lost_at_every_operation(folder, by_hand, torn):
    died_at = set()
    for at in range(10_000):
        run = Run(folder, Disk(at, torn=torn))
        run.go()
        died_at.add(run.disk.died_at)
        run.disk.lose_power(run.folder, random.Random(f"{torn} {at}"))
        recover(run)
        shutil.rmtree(run.folder)
        if run.ended:
            break
    assert run.ended and at > 100
    assert died_at >= {"write", "fsync", "replace", "open_append", "open_new", "fsync_dir"}


@pytest.mark.parametrize(("code", "torn"), [(errno.EIO, 40), (errno.ENOSPC, 0), (errno.ENOSPC, 1)])
def test_one_failure_at_every_operation(folder, by_hand, code, torn):
    """The process goes on: the action that met the failure is refused and leaves no trace, those after it are taken."""
    operations = 10_000
    for at in range(operations):
        run = Run(folder, Disk(at, errno_once=code, torn=torn))
        run.go()
        if run.refused:
            assert len(run.refused) == 1
        recover(run)
        shutil.rmtree(run.folder)
        if not run.disk.died_at:
            break
    assert at > 100


def test_the_disk_of_these_tests_loses_what_was_not_fsynced(folder, by_hand):
    """The proof of the proof: a store that acknowledges before fsync is caught."""
    caught = 0
    for at in range(8, 60):
        disk = Disk(at)
        disk.fsync = nothing  # type: ignore[method-assign]
        run = Run(folder, disk)
        run.go()
        disk.lose_power(run.folder, random.Random(at))
        try:
            recover(run)
        except AssertionError:
            caught += 1
        shutil.rmtree(run.folder)
    assert caught > 10
