"""Holds every connection that has to wait, in a single thread: until a whole request has arrived, or until a client that
takes no more of its answer takes some.

Why this exists: ``ThreadingHTTPServer`` gives each connection a thread for as long as it lives, so a few hundred
clients that send nothing, read nothing, or one byte a minute, use up every thread there may be. Here a connection costs
a file descriptor and a buffer while it waits; a worker sees it only when there is something to do.
"""

from __future__ import annotations

import logging
import re
import selectors
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

MAX_HEAD = 32 * 1024  # bytes of request line and headers; browsers stay below 16 KiB
MAX_BODY = 1024 * 1024  # the contract's limit, answered with 413
HEAD_SECONDS = 10.0  # from the first byte of a request to the end of its head
BODY_SECONDS = 30.0  # from the end of the head to the end of the body
SEND_SECONDS = 20.0  # a client that takes no byte for this long is dropped; a player that was paused asks again with Range
IDLE_SECONDS = 75.0  # keep-alive: longer than the 60 s after which common proxies drop their side
SWEEP_SECONDS = 1.0
READ_CHUNK = 64 * 1024
BLANK_BYTES = 64  # line ends before a request, which some old clients send; more is no client

_CONTENT_LENGTH = re.compile(rb"\r?\ncontent-length:[ \t]*([^\r\n]*)", re.IGNORECASE)
_TRANSFER_ENCODING = re.compile(rb"\r?\ntransfer-encoding:", re.IGNORECASE)
_EXPECT = re.compile(rb"\r?\nexpect:[ \t]*100-continue", re.IGNORECASE)
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


@dataclass
class Refusal:
    """A request that is answered without being read to its end; the connection closes afterwards."""

    status: int
    message: str


@dataclass
class Arrival:
    """A request as it came. ``head`` ends with the blank line. ``refused`` is set when it must not be carried out."""

    connection: socket.socket
    client: tuple
    head: bytes
    body: bytes
    rest: bytes = b""  # bytes of the next request, already here
    refused: Refusal | None = None
    came: float = field(default_factory=time.perf_counter)  # when it was whole


@dataclass
class _Waiting:
    connection: socket.socket
    client: tuple
    buffer: bytearray = field(default_factory=bytearray)
    deadline: float = 0.0
    head_end: int = -1
    body_length: int = 0
    searched: int = 0  # bytes of the buffer known to hold no end of a head
    blanks: int = 0


@dataclass
class _Parked:
    """A connection that takes no more for now. ``resume(False)``: it took nothing for too long, or there are too many."""

    connection: socket.socket
    resume: Callable[[bool], None]
    deadline: float = 0.0


def measure_head(head: bytes) -> int | Refusal:
    """Length of the body that follows ``head``, or why it is refused. Two differing lengths are request smuggling."""
    if _TRANSFER_ENCODING.search(head):
        return Refusal(411, "send the body with Content-Length; Transfer-Encoding is not accepted")
    lengths = {value.strip() for value in _CONTENT_LENGTH.findall(head)}
    if not lengths:
        return 0
    if len(lengths) > 1:
        return Refusal(400, "the request has several Content-Length headers")
    text = lengths.pop()
    if not (text.isascii() and text.isdigit()):
        return Refusal(400, "Content-Length is not a number")
    if len(text) > 15 or int(text) > MAX_BODY:
        return Refusal(413, f"the body is over {MAX_BODY // 1024} KiB")
    return int(text)


