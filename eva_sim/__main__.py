"""``python -m eva_sim``: the simulator as a process."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from eva_env_base import EXIT_OK, UsageError, run_door, setup_logging
from eva_sim.faults import KINDS
from eva_sim.server import SimServer

CRASH_CODE = 70  # what the crash fault leaves behind: EX_SOFTWARE of sysexits.h


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m eva_sim",
        description="A small server that speaks ComfyUI's API and renders simulated clips. It is not a real ComfyUI: no model runs.",
        epilog="Faults: " + "; ".join(f"{kind} ({', '.join(options)})" for kind, options in KINDS.items()) + ". Selectors of all: "
        "job=N, every=N, times=N. Example: --fault error:every=3 --fault slow:factor=5,job=2. See docs/simulator.md.",
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    made.add_argument("--port", type=int, default=8188, help="port; 0 picks a free one and prints it (default: 8188)")
    made.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="folder the clips are written to; made if missing")
    made.add_argument("--seed", type=int, default=0, help="which hidden quality surface its clips follow (default: 0)")
    made.add_argument("--speed", type=float, default=1.0, metavar="X", help="how much faster than its model of time (default: 1)")
    made.add_argument("--job-seconds", type=float, metavar="S", help="every full job takes exactly this long, whatever is asked")
    made.add_argument("--fault", action="append", default=[], metavar="SPEC", help="kind[:key=value,...], repeatable; see below")
    made.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="how much to say on stderr")
    return made


async def serve(server: SimServer) -> None:
    """Serves until cancelled or told to end by SIGTERM."""
    stop = asyncio.Event()
    try:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    except NotImplementedError:  # Windows: the process simply ends
        pass
    await server.start()
    print(f"EVA simulator (not a real ComfyUI) listening on {server.url}", flush=True)
    try:
        await stop.wait()
    finally:
        await server.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the simulator; returns the exit code."""
    args = parser().parse_args(argv)
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port {args.port}: not a port number (0 to 65535)")
    setup_logging(args.log_level)

    def crash() -> None:
        server.remove_scratch()
        os._exit(CRASH_CODE)

    server = SimServer(
        args.output_dir,
        host=args.host,
        port=args.port,
        seed=args.seed,
        speed=args.speed,
        job_seconds=args.job_seconds,
        faults=args.fault,
        crash=crash,
    )
    asyncio.run(serve(server))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_door(main))
