"""One WebSocket per client: a background thread that listens, reconnects, and hands each prompt its messages.

ComfyUI sends execution messages only to the socket whose clientId queued the prompt, so one socket serves every prompt of a
client. Messages are hints: the truth about a prompt's end is its history, which :mod:`eva_p1.comfy_wait` asks for.

Binary frames (https://docs.comfy.org/development/comfyui-server/comms_messages, server.py ``BinaryEventTypes``): 4 bytes
big-endian type; 1 = preview: 4 bytes image format, then the image; 4 = preview with metadata: 4 bytes length, JSON, then the image.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable
from socket import SHUT_RDWR
from typing import Any

import websocket

from eva_p1.comfy_http import Address, backoff

log = logging.getLogger(__name__)

PING_AFTER = 20.0  # seconds of silence after which the line is tested; proxies cut idle sockets after 30 to 100 s
DEAD_AFTER = 20.0  # seconds a ping may stay unanswered
RECV_SLICE = 1.0
CLOSE_SECONDS = 3.0  # a thread still connecting to a silent host is left behind; it is a daemon
PREVIEW, PREVIEW_WITH_METADATA = 1, 4
HELLO = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})

Message = tuple[str, dict[str, Any]]  # (type, data); type "preview" has data["image"]; types "_connected" and "_lost" are ours


class Listener:
    """Listens on ``/ws`` from :meth:`start` until :meth:`close`. ``watch``/``unwatch`` may be called from any thread."""

    def __init__(self, address: Address, client_id: str, *, clock: Callable[[], float], connect: Callable[..., Any] | None = None):
        self._address, self._client_id, self._clock = address, client_id, clock
        self._connect = connect or websocket.create_connection
        self._watches: dict[str, list[queue.SimpleQueue[Message]]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket: Any = None
        self._current: str | None = None  # the prompt the server is executing: some messages do not name theirs
        self.connected = threading.Event()

    def start(self) -> None:
        """Starts the thread; does nothing where it runs already or the listener was closed."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name=f"eva-ws {self._address.shown}", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ends the thread and waits for it."""
        self._closing.set()
        raw = getattr(self._socket, "sock", None)
        if raw is not None:
            try:
                raw.shutdown(SHUT_RDWR)  # wakes the thread out of its recv
            except OSError as error:
                log.debug("the WebSocket was gone already: %s", error)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS)

    def watch(self, prompt_id: str) -> queue.SimpleQueue[Message]:
        """A queue that receives this prompt's messages from now on."""
        inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        with self._lock:
            self._watches.setdefault(prompt_id, []).append(inbox)
        return inbox

    def unwatch(self, prompt_id: str, inbox: queue.SimpleQueue[Message]) -> None:
        with self._lock:
            inboxes = self._watches.get(prompt_id, [])
            if inbox in inboxes:
                inboxes.remove(inbox)
            if not inboxes:
                self._watches.pop(prompt_id, None)

    # ------------------------------------------------------------ thread
    def _run(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            try:
                socket = self._open()
            except (OSError, websocket.WebSocketException) as error:
                # Refused, timed out, or answered by something that is no ComfyUI. Polling goes on meanwhile.
                log.log(logging.INFO if attempt == 0 else logging.DEBUG, "no WebSocket to %s: %s", self._address.shown, error)
                self._closing.wait(backoff(attempt))
                attempt += 1
                continue
            attempt = 0
            self._socket = socket
            self.connected.set()
            self._tell_all("_connected")
            try:
                self._listen(socket)
            except (OSError, websocket.WebSocketException) as error:
                if self._closing.is_set():
                    continue
                log.info("the WebSocket to %s was cut: %s", self._address.shown, error or type(error).__name__)
            finally:
                self.connected.clear()
                self._socket = None
                socket.close(timeout=1)
                socket.shutdown()  # close() leaves the file descriptor open where the server closed first
            if not self._closing.is_set():
                self._tell_all("_lost")
                self._closing.wait(backoff(0))

    def _open(self) -> Any:
        options: dict[str, Any] = {
            "timeout": 10.0,
            "header": [f"{k}: {v}" for k, v in self._address.headers.items()],
            "suppress_origin": True,
        }
        if self._address.on_loopback:
            # A proxy of the environment must not capture loopback; the library heeds the exception only beside a proxy of our own.
            options |= {"http_proxy_host": self._address.host, "http_proxy_port": 1, "http_no_proxy": ["*"]}
        socket = self._connect(self._address.websocket(self._client_id), **options)
        socket.send(HELLO)
        socket.settimeout(RECV_SLICE)
        return socket

    def _listen(self, socket: Any) -> None:
        heard, pinged = self._clock(), None
        while not self._closing.is_set():
            try:
                opcode, data = socket.recv_data(control_frame=True)
            except websocket.WebSocketTimeoutException:
                now = self._clock()
                if pinged is not None and now - pinged > DEAD_AFTER:
                    raise websocket.WebSocketTimeoutException("no answer to a ping") from None
                if pinged is None and now - heard > PING_AFTER:
                    socket.ping()
                    pinged = now
                continue
            heard, pinged = self._clock(), None
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise websocket.WebSocketConnectionClosedException("closed by the server")
            if opcode == websocket.ABNF.OPCODE_TEXT:
                self._text(data)
            elif opcode == websocket.ABNF.OPCODE_BINARY:
                self._binary(data)

    # ------------------------------------------------------------ messages
    def _text(self, raw: bytes) -> None:
        try:
            message = json.loads(raw)
            kind, data = message["type"], message.get("data")
        except (ValueError, KeyError, TypeError) as error:
            log.debug("a WebSocket message that is no ComfyUI message: %s", error)
            return
        if not isinstance(data, dict):
            return  # custom nodes send what they like under their own types
        if kind == "status":
            self._tell_all("status")  # the queue changed, for whom is not said
            return
        prompt_id = data.get("prompt_id")
        if kind == "execution_start":
            self._current = prompt_id
        if kind == "executing" and prompt_id is None:
            prompt_id = self._current  # after a reconnect the server tells the node, not the prompt
        if isinstance(prompt_id, str):
            self._tell(prompt_id, str(kind), data)
        if kind in ("execution_success", "execution_error", "execution_interrupted") and prompt_id == self._current:
            self._current = None

    def _binary(self, raw: bytes) -> None:
        if len(raw) < 8:
            return
        kind = int.from_bytes(raw[:4], "big")
        if kind == PREVIEW and self._current is not None:
            self._tell(self._current, "preview", {"image": raw[8:]})
        elif kind == PREVIEW_WITH_METADATA:
            end = 8 + int.from_bytes(raw[4:8], "big")
            try:
                metadata = json.loads(raw[8:end])
            except ValueError as error:
                log.debug("a preview with unreadable metadata: %s", error)
                return
            prompt_id = metadata.get("prompt_id") if isinstance(metadata, dict) else None
            if isinstance(prompt_id, str):
                self._tell(prompt_id, "preview", {"node": metadata.get("node_id"), "image": raw[end:]})

    def _tell(self, prompt_id: str, kind: str, data: dict[str, Any]) -> None:
        with self._lock:
            for inbox in self._watches.get(prompt_id, ()):
                inbox.put((kind, data))

    def _tell_all(self, kind: str) -> None:
        with self._lock:
            for inboxes in self._watches.values():
                for inbox in inboxes:
                    inbox.put((kind, {}))
