"""The QA page: look, ban, see it listed, lift it, take it back."""

from __future__ import annotations

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
