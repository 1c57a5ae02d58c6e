"""Roles: which node of a workflow carries the prompt, the steps, the size, the frame rate, the file name.

They are found by following links upstream from the node that writes the video, never by node number or title, so any
text-to-video graph works: one sampler or several, classic or custom sampling, CreateVideo or VideoHelperSuite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eva_env_base import WorkflowError
from eva_p1.workflow_graph import Field, as_link, class_of, inputs_of, links_of, run_order, title_of, upstream
from eva_p1.workflow_trace import NoText, follow_conditioning, follow_scalar

LENGTH_INPUTS = ("length", "num_frames", "video_frames", "frames", "frame_count", "max_frames", "video_length")
FPS_INPUTS = ("fps", "frame_rate")
SEED_INPUTS = ("noise_seed", "seed")
_NOT_BEHIND = ("model", "clip", "vae", "positive", "negative", "conditioning", "latent_image", "samples")
REQUIRED_ROLES = {
    "positive prompt": "a text encoder (such as CLIPTextEncode) linked to the sampler's positive input",
    "negative prompt": "a text encoder linked to the sampler's negative input",
    "sampler": "a sampler (such as KSampler, KSamplerAdvanced or SamplerCustomAdvanced) upstream of the saved video",
    "latent": "a node with width, height and length (such as EmptyHunyuanLatentVideo) upstream of the sampler",
    "video": "a node that makes a video from images (such as CreateVideo or VHS_VideoCombine)",
    "save": "a node that writes a video file (such as SaveVideo or VHS_VideoCombine)",
}


@dataclass(frozen=True)
class Sampler:
    """One sampling stage, in run order. Each field says where that value is set, ``None`` where the stage has no such value."""

    node: str
    class_type: str
    seed: Field | None = None
    steps: Field | None = None
    cfg: Field | None = None
    sampler: Field | None = None
    scheduler: Field | None = None
    start: Field | None = None
    end: Field | None = None
    split: Field | None = None  # SplitSigmas.step
    adds_noise: bool = True


@dataclass(frozen=True)
class Latent:
    """Where the size (pixels) and the number of frames are set. ``step``: frames come in ``step * n + 1``."""

    node: str
    width: Field
    height: Field
    length: Field | None
    step: int = 4


@dataclass(frozen=True)
class Roles:
    """What :func:`find_roles` found. ``not_settable`` gives the reason for each parameter this workflow cannot be given."""

    save: str | None = None
    prefix: Field | None = None
    extra_saves: tuple[Field, ...] = ()
    video: str | None = None
    fps: tuple[Field, ...] = ()
    samplers: tuple[Sampler, ...] = ()
    latent: Latent | None = None
    positives: tuple[Field, ...] = ()
    negatives: tuple[Field, ...] = ()
    first_frame: Field | None = None
    frame_multiplier: int = 1
    missing: tuple[str, ...] = ()
    not_settable: Mapping[str, str] = field(default_factory=dict)

    @property
    def positive(self) -> Field | None:
        """``(node id, input name)`` of the positive prompt's text."""
        return self.positives[0] if self.positives else None

    @property
    def negative(self) -> Field | None:
        """``(node id, input name)`` of the negative prompt's text, ``None`` where the graph has none."""
        return self.negatives[0] if self.negatives else None

    @property
    def settable(self) -> set[str]:
        """Names of the parameters this workflow can be given."""
        have: dict[str, Any] = {
            "prompt": self.positives,
            "negative_prompt": self.negatives,
            "sampler": any(s.sampler for s in self.samplers),
            "scheduler": any(s.scheduler for s in self.samplers),
            "steps": any(s.steps for s in self.samplers),
            "cfg_scale": any(s.cfg for s in self.samplers),
            "seed": any(s.seed and s.adds_noise for s in self.samplers),
            "fps": self.fps,
            "width": self.latent,
            "height": self.latent,
            "seconds": self.latent and self.latent.length,
            "prefix": self.prefix,
            "first_frame": self.first_frame,
        }
        return {name for name, found in have.items() if found}

    def require(self, name: str = "the workflow") -> Roles:
        """Returns itself, or raises :class:`WorkflowError` naming every role that is missing."""
        if self.missing:
            lacking = "; ".join(f"{role}: {REQUIRED_ROLES[role]}" for role in self.missing)
            raise WorkflowError(f"{name} cannot be driven, it lacks {len(self.missing)} role(s): {lacking}")
        return self


