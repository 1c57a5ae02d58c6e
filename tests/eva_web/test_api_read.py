"""``GET /api/...``: the contract's keys, paging, filters, live changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from eva_state.live import write_live

VIDEO_KEYS = {
    "name",
    "size_mb",
    "created",
    "prompt",
    "fps",
    "width",
    "height",
    "seconds",
    "seed",
    "combo",
    "auto_metrics",
    "iteration",
    "found_in_knowledge",
    "match_method",
}
SEARCH_KEYS = {"name", "score", "manual_overall", "rated", "banned", "reference", "params", "exists"}
STATS_KEYS = {"total_generated", "total_rated", "pending_count", "avg_rating", "best_score", "bandit_iterations", "learning_arms"}


def names(answer: Any) -> list[str]:
    return [item["name"] for item in answer.json["items"]]


def test_health_and_config(site: Any) -> None:
    assert site.get("/health").json["status"] == "ok"
    config = site.get("/api/config").json
    assert config == {**config, "lang": "en", "simulator": False, "token_required": False, "video_dir_found": True}


def test_stats_of_nothing(site: Any) -> None:
    stats = site.get("/api/stats").json
    assert set(stats) >= STATS_KEYS
    assert (stats["total_generated"], stats["pending_count"], stats["avg_rating"]) == (0, 0, None)


def test_stats_count(site: Any, helpers: Any) -> None:
    for number, score in enumerate((0.2, 0.9, 0.5)):
        site.made(f"c{number}.mp4", score=score)
    site.post("/api/rate", {"video_name": "c0.mp4", "rating": {"overall_quality": 4, "is_reference": True}})
    site.post("/api/ban_combo", {"combo_key": "other|simple|16|7|20|832x480"})
    site.store.failed("p9", {"params": helpers.params, "combo_key": helpers.key, "kind": "oom", "reason": "no memory", "cost_minutes": 1})
    stats = site.get("/api/stats").json
    expected = {"total_generated": 3, "total_rated": 1, "pending_count": 2, "avg_rating": 4.0, "learning_arms": 1, "bandit_iterations": 3}
    more = {"banned_count": 1, "failed_count": 1, "rated_today": 1, "reference_count": 1, "best_clip": "c1.mp4"}
    assert stats == {**stats, **expected, **more}


def test_videos_are_the_unrated_ones_newest_first(site: Any, helpers: Any) -> None:
    for number in range(5):
        site.made(f"c{number}.mp4", timestamp=helpers.old + number, seed=number)
    site.post("/api/rate", {"video_name": "c2.mp4", "rating": {"overall_quality": 4}})
    answer = site.get("/api/videos?limit=2&offset=1")
    assert [clip["name"] for clip in answer.json] == ["c3.mp4", "c1.mp4"] and answer.headers["x-total-count"] == "4"
    clip = answer.json[0]
    assert set(clip) >= VIDEO_KEYS
    assert clip == {
        **clip,
        "fps": 16,
        "width": 832,
        "height": 480,
        "combo": ["euler", "simple"],
        "found_in_knowledge": True,
        "match_method": "exact",
    }
    assert (clip["seed"], clip["iteration"], clip["prompt"]) == (3, 4, "a red ball")
    assert [clip["name"] for clip in site.get("/api/videos?sort=oldest").json] == ["c0.mp4", "c1.mp4", "c3.mp4", "c4.mp4"]


def test_a_clip_without_history_is_listed_too(site: Any) -> None:
    site.clip("stray.mp4")
    clip = site.get("/api/videos").json[0]
    assert (clip["name"], clip["found_in_knowledge"], clip["match_method"], clip["prompt"]) == ("stray.mp4", False, "none", None)


@pytest.fixture
def library(site: Any) -> Any:
    """Six clips that differ in one thing each."""
    site.made("a.mp4", score=0.1, params={"sampler": "euler", "cfg_scale": 3.5})
    site.made("b.mp4", score=0.5, params={"sampler": "heun", "cfg_scale": 7.0}, prompt="a BLUE kite <b>&</b>")
    site.made("c.mp4", score=0.9, params={"fps": 24, "width": 640, "height": 360})
    site.made("sub/d.mp4", score=0.505, params={"steps": 30})
    site.made("gone.mp4", score=0.6, file=False)
    site.clip("stray.mp4")
    rate = [("a.mp4", 3, {"defects": ["flicker"]}), ("b.mp4", 8.5, {"is_reference": True}), ("gone.mp4", 6, {"banned": True})]
    for name, overall, more in rate:
        assert site.post("/api/rate", {"video_name": name, "rating": {"overall_quality": overall, **more}}).status == 200
    return site


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {"a.mp4", "b.mp4", "c.mp4", "sub/d.mp4", "gone.mp4", "stray.mp4"}),
        ({"rated": "true"}, {"a.mp4", "b.mp4", "gone.mp4"}),
        ({"rated": "false"}, {"c.mp4", "sub/d.mp4", "stray.mp4"}),
        ({"rated": "all", "reference": "true"}, {"b.mp4"}),
        ({"banned": "true"}, {"gone.mp4"}),
        ({"banned": "false", "rated": "true"}, {"a.mp4", "b.mp4"}),
        ({"exists": "false"}, {"gone.mp4"}),
        ({"q": "blue"}, {"b.mp4"}),
        ({"q": "KITE a"}, {"b.mp4"}),
        ({"q": "sub/"}, {"sub/d.mp4"}),
        ({"q": "nothing like it"}, set()),
        ({"sampler": "heun"}, {"b.mp4"}),
        ({"scheduler": "simple", "fps": "24"}, {"c.mp4"}),
        ({"fps": "24.0"}, {"c.mp4"}),
        ({"width": "640", "height": "360"}, {"c.mp4"}),
        ({"cfg": "7"}, {"b.mp4"}),
        ({"steps": "30"}, {"sub/d.mp4"}),
        ({"min_cfg": "5"}, {"b.mp4"}),
        ({"max_steps": "25", "min_cfg": "3.6"}, {"b.mp4"}),
        ({"defect": "flicker"}, {"a.mp4"}),
        ({"min_score": "0.501"}, {"sub/d.mp4", "gone.mp4", "c.mp4"}),
        ({"min_score": "0.5", "max_score": "0.505"}, {"b.mp4", "sub/d.mp4"}),
        ({"min_score": "0.9"}, {"c.mp4"}),
        ({"min_score": "0.91"}, set()),
        ({"min_overall": "6"}, {"b.mp4", "gone.mp4"}),
        ({"min_overall": "6.5"}, {"b.mp4"}),
        ({"max_overall": "3"}, {"a.mp4"}),
    ],
)
def test_search_filters(library: Any, query: dict[str, str], expected: set[str]) -> None:
    answer = library.get("/api/search?" + urlencode(query))
    assert set(names(answer)) == expected and answer.json["total"] == len(expected)
    assert all(set(item) >= SEARCH_KEYS for item in answer.json["items"])


@pytest.mark.parametrize(
    ("sort", "first", "last"),
    [("score", "c.mp4", "stray.mp4"), ("manual", "b.mp4", None), ("name", "a.mp4", "sub/d.mp4"), ("oldest", "a.mp4", None)],
)
def test_search_order(library: Any, sort: str, first: str, last: str | None) -> None:
    found = names(library.get(f"/api/search?sort={sort}"))
    assert found[0] == first and (last is None or found[-1] == last) and len(found) == 6
    pages = [name for offset in range(0, 8, 2) for name in names(library.get(f"/api/search?sort={sort}&offset={offset}&limit=2"))]
    assert pages == found


def test_search_item(library: Any) -> None:
    item = library.get("/api/search?q=b.mp4").json["items"][0]
    assert item == {**item, "score": 0.5, "manual_overall": 8.5, "rated": True, "banned": False, "reference": True, "exists": True}
    assert item["params"]["sampler"] == "heun" and item["prompt"] == "a BLUE kite <b>&</b>"


def test_a_banned_combo_shows_in_the_search(site: Any, helpers: Any) -> None:
    site.made("a.mp4")
    site.made("b.mp4", params={"steps": 30})
    site.post("/api/ban_combo", {"combo_key": "euler|*|*|*|30|*"})
    assert names(site.get("/api/search?banned=true")) == ["b.mp4"]
    site.post("/api/unban_combo", {"combo_key": "euler|*|*|*|30|*"})
    assert names(site.get("/api/search?banned=true")) == []


@pytest.mark.parametrize(
    "query",
    [
        *[
            "limit=0",
            "limit=501",
            "limit=x",
            "limit=1e3",
            "offset=-1",
            "offset=1.5",
            "rated=maybe",
            "banned=2",
            "fps=fast",
            "min_score=nan",
        ],
        *["min_overall=inf", "width=x", "sort=random", "q=" + "a" * 501, "sampler=" + "a" * 501, "limit=" + "9" * 400],
    ],
)
def test_wrong_search_parameters(site: Any, query: str) -> None:
    answer = site.get(f"/api/search?{query}")
    assert answer.status == 422
    assert list(answer.json["fields"]) == [query.partition("=")[0]]


def test_several_wrong_parameters_are_told_at_once(site: Any) -> None:
    assert set(site.get("/api/search?limit=x&fps=y&rated=z").json["fields"]) == {"limit", "fps", "rated"}


def test_details(site: Any) -> None:
    site.made("a.mp4", score=0.4)
    site.post("/api/rate", {"video_name": "a.mp4", "rating": {"overall_quality": 4, "comments": "<script>"}})
    found = site.get("/api/video_details?name=a.mp4").json
    assert found == {**found, "name": "a.mp4", "found_in_knowledge": True, "exists": True, "banned_by": None}
    assert found["details"]["score"] == 0.4 and found["manual_rating"]["rating"]["comments"] == "<script>"


def test_details_of_what_is_only_here_or_there(site: Any) -> None:
    site.clip("stray.mp4")
    site.made("gone.mp4", file=False)
    stray, gone = (site.get(f"/api/video_details?name={name}").json for name in ("stray.mp4", "gone.mp4"))
    assert (stray["exists"], stray["details"], stray["manual_rating"]) == (True, None, None)
    assert (gone["exists"], gone["found_in_knowledge"]) == (False, True)


@pytest.mark.parametrize(
    ("query", "status"), [("name=nothing.mp4", 404), ("", 422), ("name=../x.mp4", 422), ("name=/etc/passwd", 422), ("name=a%00.mp4", 422)]
)
def test_details_of_no_clip(site: Any, query: str, status: int) -> None:
    answer = site.get(f"/api/video_details?{query}")
    assert answer.status == status and answer.json["status"] == "error"


def test_options(library: Any) -> None:
    space = {"sampler": ["dpmpp_2m"], "scheduler": ["karras"], "fps": [8], "cfg_scale": [1.5], "steps": [12], "size": [[480, 832]]}
    library.store.set_space(space)
    found = library.get("/api/options").json
    assert found["samplers"] == ["dpmpp_2m", "euler", "heun"] and found["fps"] == [8, 16, 24] and found["cfg"] == [1.5, 3.5, 7]
    assert found["sizes"] == [[480, 832], [640, 360], [832, 480]] and found["defects"] == ["flicker"]


def test_bans_and_actions(site: Any, helpers: Any) -> None:
    site.made("a.mp4")
    site.post("/api/ban_combo", {"video_name": "a.mp4", "reason": "grainy"})
    ban = site.get("/api/bans").json[0]
    assert ban == {**ban, "key": helpers.key, "reason": "grainy", "name": "a.mp4"} and ban["event_id"] and ban["ts"] > 0
    site.post("/api/undo", {"event_id": ban["event_id"]})
    assert site.get("/api/bans").json == []
    actions = site.get("/api/actions?limit=10").json
    assert [action["type"] for action in actions] == ["undo", "ban"]
    assert [action["type"] for action in site.get("/api/actions?limit=10&offset=1").json] == ["ban"]


SPACE = {"sampler": ["euler", "heun"], "scheduler": ["simple"], "fps": [16], "cfg_scale": [3.5, 7], "steps": [20, 30], "size": [[832, 480]]}


def test_ban_preview(site: Any, helpers: Any) -> None:
    site.made("a.mp4")
    site.made("b.mp4")
    site.made("c.mp4", params={"sampler": "heun"})
    site.post("/api/rate", {"video_name": "a.mp4", "rating": {"overall_quality": 4}})
    preview = site.get("/api/ban_preview?video_name=b.mp4").json
    assert preview == {**preview, "combo_key": helpers.key, "queued": 1, "rated": 1, "rated_mean": 4.0, "arms_left": None, "allowed": True}
    site.store.set_space(SPACE)
    preview = site.get("/api/ban_preview?combo_key=euler|*|*|*|*|*").json
    assert preview == {**preview, "queued": 1, "rated": 1, "arms_before": 8, "arms_left": 4, "arms_banned": 4, "already_banned": False}
    by_params = site.get("/api/ban_preview?" + urlencode({"params": json.dumps({"sampler": "heun"})})).json
    assert by_params["combo_key"] == "heun|*|*|*|*|*" and by_params["arms_left"] == 4
    site.post("/api/ban_combo", {"combo_key": "euler|*|*|*|*|*"})
    again = site.get("/api/ban_preview?video_name=a.mp4").json
    assert again["already_banned"] and again["arms_banned"] == 0
    everything = site.get("/api/ban_preview?combo_key=*|simple|*|*|*|*").json
    assert (everything["arms_left"], everything["allowed"]) == (0, False)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        *[
            ("", 422),
            ("combo_key=x", 422),
            ("combo_key=a|b|c|d|e|f", 422),
            ("params=[1]", 422),
            ("params={", 400),
            ("params={%22fps%22:%22x%22}", 422),
        ],
        *[("video_name=nothing.mp4", 404), ("video_name=../a", 422), ("video_name=a.mp4&combo_key=*|*|*|*|*|*", 422)],
    ],
)
def test_wrong_ban_preview(site: Any, query: str, status: int) -> None:
    assert site.get(f"/api/ban_preview?{query}").status == status


def test_a_clip_of_unknown_making_has_no_combo_to_ban(site: Any) -> None:
    site.clip("stray.mp4")
    answer = site.get("/api/ban_preview?video_name=stray.mp4")
    assert answer.status == 409 and "stray.mp4" in answer.json["message"]


# ---------------------------------------------------------------- live
def test_changes(site: Any) -> None:
    first = site.get("/api/changes").json
    assert first["reset"] and first["changes"] == []
    site.clip("a.mp4")
    done = site.post("/api/rate", {"video_name": "a.mp4", "rating": {"overall_quality": 4}}).json
    second = site.get(f"/api/changes?since={first['cursor']}").json
    assert not second["reset"] and second["stats"]["total_rated"] == 1
    assert [(change["kind"], change["name"]) for change in second["changes"]] == [("file", "a.mp4"), ("rating", "a.mp4")]
    assert second["changes"][1]["event_id"] == done["event_id"]
    third = site.get(f"/api/changes?since={second['cursor']}").json
    assert third["changes"] == [] and third["cursor"] == second["cursor"]


def test_changes_cost_nothing_while_nothing_happens(site: Any) -> None:
    cursor = site.get("/api/changes").json["cursor"]
    answer = site.get(f"/api/changes?since={cursor}")
    same = site.get(f"/api/changes?since={cursor}", If_None_Match=answer.headers["etag"])
    assert (same.status, same.body) == (304, b"")
    site.clip("a.mp4")
    assert site.get(f"/api/changes?since={cursor}", If_None_Match=answer.headers["etag"]).status == 200


@pytest.mark.parametrize("since", ["x", "0", "-", "other-5", "%00", "9" * 50])
def test_a_strange_cursor_starts_afresh(site: Any, since: str) -> None:
    assert site.get(f"/api/changes?since={since}").json["reset"]


def test_a_cursor_of_another_run_or_the_future_starts_afresh(make_site: Callable[..., Any]) -> None:
    one, two = make_site(), make_site()
    cursor = one.get("/api/changes").json["cursor"]
    assert two.get(f"/api/changes?since={cursor}").json["reset"]
    assert one.get(f"/api/changes?since={cursor.partition('-')[0]}-99").json["reset"]


def test_the_agent_shows(site: Any) -> None:
    assert site.get("/api/agent").json == {"alive": False, "age_seconds": None, "status": None}
    cursor = site.get("/api/changes").json["cursor"]
    etag = site.get(f"/api/changes?since={cursor}").headers["etag"]
    write_live(site.state / "agent_status.json", {"phase": "rendering", "simulator": True})
    agent = site.get("/api/agent").json
    assert agent["alive"] and agent["status"]["phase"] == "rendering"
    assert site.get(f"/api/changes?since={cursor}", If_None_Match=etag).json["agent"]["alive"]
    assert site.get("/api/config").json["simulator"] is True


def test_an_agent_that_says_nothing_any_more_is_not_alive(site: Any) -> None:
    write_live(site.state / "agent_status.json", {"phase": "rendering"})
    site.server.app.clock = lambda: (site.state / "agent_status.json").stat().st_mtime + 60
    agent = site.get("/api/agent").json
    assert (agent["alive"], agent["age_seconds"]) == (False, 60.0) and agent["status"] == {"phase": "rendering"}


def test_long_answers_are_compressed_where_that_is_wanted(site: Any) -> None:
    for number in range(30):
        site.clip(f"clip{number}.mp4")
    plain, packed = site.get("/api/videos"), site.get("/api/videos", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip" and len(packed.body) < len(plain.body) / 4
    assert "content-encoding" not in plain.headers and plain.headers["vary"] == "Accept-Encoding"


def test_search_by_combo_and_in_either_order(site: Any) -> None:
    for number, (score, steps) in enumerate([(0.2, 20), (0.9, 30), (0.5, 20)]):
        site.made(f"c{number}.mp4", score=score, params={"steps": steps})
    names = lambda target: [item["name"] for item in site.get(target).json["items"]]  # noqa: E731
    assert names("/api/search?sort=score") == ["c1.mp4", "c2.mp4", "c0.mp4"]
    assert names("/api/search?sort=score&order=asc") == ["c0.mp4", "c2.mp4", "c1.mp4"]
    assert names("/api/search?sort=name&order=desc") == ["c2.mp4", "c1.mp4", "c0.mp4"]
    assert names("/api/search?sort=name&combo=" + quote("euler|simple|16|3.5|20|832x480")) == ["c0.mp4", "c2.mp4"]
    assert names("/api/search?sort=name&combo=" + quote("*|*|16.0|*|30|*")) == ["c1.mp4"]
    assert set(site.get("/api/search?combo=a|b&order=up").json["fields"]) == {"combo", "order"}


def test_actions_of_one_clip(site: Any) -> None:
    for name in ("a.mp4", "b.mp4", 'odd "\u0457".mp4'):
        site.made(name, params={"steps": 20 + len(name)})
    rate = lambda name: site.post("/api/rate", {"video_name": name, "rating": {"overall_quality": 7}}).json["event_id"]  # noqa: E731
    first, _, odd = rate("a.mp4"), rate("b.mp4"), rate('odd "\u0457".mp4')
    site.post("/api/undo", {"event_id": first})
    site.post("/api/compare", {"left": "b.mp4", "right": "a.mp4", "winner": "left"})
    site.post("/api/ban_combo", {"video_name": 'odd "\u0457".mp4', "reason": "a.mp4"})
    assert [item["type"] for item in site.get("/api/actions?name=a.mp4").json] == ["compare", "undo", "rating"]
    assert [item["type"] for item in site.get("/api/actions?name=a.mp4&offset=1&limit=1").json] == ["undo"]
    found = site.get("/api/actions?name=" + quote('odd "\u0457".mp4')).json
    assert [item["type"] for item in found] == ["ban", "rating"] and found[1]["event_id"] == odd
    assert site.get("/api/actions?name=../x").status == 422


def test_findings_of_the_deep_analysis_are_among_the_videos(site: Any) -> None:
    findings = [{"kind": "flicker", "start_s": 0.5, "end_s": 1.0, "severity": 0.7}]
    site.made("a.mp4", findings=findings)
    assert site.get("/api/videos").json[0]["findings"] == findings
