"""Small text-to-video graphs of every kind people export, written out for the tests of roles and parameters."""

from __future__ import annotations

from typing import Any

Graph = dict[str, dict[str, Any]]


def node(kind: str, title: str | None = None, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


def common(**latent: Any) -> Graph:
    """Model, texts, VAE and latent. Node ids are deliberately in no order, titles say nothing."""
    size = {"width": 640, "height": 384, "length": 81, "batch_size": 1} | latent
    return {
        "500": node("UNETLoader", "a", unet_name="wan.safetensors", weight_dtype="default"),
        "3": node("CLIPLoader", "b", clip_name="umt5.safetensors", type="wan", device="default"),
        "77": node("CLIPTextEncode", "c", text="the negative one", clip=["3", 0]),
        "12": node("CLIPTextEncode", "d", text="the positive one", clip=["3", 0]),
        "9": node("VAELoader", "e", vae_name="wan_vae.safetensors"),
        "41": node("EmptyHunyuanLatentVideo", "f", **size),
    }


def saved(images: list[Any], fps: Any = 16) -> Graph:
    return {
        "60": node("CreateVideo", "g", fps=fps, images=images),
        "61": node("SaveVideo", "h", filename_prefix="video/x", format="auto", codec="auto", video=["60", 0]),
    }


def one_sampler(**sampler: Any) -> Graph:
    """Wan 2.1, or Wan 2.2 5B: one KSampler."""
    values = {"seed": 1, "steps": 20, "cfg": 6.0, "sampler_name": "uni_pc", "scheduler": "simple", "denoise": 1.0} | sampler
    links = {"model": ["500", 0], "positive": ["12", 0], "negative": ["77", 0], "latent_image": ["41", 0]}
    return common() | {
        "8": node("KSampler", **{**links, **values}),
        "5": node("VAEDecode", samples=["8", 0], vae=["9", 0]),
    } | saved(["5", 0])  # fmt: skip


def two_samplers(steps: int = 20, switch: int = 10, last: int = 10000, lora: bool = False) -> Graph:
    """Wan 2.2 14B: high-noise and low-noise expert; with ``lora`` the 4-step variant."""
    graph = common() | {"501": node("UNETLoader", unet_name="low.safetensors", weight_dtype="default")}
    models = {"high": ["500", 0], "low": ["501", 0]}
    if lora:
        for name, number in (("high", "70"), ("low", "71")):
            graph[number] = node("LoraLoaderModelOnly", lora_name=f"{name}.safetensors", strength_model=1.0, model=models[name])
            models[name] = [number, 0]
    shared = {
        "steps": steps,
        "cfg": 1.0 if lora else 3.5,
        "sampler_name": "euler",
        "scheduler": "simple",
        "positive": ["12", 0],
        "negative": ["77", 0],
    }
    graph["20"] = node("KSamplerAdvanced", add_noise="disable", noise_seed=0, start_at_step=switch, end_at_step=last,
                       return_with_leftover_noise="disable", model=models["low"], latent_image=["99", 0], **shared)  # fmt: skip
    graph["99"] = node("KSamplerAdvanced", add_noise="enable", noise_seed=5, start_at_step=0, end_at_step=switch,
                       return_with_leftover_noise="enable", model=models["high"], latent_image=["41", 0], **shared)  # fmt: skip
    graph["5"] = node("VAEDecode", samples=["20", 0], vae=["9", 0])
    return graph | saved(["5", 0])


def custom_sampling(guider: str = "CFGGuider") -> Graph:
    """SamplerCustomAdvanced: noise, guider, sampler and sigmas are nodes of their own."""
    graph = common() | {
        "30": node("RandomNoise", noise_seed=11),
        "31": node("KSamplerSelect", sampler_name="euler"),
        "32": node("BasicScheduler", scheduler="beta", steps=25, denoise=1.0, model=["500", 0]),
        "34": node("SamplerCustomAdvanced", noise=["30", 0], guider=["33", 0], sampler=["31", 0], sigmas=["32", 0], latent_image=["41", 0]),
        "5": node("VAEDecode", samples=["34", 0], vae=["9", 0]),
    }
    if guider == "CFGGuider":
        graph["33"] = node("CFGGuider", cfg=5.0, model=["500", 0], positive=["12", 0], negative=["77", 0])
    else:
        graph["33"] = node("BasicGuider", model=["500", 0], conditioning=["12", 0])
        del graph["77"]
    return graph | saved(["5", 0])


def vhs() -> Graph:
    """VideoHelperSuite writes the file; a preview of the same images is written beside it."""
    graph = {key: value for key, value in one_sampler().items() if key not in ("60", "61")}
    settings = {
        "frame_rate": 16,
        "loop_count": 0,
        "filename_prefix": "AnimateDiff",
        "format": "video/h264-mp4",
        "pingpong": False,
        "images": ["5", 0],
    }
    graph["80"] = node("VHS_VideoCombine", **{**settings, "save_output": False, "filename_prefix": "preview"})
    graph["81"] = node("VHS_VideoCombine", **{**settings, "save_output": True})
    return graph


def string_nodes() -> Graph:
    """Prompts and numbers fed through value nodes, one of them read by two inputs of different meaning."""
    graph = one_sampler(steps=["93", 0], cfg=["94", 0])
    graph["90"] = node("PrimitiveStringMultiline", value="written elsewhere")
    graph["91"] = node("StringConcatenate", string_a=["90", 0], string_b="masterpiece", delimiter=", ")
    graph["95"] = node("Reroute", **{"": ["91", 0]})
    graph["12"]["inputs"]["text"] = ["95", 0]
    graph["92"] = node("PrimitiveInt", value=512)
    graph["93"] = node("PrimitiveInt", value=20)
    graph["94"] = node("PrimitiveFloat", value=6.0)
    graph["41"]["inputs"] |= {"width": ["92", 0], "height": ["92", 0]}
    return graph


def image_to_video() -> Graph:
    """A first frame, and conditionings that pass through the node that takes it."""
    graph = two_samplers()
    del graph["41"]
    graph["62"] = node("LoadImage", image="start.png")
    graph["63"] = node("WanImageToVideo", width=640, height=384, length=81, batch_size=1, positive=["12", 0], negative=["77", 0],
                       vae=["9", 0], start_image=["62", 0])  # fmt: skip
    for sampler in ("20", "99"):
        graph[sampler]["inputs"] |= {"positive": ["63", 0], "negative": ["63", 1]}
    graph["99"]["inputs"]["latent_image"] = ["63", 2]
    return graph


def wan_wrapper() -> Graph:
    """WanVideoWrapper's own sampler, text encoder and latent."""
    return {
        "1": node("WanVideoModelLoader", model="wan.safetensors"),
        "2": node("WanVideoTextEncode", positive_prompt="up", negative_prompt="down", t5=["3", 0]),
        "3": node("LoadWanVideoT5TextEncoder", model_name="t5.safetensors"),
        "4": node("WanVideoEmptyEmbeds", width=832, height=480, num_frames=81),
        "5": node(
            "WanVideoSampler",
            steps=30,
            cfg=6.0,
            shift=5.0,
            seed=1,
            scheduler="unipc",
            model=["1", 0],
            text_embeds=["2", 0],
            image_embeds=["4", 0],
        ),
        "6": node("WanVideoDecode", samples=["5", 0], vae=["7", 0]),
        "7": node("WanVideoVAELoader", model_name="vae.safetensors"),
        "8": node("VHS_VideoCombine", frame_rate=16, filename_prefix="w", format="video/h264-mp4", save_output=True, images=["6", 0]),
    }
