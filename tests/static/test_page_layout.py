"""What holds for every page: phone width, themes, languages, help, accessibility of controls, clean console."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eva_state.live import write_live
from tests.static.conftest import keep_picture, picture_name

pytestmark = pytest.mark.e2e

PAGES = ("/", "/search", "/search?view=table", "/qa?key=euler|*|*|*|*|*", "/watch?name=clip_001.mp4", "/compare", "/insights", "/login")

# Relative luminance and contrast: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRAST = """
() => {
  const pen = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});
  const over = (color, [r, g, b]) => {
    pen.fillStyle = `rgb(${r},${g},${b})`; pen.fillRect(0, 0, 1, 1);
    pen.fillStyle = color; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const ground = (element) => {
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(getComputedStyle(e).backgroundColor);
    return chain.reduce((under, color) => over(color, under), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility({visibilityProperty: true})) continue;
    if (element.closest('[disabled], .visually-hidden, option, .stage')) continue;
    const under = ground(element);
    const style = getComputedStyle(element);
    const a = light(over(style.color, under)), b = light(under);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.add(`${element.className || element.tagName} "${node.textContent.trim().slice(0, 20)}" ${ratio.toFixed(2)}`);
  }
  return [...found];
}
"""

UNNAMED = """
() => [...document.querySelectorAll('button, a[href], input:not([type=hidden]), select, textarea')]
  .filter((e) => e.checkVisibility() && !e.disabled)
  .filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.title || e.labels?.length || e.placeholder))
  .map((e) => e.outerHTML.slice(0, 120))
