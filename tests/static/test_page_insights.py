"""The insights page: charts under the strict content policy, their numbers as tables, and a server without Plotly."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from eva_state.live import write_live
from eva_state.store import StateStore
from tests.static.conftest import SPACE, entry_of

pytestmark = pytest.mark.e2e

CARDS = ["progress", "metrics", "bets", "repeats", "effects", "pairs", "cost", "parallel"]


def drawn(page: Any, name: str) -> None:
    page.wait_for_selector(f"[data-chart={name}] .main-svg")


def test_every_chart_is_drawn_explained_and_readable_as_a_table(make_site, page):
    pytest.importorskip("plotly", reason="plotly draws the charts")
    site = make_site(clips=30, rated={number: 1 + number % 9 for number in range(20)})
    page.goto(site.url + "/insights")
    for name in ("progress", "metrics", "effects", "pairs", "parallel", "cost"):
        if name != "parallel":  # drawn by the page itself
            drawn(page, name)
            assert page.get_attribute(f"[data-chart={name}] .chart", "role") == "img"
        page.click(f"[data-chart={name}] summary")
        page.wait_for_selector(f"[data-chart={name}] tbody td")
    assert [card.get_attribute("data-chart") for card in page.query_selector_all(".chart-card")] == CARDS
    assert "No clip was rated twice" in page.text_content("[data-chart=repeats]")
    assert "30 tries, 60 GPU minutes" in page.text_content("[data-chart=progress] .says")
    page.click("[data-chart=progress] >> text=GPU minutes >> nth=0")
    page.wait_for_selector("[data-chart=progress] .xtitle:text-is('GPU minutes')")
    page.select_option("[data-chart=metrics] select", "score")
    page.wait_for_selector("[data-chart=metrics] .xtitle:text-is('Score')")
    page.click("[data-chart=effects] >> text=Score >> nth=0")  # the outcome instead of the rating
    page.wait_for_function(
        "() => document.querySelector('[data-chart=effects] [data-value=score]').getAttribute('aria-pressed') === 'true'"
    )
    page.click("[data-chart=cost] a, [data-chart=progress] td a >> nth=0")
    page.wait_for_url("**/watch?name=*")


def settled(page: Any) -> None:
    """Nothing above the lines changes its height any more."""
    page.wait_for_selector(".parallel polyline")
    if page.locator("#no-plotly").is_hidden():
        for name in ("progress", "effects", "pairs"):
            drawn(page, name)


def drag(page: Any, axis: str, low: float, high: float) -> None:
    """Keeps a part of an axis, both ends between 0 (below) and 1 (above)."""
    page.evaluate("document.querySelector('.parallel').scrollIntoView({block: 'center'})")
    box = page.locator(f".parallel-room[data-axis={axis}]").bounding_box()
    inside = box["height"] - 16  # the room reaches 8 pixels beyond both ends
    place = lambda share: box["y"] + 8 + (1 - share) * inside  # noqa: E731
    page.mouse.move(box["x"] + box["width"] / 2, place(low))
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, place(high), steps=4)
    page.mouse.up()


def test_lines_are_kept_by_dragging_along_an_axis_and_opened_in_the_search(make_site, page):
    site = make_site(clips=30)
    page.goto(site.url + "/insights")
    settled(page)
    assert page.locator(".parallel polyline").count() == 30
    drag(page, "sampler", -0.01, 0.7)  # two values, of which the search takes only one
    page.wait_for_selector("[data-chart=parallel] [role=status]:has-text('20 of 30 clips kept. The search takes one value')")
    page.click("[data-chart=parallel] >> text=Clear the selection")
    page.wait_for_function("() => !document.querySelector('.parallel .off')")
    drag(page, "sampler", -0.01, 0.2)  # dpmpp_2m, the lowest of three
    page.wait_for_selector("[data-chart=parallel] [role=status]:has-text('10 of 30 clips kept')")
    assert page.locator(".parallel .off").count() == 20
    drag(page, "score", 0.5, 1.01)
    found = site.get("/api/search?sampler=dpmpp_2m&limit=100")["items"]
    left = sum(item["score"] >= 0.575 for item in found)  # the middle between 0.35 and 0.8
    page.wait_for_selector(f"[data-chart=parallel] [role=status]:has-text('{left} of 30 clips kept')")
    page.click("[data-chart=parallel] >> text=Open them in the search")
    page.wait_for_url("**/search?*")
    assert "sampler=dpmpp_2m" in page.url and "min_score=0.5" in page.url
    page.wait_for_function("n => document.querySelectorAll('.tile').length === n", arg=left)


def test_charts_follow_the_theme_and_new_ratings(make_site, page):
    pytest.importorskip("plotly", reason="plotly draws the charts")
    site = make_site(clips=6)
    page.emulate_media(color_scheme="light")
    page.goto(site.url + "/insights")
    drawn(page, "progress")
    colour = "() => getComputedStyle(document.querySelector('[data-chart=progress] .xtitle')).fill"
    light = page.evaluate(colour)
    page.click("[aria-label='Light or dark']")
    page.wait_for_function(f"light => ({colour})() !== light", arg=light)
    page.evaluate(
        "() => fetch('/api/rate', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        " body: JSON.stringify({video_name: 'clip_001.mp4', rating: {overall_quality: 8}})})"
    )
    page.wait_for_function("() => document.querySelector('#sums div:nth-child(2) dd').textContent === '1'")


def test_without_plotly_the_page_says_how_to_install_it_and_shows_its_numbers(make_site, page):
    site = make_site(clips=6, rated={0: 3})

    def answer(route: Any) -> None:
        body = json.loads(route.fetch().text())
        route.fulfill(json={**body, "plotly": None})

    page.route("**/api/insights", answer)
    page.goto(site.url + "/insights")
    page.wait_for_selector("#no-plotly >> text=pip install plotly")
    assert page.locator("[data-chart=effects] tbody td").first.is_visible()
    assert page.locator(".chart:visible").count() == 0


def test_an_empty_state_and_a_server_that_fails_are_told(make_site, page, make_context):
    make_context.expected_errors.append("500")
    site = make_site(clips=0)
    page.goto(site.url + "/insights")
    page.wait_for_selector("[data-chart=progress] >> text=Nothing to show yet")
    page.route("**/api/insights", lambda route: route.fulfill(status=500, json={"status": "error", "message": "no numbers today"}))
    page.reload()
    page.wait_for_selector("#fresh >> text=no numbers today")
    page.unroute("**/api/insights")
    page.click("#fresh button")
    page.wait_for_selector("#fresh >> text=From 0 clips")


def test_charts_are_drawn_behind_a_token_too(make_site, page):
    pytest.importorskip("plotly", reason="plotly draws the charts")
    site = make_site(clips=3, token="plain")
    page.goto(site.url + "/insights?token=plain")
    drawn(page, "progress")
    assert "token" not in page.url


def report(p_close: float) -> dict[str, Any]:
    """What an agent publishes that searches a dimension of the user's own."""
    estimates = [
        {"combo_key": f"euler|simple|16|{cfg}|12|160x96|shift=3", "mean": mean, "sd": 0.05} for cfg, mean in ((5, 0.82), (7, 0.71))
    ]
    best = [{**item, "low": item["mean"] - 0.08, "high": item["mean"] + 0.08, "tries": 4} for item in estimates]
    levels = [
        {"level": level, "effect": effect, "sd": 0.02, "low": effect - 0.03, "high": effect + 0.03}
        for level, effect in (("3", 0.2), ("8", -0.2))
    ]
    effects = [{"axis": axis, "spread": 0.4, "levels": levels} for axis in ("shift", "cfg_scale")]
    pair = {"axes": ["sampler", "shift"], "levels": ["euler", "8"], "effect": -0.1, "sd": 0.02, "low": -0.13, "high": -0.07}
    return {
        "best": best,
        "main_effects": effects,
        "interactions": [pair],
        "next": {**estimates[1], "why": "it may turn out higher"},
        "tries": 30,
        "p_close": p_close,
        "close": 0.02,
        "gap": 0.07,
        "ban_suggestions": [],
    }


