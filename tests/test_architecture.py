"""The house: who may import whom (import-linter), how big a room may grow, what a door may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("eva_state", "eva_p1", "eva_p2", "eva_p3", "eva_web", "eva_sim", "qa")
DOORS = ("simple_web_server.py", "run_agent_qa.py", "setup_qa_no_venv.py")
DOOR_LINES, ROOM_LINES = 150, 400


def test_who_stands_lower_never_imports_who_stands_higher() -> None:
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    ended = subprocess.run([sys.executable, "-c", program, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "KEPT" in ended.stdout, "import-linter checked nothing:\n" + ended.stdout


def test_the_ground_floor_stands_on_the_standard_library_alone() -> None:
    tree = ast.parse((PROJECT / "eva_env_base.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize("door", DOORS)
def test_doors_stay_small(door: str) -> None:
    assert len((PROJECT / door).read_text(encoding="utf-8").splitlines()) <= DOOR_LINES


def test_no_room_grows_past_its_limit() -> None:
    too_long = {}
    for package in PACKAGES:
        for path in (PROJECT / package).rglob("*.py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > ROOM_LINES:
                too_long[path.relative_to(PROJECT).as_posix()] = lines
    assert not too_long, f"over {ROOM_LINES} lines; make a sibling: {too_long}"


def test_no_error_is_swallowed() -> None:
    """An ``except`` that catches everything must do more than nothing."""
    hollow = []
    for path in [PROJECT / name for name in (*DOORS, "eva_env_base.py")] + [p for d in PACKAGES for p in (PROJECT / d).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                catches_all = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
                if catches_all and all(isinstance(statement, (ast.Pass, ast.Continue)) for statement in node.body):
                    hollow.append(f"{path.relative_to(PROJECT)}:{node.lineno}")
    assert not hollow


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("simple_web_server", ("torch", "mediapipe", "numpy", "cv2", "av", "sklearn", "scipy", "eva_p1", "eva_p2", "eva_p3", "qa")),
        ("run_agent_qa", ("torch", "mediapipe", "sklearn")),
        ("setup_qa_no_venv", ("numpy", "cv2", "requests", "filelock", "eva_state", "eva_p1")),
        ("eva_sim", ("eva_state", "eva_p1", "eva_web", "torch")),
    ],
)
def test_what_a_door_never_loads_at_start(module: str, never: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*[n for n in {never!r} if n in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == ""
