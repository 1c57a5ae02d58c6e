"""UI format to API format: the frontend's own pairs, and each rule on a workflow small enough to check by eye."""

from __future__ import annotations

import json
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import WorkflowError
from eva_p1.workflow import convert_workflow, is_ui_format, load_workflow, main
from eva_p1.workflow_tokens import dynamic_prompt, expand_tokens
from tests.eva_p1.workflow_sheets import INFO, SAMPLE, Sheet, inputs

# ---------------------------------------------------------------- the frontend's own pairs
ONLY_FRONTEND = {("Preview3D", "image"), ("SaveGLB", "image"), ("PreviewAny", "preview"), ("RecordAudio", "audio")}


def comparable(graph: dict[str, Any]) -> dict[str, Any]:
    return {
        node_id: (node["class_type"], {
            name: value for name, value in node["inputs"].items()
            if name not in ("audioUI", "previewMode") and (node["class_type"], name) not in ONLY_FRONTEND
        })
        for node_id, node in graph.items()
    }  # fmt: skip


def test_every_pair_of_the_frontend(recorded_comfyui: Path) -> None:
    info = json.loads((recorded_comfyui / "object_info.json").read_text(encoding="utf-8"))
    pairs = sorted((recorded_comfyui / "convert_examples").glob("*.ui.json"))
    assert len(pairs) >= 15
    for path in pairs:
        wanted = json.loads(path.with_name(path.name.replace(".ui.", ".api.")).read_text(encoding="utf-8"))
        made = convert_workflow(json.loads(path.read_text(encoding="utf-8")), info)
        assert comparable(made) == comparable(wanted), path.name
        titles = {node_id: node["_meta"]["title"] for node_id, node in made.items()}
        assert titles == {node_id: node["_meta"]["title"] for node_id, node in wanted.items()}


# ---------------------------------------------------------------- widgets
def test_widget_order_with_seed_control_and_upload_button() -> None:
    sheet = Sheet().add(1, "Load", ["b.png", 3, "yo", "image"], outs=("IMAGE", "MASK"))
    sheet.add(2, "Sample", [7, "randomize", 30, 4.5, "slow", "hello"], SAMPLE, ("IMAGE",)).link(1, 0, 2, "image").link(1, 1, 2, "mask")
    graph = sheet.convert()
    assert inputs(graph, "1") == {"name": "b.png", "scale": 3, "note": "yo"}
    assert inputs(graph, "2") == {"seed": 7, "steps": 30, "cfg": 4.5, "mode": "slow", "text": "hello", "image": ["1", 0], "mask": ["1", 1]}
    assert graph["2"]["_meta"]["title"] == "A Sampler"


def test_short_lists_fall_back_to_defaults_and_values_out_of_range_pass() -> None:
    assert inputs(Sheet().add(1, "Load", []).convert(), "1") == {"name": "a.png", "scale": 2, "note": "hi"}
    assert inputs(Sheet().add(1, "Sample", [1, "fixed", 9999]).convert(), "1") == {
        "seed": 1,
        "steps": 9999,
        "cfg": 8,
        "mode": "fast",
        "text": "",
    }


def test_values_saved_by_name_bring_the_widgets_of_their_format() -> None:
    values = {"frame_rate": 16, "format": "mp4", "crf": 21, "videopreview": {"hidden": False}, "unrelated": 1}
    assert inputs(Sheet().add(1, "VHS_VideoCombine", values).convert(), "1") == {"frame_rate": 16, "format": "mp4", "crf": 21}
    assert inputs(Sheet().add(1, "VHS_VideoCombine", values | {"format": "gif"}).convert(), "1") == {"frame_rate": 16, "format": "gif"}


def test_dummy_values_of_forced_inputs_in_old_files_are_dropped() -> None:
    assert inputs(Sheet().add(1, "Old", [0, 8, "q"]).convert(), "1") == {"b": 8, "c": "q"}
    assert inputs(Sheet().add(1, "Old", [8, "q"]).convert(), "1") == {"b": 8, "c": "q"}


