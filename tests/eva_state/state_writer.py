"""A process that writes to a state until it is killed: ``state_writer.py FOLDER ROLE SEED``.

Every acknowledged action is told on standard output, one line, flushed after the store said so.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from eva_state.store import StateStore
from tests.eva_state.conftest import make_entry


def main() -> None:
    folder, role, seed = sys.argv[1], sys.argv[2], sys.argv[3]
    rng = random.Random(seed)
    with StateStore(folder, role, publish_interval=0.01, poll_interval=0.005, segment_bytes=4000) as store:
        print("ready", flush=True)
        for number in range(1_000_000):
            id = f"{role}-{seed}-{number}"
            name = f"{rng.randrange(40)}.mp4"
            if role == "agent":
                print(store.generated(id, make_entry(name, rng.random()), 0.5).event_id, flush=True)
            else:
                print(store.rate(name, {"overall_quality": rng.randrange(1, 11), "comments": id}, id=id).event_id, flush=True)


if __name__ == "__main__":
    main()
