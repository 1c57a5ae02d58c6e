"""The demo: simulator + agent + review server as three processes, started, shown and ended together.

It runs the same commands a person would type, so what it shows is what they get.
"""

from __future__ import annotations

import json
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from eva_env_base import EXIT_INTERRUPTED, EXIT_OK, PROJECT_DIR, EvaError, Settings

DEMO_SPACE = Path(__file__).resolve().parent / "demo_space.json"
START_SECONDS = 60.0  # a cold disk on a rented pod can take this long to import everything
STOP_SECONDS = 20.0
PORT_TRIES = 20
DEMO_CLIP_SECONDS = 2.0
VIDEO_SUFFIXES = {".mp4", ".webm", ".mov", ".mkv"}


@dataclass
class Child:
    """One process of the demo; its output goes to ``log`` unless it is shown."""

    name: str
    process: subprocess.Popen[str]
    log: Path | None = None
    lines: queue.Queue[str | None] = field(default_factory=queue.Queue)
    reader: threading.Thread | None = None

    def wait_for_line(self, pattern: str, seconds: float) -> re.Match[str]:
        """First line that matches. Raises :class:`EvaError` with the log's end when the process ends or is late."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise EvaError(f"the {self.name} did not start within {seconds:.0f} s; see {self.log}") from None
            if line is None:
                tail = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:] if self.log else []
                raise EvaError(f"the {self.name} ended with code {self.process.wait()}:\n  " + "\n  ".join(tail))
            match = re.search(pattern, line)
            if match:
                return match


def start(name: str, arguments: list[str], log: Path) -> Child:
    """Starts ``python ARGUMENTS``; both output streams go to ``log``, and line by line to ``Child.lines``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT_DIR,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches the demo alone, which then ends its children in order
    )
    child = Child(name, process, log)

    def pump() -> None:
        assert process.stdout is not None
        with process.stdout, log.open("w", encoding="utf-8") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                child.lines.put(line)
        child.lines.put(None)

    child.reader = threading.Thread(target=pump, name=f"{name}-output", daemon=True)
    child.reader.start()
    return child


def stop_child(child: Child) -> None:
    """Ends a child and waits until its last words are in its log."""
    stop(child.process)
    if child.reader is not None:
        child.reader.join(timeout=STOP_SECONDS)


def stop(process: subprocess.Popen[str], *, gently: bool = False) -> None:
    """Ends a process: SIGINT (``gently``) or SIGTERM first, SIGKILL after :data:`STOP_SECONDS`."""
    if process.poll() is not None:
        return
    if gently and sys.platform != "win32":
        process.send_signal(signal.SIGINT)
    else:
        process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def holds_real_work(state_dir: Path, video_dir: Path) -> str | None:
    """Why simulated clips must not be mixed in here, or ``None`` when they may."""
    simulated: set[str] = set()
    knowledge = state_dir / "knowledge.json"
    try:
        if knowledge.is_file():
            for entry in json.loads(knowledge.read_text(encoding="utf-8")).get("history", []):
                if not entry.get("simulator"):
                    return f"{knowledge} holds clips of a real ComfyUI"
                simulated.add(str(entry.get("video")))
        elif (state_dir / "bandit_state.json").is_file() or any((state_dir / "journal").glob("*")):
            return f"{state_dir} is in use"
        ratings = state_dir / "manual_ratings.json"
        if ratings.is_file() and not set(json.loads(ratings.read_text(encoding="utf-8"))) - {"_eva"} <= simulated:
            return f"{ratings} holds ratings of other clips"
    except (OSError, ValueError, AttributeError) as error:
        return f"{state_dir} cannot be read ({error})"
    if video_dir.is_dir():
        for path in video_dir.rglob("*"):
            if path.suffix.lower() in VIDEO_SUFFIXES and path.relative_to(video_dir).as_posix() not in simulated:
                return f"{video_dir} holds other clips"
    return None


