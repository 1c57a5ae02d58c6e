"""What a prompt, a file name, a comment or a reason holds is shown as text on every page, whatever HTML it looks like."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.request
from typing import Any
from urllib.parse import quote

import pytest

from eva_state.store import StateStore

pytestmark = pytest.mark.e2e

NAME = "<img src=x onerror=window.pwned=1><b>name&amp;.mp4"
PROMPT = "</script><script>window.pwned=2</script><img src=x onerror=window.pwned=3><b>prompt</b> {{7*7}} ${7*7} &lt;i&gt;"
COMMENT = "<svg onload=window.pwned=4><b>comment</b>"
REASON = "<iframe srcdoc='<script>parent.pwned=5</script>'></iframe><b>reason</b>"


def post(site: Any, path: str, value: dict[str, Any]) -> None:
    request = urllib.request.Request(site.url + path, json.dumps(value).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def test_html_in_what_others_wrote_is_shown_as_text(make_site: Any, make_context: Any, page: Any, rendered: Any) -> None:
    make_context.expected_errors.append("404")  # there is no clip of the last name
    site = make_site(clips=2, rated={0: 7})
    clip = site.video_dir / NAME
    shutil.copyfile(rendered[160, 96], clip)
    os.utime(clip, (time.time() - 30,) * 2)
    params = {"sampler": "heun", "scheduler": "<b>simple", "fps": 16, "cfg_scale": 5, "steps": 12, "width": 160, "height": 96}
    entry = {"video": NAME, "timestamp": time.time() + 60, "prompt": PROMPT, "negative_prompt": PROMPT, "params": params, "score": 0.9}
    with StateStore(site.state_dir, role="agent", video_dir=site.video_dir) as store:
        store.generated("odd", {**entry, "combo": ["heun", "<b>simple"], "metrics": {"overall": 0.9, "<b>odd": 0.5}}, 0.9, 1.0)
    site.until(lambda: any(item["name"] == NAME and item["prompt"] == PROMPT for item in site.get("/api/videos")))

    def shows(path: str, *texts: str) -> None:
        page.goto(site.url + path)
        for text in texts:
            page.wait_for_function("text => document.body.innerText.includes(text)", arg=text)
        page.wait_for_timeout(100)  # an error handler of an injected element would run by now
        assert page.evaluate("window.pwned") is None, path
        assert page.locator("b, iframe, img[src=x], svg[onload]").filter(has_text="prompt").count() == 0
        assert page.locator("img[src=x], iframe, svg[onload], script:not([src])").count() == 0, path

    watch = "/watch?name=" + quote(NAME, safe="")
    shows("/", PROMPT)
    post(site, "/api/rate", {"video_name": NAME, "rating": {"overall_quality": 8, "comments": COMMENT, "defects": ["<b>defect"]}})
    post(site, "/api/ban_combo", {"combo_key": "*|*|*|*|31|*", "reason": REASON})
    shows("/search?q=" + quote(NAME[:12]), NAME)
    shows(watch, NAME, PROMPT)
    shows("/qa", REASON)
    for path in ("/compare", "/insights", "/search?q=" + quote(COMMENT), "/login?next=" + quote(PROMPT), "/watch?name=" + quote(PROMPT)):
        shows(path)
