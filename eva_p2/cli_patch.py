"""The doctor (``--doctor``): looks at servers, workflow, folders and Python before GPU time is spent, and says what to mend."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eva_env_base import CAPABILITIES, EXIT_FAILED, EXIT_OK, LOOPBACK_HOSTS, ComfyError, EvaError, Settings, WorkflowError, has_module
from eva_p1.agent_servers import fit_space, mixing, read_profile
from eva_p1.comfy_client import ComfyClient
from eva_p1.comfy_types import OutputFile
from eva_p1.workflow import check_workflow, find_roles, is_ui_format, load_workflow, read_json
from eva_state.live import STALE_SECONDS, read_live
from eva_state.store import StateStore

log = logging.getLogger(__name__)

OK, WARN, FAIL = "ok", "warn", "FAIL"
REQUIRED = {"numpy": "numpy", "cv2": "opencv", "av": "av", "requests": "requests", "websocket": "websocket-client", "filelock": "filelock"}
GIB = 1024**3
INDENT = " " * 18  # of what stands below a finding's text
# A five-second 720p clip takes 2 to 10 MB; below the first limit a night's run may fill the disk, below the second it will soon.
LOW_DISK, NO_DISK = 5 * GIB, 1 * GIB


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``mend``: what to do about it."""

    level: str
    topic: str
    text: str
    mend: str = ""