class _Tracker:
    """Finds where scalars are set, and notices a value node that feeds inputs of different kinds (a width and a height, say).

    Such a node cannot hold both values: it goes to ``shared``, and a tracker that is told so answers with the reading input
    itself, where a literal then replaces the link.
    """

    def __init__(self, graph: Mapping[str, Any], shared: frozenset[Field] = frozenset()):
        self.graph = graph
        self.blocked = shared
        self._kinds: dict[Field, set[str]] = {}

    def scalar(self, kind: str, node_id: str, *names: str) -> Field | None:
        for name in names:
            if name in inputs_of(self.graph, node_id):
                found = follow_scalar(self.graph, node_id, name)
                if found in self.blocked:
                    found = Field(node_id, name)
                self._kinds.setdefault(found, set()).add(kind)
                return found
        return None

    @property
    def shared(self) -> frozenset[Field]:
        return frozenset(place for place, kinds in self._kinds.items() if len(kinds) > 1)


def find_roles(graph: Mapping[str, Any], object_info: Mapping[str, Any] | None = None) -> Roles:
    """Finds the roles of an API-format graph. Never raises for a missing role: see ``missing`` and :meth:`Roles.require`.

    ``object_info`` (the server's) sharpens two things: which nodes are outputs, and the step of the frame count.
    """
    track = _Tracker(graph)
    roles = _find(graph, object_info, track)
    return _find(graph, object_info, _Tracker(graph, track.shared)) if track.shared else roles


def _find(graph: Mapping[str, Any], object_info: Mapping[str, Any] | None, track: _Tracker) -> Roles:
    missing: list[str] = []
    not_settable: dict[str, str] = {}
    saves = _save_nodes(graph, object_info)
    save = saves[0] if saves else None
    above = upstream(graph, save) if save else list(graph)
    video = next((n for n in above if _makes_video(graph, n)), None)
    if video is None:
        missing.append("video")
        above = list(graph)  # one broken wire must not be reported as if everything were missing
    sampler_nodes = run_order(graph, [node_id for node_id in above if _is_sampler(graph, node_id)])
    if not sampler_nodes:
        missing.append("sampler")
        above = list(graph)
        sampler_nodes = run_order(graph, [node_id for node_id in above if _is_sampler(graph, node_id)])
    if save is None:
        missing.append("save")
    samplers = tuple(_sampler(graph, node_id, track) for node_id in sampler_nodes)
    positives, negatives = _prompts(graph, sampler_nodes, missing, not_settable)
    latent = _latent(graph, sampler_nodes, above, object_info, track)
    fps_nodes = [n for n in above if n not in sampler_nodes and not class_of(graph, n).lower().startswith(("load", "vhs_load"))]
    fps = tuple(dict.fromkeys(f for n in fps_nodes if (f := track.scalar("fps", n, *FPS_INPUTS))))

    if latent is None and sampler_nodes:
        missing.append("latent")
    roles = Roles(
        save=save,
        prefix=Field(save, "filename_prefix") if save else None,
        extra_saves=tuple(Field(n, "filename_prefix") for n in saves[1:]),
        video=video,
        fps=fps,
        samplers=samplers,
        latent=latent,
        positives=positives,
        negatives=negatives,
        first_frame=_first_frame(graph, above),
        frame_multiplier=_multiplier(graph, above, set(sampler_nodes)),
        missing=tuple(role for role in REQUIRED_ROLES if role in missing),
        not_settable=not_settable,
    )
    for name, where in (("sampler", "a sampler name"), ("scheduler", "a scheduler"), ("steps", "a number of steps"), ("cfg_scale", "a cfg"),
                        ("seed", "a noise seed"), ("fps", "a frame rate"), ("seconds", "a number of frames")):  # fmt: skip
        if name not in roles.settable and not roles.missing:
            not_settable[name] = f"no node of this workflow has {where} to set"
    return roles


def _save_nodes(graph: Mapping[str, Any], object_info: Mapping[str, Any] | None) -> list[str]:
    """Nodes that write a video file, the one fed by most samplers first."""
    found = []
    for node_id in graph:
        inputs = inputs_of(graph, node_id)
        name = class_of(graph, node_id)
        if "filename_prefix" not in inputs:
            continue
        if object_info and name in object_info and not object_info[name].get("output_node", True):
            continue
        writes_video = "video" in inputs or any(key in inputs for key in FPS_INPUTS) or "video" in name.lower()
        if writes_video:
            found.append(node_id)

    def rank(node_id: str) -> tuple[bool, int]:
        samplers = sum(_is_sampler(graph, n) for n in upstream(graph, node_id))
        return inputs_of(graph, node_id).get("save_output") is False, -samplers

    return sorted(found, key=rank)


