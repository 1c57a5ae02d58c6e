"""POST /prompt says no in the words of a recorded server 0.8.0."""

from __future__ import annotations

import pytest
import requests

from eva_sim.node_table import object_info
from eva_sim.validation import validate_prompt

TABLE = object_info()


def check(prompt):
    return validate_prompt(prompt, TABLE)


def only_error(prompt, node):
    verdict = check(prompt)
    assert not verdict.ok and verdict.error["type"] == "prompt_outputs_failed_validation"
    assert list(verdict.node_errors) == [node]
    entry = verdict.node_errors[node]
    assert entry["dependent_outputs"] == ["14"] and entry["class_type"] == prompt[node]["class_type"]
    assert len(entry["errors"]) == 1
    return entry["errors"][0]


def test_a_good_prompt_passes(graph):
    verdict = check(graph())
    assert verdict.ok and verdict.outputs == ["14"] and verdict.node_errors == {}


def test_unknown_and_missing_class(graph):
    prompt = graph()
    prompt["12"]["class_type"] = "NoSuchNode"
    error = {
        "type": "invalid_prompt",
        "message": "Cannot execute because node NoSuchNode does not exist.",
        "details": "Node ID '#12'",
        "extra_info": {},
    }
    assert (check(prompt).error, check(prompt).node_errors) == (error, {})
    del prompt["12"]["class_type"]
    assert check(prompt).error["message"] == "Cannot execute because a node is missing the class_type property."
    assert check({"nodes": [], "links": []}).error["type"] == "invalid_prompt"  # a workflow in UI format


