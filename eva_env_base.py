"""Settings, logging, capability flags and errors: the ground floor of EVA.

Everything else may import this module; this module imports only the standard library.

Error tree (each carries a message for a person, and the exit code a command ends with)::

    EvaError                1   anything EVA itself reports
    |-- UsageError          2   a flag, variable or argument is wrong
    |-- StateError          1   the state folder cannot be used
    |   |-- StateLocked     1   another process holds this role on this state
    |   `-- StateFull       1   the disk refused the write; nothing was recorded
    |-- WorkflowError       1   a workflow file is missing, malformed, or lacks a role
    |-- ComfyError          1   a ComfyUI server answered with an error
    |   |-- ComfyUnavailable 1  it cannot be reached (worth waiting for)
    |   |-- PromptRejected  1   POST /prompt said no (not worth repeating unchanged)
    |   `-- PromptFailed    1   the prompt ran and failed, was interrupted, or was lost
    `-- ClipError           1   a clip cannot be read or measured
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import logging.handlers
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

PROJECT_DIR = Path(__file__).resolve().parent
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


# ---------------------------------------------------------------- errors
class EvaError(Exception):
    """Base of every error EVA reports on purpose. ``str(error)`` is fit for a person."""

    exit_code = EXIT_FAILED


class UsageError(EvaError):
    """A flag, environment variable or argument is wrong."""

    exit_code = EXIT_USAGE


class StateError(EvaError):
    """The state folder cannot be read or written."""


class StateLocked(StateError):
    """Another living process already holds this role on this state folder."""


class StateFull(StateError):
    """The disk refused a record (ENOSPC, EDQUOT, read-only): nothing was recorded."""


class WorkflowError(EvaError):
    """A workflow cannot be used; the message names what is missing."""


class ComfyError(EvaError):
    """A ComfyUI server answered with an error."""


class ComfyUnavailable(ComfyError):
    """A ComfyUI server cannot be reached now; waiting may help."""


class PromptRejected(ComfyError):
    """POST /prompt was refused. ``node_errors`` holds the server's own answer."""

    def __init__(self, message: str, node_errors: Mapping[str, Any] | None = None, status: int = 400):
        super().__init__(message)
        self.node_errors = dict(node_errors or {})
        self.status = status


class PromptFailed(ComfyError):
    """A queued prompt did not finish.

    ``kind`` is one of ``error``, ``oom``, ``disk_full``, ``interrupted``, ``lost``, ``no_output``, ``timeout``.
    """

    def __init__(self, message: str, kind: str = "error", node: str | None = None):
        super().__init__(message)
        self.kind = kind
        self.node = node


class ClipError(EvaError):
    """A clip is missing, empty or cannot be decoded."""


# ---------------------------------------------------------------- settings
@dataclass(frozen=True)
class SettingSpec:
    """One row of the settings table. ``env`` is tried left to right."""

    name: str
    env: tuple[str, ...]
    flag: str | None
    help: str
    default_text: str


SETTINGS: tuple[SettingSpec, ...] = (
    SettingSpec(
        "root",
        ("WAN22_SYSTEM_DIR",),
        "--root",
        "project root: state, models and output live below it",
        "/workspace/wan22_system if it exists, else the project folder",
    ),
    SettingSpec(
        "video_dir",
        ("COMFY_OUTPUT_DIR",),
        "--video-dir",
        "folder that holds the clips (ComfyUI's output folder)",
        "/workspace/ComfyUI/output if it exists, else ROOT/output",
    ),
    SettingSpec("state_dir", ("EVA_STATE_DIR",), "--state-dir", "folder of the shared state", "ROOT/auto_state"),
    SettingSpec(
        "api", ("COMFYUI_API",), "--api", "ComfyUI address; a comma-separated list drives several servers", "http://127.0.0.1:8188"
    ),
    SettingSpec("port", ("SERVER_PORT", "PORT"), "--port", "port of the review server", "8189"),
    SettingSpec(
        "host", ("SERVER_HOST",), "--host", "address the review server listens on", "0.0.0.0 where RUNPOD_POD_ID is set, else 127.0.0.1"
    ),
    SettingSpec(
        "token",
        ("EVA_TOKEN",),
        "--token",
        "access token of the review server",
        "none on loopback, else a random one printed inside the URL",
    ),
    SettingSpec("openrouter_key", ("OPENROUTER_API_KEY",), "--openrouter-key", "key for the optional vision LLM", "none"),
    SettingSpec("openrouter_base_url", ("OPENROUTER_BASE_URL",), None, "address of the vision LLM's API", "https://openrouter.ai/api/v1"),
    SettingSpec("lang", ("EVA_LANG",), None, "language of the pages: en or uk (a switch on the page overrides it)", "en"),
    SettingSpec("budget_minutes", ("EVA_BUDGET_MINUTES",), "--budget-minutes", "GPU minutes a run may spend", "no limit"),
    SettingSpec(
        "budget_dollars", ("EVA_BUDGET_DOLLARS",), "--budget-dollars", "dollars a run may spend; needs the price of a GPU hour", "no limit"
    ),
    SettingSpec("gpu_price", ("EVA_GPU_PRICE",), "--gpu-price", "dollars a GPU hour costs on each server", "none"),
    SettingSpec("models_dir", ("EVA_MODELS_DIR",), "--models-dir", "weights put there by you or downloaded", "ROOT/models"),
)
SPEC_BY_NAME: dict[str, SettingSpec] = {spec.name: spec for spec in SETTINGS}
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
LANGUAGES = ("en", "uk")


