"""Every fault switch of the simulator against the client: nothing paid for twice, nothing lost, no hang, and a reason that can be read."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import ClipError, ComfyUnavailable, EvaError, PromptFailed, PromptRejected
from eva_p1.comfy_client import ComfyClient, Finished, Progress
from eva_p1.workflow import apply_params, find_roles, load_workflow
from eva_sim.handle import SimHandle, running_simulator

BASE = load_workflow(Path(__file__).resolve().parents[2] / "video_wan2_2_14B_t2v.json")
ROLES = find_roles(BASE)


def graph(seconds: float = 0.6) -> dict[str, Any]:
    unique = uuid.uuid4()
    params = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 4.0, "steps": 6, "width": 160, "height": 96}
    return apply_params(
        BASE, ROLES, params, prompt="a boat", negative_prompt="", seed=unique.int % 2**40, prefix=f"f/{unique.hex}", seconds=seconds
    )


@contextmanager
def served(folder: Path, *faults: str, job_seconds: float = 0.3, **options: Any) -> Iterator[tuple[SimHandle, ComfyClient]]:
    settings = {"patience": 10.0, **options}
    with (
        running_simulator(folder, port=0, seed=1, faults=list(faults), job_seconds=job_seconds) as simulator,
        ComfyClient(simulator.url, timeout=5, **settings) as client,
    ):
        yield simulator, client


def finish(client: ComfyClient, prompt_id: str, **options: Any) -> Finished:
    done = client.wait(prompt_id, **options)
    assert done is not None
    return done


@pytest.mark.parametrize("fault", [
    "refuse:route=prompt,status=503,times=2", "drop:route=prompt,when=before,times=1", "drop:route=prompt,when=after,times=1",
    "drop:route=history,times=2", "drop:route=queue,times=2", "slow:factor=3", "ws_drop:at=0.3", "ws_drop:at=0.2,repeat=1",
    "late_history:seconds=0.8",
])  # fmt: skip
def test_what_can_be_ridden_out_ends_with_one_clip(tmp_path: Path, fault: str) -> None:
    with served(tmp_path, fault) as (_, client):
        prompt_id = str(uuid.uuid4())
        queued = client.queue(graph(), prompt_id=prompt_id)
        done = finish(client, queued.prompt_id)
        assert queued.prompt_id == prompt_id and len(done.videos) == 1
    assert len(list(tmp_path.rglob("*.mp4"))) == 1, "one prompt, one clip"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("route", ["system_stats", "object_info", "prompt", "queue", "history", "view", "interrupt", "free"])
def test_the_line_cut_at_each_request(tmp_path: Path, route: str, when: str) -> None:
    """Whatever request the cut hits, and whether the server heard it or not: every step works and one prompt makes one clip."""
    with served(tmp_path / "server", f"drop:route={route},when={when},times=1") as (_, client):
        assert client.system_stats()["system"]
        assert "euler" in client.samplers_and_schedulers()[0]
        client.delete_pending("nobody")
        done = finish(client, client.queue(graph()).prompt_id)
        client.fetch(done.videos[0], tmp_path / "clip.mp4")
        client.interrupt()
        client.free_memory()
    assert len(list((tmp_path / "server").rglob("*.mp4"))) == 1 and (tmp_path / "clip.mp4").stat().st_size > 200


@pytest.mark.parametrize(("fault", "kind", "words"), [
    ("error:at=0.4,message=the shelf fell", "error", "the shelf fell"), ("oom", "oom", "ran out of memory"),
    ("no_output:mode=empty", "no_output", "without saving"), ("lose_queue:at=0.4", "lost", "neither in the queue nor in the history"),
    ("lose_queue:at=0.4,down=1.0", "lost", "neither in the queue nor in the history"),
])  # fmt: skip
def test_what_cannot_says_why(tmp_path: Path, fault: str, kind: str, words: str) -> None:
    with served(tmp_path, f"{fault}{',' if ':' in fault else ':'}times=1") as (_, client):
        with pytest.raises(PromptFailed) as caught:
            finish(client, client.queue(graph()).prompt_id)
        assert caught.value.kind == kind and words in str(caught.value)
        assert finish(client, client.queue(graph()).prompt_id).videos, "the server goes on afterwards"


def test_a_hanging_job_times_out_and_can_be_interrupted(tmp_path: Path) -> None:
    with served(tmp_path, "hang:at=0.5,times=1") as (_, client):
        queued = client.queue(graph())
        behind = client.queue(graph())
        with pytest.raises(PromptFailed) as caught:
            finish(client, queued.prompt_id, timeout=1.0)
        assert caught.value.kind == "timeout"
        client.interrupt(queued.prompt_id)
        assert finish(client, behind.prompt_id).videos


def test_a_validation_refusal_is_not_repeated(tmp_path: Path) -> None:
    with served(tmp_path, "refuse:route=prompt,mode=validation,times=1") as (_, client):
        with pytest.raises(PromptRejected):
            client.queue(graph())
        assert finish(client, client.queue(graph()).prompt_id).videos


@pytest.mark.parametrize(("fault", "match"), [("no_output:mode=missing", "no such file"), ("bad_output:mode=zero", "empty")])
def test_a_clip_that_is_not_there_is_not_handed_on(tmp_path: Path, fault: str, match: str) -> None:
    with served(tmp_path / "server", fault) as (_, client):
        done = finish(client, client.queue(graph()).prompt_id)
        with pytest.raises(ClipError, match=match):
            client.fetch(done.videos[0], tmp_path / "here" / "clip.mp4")
    assert not list((tmp_path / "here").glob("*")), "nothing half is left behind"


def test_a_download_that_is_cut_is_fetched_again(tmp_path: Path) -> None:
    with served(tmp_path / "server", "drop:route=view,times=1") as (_, client):
        done = finish(client, client.queue(graph()).prompt_id)
        copy = client.fetch(done.videos[0], tmp_path / "clip.mp4")
        assert copy.read_bytes() == next((tmp_path / "server").rglob("*.mp4")).read_bytes()


def test_a_server_that_dies_is_reported_and_its_successor_used(tmp_path: Path) -> None:
    with served(tmp_path, patience=0.5, retries=0, job_seconds=5.0) as (simulator, client):
        queued = client.queue(graph())
        port = int(simulator.url.rsplit(":", 1)[1])
        seen: list[Progress] = []
        trouble: list[Exception] = []

        def follow() -> None:
            try:
                client.wait(queued.prompt_id, on_progress=seen.append)
            except EvaError as error:
                trouble.append(error)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not any(progress.kind == "started" for progress in seen):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        simulator.kill()
        thread.join(20)
        assert not thread.is_alive() and isinstance(trouble[0], ComfyUnavailable)
        with running_simulator(tmp_path, port=port, job_seconds=0.2):
            assert client.state_of(queued.prompt_id) == "unknown"
            assert finish(client, client.queue(graph()).prompt_id).videos
