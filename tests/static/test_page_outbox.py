"""Nothing a person did is lost: lost connections, a server that is away, closed tabs, refusals."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def open_review(page: Any, site: Any) -> None:
    page.goto(site.url + "/")
    page.wait_for_selector("#clip-name a")


def shows(page: Any, name: str) -> None:
    page.wait_for_function("name => document.querySelector('#clip-name a')?.textContent === name", arg=name)


def test_offline_ratings_wait_and_are_sent_when_the_connection_is_back(site, make_context):
    make_context.expected_errors.append("ERR_INTERNET_DISCONNECTED")
    context = make_context()
    page = context.new_page()
    open_review(page, site)
    page.wait_for_function("() => [...document.querySelectorAll('.stage video')].filter(video => video.readyState >= 3).length >= 4")
    context.set_offline(True)
    page.keyboard.press("7")
    page.keyboard.press("4")
    shows(page, "clip_003.mp4")
    page.wait_for_selector("text=Offline, 2 waiting")
    assert site.marks() == {}
    context.set_offline(False)
    page.wait_for_selector("#save-state[data-status=saved]")
    assert site.marks() == {"clip_005.mp4": 7, "clip_004.mp4": 4}


def test_a_server_that_was_away_gets_what_was_done_meanwhile_even_after_a_reload(site, make_context):
    make_context.expected_errors.append("ERR_CONNECTION_REFUSED")
    context = make_context()
    page = context.new_page()
    open_review(page, site)
    site.stop()
    page.keyboard.press("9")
    shows(page, "clip_004.mp4")
    page.wait_for_selector("text=Offline, 1 waiting")
    page.close()  # the tab is gone, the rating is not
    site.start()
    again = context.new_page()
    open_review(again, site)
    again.wait_for_selector("#save-state[data-status=saved]")
    site.until(site.marks, {"clip_005.mp4": 9})
    shows(again, "clip_004.mp4")


def test_an_answer_that_got_lost_does_not_record_twice(site, page, make_context):
    make_context.expected_errors.append("net::ERR_FAILED")
    lost = []

    def lose_the_first_answer(route: Any) -> None:
        if not lost:
            lost.append(route.fetch().status)  # the server acts, the browser never hears of it
            route.abort()
        else:
            route.continue_()

    page.route("**/api/rate", lose_the_first_answer)
    open_review(page, site)
    page.keyboard.press("8")
    shows(page, "clip_004.mp4")
    page.wait_for_selector("#save-state[data-status=offline]")
    page.wait_for_selector("#save-state[data-status=saved]")
    assert lost == [200]
    assert site.marks() == {"clip_005.mp4": 8}
    assert sum(action["type"] == "rating" for action in site.get("/api/actions?limit=50")) == 1


def test_undo_of_something_unsent_never_reaches_the_server(site, make_context):
    make_context.expected_errors.append("ERR_INTERNET_DISCONNECTED")
    context = make_context()
    page = context.new_page()
    open_review(page, site)
    context.set_offline(True)
    page.keyboard.press("7")
    page.wait_for_selector("text=Offline, 1 waiting")
    page.keyboard.press("3")  # not tried yet: it waits behind the first
    shows(page, "clip_003.mp4")
    page.keyboard.press("Backspace")
    shows(page, "clip_004.mp4")
    context.set_offline(False)
    page.wait_for_selector("#save-state[data-status=saved]")
    assert site.marks() == {"clip_005.mp4": 7}


def test_a_refused_rating_is_told_and_the_clip_is_unrated_again(site, page, make_context):
    make_context.expected_errors.append("422")
    page.route(
        "**/api/rate", lambda route: route.fulfill(status=422, json={"status": "error", "message": "a reason to refuse", "fields": {}})
    )
    open_review(page, site)
    page.keyboard.press("7")
    page.wait_for_selector(".toast.error >> text=a reason to refuse")
    page.wait_for_selector("#save-state[data-status=saved]")
    page.keyboard.press("ArrowLeft")
    shows(page, "clip_005.mp4")
    assert page.locator(".mark[aria-pressed=true]").count() == 0


def test_a_full_disk_keeps_the_rating_here_and_says_why(site, page, make_context):
    make_context.expected_errors.append("507")
    full = [True]

    def answer(route: Any) -> None:
        if full[0]:
            route.fulfill(status=507, json={"status": "error", "message": "the disk is full"})
        else:
            route.continue_()

    page.route("**/api/rate", answer)
    open_review(page, site)
    page.keyboard.press("7")
    page.wait_for_selector("text=Server cannot save, 1 waiting")
    assert page.get_attribute("#save-state", "title") == "the disk is full"
    full[0] = False
    page.click("#save-state")  # try again now
    page.wait_for_selector("#save-state[data-status=saved]")
    assert site.marks() == {"clip_005.mp4": 7}


def test_a_browser_without_room_still_sends_every_rating(site, make_context):
    make_context.expected_errors.append("ERR_INTERNET_DISCONNECTED")
    context = make_context()
    page = context.new_page()
    page.add_init_script(
        "const put = Storage.prototype.setItem; window.full = false;"
        "Storage.prototype.setItem = function (key, value) {"
        "  if (window.full && this === localStorage) throw new DOMException('no room', 'QuotaExceededError');"
        "  put.call(this, key, value); };"
    )
    open_review(page, site)
    context.set_offline(True)
    page.keyboard.press("7")
    shows(page, "clip_004.mp4")
    page.evaluate("window.full = true")
    page.keyboard.press("4")
    shows(page, "clip_003.mp4")
    page.wait_for_selector("text=Offline, 2 waiting")
    context.set_offline(False)
    page.wait_for_selector("#save-state[data-status=saved]")
    assert site.marks() == {"clip_005.mp4": 7, "clip_004.mp4": 4}
