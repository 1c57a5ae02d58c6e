"""HTTP to one ComfyUI server: addresses, tokens, proxies, retries, and errors a person can act on.

Only requests that may be repeated without harm are retried here; what to do when the answer to ``POST /prompt`` is lost is
decided in :mod:`eva_p1.comfy_client`.
"""

from __future__ import annotations

import base64
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests

from eva_env_base import LOOPBACK_HOSTS, ComfyError, ComfyUnavailable, UsageError, __version__

log = logging.getLogger(__name__)

# What proxies in front of a pod answer while the server behind them is starting or gone (52x: Cloudflare's origin errors).
AWAY_STATUS = frozenset({429, 502, 503, 504, *range(520, 528), 530})
# How urllib3 words a name that cannot be resolved, by version and system.
NO_SUCH_NAME = ("NameResolutionError", "Name or service not known", "nodename nor servname", "getaddrinfo failed", "No address associated")
BACKOFF_FIRST, BACKOFF_FACTOR, BACKOFF_LONGEST = 0.25, 2.0, 10.0


def backoff(attempt: int, rng: Callable[[], float] = random.random) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (0 first): doubling, with up to 25 % taken off so that clients spread."""
    return min(BACKOFF_LONGEST, BACKOFF_FIRST * BACKOFF_FACTOR**attempt) * (1 - 0.25 * rng())


class Address:
    """A server's address: ``http(s)://[user:password@]host[:port][/base/path][?token=...]``."""

    def __init__(self, url: str, token: str | None = None):
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is not a ComfyUI address; write it like http://127.0.0.1:8188")
        try:
            port = parts.port
        except ValueError:
            raise UsageError(f"{url!r}: the port is not a number from 1 to 65535") from None
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._netloc = host if port is None else f"{host}:{port}"
        self._scheme, self._base = parts.scheme, parts.path.rstrip("/")
        self._query = parse_qsl(parts.query, keep_blank_values=True)
        self.host = parts.hostname
        # Proxies in front of rented pods turn away the default names of Python's libraries.
        self.headers: dict[str, str] = {"User-Agent": f"EVA/{__version__}"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        elif parts.username is not None:
            secret = f"{parts.username}:{parts.password or ''}".encode()
            self.headers["Authorization"] = "Basic " + base64.b64encode(secret).decode("ascii")
        # For messages and logs: without user, password and query, which may hold a token.
        self.shown = urlunsplit((self._scheme, self._netloc, self._base, "", ""))

    @property
    def on_loopback(self) -> bool:
        return self.host in LOOPBACK_HOSTS or self.host.startswith("127.")

    def http(self, path: str) -> str:
        return urlunsplit((self._scheme, self._netloc, self._base + path, urlencode(self._query), ""))

    def websocket(self, client_id: str) -> str:
        scheme = "wss" if self._scheme == "https" else "ws"
        return urlunsplit((scheme, self._netloc, self._base + "/ws", urlencode([*self._query, ("clientId", client_id)]), ""))


class ComfyHttp:
    """Requests to one server. Thread-safe: ``requests`` pools connections, nothing here is changed after construction."""

    def __init__(
        self,
        address: Address,
        *,
        timeout: float,
        retries: int,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.address, self.timeout, self.retries = address, timeout, retries
        self._own_session = session is None
        self.session = session or requests.Session()
        if address.on_loopback and session is None:
            self.session.trust_env = False  # a proxy of the environment must not capture this machine's own addresses
        self._sleep = sleep

    def close(self) -> None:
        if self._own_session:
            self.session.close()

    # ------------------------------------------------------------ one request
    def send(self, method: str, path: str, *, stream: bool = False, **options: Any) -> requests.Response:
        """One request, no retry. Raises ``requests`` exceptions; any status is returned."""
        headers = {**self.address.headers, **(options.pop("headers", None) or {})}
        return self.session.request(
            method, self.address.http(path), timeout=(min(self.timeout, 10.0), self.timeout), headers=headers, stream=stream, **options
        )

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request that may be repeated. Raises :class:`ComfyUnavailable` when the server stays away, :class:`ComfyError` for an
        error it answers."""
        attempt = 0
        while True:
            try:
                response = self.send(method, path, **options)
            except requests.RequestException as error:
                reason = self.away_reason(error)
            else:
                if response.status_code not in AWAY_STATUS:
                    return self._checked(response, method, path)
                response.close()
                reason = f"answers {response.status_code} {response.reason}"
            if attempt >= self.retries:
                raise ComfyUnavailable(f"ComfyUI at {self.address.shown} {reason}; is it running, and is the address right?")
            self._sleep(backoff(attempt))
            attempt += 1

    def get_json(self, path: str, **options: Any) -> Any:
        return self.json_of(self.request("GET", path, **options), path)

    def post(self, path: str, body: Mapping[str, Any]) -> requests.Response:
        return self.request("POST", path, json=dict(body))

    # ------------------------------------------------------------ errors
    def away_reason(self, error: requests.RequestException) -> str:
        """Why a request did not come through, in words; raises at once for what waiting cannot mend."""
        if isinstance(error, requests.exceptions.SSLError):
            if any(sign in str(error) for sign in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")):
                raise ComfyError(f"ComfyUI at {self.address.shown} does not speak https there; write the address with http://") from error
            raise ComfyError(
                f"ComfyUI at {self.address.shown}: the secure connection failed ({error}); use http:// for a server without TLS, "
                f"or set REQUESTS_CA_BUNDLE for a private certificate"
            ) from error
        if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.InvalidHeader)):
            raise ComfyError(f"ComfyUI at {self.address.shown}: {error}") from error
        if isinstance(error, requests.exceptions.TooManyRedirects):
            raise ComfyError(f"ComfyUI at {self.address.shown} redirects without end; is a login page in front of it?") from error
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return "did not accept a connection in time"
        if isinstance(error, requests.exceptions.Timeout):
            return f"did not answer within {self.timeout:g} s"
        if isinstance(error, requests.exceptions.ConnectionError) and "refused" in str(error).lower():
            return "refused the connection"
        if any(sign in str(error) for sign in NO_SUCH_NAME):
            return f"cannot be found: no machine is known by the name {self.address.host}"
        return f"cannot be reached ({_short(error)})"

    def _checked(self, response: requests.Response, method: str, path: str) -> requests.Response:
        status = response.status_code
        if status < 400:
            return response
        where = f"{method} {path} at {self.address.shown}"
        if status in (401, 403):
            raise ComfyError(f"{where} was refused ({status}): is a token needed? Give it in the address: {self.address.shown}/?token=...")
        page = response.headers.get("Content-Type", "").startswith("text/html")
        text = "" if page else " ".join(response.text.split())[:200]
        hint = "; is that the address of a ComfyUI, and is its path right?" if status in (404, 405, 501) else ""
        raise ComfyError(f"{where} answered {status} {response.reason}" + (f": {text}" if text else "") + hint)

    def json_of(self, response: requests.Response, path: str) -> Any:
        try:
            return response.json()
        except ValueError:
            kind = response.headers.get("Content-Type", "no content type")
            raise ComfyError(
                f"{self.address.shown} answered {path} with {kind}, not JSON: is this a ComfyUI server, or a login page in front of one?"
            ) from None


def never_sent(error: requests.RequestException) -> bool:
    """True when the connection was not even made, so the server cannot have seen the request."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    text = str(error)
    return isinstance(error, requests.exceptions.ConnectionError) and ("NewConnectionError" in text or "NameResolutionError" in text)


def _short(error: BaseException) -> str:
    text = str(error)
    return type(error).__name__ if not text or len(text) > 160 else text
