"""``python -m eva_state``: export, check, compact, rebuild, take in and back up a state folder."""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from eva_env_base import (
    EXIT_FAILED,
    EXIT_OK,
    Settings,
    StateError,
    UsageError,
    add_setting_flags,
    resolve_settings,
    run_door,
    setup_logging,
)

STANDARD_OUTPUT = "-"
PROGRESS_SECONDS = 1.0
TAKEOVER = "on a network volume: take the state over from a process on another machine that you know is gone"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m eva_state", description="Exports, checks, compacts, rebuilds, takes in, backs up a state."
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        add_setting_flags(found, "root", "state_dir", "video_dir")
        found.add_argument("--quiet", action="store_true", help="show no progress")
        return found

    export = add("export", "one row a clip: prompt, params, metrics, score, rating, times, cost")
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--csv", metavar="FILE", help="write a table with a header; - is standard output")
    form.add_argument("--jsonl", metavar="FILE", help="write one JSON object a line; - is standard output")
    actions = add("actions", "every rating, ban, comparison and undo, oldest first: what, who, when, undone")
    actions.add_argument("--jsonl", action="store_true", help="one JSON object a line")
    add("verify", "check every record and every view, change nothing; exit code 1 where something is wrong")
    compact = add("compact", "make the journal smaller; refused while a server or an agent runs")
    compact.add_argument("--keep-backup", action="store_true", help="keep the old journal in journal/before-compact-TIME")
    compact.add_argument("--takeover", action="store_true", help=TAKEOVER)
    rebuild = add("rebuild", "write every view anew from the journal")
    rebuild.add_argument(
        "--discard-edits", action="store_true", help="set the view files aside instead of taking in what was edited by hand"
    )
    rebuild.add_argument("--takeover", action="store_true", help=TAKEOVER)
    take_in = add("import", "take in the state files of another folder, of the original system too; what is known here stands")
    take_in.add_argument("folder", metavar="DIR", type=Path)
    take_in.add_argument("--dry-run", action="store_true", help="write nothing; tell what would be taken and what could not be read")
    take_in.add_argument("--takeover", action="store_true", help=TAKEOVER)
    add("backup", "write journal and views into a zip file and check it; may run at any time").add_argument(
        "file", metavar="FILE.zip", type=Path
    )
    return made


class Counter:
    """Shows how far a long work is, on standard error, once a second, where a person looks on."""

    def __init__(self, shown: bool):
        self._shown = shown and sys.stderr.isatty()
        self._next = time.monotonic() + PROGRESS_SECONDS
        self._written = False

    def __call__(self, what: str, count: int) -> None:
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            self._written = True
            print(f"\r{count} {what} ... ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._written:
            print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)


@contextmanager
def output(name: str) -> Iterator[TextIO]:
    """Standard output, or a file that appears only once it is whole."""
    if name == STANDARD_OUTPUT:
        # Newlines as the writer puts them, on every system.
        stream = io.TextIOWrapper(os.fdopen(os.dup(sys.stdout.fileno()), "wb"), encoding="utf-8", newline="")
        with stream:
            yield stream
        return
    target = Path(name)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(temporary, target)  # noqa: PTH105
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StateError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def run_export(flags: argparse.Namespace, settings: Settings, counter: Counter) -> int:
    from eva_state.export import clip_rows, metric_names, write_clips_csv, write_jsonl
    from eva_state.store import StateStore

    need_state(settings)
    with StateStore(settings.state_dir, role="reader") as store, output(flags.csv or flags.jsonl) as file:
        if flags.csv:
            count = write_clips_csv(clip_rows(store, settings.video_dir, counter), metric_names(store), file)
        else:
            count = write_jsonl(clip_rows(store, settings.video_dir, counter), file)
    counter.end()
    print(f"{count} clips", file=sys.stderr)
    return EXIT_OK


