"""The HTTP server: connections wait in the reception, complete requests run on bounded lanes of workers."""

from __future__ import annotations

import gzip
import io
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eva_env_base import EvaError, Settings, __version__
from eva_web import security
from eva_web.access_log import AccessLog
from eva_web.app import App
from eva_web.messages import FileBody, HttpError, Response
from eva_web.port_holder import why_not
from eva_web.reception import MAX_BODY, Arrival, Reception
from eva_web.request_head import read_head
from eva_web.routes import lane_of
from eva_web.sending import Sending

if TYPE_CHECKING:
    from eva_state.clip_index import ClipIndex
    from eva_state.store import StateStore

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0  # how long a graceful stop waits for answers under way
COMPRESS_FROM = 1400  # bytes: below one packet, compression saves nothing
LINGER_SECONDS = 0.5  # reads on after an early refusal, so that the answer is not lost to a reset
LINGERING = 16  # refused connections at a time that are read on; a flood of them is closed at once


@dataclass(frozen=True)
class Lanes:
    """How many requests of a kind run at once. Separate, so that slow downloads or decoding never delay an API call."""

    quick: int = 12
    media: int = 64
    pictures: int = 4
    refused: int = 4  # what is refused unread: such a connection is read empty for a moment, which must delay nobody


class PortInUse(EvaError):
    """The address is taken or may not be listened on."""


class _Handler(BaseHTTPRequestHandler):
    """Parses one request that is already in memory, and writes its answer."""

    protocol_version = "HTTP/1.1"
    server_version = f"EVA/{__version__}"
    sys_version = ""
    server: ReviewServer
    request: Any  # an Arrival

    def setup(self) -> None:
        self.connection = self.request.connection
        self.rfile = io.BytesIO()
        self.wfile = self._head = io.BytesIO()
        self._given: dict[str, str] = {}
        self.sending: Sending | None = None
        self.finished: Callable[[int], None] = _nothing

    def finish(self) -> None:
        self.rfile.close()

    def handle(self) -> None:
        self.close_connection = True
        arrival: Arrival = self.request
        self.command, self.requestline, self.request_version, self.path = "", "", "HTTP/1.1", ""
        if arrival.refused:
            self._prepare(self.server.app.refuse(HttpError(arrival.refused.status, arrival.refused.message)), head_only=False)
            return
        try:
            head = read_head(arrival.head)
        except HttpError as error:
            self._prepare(self.server.app.refuse(error), head_only=False)
            return
        self.command, self.path, self.request_version = head.method, head.target, head.version
        if head.hosts > 1 or (not head.hosts and head.version != "HTTP/1.0"):  # RFC 9112 section 3.2
            self._prepare(self.server.app.refuse(HttpError(400, "the request needs exactly one Host header")), head_only=False)
            return
        self._given = head.headers
        response = self.server.app.answer(head.method, head.target, head.headers, arrival.body, str(arrival.client[0]))
        self.close_connection = not head.keeps_connection or self.server.stopping.is_set()
        self._prepare(response, head_only=head.method == "HEAD")

    def _prepare(self, response: Response, *, head_only: bool) -> None:
        """Makes the answer ready to be sent."""
        seconds, body = time.perf_counter() - self.request.came, response.body
        if response.may_compress and isinstance(body, bytes) and len(body) >= COMPRESS_FROM:
            response.headers["Vary"] = "Accept-Encoding"
            if security.accepts_gzip(self._given.get("accept-encoding")):
                body = gzip.compress(body, compresslevel=1, mtime=0)
                response.headers["Content-Encoding"] = "gzip"
        self.send_response_only(response.status)
        self.send_header("Server", self.server_version)
        self.send_header("Date", self.date_time_string())
        if response.content_type:
            self.send_header("Content-Type", response.content_type)
        if response.status not in (204, 304):
            self.send_header("Content-Length", str(body.length if isinstance(body, FileBody) else len(body)))
        for name, value in response.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        elif self.request_version == "HTTP/1.0":
            self.send_header("Connection", "keep-alive")
        self.end_headers()
        if head_only or response.status in (204, 304):
            if isinstance(body, FileBody):
                body.close()
            body = b""
        self.sending = Sending(self.connection, self._head.getvalue(), body)
        method, target, version, client = self.command, self.path, self.request_version, str(self.request.client[0])
        self.finished = lambda sent: self.server.app.note(response, method, target, version, self._given, client, seconds, sent)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("%s: %s", self.client_address[0], format % args)


