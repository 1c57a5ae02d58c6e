"""The messages of a run and what the history keeps of it, against what a recorded server 0.8.0 did."""

from __future__ import annotations

import json
import struct
from itertools import groupby

STEP_PLAIN = ["progress_state", "progress", "bin1"]
STEP_METADATA = ["progress_state", "bin4", "progress"]


def squeeze(kinds: list[str]) -> list[str]:
    """Runs of the same word become one word."""
    return [kind for kind, _ in groupby(kinds)]


def per_node(steps: int, step: list[str]) -> list[str]:
    return ["progress_state", "executing", *(step * steps), "progress_state"]


def test_messages_of_a_run_come_in_the_recorded_order(simulator, connect, graph):
    client = connect(simulator())
    prompt_id = client.queue(graph())
    client.hear_end(prompt_id)
    kinds = client.kinds()
    assert kinds[:5] == ["status", "status", "status", "execution_start", "execution_cached"]
    assert kinds[-6:] == ["executing", "executed", "progress_state", "execution_success", "status", "executing"]
    plain_nodes = len(graph()) - 2  # all but the two samplers; the save node has "executed" before its last state
    expected = 2 * per_node(3, STEP_PLAIN) + plain_nodes * per_node(0, [])
    assert sorted(kinds[5:-3]) == sorted([*expected, "executed"])
    assert "progress_state progress bin1 progress_state progress bin1" in " ".join(kinds)
    assert client.of("status")[0]["sid"] == client.client_id
    assert [s["status"]["exec_info"]["queue_remaining"] for s in client.of("status")] == [0, 1, 1, 0]


def test_message_bodies_have_the_recorded_keys(simulator, connect, graph):
    client = connect(simulator())
    prompt_id = client.queue(graph())
    client.hear_end(prompt_id)
    assert set(client.of("execution_start")[0]) == {"prompt_id", "timestamp"}
    assert set(client.of("execution_cached")[0]) == {"nodes", "prompt_id", "timestamp"}
    assert all(set(data) == {"node", "display_node", "prompt_id"} for data in client.of("executing")[:-1])
    assert client.of("executing")[-1] == {"node": None, "prompt_id": prompt_id}
    assert set(client.of("progress")[0]) == {"value", "max", "prompt_id", "node"}
    assert [(p["node"], p["value"], p["max"]) for p in client.of("progress")] == [(n, v, 3) for n in ("10", "11") for v in (1, 2, 3)]
    state = client.of("progress_state")[-1]["nodes"]
    assert set(state) == set(graph())
    assert set(state["10"]) == {"value", "max", "state", "node_id", "prompt_id", "display_node_id", "parent_node_id", "real_node_id"}
    assert (state["10"]["value"], state["10"]["max"], state["10"]["state"]) == (3, 3, "finished")
    images = [{"filename": "clip_00001_.mp4", "subfolder": "t", "type": "output"}]
    assert client.of("executed") == [
        {"node": "14", "display_node": "14", "output": {"images": images, "animated": [True]}, "prompt_id": prompt_id}
    ]


def test_history_entry_has_the_recorded_form(simulator, connect, graph):
    client = connect(simulator())
    prompt = graph()
    prompt_id = client.queue(prompt, extra_data={"lab_key": "kept"})
    entry = client.finished(prompt_id)
    assert set(entry) == {"prompt", "outputs", "status", "meta"}
    number, id_again, again, extra, outputs = entry["prompt"]
    assert (number, id_again, outputs) == (0, prompt_id, ["14"])
    assert again == {**prompt, "13": {"class_type": "CreateVideo", "inputs": {"fps": 16.0, "images": ["12", 0]}}}
    assert extra["lab_key"] == "kept" and extra["client_id"] == client.client_id and isinstance(extra["create_time"], int)
    assert entry["status"]["status_str"] == "success" and entry["status"]["completed"] is True
    assert [kind for kind, _ in entry["status"]["messages"]] == ["execution_start", "execution_cached", "execution_success"]
    assert entry["meta"] == {"14": {"node_id": "14", "display_node": "14", "parent_node": None, "real_node_id": "14"}}


def test_previews_carry_metadata_when_the_client_asked(simulator, connect, graph):
    client = connect(simulator(), metadata=True)
    prompt_id = client.queue(graph())
    client.hear_end(prompt_id)
    assert client.kinds()[1] == "feature_flags"
    assert " ".join(STEP_METADATA * 3) in " ".join(client.kinds())
    frame = next(message for message in client.heard if isinstance(message, bytes))
    kind, length = struct.unpack(">II", frame[:8])
    metadata = json.loads(frame[8 : 8 + length])
    assert kind == 4 and frame[8 + length :][:2] == b"\xff\xd8"
    assert metadata == {
        "node_id": "10",
        "prompt_id": prompt_id,
        "display_node_id": "10",
        "parent_node_id": None,
        "real_node_id": "10",
        "image_type": "image/jpeg",
    }


