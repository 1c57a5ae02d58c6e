"""Every route but the running of prompts: queue, history, jobs, files, what the server is, and our own /sim."""

from __future__ import annotations

import time

import requests

from eva_sim import QualitySurface
from eva_sim.names import SAMPLERS, SCHEDULERS


def running_id(client):
    rows = client.get("/queue")["queue_running"]
    return rows[0][1] if rows else None


def wait_running(client, prompt_id):
    limit = time.monotonic() + 20
    while running_id(client) != prompt_id:
        assert time.monotonic() < limit, "the prompt did not start"
        time.sleep(0.005)


def test_queue_lists_deletes_and_clears(simulator, connect, graph):
    client = connect(simulator(), listen=False)
    ids = [client.queue(graph(slow=30.0 if k == 0 else 0.0, seed=k)) for k in range(4)]
    wait_running(client, ids[0])
    front = client.post(graph(seed=9), front=True).json()
    assert front["number"] == -4
    queue = client.get("/queue")
    assert [row[1] for row in queue["queue_running"]] == [ids[0]] and all(len(row) == 5 for row in queue["queue_pending"])
    assert {row[1] for row in queue["queue_pending"]} == {*ids[1:], front["prompt_id"]}
    assert queue["queue_pending"][0][1] == front["prompt_id"]  # heap order: the next one comes first
    assert client.get("/prompt") == {"exec_info": {"queue_remaining": 5}}

    for doomed in (ids[1], ids[0], "nope"):  # pending, running, unknown: all answer 200
        answer = client.send("/queue", {"delete": [doomed]})
        assert (answer.status_code, answer.text) == (200, "")
    assert running_id(client) == ids[0]
    assert {row[1] for row in client.get("/queue")["queue_pending"]} == {ids[2], ids[3], front["prompt_id"]}
    assert client.get(f"/history/{ids[1]}") == {}
    assert client.send("/queue", {"clear": True}).status_code == 200
    assert client.get("/queue")["queue_pending"] == []
    client.send("/interrupt", {})
    client.finished(ids[0])


def test_numbers_ids_and_front(simulator, connect, graph):
    client = connect(simulator(), listen=False)
    assert client.post(graph(), prompt_id="not-a-uuid").json() == {"prompt_id": "not-a-uuid", "number": 0, "node_errors": {}}
    assert client.post(graph(), number=3).json()["number"] == 3.0
    assert client.post(graph(), front=True).json()["number"] == -1
    client.finished(client.queue(graph(), prompt_id="not-a-uuid"))


def test_history_is_cut_and_deleted(simulator, connect, graph):
    client = connect(simulator(), listen=False)
    ids = [client.queue(graph(seed=k)) for k in range(3)]
    client.finished(ids[-1])
    assert list(client.get("/history")) == ids
    assert list(client.get("/history?max_items=1")) == ids[-1:]
    assert client.get("/history/no-such-id") == {}
    assert client.send("/history", {"delete": ids[:1]}).text == ""
    assert list(client.get("/api/history")) == ids[1:]
    client.send("/history", {"clear": True})
    assert client.get("/history") == {}


