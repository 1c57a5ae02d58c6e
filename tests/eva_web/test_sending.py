"""Answers that a client takes slowly, not at all, or in pieces: nobody else waits for it, and nothing is lost."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eva_web import reception, sending
from eva_web.messages import FileBody
from eva_web.sending import Sending
from eva_web.server import Lanes

BIG = bytes(range(256)) * 40_000  # 10 MB: more than any socket holds


def ask_without_reading(port: int, target: str) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return connection


def everything(connection: socket.socket) -> bytes:
    out = bytearray()
    while chunk := connection.recv(1 << 20):
        out += chunk
    return bytes(out)


@pytest.fixture
def crowded(make_site: Callable[..., Any], tmp_path: Path) -> Any:
    """Two workers of each kind, a clip and a static file larger than any socket holds."""
    static = tmp_path / "static"
    static.mkdir()
    (static / "big.json").write_bytes(b'"' + b"a" * 3_900_000 + b'"')
    site = make_site(lanes=Lanes(quick=2, media=2, pictures=1), static_dir=static)
    site.clip("big.mp4", BIG)
    site.clip("small.mp4", b"small")
    return site


@pytest.mark.parametrize("target", ["/static/big.json", "/video/big.mp4"])
def test_who_does_not_read_holds_up_nobody(crowded: Any, helpers: Any, target: str) -> None:
    held = [ask_without_reading(crowded.port, target) for _ in range(8)]
    try:
        helpers.wait_for(lambda: crowded.server.reception.parked == len(held))
        assert crowded.get("/api/stats").status == 200
        assert crowded.get("/video/small.mp4").body == b"small"
        answer = everything(held[0])  # reading at last, it gets all of it
        expected = BIG if "video" in target else (crowded.server.app.static.root / "big.json").read_bytes()
        assert answer.partition(b"\r\n\r\n")[2] == expected
    finally:
        for connection in held:
            connection.close()
    helpers.wait_for(lambda: not crowded.server.busy and not crowded.server.reception.parked)


def test_who_never_reads_is_dropped(crowded: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "SEND_SECONDS", 0.2)
    connection = ask_without_reading(crowded.port, "/video/big.mp4")
    helpers.wait_for(lambda: crowded.server.reception.parked)
    helpers.wait_for(lambda: not crowded.server.busy)
    try:
        assert len(everything(connection)) < len(BIG)
    except ConnectionResetError:
        pass  # as good an end
    finally:
        connection.close()


def test_a_stop_cuts_what_nobody_takes(crowded: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eva_web.server.STOP_SECONDS", 0.2)
    connection = ask_without_reading(crowded.port, "/video/big.mp4")
    helpers.wait_for(lambda: crowded.server.reception.parked)
    crowded.server.shutdown()
    crowded.server.server_close()
    assert not crowded.server.busy and not crowded.server.reception.parked
    connection.close()


def test_too_many_slow_readers_cost_the_longest_waiting_one(make_site: Callable[..., Any], helpers: Any) -> None:
    site = make_site(max_connections=4)
    site.clip("big.mp4", BIG)
    held = [ask_without_reading(site.port, "/video/big.mp4") for _ in range(4)]
    helpers.wait_for(lambda: site.server.reception.parked == 4)
    assert site.get("/health").status == 200
    helpers.wait_for(lambda: site.server.reception.parked == 3)
    for connection in held:
        connection.close()


def test_a_file_cut_while_it_is_sent_ends_the_connection(crowded: Any, helpers: Any) -> None:
    connection = ask_without_reading(crowded.port, "/video/big.mp4")
    helpers.wait_for(lambda: crowded.server.reception.parked)
    (crowded.videos / "big.mp4").write_bytes(b"short")
    answer = everything(connection)
    assert b"Content-Length: 10240000" in answer and len(answer) < len(BIG)
    connection.close()
    helpers.wait_for(lambda: not crowded.server.busy)


@pytest.mark.parametrize("has_sendfile", [True, False])
def test_files_go_out_the_same_without_sendfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_sendfile: bool) -> None:
    if not has_sendfile:
        monkeypatch.delattr("os.sendfile", raising=False)
        monkeypatch.delattr("select.poll", raising=False)
    monkeypatch.setattr(sending, "PATIENCE", 0.0)
    path = tmp_path / "x"
    path.write_bytes(BIG[:1_000_000])
    near, far = socket.socketpair()
    near.setblocking(False)
    far.settimeout(20)
    with near, far, path.open("rb") as file:
        under_way = Sending(near, b"head", FileBody(file.fileno(), 1000, 900_000))
        got = b""
        while not under_way.advance():
            got += far.recv(100_000)
        near.shutdown(socket.SHUT_WR)
        got += everything(far)
    assert got == b"head" + BIG[1000:901_000] and under_way.sent == 900_000