def test_plain_previews_are_type_1_jpeg(simulator, connect, graph):
    client = connect(simulator())
    client.hear_end(client.queue(graph()))
    frames = [message for message in client.heard if isinstance(message, bytes)]
    assert len(frames) == 6
    assert all(struct.unpack(">II", frame[:8]) == (1, 1) and frame[8:10] == b"\xff\xd8" for frame in frames)


def test_previews_can_be_switched_off_for_a_prompt(simulator, connect, graph):
    client = connect(simulator())
    client.hear_end(client.queue(graph(), extra_data={"preview_method": "none"}))
    assert not [message for message in client.heard if isinstance(message, bytes)]


def test_without_client_id_only_progress_is_told(simulator, connect, graph):
    client = connect(simulator())
    prompt_id = client.queue(graph(), named=False)
    client.hear_until(lambda m: isinstance(m, dict) and m["type"] == "status" and len(client.of("status")) == 4)
    assert set(client.kinds()) == {"status", "progress_state", "progress", "bin1"}
    assert client.finished(prompt_id)["outputs"]["14"]["images"]


def test_another_client_hears_only_the_status(simulator, connect, graph):
    sim = simulator()
    other, client = connect(sim), connect(sim)
    client.hear_end(client.queue(graph()))
    other.hear_until(lambda m: len(other.heard) == 4)
    assert other.kinds() == ["status"] * 4


def test_reconnecting_with_the_same_id_goes_on_with_the_running_node(simulator, connect, graph):
    sim = simulator()
    first = connect(sim, client_id="same")
    prompt_id = first.queue(graph(slow=1.0))
    first.hear_until(lambda m: isinstance(m, dict) and m["type"] == "progress" and m["data"]["node"] == "20")
    first.close()
    second = connect(sim, client_id="same")
    assert second.hear()["type"] == "status"
    assert second.hear() == {"type": "executing", "data": {"node": "20"}}
    second.hear_end(prompt_id)
    assert "execution_success" in second.kinds() and "execution_start" not in second.kinds()


def test_an_identical_prompt_is_answered_from_the_cache(simulator, connect, graph):
    sim = simulator()
    client = connect(sim)
    first = client.queue(graph())
    client.hear_end(first)
    client.heard.clear()
    again = client.queue(graph())
    client.hear_end(again)
    assert squeeze(client.kinds()) == [
        "status",
        "execution_start",
        "execution_cached",
        "executed",
        "progress_state",
        "execution_success",
        "status",
        "executing",
    ]
    assert client.of("execution_cached")[0]["nodes"] == list(graph())
    assert client.finished(again)["outputs"] == client.finished(first)["outputs"]
    assert [path.name for path in sim.output_dir.rglob("*.mp4")] == ["clip_00001_.mp4"]
    unnamed = client.queue(graph(), named=False)
    assert client.finished(unnamed)["outputs"] == {} and client.finished(unnamed)["meta"] == {}


def test_the_cache_ignores_node_ids_and_forgets_after_free(simulator, connect, graph):
    sim = simulator()
    client = connect(sim, listen=False)
    client.finished(client.queue(graph()))
    text = json.dumps(graph())
    renamed = json.loads(text)
    renamed = {"9" + key: node for key, node in renamed.items()}
    for node in renamed.values():
        node["inputs"] = {k: ["9" + v[0], v[1]] if isinstance(v, list) else v for k, v in node["inputs"].items()}
    entry = client.finished(client.queue(renamed))
    assert entry["outputs"]["914"]["images"][0]["filename"] == "clip_00001_.mp4"
    assert entry["meta"]["914"] == {"node_id": "914", "display_node": "914", "parent_node": None, "real_node_id": "14"}
    assert client.send("/free", {"free_memory": True}).status_code == 200
    entry = client.finished(client.queue(graph()))
    assert entry["outputs"]["14"]["images"][0]["filename"] == "clip_00002_.mp4"


def test_changing_the_prefix_runs_only_the_save_node(simulator, connect, graph):
    client = connect(simulator())
    client.hear_end(client.queue(graph()))
    client.heard.clear()
    client.hear_end(client.queue(graph(filename_prefix="t/other")))
    assert [data["node"] for data in client.of("executing")] == ["14", None]
    # The cache holds one prompt's nodes: the first prefix is new again.
    client.heard.clear()
    client.hear_end(client.queue(graph()))
    assert client.of("executed")[0]["output"]["images"][0]["filename"] == "clip_00002_.mp4"