def _is_sampler(graph: Mapping[str, Any], node_id: str) -> bool:
    inputs = inputs_of(graph, node_id)
    if {"noise", "guider", "sampler", "sigmas"} <= inputs.keys():  # SamplerCustomAdvanced
        return True
    if {"sampler", "sigmas"} <= inputs.keys() and any(name in inputs for name in SEED_INPUTS):  # SamplerCustom
        return True
    return "steps" in inputs and any(name in inputs for name in SEED_INPUTS) and any(
        name in inputs for name in ("model", "positive", "text_embeds", "latent_image", "samples"))  # fmt: skip


def _sampler(graph: Mapping[str, Any], node_id: str, track: _Tracker) -> Sampler:
    """Reads one sampling stage, through its noise, guider, sampler and sigmas nodes where it has them."""
    inputs = inputs_of(graph, node_id)

    def behind(kind: str, name: str, *wanted: str) -> Field | None:
        """The nearest node with a ``wanted`` input, following ``name`` but leaving models and conditionings aside."""
        link = as_link(inputs.get(name))
        queue = [link[0]] if link and link[0] in graph else []
        for source in queue:
            found = track.scalar(kind, source, *wanted)
            if found:
                return found
            queue += [s for n, s, _ in links_of(graph, source) if n not in _NOT_BEHIND and s not in queue and not _is_sampler(graph, s)]
        return None

    adds_noise = inputs.get("add_noise") not in ("disable", False)
    seed = track.scalar("seed", node_id, *SEED_INPUTS)
    if "noise" in inputs:
        seed = behind("seed", "noise", *SEED_INPUTS)
        adds_noise = seed is not None
    return Sampler(
        node=node_id,
        class_type=class_of(graph, node_id),
        seed=seed,
        steps=track.scalar("steps", node_id, "steps") or behind("steps", "sigmas", "steps"),
        cfg=track.scalar("cfg", node_id, "cfg", "cfg_scale") or behind("cfg", "guider", "cfg", "cfg_conds", "cfg_scale"),
        sampler=track.scalar("sampler", node_id, "sampler_name") or behind("sampler", "sampler", "sampler_name"),
        scheduler=track.scalar("scheduler", node_id, "scheduler") or behind("scheduler", "sigmas", "scheduler"),
        start=track.scalar("hand-over", node_id, "start_at_step", "start_step"),
        end=track.scalar("hand-over", node_id, "end_at_step", "end_step"),
        split=behind("hand-over", "sigmas", "step"),
        adds_noise=adds_noise,
    )


def _prompts(graph: Mapping[str, Any], sampler_nodes: list[str], missing: list[str],
             not_settable: dict[str, str]) -> tuple[tuple[Field, ...], tuple[Field, ...]]:  # fmt: skip
    """Positive and negative texts of all samplers. A wire that is absent is a missing role; a text that cannot matter is only reported."""
    found: dict[str, dict[Field, None]] = {"positive": {}, "negative": {}}
    reasons: dict[str, str] = {}
    for node_id in sampler_nodes:
        inputs = inputs_of(graph, node_id)
        guider = as_link(inputs.get("guider"))
        holder = guider[0] if guider and guider[0] in graph else node_id
        holder_inputs = inputs_of(graph, holder)
        for role in found:
            names = [role, "conditioning", "cond1"] if role == "positive" else [role]
            name = next((n for n in (*names, "text_embeds") if n in holder_inputs), None)
            link = as_link(holder_inputs.get(name)) if name else None
            if link is None or link[0] not in graph:
                if role == "negative" and holder != node_id and "negative" not in holder_inputs:
                    reasons[role] = f"{class_of(graph, holder)} uses no negative prompt"
                continue
            try:
                found[role].update(dict.fromkeys(follow_conditioning(graph, link[0], role, link[1])))
            except NoText as reason:
                reasons[role] = str(reason)
    if found["negative"] and set(found["negative"]) <= set(found["positive"]):
        found["negative"].clear()
        reasons["negative"] = "the negative input reads the positive prompt's text"
    if not sampler_nodes:  # without a sampler nothing says which prompt is which: the sampler is what is missing
        return (), ()
    if not found["positive"]:
        missing.append("positive prompt")
    if not found["negative"]:
        if "negative" in reasons:
            not_settable["negative_prompt"] = reasons["negative"]
        else:
            missing.append("negative prompt")
    return tuple(found["positive"]), tuple(found["negative"])


