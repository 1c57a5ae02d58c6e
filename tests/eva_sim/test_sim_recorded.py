"""The simulator beside material recorded from a real ComfyUI 0.8.0. Skipped where that material is not there."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from eva_sim.node_table import object_info
from eva_sim.validation import validate_prompt

TABLE = object_info()
NOT_RECORDED = {"VHS_VideoCombine"}  # of a custom node pack the recorded server did not have
TEXTS = {"tooltip", "advanced"}


def load(folder, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def shape(value: Any) -> Any:
    """Keys and types of a JSON value; lists by the shape of their first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def test_node_definitions_agree_with_the_recorded_ones(recorded_comfyui):
    recorded = load(recorded_comfyui, "object_info.json")
    own_lists = {"unet_name", "clip_name", "vae_name", "lora_name", "image"}
    for name, entry in TABLE.items():
        if name in NOT_RECORDED:
            continue
        real = recorded[name]
        assert set(entry) >= set(real) - {"output_tooltips"}, name
        for key in ("input_order", "output", "output_is_list", "output_name", "output_node", "display_name", "category", "name"):
            assert entry[key] == real[key], (name, key)
        for group in ("required", "optional"):
            for field, spec in entry["input"].get(group, {}).items():
                real_spec = real["input"][group][field]
                if field in own_lists:
                    assert type(spec[0]) is type(real_spec[0]), (name, field)
                    continue
                assert spec[0] == real_spec[0], (name, field)
                mine, theirs = (dict(one[1]) if len(one) > 1 else {} for one in (spec, real_spec))
                assert {k: v for k, v in mine.items() if k not in TEXTS} == {k: v for k, v in theirs.items() if k not in TEXTS}, (
                    name,
                    field,
                )


def test_every_name_in_the_lists_is_known_to_the_recorded_server(recorded_comfyui):
    recorded = load(recorded_comfyui, "object_info.json")
    for node, field in (("UNETLoader", "unet_name"), ("LoraLoaderModelOnly", "lora_name"), ("VAELoader", "vae_name")):
        missing = set(TABLE[node]["input"]["required"][field][0]) - set(recorded[node]["input"]["required"][field][0])
        assert not missing


@pytest.mark.parametrize(
    "name",
    ["video_wan2_2_14B_t2v", "video_wan2_2_5B_ti2v", "text_to_video_wan", "x4_dynamic_prompt_and_prefix_tokens__video_wan2_2_14B_t2v"],
)
def test_official_templates_are_accepted(recorded_comfyui, name):
    prompt = load(recorded_comfyui, f"convert_examples/{name}.api.json")
    saves = {key: node for key, node in prompt.items() if node["class_type"] not in ("SaveAnimatedWEBP", "SaveWEBM")}
    verdict = validate_prompt(saves, TABLE)
    if name == "text_to_video_wan" and len(saves) != len(prompt):
        pytest.skip("this template saves in a format the simulator does not make")
    assert verdict.ok, verdict


def test_refusals_agree_with_the_recorded_ones(recorded_comfyui):
    """Each recorded bad prompt, judged by our validator, gives the recorded answer (but for tracebacks and our own lists)."""
    compared = 0
    for name, case in load(recorded_comfyui, "transcripts/b_validation.json").items():
        prompt = case.get("request_prompt")
        if not isinstance(prompt, dict) or case.get("status") not in (200, 400):
            continue
        verdict = validate_prompt(prompt, TABLE)
        assert verdict.ok == (case["status"] == 200), name
        mine, real = _comparable(verdict.error, verdict.node_errors), case["body"]
        if case["status"] == 200:
            assert mine[1] == _comparable(None, real["node_errors"])[1], name
        else:
            assert mine == _comparable(real["error"], real["node_errors"]), name
        compared += 1
    assert compared >= 15


def _comparable(error: Any, node_errors: Any) -> Any:
    """Both without what may differ: tooltips, tracebacks, the lengths of our own lists, Python's word for a bad index."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items() if key not in ("tooltip", "traceback")}
        if isinstance(value, list):
            return [clean(item) for item in value]
        if isinstance(value, str):
            return re.sub(
                r"(tuple|list) index out of range", "index out of range", re.sub(r"list of length \d+", "list of length N", value)
            )
        return value

    return clean([error, node_errors])


def test_messages_agree_with_the_recorded_ones(recorded_comfyui, simulator, connect):
    """The recorded prompt, run here: the same kinds of messages with the same keys, the same history."""
    for name, metadata in (("a_success_plain", False), ("a_success_preview_metadata", True)):
        recorded = load(recorded_comfyui, f"transcripts/{name}.json")
        client = connect(simulator(), metadata=metadata)
        prompt_id = client.queue(recorded["post"]["request"]["body"]["prompt"])
        client.hear_end(prompt_id)
        real_texts = [m["message"] for m in recorded["ws"] if m["kind"] == "text"]
        for kind in {m["type"] for m in real_texts}:
            theirs = {json.dumps(_loose(m["data"])) for m in real_texts if m["type"] == kind}
            mine = {json.dumps(_loose(data)) for data in client.of(kind)}
            assert mine == theirs, kind
        real_order = [
            m["message"]["type"] if m["kind"] == "text" else f"bin{m.get('event_type')}" for m in recorded["ws"] if m["kind"] != "closed"
        ]
        assert client.kinds()[-6:] == real_order[-6:]
        sampling = [kind for kind in real_order if kind in ("progress", "bin1", "bin4")]
        assert [kind for kind in client.kinds() if kind in ("progress", "bin1", "bin4")] == sampling
        real_entry = next(iter(recorded["history"]["response"]["body"].values()))
        entry = client.finished(prompt_id)
        assert entry["prompt"][2] == real_entry["prompt"][2] and entry["prompt"][4] == real_entry["prompt"][4]
        assert shape(entry["outputs"]) == shape(real_entry["outputs"]) and entry["meta"] == real_entry["meta"]
        assert shape(entry["status"]) == shape(real_entry["status"])
        job, real_job = client.get(f"/api/jobs/{prompt_id}"), recorded["job"]["response"]["body"]
        assert set(job) == set(real_job) and shape(job["outputs"]) == shape(real_job["outputs"])


def _loose(data: Any) -> Any:
    """Shape with sorted keys; a map by node id becomes the shape of one entry."""
    if "nodes" in data and isinstance(data["nodes"], dict):
        data = {**data, "nodes": next(iter(data["nodes"].values()))}
    if "nodes" in data and isinstance(data["nodes"], list):
        data = {**data, "nodes": ["x"]}
    if "output" in data:
        data = {**data, "output": {"images": data["output"]["images"], "animated": data["output"]["animated"]}}
    return json.loads(json.dumps(shape(data), sort_keys=True))
