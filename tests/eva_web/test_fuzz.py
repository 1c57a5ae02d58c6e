"""Whatever comes in: no 500, no hang, no thread or descriptor left over, and the state intact afterwards.

Seeded, so that a failure names the case and comes again. A few seconds in every run; ``-m long`` runs 50,000 cases.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import string
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest

from eva_state.store import StateStore
from eva_web.routes import ROUTES

SECONDS = 20.0  # an answer that takes longer counts as a hang
CLIPS = ("a.mp4", "sub/b.mp4", "c d \u0457.mp4")
KEY = "euler|simple|16|3.5|20|832x480"
PARAMETERS = [
    "q",
    "rated",
    "banned",
    "reference",
    "exists",
    "sampler",
    "scheduler",
    "fps",
    "cfg",
    "steps",
    "width",
    "height",
    "defect",
    "combo",
    "min_score",
    "max_score",
    "min_overall",
    "max_overall",
    "min_cfg",
    "max_cfg",
    "min_steps",
    "max_steps",
    "sort",
    "order",
    "offset",
    "limit",
    "name",
    "since",
    "video_name",
    "combo_key",
    "params",
    "download",
    "token",
]
VALUES = [
    *(
        "",
        "0",
        "-1",
        "1",
        "10",
        "1e309",
        "-1e309",
        "nan",
        "1_000",
        "99999999999999999999",
        "true",
        "all",
        "null",
        "[]",
        "{}",
        "newest",
        "score",
    ),
    *(
        "a.mp4",
        "../a.mp4",
        "/etc/passwd",
        "a.mp4\0",
        ".",
        "..",
        "euler",
        KEY,
        "*|*|*|*|*|*",
        "a|b",
        "\u0457",
        "\ud7ff",
        "%",
        "'\"<b>",
        "x" * 3000,
    ),
    *('{"sampler":"euler"}', '{"fps":1e400}', "[" * 500, '"\\ud800"', "1-2", "٣", "\u2028"),
]
HEADERS = [
    "Range",
    "If-Range",
    "If-None-Match",
    "If-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "Accept-Encoding",
    "Cookie",
    "Authorization",
    "Origin",
    "Referer",
    "Sec-Fetch-Site",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "CF-Connecting-IP",
    "Expect",
    "Connection",
    "Content-Type",
    "Content-Length",
    "Upgrade",
    "User-Agent",
]
HEADER_VALUES = [
    *("bytes=0-", "bytes=-5", "bytes=5-2", "bytes=0-0,1-1", "bytes=999999999999999999999-", "bytes=", "bytes=-0", "bytes=a-b", "lines=1-2"),
    *('"x"', 'W/"x"', "*", '"', "Mon, 01 Jan 0001 00:00:00 GMT", "Sun, 99 Foo 2030 99:99:99 GMT", "gzip;q=0", "gzip, *;q=x", "close", "0"),
    *(
        "Bearer ",
        "Bearer x",
        "Basic eDp4",
        "eva_1=x; =;;",
        "null",
        "http://[::1",
        "same-origin",
        "cross-site",
        "100-continue",
        "1.2.3.4, x",
    ),
    *(
        "application/json",
        "application/json; charset=utf-7",
        "text/plain",
        "-1",
        "5",
        "99999999999999999",
        "1e3",
        "",
        "\t",
        "\xff\xfe",
        "x" * 4000,
    ),
]
JSON_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 5, 10, 11, 1.5, 1e308, 10**400, "", "a.mp4", "sub/b.mp4", "../x", "x" * 2000, "\u0457", "left", "tie"),
    *([], {}, [[]], {"overall_quality": 5}, {"overall_quality": "5"}, {"overall_quality": 5, "defects": ["a", 1]}, KEY, "*|*|*|*|*|*"),
    *({"sampler": "euler"}, {"sampler": None, "fps": []}, {"overall_quality": 7, "comments": "<b>", "new": {"a": [1]}}),
]
FIELDS = [
    "video_name",
    "rating",
    "id",
    "combo_key",
    "params",
    "reason",
    "event_id",
    "left",
    "right",
    "winner",
    "token",
    "next",
    "name",
    "action",
]


class Fuzz:
    """Makes requests from a seed."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)

    def noise(self, longest: int) -> bytes:
        return self.rng.randbytes(self.rng.randrange(longest))

    def target(self) -> str:
        rng = self.rng
        route = rng.choice(ROUTES).path
        if route.endswith("<rest>"):
            tail = rng.choice((*CLIPS, "style.css", "../../etc/passwd", "a.mp4/..", "", "//", "a.mp4\0", "." * 300, "x" * 5000, "a\\b"))
            encoded = quote_from_bytes(self.noise(12)) if rng.random() < 0.2 else quote(tail, safe="/." if rng.random() < 0.7 else "")
            route = route.removesuffix("<rest>") + encoded
        if rng.random() < 0.1:
            route = rng.choice(
                ("*", "http://h/" + route, route + "/", route.upper(), "/%2e%2e/", "/" + "a/" * 200, "//", "/\u0457", route + "#x")
            )
        pairs = [
            f"{rng.choice(PARAMETERS)}={quote(rng.choice(VALUES), safe='') if rng.random() < 0.9 else quote_from_bytes(self.noise(8))}"
            for _ in range(rng.choice((0, 1, 1, 2, 3, 150 if rng.random() < 0.02 else 1)))
        ]
        return route + ("?" + "&".join(pairs) if pairs else "")

    def body(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.15:
            return rng.choice((b"{", b"[]", b"null", b'{"a":NaN}', b"\xff", b"[" * 3000, b'{"x":"\\ud800"}', b"", self.noise(50)))
        names = rng.sample(FIELDS, rng.randrange(5)) + rng.choice(
            ([], ["video_name", "rating"], ["left", "right", "winner"], ["combo_key"])
        )
        found = {name: rng.choice(JSON_VALUES) for name in names}
        if rng.random() < 0.3:
            found |= {"video_name": rng.choice(CLIPS), "rating": {"overall_quality": rng.randint(1, 10)}}
        text = json.dumps(found)
        if rng.random() < 0.1:
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice(string.printable) + text[at + 1 :]
        return text.encode()

    def request(self) -> bytes:
        rng = self.rng
        method = rng.choice(("GET", "GET", "GET", "HEAD", "POST", "POST", "OPTIONS", "DELETE", "get", "X" * 100))
        body = self.body() if method == "POST" else b""
        lines = [f"{method} {self.target()} {rng.choice(('HTTP/1.1',) * 9 + ('HTTP/1.0',))}", "Host: localhost"]
        if body or rng.random() < 0.1:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        for _ in range(rng.choice((0, 0, 1, 2, 300 if rng.random() < 0.02 else 1))):
            name = rng.choice(HEADERS) if rng.random() < 0.9 else quote_from_bytes(self.noise(6)) + rng.choice(("", " ", "\t"))
            lines.append(f"{name}: {rng.choice(HEADER_VALUES)}")
        data = "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body
        if rng.random() < 0.2:  # broken on the wire
            data = bytearray(data)
            for _ in range(rng.randint(1, 5)):
                at = rng.randrange(len(data))
                data[at : at + rng.randrange(3)] = rng.choice((b"", b"\0", b"\r", b"\n", b"\r\n", b" ", b":", b"\xff", self.noise(4)))
            data = bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data)
        return self.noise(300) if rng.random() < 0.02 else data


