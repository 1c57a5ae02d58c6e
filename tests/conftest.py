"""Shared fixtures. Tests that want the real clips look for them here and skip, saying so."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

# A run in the background of a script ignores Ctrl-C, and so would every process that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _shared_folder(name: str) -> Path:
    folder = PROJECT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"no folder {name} beside the project: this test wants recorded material that is not shipped")
    return folder


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """Folder of real clips, or skip."""
    return _shared_folder("clips")


@pytest.fixture(scope="session")
def recorded_comfyui() -> Path:
    """Folder of data recorded from a real ComfyUI server, or skip."""
    return _shared_folder("comfyui")
