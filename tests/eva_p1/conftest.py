"""A state and a server that does as it is told, for tests of the agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eva_state.store import StateStore
from tests.agent_fakes import FakeComfy


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    with StateStore(tmp_path / "state", role="agent", video_dir=tmp_path / "video", publish_interval=0.05, poll_interval=0.02) as opened:
        yield opened


@pytest.fixture
def comfy(tmp_path: Path) -> FakeComfy:
    (tmp_path / "video").mkdir()
    return FakeComfy(tmp_path / "video")
