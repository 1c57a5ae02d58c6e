"""Who may ask what: access token, cookie, limit on wrong tokens, Host and Origin checks, response headers.

The token itself is never kept in a browser and never logged: the cookie holds an HMAC of it, so a stolen cookie jar
does not give away what opens the API with ``Authorization: Bearer``.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from urllib.parse import quote, quote_plus, urlsplit

from eva_env_base import Settings

log = logging.getLogger(__name__)

COOKIE_DAYS = 30
WRONG_PER_CLIENT, WRONG_IN_ALL, WRONG_WINDOW = 10, 120, 60.0  # wrong tokens a minute; in all, because a client's address can be forged

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}
# same-origin, not no-referrer: under no-referrer a browser sends "Origin: null" with the login form.
COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "X-Total-Count, ETag, X-Request-Id",
}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match",
    "Access-Control-Max-Age": "600",
}

# "token=" with any of its characters percent-encoded, once or (in an address inside an address) more often.
_TOKEN_IN_TEXT = re.compile(
    "((?:^|[?&;\\s]|%(?:25)*(?:3f|26|3b))"
    + "".join(f"(?:{letter}|%(?:25)*(?:{ord(letter):02x}|{ord(letter.upper()):02x}))" for letter in "token")
    + "(?:=|%(?:25)*3d))[^&\\s\"']*",
    re.IGNORECASE,
)


def redact(text: str, secret: str | None = None) -> str:
    """``text`` fit for a log: no token of a query, nor ``secret`` wherever it stands, no control character that could forge a
    line or drive a terminal.
    """
    if secret:
        for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
            text = text.replace(form, "***")
    text = _TOKEN_IN_TEXT.sub(r"\1***", text)
    return text if text.isascii() and text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def accepts_gzip(header: str | None) -> bool:
    """Whether Accept-Encoding allows gzip (``gzip;q=0`` does not)."""
    for item in (header or "").split(","):
        coding, _, parameters = item.strip().partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return re.fullmatch(r"\s*q=0(\.0*)?\s*", parameters) is None
    return False


class WrongTokenLimit:
    """Counts wrong tokens by client and in all over a sliding minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque()

    def wait(self, client: str) -> float:
        """Seconds until ``client`` may try again; 0 when it may now."""
        now = self._clock()
        with self._lock:
            waits = [0.0]
            for times, limit in ((self._clients.get(client), WRONG_PER_CLIENT), (self._all, WRONG_IN_ALL)):
                while times and times[0] <= now - WRONG_WINDOW:
                    times.popleft()
                if times is not None and len(times) >= limit:
                    waits.append(times[0] + WRONG_WINDOW - now)
            return max(waits)

    def count(self, client: str) -> None:
        now = self._clock()
        with self._lock:
            self._clients.setdefault(client, deque(maxlen=WRONG_PER_CLIENT)).append(now)
            self._clients.move_to_end(client)
            while len(self._clients) > 1000:
                self._clients.popitem(last=False)
            self._all.append(now)
            while len(self._all) > WRONG_IN_ALL:
                self._all.popleft()


