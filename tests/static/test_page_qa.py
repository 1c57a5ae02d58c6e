"""The QA page: look, ban, see it listed, lift it, take it back."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.e2e


def test_preview_ban_list_unban_undo(make_site, page):
    site = make_site(clips=9, rated={0: 2, 3: 4})
    page.goto(site.url + "/qa")
    page.wait_for_selector("text=Nothing is banned")
    assert page.is_disabled("#ban-submit")
    page.fill("#ban-sampler", "euler")
    page.wait_for_selector("#ban-preview >> text=Touches 3 clips")
    assert "average 3.0" in page.text_content("#ban-preview")
    assert page.text_content("#ban-pattern") == "euler|*|*|*|*|*"
    page.fill("#ban-reason", "always grainy")
    page.click("#ban-submit")
    page.wait_for_selector("#bans >> text=always grainy")
    assert [(ban["key"], ban["reason"]) for ban in site.get("/api/bans")] == [("euler|*|*|*|*|*", "always grainy")]
    page.click("#bans >> text=Lift")
    site.until(lambda: site.get("/api/bans"), [])
    page.wait_for_selector("text=Nothing is banned")
    page.click(".toast:has-text('Ban lifted') >> text=Undo")
    page.wait_for_selector("#bans >> text=always grainy")
    assert len(site.get("/api/bans")) == 1


def test_a_ban_that_leaves_nothing_cannot_be_made(site, page, make_context):
    make_context.expected_errors.append("422")
    page.goto(site.url + "/qa?key=*|*|16|*|*|*")
    page.wait_for_selector("#ban-preview >> text=leave nothing to try")
    assert page.is_disabled("#ban-submit")
    page.fill("#ban-fps", "sixteen")
    page.wait_for_selector("#ban-preview[data-mood=poor] >> text=This cannot be banned")


def test_many_clips_are_asked_about_first(make_site, page):
    site = make_site(clips=63)
    page.goto(site.url + "/qa?key=euler|*|*|*|*|*")
    page.click("#ban-submit")
    page.wait_for_selector("dialog >> text=This touches 21 clips")
    page.click("dialog >> text=Cancel")
    page.wait_for_selector("dialog", state="detached")
    assert site.get("/api/bans") == []
    page.click("#ban-submit")
    page.fill("#ask-reason", "grainy")
    page.click("dialog >> button:has-text('Ban')")
    site.until(lambda: [ban["reason"] for ban in site.get("/api/bans")], ["grainy"])


def test_one_click_ban_of_a_clip_and_a_wider_one_from_it(make_site, page):
    site = make_site(clips=6, rated={1: 2, 5: 9})
    page.goto(site.url + "/qa")
    assert page.get_attribute(".suspect >> nth=0 >> a >> nth=0", "href") == "/watch?name=clip_001.mp4"  # the lowest rated first
    page.click(".suspect >> nth=0 >> text=Wider")
    assert page.text_content("#ban-pattern") == "dpmpp_2m|beta|16|3.5|20|160x96"
    page.click(".suspect >> nth=0 >> button:has-text('Ban')")
    site.until(lambda: [ban["key"] for ban in site.get("/api/bans")], ["dpmpp_2m|beta|16|3.5|20|160x96"])
    page.wait_for_selector("#bans >> text=dpmpp_2m · beta")
    page.click(".toast:has-text('Banned') >> text=Undo")
    site.until(lambda: site.get("/api/bans"), [])


def test_suggestions_come_with_evidence_and_fill_the_form(make_site, page):
    site = make_site(clips=9)
    page.goto(site.url + "/qa")
    page.wait_for_selector("#advice-list >> text=Suggestions appear once the agent")
    suggestion = {
        **{"key": "uni_pc|karras|*|*|*|*|shift=5", "tries": 7, "mean": 0.213, "best": 0.3, "expected": 0.2, "upper": 0.31, "arms": 54},
        "reason": "7 tries, mean 0.21, best 0.30; with 95 % probability it is worth at most 0.31",
    }
    other = {**suggestion, "key": "euler|simple|*|*|*|*", "tries": 3}
    (site.state_dir / "bandit_report.json").write_text(json.dumps({"ban_suggestions": [suggestion, other]}), encoding="utf-8")
    page.reload()
    page.wait_for_selector(".advice >> nth=1")
    assert "no agent runs now" in page.text_content("#advice-age")
    first = page.text_content(".advice >> nth=0")
    assert all(word in first for word in ("uni_pc · karras", "shift 5", "7", "0.21", "0.30", "0.31", "54"))
    page.click(".advice >> nth=0 >> button")
    assert page.text_content("#ban-pattern") == suggestion["key"] and page.input_value("#ban-shift") == "5"
    assert page.input_value("#ban-reason") == suggestion["reason"]
    page.click(".advice >> nth=1 >> button")
    assert page.text_content("#ban-pattern") == other["key"]
    page.wait_for_selector("#ban-preview >> text=Touches 3 clips")
    page.click("#ban-submit")
    site.until(lambda: [ban["key"] for ban in site.get("/api/bans")], [other["key"]])
    page.wait_for_selector(".advice >> nth=1", state="detached")
