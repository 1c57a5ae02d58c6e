"""Installs what EVA needs into a Python, without breaking what already lives there. Standard library only.

Why not plain ``pip install -r``: on a rented GPU the Python also runs ComfyUI. Three things go wrong there:

- two OpenCV distributions share the folder ``cv2`` and overwrite each other, so one that works is kept;
- mediapipe 0.10.21 pins numpy < 2 and protobuf < 5, which would downgrade both under ComfyUI, although it runs
  on newer ones; it is installed without its pins;
- a downgrade of anything is shown before it happens.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from eva_env_base import PROJECT_DIR, EvaError, UsageError

log = logging.getLogger(__name__)

REQUIREMENTS = PROJECT_DIR / "requirements_qa.txt"
TEST_REQUIREMENTS = PROJECT_DIR / "requirements_test.txt"
CONSTRAINTS = PROJECT_DIR / "constraints.txt"
OPENCV_DISTRIBUTIONS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
# Installed where no OpenCV is found: the same library without window code, so no X11 or GL packages are needed.
OPENCV_WHEN_NONE = "opencv-contrib-python-headless"
WITHOUT_PINS = ("mediapipe",)

# Run inside the target Python: prints {distribution: version} and whether cv2 imports.
_PROBE = """
import importlib.metadata as m, json
found = {}
for d in m.distributions():
    name = (d.metadata["Name"] or "").lower().replace("_", "-")
    if name: found.setdefault(name, d.version)
try:
    import cv2
    opencv = cv2.__version__
except Exception as error:
    opencv = None
print(json.dumps({"found": found, "opencv": opencv}))
"""


@dataclass(frozen=True)
class Change:
    """One distribution pip would touch. ``before`` is ``None`` for a new one."""

    name: str
    before: str | None
    after: str

    @property
    def kind(self) -> str:
        """``new``, ``upgrade`` or ``downgrade``."""
        if self.before is None:
            return "new"
        return "downgrade" if _version_key(self.after) < _version_key(self.before) else "upgrade"


def _packaging():  # type: ignore[no-untyped-def]
    """``packaging``, or the copy that pip carries: it is wherever pip is."""
    try:
        import packaging.requirements
        import packaging.version

        return packaging.requirements, packaging.version
    except ImportError:
        from pip._vendor.packaging import requirements, version  # type: ignore[import-untyped,unused-ignore]

        return requirements, version


def _version_key(text: str):  # type: ignore[no-untyped-def]
    return _packaging()[1].Version(text)


def read_requirements(path: Path, *, core_only: bool = False) -> list[str]:
    """Requirement lines of ``path`` without comments; ``core_only`` stops at the ``# [deep]`` heading."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EvaError(f"cannot read {path}: {error.strerror}; is the clone complete?") from error
    lines = []
    for line in text.splitlines():
        if core_only and line.startswith("# [deep]"):
            break
        requirement = re.sub(r"(^|\s)#.*", "", line).strip()
        if requirement:
            lines.append(requirement)
    return lines


@dataclass(frozen=True)
class Target:
    """A Python to install into, and what it holds."""

    python: str
    found: dict[str, str]
    opencv: str | None


def probe(python: str = sys.executable) -> Target:
    """Asks ``python`` what it has. Raises :class:`EvaError` if it does not run."""
    try:
        answer = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, encoding="utf-8", check=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise EvaError(f"cannot run {python}: {error}") from error
    data = json.loads(answer.stdout.splitlines()[-1])
    return Target(python, data["found"], data["opencv"])


