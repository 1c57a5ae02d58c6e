"""Whatever way a graph is wired, the clip's effective parameters come out of it."""

from __future__ import annotations

import pytest

from eva_sim.clip_params import EMPTY, clip_defects, clip_spec, effective_params
from eva_sim.graph import RUN, evaluate, execution_order, signatures
from eva_sim.node_table import object_info
from eva_sim.surface import QualitySurface
from eva_sim.validation import validate_prompt

SURFACE = QualitySurface(0)


def images_of(prompt):
    assert validate_prompt(prompt, object_info()).ok
    done = evaluate(
        prompt, execution_order(prompt, [key for key, node in prompt.items() if node["class_type"].startswith(("Save", "VHS"))])
    )
    video = next(key for key, node in prompt.items() if node["class_type"] == "CreateVideo")
    return done[video].outputs[0]


def params_of(prompt):
    video = images_of(prompt)
    return effective_params(video.images, video.fps)


def one_sampler(graph, **values):
    prompt = graph()
    del prompt["11"], prompt["4"], prompt["6"]
    inputs = {**prompt["10"]["inputs"], "seed": 77, "denoise": 1.0, **values}
    wanted = ("model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image", "denoise")
    prompt["10"] = {"class_type": "KSampler", "inputs": {name: inputs[name] for name in wanted}}
    prompt["12"]["inputs"]["samples"] = ["10", 0]
    return prompt


def custom_sampler(graph):
    prompt = one_sampler(graph)
    prompt["20"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 77}}
    prompt["21"] = {"class_type": "CFGGuider", "inputs": {"model": ["5", 0], "positive": ["7", 0], "negative": ["8", 0], "cfg": 3.5}}
    prompt["22"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
    prompt["23"] = {"class_type": "BasicScheduler", "inputs": {"model": ["5", 0], "scheduler": "simple", "steps": 6, "denoise": 1.0}}
    links = {"noise": ["20", 0], "guider": ["21", 0], "sampler": ["22", 0], "sigmas": ["23", 0], "latent_image": ["9", 0]}
    prompt["10"] = {"class_type": "SamplerCustomAdvanced", "inputs": links}
    return prompt


def test_every_class_of_the_table_can_run():
    assert set(RUN) == set(object_info())


def test_three_wirings_of_the_same_settings_agree(graph):
    expected = {
        "sampler": "euler",
        "scheduler": "simple",
        "cfg_scale": 3.5,
        "steps": 6,
        "fps": 16.0,
        "width": 128,
        "height": 96,
        "seed": 77,
        "speedup": 1.0,
    }
    for prompt in (graph(), one_sampler(graph), custom_sampler(graph)):
        assert params_of(prompt) == expected


def test_prompts_fed_through_string_nodes(graph):
    prompt = graph()
    prompt["30"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a green fish"}}
    prompt["31"] = {"class_type": "StringConcatenate", "inputs": {"string_a": ["30", 0], "string_b": "in a reef", "delimiter": " "}}
    prompt["7"]["inputs"]["text"] = ["31", 0]
    video = images_of(prompt)
    assert clip_spec(SURFACE, video.images, video.fps).prompt == "a green fish in a reef"


def test_sizes_fall_to_the_grid_and_lengths_to_4n_plus_1(graph):
    video = images_of(graph(width=139, height=101, length=7))
    assert (video.images.width, video.images.height, video.images.frames) == (136, 96, 5)


def test_a_lora_counts_by_its_strength(graph):
    prompt = graph()
    lora = "wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors"
    prompt["40"] = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["3", 0], "lora_name": lora, "strength_model": 1.0}}
    prompt["5"]["inputs"]["model"] = ["40", 0]
    assert params_of(prompt)["speedup"] == pytest.approx(4.5)
    prompt["40"]["inputs"]["strength_model"] = 0.0
    assert params_of(prompt)["speedup"] == 1.0


def test_a_wrong_split_of_steps_shows(graph):
    def levels(**ends):
        prompt = graph(steps=20)
        for sampler, values in ends.items():
            prompt[{"first": "10", "second": "11"}[sampler]]["inputs"].update(values)
        video = images_of(prompt)
        return clip_defects(SURFACE, video.images, video.fps)

    good = levels()
    gap = levels(second={"start_at_step": 15})
    left = levels(second={"end_at_step": 15})
    assert gap.blur > good.blur + 0.2 and left.noise > good.noise + 0.2


def test_without_any_sampling_there_is_fog(graph):
    prompt = graph()
    prompt["12"]["inputs"]["samples"] = ["9", 0]
    video = images_of(prompt)
    assert effective_params(video.images, video.fps) is None and clip_defects(SURFACE, video.images, video.fps) == EMPTY


def test_vhs_saves_under_gifs(simulator, connect, graph):
    prompt = graph()
    del prompt["13"], prompt["14"]
    inputs = {"images": ["12", 0], "frame_rate": 12, "loop_count": 0, "filename_prefix": "v", "format": "video/h264-mp4"}
    prompt["14"] = {"class_type": "VHS_VideoCombine", "inputs": {**inputs, "pingpong": False, "save_output": True}}
    sim = simulator()
    client = connect(sim, listen=False)
    (item,) = client.finished(client.queue(prompt))["outputs"]["14"]["gifs"]
    assert item["filename"] == "v_00001.mp4" and item["frame_rate"] == 12 and item["type"] == "output"
    assert (sim.output_dir / "v_00001.mp4").is_file()
    prompt["14"]["inputs"]["save_output"] = False
    (item,) = client.finished(client.queue(prompt))["outputs"]["14"]["gifs"]
    assert item["type"] == "temp" and not (sim.output_dir / "v_00002.mp4").exists()


def test_image_to_video_with_an_image(simulator, connect, graph):
    prompt = graph()
    prompt["50"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}}
    size = {"width": 96, "height": 64, "length": 5, "batch_size": 1}
    links = {"positive": ["7", 0], "negative": ["8", 0], "vae": ["2", 0], "start_image": ["50", 0]}
    prompt["9"] = {"class_type": "WanImageToVideo", "inputs": {**size, **links}}
    for sampler in ("10", "11"):
        prompt[sampler]["inputs"].update(positive=["9", 0], negative=["9", 1])
    prompt["10"]["inputs"]["latent_image"] = ["9", 2]
    client = connect(simulator(), listen=False)
    assert client.finished(client.queue(prompt))["status"]["completed"]


def test_cache_keys_follow_values_and_links_not_ids(graph):
    one, other = graph(), graph(seed=78)
    order = execution_order(one, ["14"])
    keys, changed = signatures(one, order), signatures(other, order)
    assert {node for node in order if keys[node] != changed[node]} == {"10", "11", "12", "13", "14"}
    assert order.index("10") < order.index("11") < order.index("12") < order.index("14") and len(order) == len(one)