def exchange(port: int, data: bytes) -> bytes:
    """Sends it, says that no more comes, and reads until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            out = bytearray()
            while chunk := connection.recv(1 << 16):
                out += chunk
        except (ConnectionResetError, BrokenPipeError):
            return b""  # refused while still sending, which TCP may turn into a reset
    return bytes(out)


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def attack(site: Any, cases: int, seed: int, caplog: pytest.LogCaptureFixture, helpers: Any) -> Counter[int]:
    for name in CLIPS:
        site.made(name)
    site.get("/thumb/a.mp4")  # the helper process that decodes is there from now on
    exchange(site.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    caplog.set_level(logging.ERROR)
    logging.getLogger("eva_web.access").setLevel(logging.ERROR)
    statuses: Counter[int] = Counter()
    threads = {thread.name for thread in threading.enumerate() if not thread.name.startswith("eva-web-")}
    open_before = descriptors()
    for number in range(cases):
        data = Fuzz(seed + number).request()
        answer = exchange(site.port, data)
        if not answer:
            statuses[0] += 1
            continue
        assert answer.startswith(b"HTTP/1.1 "), (seed + number, data[:500], answer[:200])
        status = int(answer[9:12])
        statuses[status] += 1
        assert status < 500 or status == 503, (seed + number, data[:1000], answer[:1000])
        assert b"Traceback" not in answer and str(site.state).encode() not in answer, (seed + number, data[:500])
    faults = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert not faults, faults[:3]
    assert site.get("/health").status == 200
    helpers.wait_for(lambda: site.server.busy == 0 and site.server.reception.waiting == 0)
    left = {thread.name for thread in threading.enumerate() if not thread.name.startswith("eva-web-")} - threads
    assert not left, left  # the lanes' own workers are bounded, and counted below
    assert sum(thread.name.startswith("eva-web-") for thread in threading.enumerate()) <= 4 + 4 + 2 + 4 + 2
    if os.name == "posix":
        helpers.wait_for(lambda: descriptors() <= open_before + 3)
    return statuses


def the_state_is_intact(site: Any, other: Callable[[], StateStore]) -> None:
    """What the server holds is what a process that starts afresh reads from disk, and nothing damaged is found there."""
    ratings, bans, count = site.store.ratings(), site.store.bans(), len(site.store.actions(limit=10**6))
    with other() as store:
        assert not store.problems
        assert store.ratings() == ratings and store.bans() == bans and len(store.actions(limit=10**6)) == count
    assert site.post("/api/rate", {"video_name": "a.mp4", "rating": {"overall_quality": 9}}).status == 200
    assert site.store.rating("a.mp4")["rating"]["overall_quality"] == 9


def check(site: Any, cases: int, seed: int, caplog: pytest.LogCaptureFixture, helpers: Any) -> None:
    statuses = attack(site, cases, seed, caplog, helpers)
    print(sorted(statuses.items()))
    assert {200, 400, 404, 405, 422} <= set(statuses), "the cases reach too little"
    assert statuses[0] < cases / 4
    the_state_is_intact(site, lambda: StateStore(site.state, role="reader", video_dir=site.videos))


def test_a_thousand_strange_requests(site: Any, caplog: pytest.LogCaptureFixture, helpers: Any) -> None:
    check(site, 1200, 0, caplog, helpers)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_thousand_strange_requests(site: Any, caplog: pytest.LogCaptureFixture, helpers: Any) -> None:
    check(site, 50_000, 1_000_000, caplog, helpers)
