"""axe-core finds nothing serious on any page, in either theme, on a desk or a phone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.static.conftest import keep_picture, picture_name

pytestmark = pytest.mark.e2e

PAGES = {
    "/": "#clip-name a",
    "/search": ".tile",
    "/search?view=table": ".trow:not(.thead)",
    "/qa?key=euler|*|*|*|*|*": ".suspect",
    "/watch?name=clip_001.mp4": ".frame-plot:not([hidden])",
    "/compare": ".vote:not([disabled])",
    "/insights": ".parallel polyline",
    "/login": "#login-form",
}


@pytest.fixture(scope="session")
def axe_script() -> str:
    from pathlib import Path

    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python brings axe-core")
    return next(Path(package.__file__).parent.glob("axe*.js")).read_text(encoding="utf-8")


def findings(page: Any, script: str) -> list[str]:
    """What axe calls serious or critical, a line an element."""
    page.evaluate(script)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"], "axe looked at nothing"
    return [
        f"{problem['id']}: {node['html'][:120]} ({(node.get('failureSummary') or '').splitlines()[-1].strip()})"
        for problem in found["violations"]
        if problem["impact"] in ("serious", "critical")
        for node in problem["nodes"]
    ]


@pytest.mark.parametrize("screen", ["desk", "phone"])
def test_no_serious_finding_on_any_page_in_both_themes(make_site, make_context, axe_script, screen):
    site = make_site(clips=6, rated={0: 3, 1: 9, 2: 5})
    options = (
        {"viewport": {"width": 1440, "height": 900}} if screen == "desk" else {"viewport": {"width": 390, "height": 844}, "is_mobile": True}
    )
    page = make_context(**options).new_page()
    found: dict[str, list[str]] = {}
    for path, ready in PAGES.items():
        page.goto(site.url + path)
        page.wait_for_selector(ready)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            keep_picture(page, picture_name(path, screen, "en", scheme))
            if problems := findings(page, axe_script):
                found[f"{path} {scheme}"] = problems
    assert found == {}


def test_selections_wipes_and_the_help_have_no_serious_finding(make_site, make_context, axe_script):
    site = make_site(clips=6, rated={0: 3})
    page = make_context().new_page()
    page.goto(site.url + "/search")
    page.check(".pick[data-name='clip_003.mp4']")
    assert findings(page, axe_script) == []
    page.goto(site.url + "/compare")
    page.wait_for_selector(".vote:not([disabled])")
    for mode in ("wipe", "worst"):
        page.click(f"#modes [data-value={mode}]")
        assert findings(page, axe_script) == []
    page.keyboard.press("?")
    page.wait_for_selector("dialog")
    assert findings(page, axe_script) == []


def test_the_check_can_fail(site, page, axe_script):
    page.goto(site.url + "/search")
    page.wait_for_selector(".tile")
    page.evaluate("document.querySelector('.results-top').insertAdjacentHTML('beforeend', '<input>')")
    assert any(line.startswith("label:") for line in findings(page, axe_script))
