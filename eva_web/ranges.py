"""Range and conditional requests, as RFC 9110 sections 13 and 14 define them (https://www.rfc-editor.org/rfc/rfc9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import formatdate, parsedate_to_datetime

_RANGE_SPEC = re.compile(r"(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+)", re.ASCII)
_LARGEST = 10**18  # bytes: no file is larger, and a client may write as many digits as it likes


class Unsatisfiable(Exception):
    """The range is well formed and lies wholly outside the file: 416."""


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """``(offset, length)`` that a Range header asks of ``size`` bytes, or ``None`` to send the whole.

    A unit other than bytes, a malformed value and a list of several ranges are ignored, which section 14.2 allows:
    several ranges in one answer are what players never need and attackers like.
    """
    if text is None:
        return None
    unit, equals, spec = text.partition("=")
    if not equals or unit.lower() != "bytes":
        return None
    parts = [part.strip(" \t") for part in spec.split(",")]
    parts = [part for part in parts if part]  # empty list members are allowed by section 5.6.1
    if len(parts) != 1:
        return None
    match = _RANGE_SPEC.fullmatch(parts[0])
    if match is None:
        return None
    if match["suffix"] is not None:
        wanted = _number(match["suffix"])
        if wanted == 0:
            raise Unsatisfiable
        length = min(wanted, size)
        return (size - length, length) if size else None  # section 14.1.2: satisfiable, but there is no such Content-Range
    first = _number(match["first"])
    last = _number(match["last"]) if match["last"] else None
    if last is not None and last < first:
        return None
    if first >= size:
        raise Unsatisfiable
    end = size if last is None else min(last + 1, size)
    return first, end - first


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return _LARGEST if len(digits) > 18 else int(digits or "0")


@dataclass(frozen=True)
class Validators:
    """``etag`` is quoted, and strong unless it begins with ``W/``; ``mtime`` is unix seconds, rounded down when sent."""

    etag: str
    mtime: float

    @property
    def last_modified(self) -> str:
        return formatdate(int(self.mtime), usegmt=True)

    def headers(self) -> dict[str, str]:
        return {"ETag": self.etag, "Last-Modified": self.last_modified}


def _listed(text: str, etag: str, *, weak: bool) -> bool:
    for item in re.findall(r'\*|(?:W/)?"[^"]*"', text):
        if item == "*":
            return True
        if weak and item.removeprefix("W/") == etag.removeprefix("W/"):
            return True
        if item == etag and not etag.startswith("W/"):
            return True
    return False


def _date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    try:
        return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()
    except OverflowError:
        return None


def precondition(headers: Mapping[str, str], now: Validators) -> int | None:
    """304 or 412 when a conditional GET or HEAD need not or must not be carried out, in the order of section 13.2.2."""
    if (if_match := headers.get("if-match")) is not None:
        if not _listed(if_match, now.etag, weak=False):
            return 412
    elif (since := _date(headers.get("if-unmodified-since", ""))) is not None and int(now.mtime) > since:
        return 412
    if (if_none := headers.get("if-none-match")) is not None:
        return 304 if _listed(if_none, now.etag, weak=True) else None
    if (since := _date(headers.get("if-modified-since", ""))) is not None and int(now.mtime) <= since:
        return 304
    return None


def range_applies(if_range: str | None, now: Validators) -> bool:
    """Whether a Range header may be honoured given If-Range: strong comparison, or the exact date (section 13.1.5)."""
    if if_range is None:
        return True
    if_range = if_range.strip()
    if if_range.startswith(('"', "W/")):
        return if_range == now.etag and not if_range.startswith("W/")
    return _date(if_range) == int(now.mtime)
