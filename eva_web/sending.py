"""An answer on its way to its client, sent as far as the client takes it: whoever reads slowly holds no worker."""

from __future__ import annotations

import os
import select
import socket

from eva_web.messages import FileBody

JOIN_BELOW = 64 * 1024  # bytes: a body this small goes out with its head in one piece
PATIENCE = 0.05  # seconds a worker waits for a client that streams a file before it turns to somebody else
PIECE = 256 * 1024  # bytes read at once where the system has no sendfile


class Sending:
    """``advance`` until it is true. ``sent`` counts bytes of the body. The file, if any, is this object's to close."""

    def __init__(self, connection: socket.socket, head: bytes, body: bytes | FileBody | None):
        self._connection = connection
        self.file = body if isinstance(body, FileBody) else None
        self._head = len(head)
        data = body if isinstance(body, bytes) else b""
        parts = [head + data] if len(data) < JOIN_BELOW else [head, data]
        self._parts = [memoryview(part) for part in parts]
        self._gone = 0

    @property
    def sent(self) -> int:
        return max(0, self._gone - self._head)

    def advance(self) -> bool:
        """Sends what the client takes now; True once everything is gone. Raises OSError when the client has left.

        The connection must not block.
        """
        while self._parts:
            try:
                count = self._connection.send(self._parts[0])
            except (BlockingIOError, InterruptedError):
                return False
            self._gone += count
            rest = self._parts[0][count:]
            self._parts[:1] = [rest] if len(rest) else []
        if self.file is None:
            return True
        while self.file.length:
            try:
                count = _send_file(self._connection, self.file)
            except (BlockingIOError, InterruptedError):
                if not _writable(self._connection):
                    return False
                continue
            if count == 0:
                raise OSError("the file was cut while it was sent: the promised length cannot be kept")
            self._gone += count
            self.file.offset += count
            self.file.length -= count
        return True

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _send_file(connection: socket.socket, file: FileBody) -> int:
    if hasattr(os, "sendfile"):
        return os.sendfile(connection.fileno(), file.fd, file.offset, min(file.length, 1 << 30))
    os.lseek(file.fd, file.offset, os.SEEK_SET)
    data = os.read(file.fd, min(file.length, PIECE))
    return connection.send(data) if data else 0


def _writable(connection: socket.socket) -> bool:
    """Whether the client takes more within ``PATIENCE``."""
    if not hasattr(select, "poll"):
        return bool(select.select([], [connection], [], PATIENCE)[1])
    waiting = select.poll()
    waiting.register(connection, select.POLLOUT)
    return bool(waiting.poll(PATIENCE * 1000))
