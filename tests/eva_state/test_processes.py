"""Real processes, really killed: nothing acknowledged is lost, nothing is doubled, roles are freed by death."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest

from eva_env_base import StateLocked
from eva_state.journal import segments
from eva_state.store import StateStore
from tests.eva_state.conftest import KEY, wait_until
from tests.eva_state.killing import WRITER, Tally, account, kill_loop
from tests.eva_state.test_replica import facts
from tests.eva_state.test_views import assert_views_say_what_the_journal_says

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="writers are forked, so that a life costs milliseconds")


def check(folder, tally):
    print(tally)
    assert not tally.lost and not tally.twice and not tally.invented, f"{tally.lost[:9]} {tally.twice[:9]} {tally.invented[:9]}"
    with StateStore(folder, "server") as server, StateStore(folder, "agent") as agent:
        wait_until(lambda: facts(server._model) == facts(agent._model))
        assert server.flush()
        assert_views_say_what_the_journal_says(server)
        assert all(item.get("by") != "hand edit" for item in server.actions(10**6))  # none was seen where there was none


@needs_fork
def test_kill_9_of_two_writers(tmp_path):
    tally = kill_loop(tmp_path / "state", tmp_path / "told", 40, random.Random(1), tmp_path / "errors", 0.4)
    assert tally.kills == 40 and tally.acknowledged > 20
    check(tmp_path / "state", tally)


@pytest.mark.long
@pytest.mark.timeout(3600)
@needs_fork
def test_kill_9_a_thousand_times(tmp_path):
    """Ten folders, so that starts stay short and more of the kills hit a writer at work."""
    whole = Tally()
    for number in range(10):
        here = tmp_path / str(number)
        tally = kill_loop(here / "state", here / "told", 110, random.Random(number), tmp_path / "errors", 0.5)
        check(here / "state", tally)
        whole.add(tally)
    print("in all:", whole)
    assert whole.kills >= 1000 and whole.acknowledged > 2000 and whole.before_ready > 10 and whole.unanswered_but_recorded >= 0


@needs_fork
def test_the_account_of_the_kill_loop_notices_what_it_should(tmp_path):
    """The proof of the proof: records taken away, doubled or made up are counted as such, and nothing else is."""
    state, told = tmp_path / "state", tmp_path / "told"
    assert kill_loop(state, told, 12, random.Random(2), tmp_path / "errors", 0.6).kills == 12
    before = account(state, told)
    assert before.acknowledged >= 2 and not before.lost and not before.twice and not before.invented
    role = max(("server", "agent"), key=lambda role: sum(path.stat().st_size for path in told.glob(f"{role}-*")))
    last = segments(state / "journal" / role)[-1]
    path = next(path for path in segments(state / "journal" / role) if path.stat().st_size)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))
    assert len(account(state, told).lost) == 1
    path.write_bytes(b"".join([lines[0], *lines]))
    assert len(account(state, told).twice) == 1
    path.write_bytes(b"".join(lines))
    # Each line told is counted: leaving the last acknowledgement out of the account makes one less.
    found = next(path for path in told.glob(f"{role}-*") if "done " in path.read_text())
    text = found.read_text()
    found.write_text(text[: text.rindex("done ")])
    assert account(state, told).acknowledged == before.acknowledged - 1
    for other in told.glob(f"{role}-*"):
        other.unlink()
    assert account(state, told).invented and last.exists()


def start(tmp_path, role):
    told = tmp_path / "told"
    told.mkdir()
    process = subprocess.Popen([sys.executable, str(WRITER), str(tmp_path / "state"), role, "0", str(told)])
    wait_until(lambda: (told / f"{role}-0").exists() and "done" in (told / f"{role}-0").read_text())
    return process


def kill(process):
    process.kill()
    assert process.wait(timeout=30) in (-getattr(signal, "SIGKILL", 9), 1)  # 1: Windows


def test_a_role_is_freed_by_the_death_of_its_holder(tmp_path):
    process = start(tmp_path, "server")
    try:
        with pytest.raises(StateLocked, match=f"process {process.pid} on "):
            StateStore(tmp_path / "state", "server").start()
    finally:
        kill(process)
    tally = account(tmp_path / "state", tmp_path / "told")
    with StateStore(tmp_path / "state", "server") as store:
        assert len(store.actions(10**6)) >= tally.acknowledged > 0
    assert not tally.lost


def test_views_go_on_when_the_publishing_process_is_killed(tmp_path):
    process = start(tmp_path, "agent")
    try:
        with StateStore(tmp_path / "state", "server", publish_interval=0.05) as store:
            assert not store.flush()
            kill(process)
            store.ban(KEY)
            wait_until(store.flush)
            assert_views_say_what_the_journal_says(store)
    finally:
        if process.poll() is None:
            kill(process)