def choose_folders(settings: Settings) -> tuple[Path, Path, str | None]:
    """(state folder, video folder, note): the configured ones, or ``ROOT/demo/`` where real work lives in them.

    Folders named by flag are taken as they are.
    """
    if settings.origin["state_dir"] == "--state-dir" and settings.origin["video_dir"] == "--video-dir":
        return settings.state_dir, settings.video_dir, None
    reason = holds_real_work(settings.state_dir, settings.video_dir)
    if reason is None:
        return settings.state_dir, settings.video_dir, None
    demo = settings.root / "demo"
    return demo / "auto_state", demo / "output", f"{reason}: the demo keeps apart, in {demo}"


def free_port(host: str, wanted: int, *, fixed: bool) -> int:
    """``wanted`` if it is free, else (unless ``fixed``) the next free one."""
    for port in range(wanted, wanted + (1 if fixed else PORT_TRIES)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise EvaError(f"port {wanted} is in use; choose another with --port")


def end_on_hangup() -> None:
    """A closed terminal (SIGHUP) or SIGTERM ends the demo as Ctrl-C does: its children run in sessions of their own."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and threading.current_thread() is threading.main_thread():
            signal.signal(getattr(signal, name), interrupt)


def run_demo(settings: Settings, *, iterations: int, serve: bool, seed: int = 0, no_token: bool = False) -> int:
    """Runs the demo to its end; the agent's exit code, or 130 after Ctrl-C."""
    state_dir, video_dir, note = choose_folders(settings)
    if note:
        print(note)
    try:
        video_dir.mkdir(parents=True, exist_ok=True)
        state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaError(f"cannot create {error.filename}: {error.strerror}; choose other folders with --root") from error
    port = free_port(settings.host, settings.port, fixed=settings.origin["port"] == "--port")
    logs = state_dir / "logs_improved"
    folders = ["--state-dir", str(state_dir), "--video-dir", str(video_dir)]
    end_on_hangup()
    children: list[Child] = []
    agent: subprocess.Popen[str] | None = None
    try:
        simulator = start(
            "simulator",
            ["-m", "eva_sim", "--host", "127.0.0.1", "--port", "0", "--output-dir", str(video_dir), "--seed", str(seed)],
            logs / "demo_simulator.log",
        )
        children.append(simulator)
        access = ["--no-token"] if no_token else ["--token", settings.token] if settings.token else []
        server = start(
            "review server",
            ["simple_web_server.py", *folders, "--host", settings.host, "--port", str(port), *access],
            logs / "demo_server.log",
        )
        children.append(server)
        api = simulator.wait_for_line(r"(http://[\w.:\[\]]+)", START_SECONDS)[1]
        url = server.wait_for_line(r"(https?://\S+)", START_SECONDS)[1]
        agent_command = [
            *("run_agent_qa.py", "--api", api, *folders, "--space", str(DEMO_SPACE), "--seconds", str(DEMO_CLIP_SECONDS)),
            *("--iterations", str(iterations)),
        ]
        print(f"\nEVA demo on the embedded SIMULATOR (no GPU, no model: the clips are drawn)\n\n  Review page:  {url}\n", flush=True)
        agent = subprocess.Popen(
            [sys.executable, *agent_command, "--seed", str(seed)],
            cwd=PROJECT_DIR,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        while agent.poll() is None:
            for child in children:
                if child.process.poll() is not None:
                    raise EvaError(f"the {child.name} ended with code {child.process.returncode}; see {child.log}")
            try:
                agent.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
        if not serve or agent.returncode != EXIT_OK:
            return agent.returncode
        more = " ".join(["python", *(f'"{word}"' if " " in word else word for word in agent_command)])
        print(
            f"\nThe agent is done. Rate the clips at {url}\nYour ratings steer what comes next. To make more, in another terminal:\n"
            f"\n  {more}\n\nCtrl-C ends the demo.",
            flush=True,
        )
        while all(child.process.poll() is None for child in children):
            time.sleep(0.5)
        gone = next(child for child in children if child.process.poll() is not None)
        raise EvaError(f"the {gone.name} ended with code {gone.process.returncode}; see {gone.log}")
    except KeyboardInterrupt:
        print("\nEnding the demo; nothing is lost, run it again to go on.", flush=True)
        return EXIT_INTERRUPTED
    finally:
        if agent is not None:
            stop(agent, gently=True)
        for child in reversed(children):
            stop_child(child)