class Reception:
    """Owns the waiting connections. ``hand_over`` is called with each complete ``Arrival`` and must not block."""

    def __init__(self, hand_over: Callable[[Arrival], None], max_connections: int = 2000, clock: Callable[[], float] = time.monotonic):
        self._hand_over = hand_over
        self._max = max_connections
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()  # by descriptor; the longest waiting first
        self._parked: OrderedDict[int, _Parked] = OrderedDict()
        self._incoming: deque[tuple[socket.socket, tuple, bytes] | _Parked] = deque()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._stop = threading.Event()
        self._shut = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eva-web-reception", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Connections held until they have sent a request."""
        return len(self._waiting)

    @property
    def parked(self) -> int:
        """Connections held until they take more of their answer."""
        return len(self._parked)

    def admit(self, connection: socket.socket, client: tuple, already: bytes = b"") -> None:
        """Takes a new connection, or one whose answer has been sent, back into waiting. Any thread."""
        self._incoming.append((connection, client, already))
        self._wake()

    def park(self, connection: socket.socket, resume: Callable[[bool], None]) -> None:
        """Holds a connection until it takes more; then ``resume(True)``, which must not block, is called once. Any thread."""
        self._incoming.append(_Parked(connection, resume))
        self._wake()

    def shut(self) -> None:
        """No more requests: every connection that waits to send one is closed. Answers under way go on."""
        self._shut.set()
        self._wake()

    def close(self) -> None:
        """Closes every connection and ends the thread."""
        self._stop.set()
        self._wake()
        self._thread.join(timeout=5.0)

    def _wake(self) -> None:
        try:
            self._wake_write.send(b"\0")
        except (BlockingIOError, OSError):
            return  # the pipe is full or closed: the loop is awake, or gone

    def _run(self) -> None:
        swept = self._clock()
        while not self._stop.is_set():
            for key, _ in self._selector.select(SWEEP_SECONDS):
                if key.data is None:
                    self._take_in()
                elif isinstance(key.data, _Parked):
                    self._resume(key.data, True)
                else:
                    self._readable(key.data)
            if self._shut.is_set():
                self._drop_waiting()
            now = self._clock()
            if now - swept >= SWEEP_SECONDS:
                swept = now
                self._sweep(now)
        self._take_in()
        self._drop_waiting()
        for parked in list(self._parked.values()):
            self._resume(parked, False)
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _take_in(self) -> None:
        try:
            while self._wake_read.recv(4096):
                pass
        except BlockingIOError:
            pass  # drained
        while self._incoming:
            came = self._incoming.popleft()
            while len(self._waiting) + len(self._parked) >= self._max:
                if self._waiting:
                    self._drop(next(iter(self._waiting.values())))
                else:
                    self._resume(next(iter(self._parked.values())), False)
            if isinstance(came, _Parked):
                self._park(came)
                continue
            connection, client, already = came
            if connection.fileno() < 0:
                continue
            connection.setblocking(False)
            seconds = HEAD_SECONDS if already else IDLE_SECONDS
            waiting = _Waiting(connection, client, bytearray(already), self._clock() + seconds)
            self._waiting[connection.fileno()] = waiting
            self._selector.register(connection, selectors.EVENT_READ, waiting)
            if already:
                self._advance(waiting)

    def _park(self, parked: _Parked) -> None:
        parked.deadline = self._clock() + SEND_SECONDS
        number = parked.connection.fileno()
        if number < 0 or self._stop.is_set():
            parked.resume(False)
            return
        self._parked[number] = parked
        self._selector.register(parked.connection, selectors.EVENT_WRITE, parked)

    def _resume(self, parked: _Parked, takes: bool) -> None:
        if self._parked.pop(parked.connection.fileno(), None) is not None:
            self._selector.unregister(parked.connection)
        parked.resume(takes)

    def _readable(self, waiting: _Waiting) -> None:
        if waiting.connection.fileno() < 0:
            return
        try:
            data = waiting.connection.recv(READ_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(waiting)
            return
        if not waiting.buffer and not waiting.blanks:
            waiting.deadline = self._clock() + HEAD_SECONDS
        waiting.buffer += data
        self._advance(waiting)

    def _advance(self, waiting: _Waiting) -> None:
        buffer = waiting.buffer
        if waiting.head_end < 0:
            if buffer[:1] in (b"\r", b"\n"):  # RFC 9112 section 2.2: ignore empty lines before a request
                whole = len(buffer)
                buffer = waiting.buffer = buffer.lstrip(b"\r\n")
                waiting.blanks += whole - len(buffer)
                if waiting.blanks > BLANK_BYTES:
                    self._complete(waiting, Refusal(400, "empty lines are no request"))
                    return
            match = _END_OF_HEAD.search(buffer, waiting.searched)
            if match is None:
                waiting.searched = max(0, len(buffer) - 3)
                if len(buffer) > MAX_HEAD:
                    self._complete(waiting, Refusal(431, f"the request's headers are over {MAX_HEAD // 1024} KiB"))
                return
            if match.end() > MAX_HEAD:
                self._complete(waiting, Refusal(431, f"the request's headers are over {MAX_HEAD // 1024} KiB"))
                return
            waiting.head_end = match.end()
            measured = measure_head(bytes(buffer[: waiting.head_end]))
            if isinstance(measured, Refusal):
                self._complete(waiting, measured)
                return
            waiting.body_length = measured
            waiting.deadline = self._clock() + BODY_SECONDS
            missing = len(buffer) - waiting.head_end < measured
            if missing and _EXPECT.search(buffer, 0, waiting.head_end):
                try:
                    waiting.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                except OSError:
                    self._drop(waiting)
                    return
        if len(buffer) - waiting.head_end >= waiting.body_length:
            self._complete(waiting, None)

    def _complete(self, waiting: _Waiting, refused: Refusal | None) -> None:
        self._forget(waiting)
        buffer = bytes(waiting.buffer)
        head_end = waiting.head_end if waiting.head_end >= 0 else len(buffer)
        body_end = head_end if refused else head_end + waiting.body_length
        arrival = Arrival(waiting.connection, waiting.client, buffer[:head_end], buffer[head_end:body_end], buffer[body_end:], refused)
        self._hand_over(arrival)

    def _sweep(self, now: float) -> None:
        for waiting in [item for item in self._waiting.values() if item.deadline <= now]:
            if waiting.buffer:
                self._complete(waiting, Refusal(408, "the request did not arrive in time"))
            else:
                self._drop(waiting)
        for parked in [item for item in self._parked.values() if item.deadline <= now]:
            self._resume(parked, False)

    def _drop_waiting(self) -> None:
        for waiting in list(self._waiting.values()):
            self._drop(waiting)

    def _forget(self, waiting: _Waiting) -> None:
        self._waiting.pop(waiting.connection.fileno(), None)
        try:
            self._selector.unregister(waiting.connection)
        except (KeyError, ValueError):
            log.debug("connection %s was not registered", waiting.client)

    def _drop(self, waiting: _Waiting) -> None:
        self._forget(waiting)
        waiting.connection.close()