def test_the_agents_report_and_dimensions_of_ones_own_are_shown(make_site, page):
    pytest.importorskip("plotly", reason="plotly draws the charts")
    site = make_site(clips=3)
    page.goto(site.url + "/insights")
    page.wait_for_selector("[data-chart=bets] >> text=The agent has published nothing yet")
    assert page.locator("[data-chart=effects] [data-value=agent]").count() == 0
    write_live(site.state_dir / "bandit_report.json", report(0.3))
    page.reload()
    drawn(page, "bets")
    page.wait_for_selector("[data-chart=bets] .says:has-text('Another may still be better by about 0.07: go on.')")
    page.wait_for_selector(
        "[data-chart=bets] .says:has-text('Next: euler · simple · 16 fps · cfg 7 · 12 steps · 160×96 · shift 3, expected 0.71')"
    )
    page.click("[data-chart=effects] [data-value=agent]")
    page.wait_for_selector("[data-chart=effects] .says:has-text('Clearly better: shift 3 (0.20). Clearly worse: shift 8')")
    page.wait_for_selector("[data-chart=effects] .annotation-text:text-is('Cfg')")
    page.click("[data-chart=effects] summary")
    page.wait_for_selector("[data-chart=effects] td:text-is('euler × 8')")
    write_live(site.state_dir / "bandit_report.json", report(0.95))
    page.reload()
    page.wait_for_selector("[data-chart=bets] .says:has-text('with 95 % probability within 0.02 of the best there is')")


def test_lines_are_kept_by_a_dimension_of_ones_own_too(make_site, page):
    site = make_site(clips=6)
    site.stop()
    with StateStore(site.state_dir, role="agent", video_dir=site.video_dir) as store:
        store.set_space({**SPACE, "extra": {"shift": {"input": "ModelSamplingSD3.shift", "values": [3, 8]}}})
        for number in range(6):
            name = f"clip_{number:03}.mp4"
            entry = entry_of(name, number, time.time())
            store.generated(
                f"again-{number}", {**entry, "params": {**entry["params"], "extra": {"shift": 3 if number % 2 else 8}}}, 0.5, 2.0
            )
    site.start()
    page.goto(site.url + "/insights")
    settled(page)
    page.wait_for_selector(".parallel-name:text-is('shift')")
    drag(page, "shift", 0.6, 1.01)
    page.wait_for_selector("[data-chart=parallel] [role=status]:has-text('3 of 6 clips kept')")
    page.click("[data-chart=parallel] >> text=Open them in the search")
    page.wait_for_url("**/search?*shift%3D8*")
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 3")
    page.goto(site.url + "/search?exists=true")
    page.select_option("[name='own.shift']", "3")
    page.wait_for_url("**own.shift=3*")
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 3")
    page.wait_for_selector(".active-filter:has-text('shift: 3')")


def test_a_hidden_repeat_shows_the_raters_consistency(make_site, page):
    site = make_site(clips=3, rated={0: 6})
    site.stop()
    with StateStore(site.state_dir, role="server", video_dir=site.video_dir) as store:
        store.repeat("clip_000.mp4", {"overall_quality": 7})
    site.start()
    page.goto(site.url + "/insights")
    page.wait_for_selector("[data-chart=repeats] .says >> text=1 clip rated twice: 100 % within one mark")