def run_doctor(settings: Settings, workflow: Path, space: Any, out: Callable[[str], Any] = print, width: int | None = None) -> int:
    """Prints the report as it is found; 1 where something must be mended before a run, else 0.

    ``width``: columns of the terminal; None: that of standard output, without end where it is none.
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    failed = warned = 0
    for finding in examine(settings, workflow, space):
        failed += finding.level == FAIL
        warned += finding.level == WARN
        out(_hanging(f"{finding.level:<4}  {finding.topic:<10}  {finding.text}", width, INDENT))
        if finding.mend:
            out(_hanging(f"{INDENT}-> {finding.mend}", width, INDENT + "   "))
    if failed:
        out(f"\n{failed} thing{'s' * (failed != 1)} to mend before a run.")
        return EXIT_FAILED
    out(f"\nReady to run{f', with {warned} remark' + 's' * (warned != 1) if warned else ''}.")
    return EXIT_OK


def _hanging(line: str, width: int, indent: str) -> str:
    """``line``, going on below ``indent`` where it is wider than ``width`` columns (0: however wide it is)."""
    if not width or len(line) <= width:
        return line
    return textwrap.fill(line, max(width, 40), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def examine(settings: Settings, workflow: Path, space: Any) -> Iterator[Finding]:
    """Every check, in the order in which things should be mended."""
    yield from python_findings()
    yield from folder_findings("state", settings.state_dir, "--state-dir")
    yield from state_findings(settings.state_dir)
    yield from folder_findings("clips", settings.video_dir, "--video-dir")
    yield from workflow_findings(workflow)
    for url in settings.api:
        client = ComfyClient(url, timeout=10.0, retries=0)
        try:
            yield from server_findings(client, settings, workflow, space)
        finally:
            client.close()


def python_findings() -> Iterator[Finding]:
    """Is everything installed?"""
    version = sys.version.split()[0]
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        yield Finding(FAIL, "python", f"Python {version}", "use Python 3.10 to 3.13")
    missing = [package for module, package in REQUIRED.items() if not has_module(module)]
    if missing:
        yield Finding(FAIL, "python", f"Python {version} lacks {', '.join(missing)}", "python setup_qa_no_venv.py installs what is missing")
    else:
        yield Finding(OK, "python", f"Python {version} with everything a run needs")
    for module, purpose in CAPABILITIES.values():
        if module not in REQUIRED and not has_module(module):
            yield Finding(OK, "optional", f"{module} is not installed: no {purpose}")


def folder_findings(topic: str, folder: Path, flag: str) -> Iterator[Finding]:
    """Can the folder be written, and is there room?"""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".eva-doctor-"):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding(FAIL, topic, f"{folder} cannot be written: {error.strerror or error}", f"mend its rights or name another with {flag}")
        return
    room = f"{free / GIB:.1f} GB free"
    if free < NO_DISK:
        yield Finding(FAIL, topic, f"{folder}: only {room}", "delete clips you do not need, or enlarge the volume")
    elif free < LOW_DISK:
        yield Finding(WARN, topic, f"{folder}: {room}", "a night's run may fill it")
    else:
        yield Finding(OK, topic, f"{folder}: writable, {room}")


def state_findings(state_dir: Path) -> Iterator[Finding]:
    """Is the state sound, and does an agent work on it now?"""
    try:
        with StateStore(state_dir, role="reader") as store:
            stats, problems, in_flight = store.stats(), list(store.problems), store.in_flight()
    except EvaError as error:
        yield Finding(FAIL, "state", str(error))
        return
    text = f"{stats['total_generated']} clips, {stats['total_rated']} rated, {stats['banned']} bans, {len(in_flight)} in flight"
    if problems:
        text += f"; {len(problems)} damaged place(s), the first: {problems[0]}"
        yield Finding(WARN, "state", text, "python -m eva_state verify tells more")
    else:
        yield Finding(OK, "state", text)
    live = read_live(state_dir / "agent_status.json") or {}
    if live.get("state") != "stopped" and time.time() - float(live.get("updated_at") or 0) < STALE_SECONDS:
        yield Finding(WARN, "agent", f"process {live.get('pid')} works on this state", "a second agent is refused while it runs")


def workflow_findings(path: Path) -> Iterator[Finding]:
    """What can be said about the workflow without a server."""
    try:
        data = read_json(path)
        if isinstance(data, dict) and is_ui_format(data):
            yield Finding(OK, "workflow", f"{path.name}: UI format, converted with the server's node list")
            return
        graph = load_workflow(path)
        roles = find_roles(graph).require(path.name)
    except WorkflowError as error:
        yield Finding(FAIL, "workflow", str(error), "python -m eva_p1.workflow check FILE shows the roles found")
        return
    yield Finding(OK, "workflow", f"{path.name}: {len(graph)} nodes, can be given {', '.join(sorted(roles.settable))}")
    for name, reason in roles.not_settable.items():
        yield Finding(WARN, "workflow", f"cannot be given {name}: {reason}", "it is left out of the search")


def server_findings(client: ComfyClient, settings: Settings, workflow: Path, space: Any) -> Iterator[Finding]:
    """Reachable, able to run the workflow, offering the space, sharing the output folder?"""
    name = client.shown_url
    try:
        stats = client.system_stats()
        system, devices = stats.get("system") or {}, stats.get("devices") or []
        queue = client.queue_state()
        info = client.object_info()
    except ComfyError as error:
        yield Finding(FAIL, "server", str(error), "start ComfyUI, or name its address with --api")
        return
    what = (
        "EVA's SIMULATOR (clips are drawn)" if client.is_simulator else f"ComfyUI {system.get('comfyui_version') or 'of unknown version'}"
    )
    yield Finding(OK, "server", f"{name}: {what}, {len(info)} node classes, {describe_devices(devices)}")
    try:
        with StateStore(settings.state_dir, role="reader") as store:
            mixed = mixing(client.is_simulator, name, store.iter_history(), settings.state_dir)
    except EvaError as error:
        log.info("the state cannot be read, which was said: %s", error)
        mixed = None
    if mixed:
        yield Finding(FAIL, "state", mixed, "name another folder with --state-dir")
    waiting = len(queue.running) + len(queue.pending)
    if waiting:
        yield Finding(WARN, "server", f"{waiting} prompt(s) are on it now", "EVA's prompts wait behind them")
    yield from _workflow_on(client, workflow, info, space)
    yield _output_folder(client, settings)


def describe_devices(devices: list[Any]) -> str:
    """``NVIDIA L40S, 44.5 GB, 40.1 GB free``."""
    shown = []
    for device in devices:
        if isinstance(device, dict):
            total, free = device.get("vram_total"), device.get("vram_free")
            memory = (
                f", {total / GIB:.1f} GB, {free / GIB:.1f} GB free"
                if isinstance(total, (int, float)) and isinstance(free, (int, float))
                else ""
            )
            shown.append(f"{device.get('name') or device.get('type')}{memory}")
    return "; ".join(shown) or "no device named"


def _workflow_on(client: ComfyClient, workflow: Path, info: dict[str, Any], space: Any) -> Iterator[Finding]:
    name = client.shown_url
    try:
        graph = load_workflow(workflow, info)
        problems = [problem for problem in check_workflow(graph, info) if problem.severity == "error"]
    except WorkflowError as error:
        yield Finding(FAIL, "workflow", f"on {name}: {error}")
        return
    for problem in problems:
        yield Finding(FAIL, "workflow", f"on {name}: {problem.message}")
    if problems:
        return
    try:
        profile = read_profile(client, lambda _info: graph, space.extra)
        fitted, notes = fit_space(space, [profile], name)
    except ComfyError as error:
        yield Finding(FAIL, "server", str(error))
        return
    except WorkflowError as error:
        yield Finding(FAIL, "space", str(error), "change the search space (--space, --dimension)")
        return
    for note in notes:
        yield Finding(WARN, "space", note)
    yield Finding(OK, "space", f"{fitted.arm_count:,} combos of {space.arm_count:,} can be tried on {name}; its models are all there")


def _output_folder(client: ComfyClient, settings: Settings) -> Finding:
    """Puts a small file into the clips' folder and asks the server for it: only its own output folder can give it back."""
    content = os.urandom(512)
    name = f"eva-doctor-{os.getpid()}.bin"
    probe = settings.video_dir / name
    try:
        with tempfile.TemporaryDirectory() as scratch:
            probe.write_bytes(content)
            shared = client.fetch(OutputFile(name), Path(scratch) / name).read_bytes() == content
    except OSError as error:
        return Finding(FAIL, "clips", f"{settings.video_dir}: {error.strerror or error}", "name another folder with --video-dir")
    except EvaError as error:
        log.info("the probe did not come back: %s", error)
        shared = False
    finally:
        if probe.exists():
            probe.unlink()
    if shared:
        return Finding(OK, "clips", f"{settings.video_dir} is the output folder of {client.shown_url}")
    text = f"{settings.video_dir} is not the output folder of {client.shown_url}: clips are fetched over HTTP"
    if (urlsplit(client.url).hostname or "") in LOOPBACK_HOSTS:
        return Finding(WARN, "clips", text, "name ComfyUI's output folder with --video-dir to save the copies")
    return Finding(OK, "clips", text)
