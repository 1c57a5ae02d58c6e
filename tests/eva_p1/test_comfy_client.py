"""The client against a scripted server: every step of the protocol, and every step failing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from eva_env_base import ComfyUnavailable, PromptFailed, PromptRejected
from eva_p1.comfy_client import ComfyClient, OutputFile
from tests.eva_p1.comfy_fake import GRAPH, JPEG, FakeComfy
from tests.eva_p1.comfy_waiting import Waiting, connect, until


@pytest.fixture
def server() -> Iterator[FakeComfy]:
    with FakeComfy() as fake:
        yield fake
        fake.hold.set()


@pytest.fixture
def client(server: FakeComfy) -> Iterator[ComfyClient]:
    with ComfyClient(server.url, timeout=5, patience=5) as made:
        yield made


# ---------------------------------------------------------------- the way it should go
def test_a_prompt_from_queue_to_clip(server: FakeComfy, client: ComfyClient) -> None:
    connect(client)
    server.hold.clear()
    queued = client.queue(GRAPH, prompt_id="first")
    assert (queued.prompt_id, queued.number) == ("first", 0)
    waiting = Waiting(client, "first")
    until(lambda: "started" in waiting.kinds())
    server.hold.set()
    finished = waiting.join()
    assert finished.videos == (OutputFile("first.mp4", "video", "output"),)
    assert finished.videos[0].name == "video/first.mp4"
    assert not finished.cached
    assert finished.seconds is not None and finished.seconds >= 0
    steps = [progress for progress in waiting.seen if progress.kind == "step"]
    assert (steps[-1].value, steps[-1].max, steps[-1].title) == (3, 3, "My sampler")
    assert len(steps) == len({step.value for step in steps}), "progress and progress_state tell the same step once"
    assert any(progress.image == JPEG for progress in waiting.seen if progress.kind == "preview")


def test_old_previews_without_metadata_reach_the_running_prompt(server: FakeComfy, client: ComfyClient) -> None:
    connect(client)
    server.preview_metadata = False
    server.hold.clear()
    server_held = client.queue(GRAPH, prompt_id="old")
    waiting = Waiting(client, server_held.prompt_id)
    until(lambda: "started" in waiting.kinds())
    server.hold.set()
    waiting.join()
    assert any(progress.image == JPEG for progress in waiting.seen if progress.kind == "preview")


def test_two_waits_share_one_socket(server: FakeComfy, client: ComfyClient) -> None:
    connect(client)
    server.hold.clear()
    for name in ("a", "b"):
        client.queue(GRAPH, prompt_id=name)
    one, two = Waiting(client, "a"), Waiting(client, "b")
    until(lambda: any(p.kind == "queued" and p.queue_position == 1 for p in two.seen))
    server.hold.set()
    assert one.join().videos[0].filename == "a.mp4"
    assert two.join().videos[0].filename == "b.mp4"
    assert {p.prompt_id for p in one.seen} == {"a"} and {p.prompt_id for p in two.seen} == {"b"}
    assert sum("/ws" in path for _, path, _ in server.requests) == 1


def test_waiting_for_a_prompt_that_ended_long_ago(server: FakeComfy, client: ComfyClient) -> None:
    client.queue(GRAPH, prompt_id="past")
    until(lambda: "past" in server.history)
    with ComfyClient(server.url) as another:
        finished = another.wait("past")
    assert finished is not None and finished.videos[0].filename == "past.mp4"


def test_a_cached_prompt_says_so(server: FakeComfy, client: ComfyClient) -> None:
    server.outcome = "cached"
    client.queue(GRAPH, prompt_id="again")
    assert Waiting(client, "again").join().cached


def test_the_history_may_lag_behind_the_last_message(server: FakeComfy, client: ComfyClient) -> None:
    connect(client)
    server.hold.clear()
    client.queue(GRAPH, prompt_id="lag")
    waiting = Waiting(client, "lag")
    until(lambda: "started" in waiting.kinds())
    server.history_lag = 4
    server.hold.set()
    assert waiting.join().videos


def test_pending_prompts_come_in_run_order(server: FakeComfy, client: ComfyClient) -> None:
    server.hold.clear()
    for name in ("a", "b", "c", "d"):
        client.queue(GRAPH, prompt_id=name)
    until(lambda: server.running)
    state = client.queue_state()
    assert state.running == ("a",) and state.pending == ("b", "c", "d")
    assert [client.state_of(name) for name in ("a", "b", "nobody")] == ["running", "pending", "unknown"]
    client.delete_pending(["b", "d"])
    assert client.queue_state().pending == ("c",)
    client.delete_pending("c")
    assert client.queue_state().pending == ()


# ---------------------------------------------------------------- older servers
def test_a_server_that_chooses_ids_is_driven_by_ours(server: FakeComfy, client: ComfyClient) -> None:
    server.chooses_ids = True
    connect(client)
    server.hold.clear()
    for name in ("mine", "next", "gone"):
        assert client.queue(GRAPH, prompt_id=name).prompt_id == name
    until(lambda: server.running)
    assert client.queue_state().running == ("mine",) and client.queue_state().pending == ("next", "gone")
    client.delete_pending("gone")
    assert client.state_of("gone") == "unknown"
    waiting = Waiting(client, "mine")
    until(lambda: "started" in waiting.kinds())
    server.hold.set()
    assert waiting.join().videos and "step" in waiting.kinds()
    assert Waiting(client, "next").join().videos
    with ComfyClient(server.url) as later:
        assert later.state_of("mine") == "done", "a later run finds it by our mark"
        assert Waiting(later, "mine").join().videos


def test_a_lost_answer_of_a_server_that_chooses_ids(server: FakeComfy, client: ComfyClient) -> None:
    server.chooses_ids = True
    server.posts_lost_after_taking = 1
    client.queue(GRAPH, prompt_id="once")
    assert Waiting(client, "once").join().videos and len(server.executed) == 1


def test_an_interrupt_never_hits_another_prompt(server: FakeComfy, client: ComfyClient) -> None:
    server.interrupts_anything = True
    server.hold.clear()
    client.queue(GRAPH, prompt_id="somebody-elses")
    until(lambda: server.running)
    client.interrupt("mine")
    server.hold.set()
    assert Waiting(client, "somebody-elses").join().videos


# ---------------------------------------------------------------- failures of the prompt
@pytest.mark.parametrize(("outcome", "kind", "words"), [
    ("error", "error", "'My sampler' (node 1) failed: ValueError: bad thing"),
    ("oom", "oom", "ran out of memory at 'My sampler': Allocation on device 0 would exceed; fewer pixels"),
    ("disk_full", "disk_full", "the disk of the server is full, 'My sampler' says: [Errno 28]"),
    ("no_output", "no_output", "without saving"),
])  # fmt: skip
def test_failures_name_node_and_reason(server: FakeComfy, client: ComfyClient, outcome: str, kind: str, words: str) -> None:
    server.outcome = outcome
    client.queue(GRAPH, prompt_id="bad")
    with pytest.raises(PromptFailed) as caught:
        client.wait("bad")
    assert caught.value.kind == kind and words in str(caught.value)
    assert client.state_of("bad") == ("done" if outcome == "no_output" else "failed")


def test_an_interrupt_is_not_an_error(server: FakeComfy, client: ComfyClient) -> None:
    server.hold.clear()
    client.queue(GRAPH, prompt_id="stop-me")
    waiting = Waiting(client, "stop-me")
    until(lambda: server.running)
    client.interrupt("somebody-else")
    client.interrupt("stop-me")
    with pytest.raises(PromptFailed) as caught:
        waiting.join()
    assert caught.value.kind == "interrupted" and caught.value.node == "1"


def test_a_prompt_that_runs_too_long_times_out_and_time_in_the_queue_does_not_count(server: FakeComfy, client: ComfyClient) -> None:
    server.hold.clear()
    client.queue(GRAPH, prompt_id="hangs")
    client.queue(GRAPH, prompt_id="waits")
    behind = Waiting(client, "waits", timeout=0.3)
    with pytest.raises(PromptFailed) as caught:
        client.wait("hangs", timeout=0.3)
    assert caught.value.kind == "timeout"
    assert behind.error is None and behind.result is None
    server.hold.set()
    assert behind.join().videos


@pytest.mark.parametrize("as_event", [True, False])
def test_stop_leaves_the_prompt_alone(server: FakeComfy, client: ComfyClient, as_event: bool) -> None:
    server.hold.clear()
    client.queue(GRAPH, prompt_id="left")
    stop = threading.Event()
    stop.set()
    assert client.wait("left", stop=stop if as_event else stop.is_set) is None
    assert client.state_of("left") in ("pending", "running")


# ---------------------------------------------------------------- failures of the line
def test_without_a_websocket_polling_is_enough(server: FakeComfy, client: ComfyClient) -> None:
    server.websocket_works = False
    client.queue(GRAPH, prompt_id="deaf")
    assert Waiting(client, "deaf").join().videos


def test_a_cut_socket_is_connected_again_under_the_same_id(server: FakeComfy, client: ComfyClient) -> None:
    connect(client)
    server.hold.clear()
    client.queue(GRAPH, prompt_id="cut")
    waiting = Waiting(client, "cut")
    until(lambda: "started" in waiting.kinds())
    server.cut_sockets()
    until(lambda: "reconnecting" in waiting.kinds())
    until(lambda: sum("/ws" in path for _, path, _ in server.requests) == 2)
    server.hold.set()
    assert waiting.join().videos
    assert all(f"clientId={client.client_id}" in path for _, path, _ in server.requests if "/ws" in path)


def test_a_restarted_server_has_lost_the_prompt(server: FakeComfy, client: ComfyClient) -> None:
    server.hold.clear()
    client.queue(GRAPH, prompt_id="forgotten")
    waiting = Waiting(client, "forgotten")
    until(lambda: server.running)
    server.restart()
    with pytest.raises(PromptFailed) as caught:
        waiting.join()
    assert caught.value.kind == "lost"


def test_a_deleted_prompt_is_lost_too(server: FakeComfy, client: ComfyClient) -> None:
    server.hold.clear()
    client.queue(GRAPH, prompt_id="first")
    client.queue(GRAPH, prompt_id="deleted")
    waiting = Waiting(client, "deleted")
    until(lambda: "queued" in waiting.kinds())
    client.delete_pending("deleted")
    with pytest.raises(PromptFailed) as caught:
        waiting.join()
    assert caught.value.kind == "lost"


def test_a_server_that_stays_away_exhausts_the_patience(server: FakeComfy) -> None:
    with ComfyClient(server.url, timeout=5, patience=0.4, retries=0) as client:
        server.hold.clear()
        client.queue(GRAPH, prompt_id="alone")
        waiting = Waiting(client, "alone")
        until(lambda: server.running)
        server.stop()
        with pytest.raises(ComfyUnavailable, match="is it running"):
            waiting.join()
        assert "waiting" in waiting.kinds()
        server.start()


@pytest.mark.parametrize("switch", ["posts_lost_after_taking", "posts_lost_before_taking", "gateway_errors"])
def test_a_lost_answer_never_pays_twice(server: FakeComfy, client: ComfyClient, switch: str) -> None:
    server.hold.clear()
    setattr(server, switch, 1)
    queued = client.queue(GRAPH, prompt_id="once")
    assert queued.prompt_id == "once"
    server.hold.set()
    assert Waiting(client, "once").join().videos
    assert server.executed == ["once"]


def test_a_lost_answer_from_a_server_that_then_goes_away_is_settled_when_it_is_back(server: FakeComfy) -> None:
    server.posts_lost_after_taking, server.away_after_loss = 1, 8
    with ComfyClient(server.url, retries=0, sleep=lambda _: None) as client:
        refused = 0
        while True:
            try:
                client.queue(GRAPH, prompt_id="once")
                break
            except ComfyUnavailable:
                refused += 1
        assert refused
        assert Waiting(client, "once").join().videos and server.executed == ["once"] and len(server.posts) == 1


def test_a_server_that_cannot_be_reached(server: FakeComfy) -> None:
    server.stop()
    with ComfyClient(server.url, retries=1, sleep=lambda _: None) as client:
        for call in (client.system_stats, client.queue_state, lambda: client.queue(GRAPH)):
            with pytest.raises(ComfyUnavailable, match=f"127.0.0.1:{server.port} refused the connection"):
                call()
    server.start()


def test_gateway_errors_are_ridden_out(server: FakeComfy, client: ComfyClient) -> None:
    server.gateway_errors = 2
    assert client.system_stats()["system"]["comfyui_version"] == "0.8.0"
    assert client.is_simulator is False


# ---------------------------------------------------------------- refusals
def test_a_refusal_becomes_sentences(server: FakeComfy, client: ComfyClient) -> None:
    server.object_info = {"KSampler": {"input": {"required": {"sampler_name": [["euler", "heun"] + [f"s{n}" for n in range(30)], {}]}}}}
    error = {"type": "value_not_in_list", "message": "Value not in list", "details": "sampler_name: 'eulr' not in (list of length 32)",
             "extra_info": {"input_name": "sampler_name", "input_config": None, "received_value": "eulr"}}  # fmt: skip
    server.answer_prompt = (400, {
        "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": ""},
        "node_errors": {"1": {"errors": [error], "dependent_outputs": ["2"], "class_type": "KSampler"}},
    })  # fmt: skip
    with pytest.raises(PromptRejected) as caught:
        client.queue(GRAPH)
    assert "'My sampler' (node 1, KSampler): sampler_name is 'eulr'" in str(caught.value)
    assert "nearest of 32 allowed values: 'euler'" in str(caught.value)
    assert "1" in caught.value.node_errors and len(server.posts) == 1, "a refusal is not repeated"


def test_a_plain_500_is_a_refusal_without_a_reason(server: FakeComfy, client: ComfyClient) -> None:
    server.answer_prompt = (500, "500 Internal Server Error")
    with pytest.raises(PromptRejected, match="gave no reason") as caught:
        client.queue(GRAPH)
    assert caught.value.status == 500


def test_a_prompt_whose_video_was_refused_is_called_off(server: FakeComfy, client: ComfyClient) -> None:
    server.hold.clear()
    client.queue(GRAPH, prompt_id="busy")
    until(lambda: server.running)
    error = {
        "type": "required_input_missing",
        "message": "Required input is missing",
        "details": "codec",
        "extra_info": {"input_name": "codec"},
    }
    server.answer_prompt = (200, {"node_errors": {"2": {"errors": [error], "dependent_outputs": ["2"], "class_type": "SaveVideo"}}})
    with pytest.raises(PromptRejected, match="saves the video.*required input 'codec' is missing"):
        client.queue(GRAPH, prompt_id="useless")
    assert client.state_of("useless") == "unknown"
