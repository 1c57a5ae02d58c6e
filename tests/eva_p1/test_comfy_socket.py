"""The WebSocket listener on a scripted line: silence, pings, previews, messages without a prompt, odd frames."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import websocket

from eva_p1.comfy_http import Address
from eva_p1.comfy_socket import DEAD_AFTER, PING_AFTER, Listener

TEXT, BINARY, PONG, CLOSE = (
    websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_PONG, websocket.ABNF.OPCODE_CLOSE)  # fmt: skip


class Line:
    """Stands for one connection. ``frames`` are handed out, then every receive times out and a second passes on ``clock``."""

    def __init__(self, clock: Clock, frames: list[tuple[int, bytes]], answers_pings: bool = True):
        self.clock, self.frames, self.answers_pings = clock, frames, answers_pings
        self.pings = self.closed = 0
        self.sent: list[str] = []
        self.sock = None

    def send(self, text: str) -> None:
        self.sent.append(text)

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def recv_data(self, control_frame: bool = False) -> tuple[int, bytes]:
        assert control_frame
        if self.frames:
            return self.frames.pop(0)
        time.sleep(0.001)
        self.clock.now += 1
        raise websocket.WebSocketTimeoutException("nothing")

    def ping(self) -> None:
        self.pings += 1
        if self.answers_pings:
            self.frames.append((PONG, b""))

    def close(self, timeout: float = 0) -> None:
        self.closed += 1

    def shutdown(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def frame(kind: str, **data: Any) -> tuple[int, bytes]:
    return TEXT, json.dumps({"type": kind, "data": data}).encode()


def listening(lines: list[Line], clock: Clock) -> tuple[Listener, list[dict[str, Any]]]:
    opened: list[dict[str, Any]] = []

    def connect(url: str, **options: Any) -> Line:
        if len(opened) >= len(lines):
            raise ConnectionRefusedError("no more lines")
        opened.append({"url": url, **options})
        return lines[len(opened) - 1]

    return Listener(Address("http://127.0.0.1:8188/?token=t"), "me", clock=clock, connect=connect), opened


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def drain(inbox: Any, seconds: float = 0.3) -> list[tuple[str, dict[str, Any]]]:
    until(lambda: not inbox.empty())
    time.sleep(seconds)
    found = []
    while not inbox.empty():
        found.append(inbox.get())
    return found


def test_silence_is_tested_and_a_dead_line_replaced() -> None:
    clock = Clock()
    alive, dead, third = Line(clock, []), Line(clock, [], answers_pings=False), Line(clock, [])
    lines = [dead, alive, third]
    listener, opened = listening(lines, clock)
    listener.start()
    until(lambda: len(opened) == 2 and alive.pings > 2)
    listener.close()
    assert dead.pings == 1 and dead.closed == 1, "one unanswered ping is enough"
    assert len(opened) == 2, "a line that answers pings is kept"
    assert clock.now > PING_AFTER + DEAD_AFTER
    assert "clientId=me" in opened[0]["url"] and "token=t" in opened[0]["url"] and opened[0]["suppress_origin"] is True


def test_messages_reach_their_prompt_and_only_it() -> None:
    clock = Clock()
    metadata = json.dumps({"node_id": "4", "prompt_id": "b"}).encode()
    line = Line(
        clock,
        [
            frame("status", status={}),
            frame("execution_start", prompt_id="a"),
            frame("executing", node="7"),
            (BINARY, struct.pack(">II", 1, 1) + b"jpg"),
            (BINARY, struct.pack(">II", 4, len(metadata)) + metadata + b"png"),
            frame("execution_success", prompt_id="a"),
            (BINARY, struct.pack(">II", 1, 1) + b"nobody's"),
            (TEXT, b"not json"),
            (TEXT, b'{"type": "x"}'),
            (TEXT, b"[]"),
            (BINARY, b"abc"),
            (BINARY, struct.pack(">II", 4, 5) + b"{{{{{"),
            (BINARY, struct.pack(">II", 9, 1) + b"?"),
            frame("custom", anything=1),
            frame("progress", prompt_id=3),
        ],
    )
    listener, _ = listening([line], clock)
    first, second = listener.watch("a"), listener.watch("b")
    listener.start()
    got = drain(first)
    listener.close()
    assert [kind for kind, _ in got] == ["_connected", "status", "execution_start", "executing", "preview", "execution_success"]
    assert got[3][1]["node"] == "7" and got[4][1]["image"] == b"jpg"
    others = drain(second, 0)
    assert [kind for kind, _ in others] == ["_connected", "status", "preview"] and others[2][1] == {"node": "4", "image": b"png"}
    assert line.sent and json.loads(line.sent[0])["data"]["supports_preview_metadata"] is True


def test_a_closed_line_is_told_and_opened_again() -> None:
    clock = Clock()
    listener, opened = listening([Line(clock, [(CLOSE, b"")]), Line(clock, [])], clock)
    inbox = listener.watch("a")
    listener.start()
    until(lambda: len(opened) == 2 and listener.connected.is_set())
    assert [kind for kind, _ in drain(inbox, 0.05)] == ["_connected", "_lost", "_connected"]
    listener.unwatch("a", inbox)
    listener.close()
    assert not listener.connected.is_set()


def test_closing_before_starting_and_twice() -> None:
    listener, opened = listening([], Clock())
    listener.close()
    listener.start()
    listener.close()
    assert opened == [] and not any(thread.name.startswith("eva-ws") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("url", "http", "ws"),
    [
        ("http://h:1", "http://h:1/queue", "ws://h:1/ws?clientId=me"),
        ("https://h/base/", "https://h/base/queue", "wss://h/base/ws?clientId=me"),
        ("http://h/?token=a%20b", "http://h/queue?token=a+b", "ws://h/ws?token=a+b&clientId=me"),
        ("http://[::1]:8/", "http://[::1]:8/queue", "ws://[::1]:8/ws?clientId=me"),
        ("https://u:p@h", "https://h/queue", "wss://h/ws?clientId=me"),
    ],
)
def test_addresses(url: str, http: str, ws: str) -> None:
    address = Address(url)
    assert address.http("/queue") == http and address.websocket("me") == ws
    assert "token" not in address.shown and "@" not in address.shown
    assert address.headers.get("Authorization", "").startswith("Basic ") == ("@" in url)