@pytest.mark.parametrize(("values", "wanted"), [
    (["by", 2.5, False], {"kind": "by", "kind.factor": 2.5, "after": False}),
    (["to", 10, 20, False], {"kind": "to", "kind.width": 10, "kind.height": 20, "after": False}),
    ([], {"kind": "by", "kind.factor": 1.5, "after": True}),
])  # fmt: skip
def test_a_dynamic_list_brings_its_own_widgets(values: list[Any], wanted: dict[str, Any]) -> None:
    assert inputs(Sheet().add(1, "Shape", values).convert(), "1") == wanted


def test_dynamic_sockets_and_grown_inputs_keep_their_names() -> None:
    sheet = Sheet().add(1, "Load", outs=("IMAGE", "MASK"))
    sheet.add(2, "Shape", ["to", 1, 2, True], {"image": "IMAGE", "kind.like": "IMAGE"}, ("IMAGE",)).link(1, 0, 2, "image").link(
        1, 0, 2, "kind.like"
    )
    sheet.add(3, "Join", None, {"images.image0": "IMAGE", "images.image1": "IMAGE"}, ("IMAGE",))
    sheet.link(1, 0, 3, "images.image0").link(2, 0, 3, "images.image1")
    graph = sheet.convert()
    assert inputs(graph, "2")["kind.like"] == ["1", 0]
    assert inputs(graph, "3") == {"images.image0": ["1", 0], "images.image1": ["2", 0]}


def test_a_widget_of_a_type_only_a_node_pack_knows() -> None:
    info = INFO | {"Curvy": {"input": {"required": {"shape": ["PACK_CURVE", {}], "amount": ["INT", {"default": 1}]}}, "output": []}}
    sheet = Sheet().add(1, "Curvy", [{"points": 3}, 7], {"shape": "PACK_CURVE!"})
    assert inputs(convert_workflow(sheet.done(), info), "1") == {"shape": {"points": 3}, "amount": 7}
    assert inputs(convert_workflow(Sheet().add(1, "Curvy", [7], {"shape": "PACK_CURVE"}).done(), info), "1") == {"amount": 7}


def test_a_list_value_is_wrapped_so_that_it_is_no_link() -> None:
    assert inputs(Sheet().add(1, "Load", [["x", 1]]).convert(), "1")["name"] == {"__value__": ["x", 1]}


# ---------------------------------------------------------------- links, reroutes, modes
def test_converted_widgets_reroutes_and_notes() -> None:
    sheet = (
        Sheet().add(1, "Snap", [32], outs=("INT",)).add(2, "Reroute", None, {"": "*"}, ("*",)).add(3, "Reroute", None, {"": "*"}, ("*",))
    )
    sheet.add(4, "Sample", [1, "fixed", 20, 8, "fast", ""], {"steps": "INT!"}, ("IMAGE",)).add(5, "Note", ["text"]).add(
        6, "MarkdownNote", ["# x"]
    )
    sheet.link(1, 0, 2, "").link(2, 0, 3, "").link(3, 0, 4, "steps")
    graph = sheet.convert()
    assert set(graph) == {"1", "4"} and inputs(graph, "4")["steps"] == ["1", 0]


def test_old_reroutes_in_a_circle_are_an_error() -> None:
    sheet = (
        Sheet()
        .add(1, "Reroute", None, {"": "*"}, ("*",))
        .add(2, "Reroute", None, {"": "*"}, ("*",))
        .add(3, "Join", None, {"images.image0": "IMAGE"})
    )
    sheet.link(1, 0, 2, "").link(2, 0, 1, "").link(2, 0, 3, "images.image0")
    with pytest.raises(WorkflowError, match="circle"):
        sheet.convert()


