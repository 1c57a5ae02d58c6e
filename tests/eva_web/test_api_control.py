"""The queue's orders and filters, repeated ratings, and what a person asks of the agent, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from eva_state.live import write_live, write_live_bytes

SPACE = {
    "sampler": ["euler", "heun"],
    "scheduler": ["simple"],
    "fps": [16],
    "cfg_scale": [3.5, 5],
    "steps": [20],
    "size": [[832, 480]],
}


def names(answer: Any) -> list[str]:
    assert answer.status == 200, answer.body
    return [item["name"] for item in answer.json]


def agent_runs(site: Any, **status: Any) -> None:
    write_live(site.state / "agent_status.json", {"state": "running", "updated_at": 1.0, **status})


# ---------------------------------------------------------------- the queue
def test_orders_of_the_queue(site: Any) -> None:
    for number, score in enumerate((0.2, 0.9, 0.5)):
        site.made(f"c{number}.mp4", score=score, timestamp=1000.0 + number)
    assert names(site.get("/api/videos?order=newest")) == ["c2.mp4", "c1.mp4", "c0.mp4"]
    assert names(site.get("/api/videos?order=oldest")) == ["c0.mp4", "c1.mp4", "c2.mp4"]
    assert names(site.get("/api/videos?order=best")) == ["c1.mp4", "c2.mp4", "c0.mp4"]
    assert names(site.get("/api/videos?order=worst")) == ["c0.mp4", "c2.mp4", "c1.mp4"]
    assert names(site.get("/api/videos?sort=score")) == ["c1.mp4", "c2.mp4", "c0.mp4"], "the older form"
    mixed = names(site.get("/api/videos?order=random&seed=a"))
    assert sorted(mixed) == ["c0.mp4", "c1.mp4", "c2.mp4"] and mixed == names(site.get("/api/videos?order=random&seed=a"))
    assert len({tuple(names(site.get(f"/api/videos?order=random&seed={seed}"))) for seed in range(20)}) > 1
    pages = [names(site.get(f"/api/videos?order=random&seed=a&offset={at}&limit=1")) for at in range(3)]
    assert [name for page in pages for name in page] == mixed
    assert site.get("/api/videos?order=dearest").status == 422


def test_the_most_informative_first_as_the_agent_says_and_newest_where_it_says_nothing(site: Any) -> None:
    for number in range(4):
        site.made(f"c{number}.mp4", timestamp=1000.0 + number)
    answer = site.get("/api/videos?order=informative")
    assert answer.headers["x-order"] == "newest" and names(answer)[0] == "c3.mp4"
    write_live(site.state / "review_order.json", {"updated_at": 1.0, "values": {"c1.mp4": 0.002, "c0.mp4": 0.01, "gone.mp4": 0.5}})
    answer = site.get("/api/videos?order=informative")
    assert answer.headers["x-order"] == "informative"
    assert names(answer) == ["c0.mp4", "c1.mp4", "c3.mp4", "c2.mp4"], "those the agent did not rank follow, newest first"
    assert answer.json[0]["order_value"] == 0.01 and "order_value" not in answer.json[2]
    assert names(site.get("/api/videos?order=informative&offset=1&limit=2")) == ["c1.mp4", "c3.mp4"]
    site.post("/api/rate", {"video_name": "c0.mp4", "rating": {"overall_quality": 5}})
    assert names(site.get("/api/videos?order=informative"))[0] == "c1.mp4"


def test_where_the_metrics_disagree_with_the_person(site: Any) -> None:
    site.made("rated.mp4", score=0.9)
    site.made("same.mp4", score=0.9)
    site.made("agreed.mp4", score=0.15)
    site.made("other.mp4", score=0.5, params={"sampler": "heun"})
    assert site.get("/api/videos?order=disagree").headers["x-order"] == "newest"
    site.post("/api/rate", {"video_name": "rated.mp4", "rating": {"overall_quality": 2}})
    site.server.app.review._compared = None
    answer = site.get("/api/videos?order=disagree")
    assert names(answer) == ["same.mp4", "agreed.mp4", "other.mp4"]
    first = answer.json[0]
    assert first["order_why"] == {"score": 0.9, "rated": 0.1111, "ratings": 1, "of": "combo"}
    assert first["order_value"] == pytest.approx(0.7889)


def test_filters_of_the_queue(site: Any) -> None:
    site.made("a.mp4", score=0.2, findings=[{"kind": "flicker", "start": 0.0}])
    site.made("b.mp4", score=0.8, params={"sampler": "heun", "width": 640})
    assert names(site.get("/api/videos?sampler=heun")) == ["b.mp4"]
    assert names(site.get("/api/videos?width=832")) == ["a.mp4"]
    assert names(site.get("/api/videos?min_score=0.5")) == ["b.mp4"]
    answer = site.get("/api/videos?defect=flicker&order=best")
    assert names(answer) == ["a.mp4"] and answer.headers["x-total-count"] == "1"
    assert names(site.get("/api/videos?defect=freeze")) == []


def test_a_clip_judged_twice_keeps_its_first_rating(site: Any) -> None:
    site.made("a.mp4")
    site.made("b.mp4")
    refused = site.post("/api/rate", {"video_name": "a.mp4", "rating": {"overall_quality": 5}, "repeat": True})
    assert refused.status == 409 and "not rated" in refused.json["message"]
    site.post("/api/rate", {"video_name": "a.mp4", "rating": {"overall_quality": 8}})
    assert names(site.get("/api/videos?repeats=true")) == ["a.mp4"]
    body = {"video_name": "a.mp4", "rating": {"overall_quality": 5}, "repeat": True, "id": "again-1"}
    first, second = site.post("/api/rate", body), site.post("/api/rate", body)
    assert first.status == second.status == 200 and first.json == second.json
    assert site.get("/api/stats").json["consistency"] == {"repeats": 1, "mean_abs_difference": 3.0}
    details = site.get("/api/video_details?name=a.mp4").json
    assert details["manual_rating"]["rating"]["overall_quality"] == 8
    assert site.post("/api/rate", {**body, "repeat": "yes", "id": "x"}).json["fields"] == {"repeat": "must be true or false"}


# ---------------------------------------------------------------- the agent
def test_controls_need_an_agent_and_reach_the_state(site: Any) -> None:
    refused = site.post("/api/agent_control", {"action": "pause"})
    assert refused.status == 409 and "no agent runs" in refused.json["message"]
    agent_runs(site, now=None)
    assert site.post("/api/agent_control", {"action": "dance"}).json["fields"]["action"]
    done = site.post("/api/agent_control", {"action": "pause", "id": "c1"})
    assert done.status == 200 and done.json["event_id"] == "c1" and done.json["agent_alive"]
    nothing = site.post("/api/agent_control", {"action": "skip"})
    assert nothing.status == 409 and "nothing to skip" in nothing.json["message"]
    agent_runs(site, now={"prompt_id": "p7"})
    assert site.post("/api/agent_control", {"action": "skip"}).status == 200
    newest, oldest = site.get("/api/requests").json["requests"]
    assert (newest["action"], newest["prompt_id"], newest["state"]) == ("skip", "p7", "waiting") and oldest["id"] == "c1"
    agent_runs(site, state="stopped")
    assert site.get("/api/agent").json["alive"] is False, "it said itself that it stopped"
    again = site.post("/api/agent_control", {"action": "pause", "id": "c1"})
    assert again.status == 200 and again.json["event_id"] == "c1", "the same id is answered the same"
    assert len(site.get("/api/requests").json["requests"]) == 2


def test_requests_for_clips(site: Any, helpers: Any) -> None:
    site.store.set_space(SPACE)
    site.made("a.mp4", prompt="a blue cube", negative_prompt="fog")
    site.made("far.mp4", params={"steps": 99})
    site.clip("unknown.mp4")
    done = site.post("/api/request", {"kind": "again", "name": "a.mp4", "id": "r1"})
    assert done.status == 200 and done.json["agent_alive"] is False
    assert site.post("/api/request", {"kind": "again", "name": "a.mp4", "id": "r1"}).json == done.json
    (item,) = site.get("/api/requests").json["requests"]
    assert (item["combo_key"], item["prompt"], item["negative_prompt"]) == (helpers.key, "a blue cube", "fog")
    assert site.post("/api/request", {"kind": "vary", "name": "far.mp4"}).status == 200
    for body, status, part in (
        ({"kind": "again", "name": "nobody.mp4"}, 404, "no clip"),
        ({"kind": "again", "name": "unknown.mp4"}, 409, "does not tell"),
        ({"kind": "again", "name": "far.mp4"}, 422, "steps 99"),
        ({"kind": "try", "params": {**helpers.params, "cfg_scale": 9}}, 422, "cfg_scale 9"),
        ({"kind": "try", "params": {"sampler": "euler"}}, 422, "params"),
        ({"kind": "try"}, 422, "params"),
        ({"kind": "again"}, 422, "name"),
        ({"kind": "dance", "name": "a.mp4"}, 422, "kind"),
    ):
        answer = site.post("/api/request", body)
        assert answer.status == status and part in answer.json["message"], (body, answer.json)
    assert site.post("/api/request", {"kind": "try", "params": {**helpers.params, "cfg_scale": 5}}).status == 200
    site.store.ban("euler|*|*|*|*|*", reason="no")
    answer = site.post("/api/request", {"kind": "again", "name": "a.mp4"})
    assert answer.status == 409 and "banned" in answer.json["message"]
    assert len(site.get("/api/requests").json["requests"]) == 3


def test_the_preview_of_the_clip_under_way(site: Any) -> None:
    assert site.get("/api/agent/preview").status == 204
    write_live_bytes(site.state / "agent_preview.jpg", b"\xff\xd8\xff picture")
    agent_runs(site)
    answer = site.get("/api/agent/preview")
    assert answer.status == 200 and answer.body == b"\xff\xd8\xff picture" and answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    assert site.get("/api/agent/preview", If_None_Match=answer.headers["etag"]).status == 304
