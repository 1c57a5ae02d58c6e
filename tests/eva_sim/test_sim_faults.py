"""Every fault switch does what its name says, hits the job it was aimed at, and leaves the others alone."""

from __future__ import annotations

import time

import av
import pytest
import requests
import websocket

from eva_env_base import UsageError
from eva_sim.faults import KINDS, FaultPlan, parse_fault


def decodable(path):
    try:
        with av.open(str(path)) as container:
            return sum(1 for _ in container.decode(video=0)) > 0
    except (av.FFmpegError, IndexError):
        return False


def ended(entry):
    return [kind for kind, _ in entry["status"]["messages"]][-1]


# ------------------------------------------------------------------ the switches themselves
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_written_bare(kind):
    fault = parse_fault(kind)
    assert fault.kind == kind and fault.options == KINDS[kind]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nope", "no fault is called 'nope'; choose one of refuse"),
        ("slow:speed=2", "'speed=2' is not a setting of slow; write key=value with one of factor, job, every, times"),
        ("slow:factor", "'factor' is not a setting"),
        ("slow:factor=much", "factor wants a number, not 'much'"),
        ("error:job=-1", "job cannot be negative"),
        ("bad_output:mode=odd", "mode is one of truncated, zero, garbage"),
        ("", "no fault is called ''"),
    ],
)
def test_a_wrong_switch_is_explained(text, words):
    with pytest.raises(UsageError, match="--fault"):
        parse_fault(text)
    with pytest.raises(UsageError) as caught:
        parse_fault(text)
    assert words in str(caught.value)


def test_selectors():
    plan = FaultPlan(["error:every=3", "slow:job=2", "oom:every=2,times=1"])
    hits = [sorted(plan.for_next_job()) for _ in range(6)]
    assert hits == [[], ["oom", "slow"], ["error"], [], [], ["error"]]
    requests_hit = FaultPlan(["refuse:job=2", "drop:route=history"])
    assert [requests_hit.for_request("prompt") is not None for _ in range(3)] == [False, True, False]
    assert requests_hit.for_request("history").kind == "drop" and requests_hit.for_request("view") is None
    assert requests_hit.for_next_job() == {}


# ------------------------------------------------------------------ requests
def test_refuse(simulator, connect, graph):
    sim = simulator(faults=["refuse:job=1", "refuse:job=2,mode=validation", "refuse:job=3,status=429"])
    client = connect(sim, listen=False)
    assert client.post(graph()).status_code == 503
    answer = client.post(graph())
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "prompt_outputs_failed_validation"
    assert client.post(graph()).status_code == 429
    assert client.finished(client.queue(graph()))["status"]["completed"]
    assert sim.stats()["jobs_done"] == 1


def test_drop_before_and_after(simulator, connect, graph):
    sim = simulator(faults=["drop:job=1", "drop:job=2,when=after", "drop:route=queue"])
    client = connect(sim, listen=False)
    for prompt_id in ("lost", "kept"):
        with pytest.raises(requests.ConnectionError):
            client.post(graph(), prompt_id=prompt_id)
    assert client.finished("kept")["status"]["completed"]  # the answer was lost, the prompt was not
    assert client.get("/history/lost") == {}
    with pytest.raises(requests.ConnectionError):
        client.get("/queue")
    sim.clear_faults()
    assert client.get("/queue")["queue_running"] == []


# ------------------------------------------------------------------ jobs
def test_error_and_oom(simulator, connect, graph):
    client = connect(simulator(faults=["error:job=1,message=no luck,type=CudaError", "oom:job=2"]), listen=False)
    first, second, third = (client.queue(graph(seed=k)) for k in range(3))
    assert client.finished(third)["status"]["completed"]
    body = client.finished(first)["status"]["messages"][-1][1]
    assert (body["exception_type"], body["exception_message"]) == ("CudaError", "no luck\n")
    assert client.finished(second)["status"]["messages"][-1][1]["exception_type"] == "torch.OutOfMemoryError"


def test_hang_until_interrupted(simulator, connect, graph):
    client = connect(simulator(faults=["hang:job=1,at=0.5"]))
    stuck, after = client.queue(graph()), client.queue(graph(seed=2))
    client.hear_until(lambda m: isinstance(m, dict) and m["type"] == "progress" and m["data"]["value"] == 3)
    assert client.get(f"/history/{stuck}") == {} and client.get("/queue")["queue_running"][0][1] == stuck
    client.send("/interrupt", {"prompt_id": stuck})
    assert ended(client.finished(stuck)) == "execution_interrupted"
    assert ended(client.finished(after)) == "execution_success"


@pytest.mark.parametrize("mode", ["truncated", "zero", "garbage"])
def test_bad_output(simulator, connect, graph, mode):
    sim = simulator(faults=[f"bad_output:job=1,mode={mode}"])
    client = connect(sim, listen=False)
    for seed in (1, 2):
        client.finished(client.queue(graph(seed=seed)))
    bad, good = sorted(sim.output_dir.rglob("*.mp4"))
    assert not decodable(bad) and decodable(good)
    assert (bad.stat().st_size == 0) == (mode == "zero")


