"""The HTTP server: routes of ComfyUI, bare and under ``/api``, and ``/sim/...`` of our own."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from eva_env_base import EvaError, UsageError
from eva_sim.execution import Executor, Pace
from eva_sim.faults import Fault, FaultPlan
from eva_sim.hub import Hub
from eva_sim.jobs import JobQueue
from eva_sim.node_table import object_info
from eva_sim.outputs import Folders
from eva_sim.routes import add_routes
from eva_sim.surface import QualitySurface

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0  # longest wait for a thread at the end; they stop within a frame
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SimServer:
    """One simulated ComfyUI server. ``start`` and ``stop`` run on an event loop; the work is done on a thread.

    ``crash``: what the fault of that name does; by default the server is cut off as if its process had died.
    """

    def __init__(
        self,
        output_dir: Path | str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        speed: float = 1.0,
        job_seconds: float | None = None,
        faults: Iterable[str | Fault] = (),
        crash: Callable[[], None] | None = None,
    ):
        if speed <= 0:
            raise UsageError(f"--speed {speed}: wants a number above 0")
        if job_seconds is not None and job_seconds < 0:
            raise UsageError(f"--job-seconds {job_seconds}: cannot be negative")
        self.host, self.port, self.seed = host, port, seed
        self.output_dir = Path(output_dir).resolve()
        self.faults = FaultPlan(faults)
        self.scratch = Path(tempfile.mkdtemp(prefix="eva-sim-"))
        self.folders = Folders(self.output_dir, self.scratch / "temp", self.scratch / "input")
        self.surface = QualitySurface(seed)
        self.table = object_info()
        self.hub = Hub(lambda: self.queue.remaining())
        self.queue = JobQueue(changed=self.hub.send_status)
        pace = Pace(speed, job_seconds)
        self.executor = Executor(
            self.queue, self.hub, self.surface, self.folders, pace, self.faults, crash or self._crash_in_process, self._go_down
        )
        self._runner: web.AppRunner | None = None
        self._publisher: asyncio.Task[None] | None = None
        self._worker: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._down_until = 0.0
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """Address to connect to."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    # ------------------------------------------------------------------ life
    async def start(self) -> None:
        """Makes the folders, opens the port, starts the worker. Raises :class:`EvaError` saying what is in the way."""
        try:
            for folder in (self.output_dir, self.folders.temp, self.folders.input):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.remove_scratch()
            raise EvaError(f"output folder {self.output_dir} cannot be used: {error.strerror}; choose another with --output-dir") from None
        self._loop = asyncio.get_running_loop()
        app = web.Application(middlewares=[self._gate], client_max_size=100 * 1024 * 1024)
        add_routes(app, self)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            self.remove_scratch()
            if error.errno == errno.EADDRINUSE:
                raise EvaError(
                    f"port {self.port} on {self.host} is in use; stop the other program or choose another --port (0 picks a free one)"
                ) from None
            raise EvaError(f"cannot listen on {self.host} port {self.port}: {error.strerror or error}") from None
        self.port = self._runner.addresses[0][1]
        self._publisher = asyncio.create_task(self.hub.publish())
        await asyncio.sleep(0)  # lets the hub learn its loop before the first job talks to it
        self._worker = threading.Thread(target=self.executor.work, name="eva-sim-worker", daemon=True)
        self._worker.start()
        log.info(
            "EVA simulator (not a real ComfyUI) at %s, quality surface of seed %s, clips go to %s", self.url, self.seed, self.output_dir
        )

    async def stop(self) -> None:
        """Ends at once and cleanly: the running job is dropped, sockets are closed, temporary files are removed."""
        self.queue.stop()
        await self.hub.close_all()
        await self._shut()

    async def die(self) -> None:
        """Ends as a killed process does: connections are cut in the middle."""
        self.queue.stop()
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
        self._cut_connections()
        await self._shut()

    async def _shut(self) -> None:
        if self._publisher is not None:
            self._publisher.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._worker is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._wait_for_threads, self._worker)
        self.remove_scratch()
        self.ended.set()

    def _wait_for_threads(self, worker: threading.Thread) -> None:
        worker.join(STOP_SECONDS)
        self.executor.wait_for_renders(STOP_SECONDS)

    def remove_scratch(self) -> None:
        """Deletes the temporary files: uploads, temporary outputs, renders in progress."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _cut_connections(self) -> None:
        server = self._runner.server if self._runner is not None else None
        for connection in list(server.connections) if server is not None else []:
            if connection.transport is not None:
                connection.transport.abort()

    def _crash_in_process(self) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.die(), self._loop)

    def _go_down(self, seconds: float) -> None:
        """Cuts all connections and, for a while, every new one: a restart as seen from outside."""
        self._down_until = time.monotonic() + seconds
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cut_connections)

    # ------------------------------------------------------------------ every request
    @web.middleware
    async def _gate(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        if time.monotonic() < self._down_until:
            return self._hang_up(request)
        if self._foreign_origin(request):
            return web.Response(status=403)
        path = request.path.removeprefix("/api")
        route = path.strip("/").split("/")[0]
        counted = request.method == "POST" if route == "prompt" else True
        fault = self.faults.for_request(route) if counted and route != "sim" else None
        if fault is not None:
            log.warning("fault %s strikes %s %s", fault.kind, request.method, request.path)
            if fault.kind == "drop":
                if fault.options["when"] == "after":
                    await handler(request)
                return self._hang_up(request)
            if fault.options["mode"] == "validation":
                return web.json_response(_made_up_refusal(), status=400)
            return web.Response(status=int(fault.options["status"]), text="simulated: the server is not available")
        response: web.StreamResponse = await handler(request)
        return response

    @staticmethod
    def _hang_up(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    @staticmethod
    def _foreign_origin(request: web.Request) -> bool:
        """Pages of another origin may not call a server on loopback; nobody else is kept out."""
        origin, host = request.headers.get("Origin"), request.headers.get("Host", "")
        if not origin or urlsplit(f"//{host}").hostname not in LOOPBACK:
            return False
        return urlsplit(origin).netloc.lower() != host.lower()


def _made_up_refusal() -> dict[str, Any]:
    reason = {
        "type": "value_not_in_list",
        "message": "Value not in list",
        "details": "unet_name: 'simulated' not in (list of length 29)",
        "extra_info": {"input_name": "unet_name", "input_config": None, "received_value": "simulated"},
    }
    error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": "", "extra_info": {}}
    return {"error": error, "node_errors": {"1": {"errors": [reason], "dependent_outputs": [], "class_type": "UNETLoader"}}}