def chain(mode: int) -> Sheet:
    sheet = Sheet().add(1, "Load", outs=("IMAGE", "MASK")).add(2, "Sample", [1, "fixed"], SAMPLE, ("IMAGE",), mode=mode)
    sheet.add(3, "SaveVideo", ["p"], {"images": "IMAGE"})
    return sheet.link(1, 0, 2, "image").link(1, 1, 2, "mask").link(2, 0, 3, "images")


def test_a_bypassed_node_hands_on_the_input_of_its_type_and_a_muted_one_cuts() -> None:
    bypassed = chain(4).convert()
    assert set(bypassed) == {"1", "3"} and inputs(bypassed, "3") == {"filename_prefix": "p", "images": ["1", 0]}
    muted = chain(2).convert()
    assert set(muted) == {"1", "3"} and inputs(muted, "3") == {"filename_prefix": "p"}


def test_a_bypassed_node_without_a_matching_input_cuts() -> None:
    sheet = Sheet().add(1, "Snap", [32], outs=("INT",)).add(2, "Load", ["a.png"], {"scale": "FLOAT!"}, ("IMAGE", "MASK"), mode=4)
    sheet.add(3, "SaveVideo", ["p"], {"images": "IMAGE"}).link(1, 0, 2, "scale").link(2, 0, 3, "images")
    assert inputs(sheet.convert(), "3") == {"filename_prefix": "p"}


def test_a_muted_source_makes_a_linked_widget_vanish() -> None:
    sheet = (
        Sheet()
        .add(1, "Snap", [32], outs=("INT",), mode=2)
        .add(2, "Sample", [1, "fixed", 20], {"steps": "INT!"}, ("IMAGE",))
        .link(1, 0, 2, "steps")
    )
    assert "steps" not in inputs(sheet.convert(), "2")


def test_set_and_get_nodes() -> None:
    sheet = (
        Sheet()
        .add(1, "Load", outs=("IMAGE", "MASK"))
        .add(2, "SetNode", ["pic"], {"IMAGE": "IMAGE"}, ("*",))
        .add(3, "GetNode", ["pic"], outs=("IMAGE",))
    )
    sheet.add(4, "GetNode", ["nobody"], outs=("IMAGE",)).add(5, "SaveVideo", ["p"], {"images": "IMAGE"}).add(
        6, "SaveVideo", ["q"], {"images": "IMAGE"}
    )
    sheet.link(1, 0, 2, "IMAGE").link(3, 0, 5, "images").link(4, 0, 6, "images")
    graph = sheet.convert()
    assert inputs(graph, "5")["images"] == ["1", 0] and "images" not in inputs(graph, "6") and set(graph) == {"1", "5", "6"}


# ---------------------------------------------------------------- primitives
@pytest.mark.parametrize(
    ("value", "name", "wanted"), [(33.4, "steps", 33), (99, "steps", 50), (3.14159, "cfg", 3.1), (77, "cfg", 10), (-5, "cfg", 0)]
)
def test_a_primitive_is_inlined_held_to_the_limits_and_rounded(value: Any, name: str, wanted: Any) -> None:
    sheet = Sheet().add(1, "PrimitiveNode", [value, "fixed"], outs=("*",))
    sheet.add(2, "Sample", [1, "fixed", 20, 8, "fast", ""], {name: "X!"}, ("IMAGE",)).link(1, 0, 2, name)
    graph = sheet.convert()
    assert set(graph) == {"2"} and inputs(graph, "2")[name] == pytest.approx(wanted)


def test_a_primitive_of_two_targets_is_held_to_both() -> None:
    sheet = Sheet().add(1, "PrimitiveNode", [10, "fixed"], outs=("*",)).add(2, "Sample", [1, "fixed", 20], {"steps": "INT!"}, ("IMAGE",))
    sheet.add(3, "Snap", [16], {"size": "INT!"}, ("INT",)).link(1, 0, 2, "steps").link(1, 0, 3, "size")
    graph = sheet.convert()
    assert inputs(graph, "2")["steps"] == 16 and inputs(graph, "3")["size"] == 16


