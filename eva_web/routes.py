"""Everything the server answers, at a glance.

A path that ends with ``/<rest>`` takes a percent-encoded tail, which the handler finds decoded in ``request.rest``.
``OPEN`` routes need no token. GET routes answer HEAD too. The lane is the pool of workers that runs the handler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from eva_web import api_bandit, api_clip, api_control, api_insights, api_read, api_write, media, pages, pictures, presence
from eva_web.messages import HttpError, Request, Response
from eva_web.metrics import metrics
from eva_web.openapi import openapi

OPEN = True


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    handler: Callable[[Request], Response]
    open: bool = False
    lane: str = "quick"


ROUTES: tuple[Route, ...] = (
    # pages
    Route("GET", "/", pages.page("index.html")),
    Route("GET", "/search", pages.page("search.html")),
    Route("GET", "/qa", pages.page("qa.html")),
    Route("GET", "/watch", pages.page("watch.html")),
    Route("GET", "/compare", pages.page("compare.html")),
    Route("GET", "/insights", pages.page("insights.html")),
    Route("GET", "/login", pages.login_page, OPEN),
    Route("POST", "/login", pages.login, OPEN),
    Route("POST", "/logout", pages.logout, OPEN),
    Route("GET", "/static/<rest>", pages.static, OPEN),
    Route("GET", "/static/vendor/plotly.min.js", api_insights.plotly),
    Route("GET", "/favicon.ico", pages.favicon, OPEN),
    # what there is
    Route("GET", "/api/config", api_read.config),
    Route("GET", "/api/stats", api_read.stats),
    Route("GET", "/api/agent", api_read.agent),
    Route("GET", "/api/videos", api_control.videos),
    Route("GET", "/api/search", api_read.search),
    Route("GET", "/api/options", api_read.options),
    Route("GET", "/api/video_details", api_read.video_details),
    Route("GET", "/api/series", api_clip.series, lane="pictures"),
    Route("GET", "/api/workflow", api_clip.workflow, lane="pictures"),
    Route("GET", "/api/export", api_clip.export, lane="pictures"),
    Route("GET", "/api/bans", api_read.bans),
    Route("GET", "/api/ban_preview", api_read.ban_preview),
    Route("GET", "/api/actions", api_read.actions),
    Route("GET", "/api/changes", api_read.changes),
    Route("GET", "/api/insights", api_insights.insights),
    Route("GET", "/api/bandit", api_bandit.bandit),
    # the agent
    Route("GET", "/api/agent/preview", api_control.preview),
    Route("GET", "/api/requests", api_control.requests),
    Route("POST", "/api/agent_control", api_control.agent_control),
    Route("POST", "/api/request", api_control.make_request),
    Route("POST", "/api/cancel_request", api_control.cancel_request),
    # what a person decides
    Route("POST", "/api/showing", presence.showing),
    Route("POST", "/api/rate", api_write.rate),
    Route("POST", "/api/ban_combo", api_write.ban_combo),
    Route("POST", "/api/unban_combo", api_write.unban_combo),
    Route("POST", "/api/undo", api_write.undo),
    Route("POST", "/api/compare", api_write.compare),
    # clips
    Route("GET", "/video/<rest>", media.video, lane="media"),
    Route("GET", "/thumb/<rest>", pictures.thumb, lane="pictures"),
    Route("GET", "/filmstrip/<rest>", pictures.filmstrip, lane="pictures"),
    # whoever watches over the server
    Route("GET", "/health", api_read.health, OPEN),
    Route("GET", "/metrics", metrics),
    Route("GET", "/api/openapi.json", openapi),
)

_TAIL = "<rest>"
_EXACT: dict[str, dict[str, Route]] = {}
_PREFIX: dict[str, dict[str, Route]] = {}
for _route in ROUTES:
    _table, _key = (_PREFIX, _route.path.removesuffix(_TAIL)) if _route.path.endswith(_TAIL) else (_EXACT, _route.path)
    _table.setdefault(_key, {})[_route.method] = _route


def find(path: str) -> tuple[dict[str, Route], str] | None:
    """The routes of an encoded path by method, and its decoded tail. Raises 400 for a tail that is no UTF-8 text."""
    if path in _EXACT:
        return _EXACT[path], ""
    prefix_end = path.find("/", 1) + 1
    routes = _PREFIX.get(path[:prefix_end]) if prefix_end else None
    if routes is None:
        return None
    try:
        return routes, unquote_to_bytes(path[prefix_end:]).decode("utf-8")
    except UnicodeDecodeError:
        raise HttpError(400, "the path is not UTF-8 once decoded") from None


def label_of(path: str) -> str:
    """The route of a path as the table has it, for counting; ``other`` for what is in no table."""
    if path in _EXACT:
        return path
    prefix = path[: path.find("/", 1) + 1]
    return prefix + _TAIL if prefix in _PREFIX else "other"


def lane_of(head: bytes) -> str:
    """The lane of a request that is not parsed yet; anything unclear is quick."""
    parts = head[:256].split(b" ", 2)
    path = parts[1] if len(parts) > 1 else b""
    exact = path.partition(b"?")[0].decode("latin-1")
    prefix = path[: path.find(b"/", 1) + 1].decode("latin-1")
    route = (_EXACT.get(exact) or _PREFIX.get(prefix, {})).get("GET")
    return route.lane if route is not None else "quick"
