"""Heads are read strictly, and no head takes long to refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eva_web.messages import HttpError
from eva_web.request_head import read_head

LARGEST = 30_000  # bytes of one header, just under what the reception lets through


def test_a_head_is_split_into_its_parts():
    head = read_head(b"GET /api/stats?x=1 HTTP/1.1\r\nHost:  a.example \t\r\nEmpty:\r\nAccept: a\r\nACCEPT: b\r\n\r\n")
    assert (head.method, head.target, head.version, head.hosts) == ("GET", "/api/stats?x=1", "HTTP/1.1", 1)
    assert head.headers == {"host": "a.example", "empty": "", "accept": "a, b"}
    assert head.keeps_connection
    assert not read_head(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").keeps_connection


@pytest.mark.parametrize(
    "line", [b"Name : x", b" folded: x", b"no colon", b": no name", b"A: \x00", b"A: x\ry", b"A: x\x7f", b"N\xe4me: x", b"A B: x"]
)
def test_what_two_programs_might_read_differently_is_refused(line):
    with pytest.raises(HttpError, match="a header is malformed") as refused:
        read_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "line", [b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ", b"G(T / HTTP/1.1", b"GET /\x00 HTTP/1.1", b"GET / HTTP/2.0"]
)
def test_a_malformed_request_line_is_refused(line):
    with pytest.raises(HttpError) as refused:
        read_head(line + b"\r\nHost: a\r\n\r\n")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "head",
    [
        f"b'GET / HTTP/1.1\\r\\na:' + b' ' * {LARGEST} + b'\\0'",
        f"b'GET / HTTP/1.1\\r\\na:' + b' x' * {LARGEST // 2} + b'\\0'",
        f"b'GET / HTTP/1.1\\r\\n' + b'a' * {LARGEST} + b' :'",
        f"b'G' * {LARGEST // 2} + b' ' * {LARGEST // 2}",
        f"b'GET ' + b'/' * {LARGEST} + b' HTTP/1.1x'",
    ],
)
def test_no_head_takes_long_to_refuse(head):
    """A pattern that goes back and forth over a header would keep every client waiting for hours: the process is given a minute."""
    code = f"from eva_web.request_head import read_head\nread_head({head} + b'\\r\\n\\r\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "HttpError" in done.stderr and "malformed" in done.stderr
