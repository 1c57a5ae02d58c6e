"""The node classes the simulator knows, as ``/object_info`` describes them.

The schemas (input names, types, limits, defaults) are facts of ComfyUI 0.8.0's own nodes and of VideoHelperSuite
(https://github.com/Kosinkadink/ComfyUI-VideoHelperSuite); the table is our own.
"""

from __future__ import annotations

from typing import Any

from eva_sim import names
from eva_sim.node_schema import (
    BIG_SEED,
    bool_input,
    combo_input,
    float_input,
    int_input,
    link_input,
    list_input,
    node,
    size_inputs,
    string_input,
)

_SEED = {"control_after_generate": True}
_CFG = float_input("cfg", 8.0, 0.0, 100.0, 0.1, round=0.01)
_STEPS = int_input("steps", 20, 1, 10000)
_DENOISE = float_input("denoise", 1.0, 0.0, 1.0, 0.01)
_SAVE_HIDDEN_V1 = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
_SAVE_HIDDEN_V3 = {"prompt": ["PROMPT"], "extra_pnginfo": ["EXTRA_PNGINFO"]}


def _loaders() -> list[dict[str, Any]]:
    return [
        node(
            "UNETLoader",
            [
                list_input("unet_name", names.DIFFUSION_MODELS),
                list_input("weight_dtype", ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")),
            ],
            ["MODEL"],
            display="Load Diffusion Model",
            category="advanced/loaders",
        ),
        node(
            "CLIPLoader",
            [list_input("clip_name", names.TEXT_ENCODERS), list_input("type", names.CLIP_TYPES)],
            ["CLIP"],
            optional=[list_input("device", ("default", "cpu"), advanced=True)],
            display="Load CLIP",
            category="advanced/loaders",
        ),
        node("VAELoader", [list_input("vae_name", names.VAES)], ["VAE"], display="Load VAE", category="loaders"),
        node(
            "LoraLoaderModelOnly",
            [link_input("model", "MODEL"), list_input("lora_name", names.LORAS), float_input("strength_model", 1.0, -100.0, 100.0, 0.01)],
            ["MODEL"],
            category="loaders",
        ),
        node(
            "CLIPVisionLoader",
            [list_input("clip_name", names.CLIP_VISION)],
            ["CLIP_VISION"],
            display="Load CLIP Vision",
            category="loaders",
        ),
        node(
            "CLIPVisionEncode",
            [link_input("clip_vision", "CLIP_VISION"), link_input("image", "IMAGE"), list_input("crop", ("center", "none"))],
            ["CLIP_VISION_OUTPUT"],
            display="CLIP Vision Encode",
            category="conditioning",
        ),
        node(
            "LoadImage",
            [list_input("image", ("example.png",), image_upload=True)],
            ["IMAGE", "MASK"],
            display="Load Image",
            category="image",
        ),
    ]


def _conditioning() -> list[dict[str, Any]]:
    wan, video = "comfy_extras.nodes_wan", "latent/video"
    model = "comfy_extras.nodes_model_advanced"
    return [
        node(
            "CLIPTextEncode",
            [string_input("text", None, True, dynamicPrompts=True), link_input("clip", "CLIP")],
            ["CONDITIONING"],
            display="CLIP Text Encode (Prompt)",
            category="conditioning",
        ),
        node("ConditioningZeroOut", [link_input("conditioning", "CONDITIONING")], ["CONDITIONING"], category="advanced/conditioning"),
        node(
            "ModelSamplingSD3",
            [link_input("model", "MODEL"), float_input("shift", 3.0, 0.0, 100.0, 0.01)],
            ["MODEL"],
            module=model,
            category="advanced/model",
        ),
        node(
            "ModelSamplingAuraFlow",
            [link_input("model", "MODEL"), float_input("shift", 1.73, 0.0, 100.0, 0.01)],
            ["MODEL"],
            module=model,
            category="advanced/model",
        ),
        node(
            "CFGZeroStar",
            [link_input("model", "MODEL", True)],
            [("MODEL", "patched_model")],
            module="comfy_extras.nodes_cfg",
            category="advanced/guidance",
        ),
        node(
            "EmptyHunyuanLatentVideo",
            size_inputs(848, 480, 25),
            ["LATENT"],
            display="Empty HunyuanVideo 1.0 Latent",
            module="comfy_extras.nodes_hunyuan",
            category=video,
        ),
        node(
            "Wan22ImageToVideoLatent",
            [link_input("vae", "VAE", True), *size_inputs(1280, 704, 49, 32)],
            ["LATENT"],
            optional=[link_input("start_image", "IMAGE", True)],
            module=wan,
            category="conditioning/inpaint",
        ),
        node(
            "WanImageToVideo",
            [
                link_input("positive", "CONDITIONING", True),
                link_input("negative", "CONDITIONING", True),
                link_input("vae", "VAE", True),
                *size_inputs(832, 480, 81),
            ],
            [("CONDITIONING", "positive"), ("CONDITIONING", "negative"), ("LATENT", "latent")],
            optional=[link_input("clip_vision_output", "CLIP_VISION_OUTPUT", True), link_input("start_image", "IMAGE", True)],
            module=wan,
            category="conditioning/video_models",
        ),
        node("EmptyLatentImage", size_inputs(512, 512, None, 8), ["LATENT"], display="Empty Latent Image", category="latent"),
    ]


def _samplers() -> list[dict[str, Any]]:
    custom = "comfy_extras.nodes_custom_sampler"
    cond = [link_input("positive", "CONDITIONING"), link_input("negative", "CONDITIONING")]
    cond_v3 = [link_input("positive", "CONDITIONING", True), link_input("negative", "CONDITIONING", True)]
    latent, latent_v3 = link_input("latent_image", "LATENT"), link_input("latent_image", "LATENT", True)
    lists = [list_input("sampler_name", names.SAMPLERS), list_input("scheduler", names.SCHEDULERS)]
    seed = int_input("seed", 0, 0, BIG_SEED, **_SEED)
    noise_seed = int_input("noise_seed", 0, 0, BIG_SEED, **_SEED)
    sampler, sigmas = link_input("sampler", "SAMPLER", True), link_input("sigmas", "SIGMAS", True)
    two_latents = [("LATENT", "output"), ("LATENT", "denoised_output")]
    ends = [int_input("start_at_step", 0, 0, 10000), int_input("end_at_step", 10000, 0, 10000)]

    def here(group: str) -> dict[str, Any]:
        return {"module": custom, "category": "sampling/custom_sampling" + group}

    return [
        node(
            "KSampler", [link_input("model", "MODEL"), seed, _STEPS, _CFG, *lists, *cond, latent, _DENOISE], ["LATENT"], category="sampling"
        ),
        node(
            "KSamplerAdvanced",
            [
                link_input("model", "MODEL"),
                list_input("add_noise", ("enable", "disable")),
                noise_seed,
                _STEPS,
                _CFG,
                *lists,
                *cond,
                latent,
                *ends,
                list_input("return_with_leftover_noise", ("disable", "enable")),
            ],
            ["LATENT"],
            display="KSampler (Advanced)",
            category="sampling",
        ),
        node(
            "SamplerCustomAdvanced",
            [link_input("noise", "NOISE", True), link_input("guider", "GUIDER", True), sampler, sigmas, latent_v3],
            two_latents,
            **here(""),
        ),
        node(
            "SamplerCustom",
            [link_input("model", "MODEL", True), bool_input("add_noise", True), noise_seed, _CFG, *cond_v3, sampler, sigmas, latent_v3],
            two_latents,
            **here(""),
        ),
        node(
            "BasicScheduler",
            [link_input("model", "MODEL", True), combo_input("scheduler", names.SCHEDULERS), _STEPS, _DENOISE],
            ["SIGMAS"],
            **here("/schedulers"),
        ),
        node(
            "SplitSigmas",
            [sigmas, int_input("step", 0, 0, 10000)],
            [("SIGMAS", "high_sigmas"), ("SIGMAS", "low_sigmas")],
            **here("/sigmas"),
        ),
        node("KSamplerSelect", [combo_input("sampler_name", names.SAMPLERS)], ["SAMPLER"], **here("/samplers")),
        node("RandomNoise", [noise_seed], ["NOISE"], **here("/noise")),
        node("DisableNoise", [], ["NOISE"], **here("/noise")),
        node("CFGGuider", [link_input("model", "MODEL", True), *cond_v3, _CFG], ["GUIDER"], **here("/guiders")),
        node(
            "BasicGuider",
            [link_input("model", "MODEL", True), link_input("conditioning", "CONDITIONING", True)],
            ["GUIDER"],
            **here("/guiders"),
        ),
    ]


def _decoding_and_saving() -> list[dict[str, Any]]:
    video = "comfy_extras.nodes_video"
    tiles = [int_input("tile_size", 512, 64, 4096, step=32), int_input("overlap", 64, 0, 4096, step=32)]
    tiles += [int_input("temporal_size", 64, 8, 4096, step=4), int_input("temporal_overlap", 8, 4, 4096, step=4)]
    vhs_formats = ("image/gif", "image/webp", "video/h264-mp4", "video/h265-mp4", "video/webm")
    return [
        node("VAEDecode", [link_input("samples", "LATENT"), link_input("vae", "VAE")], ["IMAGE"], display="VAE Decode", category="latent"),
        node(
            "VAEDecodeTiled",
            [link_input("samples", "LATENT"), link_input("vae", "VAE"), *tiles],
            ["IMAGE"],
            display="VAE Decode (Tiled)",
            category="_for_testing",
        ),
        node(
            "CreateVideo",
            [link_input("images", "IMAGE", True), float_input("fps", 30.0, 1.0, 120.0, 1.0)],
            ["VIDEO"],
            optional=[link_input("audio", "AUDIO", True)],
            display="Create Video",
            module=video,
            category="image/video",
        ),
        node(
            "SaveVideo",
            [
                link_input("video", "VIDEO", True),
                string_input("filename_prefix", "video/ComfyUI"),
                combo_input("format", ("auto", "mp4"), default="auto"),
                combo_input("codec", ("auto", "h264"), default="auto"),
            ],
            [],
            hidden=_SAVE_HIDDEN_V3,
            display="Save Video",
            module=video,
            category="image/video",
            output_node=True,
        ),
        node(
            "VHS_VideoCombine",
            [
                link_input("images", "IMAGE"),
                float_input("frame_rate", 8.0, 1.0, 1000.0, 1.0),
                int_input("loop_count", 0, 0, 100, step=1),
                string_input("filename_prefix", "AnimateDiff"),
                list_input("format", vhs_formats),
                bool_input("pingpong", False),
                bool_input("save_output", True),
            ],
            [("VHS_FILENAMES", "Filenames")],
            optional=[link_input("audio", "AUDIO"), link_input("meta_batch", "VHS_BatchManager"), link_input("vae", "VAE")],
            hidden={**_SAVE_HIDDEN_V1, "unique_id": "UNIQUE_ID"},
            display="Video Combine (VHS)",
            module="custom_nodes.comfyui-videohelpersuite",
            category="Video Helper Suite",
            output_node=True,
        ),
        node(
            "SaveImage",
            [link_input("images", "IMAGE"), ("filename_prefix", ["STRING", {"default": "ComfyUI"}])],
            [],
            hidden=_SAVE_HIDDEN_V1,
            display="Save Image",
            category="image",
            output_node=True,
        ),
        node(
            "PreviewImage",
            [link_input("images", "IMAGE")],
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
        node("PrimitiveString", [string_input("value")], ["STRING"], display="String", module=prim, category="utils/primitive"),
        node(
            "PrimitiveStringMultiline",
            [string_input("value", None, True)],
            ["STRING"],
            display="String (Multiline)",
            module=prim,
            category="utils/primitive",
        ),
        node(
            "PrimitiveInt", [int_input("value", None, -far, far, **_SEED)], ["INT"], display="Int", module=prim, category="utils/primitive"
        ),
        node(
            "PrimitiveFloat",
            [float_input("value", None, -far, far, 0.1)],
            ["FLOAT"],
            display="Float",
            module=prim,
            category="utils/primitive",
        ),
        node(
            "StringConcatenate",
            [string_input("string_a", None, True), string_input("string_b", None, True), string_input("delimiter", "")],
            ["STRING"],
            display="Concatenate",
            module=text,
            category="utils/string",
        ),
        # Two small nodes for tests of errors and interrupts, the same as the toy nodes a laboratory server may carry.
        node(
            "LabRaise",
            [link_input("images", "IMAGE"), list_input("kind", kinds), ("message", ["STRING", {"default": "lab: deliberate failure"}])],
            ["IMAGE"],
            display="Lab: LabRaise",
            module="custom_nodes.lab_nodes",
            category="lab",
        ),
        node(
            "LabSlow",
            [link_input("samples", "LATENT"), float_input("seconds", 5.0, 0.0, 600.0, 0.1), int_input("tag", 0, 0, 1 << 53)],
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