@dataclass(frozen=True)
class Settings:
    """Resolved settings. ``origin[name]`` tells where each came from: a flag, a variable, or ``default``."""

    root: Path
    video_dir: Path
    state_dir: Path
    api: tuple[str, ...]
    port: int
    host: str
    token: str | None
    openrouter_key: str | None
    openrouter_base_url: str
    lang: str
    models_dir: Path
    origin: Mapping[str, str]
    pod_id: str | None = None
    budget_minutes: float | None = None
    budget_dollars: float | None = None
    gpu_price: float | None = None

    @property
    def on_loopback(self) -> bool:
        """True when the review server can only be reached from this machine."""
        return self.host in LOOPBACK_HOSTS

    def describe(self) -> str:
        """A table of every setting, its value and its origin; secrets are masked."""
        rows = []
        for spec in SETTINGS:
            value: Any = getattr(self, spec.name)
            if spec.name in ("token", "openrouter_key") and value:
                value = "(set, hidden)"
            elif spec.name == "api":
                value = ",".join(self.api)
            rows.append((spec.name, "none" if value is None else str(value), self.origin[spec.name]))
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{n:<{widths[0]}}  {v:<{widths[1]}}  {o}" for n, v, o in rows)


def add_setting_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds the flags of the named settings, and ``--print-settings``, to ``parser``."""
    for name in names:
        spec = SPEC_BY_NAME[name]
        if spec.flag is None:
            raise ValueError(f"setting {name} has no flag")
        env = " or ".join(spec.env)
        parser.add_argument(
            spec.flag,
            dest=name,
            default=None,
            metavar=name.upper(),
            help=f"{spec.help} (environment: {env}; default: {spec.default_text})".replace("%", "%%"),
        )
    parser.add_argument("--print-settings", action="store_true", help="print every resolved setting and where it came from, then exit")


def resolve_settings(flags: argparse.Namespace | Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Resolves flag > environment > default for every setting.

    ``flags`` holds values by setting name (missing or ``None``: not given). An empty string counts
    as not given, so ``COMFYUI_API=`` behaves like an unset variable.
    Raises :class:`UsageError` naming the flag or variable whose value is wrong.
    """
    given = vars(flags) if isinstance(flags, argparse.Namespace) else dict(flags or {})
    env = os.environ if environ is None else environ
    origin: dict[str, str] = {}

    def pick(name: str, default: Any) -> Any:
        value = given.get(name)
        if value is not None and value != "":
            origin[name] = SPEC_BY_NAME[name].flag or "caller"
            return value
        for variable in SPEC_BY_NAME[name].env:
            if env.get(variable):
                origin[name] = variable
                return env[variable]
        origin[name] = "default"
        return default

    def folder(name: str, default: Path) -> Path:
        value = str(pick(name, default))
        if "\0" in value:
            raise UsageError(f"{origin[name]}: a folder name cannot hold a NUL character")
        return Path(value).expanduser().resolve()

    workspace_root = Path("/workspace/wan22_system")
    root = folder("root", workspace_root if workspace_root.is_dir() else PROJECT_DIR)
    comfy_output = Path("/workspace/ComfyUI/output")
    video_dir = folder("video_dir", comfy_output if comfy_output.is_dir() else root / "output")
    state_dir = folder("state_dir", root / "auto_state")
    models_dir = folder("models_dir", root / "models")

    api_text = str(pick("api", "http://127.0.0.1:8188"))
    api = tuple(dict.fromkeys(part.strip().rstrip("/") for part in api_text.split(",") if part.strip()))
    for url in api:
        if not url.startswith(("http://", "https://")) or len(url.split("://", 1)[1]) == 0:
            raise UsageError(f"{origin['api']}: {url!r} is not an address; write it like http://127.0.0.1:8188")
    if not api:
        raise UsageError(f"{origin['api']}: no address given; write it like http://127.0.0.1:8188")

    port_text = str(pick("port", 8189))
    if not (port_text.isascii() and port_text.isdigit() and 0 <= int(port_text) <= 65535):
        raise UsageError(f"{origin['port']}: {port_text!r} is not a port number (0 to 65535)")

    def amount(name: str, unit: str) -> float | None:
        text = pick(name, None)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{origin[name]}: {text!r} is not an amount of {unit}; give a number above 0")
        return value

    budget_minutes, budget_dollars = amount("budget_minutes", "GPU minutes"), amount("budget_dollars", "dollars")
    gpu_price = amount("gpu_price", "dollars an hour")
    if budget_dollars is not None and gpu_price is None:
        raise UsageError(f"{origin['budget_dollars']} needs the price of a GPU hour: give --gpu-price, or set EVA_GPU_PRICE")
    if gpu_price is not None and budget_dollars is None and origin["gpu_price"] == "--gpu-price":
        raise UsageError("--gpu-price without --budget-dollars limits nothing: give --budget-dollars too, or leave it out")
    pod_id = env.get("RUNPOD_POD_ID") or None
    host = str(pick("host", "0.0.0.0" if pod_id else "127.0.0.1"))
    lang = str(pick("lang", "en")).lower()
    if lang not in LANGUAGES:
        raise UsageError(f"{origin['lang']}: {lang!r} is not a language that ships; choose one of {', '.join(LANGUAGES)}")
    return Settings(
        root=root,
        video_dir=video_dir,
        state_dir=state_dir,
        api=api,
        port=int(port_text),
        host=host,
        token=pick("token", None),
        openrouter_key=pick("openrouter_key", None),
        openrouter_base_url=str(pick("openrouter_base_url", "https://openrouter.ai/api/v1")).rstrip("/"),
        lang=lang,
        models_dir=models_dir,
        origin=origin,
        pod_id=pod_id,
        budget_minutes=budget_minutes,
        budget_dollars=budget_dollars,
        gpu_price=gpu_price,
    )