def run_actions(flags: argparse.Namespace, settings: Settings, counter: Counter) -> int:
    from eva_state.export import action_line, write_jsonl
    from eva_state.store import StateStore

    need_state(settings)
    with StateStore(settings.state_dir, role="reader") as store, output(STANDARD_OUTPUT) as file:
        if flags.jsonl:
            write_jsonl(store.iter_actions(), file)
        else:
            for action in store.iter_actions():
                file.write(action_line(action) + "\n")
    return EXIT_OK


def run_verify(flags: argparse.Namespace, settings: Settings, counter: Counter) -> int:
    from eva_state.verify import verify

    report = verify(settings.state_dir, counter)
    counter.end()
    for finding in report.findings:
        print(finding)
    print(report.verdict)
    return EXIT_FAILED if report.problems else EXIT_OK


def run_compact(flags: argparse.Namespace, settings: Settings, counter: Counter) -> int:
    from eva_state.compact import compact

    done = compact(settings.state_dir, keep_backup=flags.keep_backup, takeover=flags.takeover, progress=counter)
    counter.end()
    print(f"{done.before} bytes before, {done.after} after; {done.stubs} ended prompts shortened, {done.lost} lost records noted")
    if done.backup is not None:
        print(f"the old journal is in {done.backup}")
    return EXIT_OK


def run_rebuild(flags: argparse.Namespace, settings: Settings, counter: Counter) -> int:
    from eva_state.backup import rebuild

    for path in rebuild(settings.state_dir, settings.video_dir, discard_edits=flags.discard_edits, takeover=flags.takeover):
        print(f"set aside: {path}")
    print(f"the views in {settings.state_dir} are up to date")
    return EXIT_OK


def run_import(flags: argparse.Namespace, settings: Settings, counter: Counter) -> int:
    from eva_state.import_report import dry_run, import_folder
    from eva_state.store import StateStore

    if flags.dry_run:
        reports = dry_run(flags.folder, settings.state_dir, settings.video_dir)
    else:
        with StateStore(settings.state_dir, role="tool", video_dir=settings.video_dir, takeover=flags.takeover) as store:
            reports = import_folder(flags.folder, store, keep_in=settings.state_dir / "journal" / "legacy")
            store.deliver()
    for report in reports:
        for line in report.lines():
            print(line)
    print("nothing was written (dry run)" if flags.dry_run else f"taken into {settings.state_dir}")
    return EXIT_FAILED if any(report.unreadable and not report.taken for report in reports) else EXIT_OK


def run_backup(flags: argparse.Namespace, settings: Settings, counter: Counter) -> int:
    from eva_state.backup import backup

    report = backup(settings.state_dir, flags.file, counter)
    counter.end()
    for finding in report.problems:
        print(finding)
    print(f"{flags.file}: {flags.file.stat().st_size} bytes, {report.verdict}")
    return EXIT_FAILED if report.problems else EXIT_OK


COMMANDS: dict[str, Callable[[argparse.Namespace, Settings, Counter], int]] = {
    **{"export": run_export, "actions": run_actions, "verify": run_verify, "compact": run_compact},
    **{"rebuild": run_rebuild, "import": run_import, "backup": run_backup},
}


def need_state(settings: Settings) -> None:
    if not (settings.state_dir / "journal").is_dir():
        raise StateError(f"{settings.state_dir}: there is no state here; name another with --state-dir or --root")


def main(argv: list[str] | None = None) -> int:
    flags = parser().parse_args(argv)
    settings = resolve_settings(flags)
    if flags.print_settings:
        print(settings.describe())
        return EXIT_OK
    if flags.command == "import" and not flags.folder.is_dir():
        raise UsageError(f"{flags.folder} is no folder; name the one the files lie in")
    setup_logging("WARNING")
    try:
        return COMMANDS[flags.command](flags, settings, Counter(not flags.quiet))
    except BrokenPipeError:
        # `... | head` has seen enough. Nothing more can be said there, not even by the interpreter's last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_door(main))
