"""One clip with everything known, and the login page."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def test_everything_known_is_shown_and_a_rating_is_saved_and_undone(site, page):
    page.goto(site.url + "/watch?name=clip_004.mp4")
    page.wait_for_function("() => document.querySelector('.stage video.on')?.currentTime > 0")
    assert "dpmpp_2m" in page.text_content("#combo")
    assert "lighthouse" in page.text_content("#prompt")
    assert "watermark" in page.text_content("#negative")
    assert "blocky" in page.text_content("#scores")
    page.wait_for_selector("#siblings a[href='/watch?name=clip_001.mp4']")
    tick = page.wait_for_selector(".tick[title^='Flicker']").bounding_box()
    strip = page.locator(".strip-bar").bounding_box()
    assert abs((tick["x"] - strip["x"]) / strip["width"] - 0.5 / 1.5) < 0.02  # where in the clip the metrics found it
    page.keyboard.press("8")
    page.wait_for_selector("#history >> text=Rated 8")
    assert site.marks() == {"clip_004.mp4": 8}
    page.keyboard.press("e")  # a defect of a rated clip is saved by itself
    site.until(lambda: site.rating("clip_004.mp4").get("defects"), ["anatomy"])
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    site.until(site.marks, {})
    page.wait_for_selector("#history >> text=taken back")


def test_the_rating_expected_of_the_person_is_shown_where_there_is_one(site, page):
    def answer(route: Any) -> None:
        route.fulfill(json={**route.fetch().json(), "predicted": {"mean": 6.44, "sd": 0.92}})

    page.goto(site.url + "/watch?name=clip_004.mp4")
    page.wait_for_selector("#scores .score")
    assert page.locator(".predicted").count() == 0
    page.route("**/api/video_details?*", answer)
    page.reload()
    page.wait_for_selector(".predicted:has-text('Your expected rating 6.4 ± 0.9')")


def test_a_ban_from_the_watch_page_can_be_undone_in_its_message(site, page):
    page.goto(site.url + "/watch?name=clip_004.mp4")
    page.wait_for_selector("#siblings a")
    page.keyboard.press("b")
    page.wait_for_selector("#clip-badges >> text=banned")
    assert len(site.get("/api/bans")) == 1
    page.click(".toast >> text=Undo")
    site.until(lambda: site.get("/api/bans"), [])


def test_a_clip_that_does_not_exist_is_told(site, page, make_context):
    make_context.expected_errors.append("404")
    page.goto(site.url + "/watch?name=nope.mp4")
    page.wait_for_selector("text=There is no such clip")
    page.keyboard.press("7")
    page.goto(site.url + "/watch")
    page.wait_for_selector("text=Which clip?")
    assert site.marks() == {}


def test_the_login_page_lets_in_with_the_right_token_only(make_site, make_context):
    make_context.expected_errors.append("401")
    site = make_site(clips=2, token="open sesame & more")
    page = make_context().new_page()
    page.goto(site.url + "/search?q=boat")
    page.wait_for_selector("text=Access token")
    page.fill("#token", "wrong")
    page.click("text=Sign in")
    page.wait_for_selector("text=That token is wrong.")
    page.fill("#token", "open sesame & more")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=boat")
    page.wait_for_selector(".tile")
    assert "sesame" not in page.url
    page.goto(site.url + "/")
    page.wait_for_selector("#clip-name a")
    page.keyboard.press("6")
    page.wait_for_selector("#save-state[data-status=saved]")
    assert "401" not in page.text_content("body")


def test_the_login_form_works_without_scripts(make_site, make_context):
    site = make_site(clips=1, token="plain")
    page = make_context(java_script_enabled=False).new_page()
    page.goto(site.url + "/login?next=/search")
    page.fill("#token", "plain")
    page.click("text=Sign in")
    page.wait_for_url(site.url + "/")


def test_frames_are_plotted_in_step_with_the_player(site, page):
    page.goto(site.url + "/watch?name=clip_004.mp4")
    page.wait_for_selector(".frame-plot", state="visible")
    page.wait_for_function("() => document.querySelector('.stage video.on')?.duration > 0")
    page.keyboard.press("Space")
    place = "() => Math.floor(document.querySelector('.stage video.on').currentTime * 16 + 1e-3)"
    page.locator(".frame-plot").click(position={"x": page.locator(".frame-plot").bounding_box()["width"] / 2, "y": 20})
    page.wait_for_function(f"() => ({place})() === 12")
    for key, frame in ((".", 13), (".", 14), (",", 13)):
        page.keyboard.press(key)
        page.wait_for_function(f"frame => ({place})() === frame", arg=frame)
    series = site.get("/api/series?name=clip_004.mp4")
    told = f"{series['change'][13]:.3f}"
    page.wait_for_function("told => document.querySelector('[data-line=change]').textContent === told", arg=told)


def test_clips_like_it_share_its_combo_or_its_prompt(make_site, page):
    site = make_site(clips=6)
    page.goto(site.url + "/watch?name=clip_004.mp4")
    page.wait_for_selector("#siblings a[href='/watch?name=clip_001.mp4']")
    page.click("#like >> text=Same prompt")
    page.wait_for_selector("text=No other clip has this prompt")
    page.wait_for_selector("#workflow >> text=Neither the file nor the history")


def test_the_workflow_in_the_file_is_offered(site, page):
    import json

    import av

    with av.open(str(site.video_dir / "clip_004.mp4")) as source:
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        with av.open(str(site.video_dir / "made.mp4"), "w", options={"movflags": "use_metadata_tags"}) as target:
            target.metadata["workflow"] = json.dumps({"nodes": [], "links": []})
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in packets:
                packet.stream = stream
                target.mux(packet)
    site.until(lambda: site.get("/api/search?q=made")["total"], 1)
    page.goto(site.url + "/watch?name=made.mp4")
    with page.expect_download() as download:
        page.click("#workflow a")
    assert json.loads(download.value.path().read_text(encoding="utf-8")) == {"nodes": [], "links": []}
    assert download.value.suggested_filename == "made.workflow.json"
