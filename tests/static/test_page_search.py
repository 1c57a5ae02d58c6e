"""The search page: filters, the address, posters and table, and many clips."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def names(page: Any) -> list[str]:
    return page.locator("#list .tile-name").all_text_contents()


def total(page: Any, text: str) -> None:
    page.wait_for_function("text => document.getElementById('total').textContent === text", arg=text)


def test_filters_go_into_the_address_and_come_back_from_it(make_site, page, context):
    site = make_site(clips=9, rated={0: 3, 4: 9})
    page.goto(site.url + "/search")
    total(page, "9 clips")
    page.select_option("select[name=sampler]", "dpmpp_2m")
    total(page, "3 clips")
    page.fill("input[name=q]", "lighthouse")
    total(page, "1 clip")
    assert names(page) == ["clip_004.mp4"]
    assert "sampler=dpmpp_2m" in page.url and "q=lighthouse" in page.url
    other = context.new_page()
    other.goto(page.url)  # shared with somebody
    total(other, "1 clip")
    assert other.input_value("select[name=sampler]") == "dpmpp_2m"
    page.go_back()
    total(page, "3 clips")
    assert page.input_value("input[name=q]") == ""
    page.click("text=Clear all filters")
    total(page, "9 clips")
    page.select_option("select[name=rated]", "true")
    page.fill("input[name=min_overall]", "5")
    total(page, "1 clip")
    page.click(".active-filter >> nth=0")
    page.click(".active-filter >> nth=0")
    total(page, "9 clips")
    assert page.url == site.url + "/search"


def test_table_sorts_and_links_to_the_clip(make_site, page):
    site = make_site(clips=9, rated={2: 9})
    page.goto(site.url + "/search?view=table")
    total(page, "9 clips")
    page.click(".thead >> text=Mark")
    page.wait_for_function("() => document.querySelector('#list .tile-name')?.textContent === 'clip_002.mp4'")
    assert "sort=manual" in page.url
    page.click(".thead >> text=Clip")
    page.wait_for_function("() => document.querySelector('#list .tile-name')?.textContent === 'clip_000.mp4'")
    page.click(".thead >> text=Clip ↑")
    page.wait_for_function("() => document.querySelector('#list .tile-name')?.textContent === 'clip_008.mp4'")
    assert "sort=name&order=desc" in page.url
    page.click(".thead >> text=Mark")
    page.wait_for_function("() => document.querySelector('#list .tile-name')?.textContent === 'clip_002.mp4'")
    page.click("#list .trow:not(.thead) a")
    page.wait_for_url("**/watch?name=clip_002.mp4")


def test_the_slash_goes_to_the_words(site, page):
    page.goto(site.url + "/search")
    total(page, "6 clips")
    page.keyboard.press("/")
    page.wait_for_function("() => document.activeElement.name === 'q'")
    page.keyboard.type("boat/")
    page.wait_for_function("() => document.querySelector('[name=q]').value === 'boat/'")  # inert while typing


def test_a_poster_plays_while_pointed_at(site, page):
    page.goto(site.url + "/search")
    page.hover(".tile .poster >> nth=0")
    page.wait_for_function("() => document.querySelector('.poster video')?.currentTime > 0")
    page.hover("#total")
    page.wait_for_function("() => !document.querySelector('.poster video')")


def test_no_match_is_explained_and_a_rating_elsewhere_updates_the_list(site, page):
    page.goto(site.url + "/search?q=nowhere")
    page.wait_for_selector("text=No clip matches")
    page.goto(site.url + "/search?rated=true")
    page.wait_for_selector("text=No clip matches")
    status = page.evaluate(
        "() => fetch('/api/rate', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        " body: JSON.stringify({video_name: 'clip_001.mp4', rating: {overall_quality: 8}})}).then(answer => answer.status)"
    )
    assert status == 200
    total(page, "1 clip")
    page.wait_for_selector(".badge >> text=rated 8")


def test_a_hundred_thousand_clips_are_scrolled_through(site, page):
    def answer(route: Any) -> None:
        from urllib.parse import parse_qs, urlsplit

        query = parse_qs(urlsplit(route.request.url).query)
        offset, limit = int(query["offset"][0]), int(query["limit"][0])
        item = {"score": 0.5, "manual_overall": None, "rated": False, "banned": False, "reference": False, "params": {}, "exists": False}
        items = [{**item, "name": f"c{number}.mp4"} for number in range(offset, min(offset + limit, 100_000))]
        route.fulfill(json={"total": 100_000, "items": items})

    page.route("**/api/search?*", answer)
    page.goto(site.url + "/search?view=table")
    total(page, "100,000 clips")
    for place, first in ((0.5, None), (1, "c99999.mp4")):
        page.evaluate("place => { const list = document.getElementById('list'); list.scrollTop = place * list.scrollHeight; }", place)
        if first:
            page.wait_for_selector(f"text={first}")
        assert page.locator("#list .vl-cell").count() < 100  # only what is on screen exists


def pick(page: Any, *names: str) -> None:
    for name in names:
        page.check(f".pick[data-name='{name}']")


def test_many_clips_are_rated_tagged_and_banned_at_once_and_all_of_it_is_undone(make_site, page):
    site = make_site(clips=6, rated={1: 3})
    page.goto(site.url + "/search")
    page.hover(".tile >> nth=0")
    pick(page, "clip_005.mp4")
    page.click(".pick[data-name='clip_003.mp4']", modifiers=["Shift"])  # with everything between
    page.wait_for_selector(".bulk >> text=3 selected")
    page.select_option(".bulk select", "8")
    site.until(site.marks, {"clip_001.mp4": 3, "clip_003.mp4": 8, "clip_004.mp4": 8, "clip_005.mp4": 8})
    page.click(".toast >> text=Undo")
    site.until(site.marks, {"clip_001.mp4": 3})
    page.click(".bulk >> text=Clear selection")
    page.wait_for_selector(".bulk", state="hidden")
    pick(page, "clip_001.mp4", "clip_002.mp4")
    page.fill(".bulk .input", "keep")
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast >> text=1 clip has no rating yet")
    site.until(lambda: site.rating("clip_001.mp4").get("tags"), ["keep"])
    assert site.rating("clip_001.mp4")["overall_quality"] == 3
    page.goto(site.url + "/search?tag=keep")
    total(page, "1 clip")
    assert page.input_value("select[name=tag]") == "keep"
    page.goto(site.url + "/search")
    pick(page, "clip_001.mp4", "clip_002.mp4")
    page.click(".bulk >> text=Ban combos")
    page.wait_for_selector("dialog >> text=Ban 2 combos?")
    # Each of the two combos has two clips; one of the four is rated.
    page.wait_for_selector("dialog >> text=3 waiting clips · 1 rated · average 3.0")
    left = site.get("/api/ban_preview?combo_key=euler|simple|16|5|12|160x96")["arms_before"] - 2
    page.wait_for_selector(f"dialog >> text={left} combos left to try")
    assert page.locator("dialog tr").count() == 2
    page.fill("dialog #ask-reason", "too soft")
    page.click("dialog button[value=ok]")
    site.until(lambda: sorted(ban["reason"] for ban in site.get("/api/bans")), ["too soft", "too soft"])
    page.click(".toast:has-text('Banned 2 combos') >> text=Undo")
    site.until(lambda: site.get("/api/bans"), [])


def test_a_selection_and_a_search_are_saved_as_csv(make_site, page):
    site = make_site(clips=6, rated={1: 3})
    page.goto(site.url + "/search?rated=true")
    total(page, "1 clip")
    with page.expect_download() as whole:
        page.click("#export")
    assert whole.value.path().read_text(encoding="utf-8-sig").count("clip_") == 1
    page.goto(site.url + "/search")
    total(page, "6 clips")
    pick(page, "clip_004.mp4")
    page.click(".bulk >> text=Select all found")
    page.wait_for_selector(".bulk >> text=6 selected")
    with page.expect_download() as chosen:
        page.click(".bulk >> text=CSV of selected")
    lines = chosen.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 7 and lines[0].startswith("name,created,score") and any("lighthouse" in line for line in lines)


def test_clips_are_found_by_metric_and_by_day(make_site, page):
    import time

    site = make_site(clips=3)
    page.goto(site.url + "/search")
    page.select_option("select[name=metric]", "blur")
    page.fill("input[name=min_metric]", "0.95")
    page.wait_for_selector("text=No clip matches")
    page.fill("input[name=min_metric]", "0.85")
    total(page, "3 clips")
    page.fill("input[name=made_to]", time.strftime("%Y-%m-%d", time.localtime(time.time() - 3 * 86400)))
    page.wait_for_selector("text=No clip matches")
    assert "made_to=" in page.url and "metric=blur" in page.url