def test_a_new_seed_renders_a_new_clip(simulator, connect, graph):
    sim = simulator()
    client = connect(sim, listen=False)
    for seed in (1, 2):
        client.finished(client.queue(graph(seed=seed)))
    one, two = sorted(sim.output_dir.rglob("*.mp4"))
    assert one.read_bytes() != two.read_bytes()


def test_interrupt_inside_the_sampler(simulator, connect, graph):
    client = connect(simulator(speed=1.0))
    prompt_id = client.queue(graph(steps=400))
    client.hear_until(lambda m: isinstance(m, dict) and m["type"] == "progress")
    assert client.send("/interrupt", {"prompt_id": "something else"}).status_code == 200  # ignored
    client.hear_until(lambda m: isinstance(m, dict) and m["type"] == "progress")
    assert client.send("/interrupt", {"prompt_id": prompt_id}).status_code == 200
    client.hear_end(prompt_id)
    assert client.kinds()[-3:] == ["execution_interrupted", "status", "executing"]
    body = client.of("execution_interrupted")[0]
    assert set(body) == {"prompt_id", "node_id", "node_type", "executed", "timestamp"}
    assert (body["node_id"], body["node_type"]) == ("10", "KSamplerAdvanced")
    entry = client.finished(prompt_id)
    assert entry["status"]["status_str"] == "error" and entry["status"]["completed"] is False
    assert [kind for kind, _ in entry["status"]["messages"]][-1] == "execution_interrupted"
    assert entry["outputs"] == {}


def test_interrupt_while_idle_does_not_touch_the_next_prompt(simulator, connect, graph):
    client = connect(simulator(), listen=False)
    assert client.send("/interrupt", {}).status_code == 200
    assert client.finished(client.queue(graph()))["status"]["completed"]


def test_an_error_in_a_node_is_reported_and_finished_outputs_are_kept(simulator, connect, graph):
    client = connect(simulator())
    prompt = graph()
    prompt["30"] = {"class_type": "LabRaise", "inputs": {"images": ["12", 0], "kind": "ValueError", "message": "second branch"}}
    prompt["31"] = {"class_type": "PreviewImage", "inputs": {"images": ["30", 0]}}
    prompt_id = client.queue(prompt)
    client.hear_end(prompt_id)
    assert client.kinds()[-3:] == ["execution_error", "status", "executing"]
    body = client.of("execution_error")[0]
    assert set(body) == {
        "prompt_id", "node_id", "node_type", "executed", "exception_message", "exception_type", "traceback",
        "current_inputs", "current_outputs", "timestamp",
    }  # fmt: skip
    assert (body["node_id"], body["node_type"], body["exception_type"]) == ("30", "LabRaise", "ValueError")
    assert body["exception_message"] == "second branch\n" and "14" in body["executed"]
    entry = client.finished(prompt_id)
    assert entry["status"]["status_str"] == "error" and entry["outputs"]["14"]["images"][0]["filename"] == "clip_00001_.mp4"


def test_out_of_memory_has_the_real_type(simulator, connect, graph):
    client = connect(simulator(), listen=False)
    prompt = graph()
    prompt["30"] = {"class_type": "LabRaise", "inputs": {"images": ["12", 0], "kind": "OOM", "message": "too big"}}
    prompt["13"]["inputs"]["images"] = ["30", 0]
    kind, body = client.finished(client.queue(prompt))["status"]["messages"][-1]
    assert kind == "execution_error" and body["exception_type"] == "torch.OutOfMemoryError"
    assert body["exception_message"].startswith("too big\nThis error means you ran out of memory")


def test_a_prefix_outside_the_output_folder_is_a_runtime_error(simulator, connect, graph):
    sim = simulator()
    client = connect(sim, listen=False)
    kind, body = client.finished(client.queue(graph(filename_prefix="../escape/x")))["status"]["messages"][-1]
    assert kind == "execution_error" and body["node_type"] == "SaveVideo" and body["exception_type"] == "Exception"
    assert "Saving image outside the output folder is not allowed" in body["exception_message"]
    assert not (sim.output_dir.parent / "escape").exists()


def test_a_job_of_fixed_length_keeps_its_time(simulator, connect, graph):
    """The render happens inside the job's time, so the job is as long as asked and hardly longer."""
    client = connect(simulator(job_seconds=1.0), listen=False)
    messages = dict(client.finished(client.queue(graph()))["status"]["messages"])
    seconds = (messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"]) / 1000
    assert seconds >= 0.98  # how much longer depends on the machine; a job is never shorter
