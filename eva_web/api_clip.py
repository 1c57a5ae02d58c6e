"""More of one clip (measurements a frame, the workflow that made it), and searches as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from eva_state.clip_index import Search
from eva_web.api_read import wanted_name, wanted_of
from eva_web.fields import Query
from eva_web.media import CACHE
from eva_web.messages import HttpError, Request, Response, json_response
from eva_web.pictures import Unreadable, made_of
from eva_web.ranges import Validators, precondition

PARTS = ("workflow", "prompt")
EXPORT_PAGE = 2000  # rows read between two pauses, so that other requests are answered meanwhile
EXPORT_MOST = 200_000  # rows
COLUMNS = (
    "name", "created", "score", "manual_overall", "rated", "banned", "reference", "defects", "tags",
    "sampler", "scheduler", "fps", "cfg_scale", "steps", "width", "height", "combo_key", "prompt", "exists",
)  # fmt: skip


def series(request: Request) -> Response:
    """Brightness, change and detail of every frame, measured on demand by the picture helper and kept."""
    name = wanted_name(Query(request.query))
    try:
        path, etag = made_of(request, "series", name)
        body = path.read_bytes()
    except Unreadable as error:
        raise HttpError(422, f"the frames of {name!r} cannot be measured: {error}", fields={"name": str(error)}) from None
    except OSError as error:
        raise HttpError(503, f"the measurements of {name!r} cannot be read: {error.strerror or error}") from None
    headers = {"ETag": etag, "Cache-Control": CACHE}
    if precondition(request.headers, Validators(etag, path.stat().st_mtime)) == 304:
        return Response(304, headers=headers)
    return Response(200, body, "application/json; charset=utf-8", headers, may_compress=True)


def workflow(request: Request) -> Response:
    """What made the clip: stored in its file by ComfyUI, or in its history entry. ``part`` alone is offered as a file for ComfyUI."""
    query = Query(request.query)
    part = query.choice("part", ("", *PARTS), "")
    probe = query.tri("probe")
    name = wanted_name(query)
    if not request.app.index.knows(name):
        raise HttpError(404, f"there is no clip {name!r}, neither in the video folder nor in the state")
    found, source, why = _embedded(request, name)
    if not found:
        row = request.app.index.row(name)
        entry = request.app.store.entry(row.alias or name if row is not None else name) or {}
        found = {key: entry[key] for key in PARTS if isinstance(entry.get(key), Mapping)}
        source = "history"
    if probe:
        return json_response({"name": name, "parts": sorted(found, reverse=True), "reason": None if found else why})
    if not found:
        raise HttpError(404, f"the workflow of {name!r} is not known: {why}, and the history has none")
    if not part:
        return json_response({"name": name, "source": source, "workflow": found.get("workflow"), "prompt": found.get("prompt")})
    if part not in found:
        raise HttpError(404, f"{name!r} carries no {part}, only {' and '.join(found)}")
    response = json_response(found[part])
    file = f"{name.rpartition('/')[2].rpartition('.')[0]}.{part}.json"
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(file, safe='')}"
    return response


def _embedded(request: Request, name: str) -> tuple[dict[str, Any], str, str]:
    """``(workflow and prompt, "clip", why there are none)``."""
    try:
        path, _ = made_of(request, "workflow", name)
        found = json.loads(path.read_text(encoding="utf-8"))
    except Unreadable as error:
        return {}, "clip", f"its file cannot be read ({error})"
    except OSError as error:
        return {}, "clip", f"what was read of its file cannot be opened ({error.strerror or error})"
    except HttpError as error:
        return {}, "clip", str(error)
    return found, "clip", "its file carries none"


def export(request: Request) -> Response:
    """All clips that a search finds, as CSV (RFC 4180, UTF-8 with a byte order mark, which spreadsheets need)."""
    query = Query(request.query)
    wanted = wanted_of(query, request.app)
    query.done()
    text = io.StringIO()
    text.write("\ufeff")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    written = 0
    for items in _pages(request, wanted):
        for item in items:
            writer.writerow([_cell(value) for value in _values(item)])
        written += len(items)
        time.sleep(0.001)
    headers = {"Content-Disposition": 'attachment; filename="clips.csv"', "Cache-Control": "no-store", "X-Total-Count": str(written)}
    return Response(200, text.getvalue().encode("utf-8", "replace"), "text/csv; charset=utf-8", headers, may_compress=True)


def _pages(request: Request, wanted: Search) -> Any:
    for offset in range(0, EXPORT_MOST, EXPORT_PAGE):
        items, _ = request.app.index.search(wanted, offset, EXPORT_PAGE)
        if items:
            yield items
        if len(items) < EXPORT_PAGE:
            return


def _values(item: Mapping[str, Any]) -> list[Any]:
    params = item["params"]
    flat = {**{name: params.get(name) for name in ("sampler", "scheduler", "fps", "cfg_scale", "steps", "width", "height")}, **item}
    flat["defects"], flat["tags"] = " ".join(item["defects"]), " ".join(item.get("tags", ()))
    return [flat.get(name) for name in COLUMNS]


def _cell(value: Any) -> Any:
    """A text that begins like a formula gets an apostrophe: a spreadsheet would run it (OWASP, CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
