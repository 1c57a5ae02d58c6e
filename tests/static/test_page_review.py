"""The review page: a key press rates, moves on, and is on disk; everything can be taken back."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.e2e

NAME = "#clip-name a"


def open_review(page: Any, site: Any) -> None:
    page.goto(site.url + "/")
    page.wait_for_selector(NAME)


def current(page: Any) -> str:
    return page.text_content(NAME)


def shows(page: Any, name: str) -> None:
    page.wait_for_function("name => document.querySelector('#clip-name a')?.textContent === name", arg=name)


def saved(page: Any) -> None:
    page.wait_for_selector("#save-state[data-status=saved]")


def on_screen(page: Any) -> Any:
    return page.locator(".stage video.on")


def present(page: Any) -> None:
    """The server knows what this page shows."""
    page.wait_for_function("() => performance.getEntriesByType('resource').some((entry) => entry.name.endsWith('/api/showing'))")


def test_a_digit_rates_advances_and_is_recorded(site, page):
    open_review(page, site)
    assert current(page) == "clip_005.mp4"  # newest first, as no agent has ranked them
    assert page.input_value("[name=queue_order]") == "informative"
    assert page.text_content("#left") == "6 left"
    page.keyboard.press("8")
    shows(page, "clip_004.mp4")
    page.keyboard.press("0")
    shows(page, "clip_003.mp4")
    saved(page)
    assert page.text_content("#left") == "4 left"
    site.until(site.ratings, {"clip_005.mp4": 8, "clip_004.mp4": 10})
    assert site.journal().count('"overall_quality":8') + site.journal().count('"overall_quality": 8') == 1


def test_every_digit_gives_its_mark(make_site, page):
    site = make_site(clips=11)
    open_review(page, site)
    for number, key in enumerate("1234567890"):
        shows(page, f"clip_{10 - number:03}.mp4")
        page.keyboard.press(key)
    shows(page, "clip_000.mp4")
    saved(page)
    site.until(site.marks, {f"clip_{10 - number:03}.mp4": number + 1 for number in range(10)})


def test_keys_for_defects_browsing_speed_full_screen_and_other_pages(site, page):
    open_review(page, site)
    pressed = "() => [...document.querySelectorAll('#defects [aria-pressed=true]')].map(chip => chip.dataset.id).join()"
    for key in "qwerty":
        page.keyboard.press(key)
    page.wait_for_function(f"() => ({pressed})() === 'blur,flicker,anatomy,artifacts,motion,prompt'")
    page.keyboard.press("r")
    page.keyboard.press("y")
    page.wait_for_function(f"() => ({pressed})() === 'blur,flicker,anatomy,motion'")
    page.keyboard.press("ArrowRight")
    shows(page, "clip_004.mp4")
    page.wait_for_function(f"() => ({pressed})() === ''")
    page.keyboard.press("ArrowLeft")
    shows(page, "clip_005.mp4")
    page.wait_for_function(f"() => ({pressed})() === 'blur,flicker,anatomy,motion'")  # kept as a draft
    page.keyboard.press("]")
    page.wait_for_function("() => document.querySelector('.stage video.on').playbackRate === 1.5")
    page.keyboard.press("g")
    page.wait_for_function("() => document.fullscreenElement?.matches('.stage')")
    page.keyboard.press("g")
    page.wait_for_function("() => !document.fullscreenElement")
    page.keyboard.press("Enter")
    page.wait_for_url("**/watch?name=clip_005.mp4")
    page.wait_for_selector("#siblings a")
    page.keyboard.press("c")
    page.wait_for_url("**/compare?name=clip_005.mp4")
    page.wait_for_function("() => [...document.querySelectorAll('.stage video.on')].some(video => video.src.endsWith('clip_005.mp4'))")
    page.go_back()
    page.go_back()
    shows(page, "clip_005.mp4")
    page.keyboard.press("c")
    page.wait_for_url("**/compare?name=clip_005.mp4")


def test_undo_shows_its_clip_whatever_the_filter(site, page):
    open_review(page, site)
    page.keyboard.press("9")
    shows(page, "clip_004.mp4")
    saved(page)
    page.click("#queue-open")
    page.locator("select[name=queue_sampler] option[value=dpmpp_2m]").wait_for(state="attached")
    page.select_option("select[name=queue_sampler]", "dpmpp_2m")
    page.wait_for_function("() => document.getElementById('left').textContent === '2 left'")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Backspace")
    shows(page, "clip_005.mp4")  # a uni_pc clip
    saved(page)
    site.until(site.marks, {})


def test_rating_with_the_mouse_leaves_space_to_the_player(site, page):
    open_review(page, site)
    page.click(".mark[data-mark='7']")
    shows(page, "clip_004.mp4")
    page.wait_for_function("() => !document.querySelector('.stage video.on').paused")
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('.stage video.on').paused")
    saved(page)
    site.until(site.marks, {"clip_005.mp4": 7})


def test_undo_shows_the_clip_again_and_takes_the_rating_away(site, page):
    open_review(page, site)
    page.keyboard.press("9")
    page.keyboard.press("3")
    shows(page, "clip_003.mp4")
    saved(page)
    site.until(site.ratings, {"clip_005.mp4": 9, "clip_004.mp4": 3})
    page.keyboard.press("Backspace")
    shows(page, "clip_004.mp4")
    page.keyboard.press("Control+z")
    shows(page, "clip_005.mp4")
    saved(page)
    site.until(site.ratings, {})
    assert page.text_content("#left") == "6 left"


def test_undo_survives_a_reload_of_the_page(site, page):
    open_review(page, site)
    page.keyboard.press("9")
    shows(page, "clip_004.mp4")
    saved(page)
    page.reload()
    shows(page, "clip_004.mp4")
    page.keyboard.press("Backspace")
    shows(page, "clip_005.mp4")
    saved(page)
    site.until(site.marks, {})


def test_defects_reference_finer_marks_and_note_go_with_the_rating(site, page):
    open_review(page, site)
    page.keyboard.press("q")
    page.keyboard.press("t")
    page.keyboard.press("f")
    page.keyboard.press("Shift+4")  # picture
    page.keyboard.press("Shift+6")  # motion
    page.keyboard.press("n")
    page.keyboard.type("7 boats, 1 bridge")
    assert current(page) == "clip_005.mp4"  # digits and letters typed into the note do nothing else
    page.keyboard.press("Escape")
    page.keyboard.press("6")
    shows(page, "clip_004.mp4")
    saved(page)
    site.until(lambda: "clip_005.mp4" in site.marks())
    assert site.rating("clip_005.mp4") == {
        "overall_quality": 6,
        "visual_quality": 4,
        "motion_quality": 6,
        "is_reference": True,
        "defects": ["blur", "motion"],
        "comments": "7 boats, 1 bridge",
    }


def test_unusable_rates_one_and_says_so(site, page):
    open_review(page, site)
    page.keyboard.press("x")
    shows(page, "clip_004.mp4")
    saved(page)
    site.until(site.marks, {"clip_005.mp4": 1})
    assert site.rating("clip_005.mp4")["defects"] == ["unusable"]


def test_going_back_shows_the_mark_and_a_new_one_replaces_it(site, page):
    open_review(page, site)
    page.keyboard.press("9")
    shows(page, "clip_004.mp4")
    page.keyboard.press("ArrowLeft")
    shows(page, "clip_005.mp4")
    assert page.get_attribute(".mark[data-mark='9']", "aria-pressed") == "true"
    page.keyboard.press("w")  # a detail of a rated clip is saved by itself
    saved(page)
    site.until(lambda: site.rating("clip_005.mp4").get("defects"), ["flicker"])
    page.keyboard.press("2")
    shows(page, "clip_004.mp4")
    saved(page)
    site.until(site.marks, {"clip_005.mp4": 2})


def test_a_ban_takes_the_clip_away_and_undo_brings_both_back(site, page):
    open_review(page, site)
    page.keyboard.press("b")
    shows(page, "clip_004.mp4")
    saved(page)
    assert [ban["key"] for ban in site.get("/api/bans")] == ["uni_pc|karras|16|7|30|96x160"]
    assert site.until(site.marks, {"clip_005.mp4": 2})
    page.keyboard.press("Backspace")
    shows(page, "clip_005.mp4")
    saved(page)
    assert site.get("/api/bans") == []
    site.until(site.marks, {})


def test_skipped_clips_come_back_at_the_end_of_the_queue(make_site, page):
    site = make_site(clips=3)
    open_review(page, site)
    page.keyboard.press("s")
    shows(page, "clip_001.mp4")
    page.keyboard.press("5")
    shows(page, "clip_000.mp4")
    page.keyboard.press("5")
    page.wait_for_selector("text=You skipped 1 clip.")
    page.keyboard.press("5")  # nothing is on screen, so nothing may be rated
    page.click("text=Show 1 skipped clip")
    shows(page, "clip_002.mp4")
    page.keyboard.press("4")
    page.wait_for_selector("text=This is the end of the queue")
    saved(page)
    site.until(site.marks, {"clip_002.mp4": 4, "clip_001.mp4": 5, "clip_000.mp4": 5})


def test_the_player_steps_frames_changes_speed_and_never_seeks_by_digit(site, page):
    open_review(page, site)
    page.wait_for_function("() => document.querySelector('.stage video.on').currentTime > 0")
    page.keyboard.press("Space")
    before = on_screen(page).evaluate("video => Math.floor(video.currentTime * 16 + 1e-3)")
    page.keyboard.press(".")
    page.wait_for_function(
        "frame => Math.floor(document.querySelector('.stage video.on').currentTime * 16 + 1e-3) === frame", arg=(before + 1) % 24
    )
    page.keyboard.press(",")
    page.keyboard.press(",")
    page.wait_for_function(
        "frame => Math.floor(document.querySelector('.stage video.on').currentTime * 16 + 1e-3) === frame", arg=(before - 1) % 24
    )
    page.keyboard.press("[")
    assert on_screen(page).evaluate("video => video.playbackRate") == 0.5
    page.keyboard.press("7")
    shows(page, "clip_004.mp4")
    assert on_screen(page).evaluate("video => video.playbackRate") == 0.5  # the speed is kept
    assert on_screen(page).evaluate("video => video.currentTime") < 0.5
    assert on_screen(page).evaluate("video => video.muted && video.loop")


def test_the_next_clips_are_loaded_before_they_are_wanted(site, page):
    open_review(page, site)
    page.wait_for_function("() => [...document.querySelectorAll('.stage video')].filter(video => video.readyState >= 3).length >= 4")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "clip_004" in request.url and "/video/" in request.url else None)
    page.keyboard.press("6")
    shows(page, "clip_004.mp4")
    page.wait_for_function("() => document.querySelector('.stage video.on').currentTime > 0.1")
    assert asked == []


def test_a_held_key_counts_once(site, page):
    open_review(page, site)
    page.keyboard.down("5")
    for _ in range(4):
        page.keyboard.down("5")  # repeats, as a held key sends them
    page.keyboard.up("5")
    shows(page, "clip_004.mp4")
    saved(page)
    site.until(site.marks, {"clip_005.mp4": 5})


def test_a_new_clip_appears_by_itself(make_site, page, rendered):
    site = make_site(clips=1)
    open_review(page, site)
    page.keyboard.press("5")
    page.wait_for_selector("text=All rated")
    (site.video_dir / "deep").mkdir()
    (site.video_dir / "deep" / 'new "ä" <b>%2.mp4').write_bytes(rendered[160, 96].read_bytes())
    shows(page, 'new "ä" <b>%2.mp4')
    page.wait_for_function("() => document.querySelector('.stage video.on').currentTime > 0.1")
    page.keyboard.press("7")
    site.until(site.marks, {"clip_000.mp4": 5, 'deep/new "ä" <b>%2.mp4': 7})


def test_no_clips_at_all_is_explained(make_site, page):
    site = make_site(clips=0)
    page.goto(site.url + "/")
    page.wait_for_selector("text=No clips yet")
    page.keyboard.press("5")
    assert site.get("/api/stats")["total_rated"] == 0


def test_a_file_that_is_no_video_is_told_and_can_be_skipped(make_site, page):
    site = make_site(clips=2)
    (site.video_dir / "clip_001.mp4").write_bytes(b"not a video at all" * 100)
    open_review(page, site)
    page.wait_for_selector("text=This clip cannot be played")
    page.keyboard.press("s")
    shows(page, "clip_000.mp4")
    page.wait_for_function("() => document.querySelector('.stage-cover').hidden")


def test_a_rating_made_elsewhere_leaves_the_queue(site, page, context):
    other = context.new_page()
    open_review(page, site)
    present(page)
    open_review(other, site)
    shows(other, "clip_004.mp4")  # 005 is on the other screen
    other.keyboard.press("7")
    saved(other)
    page.wait_for_function("() => document.getElementById('left').textContent === '5 left'")
    page.keyboard.press("6")
    shows(page, "clip_002.mp4")  # 004 was rated in the other tab, which shows 003 now
    saved(page)
    site.until(site.marks, {"clip_005.mp4": 6, "clip_004.mp4": 7})


def test_two_reviewers_in_two_browsers_are_never_given_the_same_clip(make_site, make_context):
    site = make_site(clips=14)
    pages = [make_context().new_page() for _ in range(2)]
    given: list[dict[str, int]] = [{}, {}]
    for page in pages:
        open_review(page, site)
        present(page)
    pages[1].wait_for_function("() => document.querySelector('#clip-name a').textContent !== 'clip_013.mp4'")
    for turn in range(14):
        page, mine = pages[turn % 2], given[turn % 2]
        name = current(page)
        mine[name] = 3 + 4 * (turn % 2)
        page.keyboard.press(str(mine[name]))
        if turn < 12:
            page.wait_for_function("name => document.querySelector('#clip-name a')?.textContent !== name", arg=name)
            # Whoever comes second to a clip leaves it at once; the other's screen is the only one with it.
            apart = "other => { const mine = document.querySelector('#clip-name a')?.textContent; return mine && mine !== other; }"
            page.wait_for_function(apart, arg=current(pages[1 - turn % 2]))
    for page in pages:
        saved(page)
        page.wait_for_selector("text=All rated")
    assert not given[0].keys() & given[1].keys() and len(given[0]) == len(given[1]) == 7
    site.until(site.marks, given[0] | given[1])
    assert site.journal().count('"type":"rating"') == 14


def test_a_clip_that_another_rates_meanwhile_stays_with_a_word_and_a_new_mark_counts(site, page):
    open_review(page, site)
    page.evaluate(
        "() => fetch('/api/rate', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        " body: JSON.stringify({video_name: 'clip_005.mp4', rating: {overall_quality: 2}})})"
    )
    page.wait_for_selector("#clip-badges >> text=rated elsewhere just now")
    assert current(page) == "clip_005.mp4"
    page.keyboard.press("9")
    shows(page, "clip_004.mp4")
    saved(page)
    assert site.marks() == {"clip_005.mp4": 9}
