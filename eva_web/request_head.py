"""One request's head, read strictly: what two programs in a row might read differently is refused.

``http.server`` parses heads with the e-mail package, which takes a bare CR for a line end, a space before a colon for the end
of the headers, and folded lines for one. A proxy in front may not, and then the two disagree about where a request ends or
who sent it (request smuggling). It is also a third of the work of a small answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from eva_web.messages import HttpError

MAX_HEADERS = 100
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([^\x00-\x20\x7f]+) HTTP/([0-9])\.([0-9])")
_NAME = re.compile(_TOKEN)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True)
class RequestHead:
    """``version`` is ``HTTP/1.0`` or ``HTTP/1.1``; ``headers`` by lower-case name, a repeated one joined with ", "."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    hosts: int  # how many Host headers there were

    @property
    def keeps_connection(self) -> bool:
        words = {word.strip().lower() for word in self.headers.get("connection", "").split(",")}
        return "close" not in words and (self.version == "HTTP/1.1" or "keep-alive" in words)


def read_head(head: bytes) -> RequestHead:
    """``head`` ends with its blank line. Raises ``HttpError`` 400, or 431 for too many headers (RFC 9112 sections 2 to 5)."""
    lines = head.decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    found = _REQUEST_LINE.fullmatch(lines[0])
    if found is None:
        raise HttpError(400, "the request line is malformed")
    method, target, major, minor = found.groups()
    if major != "1":
        raise HttpError(400, f"HTTP/{major}.{minor} is not spoken here; use HTTP/1.1")
    if len(lines) - 1 > MAX_HEADERS:
        raise HttpError(431, f"the request has over {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    hosts = 0
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name) or _CONTROL.search(value):  # folded, a space before the colon, a control character
            raise HttpError(400, "a header is malformed")
        name, value = name.lower(), value.strip(" \t")
        hosts += name == "host"
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return RequestHead(method, target, "HTTP/1.0" if minor == "0" else "HTTP/1.1", headers, hosts)
