"""What a handler receives and returns. Handlers are plain functions ``(Request) -> Response``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from eva_web.app import App

JSON_TYPE = "application/json; charset=utf-8"
_ENCODE = msgspec.json.Encoder().encode  # five times as fast as json.dumps; writes NaN and infinities as null


class HttpError(Exception):
    """An answer that is not a success. ``extra`` goes into the JSON body beside ``status`` and ``message``."""

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None, **extra: Any):
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.extra = extra


@dataclass(frozen=True)
class Request:
    """One complete request. ``path`` is still percent-encoded; ``rest`` is the decoded tail of a ``/prefix/<rest>`` route."""

    app: App
    id: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # lower-case names; a repeated header is joined with ", "
    body: bytes
    client: str
    rest: str = ""

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


@dataclass
class FileBody:
    """``length`` bytes of an open file from ``offset``. Whoever sends it closes ``fd``."""

    fd: int
    offset: int
    length: int

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass
class Response:
    """``body`` is sent whole; a ``FileBody`` is streamed. HEAD sends the same headers without a body."""

    status: int = HTTPStatus.OK
    body: bytes | FileBody = b""
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    may_compress: bool = False
    id: str = "-"

    @property
    def length(self) -> int:
        return self.body.length if isinstance(self.body, FileBody) else len(self.body)


def json_response(value: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """``value`` as UTF-8 JSON. NaN and infinities, which JSON lacks, become null."""
    try:
        body = _ENCODE(value)
    except (TypeError, ValueError, OverflowError):  # a number over 64 bits, half a surrogate pair
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        body = text.encode("utf-8", errors="replace")
    return Response(status, body, JSON_TYPE, {"Cache-Control": "no-store", **(headers or {})}, may_compress=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def error_response(error: HttpError, request_id: str) -> Response:
    body = {"status": "error", "message": str(error), "request_id": request_id, **error.extra}
    return json_response(body, error.status, error.headers)
