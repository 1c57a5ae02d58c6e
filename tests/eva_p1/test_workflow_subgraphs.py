"""Subgraphs: unfolding, promoted widgets, nesting, instances that are muted or bypassed."""

from __future__ import annotations

from typing import Any

import pytest

from eva_env_base import WorkflowError
from tests.eva_p1.workflow_sheets import Sheet, inputs


def inner_sampler(name: str = "S") -> dict[str, Any]:
    """In: image, steps, text. Out: image."""
    sheet = Sheet().add(
        7, "Sample", [5, "fixed", 11, 8, "fast", "inside"], {"image": "IMAGE", "steps": "INT!", "text": "STRING!"}, ("IMAGE",)
    )
    sheet.links = [[1, -10, 0, 7, 0, "IMAGE"], [2, -10, 1, 7, 1, "INT"], [3, -10, 2, 7, 2, "STRING"], [4, 7, 0, -20, 0, "IMAGE"]]
    for slot, link_id in zip(sheet.nodes[0]["inputs"], (1, 2, 3)):
        slot["link"] = link_id
    sheet.nodes[0]["outputs"][0]["links"] = [4]
    return sheet.definition(name, [("image", "IMAGE", [1]), ("steps", "INT", [2]), ("text", "STRING", [3])], [("out", "IMAGE", [4])])


def host(values: Any, mode: int = 0, **properties: Any) -> Sheet:
    sheet = (
        Sheet().add(1, "Load", outs=("IMAGE", "MASK")).add(9, "S", values, {"image": "IMAGE"}, ("IMAGE",), mode=mode, properties=properties)
    )
    sheet.add(3, "SaveVideo", ["p"], {"images": "IMAGE"}).link(1, 0, 9, "image").link(9, 0, 3, "images")
    sheet.subgraphs = [inner_sampler()]
    return sheet


def test_a_subgraph_is_unfolded_with_ids_that_say_where() -> None:
    graph = host([]).convert()
    assert set(graph) == {"1", "3", "9:7"}
    assert inputs(graph, "9:7")["image"] == ["1", 0] and inputs(graph, "3")["images"] == ["9:7", 0]
    assert inputs(graph, "9:7")["steps"] == 11 and inputs(graph, "9:7")["text"] == "inside", "an instance without values of its own"


@pytest.mark.parametrize(
    ("values", "proxies", "steps", "text"),
    [
        ([22, "mine"], None, 22, "mine"),
        ([22, "mine"], [["-1", "steps"], ["-1", "text"]], 22, "mine"),
        (["mine", 22], [["-1", "text"], ["-1", "steps"]], 22, "mine"),
        (["mine", None, 22], [["-1", "text"], ["7", "seed"], ["-1", "steps"]], 22, "mine"),
    ],
)
def test_promoted_values_of_the_instance_win(values: list[Any], proxies: Any, steps: int, text: str) -> None:
    graph = host(values, **({"proxyWidgets": proxies} if proxies else {})).convert()
    assert (inputs(graph, "9:7")["steps"], inputs(graph, "9:7")["text"]) == (steps, text)


def test_a_list_with_seed_controls_is_read_as_on_a_plain_node() -> None:
    sheet = Sheet().add(7, "Sample", [5, "fixed", 11], {"seed": "INT!", "steps": "INT!"}, ("IMAGE",))
    sheet.links = [[1, -10, 0, 7, 0, "INT"], [2, -10, 1, 7, 1, "INT"]]
    sheet.nodes[0]["inputs"][0]["link"], sheet.nodes[0]["inputs"][1]["link"] = 1, 2
    outer = Sheet().add(9, "S", [123, "randomize", 44])
    outer.subgraphs = [sheet.definition("S", [("seed", "INT", [1]), ("steps", "INT", [2])], [])]
    assert inputs(outer.convert(), "9:7")["seed"] == 123 and inputs(outer.convert(), "9:7")["steps"] == 44
    outer.nodes[0]["widgets_values"] = [123, 45]
    assert inputs(outer.convert(), "9:7")["steps"] == 45


def test_other_proxy_widgets_leave_the_inner_value() -> None:
    graph = host([99, 11, "inside"], proxyWidgets=[["7", "seed"], ["-1", "steps"], ["-1", "text"]]).convert()
    assert inputs(graph, "9:7")["seed"] == 5 and inputs(graph, "9:7")["steps"] == 11


def test_two_instances_keep_their_own_values() -> None:
    sheet = host([22, "mine"]).add(10, "S", [33, "yours"], {"image": "IMAGE"}, ("IMAGE",)).link(9, 0, 10, "image")
    graph = sheet.convert()
    assert inputs(graph, "9:7")["steps"] == 22 and inputs(graph, "10:7")["steps"] == 33
    assert inputs(graph, "10:7")["image"] == ["9:7", 0]


def test_a_link_into_a_promoted_input_wins_over_its_value() -> None:
    sheet = host([22, "mine"]).add(4, "Snap", [32], outs=("INT",))
    sheet.nodes[1]["inputs"].append({"name": "steps", "type": "INT", "link": None, "widget": {"name": "steps"}})
    graph = sheet.link(4, 0, 9, "steps").convert()
    assert inputs(graph, "9:7")["steps"] == ["4", 0] and inputs(graph, "9:7")["text"] == "mine"


def test_nested_subgraphs() -> None:
    outer = Sheet().add(35, "S", [44, "deep"], {"image": "IMAGE", "steps": "INT!"}, ("IMAGE",))
    outer.links = [[1, -10, 0, 35, 0, "IMAGE"], [2, -10, 1, 35, 1, "INT"], [3, 35, 0, -20, 0, "IMAGE"]]
    outer.nodes[0]["inputs"][0]["link"], outer.nodes[0]["inputs"][1]["link"] = 1, 2
    sheet = (
        Sheet()
        .add(1, "Load", outs=("IMAGE", "MASK"))
        .add(2, "O", [55], {"image": "IMAGE"}, ("IMAGE",))
        .add(3, "SaveVideo", ["p"], {"images": "IMAGE"})
    )
    sheet.link(1, 0, 2, "image").link(2, 0, 3, "images")
    sheet.subgraphs = [outer.definition("O", [("image", "IMAGE", [1]), ("steps", "INT", [2])], [("out", "IMAGE", [3])]), inner_sampler()]
    graph = sheet.convert()
    assert set(graph) == {"1", "3", "2:35:7"} and inputs(graph, "3")["images"] == ["2:35:7", 0]
    assert (
        inputs(graph, "2:35:7")["image"] == ["1", 0]
        and inputs(graph, "2:35:7")["steps"] == 55
        and inputs(graph, "2:35:7")["text"] == "deep"
    )


def test_a_bypassed_instance_hands_on_its_input_and_a_muted_one_still_gives() -> None:
    assert inputs(host([], mode=4).convert(), "3")["images"] == ["1", 0]
    muted = host([], mode=2).convert()
    assert inputs(muted, "3")["images"] == ["9:7", 0] and "9:7" in muted


def test_a_subgraph_that_contains_itself() -> None:
    sheet = host([])
    sheet.subgraphs[0]["nodes"].append({"id": 8, "type": "S", "mode": 0, "inputs": [], "outputs": []})
    with pytest.raises(WorkflowError, match="contains itself"):
        sheet.convert()
