"""The pages, their static files, and logging in."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs

from eva_web.fields import json_body
from eva_web.messages import HttpError, Request, Response, json_response
from eva_web.ranges import Validators, precondition
from eva_web.security import PAGE_HEADERS, accepts_gzip, local_path

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
COMPRESSED = frozenset({".html", ".css", ".js", ".mjs", ".json", ".svg", ".txt", ".webmanifest"})
MAX_STATIC = 4_000_000  # bytes; what is served from memory must stay small


@dataclass(frozen=True)
class _Static:
    body: bytes
    packed: bytes | None
    kind: str
    validators: Validators
    stamp: tuple[int, int]


class StaticFiles:
    """Files below ``root``, kept in memory with their compressed form; a changed file is read again."""

    def __init__(self, root: Path):
        self.root = root
        self._real = os.path.realpath(root)
        self._kept: dict[str, _Static] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> _Static:
        """Raises ``HttpError`` 404 for anything that is not a plain file of a known type inside ``root``."""
        suffix = PurePosixPath(name).suffix.lower()
        parts = name.split("/")
        if suffix not in TYPES or "\0" in name or "\\" in name or any(not part or part.startswith(".") for part in parts):
            raise HttpError(404, "there is no such file")
        real = os.path.realpath(Path(self._real, *parts))
        if not real.startswith(self._real + os.sep):
            raise HttpError(404, "there is no such file")
        try:
            status = Path(real).stat()
            stamp = (status.st_mtime_ns, status.st_size)
            with self._lock:
                kept = self._kept.get(name)
            if kept is not None and kept.stamp == stamp:
                return kept
            if not Path(real).is_file() or status.st_size > MAX_STATIC:
                raise HttpError(404, "there is no such file")
            body = Path(real).read_bytes()
        except OSError:
            raise HttpError(404, "there is no such file") from None
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        packed = gzip.compress(body, compresslevel=6, mtime=0) if suffix in COMPRESSED and len(body) > 1000 else None
        kept = _Static(body, packed, TYPES[suffix], Validators(etag, status.st_mtime), stamp)
        with self._lock:
            self._kept[name] = kept
        return kept


def _file_response(request: Request, name: str, cache: str) -> Response:
    found = request.app.static.get(name)
    packed = found.packed is not None and accepts_gzip(request.header("accept-encoding"))
    etag = found.validators.etag[:-1] + '-gz"' if packed else found.validators.etag  # RFC 9110 8.8.3.3: one tag a coding
    validators = Validators(etag, found.validators.mtime)
    headers = {**validators.headers(), "Cache-Control": cache, "Vary": "Accept-Encoding"}
    status = precondition(request.headers, validators)
    if status is not None:
        return Response(status, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    body = found.packed if packed and found.packed is not None else found.body
    return Response(200, body, found.kind, headers)


def page(name: str) -> Callable[[Request], Response]:
    """A handler for one page. Its script and data come from ``/static`` and ``/api``; nothing is inline."""

    def show(request: Request) -> Response:
        found = request.app.static.get(name)
        response = Response(200, found.body, found.kind, {**PAGE_HEADERS, "Cross-Origin-Opener-Policy": "same-origin"})
        response.may_compress = True
        return response

    return show


def static(request: Request) -> Response:
    # no-cache: kept, but asked about each time, so that an updated server never runs with old scripts
    response = _file_response(request, request.rest, "no-cache")
    if response.content_type in (TYPES[".svg"], TYPES[".html"]):
        response.headers["Content-Security-Policy"] = PAGE_HEADERS["Content-Security-Policy"]
    return response


def favicon(request: Request) -> Response:
    try:
        return _file_response(request, "favicon.svg", "max-age=86400")
    except HttpError:
        return Response(204)


def login_page(request: Request) -> Response:
    return page("login.html")(request)


def login(request: Request) -> Response:
    """The token as JSON ``{"token", "next"?}`` (answered with JSON) or as a form (answered with a redirect)."""
    as_form = "form" in request.headers.get("content-type", "")
    if as_form:
        form = parse_qs(request.body.decode("utf-8", "replace"), max_num_fields=20)
        token, onward = form.get("token", [""])[0], form.get("next", [""])[0]
    else:
        body = json_body(request)
        token, onward = body.get("token", ""), body.get("next", "")
    if not isinstance(token, str) or not token:
        raise HttpError(422, "the token is missing", fields={"token": "is missing"})
    target = local_path(onward if isinstance(onward, str) else None)
    headers: dict[str, str] = {}
    if request.app.access.required:
        if not request.app.check_token(request, token):
            raise HttpError(401, "that token is wrong", headers={"WWW-Authenticate": 'Bearer realm="EVA"'})
        headers["Set-Cookie"] = request.app.access.cookie(request.headers)
    if as_form:
        return Response(303, headers={**headers, "Location": target, "Cache-Control": "no-store"})
    return json_response({"status": "success", "next": target}, headers=headers)


def logout(request: Request) -> Response:
    name = request.app.access.cookie_name
    return json_response({"status": "success"}, headers={"Set-Cookie": f"{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"})