# ---------------------------------------------------------------- texts
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a {red} ball // line\nsecond /* block */ line \\{kept\\}", "a red ball \nsecond  line {kept}"),
        ("{a|a}{b|{b|b}}", "ab"),
        ("{x", "x"),
        ("x}", "x}"),
        ("{}", ""),
        ("a\\|b", "a|b"),
        ("/* all\n */", ""),
        ("c:\\dir", "c:\\dir"),
        ("end\\", "end\\"),
    ],
)
def test_dynamic_prompts(text: str, wanted: str) -> None:
    assert dynamic_prompt(text, random.Random(1)) == wanted


def test_dynamic_prompts_choose_each_option_and_only_in_fields_that_have_them() -> None:
    seen = {dynamic_prompt("{one|two|three}", random.Random(seed)) for seed in range(40)}
    assert seen == {"one", "two", "three"}
    sheet = Sheet().add(1, "Load", ["a.png", 1, "{a|b} // kept"])
    assert inputs(sheet.convert(), "1")["note"] == "{a|b} // kept"


def test_tokens_in_file_names() -> None:
    sheet = (
        Sheet().add(1, "Snap", [32], outs=("INT",), properties={"Node name for S&R": "Snap"}).add(2, "Load", ["a/b.png"], title="My load")
    )
    sheet.add(3, "SaveVideo", ["v/%Snap.size%_%My load.name%_%date:yyyy-MM-dd_hh-mm%_%width%_%Nope.x%"])
    made = inputs(sheet.convert(now=datetime(2026, 3, 4, 5, 6)), "3")["filename_prefix"]
    assert made == "v/32_a_b.png_2026-03-04_05-06_%width%_%Nope.x%"
    assert expand_tokens("%date:d.M%", lambda *_: None, datetime(2026, 3, 4)) == "%date:d.M%", "one dot makes it a node and a widget"


# ---------------------------------------------------------------- what cannot be converted
def test_unknown_classes_are_all_named_with_what_to_install() -> None:
    sheet = (
        Sheet()
        .add(1, "NiceNode", outs=("IMAGE",), properties={"cnr_id": "comfyui-nice"})
        .add(2, "CoreNode", outs=("IMAGE",), properties={"cnr_id": "comfy-core", "ver": "0.9.9"})
        .add(3, "Mystery", outs=("IMAGE",), title="Where from?")
    )
    sheet.add(4, "Join", None, {"images.image0": "IMAGE", "images.image1": "IMAGE", "images.image2": "IMAGE"})
    for number in range(3):
        sheet.link(number + 1, 0, 4, f"images.image{number}")
    sheet.add(5, "Fast Groups Muter (rgthree)").add(6, "Decoration")
    with pytest.raises(WorkflowError) as caught:
        sheet.convert(name="mine.json")
    text = str(caught.value)
    assert "mine.json" in text and "'NiceNode' comes with the node pack 'comfyui-nice'" in text
    assert "'CoreNode' is part of ComfyUI itself: update it (the workflow was made with 0.9.9)" in text
    assert "'Where from?' (node 3)" in text and "'Mystery'" in text and "Decoration" not in text


def test_group_nodes_and_empty_workflows_are_named() -> None:
    sheet = Sheet().add(1, "workflow>My group", outs=("IMAGE",))
    with pytest.raises(WorkflowError, match=r"group nodes.*'My group' \(node 1\).*Convert to nodes"):
        convert_workflow(sheet.done() | {"extra": {"groupNodes": {"My group": {}}}}, INFO)
    with pytest.raises(WorkflowError, match="no node that runs"):
        Sheet().add(1, "Note", ["x"]).convert()
    with pytest.raises(WorkflowError, match="not in ComfyUI's UI format"):
        convert_workflow({"1": {}}, INFO)
    with pytest.raises(WorkflowError, match="without id or type"):
        convert_workflow({"nodes": [{"id": 1}]}, INFO)
    assert not is_ui_format({"nodes": {}}) and is_ui_format({"nodes": []})


