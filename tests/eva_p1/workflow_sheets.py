"""A builder of small UI-format workflows, and a node list for them, for the tests of the conversion."""

from __future__ import annotations

from typing import Any

from eva_p1.workflow import convert_workflow

INFO: dict[str, Any] = {
    "Load": {
        "input": {
            "required": {"name": [["a.png", "b.png"], {"image_upload": True}], "scale": ["FLOAT", {"default": 2}]},
            "optional": {"note": ["STRING", {"default": "hi"}]},
        },
        "input_order": {"required": ["name", "scale"], "optional": ["note"]},
        "output": ["IMAGE", "MASK"],
    },
    "Sample": {
        "input": {
            "required": {
                "seed": ["INT", {"default": 0}],
                "image": ["IMAGE", {}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 50}],
                "cfg": ["FLOAT", {"default": 8, "min": 0, "max": 10, "step": 0.1, "round": 0.01}],
                "mode": ["COMBO", {"options": ["fast", "slow"]}],
            },
            "optional": {"mask": ["MASK", {}], "text": ["STRING", {"multiline": True, "dynamicPrompts": True}]},
        },
        "input_order": {"required": ["seed", "image", "steps", "cfg", "mode"], "optional": ["mask", "text"]},
        "output": ["IMAGE"],
        "display_name": "A Sampler",
    },
    "Snap": {"input": {"required": {"size": ["INT", {"default": 16, "min": 16, "max": 640, "step": 16}]}}, "output": ["INT"]},
    "Join": {"input": {"required": {"images": ["COMFY_AUTOGROW_V3", {"template": {}}]}}, "output": ["IMAGE"]},
    "Shape": {
        "input": {
            "required": {
                "image": ["COMFY_MATCHTYPE_V3", {"template": {"allowed_types": "IMAGE,MASK"}}],
                "kind": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "by", "inputs": {"required": {"factor": ["FLOAT", {"default": 1.5}]}}},
                            {
                                "key": "to",
                                "inputs": {
                                    "required": {"width": ["INT", {"default": 5}], "height": ["INT", {"default": 6}], "like": ["IMAGE", {}]}
                                },
                            },
                        ]
                    },
                ],
                "after": ["BOOLEAN", {"default": True}],
            }
        },
        "input_order": {"required": ["image", "kind", "after"]},
        "output": ["COMFY_MATCHTYPE_V3"],
    },
    "Old": {
        "input": {"required": {"a": ["INT", {"forceInput": True}], "b": ["INT", {"default": 3}], "c": ["STRING", {"default": "z"}]}},
        "input_order": {"required": ["a", "b", "c"]},
        "output": [],
    },
    "SaveVideo": {
        "input": {"required": {"images": ["IMAGE", {}], "filename_prefix": ["STRING", {"default": "x"}]}},
        "input_order": {"required": ["images", "filename_prefix"]},
        "output": [],
        "output_node": True,
    },
    "VHS_VideoCombine": {
        "input": {
            "required": {
                "images": ["IMAGE", {}],
                "frame_rate": ["FLOAT", {"default": 8}],
                "format": [["gif", "mp4"], {"formats": {"mp4": [["crf", "INT", {"default": 19}]]}}],
            }
        },
        "output": [],
    },
}


class Sheet:
    """A UI-format workflow under construction."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.subgraphs: list[dict[str, Any]] = []

    def add(
        self, node_id: Any, kind: str, values: Any = None, ins: dict[str, str] | None = None, outs: tuple[str, ...] = (), **more: Any
    ) -> Sheet:
        """``ins`` are inputs by name with their type; a type ending in ``!`` stands for a widget."""
        inputs = []
        for name, type_ in (ins or {}).items():
            slot: dict[str, Any] = {"name": name, "type": type_.rstrip("!"), "link": None}
            inputs.append(slot | ({"widget": {"name": name}} if type_.endswith("!") else {}))
        outputs = [{"name": type_, "type": type_, "links": []} for type_ in outs]
        self.nodes.append(
            {"id": node_id, "type": kind, "mode": 0, "properties": {}, "inputs": inputs, "outputs": outputs, "widgets_values": values}
            | more
        )
        return self

    def link(self, origin: Any, slot: int, target: Any, name: str) -> Sheet:
        link_id = len(self.links) + 1
        source = next((node for node in self.nodes if node["id"] == origin), None)
        goal = next(node for node in self.nodes if node["id"] == target)
        index = next(i for i, slot_ in enumerate(goal["inputs"]) if slot_["name"] == name)
        goal["inputs"][index]["link"] = link_id
        if source is not None:
            source["outputs"][slot]["links"].append(link_id)
        self.links.append([link_id, origin, slot, target, index, "*"])
        return self

    def done(self) -> dict[str, Any]:
        return {"version": 0.4, "nodes": self.nodes, "links": self.links, "definitions": {"subgraphs": self.subgraphs}}

    def definition(self, name: str, inputs: list[tuple[str, str, list[int]]], outputs: list[tuple[str, str, list[int]]]) -> dict[str, Any]:
        """This sheet as a subgraph; its links to and from the border are given by number."""
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        ends = [[{"name": n, "type": t, "linkIds": ids} for n, t, ids in group] for group in (inputs, outputs)]
        return {"id": name, "name": name, "nodes": self.nodes, "links": [dict(zip(keys, link)) for link in self.links],
                "inputs": ends[0], "outputs": ends[1]}  # fmt: skip

    def convert(self, **options: Any) -> dict[str, Any]:
        return convert_workflow(self.done(), INFO, **options)


SAMPLE = {"image": "IMAGE", "mask": "MASK"}


def inputs(graph: dict[str, Any], node_id: str) -> dict[str, Any]:
    return graph[node_id]["inputs"]
