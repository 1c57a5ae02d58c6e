"""The route table and the handlers. ``/sim/...`` is ours; everything else answers as a ComfyUI 0.8.0 does."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from eva_env_base import UsageError
from eva_sim import jobs_api, names
from eva_sim.hub import FEATURES
from eva_sim.surface import quality_of
from eva_sim.validation import top_error, validate_prompt

if TYPE_CHECKING:
    from eva_sim.server import SimServer

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
VERSION = "0.8.0-eva-sim"
TROUBLE = "500 Internal Server Error\n\nServer got itself in trouble"
PAGE = "<!doctype html><title>EVA simulator</title><p>This is the EVA simulator, not a real ComfyUI. It has an API and no pages.</p>"


def add_routes(app: web.Application, server: SimServer) -> None:
    """Registers every route of ``server``, bare and under ``/api``."""
    api = _Api(server)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/ws", server.hub.handle),
        ("GET", "/prompt", api.get_prompt),
        ("POST", "/prompt", api.post_prompt),
        ("GET", "/queue", api.get_queue),
        ("POST", "/queue", api.post_queue),
        ("POST", "/interrupt", api.interrupt),
        ("GET", "/history", api.get_history),
        ("GET", "/history/{prompt_id}", api.get_history),
        ("POST", "/history", api.post_history),
        ("GET", "/object_info", api.object_info),
        ("GET", "/object_info/{node_class}", api.object_info),
        ("GET", "/system_stats", api.system_stats),
        ("GET", "/features", api.features),
        ("GET", "/models", api.models),
        ("GET", "/models/{folder}", api.models),
        ("GET", "/embeddings", api.empty_list),
        ("GET", "/extensions", api.empty_list),
        ("GET", "/settings", api.empty_object),
        ("GET", "/users", api.users),
        ("GET", "/view", api.view),
        ("POST", "/upload/image", api.upload),
        ("POST", "/free", api.free),
        ("GET", "/internal/folder_paths", api.folder_paths),
        ("GET", "/internal/files/{kind}", api.files),
    ]
    for prefix in ("", "/api"):
        for method, path, handler in table:
            app.router.add_route(method, prefix + path, handler)
            if method == "GET" and path != "/ws":
                app.router.add_route("HEAD", prefix + path, handler)
    for method, path, handler in (
        ("GET", "/", api.page),
        ("GET", "/api/jobs", api.jobs),
        ("GET", "/api/jobs/{job_id}", api.job),
        ("GET", "/sim/stats", api.sim_stats),
        ("GET", "/sim/truth", api.sim_truth),
        ("GET", "/sim/fault", api.sim_faults),
        ("POST", "/sim/fault", api.sim_fault),
    ):
        app.router.add_route(method, path, handler)


class _Api:
    """The handlers. One public method a route."""

    def __init__(self, server: SimServer):
        self.s = server

    # ------------------------------------------------------------------ prompts
    async def get_prompt(self, request: web.Request) -> web.Response:
        return web.json_response({"exec_info": {"queue_remaining": self.s.queue.remaining()}})

    async def post_prompt(self, request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.text())
        except ValueError as error:  # the real server answers this so, too
            log.warning("POST /prompt: the body is not JSON: %s", error)
            return web.Response(status=500, text=TROUBLE)
        if not isinstance(body, dict) or "prompt" not in body:
            refusal = top_error("no_prompt", "No prompt provided", "No prompt provided")
            return web.json_response({"error": refusal, "node_errors": {}}, status=400)
        prompt = body["prompt"]
        if not isinstance(prompt, dict):
            log.warning("POST /prompt: prompt is a %s, not an object", type(prompt).__name__)
            return web.Response(status=500, text=TROUBLE)
        verdict = validate_prompt(prompt, self.s.table, self._image_exists)
        if not verdict.ok:
            return web.json_response({"error": verdict.error, "node_errors": verdict.node_errors}, status=400)
        extra = dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        extra["create_time"] = int(time.time() * 1000)
        number = float(body["number"]) if "number" in body else None
        prompt_id = str(body.get("prompt_id") or uuid.uuid4())
        job = self.s.queue.put(prompt_id, prompt, extra, verdict.outputs, number, bool(body.get("front")))
        return web.json_response({"prompt_id": prompt_id, "number": job.number, "node_errors": verdict.node_errors})

    def _image_exists(self, name: str) -> bool:
        folder = self.s.folders.input
        path = Path(os.path.normpath(folder / name))
        return name == "example.png" or (folder in path.parents and path.is_file())

    async def get_queue(self, request: web.Request) -> web.Response:
        running, pending = self.s.queue.snapshot()
        return web.json_response({"queue_running": [job.row() for job in running], "queue_pending": [job.row() for job in pending]})

    async def post_queue(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        if body.get("clear"):
            self.s.queue.clear()
        if "delete" in body:
            self.s.queue.delete(list(body["delete"]))
        return web.Response(status=200)

    async def interrupt(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        self.s.queue.interrupt_running(body.get("prompt_id"))
        return web.Response(status=200)

    async def get_history(self, request: web.Request) -> web.Response:
        count, offset = request.query.get("max_items"), request.query.get("offset", "-1")
        history = self.s.queue.history(request.match_info.get("prompt_id"), int(count) if count else None, int(offset))
        return web.json_response(history)

    async def post_history(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        if body.get("clear"):
            self.s.queue.clear_history()
        if "delete" in body:
            self.s.queue.delete_history(list(body["delete"]))
        return web.Response(status=200)

    async def free(self, request: web.Request) -> web.Response:
        body = await _json_object(request)
        if body.get("free_memory"):
            self.s.executor.free_memory = True
        return web.Response(status=200)

    async def jobs(self, request: web.Request) -> web.Response:
        status, body = jobs_api.listing(self.s.queue, request.query)
        return web.json_response(body, status=status)

    async def job(self, request: web.Request) -> web.Response:
        found = jobs_api.detail(self.s.queue, request.match_info["job_id"])
        return web.json_response(found) if found else web.json_response({"error": "Job not found"}, status=404)

    # ------------------------------------------------------------------ what the server is
    async def page(self, request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def object_info(self, request: web.Request) -> web.Response:
        wanted = request.match_info.get("node_class")
        if wanted is None:
            return web.json_response(self.s.table)
        return web.json_response({wanted: self.s.table[wanted]} if wanted in self.s.table else {})

    async def system_stats(self, request: web.Request) -> web.Response:
        system = {
            "os": sys.platform,
            "ram_total": 64 << 30,
            "ram_free": 48 << 30,
            "comfyui_version": VERSION,
            "required_frontend_version": "1.35.9",
            "installed_templates_version": "0.7.67",
            "required_templates_version": "0.7.67",
            "python_version": sys.version,
            "pytorch_version": "none (simulator)",
            "embedded_python": False,
            "argv": ["eva_sim", "--host", self.s.host, "--port", str(self.s.port), "--output-directory", str(self.s.output_dir)],
            "eva_simulator": True,
            "eva_simulator_seed": self.s.seed,
        }
        device = {"name": "EVA simulator (no GPU)", "type": "cpu", "index": None, "vram_total": 48 << 30, "vram_free": 40 << 30}
        device |= {"torch_vram_total": 48 << 30, "torch_vram_free": 40 << 30}
        return web.json_response({"system": system, "devices": [device], "machine": platform.machine()})

    async def features(self, request: web.Request) -> web.Response:
        return web.json_response(FEATURES)

    async def models(self, request: web.Request) -> web.Response:
        folder = request.match_info.get("folder")
        if folder is None:
            return web.json_response(list(names.MODEL_FOLDERS))
        if folder not in names.MODEL_FOLDERS:
            return web.Response(status=404)
        return web.json_response(list(names.MODEL_FOLDERS[folder]))

    async def empty_list(self, request: web.Request) -> web.Response:
        return web.json_response([])

    async def empty_object(self, request: web.Request) -> web.Response:
        return web.json_response({})

    async def users(self, request: web.Request) -> web.Response:
        return web.json_response({"storage": "server", "migrated": False})

    async def folder_paths(self, request: web.Request) -> web.Response:
        return web.json_response({name: [f"(simulated)/models/{name}"] for name in names.MODEL_FOLDERS})

    # ------------------------------------------------------------------ files
    async def files(self, request: web.Request) -> web.Response:
        folder = self.s.folders.of(request.match_info["kind"])
        if folder is None:
            return web.json_response({"error": "Invalid directory type"}, status=400)
        found = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        return web.json_response(found)

    async def view(self, request: web.Request) -> web.StreamResponse:
        name = request.query.get("filename")
        if not name:
            return web.Response(status=404)
        if name.startswith("/") or ".." in name:
            return web.Response(status=400)
        root = self.s.folders.of(request.query.get("type", "output"))
        if root is None:
            return web.Response(status=400)
        folder = Path(os.path.normpath(root / request.query.get("subfolder", "")))
        if folder != root and root not in folder.parents:
            return web.Response(status=403)
        path = folder / Path(name).name
        if not path.is_file():
            return web.Response(status=404)
        return web.FileResponse(path, headers={"Content-Disposition": f'filename="{path.name}"'})

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        image = form.get("image")
        if not isinstance(image, web.FileField) or not image.filename:
            return web.Response(status=400)
        name = Path(image.filename).name
        (self.s.folders.input / name).write_bytes(image.file.read())
        return web.json_response({"name": name, "subfolder": "", "type": "input"})

    # ------------------------------------------------------------------ ours
    async def sim_stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.s.queue.stats())

    async def sim_truth(self, request: web.Request) -> web.Response:
        """Ground truth of the hidden surface, for tests and benchmarks only: ``?prompt_id=`` or the parameters."""
        query = dict(request.query)
        if "prompt_id" in query:
            made = self.s.executor.made.get(query["prompt_id"])
            return web.json_response(made if made else {"error": "no clip of that prompt"}, status=200 if made else 404)
        try:
            levels = self.s.surface.defects(query)
        except (KeyError, ValueError) as error:
            return web.json_response({"error": f"parameter missing or wrong: {error}"}, status=400)
        return web.json_response({"simulator": True, "quality": quality_of(levels), "defects": levels.as_dict()})

    async def sim_faults(self, request: web.Request) -> web.Response:
        return web.json_response({"faults": self.s.faults.describe(), "jobs_started": self.s.faults.jobs})

    async def sim_fault(self, request: web.Request) -> web.Response:
        """Body ``{"clear": true}`` and/or ``{"faults": ["kind:key=value", ...]}``."""
        body = await _json_object(request)
        if body.get("clear"):
            self.s.faults.clear()
        try:
            for text in body.get("faults", []):
                self.s.faults.add(str(text))
        except UsageError as error:
            return web.json_response({"error": str(error)}, status=400)
        return await self.sim_faults(request)


async def _json_object(request: web.Request) -> dict[str, Any]:
    """The body as an object; an empty or malformed one counts as ``{}``, as in the real handlers that share this."""
    text = await request.text()
    try:
        body = json.loads(text) if text.strip() else {}
    except ValueError as error:
        log.warning("%s %s: the body is not JSON: %s", request.method, request.path, error)
        return {}
    return body if isinstance(body, dict) else {}
