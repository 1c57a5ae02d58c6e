"""``GET /api/bandit`` serves what the agent published, with its age, behind the same door as the rest of the API."""

from __future__ import annotations

import json
import os
import time
from typing import Any

KEY = "lcm|karras|*|*|*|*"
REPORT = {
    "updated_at": 1.0,
    "p_close": 0.4,
    "best": [],
    "ban_suggestions": [{"key": KEY, "tries": 4, "mean": 0.2, "best": 0.3, "upper": 0.4}, {"key": "heun|beta|*|*|*|*", "tries": 3}],
}


def test_nothing_published_is_no_error(site: Any) -> None:
    answer = site.get("/api/bandit")
    assert answer.status == 200 and answer.json == {"report": None, "age_seconds": None, "agent_alive": False}


def test_the_report_is_served_with_its_age_and_without_what_is_banned(site: Any) -> None:
    path = site.state / "bandit_report.json"
    path.write_text(json.dumps(REPORT), encoding="utf-8")
    old = time.time() - 100
    os.utime(path, (old, old))
    answer = site.get("/api/bandit")
    assert answer.json["report"] == REPORT and 99 <= answer.json["age_seconds"] < 1000
    assert site.post("/api/ban_combo", {"combo_key": KEY, "reason": "never works"}).status == 200
    left = site.get("/api/bandit").json["report"]["ban_suggestions"]
    assert [item["key"] for item in left] == ["heun|beta|*|*|*|*"]
    path.write_text("{", encoding="utf-8")
    assert site.get("/api/bandit").json["report"] is None
