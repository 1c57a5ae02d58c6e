"""Claims of docs/security.md that no other test proves, and that every test the page names is there."""

from __future__ import annotations

import ast
import hmac
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from eva_web import security
from eva_web.security import Access


def test_every_test_that_the_page_names_is_there(project: Path) -> None:
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", (project / "docs" / "security.md").read_text(encoding="utf-8"))
    assert len(named) > 25
    for path, name in named:
        tree = ast.parse((project / path).read_text(encoding="utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body), f"{path}::{name}"


def test_tokens_are_compared_as_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return hmac.compare_digest(left, right)

    class Watched:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(security, "hmac", Watched)
    access = Access.__new__(Access)
    access.token = "secret"
    assert access.is_token("secret") and not access.is_token("s") and not access.is_token("secret" * 100)
    assert len(compared) == 3 and {len(side) for pair in compared for side in pair} == {32}


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_out_of_each_folder(make_site: Callable[..., Any], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("secret.mp4", "secret.css", "secret.json"):
        (outside / name).write_bytes(b"outside " * 50)
        os.utime(outside / name, (1e9, 1e9))
    static = tmp_path / "static"
    static.mkdir()
    (static / "style.css").write_text("/* inside */", encoding="utf-8")
    (static / "link.css").symlink_to(outside / "secret.css")
    (static / "folder").symlink_to(outside, target_is_directory=True)
    site = make_site(static_dir=static)
    (site.videos / "link.mp4").symlink_to(outside / "secret.mp4")
    (site.videos / "folder").symlink_to(outside, target_is_directory=True)
    (site.videos / "up.mp4").symlink_to(Path("..") / "state" / "manual_ratings.json")
    site.index.refresh()
    assert site.get("/static/style.css").status == 200
    names = ("link.mp4", "folder/secret.mp4", "up.mp4", "../outside/secret.mp4")
    targets = [f"/{route}/{quote(name, safe='')}" for route in ("video", "thumb", "filmstrip") for name in names]
    for target in [*targets, "/static/link.css", "/static/folder/secret.css", "/static/..%2foutside%2fsecret.json"]:
        answer = site.get(target)
        assert answer.status in (400, 404) and b"outside outside" not in answer.body, target
    assert site.get("/api/videos").json == []
    for name in ("link.mp4", "folder/secret.mp4"):
        assert site.get("/api/video_details?name=" + quote(name, safe="")).status == 404


def test_clips_and_answers_stay_out_of_shared_caches(site: Any) -> None:
    site.made("a.mp4")
    for target in ("/video/a.mp4", "/api/videos", "/api/changes", "/api/stats", "/metrics", "/"):
        cache = site.get(target).headers["cache-control"]
        assert "private" in cache or "no-store" in cache, target
    assert site.get("/thumb/a.mp4").headers["cache-control"]


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status"),
    [
        ("GET", "/api/stats?q=" + "a" * 9000, None, {}, 414),
        ("GET", "/" + "a" * 9000, None, {}, 414),
        ("GET", "/api/search?" + "&".join(f"p{n}=1" for n in range(101)), None, {}, 400),
        ("GET", "/api/stats", None, {"X-Long": "a" * 33_000}, 431),
        ("GET", "/api/stats", None, {f"X-{n}": "a" for n in range(150)}, 431),
        ("GET", "/api/video_details?name=" + "a" * 1025, None, {}, 422),
        ("GET", "/api/search?q=" + "a" * 501, None, {}, 422),
        ("GET", "/video/" + "a" * 1025, None, {}, 400),
        ("POST", "/api/rate", '{"video_name":"a.mp4","rating":{"overall_quality":5,"comments":"%s"}}' % ("a" * 10_001), {}, 422),
        ("POST", "/api/rate", '{"video_name":"a.mp4","id":"%s","rating":{"overall_quality":5}}' % ("a" * 129), {}, 422),
        ("POST", "/api/rate", '{"video_name":"a.mp4","rating":{"overall_quality":5,"defects":[%s]}}' % ('"d",' * 50 + '"d"'), {}, 422),
        ("POST", "/api/ban_combo", '{"combo_key":"*|*|*|*|9|*","reason":"%s"}' % ("a" * 1001), {}, 422),
        ("POST", "/api/rate", '{"x":"%s"}' % ("a" * 1024 * 1024), {}, 413),
        ("POST", "/api/rate", "[" * 100_000, {}, 400),
    ],
)
def test_everything_has_a_limit(site: Any, method: str, target: str, body: str | None, headers: dict[str, str], status: int) -> None:
    site.made("a.mp4")
    given = {"Content-Type": "application/json", **headers} if body else headers
    try:
        answer = site.ask(method, target, None if body is None else body.encode(), given)
    except ConnectionError:  # refused while the client still sends, which its side may see as a reset
        assert status == 413
        return
    assert answer.status == status, answer.body[:300]
    assert site.get("/api/stats").json["total_rated"] == 0


def test_a_repeated_parameter_is_refused(site: Any) -> None:
    answer = site.get("/api/search?q=a&q=b")
    assert answer.status == 400 and "more than once" in answer.json["message"]
