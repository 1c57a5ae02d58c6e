"""The client's readers against what a real server sent (recorded, not shipped: skipped without the recordings)."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import PromptFailed
from eva_p1.comfy_errors import rejection
from eva_p1.comfy_types import Progress, QueueState
from eva_p1.comfy_wait import Waiter, result_of
from eva_p1.workflow_check import check_workflow


@pytest.fixture(scope="module")
def object_info(recorded_comfyui: Path) -> dict[str, Any]:
    return json.loads((recorded_comfyui / "object_info.json").read_text(encoding="utf-8"))


def transcript(folder: Path, name: str) -> Any:
    return json.loads((folder / "transcripts" / f"{name}.json").read_text(encoding="utf-8"))


def histories(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every history entry anywhere in a transcript."""
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, dict) and {"prompt", "outputs", "status"} <= value.keys():
                yield key, value
            else:
                yield from histories(value)
    elif isinstance(node, list):
        for value in node:
            yield from histories(value)


def test_every_recorded_history_is_read(recorded_comfyui: Path) -> None:
    kinds: dict[str, int] = {}
    for path in sorted((recorded_comfyui / "transcripts").glob("*.json")):
        for prompt_id, entry in histories(json.loads(path.read_text(encoding="utf-8"))):
            try:
                done = result_of(prompt_id, entry, {})
            except PromptFailed as error:
                kinds[error.kind] = kinds.get(error.kind, 0) + 1
                assert entry["status"]["status_str"] == "error" or error.kind == "no_output"
            else:
                kinds["done"] = kinds.get("done", 0) + 1
                assert done.videos and done.seconds is not None
                assert done.videos[0].filename.endswith(".mp4")
                cached = next(m[1]["nodes"] for m in entry["status"]["messages"] if m[0] == "execution_cached")
                assert done.cached == (len(cached) == len(entry["prompt"][2]))
    assert kinds.get("done", 0) > 10 and {"error", "oom", "interrupted", "no_output"} <= kinds.keys(), kinds


REFUSED = {
    "unknown_node_class": "no node class 'NoSuchNode'",
    "missing_class_type": "has no class_type",
    "missing_required_input_widget": "the required input 'cfg' is missing",
    "missing_required_input_link": "the required input 'vae' is missing",
    "value_not_in_list_long": "nearest of 44 allowed values",
    "value_not_in_list_short": "scheduler is 'no_such_scheduler'",
    "value_not_in_list_v3_combo": "codec is 'av1', which the server does not offer; allowed values: 'auto', 'h264'",
    "value_not_in_list_missing_model_file": "unet_name is 'not_here.safetensors'",
    "wrong_link_type": "takes LATENT, but is linked to ['92', 0], which gives VAE",
    "link_to_missing_node": "linked to a node or an output that does not exist",
    "link_slot_out_of_range": "does not exist",
    "link_not_length_2": "a link is [node id, output number]",
    "value_smaller_than_min": "width is 0, the smallest value allowed is 16",
    "value_bigger_than_max": "cfg is 1000.0, the largest value allowed is 100.0",
    "not_convertible_to_int": "steps is 'many', which is not a INT value",
    "two_errors_two_nodes": "scheduler is 'x'",
    "no_output_node": "no node that writes a file",
    "empty_prompt_object": "no node that writes a file",
    "cycle": "circle of links",
    "no_prompt_key": "no workflow in the request",
    "invalid_json": "gave no reason",
    "prompt_is_string": "gave no reason",
    "node_without_inputs": "Exception when validating node",
    "ui_format_posted": "not an API-format workflow",
}


@pytest.mark.parametrize("case", REFUSED)
def test_every_recorded_refusal_becomes_a_sentence(recorded_comfyui: Path, object_info: dict[str, Any], case: str) -> None:
    recorded = transcript(recorded_comfyui, "b_validation")[case]
    graph = recorded.get("request_prompt")
    error = rejection(
        recorded["status"], recorded["body"], graph if isinstance(graph, dict) else {}, lambda name: object_info.get(name, {})
    )
    assert REFUSED[case] in str(error)
    assert error.status == recorded["status"] and "None" not in str(error)


def test_our_check_finds_what_the_server_refused(recorded_comfyui: Path, object_info: dict[str, Any]) -> None:
    for case, recorded in transcript(recorded_comfyui, "b_validation").items():
        graph = recorded.get("request_prompt")
        if not isinstance(graph, dict) or case == "one_of_two_outputs_bad":
            continue
        found = [problem for problem in check_workflow(graph, object_info) if problem.severity == "error"]
        if recorded["status"] == 200:
            assert not found, (case, found)
        else:
            assert found, case
            for node_id, entry in (recorded["body"].get("node_errors") or {}).items():
                kinds = {error["type"] for error in entry["errors"]}
                if kinds <= {"exception_during_inner_validation", "exception_during_validation"}:
                    continue  # ours names the node with the bad link, not the one behind it
                assert {problem.kind for problem in found if problem.node == node_id} & kinds, (case, node_id, found)


class Replay:
    """A server that answers with the recorded history once it has been told to."""

    def __init__(self, entry: dict[str, Any]):
        self.entry, self.over, self.lag = entry, False, 0

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        if self.over and self.lag > 0:
            self.lag -= 1
            return None
        return self.entry if self.over else None

    def queue_state(self) -> QueueState:
        return QueueState((), ())


@pytest.mark.parametrize("name", ["a_success_plain", "a_success_preview_metadata"])
@pytest.mark.parametrize("lag", [0, 3])
def test_recorded_messages_of_a_whole_run(recorded_comfyui: Path, name: str, lag: int) -> None:
    recorded = transcript(recorded_comfyui, name)
    prompt_id = recorded["post"]["response"]["body"]["prompt_id"]
    graph = recorded["post"]["request"]["body"]["prompt"]
    server = Replay(recorded["history"]["response"]["body"][prompt_id])
    server.lag = lag
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for item in recorded["ws"]:
        if item["kind"] == "text" and item["message"]["data"].get("prompt_id") == prompt_id:
            inbox.put((item["message"]["type"], item["message"]["data"]))
    seen: list[Progress] = []

    def note(progress: Progress) -> None:
        seen.append(progress)
        server.over = True  # whatever the first message, the recorded run was over by the last

    done = Waiter(server, prompt_id, graph, inbox, lambda: True, time.monotonic, 5.0, note).run()
    assert done is not None and done.videos[0].name == "video/ComfyUI_00001_.mp4" or name != "a_success_plain"
    steps = [(progress.node, progress.value, progress.max) for progress in seen if progress.kind == "step"]
    assert len(steps) == len(set(steps)) == 20 and {progress.max for progress in seen if progress.kind == "step"} == {10}
    assert {progress.title for progress in seen if progress.kind == "node"} >= {"KSampler (Advanced)", "Save Video"}