def missing(requirements: list[str], target: Target) -> list[str]:
    """The lines that ``target`` does not satisfy yet, with OpenCV settled (one that imports is kept)."""
    parser = _packaging()[0]
    wanted = []
    for line in requirements:
        requirement = parser.Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        name = requirement.name.lower().replace("_", "-")
        if name in OPENCV_DISTRIBUTIONS:
            if target.opencv is None:
                wanted.append(f"{_broken_opencv(target) or OPENCV_WHEN_NONE}{requirement.specifier}")
            continue
        version = target.found.get(name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wanted.append(line)
    return wanted


def _broken_opencv(target: Target) -> str | None:
    """The OpenCV distribution that is there but does not import (often: no libGL)."""
    there = [name for name in OPENCV_DISTRIBUTIONS if name in target.found]
    if there:
        raise EvaError(
            f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'} installed in {target.python} but `import cv2` fails. "
            f"Mend it first: {target.python} -m pip uninstall -y {' '.join(there)}, then run this command again."
        )
    return None


def _pip(python: str, *arguments: str) -> list[str]:
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--root-user-action=ignore"]
    if os.environ.get("CI") and CONSTRAINTS.is_file():
        command += ["--constraint", str(CONSTRAINTS)]
    return [*command, *arguments]


def _split(lines: list[str]) -> tuple[list[str], list[str]]:
    """(lines for pip as usual, lines to install without their pins)."""
    bare = [line for line in lines if re.match(r"[\w.-]+", line)[0].lower() in WITHOUT_PINS]  # type: ignore[index]
    return [line for line in lines if line not in bare], bare


def plan(lines: list[str], target: Target) -> list[Change]:
    """What pip would change for ``lines``, asked from pip itself (``--dry-run --report``).

    Raises :class:`EvaError` with pip's own words when it cannot resolve them or the network is away.
    """
    changes = []
    for group, flags in zip(_split(lines), ((), ("--no-deps",))):
        if not group:
            continue
        command = _pip(target.python, "--dry-run", "--quiet", "--report", "-", *flags, *group)
        answer = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
        if answer.returncode != 0:
            raise EvaError(f"pip cannot install {', '.join(group)}:\n{answer.stderr.strip()}")
        report = json.loads(answer.stdout[answer.stdout.index("{") :])
        for item in report["install"]:
            name = item["metadata"]["name"].lower().replace("_", "-")
            changes.append(Change(name, target.found.get(name), item["metadata"]["version"]))
    return sorted(changes, key=lambda change: (change.kind != "downgrade", change.kind, change.name))


def describe_plan(changes: list[Change], target: Target) -> str:
    """The plan as lines for a person, downgrades first and marked."""
    if not changes:
        return f"Nothing to install: {target.python} has all that is needed."
    rows = [f"pip will change {len(changes)} package(s) in {target.python}:"]
    for change in changes:
        before = f"{change.before} -> " if change.before else ""
        rows.append(f"  {change.kind:<9} {change.name} {before}{change.after}")
    down = [change.name for change in changes if change.kind == "downgrade"]
    if down:
        rows.append(
            f"WARNING: {', '.join(down)} would be DOWNGRADED in a Python that other programs (ComfyUI) may use. "
            "Add --venv DIR to install apart and leave this Python as it is."
        )
    return "\n".join(rows)


def install(lines: list[str], target: Target) -> None:
    """Runs pip for ``lines`` (shown as it goes). Raises :class:`EvaError` when pip fails."""
    for group, flags in zip(_split(lines), ((), ("--no-deps",))):
        if not group:
            continue
        status = subprocess.run(_pip(target.python, "--progress-bar", "off", "--quiet", *flags, *group)).returncode
        if status != 0:
            raise EvaError(f"pip ended with code {status} while installing {', '.join(group)}; its message stands above")


def ensure(requirements: list[str], *, python: str = sys.executable) -> None:
    """Installs what is missing and nothing else; silent when nothing is."""
    target = probe(python)
    wanted = missing(requirements, target)
    if wanted:
        print(f"Installing into {python}: {', '.join(re.split(r'[<>=!~; ]', line)[0] for line in wanted)}", flush=True)
        install(wanted, target)
        still = missing(requirements, probe(python))
        if still:
            raise EvaError(f"still missing after pip ran: {', '.join(still)}")
    importlib.invalidate_caches()


def make_venv(folder: Path) -> str:
    """Creates a virtual environment that sees this Python's packages (so its torch is reused); returns its Python."""
    if folder.exists() and not (folder / "pyvenv.cfg").is_file() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise UsageError(f"--venv {folder}: there is something else there; name a new or empty folder")
    command = [sys.executable, "-m", "venv", "--system-site-packages", str(folder)]
    if subprocess.run(command).returncode != 0:
        raise EvaError(f"cannot create a virtual environment in {folder}; on Debian and Ubuntu: apt-get install python3-venv")
    return str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


# ---------------------------------------------------------------- a browser for the tests
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def find_chromium() -> str | None:
    """Path of a Chromium: ``EVA_CHROMIUM``, one on PATH, or one that Playwright installed earlier."""
    given = os.environ.get("EVA_CHROMIUM")
    if given:
        if not Path(given).is_file():
            raise UsageError(f"EVA_CHROMIUM={given}: no such file")
        return given
    for name in CHROMIUM_NAMES:
        path = shutil.which(name)
        if path:
            return path
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


def ensure_chromium() -> str:
    """A Chromium, installed where none is found: by apt as root, else by Playwright."""
    found = find_chromium()
    if found:
        return found
    print("No Chromium found; installing one for the browser tests", flush=True)
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], env=environment)
        found = find_chromium()
    if not found:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"])
        found = find_chromium()
    if not found:
        raise EvaError("no Chromium could be installed; install one and name it in EVA_CHROMIUM")
    return found