# ---------------------------------------------------------------- capabilities
def has_module(name: str) -> bool:
    """True when ``import name`` would find something. Nothing is imported but parents of a dotted name."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


CAPABILITIES: dict[str, tuple[str, str]] = {
    "video": ("av", "decode and encode clips"),
    "opencv": ("cv2", "fast metrics and pictures"),
    "torch": ("torch", "deep analysis on the GPU, taste model"),
    "mediapipe": ("mediapipe", "face, hand and pose detectors of the deep analysis"),
    "openai": ("openai", "vision LLM through OpenRouter"),
    "sklearn": ("sklearn", "taste model"),
}


def capabilities() -> dict[str, bool]:
    """Which optional parts this Python can run, by capability name."""
    return {name: has_module(module) for name, (module, _) in CAPABILITIES.items()}


# ---------------------------------------------------------------- logging
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
LOG_BYTES, LOG_BACKUPS = 10_000_000, 3  # a pod's small volume must not fill with logs


class LogFile(logging.handlers.RotatingFileHandler):
    """A rotating UTF-8 log. A disk that is full costs lines of it, which is said once, and never the work."""

    def __init__(self, path: Path):
        super().__init__(path, maxBytes=LOG_BYTES, backupCount=LOG_BACKUPS, encoding="utf-8")
        self._told = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            print(f"warning: {self.baseFilename} cannot be written: {error.strerror or error}; lines are missing there", file=sys.stderr)

    def close(self) -> None:
        try:
            super().close()
        except OSError:  # what was still buffered found no room
            self.handleError(logging.makeLogRecord({}))


def setup_logging(level: str = "INFO", log_file: Path | None = None, console: bool = True) -> None:
    """Configures the root logger: readable lines on stderr and, if asked, in a rotating file.

    A file that cannot be opened, or written, is reported on stderr and done without: logging never stops the work.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level.upper())
    formatter = logging.Formatter(LOG_FORMAT, datefmt="%H:%M:%S")
    if console:
        stream = logging.StreamHandler(sys.stderr)
        stream.setFormatter(formatter)
        root.addHandler(stream)
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            handler_file = LogFile(log_file)
        except OSError as error:
            print(f"warning: no log file {log_file}: {error.strerror or error}", file=sys.stderr)
        else:
            handler_file.setFormatter(logging.Formatter(LOG_FORMAT))
            root.addHandler(handler_file)


def run_door(main: Any) -> int:
    """Runs a command's ``main()``: turns errors into one clear line and the contract's exit code.

    ``main`` returns an exit code or ``None`` (0). Ctrl-C gives 130.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        return int(main() or EXIT_OK)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except EvaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