class ReviewServer(ThreadingHTTPServer):
    """Serves ``app`` until :meth:`shutdown` from another thread, then :meth:`server_close`."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = sys.platform != "win32"  # on Windows it would let two servers share the port

    def __init__(self, address: tuple[str, int], app: App, lanes: Lanes | None = None, max_connections: int = 2000):
        self.app = app
        self.stopping = threading.Event()
        self._cut = False  # every connection has been cut: what is still in a queue is answered no more
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        lanes = lanes or Lanes()
        self._lanes = {
            "quick": ThreadPoolExecutor(lanes.quick, thread_name_prefix="eva-web-quick"),
            "media": ThreadPoolExecutor(lanes.media, thread_name_prefix="eva-web-media"),
            "pictures": ThreadPoolExecutor(lanes.pictures, thread_name_prefix="eva-web-pictures"),
            "refused": ThreadPoolExecutor(lanes.refused, thread_name_prefix="eva-web-refused"),
        }
        self._active: set[socket.socket] = set()
        self._refused = 0  # of those, how many are refused unread
        self._active_lock = threading.Lock()
        self._max = _bounded_by_descriptors(max_connections)
        self.reception = Reception(self._hand_over, self._max)
        app.connections = lambda: (self.reception.waiting, self.busy)
        super().__init__(address, _Handler)  # last: when the address cannot be had, it calls server_close

    def server_bind(self) -> None:
        """Binds without the reverse DNS look-up of ``HTTPServer.server_bind``, which can take seconds on a pod."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.busy - self.reception.parked >= self._max:  # those that wait make room for new ones, those being answered do not
            request.close()
            return
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reception.admit(request, client_address)

    def _hand_over(self, arrival: Arrival) -> None:
        lane = "refused" if arrival.refused else lane_of(arrival.head)
        with self._active_lock:
            self._active.add(arrival.connection)
            self._refused += arrival.refused is not None
        try:
            self._lanes[lane].submit(self._serve, arrival, lane)
        except RuntimeError:  # the lane has been shut down: the server is stopping
            self._end(arrival, keep=False)

    def _serve(self, arrival: Arrival, lane: str) -> None:
        if self._cut:
            self._end(arrival, keep=False)
            return
        try:
            handler = _Handler(arrival, arrival.client, self)  # type: ignore[arg-type]
        except Exception:
            log.exception("a request from %s failed below the error wrapper", arrival.client[0])
            self._end(arrival, keep=False)
            return
        self._send(arrival, handler, lane)

    def _send(self, arrival: Arrival, handler: _Handler, lane: str) -> None:
        """Sends what the client takes; the rest waits in the reception, not here."""
        sending = handler.sending
        assert sending is not None
        try:
            if not sending.advance():
                self.reception.park(arrival.connection, lambda takes: self._resume(arrival, handler, lane, takes))
                return
        except OSError as error:  # the client went away, or the file was cut
            log.debug("answer to %s not delivered: %s", arrival.client[0], error)
            handler.close_connection = True
        self._sent(arrival, handler)

    def _resume(self, arrival: Arrival, handler: _Handler, lane: str, takes: bool) -> None:
        """In the reception's thread."""
        if takes:
            try:
                self._lanes[lane].submit(self._send, arrival, handler, lane)
                return
            except RuntimeError:
                log.debug("the server stops before %s took its answer", arrival.client[0])
        else:
            log.debug("%s took no more of its answer", arrival.client[0])
        handler.close_connection = True
        self._sent(arrival, handler)

    def _sent(self, arrival: Arrival, handler: _Handler) -> None:
        sending = handler.sending
        assert sending is not None
        sending.close()
        handler.finished(sending.sent)
        # Who is too slow to send will not be slow to stop.
        if arrival.refused and arrival.refused.status != 408 and self._refused <= LINGERING:
            _linger(arrival.connection)
        self._end(arrival, keep=not handler.close_connection and not self.stopping.is_set())

    def _end(self, arrival: Arrival, *, keep: bool) -> None:
        with self._active_lock:
            self._active.discard(arrival.connection)
            self._refused -= arrival.refused is not None
        if keep:
            self.reception.admit(arrival.connection, arrival.client, arrival.rest)
        else:
            arrival.connection.close()

    @property
    def busy(self) -> int:
        """Requests being answered now."""
        with self._active_lock:
            return len(self._active)

    def server_close(self) -> None:
        """Graceful stop: answers under way get ``STOP_SECONDS``, then their connections are cut. Safe to call twice."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.socket.close()
        self.reception.shut()
        deadline = time.monotonic() + STOP_SECONDS
        while self.busy and time.monotonic() < deadline:
            time.sleep(0.02)
        self._cut = True
        with self._active_lock:
            for connection in self._active:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError as error:
                    log.debug("cutting a connection: %s", error)
        self.reception.close()
        for lane in self._lanes.values():
            lane.shutdown(wait=True)  # nothing is cancelled: each closes its connection and its file
        self.app.close()

    @property
    def url(self) -> str:
        """The address to open, with the token where one is needed; on RunPod the public proxy's address."""
        return self.app.access.url(self.server_port)


