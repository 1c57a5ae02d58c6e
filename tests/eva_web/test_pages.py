"""Pages and static files."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eva_web.routes import ROUTES, find, lane_of


@pytest.mark.parametrize("path", ["/", "/search", "/qa", "/watch?name=x", "/login"])
def test_pages(site: Any, path: str) -> None:
    answer = site.get(path)
    assert answer.status == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert site.ask("HEAD", path).headers["content-length"] == answer.headers["content-length"]


@pytest.mark.parametrize("page", ["index.html", "search.html", "qa.html", "watch.html", "login.html"])
def test_pages_hold_what_their_policy_allows_and_what_is_there(site: Any, project: Path, page: str) -> None:
    """Inline script, inline style and event attributes would be blocked; a missing file would leave a dead page."""
    text = (project / "static" / page).read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style\b|\sstyle=|\son\w+=|javascript:", text, re.IGNORECASE)
    linked = re.findall(r'(?:src|href)="(/[^"]*)"', text)
    assert linked
    for path in linked:
        assert site.get(path).status == 200, path


def test_a_page_that_is_not_there(make_site: Callable[..., Any], tmp_path: Path) -> None:
    site = make_site(static_dir=tmp_path)
    answer = site.get("/")
    assert answer.status == 404 and answer.json["status"] == "error"


def test_static_files(make_site: Callable[..., Any], tmp_path: Path) -> None:
    script = tmp_path / "static" / "sub" / "a.js"
    script.parent.mkdir(parents=True)
    script.write_text("// " + "x" * 5000, encoding="utf-8")
    (tmp_path / "static" / "page.html").write_text("<p>", encoding="utf-8")
    site = make_site(static_dir=tmp_path / "static")
    plain, packed = site.get("/static/sub/a.js"), site.get("/static/sub/a.js", Accept_Encoding="gzip")
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8" and plain.headers["cache-control"] == "no-cache"
    assert gzip.decompress(packed.body) == plain.body and packed.headers["etag"] != plain.headers["etag"]
    for answer in (plain, packed):
        encoding = answer.headers.get("content-encoding", "identity")
        again = site.get("/static/sub/a.js", Accept_Encoding=encoding, If_None_Match=answer.headers["etag"])
        assert (again.status, again.body) == (304, b"")
    script.write_text("// changed", encoding="utf-8")
    os.utime(script, (1, 1))
    assert site.get("/static/sub/a.js", If_None_Match=plain.headers["etag"]).body == b"// changed"
    assert "frame-ancestors 'none'" in site.get("/static/page.html").headers["content-security-policy"]


@pytest.mark.parametrize("name", ["a.py", "a", ".hidden.js", "sub/.hidden.js", "out.js", "", "sub", "folder.js"])
def test_static_files_that_are_not_served(make_site: Callable[..., Any], tmp_path: Path, name: str) -> None:
    root = tmp_path / "static"
    (root / "sub").mkdir(parents=True)
    (root / "folder.js").mkdir()
    for file in ("a.py", "a", ".hidden.js", "sub/.hidden.js"):
        (root / file).write_text("secret", encoding="utf-8")
    (tmp_path / "secret.js").write_text("secret", encoding="utf-8")
    (root / "out.js").symlink_to(tmp_path / "secret.js")
    assert make_site(static_dir=root).get(f"/static/{name}").status == 404


def test_favicon(site: Any, make_site: Callable[..., Any], tmp_path: Path) -> None:
    assert site.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
    assert make_site(static_dir=tmp_path).get("/favicon.ico").status == 204


# ---------------------------------------------------------------- the route table
@pytest.mark.parametrize("path", ["/nowhere", "/api", "/api/", "/api/nothing", "/video", "/index.html", "/static", "/./"])
def test_nothing_there(site: Any, path: str) -> None:
    answer = site.get(path)
    assert answer.status == 404 and answer.json["status"] == "error"


def test_every_route_is_found_and_runs_in_its_lane() -> None:
    for route in ROUTES:
        path = route.path.replace("<rest>", "some/name%20x.mp4")
        found = find(path)
        assert found is not None and found[0][route.method] is route
        assert found[1] == ("some/name x.mp4" if path != route.path else "")
        assert lane_of(f"{route.method} {path} HTTP/1.1\r\n".encode()) == route.lane
    for head in (b"", b"GET", b"\xff \xff\xfe/ x", b"GET /vid"):
        assert lane_of(head) == "quick"


def test_only_these_routes_are_open_to_everybody() -> None:
    assert {route.path for route in ROUTES if route.open} == {"/login", "/logout", "/static/<rest>", "/favicon.ico", "/health"}
