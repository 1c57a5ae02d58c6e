"""A ComfyUI for tests: the routes and messages the client uses, with a switch for every fault, in a thread on 127.0.0.1.

Unlike the simulator it renders nothing and does exactly what a test scripts, down to cutting a connection at one step.
"""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from typing import Any

from aiohttp import WSMsgType, web

JPEG = b"\xff\xd8\xff\xe0fake"
GRAPH = {
    "1": {"class_type": "KSampler", "inputs": {"steps": 3, "seed": 1}, "_meta": {"title": "My sampler"}},
    "2": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "video/x", "video": ["1", 0]}, "_meta": {"title": "Save Video"}},
}
RAISED = {  # outcome -> type and message of the exception a node raises
    "error": ("ValueError", "bad thing\n"),
    "oom": (
        "torch.OutOfMemoryError",
        "Allocation on device 0 would exceed\nThis error means you ran out of memory on your GPU.\n\nTIPS: x",
    ),
    "disk_full": ("av.error.OSError", "[Errno 28] No space left on device: '/out/x.mp4'"),
}


class FakeComfy:
    """Start with ``with FakeComfy() as server``. Faults are plain attributes, read when the moment comes."""

    def __init__(self, base: str = "", token: str | None = None):
        self.base, self.token = base, token
        self.port = 0
        self.hold = threading.Event()  # cleared: a running job waits after its first step
        self.hold.set()
        self.websocket_works = True
        self.history_lag = 0  # so many history requests answer {} after a job ended
        self.outcome = "success"  # or no_output, cached, or one of RAISED
        self.posts_lost_after_taking = 0  # take the prompt, then cut the connection
        self.posts_lost_before_taking = 0
        self.away_after_loss = 0  # then so many further requests answer 502
        self.gateway_errors = 0  # so many requests answer 502
        self.view_body = b"0123456789" * 100
        self.view_cuts = 0  # so many downloads end half way
        self.preview_metadata = True
        self.chooses_ids = False  # as servers did before clients could
        self.interrupts_anything = False  # as servers did before they heeded the id
        self.object_info: dict[str, Any] = {}
        self.answer_prompt: tuple[int, Any] | None = None
        self.posts: list[dict[str, Any]] = []
        self.executed: list[str] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._reset()

    def _reset(self) -> None:
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.pending: list[list[Any]] = []
        self.running: list[list[Any]] = []
        self.history: dict[str, Any] = {}
        self.interrupted: set[str] = set()
        self._number = 0

    # ------------------------------------------------------------ control, from the test's thread
    def __enter__(self) -> FakeComfy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base}"

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._main, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def restart(self) -> None:
        """Same port, nothing remembered."""
        self.stop()
        self._reset()
        self.start()

    def cut_sockets(self) -> None:
        """Cuts every WebSocket without a closing handshake, as a dying proxy does."""

        def cut() -> None:
            for socket in list(self.sockets.values()):
                transport = socket._req.transport if socket._req is not None else None
                if transport is not None:
                    transport.abort()

        self._loop.call_soon_threadsafe(cut)

    # ------------------------------------------------------------ server
    def _main(self, ready: threading.Event) -> None:
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._wake = asyncio.Event()
        app = web.Application(middlewares=[self._gate])
        app.router.add_get(self.base + "/ws", self._ws)
        app.router.add_post(self.base + "/prompt", self._prompt)
        app.router.add_get(self.base + "/queue", self._get_queue)
        app.router.add_post(self.base + "/queue", self._post_queue)
        app.router.add_get(self.base + "/history/{id}", self._get_history)
        app.router.add_get(self.base + "/history", self._all_history)
        app.router.add_post(self.base + "/interrupt", self._interrupt)
        app.router.add_get(self.base + "/object_info", self._info)
        app.router.add_get(self.base + "/object_info/{name}", self._info)
        app.router.add_get(self.base + "/system_stats", self._stats)
        app.router.add_get(self.base + "/view", self._view)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        worker = asyncio.create_task(self._work())
        ready.set()
        await self._end.wait()
        worker.cancel()
        for socket in list(self.sockets.values()):
            await socket.close()
        await runner.cleanup()

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        if self.gateway_errors > 0:
            self.gateway_errors -= 1
            return web.Response(status=502, text="Bad gateway")
        given = request.headers.get("Authorization", "") == f"Bearer {self.token}" or request.query.get("token") == self.token
        if self.token and not given:
            return web.Response(status=401, text="no")
        return await handler(request)

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        if not self.websocket_works:
            return web.Response(status=404)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sid = request.query.get("clientId", "anonymous")
        self.sockets[sid] = socket
        await socket.send_json({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": sid}})
        async for message in socket:
            if message.type == WSMsgType.ERROR:
                break
        self.sockets.pop(sid, None)
        return socket

    async def _prompt(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.posts_lost_before_taking > 0:
            self.posts_lost_before_taking -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        self.posts.append(body)
        if self.answer_prompt is not None and self.answer_prompt[0] >= 400:
            return self._answer(*self.answer_prompt)
        number = self._number
        self._number += 1
        prompt_id = f"server-{number}" if self.chooses_ids else body["prompt_id"]
        extra = {**body.get("extra_data", {}), "client_id": body.get("client_id")}
        self.pending.append([number, prompt_id, body["prompt"], extra, ["2"]])
        self._wake.set()
        if self.posts_lost_after_taking > 0:
            self.posts_lost_after_taking -= 1
            self.gateway_errors = self.away_after_loss
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        answer = {"prompt_id": prompt_id, "number": number, "node_errors": {}}
        if self.answer_prompt is not None:
            answer |= self.answer_prompt[1]
        return web.json_response(answer)

    @staticmethod
    def _answer(status: int, body: Any) -> web.Response:
        return web.Response(status=status, text=body) if isinstance(body, str) else web.json_response(body, status=status)

    async def _get_queue(self, _: web.Request) -> web.Response:
        # Heap order is not run order: the newest first is the worst case a client can meet.
        return web.json_response({"queue_running": self.running, "queue_pending": self.pending[::-1]})

    async def _post_queue(self, request: web.Request) -> web.Response:
        for wanted in (await request.json()).get("delete", []):
            for item in self.pending:
                if item[1] == wanted:
                    self.pending.remove(item)
                    for sid in list(self.sockets):
                        await self._send(
                            sid, json.dumps({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": len(self.pending)}}}})
                        )
                    break
        return web.Response()

    async def _get_history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        if prompt_id in self.history and self.history_lag > 0:
            self.history_lag -= 1
            return web.json_response({})
        return web.json_response({prompt_id: self.history[prompt_id]} if prompt_id in self.history else {})

    async def _all_history(self, request: web.Request) -> web.Response:
        return web.json_response(dict(list(self.history.items())[-int(request.query["max_items"]) :]))

    async def _interrupt(self, request: web.Request) -> web.Response:
        body = await request.json()
        for item in self.running:
            if self.interrupts_anything or body.get("prompt_id", item[1]) == item[1]:
                self.interrupted.add(item[1])
        return web.Response()

    async def _info(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name")
        return web.json_response(self.object_info if name is None else {k: v for k, v in self.object_info.items() if k == name})

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response({"system": {"comfyui_version": "0.8.0"}, "devices": []})

    async def _view(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("filename") == "gone.mp4":
            return web.Response(status=404)
        response = web.StreamResponse(headers={"Content-Type": "video/mp4", "Content-Length": str(len(self.view_body))})
        await response.prepare(request)
        if self.view_cuts > 0:
            self.view_cuts -= 1
            await response.write(self.view_body[: len(self.view_body) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(self.view_body)
        return response

    # ------------------------------------------------------------ running prompts
    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            if not self.pending:
                self._wake.clear()
                continue
            self.pending.sort(key=lambda item: item[0])
            item = self.pending.pop(0)
            self.running.append(item)
            await self._execute(item)

    async def _execute(self, item: list[Any]) -> None:
        _, prompt_id, graph, extra, _ = item
        messages: list[list[Any]] = []
        self.executed.append(prompt_id)

        async def tell(kind: str, **data: Any) -> None:
            stamped = {**data, "prompt_id": prompt_id}
            if kind.startswith("execution"):
                stamped["timestamp"] = int(time.time() * 1000)
                messages.append([kind, stamped])
            await self._send(extra.get("client_id"), json.dumps({"type": kind, "data": stamped}))

        await tell("execution_start")
        cached = self.outcome == "cached"
        await tell("execution_cached", nodes=list(graph) if cached else [])
        outcome = self.outcome
        for step in range(1, 4) if not cached else ():
            await tell("executing", node="1", display_node="1")
            await tell("progress_state", nodes={"1": {"value": step, "max": 3, "state": "running", "display_node_id": "1"}})
            await self._send_preview(extra.get("client_id"), prompt_id)
            await tell("progress", node="1", value=step, max=3)
            while not self.hold.is_set() and prompt_id not in self.interrupted:
                await asyncio.sleep(0.01)
            if prompt_id in self.interrupted:
                outcome = "interrupted"
                break
        outputs: dict[str, Any] = {}
        if outcome in ("success", "cached"):
            outputs = {"2": {"images": [{"filename": f"{prompt_id}.mp4", "subfolder": "video", "type": "output"}], "animated": [True]}}
            await tell("executed", node="2", output=outputs["2"])
        if outcome == "interrupted":
            await tell("execution_interrupted", node_id="1", node_type="KSampler", executed=[])
        elif outcome in RAISED:
            kind, text = RAISED[outcome]
            await tell("execution_error", node_id="1", node_type="KSampler", exception_type=kind, exception_message=text, executed=[])
        else:
            await tell("execution_success")
        good = outcome in ("success", "cached", "no_output")
        self.running.remove(item)
        status = {"status_str": "success" if good else "error", "completed": good, "messages": messages}
        self.history[prompt_id] = {"prompt": item, "outputs": outputs, "status": status, "meta": {}}
        await tell("executing", node=None)

    async def _send(self, client_id: str | None, data: str | bytes) -> None:
        socket = self.sockets.get(client_id or "")
        if socket is None or socket.closed:
            return
        try:
            await (socket.send_bytes(data) if isinstance(data, bytes) else socket.send_str(data))
        except ConnectionError:
            self.sockets.pop(client_id or "", None)

    async def _send_preview(self, client_id: str | None, prompt_id: str) -> None:
        if self.preview_metadata:
            metadata = json.dumps({"node_id": "1", "prompt_id": prompt_id, "image_type": "image/jpeg"}).encode()
            await self._send(client_id, struct.pack(">II", 4, len(metadata)) + metadata + JPEG)
        else:
            await self._send(client_id, struct.pack(">II", 1, 1) + JPEG)