"""


def settled(page: Any) -> None:
    """The head and the lists of a page are there, or the form of the login page."""
    page.wait_for_selector(".save, #login-form")
    first = "#clip-name a, .tile, .trow:not(.thead), .suspect, #history li, .vote:not([disabled]), .says:not(:empty), #login-form"
    page.wait_for_selector(first)


def test_every_page_fits_a_phone_and_can_be_read(make_site, make_context):
    site = make_site(clips=6, rated={0: 3, 1: 9, 2: 5})
    page = make_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True).new_page()
    for path in PAGES:
        page.goto(site.url + path)
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert page.evaluate(UNNAMED) == [], path
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(CONTRAST) == [], f"{path} {scheme}"


def busy_agent(site: Any, servers: int = 3) -> None:
    """What an agent says that drives several servers."""
    rows = [
        {
            "api": f"http://10.0.0.{number}:8188",
            "state": "running",
            "message": "",
            "waiting": [],
            "now": {
                "combo_key": f"euler|simple|16|5|{number}2|832x480",
                "prompt_id": f"p{number}",
                "step": number,
                "steps": 10,
                "seconds_left": 40,
            },
        }
        for number in range(1, servers + 1)
    ]
    away = {"api": "http://10.0.0.9:8188", "state": "waiting_for_server", "message": "no answer", "waiting": [], "now": None}
    write_live(site.state_dir / "agent_status.json", {"state": "running", "now": rows[0]["now"], "servers": [*rows, away]})


@pytest.mark.parametrize("lang", ["en", "uk"])
def test_no_page_is_wider_than_a_phone(make_site, make_context, lang):
    site = make_site(clips=6, rated={0: 3})
    busy_agent(site)
    page = make_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True).new_page()
    page.add_init_script(f"localStorage.setItem('eva.lang', '{lang}')")
    for path in PAGES:
        page.goto(site.url + path)
        settled(page)
        if lang == "uk":
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                keep_picture(page, picture_name(path, "phone", "uk", scheme))
        for open_it in ("#queue-open", "#agent-open"):
            if page.locator(open_it).count():
                page.locator(open_it).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_every_server_of_the_agent_is_shown_with_its_job(site, page):
    busy_agent(site)
    page.goto(site.url + "/")
    page.wait_for_selector("#agent >> text=2 more at work")
    page.keyboard.press("i")
    page.wait_for_selector(".agent-servers li:has-text('10.0.0.2:8188')")
    assert page.locator(".agent-servers li").count() == 4
    second = page.locator(".agent-servers li").nth(1)
    assert "22 steps" in second.inner_text() and second.locator("progress").get_attribute("value") == "0.2"
    assert "does not answer" in page.locator(".agent-servers li").nth(3).inner_text()


def test_every_key_of_the_agent_asks_for_its_control(site, page):
    busy_agent(site, servers=1)
    asked: list[tuple[str, str | None]] = []

    def answer(route: Any) -> None:
        body = json.loads(route.request.post_data)
        asked.append((body["action"], body.get("prompt_id")))
        route.fulfill(json={"status": "success", "event_id": body["id"]})

    page.route("**/api/agent_control", answer)
    page.goto(site.url + "/")
    page.wait_for_selector("#agent >> text=Making")
    for key, what in (("p", ("pause", None)), ("Shift+K", ("skip", "p1")), ("Shift+L", ("stop_after", None))):
        page.keyboard.press(key)
        page.wait_for_function("text => document.querySelector('.agent-say').textContent.includes(text)", arg=what[0].split("_")[0])
        assert asked[-1] == what
    page.keyboard.press("i")
    page.wait_for_selector("#agent-panel", state="visible")
    page.keyboard.press("Escape")
    page.wait_for_selector("#agent-panel", state="hidden")


@pytest.mark.parametrize(("rated", "made", "says"), [(150, 6, "waiting for clips"), (10, 90, ""), (0, 60, ""), (2, 30, "many clips wait")])
def test_the_flow_is_told_by_the_rates_of_rating_and_making(make_site, make_context, rated, made, says):
    site = make_site(clips=6, rated={0: 3})
    busy_agent(site, servers=1)
    page = make_context().new_page()
    # Half an hour ago: so many fewer were rated and made. Of 6 clips 5 wait: dry within minutes, or more than an hour's work.
    before = {"rated": 1 - rated / 2, "made": 6 - made / 2}
    page.add_init_script(f"localStorage.setItem('eva.pace', JSON.stringify([{{at: Date.now() - 29.9 * 60000, ...{json.dumps(before)}}}]))")
    page.goto(site.url + "/")
    page.wait_for_selector("#agent >> text=Making")
    page.wait_for_function("says => document.querySelector('.agent-flow').textContent === says", arg=says)
    page.keyboard.press("i")
    page.wait_for_selector(".agent-facts >> text=rated an hour")


def test_every_page_can_be_read_on_a_large_screen_in_ukrainian(make_site, make_context):
    site = make_site(clips=6, rated={0: 3, 1: 9, 2: 5})
    page = make_context(viewport={"width": 1440, "height": 900}).new_page()
    page.add_init_script("localStorage.setItem('eva.lang', 'uk')")
    for path in PAGES:
        page.goto(site.url + path)
        settled(page)
        assert page.get_attribute("html", "lang") == "uk"
        assert page.evaluate("document.documentElement.scrollWidth") <= 1440, path
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            keep_picture(page, picture_name(path, "desk", "uk", scheme))
            assert page.evaluate(CONTRAST) == [], f"{path} {scheme}"


def test_the_contrast_check_can_fail(site, page):
    page.goto(site.url + "/login")
    page.evaluate("document.querySelector('.login p').style.setProperty('color', '#999')")
    page.emulate_media(color_scheme="light")
    assert len(page.evaluate(CONTRAST)) == 1


def test_ratings_by_touch_on_a_phone(site, make_context):
    page = make_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True).new_page()
    page.goto(site.url + "/")
    page.wait_for_selector("#clip-name a")
    box = page.locator(".mark[data-mark='7']").bounding_box()
    assert box["height"] >= 44 and box["width"] >= 44
    assert page.locator("#act-undo").bounding_box()["y"] < 844  # rating and undo need no scrolling
    page.tap(".mark[data-mark='7']")
    page.wait_for_function("() => document.querySelector('#clip-name a')?.textContent === 'clip_004.mp4'")
    site.until(site.marks, {"clip_005.mp4": 7})


def test_theme_and_language_are_kept_and_the_agent_is_told_to_be_away(site, page):
    page.goto(site.url + "/")
    page.wait_for_selector("text=No agent is running")
    page.click("[aria-label='Light or dark']")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.select_option(".lang", "uk")
    page.wait_for_selector("text=Агент не працює")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.goto(site.url + "/search")
    page.wait_for_selector("text=Слова в назві чи запиті")


def test_the_agents_work_is_shown_with_the_simulators_badge(site, page):
    combo = "euler|simple|16|5|12|160x96"
    status = {
        "state": "running",
        "simulator": True,
        "iteration": 3,
        "iterations": 9,
        "now": {"combo_key": combo, "step": 4, "steps": 12},
        "eta_seconds": 300,
    }
    write_live(site.state_dir / "agent_status.json", status)
    page.goto(site.url + "/")
    page.wait_for_selector("text=Making euler · simple · 16 fps · cfg 5 · 12 steps · 160×96")
    page.wait_for_selector("text=step 4 of 12 · clip 3 of 9 · 5 min to the end")
    page.wait_for_selector(".badge.sim")


def test_help_lists_the_keys_and_a_key_can_be_changed(site, page):
    page.goto(site.url + "/")
    page.wait_for_selector("#clip-name a")
    page.keyboard.press("?")
    page.wait_for_selector("dialog >> text=Rate 1 to 10 and go on")
    page.keyboard.press("7")  # a dialog is open: keys are inert
    row = page.locator("dialog li", has_text="Skip for now")
    row.locator("button").click()
    page.keyboard.press("j")
    page.wait_for_selector("dialog li:has-text('Skip for now') kbd:text-is('J')")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.text_content("#act-skip kbd") == "J"
    page.keyboard.press("j")
    page.wait_for_function("() => document.querySelector('#clip-name a')?.textContent === 'clip_004.mp4'")
    assert site.marks() == {}
