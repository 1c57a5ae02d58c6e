"""``POST /api/...``: what is recorded, what is refused, and that the same id acts once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eva_env_base import StateError, StateFull

FULL = {
    **{"overall_quality": 7, "visual_quality": 6.5, "motion_quality": 5, "prompt_adherence": 10, "creativity": 1, "technical_quality": 2},
    **{"is_reference": True, "comments": 'fine "<b>" \n ✓', "defects": ["flicker", "hands"], "my_own_key": {"deep": [1, None]}},
}


def rate(site: Any, name: str = "a.mp4", **rating: Any) -> Any:
    return site.post("/api/rate", {"video_name": name, "rating": {"overall_quality": 5, **rating}})


def test_a_rating_is_recorded_whole(site: Any) -> None:
    site.clip("a.mp4")
    answer = site.post("/api/rate", {"video_name": "a.mp4", "rating": FULL, "id": "my-id-1"})
    assert answer.json == {"status": "success", "event_id": "my-id-1"}
    assert site.store.rating("a.mp4")["rating"] == FULL


def test_the_same_id_acts_once(site: Any) -> None:
    site.clip("a.mp4")
    body = {"video_name": "a.mp4", "rating": {"overall_quality": 7}, "id": "same"}
    first = site.post("/api/rate", body)
    rate(site, overall_quality=3)
    assert site.post("/api/rate", body).json == first.json
    assert site.store.rating("a.mp4")["rating"]["overall_quality"] == 3
    clash = site.post("/api/ban_combo", {"combo_key": "a|b|1|1|1|8x8", "id": "same"})
    assert clash.status == 409 and site.get("/api/bans").json == []


def test_a_clip_known_only_to_the_state_can_be_rated(site: Any) -> None:
    site.made("gone.mp4", file=False)
    assert rate(site, "gone.mp4").status == 200


@pytest.mark.parametrize("name", ["with space.mp4", "q\"u'o.mp4", "ю✓.mp4", "new\nline.mp4", "sub/a.mp4", "<b>.mp4"])
def test_names_of_every_kind(site: Any, name: str) -> None:
    site.clip(name)
    assert rate(site, name).status == 200
    assert site.store.rating(name)["rating"]["overall_quality"] == 5 and site.get("/api/videos").json == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"overall_quality": None}, "rating.overall_quality"),
        ({"overall_quality": 0}, "rating.overall_quality"),
        ({"overall_quality": 10.5}, "rating.overall_quality"),
        ({"overall_quality": "7"}, "rating.overall_quality"),
        ({"overall_quality": True}, "rating.overall_quality"),
        ({"overall_quality": 10**400}, "rating.overall_quality"),
        ({"overall_quality": [7]}, "rating.overall_quality"),
        ({"motion_quality": 11}, "rating.motion_quality"),
        ({"creativity": {}}, "rating.creativity"),
        ({"is_reference": 1}, "rating.is_reference"),
        ({"banned": "yes"}, "rating.banned"),
        ({"comments": 5}, "rating.comments"),
        ({"comments": "x" * 10_001}, "rating.comments"),
        ({"defects": "flicker"}, "rating.defects"),
        ({"defects": [""]}, "rating.defects"),
        ({"defects": ["x" * 101]}, "rating.defects"),
        ({"defects": ["x"] * 51}, "rating.defects"),
        ({"defects": [5]}, "rating.defects"),
    ],
)
def test_wrong_ratings(site: Any, change: dict[str, Any], field: str) -> None:
    site.clip("a.mp4")
    answer = rate(site, **change)
    assert answer.status == 422 and list(answer.json["fields"]) == [field]
    assert site.store.rating("a.mp4") is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *[
            (b"", 400),
            (b"{", 400),
            (b"[]", 400),
            (b'"x"', 400),
            (b"null", 400),
            (b"\xff", 400),
            (b'{"a": NaN}', 400),
            (b"[" * 100_000, 400),
        ],
        *[(b'{"video_name": "\\ud800", "rating": {}}', 400), (b'{"a": ' + b"9" * 5000 + b"}", 400), (b"{} {}", 400)],
        *[(b"{}", 422), (b'{"video_name": 5, "rating": {"overall_quality": 5}}', 422), (b'{"video_name": "a.mp4"}', 422)],
        *[(b'{"video_name": "a.mp4", "rating": []}', 422), (b'{"video_name": "a.mp4", "rating": {"overall_quality": 5}, "id": 5}', 422)],
        *[
            (b'{"video_name": "nothing.mp4", "rating": {"overall_quality": 5}}', 404),
            (b'{"video_name": "", "rating": {"overall_quality": 5}}', 422),
        ],
        *[(b'{"video_name": "../a.mp4", "rating": {"overall_quality": 5}}', 422)],
        *[(b'{"video_name": "a\\u0000.mp4", "rating": {"overall_quality": 5}}', 422)],
    ],
)
def test_malformed_bodies(site: Any, body: bytes, status: int) -> None:
    site.clip("a.mp4")
    answer = site.ask("POST", "/api/rate", body, {"Content-Type": "application/json"})
    assert answer.status == status, answer.body
    assert answer.json["status"] == "error" and ("fields" in answer.json) == (status == 422)
    assert site.get("/api/stats").json["total_rated"] == 0


def test_all_wrong_fields_are_told_at_once(site: Any) -> None:
    answer = site.post("/api/rate", {"rating": {"overall_quality": 0, "defects": 1}})
    assert set(answer.json["fields"]) == {"video_name", "rating.overall_quality", "rating.defects"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
bodies = st.dictionaries(
    st.sampled_from(["video_name", "rating", "id", "combo_key", "params", "reason", "event_id", "left", "right", "winner"]),
    json_values | st.sampled_from(["a.mp4", "*|*|*|*|*|*", "tie", {"overall_quality": 5}]),
    max_size=5,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["rate", "ban_combo", "unban_combo", "undo", "compare"]), bodies)
def test_no_body_breaks_the_server(site: Any, route: str, body: dict[str, Any]) -> None:
    site.clip("a.mp4")
    answer = site.post(f"/api/{route}", body)
    assert answer.status in (200, 404, 409, 422), (answer.status, answer.body)
    assert answer.json["status"] == ("success" if answer.status == 200 else "error")


# ---------------------------------------------------------------- bans
def test_a_ban_by_clip_marks_the_clip(site: Any, helpers: Any) -> None:
    site.made("a.mp4")
    site.made("b.mp4")
    answer = site.post("/api/ban_combo", {"video_name": "a.mp4", "reason": "grain", "id": "ban-1"}).json
    assert answer == {"status": "success", "banned_combo": helpers.key, "total_banned": 1, "video_marked": True, "event_id": "ban-1"}
    rating = site.store.rating("a.mp4")["rating"]
    assert rating["banned"] is True and rating["overall_quality"] == 2
    assert [clip["name"] for clip in site.get("/api/videos").json] == ["b.mp4"]
    assert site.post("/api/undo", {"event_id": "ban-1"}).status == 200
    assert site.store.bans() == {} and site.store.rating("a.mp4") is None


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"combo_key": "euler|simple|16.0|7.0|20|832X480"}, "euler|simple|16|7|20|832x480"),
        ({"combo_key": "euler|simple|*|*|*|*"}, "euler|simple|*|*|*|*"),
        (
            {"params": {"sampler": "heun", "scheduler": "karras", "fps": 16, "cfg_scale": 7, "steps": 20, "width": 8, "height": 8}},
            "heun|karras|16|7|20|8x8",
        ),
        ({"params": {"sampler": "heun"}}, "heun|*|*|*|*|*"),
    ],
)
def test_bans_by_key_pattern_and_params(site: Any, body: dict[str, Any], key: str) -> None:
    answer = site.post("/api/ban_combo", body).json
    assert (answer["banned_combo"], answer["video_marked"]) == (key, False)
    assert list(site.store.bans()) == [key]
    lifted = site.post("/api/unban_combo", {"combo_key": key}).json
    assert (lifted["unbanned_combo"], lifted["total_banned"]) == (key, 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"combo_key": "x"}, 422),
        ({"combo_key": 5}, 422),
        ({"combo_key": "a|b|1|1|1|8x8", "params": {"sampler": "x"}}, 422),
        ({"params": {"sampler": 5}}, 422),
        ({"params": {"steps": -1}}, 422),
        ({"params": []}, 422),
        ({"combo_key": "a|b|1|1|1|8x8", "reason": "x" * 1001}, 422),
        ({"combo_key": "x" * 2000}, 422),
        ({"video_name": "nothing.mp4"}, 404),
    ],
)
def test_wrong_bans(site: Any, body: dict[str, Any], status: int) -> None:
    answer = site.post("/api/ban_combo", body)
    assert answer.status == status and ("fields" in answer.json) == (status == 422)
    assert site.store.bans() == {}


def test_a_ban_that_leaves_nothing_is_refused(site: Any) -> None:
    site.store.set_space({"sampler": ["a", "b"], "scheduler": ["s"], "fps": [16], "cfg_scale": [7], "steps": [20], "size": [[8, 8]]})
    assert site.post("/api/ban_combo", {"combo_key": "*|s|*|*|*|*"}).status == 409
    assert site.post("/api/ban_combo", {"combo_key": "a|*|*|*|*|*"}).status == 200
    last = site.post("/api/ban_combo", {"combo_key": "b|s|16|7|20|8x8"})
    assert last.status == 409 and "nothing to try" in last.json["message"]
    assert list(site.store.bans()) == ["a|*|*|*|*|*"]
    assert site.post("/api/ban_combo", {"combo_key": "c|*|*|*|*|*"}).status == 200  # outside the space it takes nothing


def test_lifting_what_is_not_banned(site: Any) -> None:
    site.post("/api/ban_combo", {"combo_key": "a|*|*|*|*|*"})
    answer = site.post("/api/unban_combo", {"combo_key": "a|s|16|7|20|8x8"})
    assert answer.status == 409 and "a|*|*|*|*|*" in answer.json["message"]


# ---------------------------------------------------------------- undo and comparisons
def test_undo_of_a_rating(site: Any) -> None:
    site.clip("a.mp4")
    rate(site, overall_quality=8)
    event = rate(site, overall_quality=3).json["event_id"]
    first = site.post("/api/undo", {"event_id": event}).json
    assert first["undone"] == event
    assert site.store.rating("a.mp4")["rating"]["overall_quality"] == 8
    assert site.post("/api/undo", {"event_id": event}).json == first  # once more changes nothing
    assert site.store.rating("a.mp4")["rating"]["overall_quality"] == 8


@pytest.mark.parametrize(("body", "status"), [({}, 422), ({"event_id": 5}, 422), ({"event_id": "nothing"}, 404), ({"event_id": ""}, 422)])
def test_wrong_undo(site: Any, body: dict[str, Any], status: int) -> None:
    assert site.post("/api/undo", body).status == status


def test_what_cannot_be_undone(site: Any) -> None:
    site.made("a.mp4")
    assert site.post("/api/undo", {"event_id": "generated:p-a.mp4"}).status == 409


def test_comparisons(site: Any) -> None:
    site.clip("a.mp4")
    site.clip("b.mp4")
    answer = site.post("/api/compare", {"left": "a.mp4", "right": "b.mp4", "winner": "left", "id": "c1"})
    assert answer.json == {"status": "success", "event_id": "c1"}
    assert [(item["left"], item["winner"]) for item in site.store.compares()] == [("a.mp4", "left")]
    site.post("/api/undo", {"event_id": "c1"})
    assert site.store.compares() == []


@pytest.mark.parametrize(
    ("change", "status"),
    [({"winner": "me"}, 422), ({"winner": None}, 422), ({"right": "a.mp4"}, 422), ({"right": "nothing.mp4"}, 404), ({"left": 5}, 422)],
)
def test_wrong_comparisons(site: Any, change: dict[str, Any], status: int) -> None:
    site.clip("a.mp4")
    site.clip("b.mp4")
    assert site.post("/api/compare", {"left": "a.mp4", "right": "b.mp4", "winner": "tie", **change}).status == status
    assert site.store.compares() == []


# ---------------------------------------------------------------- when the disk or the state refuses
@pytest.mark.parametrize(
    ("error", "status"), [(StateFull("the disk is full; free some space"), 507), (StateError("the state is gone"), 503)]
)
def test_what_is_not_on_disk_is_not_acknowledged(site: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int) -> None:
    site.clip("a.mp4")

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(site.store, "rate", refuse)
    answer = rate(site)
    assert (answer.status, answer.json["message"]) == (status, str(error))


def test_an_error_of_ours_is_a_500_without_a_traceback(
    site: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.clip("a.mp4")
    monkeypatch.setattr(site.store, "rate", lambda *_, **__: 1 / 0)
    answer = rate(site)
    assert answer.status == 500 and b"ZeroDivision" not in answer.body and b"Traceback" not in answer.body
    assert answer.json["request_id"] == answer.headers["x-request-id"] and answer.json["request_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/rate"), ("POST", "/api/stats"), ("PUT", "/"), ("DELETE", "/video/a.mp4")])
def test_wrong_method(site: Any, method: str, path: str) -> None:
    answer = site.ask(method, path)
    assert answer.status == 405 and answer.headers["allow"]


def test_ratings_survive_a_restart(make_site: Callable[..., Any], tmp_path: Any) -> None:
    from eva_state.store import StateStore

    site = make_site()
    site.clip("a.mp4")
    rate(site, overall_quality=9)
    site.close()
    with StateStore(site.state, role="server", video_dir=site.videos) as store:
        assert store.rating("a.mp4")["rating"]["overall_quality"] == 9
    site.close = lambda: None
    assert json.loads((site.state / "manual_ratings.json").read_text(encoding="utf-8"))["a.mp4"]["rating"]["overall_quality"] == 9
