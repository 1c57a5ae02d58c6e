"""``GET /api/bandit``: what the agent published about what it learned. Read from a file, never worked out here."""

from __future__ import annotations

from pathlib import Path

from eva_state.live import age_of, read_live
from eva_web.api_read import agent_status
from eva_web.messages import Request, Response, json_response

REPORT_FILE = "bandit_report.json"


def bandit(request: Request) -> Response:
    """Best combos, effects, what comes next and why, when to stop, what to ban: as the agent last published it."""
    path = Path(request.app.settings.state_dir) / REPORT_FILE
    report = read_live(path)
    age = age_of(path, request.app.clock()) if report is not None else None
    if report is not None:  # what was banned since the agent wrote this needs no suggestion any more
        banned = request.app.store.bans()
        found = report.get("ban_suggestions")
        report["ban_suggestions"] = [item for item in found if item.get("key") not in banned] if isinstance(found, list) else []
    answer = {"report": report, "age_seconds": None if age is None else round(age, 3), "agent_alive": agent_status(request)["alive"]}
    return json_response(answer, headers={"Cache-Control": "private, no-cache"})
