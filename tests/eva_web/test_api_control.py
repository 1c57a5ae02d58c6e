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


def test_nothing_is_predicted_until_the_agent_says_so(site: Any) -> None:
    site.made("a.mp4", timestamp=1.0)
    site.made("b.mp4", timestamp=2.0)
    check = {"ratings": 12, "error": 1.9, "error_of_mean": 1.8, "used": False}
    for content in (None, {"values": {}, "predicted": {}, "check": check}, {"predicted": {"a.mp4": [5]}, "check": {"ratings": "x"}}):
        if content is not None:
            write_live(site.state / "review_order.json", content)
            site.index.refresh()
        for order in ("best_predicted", "worst_predicted"):
            answer = site.get(f"/api/videos?order={order}")
            assert answer.headers["x-order"] == "newest" and names(answer) == ["b.mp4", "a.mp4"]
            assert [item["predicted"] for item in answer.json] == [None, None]
        assert site.get("/api/video_details?name=a.mp4").json["predicted"] is None
        assert [item["predicted"] for item in site.get("/api/search").json["items"]] == [None, None]
        assert site.get("/api/stats").json["prediction"] == (check if content and content["check"] == check else None)


def test_predicted_ratings_are_shown_and_order_the_queue(site: Any) -> None:
    for number in range(5):
        site.made(f"c{number}.mp4", timestamp=1000.0 + number, score=0.5)
    site.made("moved/c9.mp4", timestamp=1010.0)
    said = {"c0.mp4": [6.5, 1.2], "c1.mp4": [9.25, 0.8], "c3.mp4": [2.0, 1.0], "gone.mp4": [9.9, 0.1], "wild.mp4": [float(12), 1.0]}
    check = {"ratings": 40, "error": 0.9, "error_of_mean": 2.1, "used": True}
    write_live(site.state / "review_order.json", {"updated_at": 1.0, "values": {}, "predicted": said, "check": check})
    answer = site.get("/api/videos?order=best_predicted")
    assert answer.headers["x-order"] == "best_predicted" and answer.headers["x-total-count"] == "6"
    assert names(answer) == ["c1.mp4", "c0.mp4", "c3.mp4", "moved/c9.mp4", "c4.mp4", "c2.mp4"]
    assert answer.json[0]["predicted"] == {"mean": 9.25, "sd": 0.8} and answer.json[-1]["predicted"] is None
    assert names(site.get("/api/videos?order=worst_predicted&limit=2&offset=1")) == ["c0.mp4", "c1.mp4"]
    assert site.get("/api/video_details?name=c3.mp4").json["predicted"] == {"mean": 2.0, "sd": 1.0}
    items = {item["name"]: item["predicted"] for item in site.get("/api/search").json["items"]}
    assert items["c0.mp4"] == {"mean": 6.5, "sd": 1.2} and items["c4.mp4"] is None
    assert site.get("/api/stats").json["prediction"] == check
    site.post("/api/rate", {"video_name": "c1.mp4", "rating": {"overall_quality": 6}})
    assert names(site.get("/api/videos?order=best_predicted"))[0] == "c0.mp4", "a rated clip leaves the queue"
    assert site.get("/api/search?rated=true").json["items"][0]["predicted"] == {"mean": 9.25, "sd": 0.8}
    disagree = site.get("/api/videos?order=disagree")
    assert names(disagree)[:2] == ["c3.mp4", "c0.mp4"], "the others are compared with the one rating of their combo"
    why = next(item for item in disagree.json if item["name"] == "c3.mp4")
    assert why["order_why"] == {"score": 0.5, "rated": 0.1111, "ratings": 40, "of": "prediction"}
    assert why["order_value"] == pytest.approx(0.3889)
    write_live(site.state / "review_order.json", {"updated_at": 2.0, "values": {}, "predicted": {}, "check": None})
    assert site.get("/api/videos?order=best_predicted").headers["x-order"] == "newest", "the agent took them back"


def test_a_clip_that_moved_keeps_its_prediction(site: Any) -> None:
    site.made("old/c1.mp4")
    (site.videos / "old/c1.mp4").rename(site.videos / "c1.mp4")
    site.index.refresh()
    write_live(site.state / "review_order.json", {"predicted": {"old/c1.mp4": [7.0, 1.0]}, "values": {}, "check": None})
    site.index.refresh()
    (item,) = [item for item in site.get("/api/search?exists=true").json["items"] if item["name"] == "c1.mp4"]
    assert item["predicted"] == {"mean": 7.0, "sd": 1.0}
    assert site.get("/api/video_details?name=c1.mp4").json["predicted"] == {"mean": 7.0, "sd": 1.0}


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


def test_a_request_that_waits_is_taken_back(site: Any, helpers: Any) -> None:
    site.store.set_space(SPACE)
    site.made("a.mp4", prompt="a blue cube")
    for id in ("r1", "r2"):
        assert site.post("/api/request", {"kind": "again", "name": "a.mp4", "id": id}).status == 200
    assert site.post("/api/cancel_request", {"event_id": "r1"}).json == {"status": "success", "event_id": "r1"}
    assert site.post("/api/cancel_request", {"event_id": "r1"}).status == 200, "the same again answers the same"
    assert [(item["id"], item["state"]) for item in site.get("/api/requests").json["requests"]] == [("r2", "waiting"), ("r1", "cancelled")]
    site.store.answer_request("r2", "made", video="b.mp4")
    late = site.post("/api/cancel_request", {"event_id": "r2"})
    assert late.status == 409 and "made" in late.json["message"]
    agent_runs(site, now=None)
    control = site.post("/api/agent_control", {"action": "pause"}).json["event_id"]
    for id in ("nobody", control):
        assert site.post("/api/cancel_request", {"event_id": id}).status == 404, "only requests for clips are taken back"
    assert site.post("/api/cancel_request", {}).status == 422


def test_the_preview_of_the_clip_under_way(site: Any) -> None:
    assert site.get("/api/agent/preview").status == 204
    write_live_bytes(site.state / "agent_preview.jpg", b"\xff\xd8\xff picture")
    agent_runs(site)
    answer = site.get("/api/agent/preview")
    assert answer.status == 200 and answer.body == b"\xff\xd8\xff picture" and answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    assert site.get("/api/agent/preview", If_None_Match=answer.headers["etag"]).status == 304
