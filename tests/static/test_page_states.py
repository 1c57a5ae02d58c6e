"""Loading, error and offline: every page says so in words and never claims that there is nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

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


@pytest.mark.parametrize("path", PAGES)
def test_loading_and_a_failing_server_are_told_and_tried_again(site, page, make_context, path):
    make_context.expected_errors.append("500")
    held: list[Any] = []
    fails = False

    def answer(route: Any) -> None:
        if fails:
            route.fulfill(status=500, json={"status": "error", "message": WHY})
        else:
            held.append(route)

    asks = re.compile(re.escape(PAGES[path]) + r"(\?|$)")
    page.route(asks, answer)
    page.goto(site.url + path)
    page.wait_for_selector("text=Loading")
    assert page.locator(NOTHING).count() == 0
    assert page.locator(".vote:visible, .mark:not([disabled])").count() == 0, "nothing can be judged yet"
    fails = True
    for route in held:
        route.fulfill(status=500, json={"status": "error", "message": WHY})
    page.wait_for_selector(f"text={WHY}")
    assert page.locator(NOTHING).count() == 0
    page.unroute(asks)
    page.click("main button:has-text('Try again')")
    page.wait_for_selector("#clip-name a, .tile, .vote:not([disabled]), #bans:has-text('Nothing is banned'), #history li")


def test_icons_first_needed_offline_are_there(site, context, make_context):
    make_context.expected_errors.append("ERR_INTERNET_DISCONNECTED")
    page = context.new_page()
    page.goto(site.url + "/")
    page.wait_for_selector("#clip-name a")
    page.wait_for_selector("#icon-cloud-off", state="attached")
    page.wait_for_function("() => document.querySelector('.stage video.on')?.currentTime > 0")
    context.set_offline(True)
    page.keyboard.press(" ")
    assert page.locator("[aria-label='Play'] use").evaluate("(use) => use.getBBox().width > 0")
    page.keyboard.press("7")
    page.wait_for_selector("#save-state[data-status=offline]")
    assert page.locator("#save-state use").evaluate("(use) => use.getBBox().width > 0")
    context.set_offline(False)
    page.wait_for_selector("#save-state[data-status=saved]")