def test_no_output(simulator, connect, graph):
    sim = simulator(faults=["no_output:job=1", "no_output:job=2,mode=missing"])
    client = connect(sim, listen=False)
    empty, missing = (client.finished(client.queue(graph(seed=k))) for k in range(2))
    assert empty["status"]["completed"] and empty["outputs"] == {}
    assert missing["outputs"]["14"]["images"][0]["filename"] == "clip_00001_.mp4"
    assert list(sim.output_dir.rglob("*.mp4")) == []


def test_slow(simulator, connect, graph):
    client = connect(simulator(job_seconds=0.2, faults=["slow:job=2,factor=4"]), listen=False)
    lengths = []
    for seed in (1, 2):
        messages = dict(client.finished(client.queue(graph(seed=seed)))["status"]["messages"])
        lengths.append(messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"])
    assert lengths[1] >= 780  # ms: four times 0.2 s


def test_ws_drop_in_the_middle(simulator, connect, graph):
    sim = simulator(faults=["ws_drop:job=1"])
    client = connect(sim)
    prompt_id = client.queue(graph())
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        client.hear_end(prompt_id)
    assert "execution_start" in client.kinds() and "execution_success" not in client.kinds()
    assert client.finished(prompt_id)["status"]["completed"]  # the job itself goes on
    again = connect(sim, client_id=client.client_id)
    again.hear_end(again.queue(graph(seed=2)))


def test_lose_queue_forgets_everything(simulator, connect, graph):
    sim = simulator(faults=["lose_queue:job=2,down=0.3"])
    client = connect(sim, listen=False)
    done = client.queue(graph(seed=1))
    client.finished(done)
    listener = connect(sim)
    running, waiting = client.queue(graph(seed=2)), client.queue(graph(seed=3))
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        listener.hear_end(running)
    limit = time.monotonic() + 20
    refused = 0
    while time.monotonic() < limit:
        try:
            history, queue = client.get("/history"), client.get("/queue")
            break
        except requests.ConnectionError:
            refused += 1
            time.sleep(0.02)
    assert refused > 0 and history == {} and queue == {"queue_running": [], "queue_pending": []}
    answer = client.post(graph(seed=4)).json()
    assert answer["number"] == 0  # numbers start again
    assert client.finished(answer["prompt_id"])["status"]["completed"]
    assert not {done, running, waiting} & set(client.get("/history"))


def test_late_history(simulator, connect, graph):
    client = connect(simulator(faults=["late_history:seconds=0.5"]))
    prompt_id = client.queue(graph())
    client.hear_until(lambda m: isinstance(m, dict) and m["type"] == "execution_success")
    assert client.get(f"/history/{prompt_id}") == {}  # the race of the real server, made wide
    client.hear_end(prompt_id)
    assert client.get(f"/history/{prompt_id}") != {}  # never empty after the last message


def test_crash_in_process(simulator, connect, graph):
    sim = simulator(faults=["crash:job=1"])
    client = connect(sim)
    prompt_id = client.queue(graph())
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        client.hear_end(prompt_id)
    assert sim.wait_dead(10) and not sim.alive
    with pytest.raises(requests.ConnectionError):
        client.get("/queue")
    # Another one on the same port and folder knows nothing of the prompt, as after a restart.
    port = sim.port
    sim.stop()
    second = simulator(port=port)
    assert second.url == sim.url and client.get(f"/history/{prompt_id}") == {}
    assert client.finished(client.queue(graph()))["status"]["completed"]


def test_kill_is_like_a_killed_process(simulator, connect, graph):
    sim = simulator()
    client = connect(sim)
    client.queue(graph(slow=30.0))
    client.hear_until(lambda m: isinstance(m, dict) and m["type"] == "progress")
    sim.kill()
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        while True:
            client.hear()
    assert not sim.alive
    sim.kill()  # harmless


def test_switches_over_http_and_through_the_handle(simulator, connect, graph):
    sim = simulator()
    client = connect(sim, listen=False)
    answer = client.send("/sim/fault", {"faults": ["error:times=1"]})
    assert answer.json()["faults"] == [{"fault": "error:times=1", "hits": 0}]
    assert ended(client.finished(client.queue(graph(seed=1)))) == "execution_error"
    assert client.get("/sim/fault") == {"faults": [{"fault": "error:times=1", "hits": 1}], "jobs_started": 1}
    assert "no fault is called" in client.send("/sim/fault", {"faults": ["nope"]}).json()["error"]
    client.send("/sim/fault", {"clear": True})
    fault = sim.add_fault("oom:times=1")
    assert ended(client.finished(client.queue(graph(seed=2)))) == "execution_error" and fault.hits == 1
    assert ended(client.finished(client.queue(graph(seed=3)))) == "execution_success"
