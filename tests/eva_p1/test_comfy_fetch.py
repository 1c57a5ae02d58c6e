"""Fetching clips through /view: whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eva_env_base import ClipError, ComfyUnavailable
from eva_p1.comfy_client import ComfyClient, OutputFile
from tests.eva_p1.comfy_fake import FakeComfy

CLIP = OutputFile("a b'\"ü.mp4", "sub/folder", "output")


@pytest.fixture
def server() -> Iterator[FakeComfy]:
    with FakeComfy() as fake:
        yield fake


def test_a_clip_arrives_whole(server: FakeComfy, tmp_path: Path) -> None:
    with ComfyClient(server.url) as client:
        assert client.fetch(CLIP, tmp_path / "new" / "clip.mp4").read_bytes() == server.view_body
    assert "subfolder=sub%2Ffolder" in server.requests[-1][1] and "type=output" in server.requests[-1][1]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["clip.mp4"]


def test_a_cut_download_is_tried_again_and_never_kept_half(server: FakeComfy, tmp_path: Path) -> None:
    with ComfyClient(server.url, sleep=lambda _: None, retries=2) as client:
        server.view_cuts = 2
        assert client.fetch(CLIP, tmp_path / "clip.mp4").read_bytes() == server.view_body
        server.view_cuts = 3
        with pytest.raises((ClipError, ComfyUnavailable)):
            client.fetch(CLIP, tmp_path / "other.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_file_that_is_gone_or_empty_is_named(server: FakeComfy, tmp_path: Path) -> None:
    with ComfyClient(server.url) as client:
        with pytest.raises(ClipError, match="v/gone.mp4: the server has no such file"):
            client.fetch(OutputFile("gone.mp4", "v"), tmp_path / "x.mp4")
        server.view_body = b""
        with pytest.raises(ClipError, match="empty"):
            client.fetch(CLIP, tmp_path / "x.mp4")
        (tmp_path / "file").write_text("x", encoding="utf-8")
        with pytest.raises(OSError, match="file"):  # the clip is well, the disk is not
            client.fetch(CLIP, tmp_path / "file" / "x.mp4")
    assert list(tmp_path.glob("*.mp4")) == []
