"""From a parsed request to a response: route, access, errors as JSON, log."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from eva_env_base import PROJECT_DIR, Settings, StateError, StateFull
from eva_state.facts import FactTable
from eva_state.insights import Insights
from eva_state.review_order import ReviewOrder
from eva_web import pages, routes
from eva_web.access_log import AccessLog, Visit
from eva_web.messages import HttpError, Request, Response, error_response
from eva_web.metrics import RequestCounts
from eva_web.pictures import Pictures
from eva_web.presence import Presence
from eva_web.security import COMMON_HEADERS, CORS_HEADERS, PREFLIGHT_HEADERS, Access, redact

if TYPE_CHECKING:
    from eva_state.clip_index import ClipIndex
    from eva_state.store import StateStore

log = logging.getLogger(__name__)

MAX_TARGET = 8 * 1024  # bytes of path and query
MAX_PARAMETERS = 100
_AUTHORITY = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
FAILED = "the server failed to answer this; its log has the reason under this request id"
NEED_TOKEN = "this needs the access token: open the address that the server printed, or send Authorization: Bearer TOKEN"


class App:
    """What handlers work with. ``clock`` gives unix seconds."""

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        index: ClipIndex,
        access: Access,
        *,
        static_dir: Path | None = None,
        access_log: AccessLog | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self.settings, self.store, self.index, self.access, self.clock = settings, store, index, access, clock
        self.static = pages.StaticFiles(Path(static_dir) if static_dir is not None else PROJECT_DIR / "static")
        self.review = ReviewOrder(index, store)
        self.pictures = Pictures(Path(settings.state_dir) / "cache")
        self.facts = FactTable(store)  # reads nothing before somebody asks for charts or a metric
        self.insights = Insights(store, self.facts)
        self.presence = Presence()
        self.boot = secrets.token_hex(6)  # cursors and ids of one run must not be taken for another's
        self.started = clock()
        self.counts = RequestCounts()
        self.connections: Callable[[], tuple[int, int]] = lambda: (0, 0)  # (waiting, being answered); the server's to tell
        self._access_log = access_log or AccessLog()
        self._ids = itertools.count(1)

    def close(self) -> None:
        self.pictures.close()
        self._access_log.close()
        self.facts.close()

    def refuse(self, error: HttpError) -> Response:
        """The answer to what is no request at all."""
        request_id = self._new_id()
        return self._complete(error_response(error, request_id), request_id, "")

    def note(
        self, response: Response, method: str, target: str, version: str, headers: Mapping[str, str], peer: str, seconds: float, sent: int
    ) -> None:
        """Counts and logs an answer that has been sent. ``seconds`` passed until it was ready; ``sent`` bytes of its body."""
        path = target.partition("?")[0]
        self.counts.count(routes.label_of(path) if method else "refused", method, response.status, seconds, sent)
        line = f"{method} {target} {version}" if method else "-"
        client = self.access.client_of(peer, headers)
        referer, agent = headers.get("referer", ""), headers.get("user-agent", "")
        self._access_log.note(Visit(client, line, response.status, sent, referer, agent, response.id, seconds))

    def _new_id(self) -> str:
        return f"{self.boot}-{next(self._ids)}"

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes, peer: str) -> Response:
        """Never raises: every error becomes an answer."""
        request_id = self._new_id()
        path = target
        try:
            path, query, authority = _split_target(target)
            if authority is not None:
                headers = {**headers, "host": authority}
            request = Request(self, request_id, method, path, query, headers, body, peer)
            response = self._dispatch(request)
        except HttpError as error:
            response = error_response(error, request_id)
        except StateFull as error:
            response = error_response(HttpError(507, str(error)), request_id)
        except StateError as error:
            log.error("request %s: %s", request_id, error)
            response = error_response(HttpError(503, str(error)), request_id)
        except Exception:  # the last resort of the wrapper: the client learns the id, the log has the rest
            log.exception("request %s %s %s failed", request_id, method, redact(target, self.access.token))
            response = error_response(HttpError(500, FAILED), request_id)
        return self._complete(response, request_id, path)

    def _complete(self, response: Response, request_id: str, path: str) -> Response:
        for name, value in COMMON_HEADERS.items():
            response.headers.setdefault(name, value)
        response.id = response.headers["X-Request-Id"] = request_id
        if self.access.required and path.startswith("/api/"):
            response.headers.update(CORS_HEADERS)
        return response

    def _dispatch(self, request: Request) -> Response:
        if self.access.host_refused(request.headers):
            raise HttpError(
                403,
                f"this server answers only to loopback names, not to {request.headers.get('host', '')[:100]!r}; "
                "start it with --host and a token to reach it under another name",
            )
        if request.path == "*":  # RFC 9110 section 9.3.7: asks about the server as a whole
            if request.method != "OPTIONS":
                raise HttpError(400, "the address must begin with /")
            return Response(204, headers={"Allow": "GET, HEAD, POST, OPTIONS"})
        found = routes.find(request.path)
        if found is None:
            refused = self._demand_token(request)
            if refused is not None:
                return refused
            raise HttpError(404, f"there is nothing at {request.path[:200]}")
        by_method, rest = found
        allowed = sorted({*by_method, "OPTIONS", *(["HEAD"] if "GET" in by_method else [])})
        if request.method == "OPTIONS":
            headers = {"Allow": ", ".join(allowed)}
            if self.access.required and request.path.startswith("/api/"):
                headers.update(PREFLIGHT_HEADERS)
            return Response(204, headers=headers)
        route = by_method.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            raise HttpError(405, f"{request.method} is not possible here", headers={"Allow": ", ".join(allowed)})
        if "token" in request.query and request.method in ("GET", "HEAD"):
            return self._take_token(request)
        if not route.open:
            refused = self._demand_token(request)
            if refused is not None:
                return refused
        if request.method == "POST":
            self._check_post(request)
        return route.handler(_with_rest(request, rest))

    def _check_post(self, request: Request) -> None:
        if self.access.bearer(request.headers) is None and self.access.cross_site(request.headers):
            raise HttpError(403, "another web site sent this; open the review pages themselves")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        allowed = ("application/json", "application/x-www-form-urlencoded") if request.path == "/login" else ("application/json",)
        if kind not in allowed:
            raise HttpError(415, f"send {allowed[0]}, not {kind[:100] or 'a body without Content-Type'}")

    # ------------------------------------------------------------ token
    def check_token(self, request: Request, candidate: str) -> bool:
        """Whether ``candidate`` is the token. Raises 429 after too many wrong ones."""
        client = self.access.client_of(request.client, request.headers)
        wait = self.access.limit.wait(client)
        if wait > 0:
            raise HttpError(429, f"too many wrong tokens; try again in {wait:.0f} s", headers={"Retry-After": str(int(wait) + 1)})
        if self.access.is_token(candidate):
            return True
        self.access.limit.count(client)
        log.warning("request %s: wrong token from %s", request.id, redact(client))
        return False

    def _take_token(self, request: Request) -> Response:
        """``?token=`` once: answered by the same address without it, so that it stays in no history and no log of a proxy."""
        rest = {name: value for name, value in request.query.items() if name != "token"}
        headers = {"Location": request.path + (f"?{urlencode(rest)}" if rest else ""), "Cache-Control": "no-store"}
        if self.access.required:
            if not self.check_token(request, request.query["token"]):
                return self._unauthorised(request, "that token is wrong")
            headers["Set-Cookie"] = self.access.cookie(request.headers)
        return Response(303, headers=headers)

    def _demand_token(self, request: Request) -> Response | None:
        if not self.access.required or self.access.has_cookie(request.headers):
            return None
        bearer = self.access.bearer(request.headers)
        if bearer is not None:
            if self.check_token(request, bearer):
                return None
            return self._unauthorised(request, "that token is wrong")
        return self._unauthorised(request, NEED_TOKEN)

    @staticmethod
    def _unauthorised(request: Request, message: str) -> Response:
        error = HttpError(401, message, headers={"WWW-Authenticate": 'Bearer realm="EVA"'})
        if request.path.startswith(("/api/", "/video/", "/thumb/", "/filmstrip/")) or request.method not in ("GET", "HEAD"):
            raise error
        response = pages.login_page(request)
        if response.status != 200:
            raise error
        response.status = 401
        response.headers.update(error.headers)
        return response


def _with_rest(request: Request, rest: str) -> Request:
    return dataclasses.replace(request, rest=rest) if rest else request


def _split_target(target: str) -> tuple[str, dict[str, str], str | None]:
    """Path (still encoded) and query of a target in origin or absolute form, and the host of the latter, which counts instead
    of the header (RFC 9112 section 3.2.2).
    """
    if len(target) > MAX_TARGET:
        raise HttpError(414, f"the address is over {MAX_TARGET // 1024} KiB")
    authority: str | None = None
    if target[:8].lower().startswith(("http://", "https://")):
        found = _AUTHORITY.match(target)
        authority = found[1] if found else ""
        rest = target[found.end() :] if found else ""
        target = rest if rest.startswith("/") else f"/{rest}"
    path, _, text = target.partition("#")[0].partition("?")
    if not path.startswith("/") and target != "*":
        raise HttpError(400, "the address must begin with /")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except UnicodeDecodeError:
        raise HttpError(400, "the query is not UTF-8 once decoded") from None
    except ValueError:
        raise HttpError(400, f"the query has over {MAX_PARAMETERS} parameters") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name in query:  # whoever stands before this server might have looked at the other one
            raise HttpError(400, f"the query has {name[:100]!r} more than once")
        query[name] = value
    return path, query, authority
