"""A restarted server forgets its prompts; a clip it had saved is taken, half a clip is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from eva_env_base import ClipError, ComfyUnavailable
from eva_p1.agent_results import is_whole
from eva_p1.comfy_client import ComfyClient
from eva_sim.handle import running_simulator
from eva_state.store import StateStore
from tests.agent_fakes import FakeComfy, make_agent
from tests.eva_p1.comfy_fake import FakeComfy as ComfyServer

SAVE = {"9": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "sub/eva_1"}}}


def write_clip(path: Path) -> bytes:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture
def left(tmp_path: Path) -> Iterator[tuple[StateStore, FakeComfy, Path]]:
    """A run that ended with one prompt in flight, whose clip ComfyUI may have saved as ``Path`` before it forgot everything."""
    (tmp_path / "video").mkdir()
    comfy = FakeComfy(tmp_path / "video", manual=True)
    with StateStore(tmp_path / "state", role="agent") as store:
        agent = make_agent(store, [comfy], tmp_path)
        job = agent._chooser.job_for({**agent.bandit.select_params()}, comfy.url)
        agent.ledger.submitted(job)
        comfy.manual = False
        yield store, comfy, tmp_path / "video" / f"{job.prefix}_00001_.mp4"


def test_a_whole_clip_of_a_forgotten_prompt_is_taken(left: tuple[StateStore, FakeComfy, Path], tmp_path: Path) -> None:
    store, comfy, clip = left
    write_clip(clip)
    stats = make_agent(store, [comfy], tmp_path).search_v4(1)
    assert (stats["scored"], stats["failed"], comfy.posts) == (1, 0, [])
    assert [entry["video"] for entry in store.history()] == [clip.name] and store.in_flight() == []


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_half_a_clip_of_a_forgotten_prompt_is_not(left: tuple[StateStore, FakeComfy, Path], tmp_path: Path, share: float) -> None:
    store, comfy, clip = left
    whole = write_clip(clip)
    clip.write_bytes(whole[: int(share * len(whole))])
    stats = make_agent(store, [comfy], tmp_path).search_v4(1)
    assert stats["scored"] == 1 and [failure["kind"] for failure in store.failures()] == ["lost"]
    assert clip.name not in {entry["video"] for entry in store.history()}


def test_is_whole_reads_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    whole = write_clip(path)
    assert is_whole(path).frames == 8
    moved = whole.index(b"mdat") + 200
    path.write_bytes(whole[:moved] + b"\0" * (len(whole) - moved))
    with pytest.raises(ClipError):
        is_whole(path)


def test_the_simulator_is_asked_as_comfyui_is(tmp_path: Path) -> None:
    (tmp_path / "out" / "sub").mkdir(parents=True)
    write_clip(tmp_path / "out" / "sub" / "eva_1_00001_.mp4")
    with running_simulator(tmp_path / "out", port=0) as sim, ComfyClient(sim.url) as client:
        found = client.left_by(SAVE, "p")
        assert found is not None and [file.name for file in found.videos] == ["sub/eva_1_00001_.mp4"]
        assert client.left_by({"9": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "sub/eva_2"}}}, "p") is None
        assert client.left_by({"9": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "%date%"}}}, "p") is None


def test_a_server_that_is_away_is_not_a_missing_clip() -> None:
    with ComfyServer() as server, ComfyClient(server.url, sleep=lambda _: None, retries=2) as client:
        server.gateway_errors = 2
        assert client.left_by(SAVE, "p") is not None, "asked again"
        server.gateway_errors = 3
        with pytest.raises(ComfyUnavailable):
            client.left_by(SAVE, "p")