def test_no_outputs(graph):
    prompt = graph()
    del prompt["14"]
    for nothing in (prompt, {}):
        assert check(nothing).error == {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": "", "extra_info": {}}


@pytest.mark.parametrize(("node", "name"), [("10", "cfg"), ("12", "vae")])
def test_required_input_missing(graph, node, name):
    prompt = graph()
    del prompt[node]["inputs"][name]
    assert only_error(prompt, node) == {
        "type": "required_input_missing",
        "message": "Required input is missing",
        "details": name,
        "extra_info": {"input_name": name},
    }
    assert check(prompt).error["details"] == ""


def test_value_not_in_a_long_list_hides_the_list(graph):
    error = only_error(graph() | {"3": {"class_type": "UNETLoader", "inputs": {"unet_name": "x", "weight_dtype": "default"}}}, "3")
    assert error["type"] == "value_not_in_list" and error["message"] == "Value not in list"
    assert error["details"] == f"unet_name: 'x' not in (list of length {len(TABLE['UNETLoader']['input']['required']['unet_name'][0])})"
    assert error["extra_info"] == {"input_name": "unet_name", "input_config": None, "received_value": "x"}


def test_value_not_in_a_short_list_shows_the_list(graph):
    prompt = graph()
    prompt["10"]["inputs"]["scheduler"] = "x"
    error = only_error(prompt, "10")
    options = TABLE["KSamplerAdvanced"]["input"]["required"]["scheduler"][0]
    assert error["details"] == f"scheduler: 'x' not in {options}"
    assert error["extra_info"]["input_config"] == [options, {}]


def test_error_in_the_output_node_is_repeated_at_the_top(graph):
    prompt = graph()
    prompt["14"]["inputs"]["codec"] = "av1"
    assert check(prompt).error["details"] == "Value not in list: codec: 'av1' not in ['auto', 'h264']"
    assert only_error(prompt, "14")["extra_info"]["input_config"][0] == "COMBO"


def test_wrong_link_type(graph):
    prompt = graph()
    prompt["12"]["inputs"]["samples"] = ["2", 0]
    error = only_error(prompt, "12")
    assert error["type"] == "return_type_mismatch" and error["message"] == "Return type mismatch between linked nodes"
    assert error["details"] == "samples, received_type(VAE) mismatch input_type(LATENT)"
    assert error["extra_info"]["received_type"] == "VAE" and error["extra_info"]["linked_node"] == ["2", 0]


@pytest.mark.parametrize(
    ("link", "text", "kind"), [(["9999", 0], "'9999'", "KeyError"), (["11", 7], "list index out of range", "IndexError")]
)
def test_link_to_nothing(graph, link, text, kind):
    prompt = graph()
    prompt["12"]["inputs"]["samples"] = link
    error = only_error(prompt, "12")
    assert error["type"] == "exception_during_inner_validation" and error["message"] == "Exception when validating inner node"
    assert error["details"] == text and error["extra_info"]["exception_type"] == kind
    assert error["extra_info"]["input_name"] == "images" and error["extra_info"]["linked_node"] == ["12", 0]


def test_bad_linked_input(graph):
    prompt = graph()
    prompt["12"]["inputs"]["samples"] = ["11"]
    error = only_error(prompt, "12")
    assert error["type"] == "bad_linked_input" and error["extra_info"]["received_value"] == ["11"]


def test_limits_and_types(graph):
    prompt = graph()
    prompt["9"]["inputs"]["width"] = 0
    error = only_error(prompt, "9")
    assert (error["type"], error["message"], error["details"]) == ("value_smaller_than_min", "Value 0 smaller than min of 16", "width")
    prompt = graph()
    prompt["10"]["inputs"]["cfg"] = 1000
    error = only_error(prompt, "10")
    assert (error["type"], error["message"]) == ("value_bigger_than_max", "Value 1000.0 bigger than max of 100.0")
    prompt = graph()
    prompt["10"]["inputs"]["steps"] = "many"
    error = only_error(prompt, "10")
    assert error["type"] == "invalid_input_type" and error["message"] == "Failed to convert an input value to a INT value"
    assert error["details"] == "steps, many, invalid literal for int() with base 10: 'many'"


def test_lenient_where_the_real_one_is(graph):
    prompt = graph()
    prompt["10"]["inputs"]["steps"] = "6"  # a numeric string is converted
    prompt["9"]["inputs"]["width"] = 131  # off the step
    prompt["14"]["inputs"]["unknown"] = 1
    verdict = check(prompt)
    assert verdict.ok and prompt["10"]["inputs"]["steps"] == 6


def test_two_errors_in_two_nodes(graph):
    prompt = graph()
    prompt["3"]["inputs"]["unet_name"] = "nope"
    prompt["10"]["inputs"]["scheduler"] = "x"
    assert set(check(prompt).node_errors) == {"3", "10"}


def test_a_cycle_names_no_node(graph):
    prompt = graph()
    prompt["5"]["inputs"]["model"] = ["6", 0]
    prompt["6"]["inputs"]["model"] = ["5", 0]
    verdict = check(prompt)
    assert not verdict.ok and verdict.node_errors == {} and verdict.error["type"] == "prompt_outputs_failed_validation"


def test_one_bad_output_of_two_still_runs_the_good_one(graph):
    prompt = graph()
    prompt["15"] = {"class_type": "SaveVideo", "inputs": {**prompt["14"]["inputs"], "codec": "bad"}}
    verdict = check(prompt)
    assert verdict.ok and verdict.outputs == ["14"] and set(verdict.node_errors) == {"15"}
    assert verdict.node_errors["15"]["dependent_outputs"] == ["15"]


def test_node_without_inputs():
    verdict = check({"1": {"class_type": "SaveVideo"}})
    assert verdict.error["details"] == "Exception when validating node: 'inputs'"
    error = verdict.node_errors["1"]["errors"][0]
    assert error["type"] == "exception_during_validation" and error["extra_info"]["exception_type"] == "KeyError"


def test_an_image_that_was_not_uploaded():
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    error = check(prompt).node_errors["1"]["errors"][0]
    assert (error["type"], error["details"]) == ("custom_validation_failed", "image - Invalid image file: mine.png")
    assert validate_prompt(prompt, TABLE, lambda name: name == "mine.png").ok


def test_over_http(simulator, connect, graph):
    client = connect(simulator(), listen=False)
    answer = client.post(graph(sampler_name="nope"))
    assert answer.status_code == 400 and set(answer.json()) == {"error", "node_errors"}
    assert set(answer.json()["node_errors"]) == {"10", "11"}
    no_prompt = {
        "error": {"type": "no_prompt", "message": "No prompt provided", "details": "No prompt provided", "extra_info": {}},
        "node_errors": {},
    }
    for body in ({"client_id": "x"}, []):
        answer = client.send("/prompt", body)
        assert (answer.status_code, answer.json()) == (400, no_prompt)
    for raw in (b"{nope", b"", b'{"prompt": "x"}'):
        answer = requests.post(client.url + "/prompt", data=raw, timeout=10)
        assert answer.status_code == 500 and answer.headers["Content-Type"].startswith("text/plain")
        assert answer.text == "500 Internal Server Error\n\nServer got itself in trouble"