def test_jobs(simulator, connect, graph):
    client = connect(simulator(), listen=False)
    done = client.queue(graph())
    client.finished(done)
    slow, waiting = client.queue(graph(slow=30.0)), client.queue(graph(seed=5))
    wait_running(client, slow)
    listing = client.get("/api/jobs")
    assert [(job["id"], job["status"]) for job in listing["jobs"]] == [(waiting, "pending"), (slow, "in_progress"), (done, "completed")]
    assert listing["pagination"] == {"offset": 0, "limit": None, "total": 3, "has_more": False}
    page = client.get("/api/jobs?limit=1")
    assert len(page["jobs"]) == 1 and page["pagination"]["has_more"] is True
    one = client.get(f"/api/jobs/{done}")
    assert one["preview_output"] == {
        "filename": "clip_00001_.mp4",
        "subfolder": "t",
        "type": "output",
        "nodeId": "14",
        "mediaType": "images",
    }
    assert one["outputs_count"] == 1 and set(one["workflow"]) == {"prompt", "extra_data"}
    assert set(client.get(f"/api/jobs/{waiting}")) == {"id", "status", "priority", "create_time", "outputs_count"}
    for path, status, text in (
        ("/api/jobs?status=bogus", 400, "Invalid status value(s): bogus. Valid values: pending, in_progress, completed, failed"),
        ("/api/jobs?limit=0", 400, "limit must be a positive integer"),
        ("/api/jobs/no-such-id", 404, "Job not found"),
    ):
        answer = requests.get(client.url + path, timeout=30)
        assert (answer.status_code, answer.json()) == (status, {"error": text})
    assert requests.get(client.url + "/jobs", timeout=30).status_code == 404
    client.send("/queue", {"clear": True})
    client.send("/interrupt", {})
    entry = client.finished(slow)
    assert entry["status"]["status_str"] == "error"
    assert client.get(f"/api/jobs/{slow}")["status"] == "failed"


def test_view_serves_ranges_and_refuses_what_is_outside(simulator, connect, graph):
    sim = simulator()
    client = connect(sim, listen=False)
    client.finished(client.queue(graph()))
    path = "/view?filename=clip_00001_.mp4&subfolder=t&type=output"
    data = (sim.output_dir / "t" / "clip_00001_.mp4").read_bytes()
    whole = requests.get(sim.url + path, timeout=30)
    assert whole.content == data and whole.headers["Content-Type"] == "video/mp4"
    assert whole.headers["Accept-Ranges"] == "bytes" and whole.headers["Content-Disposition"] == 'filename="clip_00001_.mp4"'
    part = requests.get(sim.url + path, headers={"Range": "bytes=0-99"}, timeout=30)
    assert (part.status_code, part.content) == (206, data[:100]) and part.headers["Content-Range"] == f"bytes 0-99/{len(data)}"
    tail = requests.get(sim.url + path, headers={"Range": "bytes=-50"}, timeout=30)
    assert (tail.status_code, tail.content) == (206, data[-50:])
    assert requests.get(sim.url + path, headers={"If-None-Match": whole.headers["Etag"]}, timeout=30).status_code == 304
    assert requests.head(sim.url + path, timeout=30).headers["Content-Length"] == str(len(data))
    for query, status in (
        ("filename=nope.mp4&subfolder=t&type=output", 404),
        ("filename=../../../etc/passwd&type=output", 400),
        ("filename=clip_00001_.mp4&subfolder=../..&type=output", 403),
        ("filename=clip_00001_.mp4&subfolder=t&type=temp", 404),
        ("filename=t/clip_00001_.mp4&type=output", 404),
        ("filename=clip_00001_.mp4&subfolder=t", 200),
        ("filename=clip_00001_.mp4&subfolder=t&type=bogus", 400),
        ("subfolder=t", 404),
    ):
        assert requests.get(f"{sim.url}/view?{query}", timeout=30).status_code == status, query


def test_an_uploaded_image_can_be_loaded(simulator, connect):
    client = connect(simulator(), listen=False)
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
    }
    assert client.post(prompt).status_code == 400
    answer = requests.post(client.url + "/upload/image", files={"image": ("mine.png", b"\x89PNG")}, timeout=30)
    assert answer.json() == {"name": "mine.png", "subfolder": "", "type": "input"}
    entry = client.finished(client.queue(prompt))
    assert entry["outputs"]["2"]["images"] == [{"filename": "p_00001_.png", "subfolder": "", "type": "output"}]


