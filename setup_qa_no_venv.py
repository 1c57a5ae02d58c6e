#!/usr/bin/env python3
"""Installs EVA, runs its demo, or runs its tests. `--help` lists the ways.

python setup_qa_no_venv.py --demo            the main job on the embedded simulator
python setup_qa_no_venv.py --test            the whole test suite
python setup_qa_no_venv.py --root DIR        install for real work with ComfyUI
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from eva_env_base import EXIT_USAGE, PROJECT_DIR, EvaError, Settings, UsageError, add_setting_flags, resolve_settings, run_door

MIN_PYTHON, MAX_PYTHON = (3, 10), (3, 13)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="setup_qa_no_venv.py", description=__doc__.splitlines()[0] if __doc__ else None)
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--demo", action="store_true", help="install what is missing, then simulator + agent + review server")
    ways.add_argument("--test", action="store_true", help="install what the tests need (a Chromium too), then run them all")
    parser.add_argument("--venv", type=Path, metavar="DIR", help="install into this virtual environment and leave this Python as it is")
    parser.add_argument("--yes", action="store_true", help="do not ask before a package is downgraded")
    parser.add_argument("--iterations", type=int, default=None, metavar="N", help="with --demo: clips to make (default 12)")
    parser.add_argument("--no-serve", action="store_true", help="with --demo: end when the agent is done")
    parser.add_argument(
        "--seed", type=int, default=None, metavar="N", help="with --demo: seed of the simulator and of the agent (default 0)"
    )
    add_setting_flags(parser, "root", "video_dir", "state_dir", "host", "port", "token")
    parser.add_argument("--no-token", action="store_true", help="with --demo: serve without a token")
    parser.add_argument("test_arguments", nargs="*", metavar="-- ...", help="with --test: passed on to pytest, after `--`")
    return parser


def check_python() -> None:
    if not MIN_PYTHON <= sys.version_info[:2] <= MAX_PYTHON:
        raise EvaError(f"Python {sys.version.split()[0]} at {sys.executable}: EVA runs on 3.10 to 3.13")


def enter_venv(folder: Path, argv: list[str]) -> int:
    """Makes the virtual environment and runs this same command inside it."""
    from qa.installer import make_venv

    python = make_venv(folder.expanduser().resolve())
    rest, skip = [], False
    for argument in argv:
        if skip or argument.startswith("--venv="):
            skip = False
        elif argument == "--venv":
            skip = True
        else:
            rest.append(argument)
    print(f"Using the virtual environment {folder}", flush=True)
    try:
        return subprocess.call([python, str(Path(__file__).resolve()), *rest])
    finally:
        if "--demo" not in rest and "--test" not in rest:
            print(f"Start EVA with {python} run_agent_qa.py and {python} simple_web_server.py")


def refuse_managed_python() -> None:
    """Debian and Ubuntu forbid pip in their own Python (PEP 668): say so before pip does."""
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    if sys.prefix == sys.base_prefix and marker.is_file() and not os.environ.get("PIP_BREAK_SYSTEM_PACKAGES"):
        raise UsageError(f"{sys.executable} belongs to the operating system and does not let pip install into it; add --venv .venv")


def install_for_work(settings: Settings, assume_yes: bool) -> int:
    """The seed's command: requirements and state folder for real work."""
    from qa import installer

    requirements = installer.read_requirements(installer.REQUIREMENTS)
    target = installer.probe()
    wanted = installer.missing(requirements, target)
    changes = installer.plan(wanted, target)
    print(installer.describe_plan(changes, target), flush=True)
    must_ask = any(change.kind == "downgrade" for change in changes) and not assume_yes and sys.stdin.isatty()
    if must_ask and input("Downgrade and go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise EvaError("nothing was installed")
    installer.install(wanted, target)

    from eva_state.store import StateStore

    for folder in (settings.state_dir, settings.video_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EvaError(f"cannot create {folder}: {error.strerror}; choose another with --root, --state-dir or --video-dir") from error
    with StateStore(settings.state_dir, role="tool", video_dir=settings.video_dir):
        pass  # opening creates the journal and the views, closing publishes them
    print(f"State is ready in {settings.state_dir}\nClips are looked for in {settings.video_dir}")
    print("Next: python run_agent_qa.py --doctor, then python run_agent_qa.py, and in a second terminal python simple_web_server.py")
    return 0


def run_tests(arguments: list[str]) -> int:
    """Installs what the suite needs, then runs it; the runner's own exit code."""
    from qa import installer

    installer.ensure(
        installer.read_requirements(installer.REQUIREMENTS, core_only=True) + installer.read_requirements(installer.TEST_REQUIREMENTS)
    )
    environment = {**os.environ, "EVA_CHROMIUM": installer.ensure_chromium()}
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=PROJECT_DIR, env=environment)


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.demo and (args.no_serve or args.iterations is not None or args.no_token or args.seed is not None):
        parser.error("--iterations, --seed, --no-serve and --no-token go with --demo")
    if args.test_arguments and not args.test:
        parser.error(f"unexpected: {' '.join(args.test_arguments)}")
    if args.iterations is not None and args.iterations < 1:
        parser.error(f"--iterations {args.iterations}: at least 1")
    settings = resolve_settings(args)
    if args.print_settings:
        print(settings.describe())
        return 0
    check_python()
    if args.venv is not None:
        return enter_venv(args.venv, argv)
    refuse_managed_python()
    if args.test:
        return run_tests(args.test_arguments)
    if args.demo:
        from qa import installer

        installer.ensure(installer.read_requirements(installer.REQUIREMENTS, core_only=True))
        from qa.demo import run_demo

        iterations = 12 if args.iterations is None else args.iterations
        return run_demo(settings, iterations=iterations, serve=not args.no_serve, seed=args.seed or 0, no_token=args.no_token)
    return install_for_work(settings, args.yes)


if __name__ == "__main__":
    if sys.version_info < MIN_PYTHON:
        sys.exit(f"Python {sys.version.split()[0]} is too old: EVA runs on 3.10 to 3.13 (exit code {EXIT_USAGE})")
    sys.exit(run_door(main))
