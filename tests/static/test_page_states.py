"""Loading, error and offline: every page says so in words and never claims that there is nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.static.conftest import keep_picture

pytestmark = pytest.mark.e2e

PAGES = {
    "/": "/api/videos",
    "/search": "/api/search",
    "/compare": "/api/search",
    "/qa": "/api/bans",
    "/watch?name=clip_001.mp4": "/api/video_details",
}
NOTHING = "text=/No clips yet|Not enough clips|All rated|^Nothing is banned$/"
WHY = "the disk is being changed"


def load_fail_and_retry(page: Any, site: Any, path: str, asks: str) -> None:
    held: list[Any] = []
    fails = False

    def answer(route: Any) -> None:
        if fails:
            route.fulfill(status=500, json={"status": "error", "message": WHY})
        else:
            held.append(route)

    asked = re.compile(re.escape(asks) + r"(\?|$)")
    page.route(asked, answer)
    page.goto(site.url + path)
    page.wait_for_selector("text=Loading")
    assert page.locator(NOTHING).count() == 0, path
    assert page.locator(".vote:visible, .mark:not([disabled])").count() == 0, f"{path}: nothing can be judged yet"
    fails = True
    for route in held:
        route.fulfill(status=500, json={"status": "error", "message": WHY})
    page.wait_for_selector(f"text={WHY}")
    assert page.locator(NOTHING).count() == 0, path
    keep_picture(page, f"state-error-{path.partition('?')[0].strip('/') or 'review'}")
    page.unroute(asked)
    page.click("main button:has-text('Try again')")
    page.wait_for_selector("#clip-name a, .tile, .vote:not([disabled]), #bans:has-text('Nothing is banned'), #history li")


def test_loading_and_a_failing_server_are_told_and_tried_again(site, make_context):
    make_context.expected_errors.append("500")
    context = make_context()
    for path, asks in PAGES.items():
        page = context.new_page()
        load_fail_and_retry(page, site, path, asks)
        page.close()


def test_icons_first_needed_offline_are_there(site, context, make_context):
    make_context.expected_errors.append("ERR_INTERNET_DISCONNECTED")
    page = context.new_page()
    page.goto(site.url + "/")
    page.wait_for_selector("#clip-name a")
    page.wait_for_selector("#icon-cloud-off", state="attached")
    page.wait_for_function("() => document.querySelector('.stage video.on')?.currentTime > 0")
    context.set_offline(True)
    page.keyboard.press(" ")
    drawn = "(of) => { const use = document.querySelector(`${of} use`); return use && use.getBBox().width > 0; }"
    page.wait_for_function(drawn, arg="[aria-label='Play']")
    page.keyboard.press("7")
    page.wait_for_selector("#save-state[data-status=offline]")
    page.wait_for_function(drawn, arg="#save-state[data-status=offline]")
    keep_picture(page, "state-offline-review")
    context.set_offline(False)
    page.wait_for_selector("#save-state[data-status=saved]")