def test_the_server_says_that_it_is_a_simulator(simulator, connect):
    sim = simulator(seed=3)
    client = connect(sim, listen=False)
    for prefix in ("", "/api"):
        stats = client.get(prefix + "/system_stats")
        assert stats["system"]["comfyui_version"] == "0.8.0-eva-sim" and stats["system"]["eva_simulator"] is True
        assert str(sim.output_dir) in stats["system"]["argv"]
        assert "simulator" in stats["devices"][0]["name"]
    assert client.get("/features")["supports_preview_metadata"] is True
    assert "not a real ComfyUI" in requests.get(sim.url + "/", timeout=30).text


def test_object_info_and_models(simulator, connect):
    client = connect(simulator(), listen=False)
    table = client.get("/object_info")
    assert table["KSampler"]["input"]["required"]["sampler_name"][0] == list(SAMPLERS) and len(SAMPLERS) == 44
    assert table["BasicScheduler"]["input"]["required"]["scheduler"] == ["COMBO", {"multiselect": False, "options": list(SCHEDULERS)}]
    assert client.get("/api/object_info/SaveVideo") == {"SaveVideo": table["SaveVideo"]}
    assert client.get("/object_info/NoSuchNode") == {}
    assert "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors" in client.get("/models/diffusion_models")
    assert requests.get(client.url + "/models/nope", timeout=30).status_code == 404


def test_a_foreign_page_is_kept_out_on_loopback(simulator):
    sim = simulator()
    host = sim.url.removeprefix("http://")
    for origin, status in ((f"http://{host}", 200), ("http://localhost:5173", 403), ("http://evil.example", 403)):
        assert requests.get(sim.url + "/queue", headers={"Origin": origin}, timeout=30).status_code == status
    away = {"Origin": "http://other.lan", "Host": "example.lan:8188"}
    assert requests.get(sim.url + "/queue", headers=away, timeout=30).status_code == 200


def test_stats_count_jobs_and_time(simulator, connect, graph):
    sim = simulator()
    client = connect(sim, listen=False)
    before = client.get("/sim/stats")
    assert before["simulator"] is True and before["first_prompt_at"] is None and before["idle_seconds"] == 0
    client.finished(client.queue(graph(slow=0.3)))
    prompt = graph()
    prompt["30"] = {"class_type": "LabRaise", "inputs": {"images": ["12", 0], "kind": "KeyError", "message": "x"}}
    prompt["13"]["inputs"]["images"] = ["30", 0]
    client.finished(client.queue(prompt))
    after = client.get("/sim/stats")
    assert (after["jobs_done"], after["jobs_failed"], after["queue_remaining"]) == (1, 1, 0)
    assert after["busy_seconds"] >= 0.3 and after["idle_seconds"] > 0 and after["last_finished_at"] >= after["first_prompt_at"]
    assert after["idle_seconds"] + after["busy_seconds"] <= after["uptime_seconds"] + 0.01
    assert after["idle_seconds_between_jobs"] <= after["idle_seconds"]


def test_truth_is_that_of_the_surface(simulator, connect, graph):
    sim = simulator(seed=4)
    client = connect(sim, listen=False)
    params = {"sampler": "euler", "scheduler": "beta", "cfg_scale": 9, "steps": 7, "fps": 12, "width": 320, "height": 192}
    query = "&".join(f"{key}={value}" for key, value in params.items())
    truth = client.get(f"/sim/truth?{query}")
    assert truth["quality"] == QualitySurface(4).quality(params) and truth["defects"] == QualitySurface(4).defects(params).as_dict()
    assert requests.get(f"{sim.url}/sim/truth?sampler=euler", timeout=30).status_code == 400
    prompt_id = client.queue(graph())
    client.finished(prompt_id)
    made = client.get(f"/sim/truth?prompt_id={prompt_id}")
    expected = {"sampler": "euler", "scheduler": "simple", "cfg_scale": 3.5, "steps": 6, "fps": 16, "width": 128, "height": 96, "seed": 77}
    assert made["file"] == "t/clip_00001_.mp4" and abs(made["quality"] - QualitySurface(4).quality(expected)) < 1e-9
