"""A store over a folder of clips, for tests of what is made of both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eva_state.store import StateStore

NOW = 1_700_000_000.0
PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 832, "height": 480}
KEY = "euler|simple|16|3.5|20|832x480"


class World:
    """``now`` is what the store's clock says."""

    def __init__(self, folder: Path):
        self.videos = folder / "videos"
        self.videos.mkdir()
        self.now = NOW
        self.store = StateStore(folder / "state", role="server", video_dir=self.videos, clock=lambda: self.now).start()
        self.made = 0

    def file(self, name: str, data: bytes = b"data", age: float = 100.0) -> None:
        path = self.videos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (NOW - age, NOW - age))

    def entry(self, name: str, score: float | None = 0.5, **more: Any) -> None:
        self.made += 1
        params = {**PARAMS, **more.pop("params", {})}
        entry = {"video": name, "timestamp": NOW + self.made, "prompt": "a red ball", "params": params, "score": score, **more}
        self.store.generated(f"p{self.made}", entry, score, 1.0)

    def rate(self, name: str, quality: float = 5, **more: Any) -> str:
        return self.store.rate(name, {"overall_quality": quality, **more}).event_id
