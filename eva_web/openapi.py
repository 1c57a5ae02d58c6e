"""``GET /api/openapi.json``: every route of the table, described for programs (OpenAPI 3.1).

https://spec.openapis.org/oas/v3.1.0. Built from the route table and ``openapi_operations``, so that a route can neither be
forgotten here nor be described twice; what is a page or a file is described from the table alone.
"""

from __future__ import annotations

import functools
from typing import Any

from eva_env_base import __version__
from eva_web import openapi_operations as operations
from eva_web.messages import Request, Response, json_response

_TAIL = "<rest>"
_KINDS = {"/video/": "video/*", "/thumb/": "image/jpeg", "/filmstrip/": "image/jpeg", "/static/": "*/*", "/metrics": "text/plain"}


def openapi(request: Request) -> Response:
    return json_response(document(request.app.access.required), headers={"Cache-Control": "private, max-age=60"})


@functools.cache
def document(token_required: bool) -> dict[str, Any]:
    """The description. ``token_required``: whether this server demands one."""
    from eva_web.routes import ROUTES  # the table names this module's handler

    paths: dict[str, Any] = {}
    for route in ROUTES:
        path = route.path.replace(_TAIL, "{name}")
        described = operations.OPERATIONS.get((route.method, route.path), operations.Operation(_first_line(route.handler.__doc__)))
        found = _operation(route.path, described)
        found["operationId"] = f"{route.method.lower()}_{route.path.strip('/').replace(_TAIL, 'name').replace('/', '_').replace('.', '_')}"
        if token_required and not route.open:
            found["security"] = [{"token": []}, {"cookie": []}]
        paths.setdefault(path, {})[route.method.lower()] = found
    return {
        "openapi": "3.1.0",
        "info": {"title": "EVA review server", "version": __version__, "description": "See docs/http_api.md for the words."},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": operations.SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "eva_PORT"},
            },
        },
    }


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _operation(path: str, described: operations.Operation) -> dict[str, Any]:
    parameters = list(described.parameters)
    if path.endswith(_TAIL):
        parameters.insert(0, {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}})
    kind = described.kind or next((kind for prefix, kind in _KINDS.items() if path.startswith(prefix)), None)
    if kind is None:
        kind = "application/json" if path.startswith("/api/") or path == "/health" or described.body is not None else "text/html"
    content: dict[str, Any] = {kind: {"schema": described.answer} if described.answer is not None else {}}
    error = {"description": "Refused; the message says why.", "content": {"application/json": {"schema": operations.ref("Error")}}}
    found: dict[str, Any] = {
        "summary": described.summary,
        "parameters": parameters,
        "responses": {"200": {"description": "Done.", "content": content}, **described.more, "default": error},
    }
    if described.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": described.body}}}
    return {key: value for key, value in found.items() if value not in ("", [])}
