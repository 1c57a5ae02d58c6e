"""The review server: ``python simple_web_server.py``. Serves the pages, the clips and the API on one port."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from pathlib import Path
from types import FrameType

from eva_env_base import EXIT_OK, UsageError, add_setting_flags, resolve_settings, run_door, setup_logging

SWITCH_SECONDS = 0.001  # Python's 5 ms would let one long search hold up every short answer by as much
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class Terminated(BaseException):
    """SIGTERM, raised in the main thread so that everything is closed in order."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="simple_web_server.py", description="Serves EVA's review pages: watch, rate, search, ban.")
    add_setting_flags(made, "root", "video_dir", "state_dir", "host", "port", "token")
    made.add_argument("--no-token", action="store_true", help="let everybody in who can reach the address (a warning says so)")
    made.add_argument(
        "--takeover",
        action="store_true",
        help="take over a state folder on a network volume from a process on another machine that you know is gone",
    )
    made.add_argument("--access-log", metavar="FILE", type=Path, help="write a line a request there, in the combined format (rotated)")
    made.add_argument("--log-level", default="INFO", type=str.upper, choices=LEVELS, help="how much to log (default INFO)")
    return made


def main(argv: list[str] | None = None) -> int:
    flags = parser().parse_args(argv)
    settings = resolve_settings(flags)
    if flags.no_token and flags.token:
        raise UsageError("--token and --no-token exclude each other")
    if flags.print_settings:
        print(settings.describe())
        return EXIT_OK
    setup_logging(flags.log_level)

    from eva_state.clip_index import ClipIndex
    from eva_state.clip_source import Notes
    from eva_state.store import StateStore
    from eva_web.server import create_server

    signal.signal(signal.SIGTERM, _terminate)
    gc.disable()  # a start only makes what stays
    try:
        with (
            StateStore(settings.state_dir, role="server", video_dir=settings.video_dir, takeover=flags.takeover, seen=Notes()) as store,
            ClipIndex(store, settings.video_dir) as index,
        ):
            gc.enable()
            gc.freeze()  # what was loaded stays: the collector need not walk 100,000 clips again and again while somebody waits
            sys.setswitchinterval(SWITCH_SECONDS)
            server = create_server(settings, store, index, no_token=flags.no_token, access_log=flags.access_log)
            if not index.folder.exists:
                print(f"warning: the video folder {settings.video_dir} does not exist yet; name another with --video-dir", file=sys.stderr)
            print(f"EVA review server: clips from {settings.video_dir}, state in {settings.state_dir}")
            print(server.url, flush=True)
            try:
                server.serve_forever(poll_interval=0.2)
            finally:
                server.server_close()
    except Terminated:
        return EXIT_OK
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_door(main))