def _nothing(_sent: int) -> None:
    """What is to be done about an answer that was never made."""


def _linger(connection: socket.socket) -> None:
    """Reads what a refused client is still sending, for a moment: closing with unread data would reset the answer away."""
    try:
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(LINGER_SECONDS)
        deadline, taken = time.monotonic() + LINGER_SECONDS, 0
        while taken < 4 * MAX_BODY and time.monotonic() < deadline:
            data = connection.recv(65536)
            if not data:
                return
            taken += len(data)
    except OSError:
        return  # the client has closed, or keeps the line open in silence: either way it is closed now


def _bounded_by_descriptors(wanted: int) -> int:
    """``wanted`` connections, or what the process's limit of open files leaves beside journals, clips and pipes."""
    try:
        import resource
    except ImportError:  # Windows has no such limit per process
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + 256
    if soft != resource.RLIM_INFINITY and soft < need:
        target = need if hard == resource.RLIM_INFINITY else min(need, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
        except (OSError, ValueError) as error:
            log.info("the limit of open files stays %s: %s", soft, error)
        if soft < need:
            return max(64, soft - 256)
    return wanted


def create_server(
    settings: Settings,
    store: StateStore,
    index: ClipIndex,
    *,
    no_token: bool = False,
    lanes: Lanes | None = None,
    max_connections: int = 2000,
    static_dir: Any = None,
    access_log: Path | None = None,
) -> ReviewServer:
    """Builds a server that is already listening (``settings.port`` 0: any free port, see ``server.server_port``).

    Call ``serve_forever()``, and ``server_close()`` at the end. ``store`` and ``index`` stay the caller's to close.
    ``access_log`` names a file that gets a line a request. Raises :class:`PortInUse` naming the port and its holder.
    """
    access = security.Access.from_settings(settings, no_token=no_token)
    app = App(settings, store, index, access, static_dir=static_dir, access_log=AccessLog(access_log, access.token))
    try:
        server = ReviewServer((settings.host, settings.port), app, lanes, max_connections)
    except OSError as error:
        raise PortInUse(why_not(settings.host, settings.port, error)) from error
    access.port = server.server_port
    return server
