"""The one lazy door to mediapipe: its 0.10 releases carry their models inside the package and work offline."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from eva_env_base import has_module

log = logging.getLogger(__name__)


def why_not() -> str:
    """Why mediapipe's ``solutions`` cannot be used here, or ``""``. Imports nothing heavy."""
    if not has_module("mediapipe"):
        return "mediapipe is not installed"
    if not has_module("mediapipe.python.solutions"):
        return "this mediapipe has no built-in models; version 0.10.21 has (Python 3.12 or older)"
    return ""


def solution(name: str) -> Any:
    """A module of ``mediapipe.python.solutions``. Raises ``ImportError`` with what is missing."""
    return importlib.import_module(f"mediapipe.python.solutions.{name}")
