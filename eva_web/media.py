"""``/video/<name>``: the clip itself, in full or in part."""

from __future__ import annotations

import logging
import os
from pathlib import PurePosixPath
from urllib.parse import quote

from eva_state.video_folder import NotAClip
from eva_web.messages import FileBody, HttpError, Request, Response
from eva_web.ranges import Unsatisfiable, Validators, parse_range, precondition, range_applies

log = logging.getLogger(__name__)

TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".gif": "image/gif",
}
# private: a shared cache (Cloudflare keeps media by its extension) must not hand a clip to whoever has no token
CACHE = "private, max-age=600"


def open_clip(request: Request, name: str) -> tuple[int, os.stat_result]:
    """An open descriptor of the clip and its status. Raises 400 for a name that cannot be, 404 where there is no such clip."""
    try:
        descriptor, status, _ = request.app.index.folder.open(name)
    except NotAClip as error:
        raise HttpError(400, str(error)) from None
    except FileNotFoundError:
        raise HttpError(404, f"there is no clip {name!r} in the video folder") from None
    except PermissionError:
        raise HttpError(403, f"the clip {name!r} may not be read by the user who runs this server") from None
    except OSError as error:
        log.warning("clip %r: %s", name, error)
        raise HttpError(404, f"the clip {name!r} cannot be read: {error.strerror or error}") from None
    return descriptor, status


def validators_of(status: os.stat_result) -> Validators:
    """Strong: size, time in nanoseconds and inode change whenever a clip is replaced or written to."""
    return Validators(f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"', status.st_mtime)


def video(request: Request) -> Response:
    name = request.rest
    descriptor, status = open_clip(request, name)
    body = FileBody(descriptor, 0, status.st_size)
    try:
        response = _respond(request, name, body, validators_of(status))
    except BaseException:
        body.close()
        raise
    if response.body is not body:
        body.close()
    return response


def _respond(request: Request, name: str, body: FileBody, validators: Validators) -> Response:
    size = body.length
    headers = {**validators.headers(), "Accept-Ranges": "bytes", "Cache-Control": CACHE}
    code = precondition(request.headers, validators)
    if code == 412:
        raise HttpError(412, "the clip has changed meanwhile", headers=validators.headers())
    if code is not None:
        return Response(code, headers=headers)
    if request.query.get("download"):
        file_name = name.rpartition("/")[2]
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"  # RFC 6266, RFC 8187
    kind = TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")
    # RFC 9110 section 14.2: Range is defined for GET alone
    wanted = request.header("range") if request.method == "GET" else None
    if wanted is not None and range_applies(request.header("if-range"), validators):
        try:
            part = parse_range(wanted, size)
        except Unsatisfiable:
            raise HttpError(
                416, f"the clip has {size} bytes", headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
            ) from None
        if part is not None:
            body.offset, body.length = part
            headers["Content-Range"] = f"bytes {body.offset}-{body.offset + body.length - 1}/{size}"
            return Response(206, body, kind, headers)
    return Response(200, body, kind, headers)
