"""Fixtures for the state's tests: a folder, stores on it, a disk that fails on demand."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eva_state.files import Files
from eva_state.store import StateStore


class FaultyFiles(Files):
    """A disk on which chosen operations fail. ``fail[operation]`` is an errno; ``short`` writes that many bytes first."""

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.short: int | None = None
        self.countdown: int | None = None  # fail once, at the operation after this many
        self.once = False
        self.count = 0

    def _step(self, operation: str) -> None:
        self.count += 1
        if self.countdown is not None and self.count > self.countdown:
            if self.once:
                self.countdown = None
            raise OSError(errno.EIO, f"injected at {operation}")
        if operation in self.fail:
            raise OSError(self.fail[operation], os.strerror(self.fail[operation]))

    def write(self, fd: int, data: bytes) -> int:
        if self.short is not None and ("write" in self.fail or self.countdown == self.count):
            super().write(fd, bytes(data)[: self.short])
        self._step("write")
        return super().write(fd, data)

    def fsync(self, fd: int) -> None:
        self._step("fsync")
        super().fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        self._step("truncate")
        super().truncate(fd, size)

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace")
        super().replace(source, target)

    def open_append(self, path: Path) -> int:
        self._step("open_append")
        return super().open_append(path)

    def open_new(self, path: Path) -> int:
        self._step("open_new")
        return super().open_new(path)

    def fsync_dir(self, folder: Path) -> None:
        self._step("fsync_dir")
        super().fsync_dir(folder)


def make_params(**change: Any) -> dict[str, Any]:
    return {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 832, "height": 480} | change


def make_entry(video: str, score: float = 0.5, **change: Any) -> dict[str, Any]:
    params = make_params(**change)
    return {
        "video": video,
        "timestamp": 1_700_000_000.5,
        "prompt": "A lake at dawn",
        "negative_prompt": "blurry",
        "params": params,
        "combo": [params["sampler"], params["scheduler"]],
        "metrics": {"blur": 0.5, "overall": score},
        "score": score,
    }


KEY = "euler|simple|16|3.5|20|832x480"


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)
    return found


@pytest.fixture
def faulty() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., StateStore]]:
    """``open_store(role="server", **options)``: a started store on one folder, closed at the end."""
    opened: list[StateStore] = []

    def make(role: str = "server", folder: Path | None = None, **options: Any) -> StateStore:
        store = StateStore(folder or tmp_path / "state", role, **{"poll_interval": 0.02, "publish_interval": 0.05, **options}).start()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()
