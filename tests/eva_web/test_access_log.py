"""The access log: the combined format, request ids, and that nobody can forge a line or leave a token in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import UsageError
from eva_web.access_log import AccessLog, Visit, line_of

COMBINED = re.compile(
    r'(?P<client>\S+) - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "(?P<request>[^"]*)" (?P<status>\d{3}) (?P<sent>\d+) '
    r'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<id>\S+) (?P<ms>\d+\.\d)'
)


def lines(path: Path) -> list[re.Match[str]]:
    found = [COMBINED.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all(found), path.read_text(encoding="utf-8")
    return [match for match in found if match]


def test_every_request_leaves_a_line(make_site: Callable[..., Any], helpers: Any, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "access.log"
    site = make_site(token="sesame", access_log=path)
    site.clip("a.mp4", b"x" * 5000)
    bearer = {"Authorization": "Bearer sesame", "User-Agent": 'odd "agent" \\', "Referer": "http://127.0.0.1/?token=sesame&x=1"}
    first = site.ask("GET", "/video/a.mp4", headers={**bearer, "Range": "bytes=0-99"})
    site.ask("GET", "/?token=sesame")
    site.ask("GET", "/api/stats?token=sesame", headers={"X-Forwarded-For": "203.0.113.9"})
    helpers.wait_for(lambda: path.is_file() and path.read_text(encoding="utf-8").count("\n") == 3)
    # by path: a line is written once its answer has been sent, so the next request's may come first
    by_path = {line["request"].split()[1].partition("?")[0]: line for line in lines(path)}
    video, page, api = by_path["/video/a.mp4"], by_path["/"], by_path["/api/stats"]
    assert video["request"] == "GET /video/a.mp4 HTTP/1.1" and (video["status"], video["sent"]) == ("206", "100")
    assert video["id"] == first.headers["x-request-id"] and video["client"] == "127.0.0.1"
    assert video["agent"] == "odd \\x22agent\\x22 \\x5c"
    assert page["request"] == "GET /?token=*** HTTP/1.1" and api["client"] == "203.0.113.9"
    assert "sesame" not in path.read_text(encoding="utf-8")


def test_a_client_cannot_forge_a_line() -> None:
    visit = Visit("1.2.3.4\n9.9.9.9 x", 'GET /"\r\n1.1.1.1 - - HTTP/1.1', 200, 5, "r\x1b[31m", "a" * 9999, "id-1", 0.0123)
    text = line_of(visit, 1_700_000_000.0)
    assert "\n" not in text and "\x1b" not in text and len(text) < 1000
    match = COMBINED.fullmatch(text)
    assert match and match["ms"] == "12.3" and match["status"] == "200"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="--access-log"):
        AccessLog(tmp_path / "file" / "access.log")
