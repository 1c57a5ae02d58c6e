"""Follows a prompt's graph to what it would make: an order of nodes, their values, the work in them, and cache keys.

Nothing is rendered here. Every node class has a small function that turns input values into output values: a latent
collects the sampling passes made on it, images remember their latent, a video its frame rate; so a save node knows the
effective parameters of its clip however the graph is wired.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from eva_sim.names import FAST_LORA_MARKS
from eva_sim.validation import links

SECONDS_PER_STEP_PIXEL = 3.0 / (20 * 480 * 320 * 33)  # 480x320, 33 frames, 20 steps take 3 s at speed 1
SAMPLING_SHARE, DECODING_SHARE, SAVING_SHARE = 0.88, 0.08, 0.04  # of a whole job's time
FAST_LORA_SPEEDUP = 4.5


@dataclass(frozen=True)
class Model:
    """A diffusion model with its patches."""

    name: str
    loras: tuple[tuple[str, float], ...] = ()

    @property
    def speedup(self) -> float:
        """How many steps one step is worth: above 1 with a distilling LoRA of useful strength."""
        fast = [strength for name, strength in self.loras if any(mark in name.lower() for mark in FAST_LORA_MARKS)]
        return 1.0 + (FAST_LORA_SPEEDUP - 1) * min(1.0, max(0.0, sum(fast)))


@dataclass(frozen=True)
class Pass:
    """One run of one sampler node. Steps ``start`` to ``end`` of a schedule of ``total``."""

    model: Model
    total: int
    start: int
    end: int
    cfg: float
    sampler: str
    scheduler: str
    seed: int
    positive: str
    negative: str
    add_noise: bool = True

    @property
    def steps(self) -> int:
        """Steps really run."""
        return max(0, self.end - self.start)


@dataclass(frozen=True)
class Latent:
    """A latent video: size in pixels, frames after decoding, passes made on it so far."""

    width: int
    height: int
    frames: int
    passes: tuple[Pass, ...] = ()


@dataclass(frozen=True)
class Images:
    """Decoded frames; ``latent`` is ``None`` for a loaded picture."""

    latent: Latent | None
    width: int
    height: int
    frames: int


@dataclass(frozen=True)
class Video:
    """Frames with a rate."""

    images: Images
    fps: float


@dataclass(frozen=True)
class Sigmas:
    """A schedule and the part of it that is used."""

    scheduler: str
    total: int
    start: int
    end: int


@dataclass(frozen=True)
class Guider:
    """Model, prompts and cfg of a custom sampler."""

    model: Model
    positive: str
    negative: str
    cfg: float


@dataclass(frozen=True)
class Work:
    """What a node costs. ``seconds`` are at speed 1; ``fixed`` seconds pass at any speed; ``steps`` > 0 report progress."""

    seconds: float = 0.0
    steps: int = 0
    fixed: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """A node evaluated: its outputs and work, or the error it raises when its turn comes."""

    outputs: tuple[Any, ...] = ()
    work: Work = Work()
    error: Exception | None = None


class OutOfMemory(RuntimeError):
    """Stands for ``torch.OutOfMemoryError``."""


def _video_latent(width: int, height: int, length: int, grid: int) -> Latent:
    """Sizes fall to the latent grid, lengths to 4n + 1, as the real latent shapes make them."""
    return Latent(max(grid, width // grid * grid), max(grid, height // grid * grid), (max(1, length) - 1) // 4 * 4 + 1)


def _sample(latent: Latent, new: Pass) -> Outcome:
    cost = new.steps * latent.width * latent.height * latent.frames * SECONDS_PER_STEP_PIXEL * SAMPLING_SHARE
    done = replace(latent, passes=(*latent.passes, new))
    return Outcome((done, done), Work(cost, new.steps))


def _ksampler(i: Mapping[str, Any]) -> Outcome:
    steps = int(i["steps"])
    start = steps - max(1, round(steps * float(i["denoise"]))) if i["denoise"] < 1 else 0
    new = Pass(i["model"], steps, start, steps, i["cfg"], i["sampler_name"], i["scheduler"], i["seed"], i["positive"], i["negative"])
    return _sample(i["latent_image"], new)


def _ksampler_advanced(i: Mapping[str, Any]) -> Outcome:
    steps = int(i["steps"])
    start, end = min(i["start_at_step"], steps), min(i["end_at_step"], steps)
    noise = i["add_noise"] == "enable"
    ends = (steps, start, max(start, end))
    new = Pass(i["model"], *ends, i["cfg"], i["sampler_name"], i["scheduler"], i["noise_seed"], i["positive"], i["negative"], noise)
    return _sample(i["latent_image"], new)


def _custom(latent: Latent, guider: Guider, sigmas: Sigmas, sampler: str, seed: int, noise: bool) -> Outcome:
    ends = (sigmas.total, sigmas.start, sigmas.end)
    return _sample(latent, Pass(guider.model, *ends, guider.cfg, sampler, sigmas.scheduler, seed, guider.positive, guider.negative, noise))


def _split(i: Mapping[str, Any]) -> Outcome:
    s: Sigmas = i["sigmas"]
    cut = min(s.end, s.start + int(i["step"]))
    return Outcome((replace(s, end=cut), replace(s, start=cut)))


def _decode(i: Mapping[str, Any]) -> Outcome:
    latent: Latent = i["samples"]
    images = Images(latent, latent.width, latent.height, latent.frames)
    return Outcome((images,), Work(_clip_seconds(images) * DECODING_SHARE))


def _clip_seconds(images: Images) -> float:
    """Seconds at speed 1 of the whole job that makes these images."""
    steps = sum(one.steps for one in images.latent.passes) if images.latent else 0
    return max(1, steps) * images.width * images.height * images.frames * SECONDS_PER_STEP_PIXEL


def _save(images: Images) -> Outcome:
    return Outcome((), Work(_clip_seconds(images) * SAVING_SHARE))


def _lab_raise(i: Mapping[str, Any]) -> Outcome:
    kinds: dict[str, type[Exception]] = {"ValueError": ValueError, "RuntimeError": RuntimeError, "KeyError": KeyError, "OOM": OutOfMemory}
    if i["kind"] in kinds:
        return Outcome((i["images"],), error=kinds[i["kind"]](i["message"]))
    return Outcome((i["images"],))


def _lab_slow(i: Mapping[str, Any]) -> Outcome:
    return Outcome((i["samples"],), Work(0.0, max(1, int(i["seconds"] * 4)), fixed=float(i["seconds"])))


def _loaded_image() -> Outcome:
    picture = Images(None, 512, 512, 1)
    return Outcome((picture, picture))


def _with_lora(i: Mapping[str, Any]) -> Outcome:
    model: Model = i["model"]
    return Outcome((replace(model, loras=(*model.loras, (i["lora_name"], i["strength_model"]))),))


RUN: dict[str, Callable[[Mapping[str, Any]], Outcome]] = {
    "UNETLoader": lambda i: Outcome((Model(i["unet_name"]),)),
    "CLIPLoader": lambda i: Outcome((i["clip_name"],)),
    "VAELoader": lambda i: Outcome((i["vae_name"],)),
    "CLIPVisionLoader": lambda i: Outcome((i["clip_name"],)),
    "CLIPVisionEncode": lambda i: Outcome(("vision",)),
    "LoadImage": lambda i: _loaded_image(),
    "LoraLoaderModelOnly": _with_lora,
    "ModelSamplingSD3": lambda i: Outcome((i["model"],)),
    "ModelSamplingAuraFlow": lambda i: Outcome((i["model"],)),
    "CFGZeroStar": lambda i: Outcome((i["model"],)),
    "CLIPTextEncode": lambda i: Outcome((i["text"],)),
    "ConditioningZeroOut": lambda i: Outcome(("",)),
    "EmptyHunyuanLatentVideo": lambda i: Outcome((_video_latent(i["width"], i["height"], i["length"], 8),)),
    "Wan22ImageToVideoLatent": lambda i: Outcome((_video_latent(i["width"], i["height"], i["length"], 16),)),
    "WanImageToVideo": lambda i: Outcome((i["positive"], i["negative"], _video_latent(i["width"], i["height"], i["length"], 8))),
    "EmptyLatentImage": lambda i: Outcome((_video_latent(i["width"], i["height"], 1, 8),)),
    "KSampler": _ksampler,
    "KSamplerAdvanced": _ksampler_advanced,
    "SamplerCustomAdvanced": lambda i: _custom(i["latent_image"], i["guider"], i["sigmas"], i["sampler"], *i["noise"]),
    "SamplerCustom": lambda i: _custom(
        i["latent_image"],
        Guider(i["model"], i["positive"], i["negative"], i["cfg"]),
        i["sigmas"],
        i["sampler"],
        i["noise_seed"],
        i["add_noise"],
    ),
    "BasicScheduler": lambda i: Outcome((Sigmas(i["scheduler"], i["steps"], i["steps"] - round(i["steps"] * i["denoise"]), i["steps"]),)),
    "SplitSigmas": _split,
    "KSamplerSelect": lambda i: Outcome((i["sampler_name"],)),
    "RandomNoise": lambda i: Outcome(((i["noise_seed"], True),)),
    "DisableNoise": lambda i: Outcome(((0, False),)),
    "CFGGuider": lambda i: Outcome((Guider(i["model"], i["positive"], i["negative"], i["cfg"]),)),
    "BasicGuider": lambda i: Outcome((Guider(i["model"], i["conditioning"], "", 1.0),)),
    "VAEDecode": _decode,
    "VAEDecodeTiled": _decode,
    "CreateVideo": lambda i: Outcome((Video(i["images"], float(i["fps"])),)),
    "SaveVideo": lambda i: _save(i["video"].images),
    "VHS_VideoCombine": lambda i: _save(i["images"]),
    "SaveImage": lambda i: _save(i["images"]),
    "PreviewImage": lambda i: _save(i["images"]),
    "PrimitiveString": lambda i: Outcome((i["value"],)),
    "PrimitiveStringMultiline": lambda i: Outcome((i["value"],)),
    "PrimitiveInt": lambda i: Outcome((i["value"],)),
    "PrimitiveFloat": lambda i: Outcome((i["value"],)),
    "StringConcatenate": lambda i: Outcome((i["delimiter"].join((i["string_a"], i["string_b"])),)),
    "LabRaise": _lab_raise,
    "LabSlow": _lab_slow,
}


def execution_order(prompt: Mapping[str, Any], outputs: list[str]) -> list[str]:
    """Nodes the ``outputs`` need, each after all it depends on. The prompt must be valid (no cycles)."""
    order: list[str] = []
    seen: set[str] = set()
    for output in outputs:
        stack = [(output, False)]
        while stack:
            node_id, ready = stack.pop()
            if ready:
                order.append(node_id)
            elif node_id not in seen:
                seen.add(node_id)
                stack.append((node_id, True))
                stack.extend((source, False) for source in reversed(links(prompt[node_id])) if source not in seen)
    return order


def evaluate(prompt: Mapping[str, Any], order: list[str]) -> dict[str, Outcome]:
    """Outcome of every node in ``order``. A node behind one that raises is left out."""
    done: dict[str, Outcome] = {}
    for node_id in order:
        node = prompt[node_id]
        if any(source not in done or done[source].error for source in links(node)):
            continue
        values = {}
        for name, value in node["inputs"].items():
            linked = isinstance(value, list) and len(value) == 2 and value[0] in done
            values[name] = done[value[0]].outputs[value[1]] if linked else value
        try:
            done[node_id] = RUN[node["class_type"]](values)
        except (AttributeError, TypeError, ValueError, KeyError) as error:  # a value of the wrong kind: an error when its turn comes
            done[node_id] = Outcome(error=error)
    return done


def signatures(prompt: Mapping[str, Any], order: list[str]) -> dict[str, str]:
    """Cache key of every node: its class, values and the keys of what it depends on. Node ids do not count."""
    keys: dict[str, str] = {}
    for node_id in order:
        node = prompt[node_id]
        parts = []
        for name, value in sorted(node["inputs"].items()):
            linked = isinstance(value, list) and len(value) == 2 and value[0] in keys
            parts.append([name, [keys[value[0]], value[1]] if linked else [repr(value)]])
        text = json.dumps([node["class_type"], parts])
        keys[node_id] = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return keys
