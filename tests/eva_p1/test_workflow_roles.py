"""Roles and parameters on every kind of graph: found by links alone, applied everywhere they matter."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eva_env_base import WorkflowError
from eva_p1.workflow import Field, apply_params, describe_roles, estimate_length, find_roles, load_workflow
from tests.eva_p1 import workflow_graphs as graphs

PARAMS = {"sampler": "heun", "scheduler": "karras", "fps": 24, "cfg_scale": 4.5, "steps": 12, "width": 320, "height": 192}
EVERYTHING = {
    "prompt",
    "negative_prompt",
    "sampler",
    "scheduler",
    "steps",
    "cfg_scale",
    "seed",
    "fps",
    "width",
    "height",
    "seconds",
    "prefix",
}
OURS = Path(__file__).resolve().parents[2] / "video_wan2_2_14B_t2v.json"


def applied(graph: dict[str, Any], **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"prompt": "P", "negative_prompt": "N", "seed": 77, "prefix": "eva/one", "seconds": 2.0}
    options |= {key: changes.pop(key) for key in list(changes) if key in options}
    before = copy.deepcopy(graph)
    result = apply_params(graph, find_roles(graph), PARAMS | changes, **options)
    assert graph == before, "the workflow itself is never changed"
    return result


def values(graph: dict[str, Any], node: str, *names: str) -> tuple[Any, ...]:
    return tuple(graph[node]["inputs"][name] for name in names)


@pytest.mark.parametrize(
    "make", [graphs.one_sampler, graphs.two_samplers, graphs.custom_sampling, graphs.vhs, graphs.string_nodes, graphs.image_to_video]
)
def test_everything_is_found_in_the_usual_graphs(make: Any) -> None:
    roles = find_roles(make())
    assert roles.missing == () and dict(roles.not_settable) == {}
    assert roles.settable >= EVERYTHING


def test_our_own_workflow_has_everything() -> None:
    roles = find_roles(load_workflow(OURS))
    assert roles.settable == EVERYTHING and len(roles.samplers) == 2
    assert [sampler.adds_noise for sampler in roles.samplers] == [True, False]


def test_one_sampler() -> None:
    made = applied(graphs.one_sampler())
    assert values(made, "8", "seed", "steps", "cfg", "sampler_name", "scheduler") == (77, 12, 4.5, "heun", "karras")
    assert values(made, "41", "width", "height", "length") == (320, 192, 49)
    assert values(made, "60", "fps") == (24,) and values(made, "61", "filename_prefix") == ("eva/one",)
    assert values(made, "12", "text") == ("P",) and values(made, "77", "text") == ("N",)


@pytest.mark.parametrize(("base", "switch", "last", "steps", "boundary", "end"), [
    (20, 10, 10000, 12, 6, 10000), (4, 2, 4, 8, 4, 8), (4, 2, 4, 5, 3, 5), (20, 5, 20, 8, 2, 8), (20, 1, 10000, 4, 1, 10000),
    (20, 19, 20, 4, 3, 4), (20, 10, 10000, 2, 1, 10000), (20, 10, 25, 40, 20, 40),
])  # fmt: skip
def test_steps_are_split_in_the_base_proportion(base: int, switch: int, last: int, steps: int, boundary: int, end: int) -> None:
    made = applied(graphs.two_samplers(base, switch, last, lora=base == 4), steps=steps)
    assert values(made, "99", "steps", "start_at_step", "end_at_step") == (steps, 0, boundary)
    assert values(made, "20", "steps", "start_at_step", "end_at_step") == (steps, boundary, end)


@given(base=st.integers(2, 60), share=st.floats(0.01, 0.99), steps=st.integers(2, 200))
def test_each_stage_keeps_a_step_and_they_meet(base: int, share: float, steps: int) -> None:
    switch = min(base - 1, max(1, round(base * share)))
    made = applied(graphs.two_samplers(base, switch, base), steps=steps)
    (first_end,), (second_start, second_end) = values(made, "99", "end_at_step"), values(made, "20", "start_at_step", "end_at_step")
    assert 1 <= first_end == second_start < second_end == steps


def test_two_samplers_share_everything_but_the_seed() -> None:
    made = applied(graphs.two_samplers())
    for sampler in ("99", "20"):
        assert values(made, sampler, "cfg", "sampler_name", "scheduler") == (4.5, "heun", "karras")
    assert values(made, "99", "noise_seed") == (77,), "noise is added here"
    assert values(made, "20", "noise_seed") == (0,), "and not here"


def test_samplers_come_in_run_order_whatever_their_numbers() -> None:
    assert [sampler.node for sampler in find_roles(graphs.two_samplers()).samplers] == ["99", "20"]


def test_custom_sampling() -> None:
    made = applied(graphs.custom_sampling())
    assert values(made, "30", "noise_seed") == (77,) and values(made, "31", "sampler_name") == ("heun",)
    assert values(made, "32", "scheduler", "steps") == ("karras", 12) and values(made, "33", "cfg") == (4.5,)


def test_what_cannot_be_set_is_reported_with_a_reason() -> None:
    graph = graphs.custom_sampling("BasicGuider")
    graph["32"] = graphs.node("ManualSigmas", sigmas="1, 0.5, 0")
    roles = find_roles(graph)
    assert roles.missing == ()
    assert {"negative_prompt", "cfg_scale", "steps", "scheduler"} <= roles.not_settable.keys()
    assert not roles.settable & roles.not_settable.keys()
    assert "BasicGuider uses no negative prompt" in roles.not_settable["negative_prompt"]
    made = applied(graph)
    assert made["32"] == graph["32"] and values(made, "31", "sampler_name") == ("heun",)


def test_a_split_sigmas_hand_over_moves_with_the_steps() -> None:
    graph = graphs.custom_sampling()
    graph["35"] = graphs.node("SplitSigmas", sigmas=["32", 0], step=10)
    graph["36"] = graphs.node("DisableNoise")
    graph["34"]["inputs"]["sigmas"] = ["35", 0]
    graph["37"] = graphs.node(
        "SamplerCustomAdvanced", noise=["36", 0], guider=["33", 0], sampler=["31", 0], sigmas=["35", 1], latent_image=["34", 0]
    )
    graph["5"]["inputs"]["samples"] = ["37", 0]
    roles = find_roles(graph)
    assert [(sampler.node, sampler.adds_noise) for sampler in roles.samplers] == [("34", True), ("37", False)]
    assert values(applied(graph, steps=5), "35", "step") == (2,)


def test_zeroed_negative_and_negative_wired_to_the_positive_text() -> None:
    graph = graphs.one_sampler()
    graph["78"] = graphs.node("ConditioningZeroOut", conditioning=["12", 0])
    graph["8"]["inputs"]["negative"] = ["78", 0]
    roles = find_roles(graph)
    assert roles.missing == () and roles.negative is None and "discards the text" in roles.not_settable["negative_prompt"]
    graph["8"]["inputs"]["negative"] = ["12", 0]
    roles = find_roles(graph)
    assert roles.negative is None and "positive prompt's text" in roles.not_settable["negative_prompt"]
    assert values(applied(graph), "12", "text") == ("P",), "the negative text must not overwrite the positive one"


def test_crossed_wires_are_followed_as_wired() -> None:
    graph = graphs.image_to_video()
    graph["63"]["inputs"] |= {"positive": ["77", 0], "negative": ["12", 0]}
    roles = find_roles(graph)
    assert (roles.positive, roles.negative) == (Field("77", "text"), Field("12", "text"))


def test_conditioning_nodes_and_guidance_in_between() -> None:
    graph = graphs.one_sampler()
    graph["100"] = graphs.node("FluxGuidance", guidance=3.5, conditioning=["12", 0])
    graph["101"] = graphs.node("ConditioningSetTimestepRange", conditioning=["100", 0], start=0.0, end=1.0)
    graph["102"] = graphs.node("ControlNetApplyAdvanced", strength=1.0, positive=["101", 0], negative=["77", 0])
    graph["8"]["inputs"] |= {"positive": ["102", 0], "negative": ["102", 1]}
    roles = find_roles(graph)
    assert (roles.positive, roles.negative) == (Field("12", "text"), Field("77", "text"))


def test_video_helper_suite() -> None:
    graph = graphs.vhs()
    roles = find_roles(graph)
    assert roles.save == "81" and roles.video == "81", "the one that is kept, not the preview"
    made = applied(graph)
    assert values(made, "81", "frame_rate", "filename_prefix") == (24, "eva/one")
    assert isinstance(made["81"]["inputs"]["frame_rate"], int)
    assert made["80"]["inputs"]["filename_prefix"] != "eva/one", "two files must not share a prefix"


def test_prompts_and_numbers_through_value_nodes() -> None:
    graph = graphs.string_nodes()
    roles = find_roles(graph)
    assert roles.positive == Field("90", "value")
    made = applied(graph)
    assert values(made, "90", "value") == ("P",) and values(made, "93", "value") == (12,) and values(made, "94", "value") == (4.5,)
    assert values(made, "41", "width", "height") == (320, 192), "a node read as width and as height cannot hold both"
    assert values(made, "92", "value") == (512,)


def test_a_computed_value_is_replaced_by_a_literal() -> None:
    graph = graphs.one_sampler()
    graph["110"] = graphs.node("MathExpression", expression="a * b", a=["111", 0], b=16)
    graph["111"] = graphs.node("PrimitiveFloat", value=5.0)
    graph["41"]["inputs"]["length"] = ["110", 0]
    assert values(applied(graph), "41", "length") == (49,)


def test_image_to_video() -> None:
    graph = graphs.image_to_video()
    roles = find_roles(graph)
    assert roles.first_frame == Field("62", "image") and "first_frame" in roles.settable
    made = applied(graph)
    assert values(made, "63", "width", "height", "length") == (320, 192, 49) and values(made, "62", "image") == ("start.png",)
    assert values(made, "12", "text") == ("P",) and values(made, "77", "text") == ("N",)


def test_the_wan_wrapper() -> None:
    roles = find_roles(graphs.wan_wrapper())
    assert roles.missing == () and set(roles.not_settable) == {"sampler"}
    made = applied(graphs.wan_wrapper())
    assert values(made, "2", "positive_prompt", "negative_prompt") == ("P", "N")
    assert values(made, "5", "steps", "cfg", "seed", "scheduler") == (12, 4.5, 77, "karras")
    assert values(made, "4", "width", "height", "num_frames") == (320, 192, 49)


def test_an_interpolator_makes_fewer_frames_necessary() -> None:
    graph = graphs.one_sampler()
    graph["120"] = graphs.node("RIFE VFI", ckpt_name="rife47.pth", multiplier=2, frames=["5", 0])
    graph["60"]["inputs"]["images"] = ["120", 0]
    assert values(applied(graph, fps=32), "41", "length") == (33,)


def test_a_graph_without_a_frame_rate_keeps_its_own() -> None:
    made = apply_params(
        graphs.one_sampler(), find_roles(graphs.one_sampler()), {}, prompt="P", negative_prompt=None, seed=1, prefix="x", seconds=None
    )
    assert values(made, "41", "length", "width") == (81, 640) and values(made, "8", "steps", "sampler_name") == (20, "uni_pc")
    assert values(made, "77", "text") == ("the negative one",)


# ---------------------------------------------------------------- what is missing
@pytest.mark.parametrize(("gone", "roles"), [
    (["8"], ["sampler"]), (["41"], ["latent"]), (["60"], ["video"]), (["61"], ["save"]), (["12"], ["positive prompt"]),
    (["77"], ["negative prompt"]), (["60", "61"], ["video", "save"]), (["5"], ["sampler"]), (["12", "41"], ["positive prompt", "latent"]),
])  # fmt: skip
def test_a_missing_role_is_named_and_no_other(gone: list[str], roles: list[str]) -> None:
    graph = {key: value for key, value in graphs.one_sampler().items() if key not in gone}
    found = find_roles(graph)
    assert list(found.missing) == roles
    with pytest.raises(WorkflowError) as caught:
        apply_params(graph, found, PARAMS, prompt="P", negative_prompt="N", seed=1, prefix="x", seconds=1)
    assert all(role in str(caught.value) for role in roles)
    describe_roles(graph, found)


def test_nothing_at_all() -> None:
    assert find_roles({}).missing and find_roles({"1": {"class_type": "Note", "inputs": {}}}).missing
    looped = {"1": graphs.node("SaveVideo", filename_prefix="x", video=["2", 0]), "2": graphs.node("CreateVideo", fps=1, images=["1", 0])}
    assert "sampler" in find_roles(looped).missing


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": 2.5}, {"steps": "12"}, {"cfg_scale": float("nan")}, {"width": -1}, {"fps": True}, {"fps": 0}]
)
def test_values_that_cannot_be_set_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError, match=next(iter(wrong))):
        applied(graphs.one_sampler(), **wrong)


# ---------------------------------------------------------------- length
@pytest.mark.parametrize(
    ("seconds", "fps", "frames"), [(5, 16, 81), (2, 24, 49), (3, 16, 49), (0.1, 8, 5), (1, 1, 5), (1.1, 16, 17), (10, 30, 301)]
)
def test_length(seconds: float, fps: float, frames: int) -> None:
    assert estimate_length(seconds, fps) == frames


@given(seconds=st.floats(0.05, 600), fps=st.floats(1, 120))
def test_length_is_the_nearest_of_its_kind(seconds: float, fps: float) -> None:
    frames = estimate_length(seconds, fps)
    assert frames >= 5 and frames % 4 == 1
    assert frames == 5 or abs(frames - seconds * fps) <= 2 + 1e-6


@pytest.mark.parametrize(("seconds", "fps"), [(0, 16), (-1, 16), (5, 0), (float("nan"), 16), (float("inf"), 16), (True, 16)])
def test_length_of_nonsense(seconds: Any, fps: Any) -> None:
    with pytest.raises(WorkflowError, match="positive length"):
        estimate_length(seconds, fps)


def test_roles_of_the_recorded_examples(recorded_comfyui: Path) -> None:
    info = json.loads((recorded_comfyui / "object_info.json").read_text(encoding="utf-8"))
    complete = 0
    for path in sorted((recorded_comfyui / "convert_examples").glob("*wan*.api.json")):
        graph = json.loads(path.read_text(encoding="utf-8"))
        roles = find_roles(graph, info)
        assert roles == find_roles(graph), "the node list sharpens nothing here"
        if not roles.missing:
            complete += 1
            made = apply_params(graph, roles, PARAMS, prompt="P", negative_prompt="N", seed=7, prefix="p/x", seconds=1)
            assert made[roles.positive.node]["inputs"][roles.positive.input] == "P"  # type: ignore[union-attr]
    assert complete >= 8
