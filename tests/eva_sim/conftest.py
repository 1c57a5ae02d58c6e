"""Shared by the simulator's tests: small graphs, a client that records what it hears, running simulators."""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from eva_sim import SimHandle, start_simulator

DEADLINE = 60.0

TWO_SAMPLERS: dict[str, Any] = {
    "1": {
        "class_type": "CLIPLoader",
        "inputs": {"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "type": "wan", "device": "default"},
    },
    "2": {"class_type": "VAELoader", "inputs": {"vae_name": "wan_2.1_vae.safetensors"}},
    "3": {
        "class_type": "UNETLoader",
        "inputs": {"unet_name": "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "weight_dtype": "default"},
    },
    "4": {
        "class_type": "UNETLoader",
        "inputs": {"unet_name": "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors", "weight_dtype": "default"},
    },
    "5": {"class_type": "ModelSamplingSD3", "inputs": {"shift": 8.0, "model": ["3", 0]}},
    "6": {"class_type": "ModelSamplingSD3", "inputs": {"shift": 8.0, "model": ["4", 0]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red boat on a calm sea", "clip": ["1", 0]}},
    "8": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["1", 0]}},
    "9": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {"width": 128, "height": 96, "length": 5, "batch_size": 1}},
    "10": {
        "class_type": "KSamplerAdvanced",
        "inputs": {
            "add_noise": "enable",
            "noise_seed": 77,
            "steps": 6,
            "cfg": 3.5,
            "sampler_name": "euler",
            "scheduler": "simple",
            "start_at_step": 0,
            "end_at_step": 3,
            "return_with_leftover_noise": "enable",
            "model": ["5", 0],
            "positive": ["7", 0],
            "negative": ["8", 0],
            "latent_image": ["9", 0],
        },
    },
    "11": {
        "class_type": "KSamplerAdvanced",
        "inputs": {
            "add_noise": "disable",
            "noise_seed": 0,
            "steps": 6,
            "cfg": 3.5,
            "sampler_name": "euler",
            "scheduler": "simple",
            "start_at_step": 3,
            "end_at_step": 10000,
            "return_with_leftover_noise": "disable",
            "model": ["6", 0],
            "positive": ["7", 0],
            "negative": ["8", 0],
            "latent_image": ["10", 0],
        },
    },
    "12": {"class_type": "VAEDecode", "inputs": {"samples": ["11", 0], "vae": ["2", 0]}},
    "13": {"class_type": "CreateVideo", "inputs": {"fps": 16, "images": ["12", 0]}},
    "14": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "t/clip", "format": "auto", "codec": "auto", "video": ["13", 0]}},
}


class Client:
    """A ComfyUI client of a few lines: posts prompts, and records every message of its socket."""

    def __init__(self, url: str, client_id: str | None = None, metadata: bool = False, listen: bool = True):
        self.url, self.client_id = url, client_id or uuid.uuid4().hex
        self.heard: list[Any] = []
        self.socket: websocket.WebSocket | None = None
        if listen:
            address = url.replace("http://", "ws://") + f"/ws?clientId={self.client_id}"
            self.socket = websocket.create_connection(address, timeout=DEADLINE)
            if metadata:
                self.socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))

    def get(self, path: str, **more: Any) -> Any:
        return requests.get(self.url + path, timeout=DEADLINE, **more).json()

    def send(self, path: str, body: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=DEADLINE)

    def post(self, prompt: dict[str, Any], named: bool = True, **more: Any) -> requests.Response:
        body = {"prompt": prompt, **more}
        if named:
            body["client_id"] = self.client_id
        return self.send("/prompt", body)

    def queue(self, prompt: dict[str, Any], **more: Any) -> str:
        answer = self.post(prompt, **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["prompt_id"])

    def hear(self) -> Any:
        """The next message: an object, or bytes."""
        assert self.socket is not None
        data = self.socket.recv()
        message = data if isinstance(data, bytes) else json.loads(data)
        self.heard.append(message)
        return message

    def hear_until(self, wanted: Callable[[Any], bool]) -> Any:
        limit = time.monotonic() + DEADLINE
        while time.monotonic() < limit:
            message = self.hear()
            if wanted(message):
                return message
        raise AssertionError("the message did not come")

    def hear_end(self, prompt_id: str) -> None:
        """Listens until the last message of a prompt, ``executing`` without a node."""
        self.hear_until(
            lambda m: (
                isinstance(m, dict) and m["type"] == "executing" and m["data"]["node"] is None and m["data"].get("prompt_id") == prompt_id
            )
        )

    def kinds(self) -> list[str]:
        """What was heard, as words; previews as ``bin1`` or ``bin4``."""
        return [f"bin{message[3]}" if isinstance(message, bytes) else str(message["type"]) for message in self.heard]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The data of every message of one kind."""
        return [message["data"] for message in self.heard if isinstance(message, dict) and message["type"] == kind]

    def finished(self, prompt_id: str) -> dict[str, Any]:
        """Polls the history until the prompt is there."""
        limit = time.monotonic() + DEADLINE
        while time.monotonic() < limit:
            history = self.get(f"/history/{prompt_id}")
            if history:
                return dict(history[prompt_id])
            time.sleep(0.01)
        raise AssertionError(f"prompt {prompt_id} did not finish")

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()


@pytest.fixture
def graph() -> Callable[..., dict[str, Any]]:
    """``graph(seed=1, steps=6, ...)``: the two-sampler graph with some values changed; ``slow=S`` puts a LabSlow in."""

    def make(slow: float | None = None, **values: Any) -> dict[str, Any]:
        made = copy.deepcopy(TWO_SAMPLERS)
        steps = values.pop("steps", 6)
        for sampler in ("10", "11"):
            made[sampler]["inputs"]["steps"] = steps
        made["10"]["inputs"]["end_at_step"] = made["11"]["inputs"]["start_at_step"] = steps // 2
        if "seed" in values:
            made["10"]["inputs"]["noise_seed"] = values.pop("seed")
        for name, value in values.items():
            places = [node["inputs"] for node in made.values() if name in node["inputs"]]
            assert places, name
            for place in places:
                place[name] = value
        if slow is not None:
            made["20"] = {"class_type": "LabSlow", "inputs": {"samples": ["11", 0], "seconds": slow, "tag": 0}}
            made["12"]["inputs"]["samples"] = ["20", 0]
        return made

    return make


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Callable[..., SimHandle]]:
    """``simulator(speed=..., faults=[...])`` starts one; all are stopped at the end."""
    started: list[SimHandle] = []

    def start(**options: Any) -> SimHandle:
        options.setdefault("speed", 200.0)
        handle = start_simulator(options.pop("output_dir", tmp_path / "output"), **options)
        started.append(handle)
        return handle

    yield start
    for handle in started:
        handle.stop()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """``connect(sim)`` gives a client with an open socket; all are closed at the end."""
    made: list[Client] = []

    def open_client(sim: SimHandle | str, **more: Any) -> Client:
        client = Client(sim if isinstance(sim, str) else sim.url, **more)
        made.append(client)
        return client

    yield open_client
    for client in made:
        client.close()
