"""``GET /api/insights`` and the door to Plotly's script: what all clips together say, and what draws it."""

from __future__ import annotations

import gzip
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

from eva_web.fields import Query
from eva_web.messages import HttpError, Request, Response, json_response
from eva_web.pages import TYPES
from eva_web.ranges import Validators, precondition
from eva_web.security import accepts_gzip

WAIT_SECONDS = 0.2  # a small state is worked out within it; a large one is asked for again
NO_PLOTLY = "the charts need Plotly: pip install plotly (then reload this page; the tables work without it)"


@lru_cache(maxsize=1)
def plotly_script() -> Path | None:
    """The script inside the installed package, found without importing the package; None where it is not installed."""
    spec = importlib.util.find_spec("plotly")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        script = Path(folder) / "package_data" / "plotly.min.js"
        if script.is_file():
            return script
    return None


@lru_cache(maxsize=1)
def style_ids(path: Path) -> list[str]:
    """The ids of style elements that the script adds as it loads, unless an element of that id is there already.

    The pages' security policy refuses inline styles. The one known is of the map library inside Plotly, which no chart here uses.
    """
    return sorted({found.decode() for found in re.findall(rb'getElementById\("([0-9a-f]{64})"\)', path.read_bytes())})


def insights(request: Request) -> Response:
    query = Query(request.query)
    query.done()
    try:
        answer, stale = request.app.insights.current(WAIT_SECONDS)
    except RuntimeError as error:
        raise HttpError(500, str(error)) from None
    found = plotly_script()
    head = {
        "ready": answer is not None,
        "stale": stale,
        "plotly": None if found is None else f"/static/vendor/plotly.min.js?v={found.stat().st_mtime_ns:x}",
        "plotly_styles": [] if found is None else style_ids(found),
    }
    return json_response({**head, **(answer or {})})


def plotly(request: Request) -> Response:
    """The script as it was installed. Its address carries a version, so a browser may keep it for good."""
    path = plotly_script()
    if path is None:
        plotly_script.cache_clear()  # it may be installed while the server runs
        raise HttpError(404, NO_PLOTLY)
    packed = accepts_gzip(request.header("accept-encoding"))
    try:
        status = path.stat()
        body = _packed(path, status.st_mtime_ns) if packed else path.read_bytes()
    except OSError as error:
        raise HttpError(404, f"{path.name} cannot be read: {error.strerror or error}") from None
    validators = Validators(f'"plotly-{status.st_size:x}-{status.st_mtime_ns:x}{"-gz" if packed else ""}"', status.st_mtime)
    headers = {**validators.headers(), "Cache-Control": "private, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    answered = precondition(request.headers, validators)
    if answered is not None:
        return Response(answered, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(200, body, TYPES[".js"], headers)


@lru_cache(maxsize=1)
def _packed(path: Path, _changed: int) -> bytes:
    """Five megabytes become one and a half: worth a fifth of a second, once."""
    return gzip.compress(path.read_bytes(), compresslevel=6, mtime=0)