def everywhere(links: list[dict[str, Any]] | None, mode: int = 0) -> dict[str, Any]:
    """A picture sent to a saver without a line; ``links`` is what the sender's browser code wrote into the file."""
    sheet = Sheet().add(1, "Load", ["b.png"], outs=("IMAGE", "MASK")).add(2, "SaveVideo", ["p"], {"images": "IMAGE"})
    sheet.add(3, "Anything Everywhere", None, {"anything": "*"}, title="Send", mode=mode).link(1, 0, 3, "anything")
    return sheet.done() | {"extra": {} if links is None else {"ue_links": links}}


SENT = {"downstream": 2, "downstream_slot": 0, "upstream": "1", "upstream_slot": 0, "controller": 3, "type": "IMAGE"}


def test_links_without_lines_are_followed() -> None:
    graph = convert_workflow(everywhere([SENT]), INFO)
    assert inputs(graph, "2")["images"] == ["1", 0]
    assert set(graph) == {"1", "2"}, "the sender itself is nothing a server needs"
    sender = {"input": {"optional": {"anything": ["*", {}]}}, "output": []}
    assert set(convert_workflow(everywhere([SENT]), INFO | {"Anything Everywhere": sender})) == {"1", "2", "3"}
    for links, mode in (([], 0), ([SENT], 4), ([SENT | {"controller": 9}], 0), ([SENT | {"downstream_slot": 7}], 0), ([{}, None], 0)):
        assert "images" not in inputs(convert_workflow(everywhere(links, mode), INFO), "2")


def test_links_without_lines_inside_a_subgraph_are_followed() -> None:
    inner = Sheet().add(1, "Load", ["b.png"], outs=("IMAGE", "MASK")).add(3, "Anything Everywhere", None, {"anything": "*"})
    raw = inner.link(1, 0, 3, "anything").definition("sub", [], [("IMAGE", "IMAGE", [])])
    raw["extra"] = {"ue_links": [{"downstream": -20, "downstream_slot": 0, "upstream": 1, "upstream_slot": 0, "controller": 3}]}
    sheet = Sheet().add(5, "sub", None, {}, ("IMAGE",)).add(6, "SaveVideo", ["p"], {"images": "IMAGE"}).link(5, 0, 6, "images")
    sheet.subgraphs.append(raw)
    assert inputs(sheet.convert(), "6")["images"] == ["5:1", 0]


def test_links_without_lines_that_the_file_does_not_hold_are_named() -> None:
    with pytest.raises(WorkflowError, match=r"'Send' \(node 3\) links other nodes without lines.*Convert all UEs to real links"):
        convert_workflow(everywhere(None), INFO)
    assert "images" not in inputs(convert_workflow(everywhere(None, mode=2), INFO), "2"), "a muted sender sends nothing"


def test_links_that_lead_nowhere_are_no_links() -> None:
    sheet = Sheet().add(3, "SaveVideo", ["p"], {"images": "IMAGE"})
    sheet.nodes[0]["inputs"][0]["link"] = 99
    assert inputs(sheet.convert(), "3") == {"filename_prefix": "p"}


def test_loading_and_converting_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ui.json").write_text(json.dumps(chain(4).done()), encoding="utf-8")
    (tmp_path / "info.json").write_text(json.dumps(INFO), encoding="utf-8")
    assert load_workflow(tmp_path / "ui.json", INFO)["3"]["inputs"]["images"] == ["1", 0]
    with pytest.raises(WorkflowError, match="UI format.*--api"):
        load_workflow(tmp_path / "ui.json")
    assert main(["convert", str(tmp_path / "ui.json"), "--object-info", str(tmp_path / "info.json")]) == 0
    assert json.loads(capsys.readouterr().out) == load_workflow(tmp_path / "ui.json", INFO)
