"""Clips with dimensions of the user's own in the state: keys, statistics, search and bans, live and after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eva_state.clip_index import ClipIndex, Search
from eva_state.store import StateStore

PLAIN = "euler|simple|16|3.5|20|832x480"
PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 832, "height": 480}


def _fill(store: StateStore) -> None:
    for name, extra in (("a.mp4", None), ("b.mp4", {"shift": 5}), ("c.mp4", {"shift": 8}), ("d.mp4", {"shift": 8, "lora": 0.8})):
        params: dict[str, Any] = {**PARAMS, **({"extra": extra} if extra else {})}
        entry = {"video": name, "timestamp": 1.0, "params": params, "combo": ["euler", "simple"], "metrics": {}, "score": 0.5}
        store.generated(f"p-{name}", entry, 0.5, 1.0)


@pytest.mark.parametrize("restarted", [False, True])
def test_keys_statistics_search_and_bans(tmp_path: Path, restarted: bool) -> None:
    video = tmp_path / "video"
    video.mkdir()
    if restarted:
        with StateStore(tmp_path / "state", role="agent", video_dir=video) as store:
            _fill(store)
    with StateStore(tmp_path / "state", role="agent", video_dir=video) as store:
        if not restarted:
            _fill(store)
        assert set(store.combo_stats()) == {PLAIN, f"{PLAIN}|shift=5", f"{PLAIN}|shift=8", f"{PLAIN}|lora=0.8|shift=8"}
        by_name = {seen.video: seen for seen in store.observations()}
        assert by_name["d.mp4"].params["extra"] == {"lora": 0.8, "shift": 8} and "extra" not in by_name["a.mp4"].params
        index = ClipIndex(store, video)
        try:

            def found(combo: str) -> set[str]:
                items, _ = index.search(Search(combo=combo), 0, 100)
                return {item["name"] for item in items}

            everything = {"a.mp4", "b.mp4", "c.mp4", "d.mp4"}
            assert found(PLAIN) == everything == found("euler|*|*|*|*|*")
            assert found(f"{PLAIN}|shift=8") == {"c.mp4", "d.mp4"} == found("*|*|*|*|*|*|shift=8")
            assert found(f"{PLAIN}|lora=0.8|shift=8") == {"d.mp4"} and found("*|*|*|*|*|*|shift=9") == set()
            store.ban("*|*|*|*|*|*|shift=8", reason="soft", by="test")
            assert store.banned_by(f"{PLAIN}|shift=8") and not store.banned_by(f"{PLAIN}|shift=5") and not store.banned_by(PLAIN)
            store.ban(PLAIN, reason="all of it", by="test")
            assert store.banned_by(f"{PLAIN}|shift=5") == PLAIN
        finally:
            index.close()
