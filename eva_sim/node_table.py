"""The node classes the simulator knows, as ``/object_info`` describes them.

The schemas (input names, types, limits, defaults) are facts of ComfyUI 0.8.0's own nodes and of VideoHelperSuite
(https://github.com/Kosinkadink/ComfyUI-VideoHelperSuite); the table is our own. Two generations of answers exist and both
are kept: classic classes list choices as ``[[...]]``, newer ones as ``["COMBO", {"options": [...]}]`` and carry more keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eva_sim import names

BIG_SEED = 18446744073709551615
MAX_SIZE = 16384

Input = tuple[str, list[Any]]


def _int(name: str, default: int | None, low: int, high: int, **more: Any) -> Input:
    config: dict[str, Any] = {} if default is None else {"default": default}
    return name, ["INT", {**config, "min": low, "max": high, **more}]


def _float(name: str, default: float | None, low: float, high: float, step: float, **more: Any) -> Input:
    config: dict[str, Any] = {} if default is None else {"default": default}
    return name, ["FLOAT", {**config, "min": low, "max": high, "step": step, **more}]


def _string(name: str, default: str | None = None, multiline: bool = False, **more: Any) -> Input:
    config: dict[str, Any] = {"multiline": multiline, **more}
    if default is not None:
        config["default"] = default
    return name, ["STRING", config]


def _bool(name: str, default: bool) -> Input:
    return name, ["BOOLEAN", {"default": default}]


def _list(name: str, options: Sequence[str], **config: Any) -> Input:
    """Choices in the classic form."""
    return name, [list(options), config] if config else [list(options)]


def _combo(name: str, options: Sequence[str], **config: Any) -> Input:
    """Choices in the newer form."""
    return name, ["COMBO", {**config, "multiselect": False, "options": list(options)}]


def _link(name: str, kind: str, empty_config: bool = False) -> Input:
    return name, [kind, {}] if empty_config else [kind]


def _size(width: int, height: int, length: int | None, step: int = 16) -> list[Input]:
    inputs = [_int("width", width, step, MAX_SIZE, step=step), _int("height", height, step, MAX_SIZE, step=step)]
    if length is not None:
        inputs.append(_int("length", length, 1, MAX_SIZE, step=4))
    return [*inputs, _int("batch_size", 1, 1, 4096)]


_SEED = {"control_after_generate": True}
_CFG = _float("cfg", 8.0, 0.0, 100.0, 0.1, round=0.01)
_STEPS = _int("steps", 20, 1, 10000)
_DENOISE = _float("denoise", 1.0, 0.0, 1.0, 0.01)
_SAVE_HIDDEN_V1 = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
_SAVE_HIDDEN_V3 = {"prompt": ["PROMPT"], "extra_pnginfo": ["EXTRA_PNGINFO"]}


def _node(
    name: str,
    required: Sequence[Input],
    outputs: Sequence[str | tuple[str, str]],
    *,
    display: str | None = None,
    module: str = "nodes",
    category: str = "",
    optional: Sequence[Input] = (),
    hidden: dict[str, Any] | None = None,
    output_node: bool = False,
    experimental: bool = False,
    description: str = "",
) -> dict[str, Any]:
    """One entry of ``/object_info``. ``outputs``: types, or (type, slot name)."""
    types = [out if isinstance(out, str) else out[0] for out in outputs]
    labels = [out if isinstance(out, str) else out[1] for out in outputs]
    inputs: dict[str, Any] = {"required": dict(required)}
    if optional:
        inputs["optional"] = dict(optional)
    if hidden:
        inputs["hidden"] = dict(hidden)
    newer = module.startswith("comfy_extras.") and module != "comfy_extras.nodes_model_advanced"
    entry: dict[str, Any] = {
        "input": inputs,
        "input_order": {group: list(members) for group, members in inputs.items()},
        "output": types,
        "output_is_list": [False] * len(types),
        "output_name": labels,
        "name": name,
        "display_name": display if display or newer else name,
        "description": description,
        "python_module": module,
        "category": category,
        "output_node": output_node,
    }
    if newer:
        entry.update(output_tooltips=[None] * len(types), output_matchtypes=None)
        entry.update(deprecated=False, experimental=experimental, api_node=False)
    return entry


def _loaders() -> list[dict[str, Any]]:
    return [
        _node(
            "UNETLoader",
            [_list("unet_name", names.DIFFUSION_MODELS), _list("weight_dtype", ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"))],
            ["MODEL"],
            display="Load Diffusion Model",
            category="advanced/loaders",
        ),
        _node(
            "CLIPLoader",
            [_list("clip_name", names.TEXT_ENCODERS), _list("type", names.CLIP_TYPES)],
            ["CLIP"],
            optional=[_list("device", ("default", "cpu"), advanced=True)],
            display="Load CLIP",
            category="advanced/loaders",
        ),
        _node("VAELoader", [_list("vae_name", names.VAES)], ["VAE"], display="Load VAE", category="loaders"),
        _node(
            "LoraLoaderModelOnly",
            [_link("model", "MODEL"), _list("lora_name", names.LORAS), _float("strength_model", 1.0, -100.0, 100.0, 0.01)],
            ["MODEL"],
            category="loaders",
        ),
        _node("CLIPVisionLoader", [_list("clip_name", names.CLIP_VISION)], ["CLIP_VISION"], display="Load CLIP Vision", category="loaders"),
        _node(
            "CLIPVisionEncode",
            [_link("clip_vision", "CLIP_VISION"), _link("image", "IMAGE"), _list("crop", ("center", "none"))],
            ["CLIP_VISION_OUTPUT"],
            display="CLIP Vision Encode",
            category="conditioning",
        ),
        _node(
            "LoadImage", [_list("image", ("example.png",), image_upload=True)], ["IMAGE", "MASK"], display="Load Image", category="image"
        ),
    ]


def _conditioning() -> list[dict[str, Any]]:
    wan, video = "comfy_extras.nodes_wan", "latent/video"
    model = "comfy_extras.nodes_model_advanced"
    return [
        _node(
            "CLIPTextEncode",
            [_string("text", None, True, dynamicPrompts=True), _link("clip", "CLIP")],
            ["CONDITIONING"],
            display="CLIP Text Encode (Prompt)",
            category="conditioning",
        ),
        _node("ConditioningZeroOut", [_link("conditioning", "CONDITIONING")], ["CONDITIONING"], category="advanced/conditioning"),
        _node(
            "ModelSamplingSD3",
            [_link("model", "MODEL"), _float("shift", 3.0, 0.0, 100.0, 0.01)],
            ["MODEL"],
            module=model,
            category="advanced/model",
        ),
        _node(
            "ModelSamplingAuraFlow",
            [_link("model", "MODEL"), _float("shift", 1.73, 0.0, 100.0, 0.01)],
            ["MODEL"],
            module=model,
            category="advanced/model",
        ),
        _node(
            "CFGZeroStar",
            [_link("model", "MODEL", True)],
            [("MODEL", "patched_model")],
            module="comfy_extras.nodes_cfg",
            category="advanced/guidance",
        ),
        _node(
            "EmptyHunyuanLatentVideo",
            _size(848, 480, 25),
            ["LATENT"],
            display="Empty HunyuanVideo 1.0 Latent",
            module="comfy_extras.nodes_hunyuan",
            category=video,
        ),
        _node(
            "Wan22ImageToVideoLatent",
            [_link("vae", "VAE", True), *_size(1280, 704, 49, 32)],
            ["LATENT"],
            optional=[_link("start_image", "IMAGE", True)],
            module=wan,
            category="conditioning/inpaint",
        ),
        _node(
            "WanImageToVideo",
            [
                _link("positive", "CONDITIONING", True),
                _link("negative", "CONDITIONING", True),
                _link("vae", "VAE", True),
                *_size(832, 480, 81),
            ],
            [("CONDITIONING", "positive"), ("CONDITIONING", "negative"), ("LATENT", "latent")],
            optional=[_link("clip_vision_output", "CLIP_VISION_OUTPUT", True), _link("start_image", "IMAGE", True)],
            module=wan,
            category="conditioning/video_models",
        ),
        _node("EmptyLatentImage", _size(512, 512, None, 8), ["LATENT"], display="Empty Latent Image", category="latent"),
    ]


def _samplers() -> list[dict[str, Any]]:
    custom = "comfy_extras.nodes_custom_sampler"
    cond = [_link("positive", "CONDITIONING"), _link("negative", "CONDITIONING")]
    cond_v3 = [_link("positive", "CONDITIONING", True), _link("negative", "CONDITIONING", True)]
    latent, latent_v3 = _link("latent_image", "LATENT"), _link("latent_image", "LATENT", True)
    lists = [_list("sampler_name", names.SAMPLERS), _list("scheduler", names.SCHEDULERS)]
    seed = _int("seed", 0, 0, BIG_SEED, **_SEED)
    noise_seed = _int("noise_seed", 0, 0, BIG_SEED, **_SEED)
    sampler, sigmas = _link("sampler", "SAMPLER", True), _link("sigmas", "SIGMAS", True)
    two_latents = [("LATENT", "output"), ("LATENT", "denoised_output")]
    ends = [_int("start_at_step", 0, 0, 10000), _int("end_at_step", 10000, 0, 10000)]
    here: dict[str, Any] = {"module": custom, "category": "sampling/custom_sampling"}
    return [
        _node("KSampler", [_link("model", "MODEL"), seed, _STEPS, _CFG, *lists, *cond, latent, _DENOISE], ["LATENT"], category="sampling"),
        _node(
            "KSamplerAdvanced",
            [
                _link("model", "MODEL"),
                _list("add_noise", ("enable", "disable")),
                noise_seed,
                _STEPS,
                _CFG,
                *lists,
                *cond,
                latent,
                *ends,
                _list("return_with_leftover_noise", ("disable", "enable")),
            ],
            ["LATENT"],
            display="KSampler (Advanced)",
            category="sampling",
        ),
        _node(
            "SamplerCustomAdvanced",
            [_link("noise", "NOISE", True), _link("guider", "GUIDER", True), sampler, sigmas, latent_v3],
            two_latents,
            **here,
        ),
        _node(
            "SamplerCustom",
            [_link("model", "MODEL", True), _bool("add_noise", True), noise_seed, _CFG, *cond_v3, sampler, sigmas, latent_v3],
            two_latents,
            **here,
        ),
        _node(
            "BasicScheduler", [_link("model", "MODEL", True), _combo("scheduler", names.SCHEDULERS), _STEPS, _DENOISE], ["SIGMAS"], **here
        ),
        _node("SplitSigmas", [sigmas, _int("step", 0, 0, 10000)], [("SIGMAS", "high_sigmas"), ("SIGMAS", "low_sigmas")], **here),
        _node("KSamplerSelect", [_combo("sampler_name", names.SAMPLERS)], ["SAMPLER"], **here),
        _node("RandomNoise", [noise_seed], ["NOISE"], **here),
        _node("DisableNoise", [], ["NOISE"], **here),
        _node("CFGGuider", [_link("model", "MODEL", True), *cond_v3, _CFG], ["GUIDER"], **here),
        _node("BasicGuider", [_link("model", "MODEL", True), _link("conditioning", "CONDITIONING", True)], ["GUIDER"], **here),
    ]


def _decoding_and_saving() -> list[dict[str, Any]]:
    video = "comfy_extras.nodes_video"
    tiles = [_int("tile_size", 512, 64, 4096, step=32), _int("overlap", 64, 0, 4096, step=32)]
    tiles += [_int("temporal_size", 64, 8, 4096, step=4), _int("temporal_overlap", 8, 4, 4096, step=4)]
    vhs_formats = ("image/gif", "image/webp", "video/h264-mp4", "video/h265-mp4", "video/webm")
    return [
        _node("VAEDecode", [_link("samples", "LATENT"), _link("vae", "VAE")], ["IMAGE"], display="VAE Decode", category="latent"),
        _node(
            "VAEDecodeTiled",
            [_link("samples", "LATENT"), _link("vae", "VAE"), *tiles],
            ["IMAGE"],
            display="VAE Decode (Tiled)",
            category="_for_testing",
        ),
        _node(
            "CreateVideo",
            [_link("images", "IMAGE", True), _float("fps", 30.0, 1.0, 120.0, 1.0)],
            ["VIDEO"],
            optional=[_link("audio", "AUDIO", True)],
            display="Create Video",
            module=video,
            category="image/video",
        ),
        _node(
            "SaveVideo",
            [
                _link("video", "VIDEO", True),
                _string("filename_prefix", "video/ComfyUI"),
                _combo("format", ("auto", "mp4"), default="auto"),
                _combo("codec", ("auto", "h264"), default="auto"),
            ],
            [],
            hidden=_SAVE_HIDDEN_V3,
            display="Save Video",
            module=video,
            category="image/video",
            output_node=True,
        ),
        _node(
            "VHS_VideoCombine",
            [
                _link("images", "IMAGE"),
                _float("frame_rate", 8.0, 1.0, 1000.0, 1.0),
                _int("loop_count", 0, 0, 100, step=1),
                _string("filename_prefix", "AnimateDiff"),
                _list("format", vhs_formats),
                _bool("pingpong", False),
                _bool("save_output", True),
            ],
            [("VHS_FILENAMES", "Filenames")],
            optional=[_link("audio", "AUDIO"), _link("meta_batch", "VHS_BatchManager"), _link("vae", "VAE")],
            hidden={**_SAVE_HIDDEN_V1, "unique_id": "UNIQUE_ID"},
            display="Video Combine (VHS)",
            module="custom_nodes.comfyui-videohelpersuite",
            category="Video Helper Suite",
            output_node=True,
        ),
        _node(
            "SaveImage",
            [_link("images", "IMAGE"), _string("filename_prefix", "ComfyUI")],
            [],
            hidden=_SAVE_HIDDEN_V1,
            display="Save Image",
            category="image",
            output_node=True,
        ),
        _node(
            "PreviewImage",
            [_link("images", "IMAGE")],
            [],
            hidden=_SAVE_HIDDEN_V1,
            display="Preview Image",
            category="image",
            output_node=True,
        ),
    ]


def _values_and_tests() -> list[dict[str, Any]]:
    prim, text = "comfy_extras.nodes_primitive", "comfy_extras.nodes_string"
    far = 9223372036854775807
    kinds = ("ValueError", "RuntimeError", "KeyError", "OOM", "none")
    return [
        _node("PrimitiveString", [_string("value")], ["STRING"], display="String", module=prim, category="utils/primitive"),
        _node(
            "PrimitiveStringMultiline",
            [_string("value", None, True)],
            ["STRING"],
            display="String (Multiline)",
            module=prim,
            category="utils/primitive",
        ),
        _node("PrimitiveInt", [_int("value", None, -far, far, **_SEED)], ["INT"], display="Int", module=prim, category="utils/primitive"),
        _node(
            "PrimitiveFloat", [_float("value", None, -far, far, 0.1)], ["FLOAT"], display="Float", module=prim, category="utils/primitive"
        ),
        _node(
            "StringConcatenate",
            [_string("string_a", None, True), _string("string_b", None, True), _string("delimiter", "")],
            ["STRING"],
            display="Concatenate",
            module=text,
            category="utils/string",
        ),
        # Two small nodes for tests of errors and interrupts, the same as the toy nodes a laboratory server may carry.
        _node(
            "LabRaise",
            [_link("images", "IMAGE"), _list("kind", kinds), ("message", ["STRING", {"default": "lab: deliberate failure"}])],
            ["IMAGE"],
            display="Lab: LabRaise",
            module="custom_nodes.lab_nodes",
            category="lab",
        ),
        _node(
            "LabSlow",
            [_link("samples", "LATENT"), _float("seconds", 5.0, 0.0, 600.0, 0.1), _int("tag", 0, 0, 1 << 53)],
            ["LATENT"],
            display="Lab: LabSlow",
            module="custom_nodes.lab_nodes",
            category="lab",
        ),
    ]


def object_info() -> dict[str, dict[str, Any]]:
    """The whole table, by class name; a fresh copy on every call."""
    entries = [*_loaders(), *_conditioning(), *_samplers(), *_decoding_and_saving(), *_values_and_tests()]
    return {entry["name"]: entry for entry in entries}
