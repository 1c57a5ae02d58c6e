"""Lint, format and types, as the project sets them in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["lint", "format", "types"])
def test_tool_finds_nothing(command: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-m", *command], cwd=PROJECT, capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_package_folder_is_a_real_package() -> None:
    """A folder without ``__init__.py`` would silently escape the import rules."""
    for folder in ("eva_state", "eva_p1", "eva_p2", "eva_p3", "eva_web", "eva_sim", "qa"):
        assert (PROJECT / folder / "__init__.py").is_file()
