"""Reading, checking and the command line: every fault named, exit codes as promised."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import UsageError, WorkflowError, run_door
from eva_p1.workflow import check_workflow, load_workflow, main
from eva_p1.workflow_schema import nearest, node_inputs, options_of
from tests.eva_p1.comfy_fake import FakeComfy

OURS = Path(__file__).resolve().parents[2] / "video_wan2_2_14B_t2v.json"


def class_info(required: dict[str, Any], output: list[Any], **more: Any) -> dict[str, Any]:
    return {"input": {"required": required}, "output": output, "output_node": False} | more


@pytest.fixture
def graph() -> dict[str, Any]:
    return load_workflow(OURS)


@pytest.fixture(scope="module")
def info() -> dict[str, Any]:
    """A node list that fits our workflow, in both forms of schema."""
    text = ["STRING", {"multiline": True}]
    sampler = {
        "model": ["MODEL"],
        "add_noise": [["enable", "disable"]],
        "noise_seed": ["INT", {"min": 0, "max": 2**64 - 1}],
        "steps": ["INT", {"min": 1, "max": 10000}],
        "cfg": ["FLOAT", {"min": 0.0, "max": 100.0}],
        "sampler_name": [["euler", "heun", "dpmpp_2m"]],
        "scheduler": ["COMBO", {"options": ["simple", "karras"]}],
        "positive": ["CONDITIONING"],
        "negative": ["CONDITIONING"],
        "latent_image": ["LATENT"],
        "start_at_step": ["INT", {"min": 0, "max": 10000}],
        "end_at_step": ["INT", {"min": 0, "max": 10000}],
        "return_with_leftover_noise": [["disable", "enable"]],
    }
    unet = [[f"wan2.2_t2v_{kind}_noise_14B_fp8_scaled.safetensors" for kind in ("high", "low")], {}]
    return {
        "UNETLoader": class_info({"unet_name": unet, "weight_dtype": [["default", "fp8_e4m3fn"]]}, ["MODEL"]),
        "ModelSamplingSD3": class_info({"model": ["MODEL"], "shift": ["FLOAT", {"min": 0, "max": 100}]}, ["MODEL"]),
        "CLIPLoader": class_info(
            {"clip_name": [["umt5_xxl_fp8_e4m3fn_scaled.safetensors"]], "type": [["wan"]], "device": [["default"]]}, ["CLIP"]
        ),
        "CLIPTextEncode": class_info({"text": text, "clip": ["CLIP"]}, ["CONDITIONING"]),
        "VAELoader": class_info({"vae_name": [["wan_2.1_vae.safetensors"]]}, ["VAE"]),
        "EmptyHunyuanLatentVideo": class_info(
            dict.fromkeys(("width", "height", "length", "batch_size"), ["INT", {"min": 1, "max": 16384}]), ["LATENT"]
        ),
        "KSamplerAdvanced": class_info(sampler, ["LATENT"]),
        "VAEDecode": class_info({"samples": ["LATENT"], "vae": ["VAE"]}, ["IMAGE"]),
        "CreateVideo": class_info({"images": ["IMAGE"], "fps": ["FLOAT", {"min": 1.0, "max": 120.0}]}, ["VIDEO"]),
        "SaveVideo": class_info(
            {
                "video": ["VIDEO"],
                "filename_prefix": ["STRING", {}],
                "format": ["COMBO", {"options": ["auto", "mp4"]}],
                "codec": ["COMBO", {"options": ["auto", "h264"]}],
            },
            [],
            output_node=True,
        ),
    }


def kinds(graph: dict[str, Any], info: dict[str, Any] | None) -> set[tuple[str, str, str]]:
    return {(problem.kind, problem.node, problem.input) for problem in check_workflow(graph, info) if problem.severity == "error"}


def test_a_good_workflow_has_no_problems(graph: dict[str, Any], info: dict[str, Any]) -> None:
    assert kinds(graph, info) == set() and kinds(graph, None) == set()


@pytest.mark.parametrize(("node", "name", "value", "kind", "words"), [
    ("10", "sampler_name", "eulr", "value_not_in_list", "'euler'"), ("10", "scheduler", "karas", "value_not_in_list", "'karras'"),
    ("1", "unet_name", "other.safetensors", "value_not_in_list", "models/diffusion_models folder"),
    ("10", "cfg", 101, "value_bigger_than_max", "100"),
    ("9", "width", 0, "value_smaller_than_min", "1"), ("10", "steps", "many", "invalid_input_type", "'many'"),
    ("12", "vae", ["9", 0], "return_type_mismatch", "takes VAE"), ("12", "vae", ["nope", 0], "missing_node", "nope"),
    ("12", "vae", ["8", 3], "missing_output", "1 output"), ("12", "vae", ["8"], "bad_linked_input", "link is"),
])  # fmt: skip
def test_each_fault_is_named(graph: dict[str, Any], info: dict[str, Any], node: str, name: str, value: Any, kind: str, words: str) -> None:
    graph[node]["inputs"][name] = value
    found = [problem for problem in check_workflow(graph, info) if problem.kind == kind]
    assert [(problem.node, problem.input) for problem in found] == [(node, name)]
    assert words in found[0].message and graph[node]["_meta"]["title"] in found[0].message


def test_missing_inputs_classes_outputs_and_circles(graph: dict[str, Any], info: dict[str, Any]) -> None:
    broken = copy.deepcopy(graph)
    del broken["10"]["inputs"]["cfg"]
    assert ("required_input_missing", "10", "cfg") in kinds(broken, info)
    broken = copy.deepcopy(graph)
    broken["12"]["class_type"] = "VAEDecodeFancy"
    assert ("unknown_class", "12", "") in kinds(broken, info)
    assert any("VAEDecode" in problem.message and "Install" in problem.message for problem in check_workflow(broken, info))
    broken = copy.deepcopy(graph)
    del broken["14"]
    assert {kind for kind, _, _ in kinds(broken, info)} >= {"prompt_no_outputs", "missing_role"}
    broken = copy.deepcopy(graph)
    broken["3"]["inputs"]["model"] = ["3", 0]
    assert any(kind == "cycle" for kind, _, _ in kinds(broken, info))
    assert {kind for kind, _, _ in kinds({"1": {"inputs": {}}, "2": {"class_type": "X"}}, None)} == {"missing_class", "missing_inputs"}


def test_numeric_strings_steps_and_unknown_inputs_pass_as_on_the_server(graph: dict[str, Any], info: dict[str, Any]) -> None:
    graph["10"]["inputs"] |= {"steps": "20", "cfg": "3.5", "unknown": 1}
    assert kinds(graph, info) == set()


def test_what_cannot_be_set_is_a_note_not_an_error(graph: dict[str, Any], info: dict[str, Any]) -> None:
    graph["10"]["inputs"]["negative"] = graph["11"]["inputs"]["negative"] = ["6", 0]
    notes = [problem for problem in check_workflow(graph, info) if problem.severity == "note"]
    assert [problem.kind for problem in notes] == ["not_settable"] and "negative_prompt" in notes[0].message
    assert kinds(graph, info) == set()


# ---------------------------------------------------------------- schema
def test_both_forms_of_a_list_are_read() -> None:
    info = {
        "N": {
            "input": {
                "required": {"a": [["x", "y"], {"default": "y"}], "b": ["COMBO", {"options": [1, 2]}], "c": ["COMBO", {"remote": {}}]},
                "optional": {"d": ["INT", {}]},
            },
            "input_order": {"required": ["b", "a"], "optional": ["d"]},
        }
    }
    assert [(spec.name, spec.type, spec.options, spec.required) for spec in node_inputs(info["N"])] == [
        ("b", "COMBO", (1, 2), True), ("a", "COMBO", ("x", "y"), True), ("c", "COMBO", None, True), ("d", "INT", None, False)]  # fmt: skip
    assert options_of(info, "N", "a") == ["x", "y"] and options_of(info, "N", "c") is None and options_of(info, "M", "a") is None


def test_nearest_values() -> None:
    assert nearest("Eulr", ["heun", "euler", "euler_ancestral"])[0] == "euler"
    assert nearest(23, [8, 16, 24, 30], 2) == [24, 16] and nearest("zzz", ["a", "b"], 1) == ["a"] and nearest("x", []) == []


# ---------------------------------------------------------------- files
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "not a workflow"),
        (b"{}", "empty"),
        (b"\xff\xfe\x00", "not a text file"),
        (b'{"1": {"inputs": {}}}', "1 has no class_type"),
        (b'{"1": {"class_type": "X"}}', "has no inputs"),
        (b'"text"', "not a workflow"),
        (b'{"nodes": [], "links": []}', "UI format"),
    ],
)
def test_files_that_are_no_workflow(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "Ein Süßes 'workflow'.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkflowError, match=words) as caught:
        load_workflow(path)
    assert path.name in str(caught.value)


def test_a_folder_a_byte_order_mark_and_a_saved_request(tmp_path: Path, graph: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError, match="folder|cannot be read"):
        load_workflow(tmp_path)
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"prompt": graph, "client_id": "x"}).encode())
    assert load_workflow(tmp_path / "bom.json") == graph


# ---------------------------------------------------------------- command line
def test_check_prints_roles_and_problems(
    tmp_path: Path, graph: dict[str, Any], info: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "info.json").write_text(json.dumps(info), encoding="utf-8")
    assert main(["check", str(OURS), "--object-info", str(tmp_path / "info.json")]) == 0
    out = capsys.readouterr().out
    assert "positive prompt  Positive prompt (node 6), input text" in out and "can be driven" in out
    graph["10"]["inputs"]["scheduler"] = "karas"
    (tmp_path / "bad.json").write_text(json.dumps(graph), encoding="utf-8")
    assert main(["check", str(tmp_path / "bad.json"), "--object-info", str(tmp_path / "info.json")]) == 1
    assert "scheduler is 'karas'" in capsys.readouterr().out
    assert main(["check", str(OURS)]) == 0 and "not checked" in capsys.readouterr().out


def test_check_asks_a_server(info: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeComfy() as server:
        server.object_info = info
        assert main(["check", str(OURS), "--api", server.url]) == 0
    assert "can be driven" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "code"), [
    (["--help"], 0), (["check", "--help"], 0), (["convert", "--help"], 0), ([], 2), (["nonsense"], 2), (["check"], 2),
    (["check", "x", "--api", "u", "--object-info", "f"], 2),
])  # fmt: skip
def test_usage(arguments: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == code


def test_exit_codes_of_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_door(lambda: main(["check", str(tmp_path / "nope.json")])) == 1
    assert run_door(lambda: main(["convert", str(OURS)])) == 2
    assert run_door(lambda: main(["check", str(OURS), "--api", "not-an-address"])) == 2
    assert "write it like http://127.0.0.1:8188" in capsys.readouterr().err
    with pytest.raises(UsageError):
        main(["convert", str(OURS)])
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(WorkflowError, match="/object_info"):
        main(["check", str(OURS), "--object-info", str(tmp_path / "list.json")])
