"""What EVA relies on from a ComfyUI, checked against every server there is: the simulator, and where EVA_COMFYUI_URL is set, that one.

One suite, so that a simulator that drifts from the real thing fails here.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from eva_env_base import EvaError, PromptFailed, PromptRejected
from eva_p1.comfy_client import ComfyClient, Progress
from eva_p1.workflow import apply_params, check_workflow, find_roles, load_workflow

PROJECT = Path(__file__).resolve().parents[2]
LIVE = os.environ.get("EVA_COMFYUI_URL", "")
PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 4.0, "steps": 4, "width": 320, "height": 192}


@pytest.fixture(scope="module", params=["simulator", "live"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "live":
        if not LIVE:
            pytest.skip("EVA_COMFYUI_URL is not set: no live ComfyUI to hold the contract to")
        yield LIVE
        return
    from eva_sim.handle import running_simulator

    with running_simulator(tmp_path_factory.mktemp("sim-output"), port=0, seed=3, speed=200) as simulator:
        yield simulator.url


@pytest.fixture
def client(url: str) -> Iterator[ComfyClient]:
    with ComfyClient(url, timeout=30) as made:
        yield made


class Workshop:
    """Makes graphs that no cache knows."""

    def __init__(self) -> None:
        self.base = load_workflow(PROJECT / "video_wan2_2_14B_t2v.json")
        self.roles = find_roles(self.base)

    def graph(self, *, seconds: float = 0.6, seed: int | None = None, prefix: str | None = None, **params: Any) -> dict[str, Any]:
        unique = uuid.uuid4()
        return apply_params(
            self.base,
            self.roles,
            PARAMS | params,
            prompt="a red ball rolls over green grass",
            negative_prompt="blurry",
            seed=unique.int % 2**40 if seed is None else seed,
            prefix=prefix or f"eva_contract/{unique.hex[:12]}",
            seconds=seconds,
        )


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_new_combo(info: dict[str, Any], node_class: str, name: str) -> bool:
    """Whether an input is a list of the newer form, ``["COMBO", {"options": [...]}]``."""
    inputs = info[node_class]["input"]
    return {**inputs.get("required", {}), **inputs.get("optional", {})}.get(name, [None])[0] == "COMBO"


def test_the_server_tells_what_it_is_and_has(client: ComfyClient) -> None:
    stats = client.system_stats()
    assert isinstance(stats["system"]["comfyui_version"], str) and isinstance(stats["devices"], list)
    info = client.object_info()
    assert {"KSamplerAdvanced", "SaveVideo", "CreateVideo"} <= info.keys()
    assert client.object_info("KSampler") == info["KSampler"] and client.object_info("NoSuchNode") == {}
    samplers, schedulers = client.samplers_and_schedulers()
    assert "euler" in samplers and "simple" in schedulers


def test_our_workflow_passes_our_check_and_the_servers(client: ComfyClient, workshop: Workshop) -> None:
    errors = [problem for problem in check_workflow(workshop.base, client.object_info()) if problem.severity == "error"]
    assert errors == []


def test_a_clip_from_queue_to_disk(client: ComfyClient, workshop: Workshop, tmp_path: Path) -> None:
    seen: list[Progress] = []
    prefix = f"eva_contract/clip_{uuid.uuid4().hex[:8]}"
    queued = client.queue(workshop.graph(prefix=prefix, seconds=1.0))
    finished = client.wait(queued.prompt_id, on_progress=seen.append)
    assert finished is not None and not finished.cached and finished.seconds is not None
    assert [video.name for video in finished.videos] == [f"{prefix}_00001_.mp4"]
    steps = [progress for progress in seen if progress.kind == "step"]
    assert not steps or all(0 < step.value <= step.max for step in steps)
    clip = client.fetch(finished.videos[0], tmp_path / "clip.mp4")
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert (stream.width, stream.height, frames, float(stream.average_rate or 0)) == (320, 192, 17, 16.0)
    assert client.state_of(queued.prompt_id) == "done"


def test_an_identical_prompt_is_cached_and_a_new_prefix_makes_a_new_file(client: ComfyClient, workshop: Workshop) -> None:
    graph = workshop.graph()
    first = client.wait(client.queue(graph).prompt_id)
    again = client.wait(client.queue(graph).prompt_id)
    assert first is not None and again is not None
    assert again.cached and again.videos == first.videos
    graph["14"]["inputs"]["filename_prefix"] += "_other"
    other = client.wait(client.queue(graph).prompt_id)
    assert other is not None and not other.cached and other.videos != first.videos


def test_refusals_name_node_input_value_and_what_would_do(client: ComfyClient, workshop: Workshop) -> None:
    graph = workshop.graph(sampler="eulr", scheduler="simpel")
    with pytest.raises(PromptRejected) as caught:
        client.queue(graph)
    text = str(caught.value)
    assert "'High-noise steps' (node 10, KSamplerAdvanced): sampler_name is 'eulr'" in text and "'euler'" in text
    assert "scheduler is 'simpel'" in text and "'simple'" in text
    graph = workshop.graph()
    graph["9"]["inputs"]["width"] = 0
    with pytest.raises(PromptRejected, match="width is 0, the smallest value allowed is 16"):
        client.queue(graph)
    graph = workshop.graph()
    graph["12"]["class_type"] = "NoSuchNode"
    with pytest.raises(PromptRejected, match="no node class 'NoSuchNode'"):
        client.queue(graph)
    graph = workshop.graph()
    del graph["14"]
    with pytest.raises(PromptRejected, match="no node that writes a file"):
        client.queue(graph)


def test_our_check_agrees_with_the_servers(client: ComfyClient, workshop: Workshop) -> None:
    """What our check finds wrong the server refuses, and what it finds right the server takes."""
    info = client.object_info()
    changes: list[tuple[str, str, Any]] = [
        ("10", "cfg", 1000.0), ("10", "steps", "many"), ("14", "codec", "av1"), ("12", "samples", ["8", 0]), ("12", "samples", ["999", 0]),
        ("12", "samples", ["11"]), ("1", "unet_name", "not_here.safetensors"), ("10", "steps", "5"), ("9", "width", 321),
    ]  # fmt: skip
    for node_id, name, value in changes:
        graph = workshop.graph()
        graph[node_id]["inputs"][name] = value
        problems = [problem for problem in check_workflow(graph, info) if problem.severity == "error" and problem.kind != "missing_role"]
        try:
            queued = client.queue(graph)
        except PromptRejected:
            assert problems, f"the server refused {name}={value!r}, our check did not"
        else:
            client.delete_pending(queued.prompt_id)
            client.interrupt(queued.prompt_id)
            stricter = is_new_combo(info, graph[node_id]["class_type"], name)  # ComfyUI 0.3 takes any value there and fails while running
            assert not problems or stricter, f"our check refused {name}={value!r}, the server took it: {problems}"


def test_waiting_deleting_and_interrupting(client: ComfyClient, workshop: Workshop) -> None:
    long = workshop.graph(steps=400, seconds=20, width=640, height=640)
    running = client.queue(long)
    waiting = [client.queue(workshop.graph()) for _ in range(3)]
    until(lambda: client.state_of(running.prompt_id) == "running")
    assert client.queue_state().pending == tuple(item.prompt_id for item in waiting)
    client.delete_pending([waiting[1].prompt_id])
    assert client.state_of(waiting[1].prompt_id) == "unknown"
    with pytest.raises(PromptFailed) as lost:
        client.wait(waiting[1].prompt_id)
    assert lost.value.kind == "lost"
    client.interrupt(waiting[2].prompt_id)  # not the one running: nothing happens
    assert client.state_of(running.prompt_id) == "running"
    client.interrupt(running.prompt_id)
    with pytest.raises(PromptFailed) as caught:
        client.wait(running.prompt_id)
    assert caught.value.kind == "interrupted"
    assert client.state_of(running.prompt_id) == "failed"
    for left in (waiting[0], waiting[2]):
        assert client.wait(left.prompt_id) is not None


def test_two_prompts_waited_for_at_once(client: ComfyClient, workshop: Workshop) -> None:
    ids = [client.queue(workshop.graph()).prompt_id for _ in range(2)]
    found: dict[str, Any] = {}
    threads = [threading.Thread(target=lambda one=one: found.__setitem__(one, client.wait(one)), daemon=True) for one in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert set(found) == set(ids) and found[ids[0]].videos != found[ids[1]].videos


def test_a_prefix_outside_the_output_folder_fails_while_running(client: ComfyClient, workshop: Workshop) -> None:
    queued = client.queue(workshop.graph(prefix="../../outside"))
    with pytest.raises(PromptFailed) as caught:
        client.wait(queued.prompt_id)
    assert caught.value.kind == "error" and "Save video" in str(caught.value)


def test_a_file_that_is_not_there(client: ComfyClient, tmp_path: Path) -> None:
    from eva_p1.comfy_client import OutputFile

    with pytest.raises(EvaError, match="no such file"):
        client.fetch(OutputFile("nope.mp4", "eva_contract"), tmp_path / "x.mp4")
    assert client.history("no-such-prompt") is None and client.state_of("no-such-prompt") == "unknown"
