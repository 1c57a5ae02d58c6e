"""Real processes, really killed: nothing acknowledged is lost, nothing is doubled, roles are freed by death."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from eva_env_base import StateLocked
from eva_state.documents import VIEWS
from eva_state.journal import Follower
from eva_state.store import StateStore
from tests.eva_state.conftest import KEY, wait_until
from tests.eva_state.test_replica import facts
from tests.eva_state.test_views import assert_views_say_what_the_journal_says

WRITER = Path(__file__).with_name("state_writer.py")


def start(folder, role, seed):
    # Unbuffered: what readline() had read ahead would be missing from what communicate() returns.
    return subprocess.Popen([sys.executable, str(WRITER), str(folder), role, str(seed)], stdout=subprocess.PIPE, bufsize=0)


def kill(process) -> list[str]:
    """Kills it and returns what it had acknowledged."""
    process.kill()
    out, _ = process.communicate(timeout=30)
    lines = out.decode().split("\n")[:-1]  # a line cut short by the kill was acknowledged, too, but cannot be read
    return [line for line in lines if line != "ready"]


def kill_loop(folder, rounds, seed):
    rng = random.Random(seed)
    acknowledged: list[str] = []
    for number in range(rounds):
        processes = [start(folder, role, f"{seed}.{number}") for role in ("server", "agent")]
        try:
            for process in processes:
                assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0, 0.12))  # the instant of the kill is what is varied here
        finally:
            rng.shuffle(processes)
            for process in processes:
                acknowledged += kill(process)
        for view in VIEWS:
            path = folder / view
            if path.exists():
                json.loads(path.read_bytes())  # never half a file
    return acknowledged


def check(folder, acknowledged):
    recorded = Counter(
        record.id for role in ("server", "agent") for batch in Follower(folder / "journal" / role).poll() for record, _ in batch
    )
    lost = set(acknowledged) - set(recorded)
    assert not lost, f"acknowledged and lost: {sorted(lost)[:20]}"
    assert max(recorded.values()) == 1, "recorded twice"
    with StateStore(folder, "server", publish_interval=3600) as server, StateStore(folder, "agent", publish_interval=3600) as agent:
        wait_until(lambda: facts(server._model) == facts(agent._model))
        assert server.flush()
        assert_views_say_what_the_journal_says(server)
        # No hand edit was seen where there was none.
        assert all(not item.get("by") for item in server.actions(10**6))
        assert server.rate("x", {"overall_quality": 5}, id=acknowledged[0] if acknowledged[0].startswith("server") else None)


def test_kill_9_of_two_writers(tmp_path):
    acknowledged = kill_loop(tmp_path, 6, "short")
    assert len(acknowledged) > 20
    check(tmp_path, acknowledged)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kill_9_a_thousand_times(tmp_path):
    acknowledged = kill_loop(tmp_path, 500, "long")  # two processes a round
    check(tmp_path, acknowledged)


def test_a_role_is_freed_by_the_death_of_its_holder(tmp_path):
    process = start(tmp_path, "server", "x")
    try:
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(StateLocked, match=f"process {process.pid} on "):
            StateStore(tmp_path, "server").start()
    finally:
        acknowledged = kill(process)
    with StateStore(tmp_path, "server") as store:
        assert len(store.actions(10**6)) >= len(acknowledged)


def test_views_go_on_when_the_publishing_process_is_killed(tmp_path):
    process = start(tmp_path, "agent", "x")
    try:
        assert process.stdout.readline() == b"ready\n"
        with StateStore(tmp_path, "server", publish_interval=0.05) as store:
            assert not store.flush()
            kill(process)
            store.ban(KEY)
            store.poll()  # what the killed one had recorded last
            wait_until(store.flush)
            assert_views_say_what_the_journal_says(store)
    finally:
        if process.poll() is None:
            kill(process)