class Access:
    """What this server demands of a request. ``token`` ``None``: nobody needs one."""

    def __init__(
        self,
        token: str | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        loopback: bool = True,
        pod_id: str | None = None,
        made_here: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.token = token
        self.host, self.port, self.loopback, self.pod_id, self.made_here = host, port, loopback, pod_id, made_here
        self.limit = WrongTokenLimit(clock)
        self._cookie_value = hmac.new(token.encode(), b"eva review server cookie, version 1", hashlib.sha256).hexdigest() if token else ""

    @classmethod
    def from_settings(cls, settings: Settings, *, no_token: bool = False) -> Access:
        """The contract's policy: none on loopback unless given; elsewhere the given one or a random one."""
        token, made_here = settings.token, False
        if no_token:
            token = None
            if not settings.on_loopback:
                log.warning("no token: whoever can reach %s may see every clip and change every rating", settings.host)
        elif not token and not settings.on_loopback:
            token, made_here = secrets.token_urlsafe(24), True
        return cls(token, host=settings.host, loopback=settings.on_loopback, pod_id=settings.pod_id, made_here=made_here)

    @property
    def required(self) -> bool:
        return self.token is not None

    def url(self, port: int | None = None) -> str:
        """The address a person opens, token included."""
        port = self.port if port is None else port
        if self.pod_id and not self.loopback:
            base = f"https://{self.pod_id}-{port}.proxy.runpod.net/"
        else:
            host = "127.0.0.1" if self.host in ("0.0.0.0", "", "::") else self.host
            base = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        return f"{base}?token={quote(self.token, safe='')}" if self.token else base

    # ------------------------------------------------------------ token
    def is_token(self, candidate: str) -> bool:
        """Constant-time comparison of digests, so that neither content nor length shows in the time."""
        if self.token is None:
            return False
        digest = hashlib.sha256(candidate.encode("utf-8", "surrogatepass")).digest()
        return hmac.compare_digest(digest, hashlib.sha256(self.token.encode("utf-8", "surrogatepass")).digest())

    @property
    def cookie_name(self) -> str:
        return f"eva_{self.port}"  # cookies do not know ports: two servers on one host must not log each other out

    def has_cookie(self, headers: Mapping[str, str]) -> bool:
        for part in re.split(r"[;,]", headers.get("cookie", "")):
            name, _, value = part.strip().partition("=")
            if name == self.cookie_name and hmac.compare_digest(value.encode(), self._cookie_value.encode()):
                return True
        return False

    def cookie(self, headers: Mapping[str, str]) -> str:
        secure = "; Secure" if headers.get("x-forwarded-proto", "").split(",")[0].strip().lower() == "https" else ""
        return f"{self.cookie_name}={self._cookie_value}; Path=/; Max-Age={COOKIE_DAYS * 86400}; HttpOnly; SameSite=Lax{secure}"

    @staticmethod
    def bearer(headers: Mapping[str, str]) -> str | None:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        return value.strip() if scheme.lower() == "bearer" and value.strip() else None

    @staticmethod
    def client_of(peer: str, headers: Mapping[str, str]) -> str:
        """Whom to count wrong tokens against: behind a proxy every peer is the proxy, so the address it names."""
        try:
            inside = not ipaddress.ip_address(peer.split("%")[0]).is_global  # RunPod's proxy comes from 100.64.0.0/10
        except ValueError:
            inside = False
        named = headers.get("cf-connecting-ip") or headers.get("x-forwarded-for", "").split(",")[-1].strip()
        return named[:64] if inside and named else peer

    # ------------------------------------------------------------ where from
    def host_refused(self, headers: Mapping[str, str]) -> bool:
        """True for a ``Host`` that is no loopback name while loopback is the only protection: DNS rebinding."""
        if self.required or not self.loopback:
            return False
        host = headers.get("host")
        return host is not None and not _is_loopback(_host_only(host))

    def cross_site(self, headers: Mapping[str, str]) -> bool:
        """True when a browser says that another site made this request.

        ``Sec-Fetch-Site`` cannot be set by a page and survives proxies that rewrite ``Host``; older browsers send only ``Origin``.
        """
        fetch_site = headers.get("sec-fetch-site", "").lower()
        if fetch_site:
            return fetch_site not in ("same-origin", "none")
        origin = headers.get("origin")
        if origin is None:
            return False
        known = {headers.get("host", "").lower(), headers.get("x-forwarded-host", "").split(",")[0].strip().lower()} - {""}
        if self.pod_id:
            known.add(f"{self.pod_id}-{self.port}.proxy.runpod.net".lower())
        try:
            return urlsplit(origin).netloc.lower() not in known
        except ValueError:
            return True


def _host_only(value: str) -> str:
    value = value.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def local_path(text: str | None) -> str:
    """``text`` when it is a path on this server, else ``/``: where a login may send a browser on to."""
    if not text or not text.startswith("/") or text.startswith(("//", "/\\")) or any(ord(c) < 33 or c == "\\" for c in text):
        return "/"
    return text
