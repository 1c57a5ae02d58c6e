"""Kills writers at random instants and counts: acknowledged, lost, recorded twice."""

from __future__ import annotations

import heapq
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from eva_state.documents import VIEWS
from eva_state.journal import Follower

WRITER = Path(__file__).with_name("state_writer.py")
ROLES = ("server", "agent")


class Nursery:
    """Starts, kills and buries writers."""

    def __init__(self, errors: Path):
        self._errors = errors.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, str(WRITER), "--nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
        )

    def _ask(self, *words: object) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(("\t".join(map(str, words)) + "\n").encode())
        return int(self._process.stdout.readline())

    def start(self, folder: Path, role: str, life: int, told: Path) -> int:
        return self._ask(folder, role, life, told)

    def kill(self, pid: int) -> int:
        """Its exit code: -9, unless it had ended by itself."""
        os.kill(pid, signal.SIGKILL)
        return self._ask("reap", pid)

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()
        self._errors.close()


@dataclass
class Tally:
    kills: int = 0
    before_ready: int = 0  # killed while they started: recovering, replaying, publishing
    tried: int = 0
    acknowledged: int = 0
    asked_again: int = 0
    unanswered_but_recorded: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self) -> str:
        return ", ".join(
            f"{name.replace('_', ' ')} {value if isinstance(value, int) else len(value)}" for name, value in vars(self).items()
        )


def kill_loop(folder: Path, told: Path, kills: int, rng: random.Random, errors: Path, longest: float) -> Tally:
    """Two writers on one state, each killed at random instants and started again at once, until ``kills`` were killed."""
    tally = Tally()
    told.mkdir(parents=True)
    lives = dict.fromkeys(ROLES, 0)
    with Nursery(errors) as nursery:
        due: list[tuple[float, str, int]] = []
        alive: set[int] = set()
        try:

            def start(role: str) -> None:
                pid = nursery.start(folder, role, lives[role], told)
                alive.add(pid)
                lives[role] += 1
                heapq.heappush(due, (time.monotonic() + rng.uniform(0.0, longest), role, pid))

            for role in ROLES:
                start(role)
            while due:
                when, role, pid = heapq.heappop(due)
                time.sleep(max(0.0, when - time.monotonic()))  # the instant of the kill is what is varied here
                code = nursery.kill(pid)
                alive.discard(pid)
                assert code == -signal.SIGKILL, f"the {role} ended by itself with {code}: {errors.read_text()[-3000:]}"
                tally.kills += 1
                for view in VIEWS:
                    path = folder / view
                    if path.exists():
                        json.loads(path.read_bytes())  # never half a file
                if tally.kills + len(due) < kills:
                    start(role)
        finally:
            for pid in alive:
                nursery.kill(pid)
    tally.add(account(folder, told))
    return tally


def account(folder: Path, told: Path) -> Tally:
    """Compares what the writers were told with what the journals hold."""
    tally = Tally()
    for role in ROLES:
        recorded = Counter(
            record.id.partition(":")[2] or record.id for batch in Follower(folder / "journal" / role).poll() for record, _ in batch
        )
        tried: Counter[str] = Counter()
        done: set[str] = set()
        for path in told.glob(f"{role}-*"):
            lines = path.read_text().splitlines()
            assert all(line == "ready" or line.startswith(("try ", "done ")) for line in lines), f"{path}: a line is torn"
            tally.before_ready += "ready" not in lines
            tried.update(line[4:] for line in lines if line.startswith("try "))
            done.update(line[5:] for line in lines if line.startswith("done "))
        tally.tried += len(tried)
        tally.asked_again += sum(count > 1 for count in tried.values())
        tally.acknowledged += len(done)
        tally.unanswered_but_recorded += len(recorded.keys() - done)
        tally.lost += sorted(done - recorded.keys())
        tally.twice += sorted(id for id, count in recorded.items() if count > 1)
        tally.invented += sorted(recorded.keys() - tried.keys())
    return tally
