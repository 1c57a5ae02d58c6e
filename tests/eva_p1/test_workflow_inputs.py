"""Workflow inputs a person names: found, checked against graph and server, written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import WorkflowError
from eva_p1.dimensions import Dimension
from eva_p1.workflow import find_roles, load_workflow
from eva_p1.workflow_inputs import find_settings, write_settings
from eva_state.store import StateStore
from tests.agent_fakes import SMALL_SPACE, WORKFLOW, FakeComfy, make_agent

GRAPH = load_workflow(WORKFLOW)
GRAPH["20"] = {
    "class_type": "LoraLoaderModelOnly",
    "inputs": {"model": ["1", 0], "lora_name": "soft.safetensors", "strength_model": 0.8},
    "_meta": {"title": "My LoRA"},
}
GRAPH["3"]["inputs"]["model"] = ["20", 0]
INFO: dict[str, Any] = {
    "ModelSamplingSD3": {"input": {"required": {"model": ["MODEL"], "shift": ["FLOAT", {"default": 3.0, "min": 0.0, "max": 100.0}]}}},
    "LoraLoaderModelOnly": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "lora_name": [["soft.safetensors", "sharp.safetensors"]],
                "strength_model": ["FLOAT", {"min": -2.0, "max": 2.0}],
            }
        }
    },
    "KSamplerAdvanced": {
        "input": {"required": {"add_noise": ["COMBO", {"options": ["enable", "disable"]}], "start_at_step": ["INT", {"min": 0}]}}
    },
    "EmptyHunyuanLatentVideo": {"input": {"required": {"batch_size": ["INT", {"min": 1, "max": 4096}]}}},
}


def _found(*dimensions: Dimension, info: dict[str, Any] | None = INFO) -> Any:
    return find_settings(GRAPH, dimensions, find_roles(GRAPH), info)


@pytest.mark.parametrize(
    ("node", "places"),
    [("ModelSamplingSD3", ["3", "4"]), ("High-noise shift", ["3"]), ("4", ["4"])],
    ids=["class", "title", "id"],
)
def test_a_node_is_named_by_class_title_or_id(node: str, places: list[str]) -> None:
    (setting,) = _found(Dimension("shift", f"{node}.shift", (5, 8)))
    assert [place.node for place in setting.places] == places and setting.own == 8
    written = write_settings(GRAPH, [setting], {"shift": 5})
    assert [written[node]["inputs"]["shift"] for node in places] == [5] * len(places)
    assert GRAPH["3"]["inputs"]["shift"] == 8.0 and write_settings(GRAPH, [setting], {}) == GRAPH


def test_values_are_written_as_the_server_lists_them() -> None:
    info = copy.deepcopy(INFO)
    info["LoraLoaderModelOnly"]["input"]["required"]["lora_name"] = [["512", "soft.safetensors"]]
    (setting,) = _found(Dimension("lora", "My LoRA.lora_name", ("512", "soft.safetensors")), info=info)
    assert write_settings(GRAPH, [setting], {"lora": 512})["20"]["inputs"]["lora_name"] == "512"
    assert setting.own == "soft.safetensors"


@pytest.mark.parametrize(
    ("node_input", "values", "said"),
    [
        ("ModelSamplingSD4.shift", (5,), "no node 'ModelSamplingSD4'.*ModelSamplingSD3"),
        ("My LoRa.strength_model", (1,), "no node.*My LoRA"),
        ("ModelSamplingSD3.shft", (5,), "no input 'shft'; the nearest: shift"),
        ("ModelSamplingSD3.model", (5,), "linked to"),
        ("ModelSamplingSD3.shift", (5, 101), "'101': the largest value allowed, and the nearest, is 100"),
        ("LoraLoaderModelOnly.strength_model", (-3, 1), "the smallest value allowed, and the nearest, is -2"),
        ("LoraLoaderModelOnly.strength_model", ("strong",), "it is a number"),
        ("LoraLoaderModelOnly.lora_name", ("sharp.safetensor", "soft.safetensors"), "does not list it; the nearest: sharp.safetensors"),
        ("EmptyHunyuanLatentVideo.batch_size", (1.6,), "a whole number; the nearest: 2"),
        ("KSamplerAdvanced.cfg", (3,), "cfg_scale sets already"),
        ("EmptyHunyuanLatentVideo.length", (33,), "--seconds sets already"),
        ("KSamplerAdvanced.noise_seed", (1, 2), "policy of seeds"),
    ],
)
def test_what_cannot_be_chosen_is_named_with_the_nearest_that_can(node_input: str, values: tuple[Any, ...], said: str) -> None:
    with pytest.raises(WorkflowError, match=said):
        _found(Dimension("mine", node_input, values))


def test_two_dimensions_may_not_set_one_input() -> None:
    with pytest.raises(WorkflowError, match="another dimension"):
        _found(Dimension("a", "ModelSamplingSD3.shift", (5,)), Dimension("b", "3.shift", (8,)))


def _run(tmp_path: Path, extra: dict[str, Any], iterations: int = 6) -> tuple[FakeComfy, list[dict[str, Any]], Any]:
    (tmp_path / "video").mkdir(exist_ok=True)
    client = FakeComfy(tmp_path / "video")
    with StateStore(tmp_path / "state", role="agent") as store:
        agent = make_agent(store, [client], tmp_path, space={**SMALL_SPACE, "extra": extra})
        agent.search_v4(iterations)
        return client, list(store.history()), store.space()


def test_the_agent_writes_chosen_values_into_graph_history_and_key(tmp_path: Path) -> None:
    shift = {"input": "ModelSamplingSD3.shift", "values": [3, 5]}
    client, history, space = _run(tmp_path, {"shift": shift})
    assert len(history) == 6 and space["extra"]["shift"]["own"] == 8
    seen = {prompt.prompt_id: {prompt.graph[node]["inputs"]["shift"] for node in ("3", "4")} for prompt in client.prompts}
    for entry in history:
        chosen = entry["params"]["extra"]["shift"]
        assert seen[entry["prompt_id"]] == {chosen} and entry["combo_key"].endswith(f"|shift={chosen}")
    assert {value for values in seen.values() for value in values} == {3, 5}
    client, history, space = _run(tmp_path, {}, 2)  # taken out: six fields again, and what it taught is kept apart
    assert all("extra" not in entry["params"] and entry["combo_key"].count("|") == 5 for entry in history[-2:])
    assert space["retired"]["shift"]["own"] == 8 and "extra" not in space


def test_a_seed_policy_is_obeyed(tmp_path: Path) -> None:
    _, history, _ = _run(tmp_path, {"seed_policy": {"values": ["fixed", "random"], "seed": 77}}, 8)
    policies = {entry["params"]["extra"]["seed_policy"] for entry in history}
    assert policies == {"fixed", "random"}
    for entry in history:
        assert (entry["seed"] == 77) == (entry["params"]["extra"]["seed_policy"] == "fixed")


def test_a_sampler_and_a_size_added_later_keep_what_was_learned(tmp_path: Path) -> None:
    """Three runs on one state: a small space, a wider one, and one without a sampler that was tried before."""
    (tmp_path / "video").mkdir()
    wider = {**SMALL_SPACE, "sampler": ["euler", "heun", "lcm"], "size": [[640, 480], [832, 480]]}
    narrower = {**SMALL_SPACE, "sampler": ["heun"]}
    known: dict[str, Any] = {}
    for space, arms in ((SMALL_SPACE, 16), (wider, 48), (narrower, 8)):
        with StateStore(tmp_path / "state", role="agent") as store:
            agent = make_agent(store, [FakeComfy(tmp_path / "video")], tmp_path, space=space)
            agent.search_v4(5)
            stats = agent.bandit.stats()
            assert agent.bandit.arm_count == arms
            assert all(stats[key]["N"] >= seen["N"] for key, seen in known.items())
            assert all(agent.bandit.predict(key)["sd"] < 0.2 for key in known)  # placed, and known better than before any try
            made = list(store.history())[-5:]
            assert all(entry["params"] in agent.bandit.space for entry in made)
            known = stats
    assert sum(item["N"] for item in known.values()) == 15
