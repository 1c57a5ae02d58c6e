"""A process that writes to a state until it is killed: ``state_writer.py FOLDER ROLE LIFE TOLD``, or ``state_writer.py --nursery``.

What it is about to do and what the store has acknowledged goes to the file ``TOLD``, each line by one ``write`` of its
own to a file opened for appending: what was told is with the kernel, whenever the process is killed, and nothing is
read ahead or buffered on the way. ``try ID`` comes before the call, ``done ID`` after it returned.

``--nursery`` forks such processes on request, so that a life costs milliseconds instead of an interpreter's start.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from eva_state.store import StateStore
from tests.eva_state.conftest import KEY, make_entry

CLIPS = 40


def unanswered(folder: Path, role: str, life: int) -> str | None:
    """What the life before tried and was not told to be done: asked for again, as a person's browser would."""
    try:
        lines = (folder / f"{role}-{life - 1}").read_text().splitlines()
    except FileNotFoundError:
        return None
    return lines[-1][4:] if lines and lines[-1].startswith("try ") else None


def act(store: StateStore, role: str, id: str) -> None:
    """One action, the same whenever it is asked for by this id."""
    rng = random.Random(id)
    name, number = f"{rng.randrange(CLIPS)}.mp4", rng.random()
    if role == "agent":
        if number < 0.2:
            store.submitted({"prompt_id": id})
        elif number < 0.3:
            store.failed(id, {"kind": "oom"})
        else:
            store.generated(id, make_entry(name, rng.random(), steps=rng.randrange(1, 9)), rng.random())
    elif number < 0.6:
        store.rate(name, {"overall_quality": rng.randrange(1, 11), "comments": id}, id=id)
    elif number < 0.7:
        store.ban_clip(name, KEY, by="person", id=id)
    elif number < 0.8:
        store.unban(KEY, by="person", id=id)
    elif number < 0.9:
        store.compare(name, f"{CLIPS}.mp4", "left", id=id)
    else:
        recent = store.actions(50)
        undoable = [item["event_id"] for item in recent[:5] if item["type"] != "undo" and not item["undone"]]
        if any(item["event_id"] == id for item in recent):
            return  # the life before had done it; what could be undone is another thing now
        if undoable:
            store.undo(undoable[0], id=id)
        else:
            store.rate(name, {"overall_quality": 1}, id=id)


def live(folder: Path, role: str, life: int, told: Path) -> None:
    out = os.open(told / f"{role}-{life}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    again = unanswered(told, role, life)
    with StateStore(folder, role, publish_interval=0.005, poll_interval=0.005, segment_bytes=20_000) as store:
        os.write(out, b"ready\n")
        for number in range(1_000_000):
            id = again or f"{role}-{life}-{number}"
            again = None
            os.write(out, f"try {id}\n".encode())
            act(store, role, id)
            os.write(out, f"done {id}\n".encode())


def nursery() -> None:
    """``FOLDER ROLE LIFE TOLD`` a line -> the pid of a new process; ``reap PID`` -> its exit status once it is dead."""
    for line in sys.stdin:
        words = line.rstrip("\n").split("\t")
        if words[0] == "reap":
            print(os.waitstatus_to_exitcode(os.waitpid(int(words[1]), 0)[1]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                sys.stdin.close()
                live(Path(words[0]), words[1], int(words[2]), Path(words[3]))
            finally:
                os._exit(status)
        print(pid, flush=True)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1] == "--nursery":
        nursery()
    else:
        live(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))


if __name__ == "__main__":
    main()
