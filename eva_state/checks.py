"""What callers hand in, checked, and the receipt they get.

Each check returns a plain copy fit to be recorded or raises ValueError naming the field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from eva_state.records import plain

MAX_ID = 200  # characters of an id given by a caller
WINNERS = ("left", "right", "tie", "both_bad")


@dataclass(frozen=True, slots=True)
class Done:
    """An acknowledged action. ``duplicate``: its ``id`` had been recorded before, nothing changed."""

    event_id: str
    duplicate: bool = False


def clip_name(value: Any, what: str = "name") -> str:
    """A clip's name: any text but the empty one."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what}: {value!r} is not a clip's name")
    return plain(value, what)


def text(value: Any, what: str, *, empty: bool = True) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise ValueError(f"{what}: {value!r} is not {'a text' if empty else 'a text of at least one character'}")
    return plain(value, what)


def event_id(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID:
        raise ValueError(f"id: {value!r} is not a text of 1 to {MAX_ID} characters")
    return plain(value, "id")


def rating(value: Any) -> dict[str, Any]:
    """A rating: an object whose ``overall_quality`` is a number from 1 to 10."""
    if not isinstance(value, dict):
        raise ValueError(f"rating: {value!r} is not an object")
    found = plain(value, "rating")
    quality = found.get("overall_quality")
    if isinstance(quality, bool) or not isinstance(quality, (int, float)) or not (math.isfinite(quality) and 1 <= quality <= 10):
        raise ValueError(f"overall_quality: {quality!r} is not a number from 1 to 10")
    return found


def unit(value: Any, what: str) -> float | None:
    """A number in [0,1], or None."""
    found = plain(value, what)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found <= 1:
        raise ValueError(f"{what}: {value!r} is not a number in [0,1]")
    return found
