"""Typed reading of query strings and JSON bodies. What is wrong is collected and answered at once, 422 with ``fields``."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from eva_web.messages import HttpError, Request

MAX_NAME = 1024  # characters of a clip name
MAX_TEXT = 10_000  # characters of comments
MAX_REASON = 1_000
MAX_ID = 128
MAX_DEFECTS, MAX_DEFECT = 50, 100
QUALITIES = ("overall_quality", "visual_quality", "motion_quality", "prompt_adherence", "creativity", "technical_quality")


class Fields:
    """Collects what is wrong by field; :meth:`done` raises when anything is."""

    def __init__(self) -> None:
        self.wrong: dict[str, str] = {}

    def done(self) -> None:
        if self.wrong:
            names = ", ".join(f"{name}: {why}" for name, why in self.wrong.items())
            raise HttpError(422, f"wrong field: {names}", fields=self.wrong)


class Query(Fields):
    """The parameters of a URL. An empty value counts as not given."""

    def __init__(self, query: Mapping[str, str]):
        super().__init__()
        self._query = query

    def text(self, name: str, *, longest: int = 500) -> str | None:
        value = self._query.get(name)
        if not value:
            return None
        if len(value) > longest:
            self.wrong[name] = f"longer than {longest} characters"
            return None
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self._query.get(name)
        if not value:
            return default
        if not re.fullmatch(r"[+-]?[0-9]{1,15}", value.strip()) or not low <= int(value) <= high:
            self.wrong[name] = f"must be a whole number from {low} to {high}"
            return default
        return int(value)

    def number(self, name: str) -> float | None:
        value = self._query.get(name)
        if not value:
            return None
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.wrong[name] = "must be a number"
            return None
        return number

    def moment(self, name: str, *, end_of_day: bool = False) -> float | None:
        """Unix seconds, or a day ``YYYY-MM-DD`` of the server's calendar: its first second, or its last."""
        value = self._query.get(name)
        if not value or not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            return self.number(name)
        try:
            return time.mktime(time.strptime(value, "%Y-%m-%d")) + (86_399.999 if end_of_day else 0.0)
        except (ValueError, OverflowError):
            self.wrong[name] = "must be a day such as 2026-01-31, or unix seconds"
            return None

    def tri(self, name: str) -> bool | None:
        """``all`` (or nothing) is ``None``, ``true``/``1``/``yes`` True, ``false``/``0``/``no`` False."""
        value = (self._query.get(name) or "all").strip().lower()
        if value in ("all", "any"):
            return None
        if value in ("true", "1", "yes"):
            return True
        if value in ("false", "0", "no"):
            return False
        self.wrong[name] = "must be all, true or false"
        return None

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        value = self._query.get(name) or default
        choices = tuple(choices)
        if value not in choices:
            self.wrong[name] = f"must be one of {', '.join(choices)}"
            return default
        return value

    def json_object(self, name: str) -> dict[str, Any] | None:
        value = self._query.get(name)
        if not value:
            return None
        parsed = parse_json(value.encode("utf-8", "surrogatepass"))
        if not isinstance(parsed, dict):
            self.wrong[name] = "must be a JSON object"
            return None
        return parsed


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def parse_json(body: bytes) -> Any:
    """JSON as RFC 8259 has it: no NaN, no lone surrogate. Raises ``HttpError`` 400."""
    try:
        text = body.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:  # only an escape can hold half a surrogate pair, which no UTF-8 file can
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise HttpError(400, "the body is not UTF-8") from None
    except UnicodeEncodeError:
        raise HttpError(400, "the body holds half a surrogate pair, which is no character") from None
    except RecursionError:
        raise HttpError(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise HttpError(400, f"the body is not JSON: {str(error)[:200]}") from None
    return value


def json_body(request: Request) -> dict[str, Any]:
    """The body of a POST: an object. Raises 400 for anything else (415 is settled before a handler runs)."""
    value = parse_json(request.body)
    if not isinstance(value, dict):
        raise HttpError(400, "the body must be a JSON object")
    return value


class Body(Fields):
    """The fields of a JSON object."""

    def __init__(self, body: Mapping[str, Any]):
        super().__init__()
        self.body = body

    def text(self, name: str, *, required: bool = False, longest: int = MAX_NAME) -> str | None:
        value = self.body.get(name)
        if value is None:
            if required:
                self.wrong[name] = "is missing"
            return None
        if not isinstance(value, str):
            self.wrong[name] = "must be a string"
        elif required and not value:
            self.wrong[name] = "is empty"
        elif len(value) > longest:
            self.wrong[name] = f"is longer than {longest} characters"
        else:
            return value
        return None

    def rating(self) -> dict[str, Any]:
        """The ``rating`` object, checked; keys this version does not know pass through untouched."""
        rating = self.body.get("rating")
        if not isinstance(rating, dict):
            self.wrong["rating"] = "is missing" if rating is None else "must be an object"
            return {}
        self.wrong.update({f"rating.{name}": why for name, why in rating_faults(rating).items()})
        return {key: value for key, value in rating.items() if value is not None or key not in QUALITIES}


def is_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and math.isfinite(value))


def rating_faults(rating: Mapping[str, Any]) -> dict[str, str]:
    """What the contract does not allow in a rating, by key."""
    wrong: dict[str, str] = {}
    for name in QUALITIES:
        value = rating.get(name)
        if value is None:
            if name == "overall_quality":
                wrong[name] = "is missing"
        elif not is_number(value) or not 1 <= value <= 10:
            wrong[name] = "must be a number from 1 to 10"
    for name in ("is_reference", "banned"):
        if name in rating and not isinstance(rating[name], bool):
            wrong[name] = "must be true or false"
    comments = rating.get("comments", "")
    if not isinstance(comments, str):
        wrong["comments"] = "must be a string"
    elif len(comments) > MAX_TEXT:
        wrong["comments"] = f"is longer than {MAX_TEXT} characters"
    defects = rating.get("defects", [])
    if not isinstance(defects, list) or not all(isinstance(item, str) and 0 < len(item) <= MAX_DEFECT for item in defects):
        wrong["defects"] = f"must be a list of words of 1 to {MAX_DEFECT} characters"
    elif len(defects) > MAX_DEFECTS:
        wrong["defects"] = f"has more than {MAX_DEFECTS} items"
    return wrong
