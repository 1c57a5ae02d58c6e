"""WebSocket side: who is connected, and messages from the worker thread to them, in order.

Binary previews: four bytes of event type, big endian. Type 1 is followed by four bytes of image format (1 JPEG, 2 PNG) and
the image; type 4 by four bytes of length, that much JSON, and the image.
Source: https://docs.comfy.org/development/comfyui-server/comms_messages and recorded traffic.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

log = logging.getLogger(__name__)

FEATURES: dict[str, Any] = {
    "supports_preview_metadata": True,
    "max_upload_size": 104857600,
    "extension": {"manager": {"supports_v4": True}},
}
SEND_SECONDS = 10.0  # a client that reads nothing for so long must not hold up the others
PREVIEW, PREVIEW_WITH_METADATA, JPEG_FORMAT = 1, 4, 1


class Hub:
    """The sockets of one server. Methods without ``async`` may be called from any thread."""

    def __init__(self, queue_remaining: Callable[[], int]):
        self._queue_remaining = queue_remaining
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._transports: dict[str, asyncio.Transport | None] = {}
        self._flags: dict[str, dict[str, Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outgoing: asyncio.Queue[tuple[str | bytes, str | None]] = asyncio.Queue()
        self.running_client: str | None = None
        self.running_node: str | None = None

    # ------------------------------------------------------------------ from any thread
    def send(self, kind: str, data: dict[str, Any], client: str | None = None) -> None:
        """Queues a message for ``client``, or for everybody. Lost, like the real one's, when nobody listens."""
        self._put(json.dumps({"type": kind, "data": data}), client)

    def send_status(self) -> None:
        """Tells everybody how many prompts are waiting or running."""
        self.send("status", {"status": {"exec_info": {"queue_remaining": self._queue_remaining()}}})

    def send_preview(self, image: bytes, metadata: dict[str, Any], client: str | None) -> None:
        """Queues a JPEG preview in the form the client asked for."""
        if self.wants_metadata(client):
            head = json.dumps({**metadata, "image_type": "image/jpeg"}).encode("utf-8")
            self._put(struct.pack(">II", PREVIEW_WITH_METADATA, len(head)) + head + image, client)
        else:
            self._put(struct.pack(">II", PREVIEW, JPEG_FORMAT) + image, client)

    def wants_metadata(self, client: str | None) -> bool:
        """Whether this client announced that it reads previews with metadata."""
        return bool(client and self._flags.get(client, {}).get("supports_preview_metadata"))

    @property
    def listeners(self) -> int:
        """How many sockets are open."""
        return len(self._sockets)

    def drop_all(self) -> None:
        """Cuts every socket without a closing handshake: the client sees code 1006."""
        self._call(self._abort)

    def _put(self, message: str | bytes, client: str | None) -> None:
        self._call(self._outgoing.put_nowait, (message, client))

    def _call(self, function: Callable[..., Any], *args: Any) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop closed in between: the server is gone, so is everybody who would read this
            log.debug("message dropped: the server has stopped")

    # ------------------------------------------------------------------ on the loop
    async def publish(self) -> None:
        """Sends what was queued, in order, until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            message, client = await self._outgoing.get()
            targets = list(self._sockets.values()) if client is None else [self._sockets[client]] if client in self._sockets else []
            for socket in targets:
                try:
                    sending = socket.send_bytes(message) if isinstance(message, bytes) else socket.send_str(message)
                    await asyncio.wait_for(sending, SEND_SECONDS)
                except asyncio.TimeoutError:
                    log.warning("a client does not read its messages: it is cut off")
                    self._forget(socket)
                except (ConnectionError, RuntimeError) as error:
                    log.debug("a socket is gone: %s", error)

    def _forget(self, socket: web.WebSocketResponse) -> None:
        for client in [one for one, its in self._sockets.items() if its is socket]:
            del self._sockets[client]
            transport = self._transports.pop(client, None)
            if transport is not None:
                transport.abort()

    def _abort(self) -> None:
        for transport in self._transports.values():
            if transport is not None:
                transport.abort()
        self._sockets.clear()

    async def close_all(self) -> None:
        """Closes every socket properly."""
        for socket in list(self._sockets.values()):
            await socket.close(code=1001, message=b"server stops")

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """``GET /ws?clientId=``: one client until it leaves."""
        socket = web.WebSocketResponse(max_msg_size=0, timeout=1.0)
        await socket.prepare(request)
        client = request.query.get("clientId") or uuid.uuid4().hex
        self._transports[client] = request.transport
        self._flags[client] = {}
        self._sockets[client] = socket  # the same id again takes the place of the older socket
        log.debug("client %s connected", client)
        status = {"status": {"exec_info": {"queue_remaining": self._queue_remaining()}}, "sid": client}
        try:
            await socket.send_json({"type": "status", "data": status})
            if client == self.running_client and self.running_node is not None:
                await socket.send_json({"type": "executing", "data": {"node": self.running_node}})
            first = True
            async for message in socket:
                if message.type == WSMsgType.TEXT and first:
                    first = False
                    await self._hello(socket, client, message.data)
        except ConnectionError as error:
            log.debug("client %s: %s", client, error)
        finally:
            if self._sockets.get(client) is socket:
                del self._sockets[client]
                self._transports.pop(client, None)
                self._flags.pop(client, None)
        return socket

    async def _hello(self, socket: web.WebSocketResponse, client: str, text: str) -> None:
        """The first message may say what the client can do; anything else is ignored, as the real server does."""
        try:
            message = json.loads(text)
        except json.JSONDecodeError:
            log.debug("client %s: its first message is not JSON", client)
            return
        if isinstance(message, dict) and message.get("type") == "feature_flags" and isinstance(message.get("data"), dict):
            self._flags[client] = message["data"]
            await socket.send_json({"type": "feature_flags", "data": FEATURES})
