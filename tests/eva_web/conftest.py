"""A real server on a free port, over a state and a video folder of its own, and a small client."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from eva_env_base import PROJECT_DIR, resolve_settings
from eva_state.clip_index import ClipIndex
from eva_state.store import StateStore
from eva_web.server import Lanes, ReviewServer, create_server

PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 832, "height": 480}
KEY = "euler|simple|16|3.5|20|832x480"
OLD = 1_700_000_000.0


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """One running server with what it works on, and a client for it."""

    def __init__(self, folder: Path, *, token: str | None = None, host: str = "127.0.0.1", **options: Any):
        self.videos, self.state = folder / "videos", folder / "state"
        self.videos.mkdir(parents=True, exist_ok=True)
        settings = resolve_settings(
            {"root": folder, "video_dir": self.videos, "state_dir": self.state, "host": host, "port": 0, "token": token}, environ={}
        )
        self.settings = dataclasses.replace(settings, pod_id=options.pop("pod_id", None))
        self.store = StateStore(self.state, role="server", video_dir=self.videos).start()
        self.index = ClipIndex(self.store, self.videos)
        options.setdefault("lanes", Lanes(quick=4, media=4, pictures=2))
        self.server: ReviewServer = create_server(self.settings, self.store, self.index, **options)
        self.port = self.server.server_port
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join(10)
        self.server.server_close()
        self.index.close()
        self.store.close()

    def clip(self, name: str, data: bytes = b"not really a clip " * 100) -> str:
        """Puts a finished file into the folder."""
        path = self.videos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (OLD, OLD))
        self.index.refresh()
        return name

    def made(self, name: str, *, score: float = 0.5, file: bool = True, **entry: Any) -> str:
        """A clip with a history entry."""
        if file:
            self.clip(name)
        params = {**PARAMS, **entry.pop("params", {})}
        record = {"video": name, "timestamp": OLD, "prompt": "a red ball", "negative_prompt": "", "params": params, "score": score}
        self.store.generated(f"p-{name}", {**record, "combo": [params["sampler"], params["scheduler"]], **entry}, score, 1.0)
        return name

    def ask(self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, target, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, target: str, **headers: str) -> Answer:
        return self.ask("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, target: str, value: Any, **headers: str) -> Answer:
        given = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return self.ask("POST", target, json.dumps(value).encode(), given)


def video_url(name: str, route: str = "video") -> str:
    return f"/{route}/" + quote(name, safe="/")


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Polls until ``condition`` holds; fails with the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**options: Any) -> Site:
        made.append(Site(tmp_path / f"site{len(made)}", **options))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT_DIR


@pytest.fixture(scope="session")
def helpers() -> Any:
    """The functions and constants of this file, for tests that need them by name."""

    class Helpers:
        params, key, old = PARAMS, KEY, OLD
        video_url = staticmethod(video_url)
        wait_for = staticmethod(wait_for)

    return Helpers
