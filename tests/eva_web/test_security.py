"""Token, cookie, login limit, Host and Origin checks, CORS, headers, and what the log must not hold."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from eva_env_base import resolve_settings
from eva_web.security import WRONG_IN_ALL, WRONG_PER_CLIENT, Access, WrongTokenLimit, accepts_gzip, local_path, redact

TOKEN = "correct horse battery staple"


@pytest.fixture
def closed(make_site: Callable[..., Any]) -> Any:
    """A site that needs a token."""
    return make_site(token=TOKEN)


def login(site: Any, **headers: str) -> str:
    """The cookie that a browser holds after it opened the printed address."""
    answer = site.get("/?" + urlencode({"token": TOKEN}), **headers)
    assert answer.status == 303
    return answer.headers["set-cookie"]


PRIVATE = [
    "/api/stats",
    "/api/videos",
    "/api/search",
    "/api/config",
    "/api/changes",
    "/api/bans",
    "/api/bandit",
    "/video/a.mp4",
    "/thumb/a.mp4",
    "/nowhere",
]


@pytest.mark.parametrize("path", ["/", "/search", "/qa", "/watch?name=a.mp4", *PRIVATE])
def test_nothing_without_the_token(closed: Any, path: str) -> None:
    closed.clip("a.mp4", b"secret frames")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"eva_{closed.port}=wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = closed.ask("GET", path, headers=headers)
        assert answer.status == 401, (path, headers)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert b"secret frames" not in answer.body


def test_what_is_open(closed: Any) -> None:
    assert closed.get("/health").json["status"] == "ok"
    assert closed.get("/login").status == 200
    assert closed.get("/static/login_page.js").status == 200


def test_a_page_without_the_token_is_the_login_page(closed: Any) -> None:
    answer = closed.get("/search")
    assert answer.status == 401 and b'action="/login"' in answer.body


def test_bearer(closed: Any) -> None:
    assert closed.get("/api/stats", Authorization=f"Bearer {TOKEN}").status == 200
    closed.clip("a.mp4")
    answer = closed.post("/api/rate", {"video_name": "a.mp4", "rating": {"overall_quality": 5}}, Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200


def test_the_address_with_the_token_leaves_a_cookie_and_no_token(closed: Any) -> None:
    answer = closed.get("/search?" + urlencode({"q": "a b", "token": TOKEN}))
    assert (answer.status, answer.headers["location"]) == (303, "/search?q=a+b")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie and "Path=/" in cookie
    assert TOKEN not in cookie and TOKEN.split()[0] not in cookie
    assert closed.get("/api/stats", Cookie=cookie.split(";")[0]).status == 200
    assert closed.get("/api/stats", Cookie="other=1; " + cookie.split(";")[0]).status == 200


def test_the_cookie_is_secure_behind_https(closed: Any) -> None:
    assert "; Secure" in login(closed, X_Forwarded_Proto="https")


def test_a_wrong_token_in_the_address(closed: Any) -> None:
    answer = closed.get("/?token=wrong")
    assert answer.status == 401 and "set-cookie" not in answer.headers


def test_without_a_token_the_address_is_only_cleaned(site: Any) -> None:
    answer = site.get("/search?token=x&q=1")
    assert (answer.status, answer.headers["location"]) == (303, "/search?q=1") and "set-cookie" not in answer.headers


def test_login_by_json_and_by_form(closed: Any) -> None:
    answer = closed.post("/login", {"token": TOKEN, "next": "/qa"})
    assert answer.json == {"status": "success", "next": "/qa"} and "set-cookie" in answer.headers
    body = urlencode({"token": TOKEN, "next": "//evil.example/"}).encode()
    form = closed.ask("POST", "/login", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert (form.status, form.headers["location"]) == (303, "/") and "set-cookie" in form.headers
    assert closed.post("/login", {"token": "wrong"}).status == 401
    assert closed.post("/login", {"token": 5}).status == 422
    assert closed.post("/login", {}).status == 422
    out = closed.post("/logout", {})
    assert "Max-Age=0" in out.headers["set-cookie"]


def test_too_many_wrong_tokens(closed: Any) -> None:
    cookie = login(closed).split(";")[0]
    statuses = [closed.post("/login", {"token": f"wrong {number}"}).status for number in range(WRONG_PER_CLIENT + 1)]
    assert statuses == [401] * WRONG_PER_CLIENT + [429]
    refused = closed.get("/api/stats", Authorization=f"Bearer {TOKEN}")
    assert refused.status == 429 and int(refused.headers["retry-after"]) >= 1  # the right one too: an answer would tell
    assert closed.get("/api/stats", Cookie=cookie).status == 200  # who is in stays in


def test_the_limit_slides_and_is_kept_by_client() -> None:
    now = [0.0]
    limit = WrongTokenLimit(lambda: now[0])
    for _ in range(WRONG_PER_CLIENT):
        assert limit.wait("a") == 0
        limit.count("a")
    assert limit.wait("a") > 0 and limit.wait("b") == 0
    now[0] += 61
    assert limit.wait("a") == 0
    for number in range(WRONG_IN_ALL):
        limit.count(f"client {number}")
    assert limit.wait("a new one") > 0


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8189", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "[::2]:80"]
)
def test_a_strange_host_is_refused_on_loopback(site: Any, host: str) -> None:
    answer = site.get("/api/stats", Host=host)
    assert answer.status == 403 and answer.json["status"] == "error"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8189", "127.0.0.1:1", "127.8.8.8", "[::1]:8189"])
def test_loopback_names_are_accepted(site: Any, host: str) -> None:
    assert site.get("/api/stats", Host=host).status == 200


def test_with_a_token_any_host_will_do(closed: Any) -> None:
    assert closed.get("/api/stats", Host="pod-8189.proxy.runpod.net", Authorization=f"Bearer {TOKEN}").status == 200


RATE = {"video_name": "a.mp4", "rating": {"overall_quality": 5}}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://pod.proxy.example"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_other_sites_cannot_rate(site: Any, headers: dict[str, str], status: int) -> None:
    site.clip("a.mp4")
    filled = {name.replace("-", "_"): value.format(port=site.port) for name, value in headers.items()}
    answer = site.post("/api/rate", RATE, **filled)
    assert answer.status == status, answer.body
    assert site.get("/api/stats").json["total_rated"] == (1 if status == 200 else 0)


def test_origin_behind_the_runpod_proxy(make_site: Callable[..., Any]) -> None:
    site = make_site(token=TOKEN, pod_id="abc123")
    site.clip("a.mp4")
    cookie = login(site).split(";")[0]
    own = site.post("/api/rate", RATE, Cookie=cookie, Host="100.64.0.7:8189", Origin=f"https://abc123-{site.port}.proxy.runpod.net")
    other = site.post("/api/rate", RATE, Cookie=cookie, Host="100.64.0.7:8189", Origin=f"https://evil-{site.port}.proxy.runpod.net")
    assert (own.status, other.status) == (200, 403)


def test_a_bearer_may_come_from_anywhere(closed: Any) -> None:
    closed.clip("a.mp4")
    assert closed.post("/api/rate", RATE, Origin="https://tool.example", Authorization=f"Bearer {TOKEN}").status == 200


def test_cors_only_for_the_api_and_only_with_a_token(site: Any, closed: Any) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert closed.get("/api/stats", **bearer).headers["access-control-allow-origin"] == "*"
    assert closed.get("/api/stats").headers["access-control-allow-origin"] == "*"  # so that a script can read the 401
    assert "access-control-allow-origin" not in closed.get("/", **bearer).headers
    assert "access-control-allow-origin" not in site.get("/api/stats").headers
    asked = closed.ask("OPTIONS", "/api/rate", headers={"Origin": "https://tool.example", "Access-Control-Request-Method": "POST"})
    assert asked.status == 204 and "Authorization" in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in asked.headers
    assert "access-control-allow-methods" not in site.ask("OPTIONS", "/api/rate").headers


def test_page_headers(site: Any) -> None:
    for path in ("/", "/search", "/qa", "/watch", "/login"):
        answer = site.get(path)
        assert answer.status == 200, path
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"


def test_the_log_holds_no_token(closed: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        login(closed)
        closed.get("/?token=guess-one")
        closed.get("/api/stats?x=1&token=guess-two")
        closed.get("/api/stats", Authorization="Bearer guess-three")
        closed.post("/login", {"token": "guess-four"})
        closed.get("/api/%1b[31mred")
        closed.get("/api/stats?%74oken=guess-five")
        closed.get("/login?next=%2Fsearch%3Ftoken%3Dguess-six", Referer=f"https://pod.example/?token={TOKEN}")
        closed.get(
            f"/nothing/{quote(TOKEN)}?q={quote(TOKEN)}", User_Agent=f"curl {TOKEN}", Referer="https://x/?a=%253Ftok%2565n%253Dguess-seven"
        )
    assert "wrong token" in caplog.text
    for secret in (TOKEN, quote(TOKEN), urlencode({"": TOKEN})[1:], "guess-", "\x1b"):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a?token=abc&b=1", "/a?token=***&b=1"),
        ("/a?b=1&TOKEN=abc", "/a?b=1&TOKEN=***"),
        ("a\nb\x1b", "a\\x0ab\\x1b"),
        ("tokens=5", "tokens=5"),
        ("/a?%74o%6Ben=abc&b=1", "/a?%74o%6Ben=***&b=1"),
        ("/login?next=%2F%3Ftoken%3Dabc&b=1", "/login?next=%2F%3Ftoken%3D***&b=1"),
        ("/a?b=%252Fx%253Ftoken%253Dabc", "/a?b=%252Fx%253Ftoken%253D***"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_the_token_is_taken_out_wherever_it_stands() -> None:
    assert redact("/x/a b+c?y=a%20b%2Bc&z=a+b%2Bc", "a b+c") == "/x/***?y=***&z=***"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/qa?x=1", "/qa?x=1"),
        ("//evil", "/"),
        ("/\\evil", "/"),
        ("https://evil", "/"),
        ("", "/"),
        (None, "/"),
        ("/a\nb", "/"),
        ("/a\\b", "/"),
    ],
)
def test_local_path(path: str | None, expected: str) -> None:
    assert local_path(path) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, False), ("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.0", False), ("*", True), ("br", False)],
)
def test_accepts_gzip(text: str | None, expected: bool) -> None:
    assert accepts_gzip(text) is expected


def policy(flags: dict[str, Any], environ: dict[str, str], no_token: bool = False) -> Access:
    return Access.from_settings(resolve_settings(flags, environ), no_token=no_token)


def test_who_needs_a_token() -> None:
    assert not policy({}, {}).required
    assert policy({"token": "t"}, {}).url(8189) == "http://127.0.0.1:8189/?token=t"
    open_to_all = policy({"host": "0.0.0.0"}, {})
    assert open_to_all.required and open_to_all.made_here and open_to_all.token is not None and len(open_to_all.token) >= 32
    assert open_to_all.token != policy({"host": "0.0.0.0"}, {}).token
    assert policy({"host": "::1"}, {}).url(1) == "http://[::1]:1/"
    pod = policy({}, {"RUNPOD_POD_ID": "abc", "EVA_TOKEN": "a b"})
    assert pod.url(8189) == "https://abc-8189.proxy.runpod.net/?token=a%20b"


def test_no_token_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    assert not policy({"host": "0.0.0.0", "token": "t"}, {}, no_token=True).required
    assert "whoever can reach" in caplog.text


def test_whom_wrong_tokens_count_against() -> None:
    assert Access.client_of("8.8.8.8", {"x-forwarded-for": "1.2.3.4"}) == "8.8.8.8"  # a stranger cannot choose a name
    assert Access.client_of("10.0.0.2", {"x-forwarded-for": "6.6.6.6, 1.2.3.4"}) == "1.2.3.4"
    assert Access.client_of("100.64.0.7", {"cf-connecting-ip": "5.6.7.8"}) == "5.6.7.8"
    assert Access.client_of("127.0.0.1", {}) == "127.0.0.1"