def _latent(graph: Mapping[str, Any], sampler_nodes: list[str], above: list[str], object_info: Mapping[str, Any] | None,
            track: _Tracker) -> Latent | None:  # fmt: skip
    """The node with the size and the length: nearest to the first sampler, by its latent input first."""
    first = sampler_nodes[0] if sampler_nodes else None
    near: list[str] = []
    if first:
        for name in ("latent_image", "latent", "samples", "image_embeds"):
            link = as_link(inputs_of(graph, first).get(name))
            if link and link[0] in graph:
                near += upstream(graph, link[0])
        near += upstream(graph, first)
    for length_names in (LENGTH_INPUTS, ("batch_size",)):  # AnimateDiff-style graphs count frames as a batch of images
        for node_id in dict.fromkeys([*near, *above]):
            inputs = inputs_of(graph, node_id)
            if "width" in inputs and "height" in inputs and any(name in inputs for name in length_names):
                width, height = track.scalar("width", node_id, "width"), track.scalar("height", node_id, "height")
                if width is None or height is None:
                    continue
                length = track.scalar("length", node_id, *length_names)
                return Latent(node_id, width, height, length, _length_step(graph, node_id, length_names, object_info))
    return None


def _length_step(graph: Mapping[str, Any], node_id: str, names: tuple[str, ...], object_info: Mapping[str, Any] | None) -> int:
    if "batch_size" in names:
        return 1
    name = class_of(graph, node_id)
    known = (object_info or {}).get(name, {}).get("input", {})
    for group in ("required", "optional"):
        for input_name in names:
            spec = known.get(group, {}).get(input_name)
            if isinstance(spec, list) and len(spec) > 1 and isinstance(spec[1], dict) and spec[1].get("min") == 1:
                return int(spec[1].get("step") or 4)
    return 8 if "LTXV" in name else 4  # the temporal stride of the video VAE: 8 for LTX-Video, 4 for Wan and HunyuanVideo


def _makes_video(graph: Mapping[str, Any], node_id: str) -> bool:
    """Takes images in, and has a frame rate or a video's name."""
    inputs = inputs_of(graph, node_id)
    eats_images = any(as_link(inputs.get(name)) for name in ("images", "image", "frames"))  # even if that link leads nowhere
    return eats_images and (any(name in inputs for name in FPS_INPUTS) or "video" in class_of(graph, node_id).lower())


def _first_frame(graph: Mapping[str, Any], above: list[str]) -> Field | None:
    """The picture an image-to-video graph starts from."""
    for node_id in above:
        for name, source, _ in links_of(graph, node_id):
            if name in ("start_image", "first_frame", "image", "ref_image", "init_image"):
                for loader in upstream(graph, source):
                    if isinstance(inputs_of(graph, loader).get("image"), str):
                        return Field(loader, "image")
    return None


def _multiplier(graph: Mapping[str, Any], above: list[str], samplers: set[str]) -> int:
    """How many frames a frame interpolator makes of one (1 without one)."""
    product = 1
    for node_id in above:
        if node_id in samplers:
            continue
        value = inputs_of(graph, node_id).get("multiplier")
        if isinstance(value, int) and value > 1 and any(name in ("frames", "images", "image") for name, _, _ in links_of(graph, node_id)):
            product *= value
    return product


def describe_roles(graph: Mapping[str, Any], roles: Roles) -> str:
    """The roles as lines for a person."""

    def at(place: Field | None) -> str:
        return "none" if place is None else f"{title_of(graph, place.node)} (node {place.node}), input {place.input}"

    lines = [f"positive prompt  {at(roles.positive)}", f"negative prompt  {at(roles.negative)}"]
    for number, sampler in enumerate(roles.samplers, 1):
        noise = "adds noise" if sampler.adds_noise else "continues"
        lines.append(f"sampler {number}        {title_of(graph, sampler.node)} (node {sampler.node}), {sampler.class_type}, {noise}")
    lines.append(f"latent           {at(roles.latent.width) if roles.latent else 'none'}")
    lines.append(f"video            {title_of(graph, roles.video) + f' (node {roles.video})' if roles.video else 'none'}")
    lines.append(f"save             {at(roles.prefix)}")
    if roles.first_frame:
        lines.append(f"first frame      {at(roles.first_frame)}")
    lines.append(f"can be set       {', '.join(sorted(roles.settable)) or 'nothing'}")
    lines += [f"cannot be set    {name}: {reason}" for name, reason in sorted(roles.not_settable.items())]
    return "\n".join(lines)
