"""Connections: keep-alive, limits, slow and broken clients, threads and descriptors."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eva_web import reception
from eva_web.reception import Arrival, Reception, Refusal, measure_head
from eva_web.server import Lanes


def raw(site: Any, data: bytes, *, close: bool = True) -> bytes:
    """Everything the server answers to ``data``, until it closes."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(data)
        if close:
            connection.shutdown(socket.SHUT_WR)
        out = b""
        while chunk := connection.recv(65536):
            out += chunk
    return out


def test_one_connection_serves_many_requests(site: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.connect()
    ends = set()
    for path in ("/health", "/api/stats", "/nowhere", "/api/videos"):
        connection.request("GET", path)
        assert connection.sock is not None
        ends.add(connection.sock.getsockname())
        connection.getresponse().read()
    connection.close()
    assert len(ends) == 1


def test_requests_sent_at_once_are_answered_in_order(site: Any) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    two = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = raw(site, one + two, close=False)
    assert answer.index(b"200 OK") < answer.index(b"404 Not Found")


def test_http_1_0_closes_unless_asked(site: Any) -> None:
    assert raw(site, b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n", close=False).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"BREW /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        (b"\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        (b"GET /health HTTP/1.1\nHost: localhost\nConnection: close\n\n", 200),
        # what a proxy in front might read differently
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length : 5\r\n\r\nhello", 400),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\n Content-Length: 5\r\n\r\nhello", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\r\n folded\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\rContent-Length: 5\r\n\r\nhello", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding\x0b: chunked\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n: nameless\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n", 400),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\ntransfer-encoding: identity\r\n\r\n", 411),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nhello", 400),
        (b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x5\r\n\r\nhello", 400),
        (b"GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /hea lth HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET\x0b/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /health HTTP/1.1 \r\nHost: localhost\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\r\n" * 100 + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        # the host of an absolute address counts, not the header
        (b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
        (b"GET http://localhost@evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
        (b"GET HTTP://localhost/health?x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 200),
        (b"GET //localhost/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 204),
        (b"GET * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (b"GET /api/videos?limit=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /api/videos?" + b"a=1&" * 200 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ],
)
def test_odd_requests(site: Any, data: bytes, status: int) -> None:
    answer = raw(site, data)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status == 204 or json.loads(body)["status"] == ("ok" if status == 200 else "error")
    assert b"Traceback" not in answer
    assert site.get("/health").status == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(site: Any) -> None:
    head = b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999999999\r\n\r\n"
    assert raw(site, head, close=False).startswith(b"HTTP/1.1 413 ")  # not a byte of the body was sent
    assert site.ask("POST", "/api/rate", b" " * (reception.MAX_BODY + 1), {"Content-Type": "application/json"}).status == 413
    exactly = site.ask("POST", "/api/rate", b" " * reception.MAX_BODY, {"Content-Type": "application/json"})
    assert exactly.status == 400  # taken whole, and no JSON


def test_expect_continue(site: Any) -> None:
    site.clip("a.mp4")
    body = b'{"video_name": "a.mp4", "rating": {"overall_quality": 5}}'
    head = b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_hundreds_of_silent_and_slow_clients_delay_nobody(make_site: Callable[..., Any]) -> None:
    site = make_site(max_connections=600)
    before = threading.active_count()
    held = []
    try:
        for number in range(300):
            connection = socket.create_connection(("127.0.0.1", site.port), timeout=30)
            held.append(connection)
            pieces = [
                b"",
                b"G",
                b"GET /health HTTP/1.1\r\nHost: loc",
                b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\n{",
            ]
            connection.sendall(pieces[number % len(pieces)])
        assert site.get("/api/stats").status == 200
        assert threading.active_count() <= before + 10  # its lanes, never a thread a connection
    finally:
        for connection in held:
            connection.close()


def test_too_many_connections_cost_the_longest_waiting_one(make_site: Callable[..., Any], helpers: Any) -> None:
    site = make_site(max_connections=20)
    first = socket.create_connection(("127.0.0.1", site.port), timeout=30)
    helpers.wait_for(lambda: site.server.reception.waiting == 1)
    others = [socket.create_connection(("127.0.0.1", site.port), timeout=30) for _ in range(20)]
    assert first.recv(1) == b""  # closed
    assert site.get("/health").status == 200
    for connection in [first, *others]:
        connection.close()


def test_descriptors_come_back(site: Any, helpers: Any) -> None:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("this system does not list open descriptors")
    site.clip("a.mp4", b"x" * 3_000_000)
    site.get("/video/a.mp4")

    def count() -> int:
        return len(os.listdir(folder))  # noqa: PTH208  iterdir would hold a descriptor of its own

    before = count()
    for number in range(60):
        with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
            connection.sendall(b"GET /video/a.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if number % 2:
                connection.recv(1000)  # and away in the middle of the file
    helpers.wait_for(lambda: count() <= before + 2)
    assert site.get("/health").status == 200


def test_a_stop_lets_an_answer_finish(make_site: Callable[..., Any], helpers: Any) -> None:
    site = make_site()
    size = 30_000_000
    site.clip("big.mp4", b"x" * size)
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(b"GET /video/big.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        taken = len(connection.recv(1000))
        stopper = threading.Thread(target=site.close)
        stopper.start()
        while chunk := connection.recv(1_000_000):
            taken += len(chunk)
        stopper.join(20)
    site.close = lambda: None
    assert taken > size and not stopper.is_alive()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_break_the_server(site: Any, data: bytes, as_header: bool) -> None:
    answer = raw(site, (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" if as_header else b"") + data + b"\r\n\r\n")
    assert not answer.startswith(b"HTTP/1.1 500"), data
    assert site.get("/health").status == 200


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 0),
        (b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n", 7),
        (b"POST / HTTP/1.1\r\ncontent-length:7\r\nX: y\r\n\r\n", 7),
        (b"POST / HTTP/1.1\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n", 7),
        (b"POST / HTTP/1.1\nContent-Length: 7\n\n", 7),
    ],
)
def test_measure_head(head: bytes, expected: int) -> None:
    assert measure_head(head) == expected


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Content-Length: 7\r\nContent-Length: 8", 400),
        (b"Content-Length: 7, 7", 400),
        (b"Content-Length:", 400),
        (b"Content-Length: +7", 400),
        (b"Content-Length: \xb2", 400),
        (b"Content-Length: 1048577", 413),
        (b"Content-Length: " + b"9" * 5000, 413),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 7", 411),
    ],
)
def test_measure_head_refuses(lines: bytes, status: int) -> None:
    found = measure_head(b"POST / HTTP/1.1\r\n" + lines + b"\r\n\r\n")
    assert isinstance(found, Refusal) and found.status == status


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hall() -> Iterator[tuple[Reception, Clock, list[Arrival], Callable[[], socket.socket]]]:
    """A reception alone, with a clock of ours."""
    arrivals: list[Arrival] = []
    clock, ends = Clock(), []
    made = Reception(arrivals.append, max_connections=10, clock=clock)

    def connect() -> socket.socket:
        inside, outside = socket.socketpair()
        ends.append(outside)
        made.admit(inside, ("test", 0))
        outside.settimeout(10)
        return outside

    yield made, clock, arrivals, connect
    made.close()
    for arrival in arrivals:
        arrival.connection.close()
    for end in ends:
        end.close()


@pytest.mark.parametrize("sent", [b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"])
def test_a_request_that_does_not_end_is_given_up(hall: Any, helpers: Any, sent: bytes) -> None:
    made, clock, arrivals, connect = hall
    connection = connect()
    connection.sendall(sent)
    helpers.wait_for(lambda: any(item.buffer for item in list(made._waiting.values())))
    clock.now += reception.HEAD_SECONDS + reception.BODY_SECONDS
    helpers.wait_for(lambda: arrivals)
    assert arrivals[0].refused is not None and arrivals[0].refused.status == 408


def test_an_idle_connection_is_closed(hall: Any, helpers: Any) -> None:
    made, clock, arrivals, connect = hall
    connection = connect()
    helpers.wait_for(lambda: made.waiting == 1)
    clock.now += reception.IDLE_SECONDS + 1
    assert connection.recv(1) == b"" and not arrivals


def test_empty_lines_keep_no_connection_open(hall: Any, helpers: Any) -> None:
    made, clock, arrivals, connect = hall
    connection = connect()
    connection.sendall(b"\r\n")
    helpers.wait_for(lambda: any(item.blanks for item in list(made._waiting.values())))
    clock.now += reception.HEAD_SECONDS - 1
    connection.sendall(b"\r\n")
    helpers.wait_for(lambda: any(item.blanks == 4 for item in list(made._waiting.values())))
    clock.now += 2
    assert connection.recv(1) == b"" and not arrivals


def test_a_byte_at_a_time_arrives_whole(hall: Any, helpers: Any) -> None:
    _, _, arrivals, connect = hall
    connection = connect()
    head, body = b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\n", b"abc"
    for byte in head + body + b"GET":
        connection.sendall(bytes([byte]))
    helpers.wait_for(lambda: arrivals)
    assert (arrivals[0].head, arrivals[0].body, arrivals[0].refused) == (head, body, None)


def test_refused_requests_delay_nobody(make_site: Callable[..., Any]) -> None:
    """Each refused connection is read empty for a moment; many at once must not take the workers of others."""
    site = make_site(lanes=Lanes(quick=2, media=2, pictures=1, refused=1))
    head = b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
    held = [socket.create_connection(("127.0.0.1", site.port), timeout=30) for _ in range(8)]
    try:
        for connection in held:
            connection.sendall(head)
        assert held[0].recv(12) == b"HTTP/1.1 413"
        assert site.get("/api/stats").status == 200
        assert site.server.busy > 0, "the refused ones are still being read empty, and yet another client had its answer"
    finally:
        for connection in held:
            connection.close()


def test_a_flood_of_refused_requests_is_over_soon(make_site: Callable[..., Any], helpers: Any) -> None:
    """Read on one after the other, they would take a hundred seconds, and a descriptor each."""
    site = make_site(lanes=Lanes(quick=2, media=2, pictures=1, refused=1))
    head = b"POST /api/rate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
    held = [socket.create_connection(("127.0.0.1", site.port), timeout=30) for _ in range(200)]
    try:
        for connection in held:
            connection.sendall(head)
        helpers.wait_for(lambda: not site.server.busy and not site.server.reception.waiting, 40)
        assert site.get("/health").status == 200 and site.server._refused == 0
    finally:
        for connection in held:
            connection.close()


def test_no_more_are_taken_in_than_may_be_answered(make_site: Callable[..., Any]) -> None:
    site = make_site()
    site.server._max = 0
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        assert connection.recv(1) == b""
    site.server._max = 100
    assert site.get("/health").status == 200
