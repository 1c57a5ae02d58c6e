"""The access log: one line a request in the combined format that log readers know, with two fields behind it.

``CLIENT - - [20/Nov/2026:10:45:35 +0000] "GET /api/stats HTTP/1.1" 200 512 "REFERER" "AGENT" REQUEST_ID MILLISECONDS``

(https://httpd.apache.org/docs/2.4/logs.html#combined). Tokens never get in, and no client can forge a line.
"""

from __future__ import annotations

import logging
import logging.handlers
import time
from dataclasses import dataclass
from pathlib import Path

from eva_env_base import LOG_BACKUPS, LOG_BYTES, UsageError
from eva_web.security import redact

console = logging.getLogger("eva_web.access")
SLOW_SECONDS = 1.0  # an answer that took longer is worth a line in the log
LONGEST = 500  # characters of a client's own text in one field
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # whatever the locale


@dataclass(frozen=True)
class Visit:
    """One answered request. ``seconds`` until the answer was ready, ``sent`` bytes of its body."""

    client: str
    request_line: str
    status: int
    sent: int
    referer: str
    agent: str
    request_id: str
    seconds: float


class AccessLog:
    """Failures and slow answers go to the ordinary log, everything to it at DEBUG, and everything to a file where one is named."""

    def __init__(self, path: Path | None = None, secret: str | None = None):
        """``secret`` never gets in, wherever a client writes it. Raises ``UsageError`` when the file cannot be written."""
        self._secret = secret
        self._file: logging.Handler | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_BACKUPS, encoding="utf-8")
            except OSError as error:
                raise UsageError(f"--access-log: {path} cannot be written: {error.strerror or error}") from error

    def note(self, visit: Visit) -> None:
        level = logging.INFO if visit.status >= 400 or visit.seconds > SLOW_SECONDS else logging.DEBUG
        wanted = console.isEnabledFor(level)
        if not wanted and self._file is None:
            return
        text = line_of(visit, time.time(), self._secret)
        if wanted:
            console.log(level, "%s", text)
        if self._file is not None:
            self._file.handle(logging.LogRecord(console.name, level, __file__, 0, text, None, None))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def line_of(visit: Visit, now: float, secret: str | None = None) -> str:
    """The line of a visit that ended at unix time ``now``."""
    moment = time.localtime(now)
    stamp = f"{moment.tm_mday:02d}/{_MONTHS[moment.tm_mon - 1]}/" + time.strftime("%Y:%H:%M:%S %z", moment)
    client, line, referer, agent = (_field(text, secret) for text in (visit.client, visit.request_line, visit.referer, visit.agent))
    return (
        f'{"".join(client.split()) or "-"} - - [{stamp}] "{line}" {visit.status} {visit.sent} '
        f'"{referer or "-"}" "{agent or "-"}" {visit.request_id} {visit.seconds * 1000:.1f}'
    )


def _field(text: str, secret: str | None) -> str:
    return redact(text, secret)[:LONGEST].replace("\\", "\\x5c").replace('"', "\\x22")
