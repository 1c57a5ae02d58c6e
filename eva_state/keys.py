"""Combo keys: ``sampler|scheduler|fps|cfg|steps|WIDTHxHEIGHT``.

Numbers stand in their shortest form (``7``, ``3.5``); ``7.0`` is read as ``7``. A *pattern* is a key in
which any field may be ``*``. Every function raises :class:`ValueError` naming the text that is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

ANY = "*"
FIELDS = ("sampler", "scheduler", "fps", "cfg_scale", "steps", "size")
FORM = "sampler|scheduler|fps|cfg|steps|WIDTHxHEIGHT"


def format_number(value: Any, what: str = "number") -> str:
    """Shortest text of a finite number: ``7.0`` -> ``7``, ``"3.50"`` -> ``3.5``."""
    if isinstance(value, bool):
        raise ValueError(f"{what}: {value!r} is not a number")
    if isinstance(value, int):
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what}: {value!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{what}: {value!r} is not a finite number")
    return str(int(number)) if number.is_integer() else repr(number)


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _word(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what}: {value!r} is not a name")
    if "|" in value:
        raise ValueError(f"{what}: {value!r} may not hold '|'")
    return value.strip()


def _positive_int(value: Any, what: str) -> str:
    text = format_number(value, what)
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{what}: {value!r} is not a whole number of at least 1")
    return text


def combo_key(params: Mapping[str, Any]) -> str:
    """The combo key of ``params`` (``cfg`` is accepted for ``cfg_scale``). Raises ValueError naming the field."""
    return pattern_of(params, partial=False)


def pattern_of(params: Mapping[str, Any], *, partial: bool = True) -> str:
    """Like :func:`combo_key`, but with ``partial`` a field that is absent, None or ``*`` becomes ``*``."""

    def get(*names: str) -> Any:
        for name in names:
            if params.get(name) is not None:
                return params[name]
        if not partial:
            raise ValueError(f"params lack {names[0]!r}: {dict(params)!r}")
        return ANY

    def field(value: Any, convert: Any, what: str) -> str:
        return ANY if partial and value == ANY else convert(value, what)

    width, height = get("width"), get("height")
    size = ANY
    if not (partial and ANY in (width, height)):
        size = f"{_positive_int(width, 'width')}x{_positive_int(height, 'height')}"
    return "|".join(
        (
            field(get("sampler"), _word, "sampler"),
            field(get("scheduler"), _word, "scheduler"),
            field(get("fps"), format_number, "fps"),
            field(get("cfg_scale", "cfg"), format_number, "cfg_scale"),
            field(get("steps"), _positive_int, "steps"),
            size,
        )
    )


@lru_cache(maxsize=65536)
def normalise_pattern(text: str) -> str:
    """Canonical form of a key or pattern: ``euler|simple|16.0|7.0|20|832X480`` -> ``euler|simple|16|7|20|832x480``."""
    if not isinstance(text, str):
        raise ValueError(f"combo key {text!r} is not text; write it as {FORM}")
    parts = [part.strip() for part in text.split("|")]
    if len(parts) != len(FIELDS):
        raise ValueError(f"combo key {text!r} has {len(parts)} fields instead of {len(FIELDS)}; write it as {FORM}")
    try:
        out = [ANY if part == ANY else _word(part, name) for name, part in zip(FIELDS[:2], parts[:2])]
        out += [ANY if part == ANY else format_number(part, name) for name, part in zip(FIELDS[2:4], parts[2:4])]
        out.append(ANY if parts[4] == ANY else _positive_int(parts[4], "steps"))
        if parts[5] == ANY:
            out.append(ANY)
        else:
            width, cross, height = parts[5].lower().partition("x")
            if not cross:
                raise ValueError(f"size: {parts[5]!r} is not WIDTHxHEIGHT")
            out.append(f"{_positive_int(width, 'width')}x{_positive_int(height, 'height')}")
    except ValueError as error:
        raise ValueError(f"combo key {text!r}: {error}") from None
    return "|".join(out)


def is_pattern(text: str) -> bool:
    """True when the key has at least one ``*`` field."""
    return ANY in (part.strip() for part in text.split("|"))


def normalise_key(text: str) -> str:
    """Canonical form of a full key; a pattern is refused."""
    key = normalise_pattern(text)
    if is_pattern(key):
        raise ValueError(f"combo key {text!r} is a pattern; every field must be given here")
    return key


def parse_combo_key(text: str) -> dict[str, Any]:
    """The params of a key: ``{"sampler", "scheduler", "fps", "cfg_scale", "steps", "width", "height"}``."""
    sampler, scheduler, fps, cfg, steps, size = normalise_key(text).split("|")
    width, height = size.split("x")
    return {
        "sampler": sampler,
        "scheduler": scheduler,
        "fps": _number(fps),
        "cfg_scale": _number(cfg),
        "steps": int(steps),
        "width": int(width),
        "height": int(height),
    }


def matches(pattern: str, key: str) -> bool:
    """True when every field of ``pattern`` is ``*`` or equals that of ``key``."""
    wanted, given = normalise_pattern(pattern).split("|"), normalise_pattern(key).split("|")
    return all(w in (ANY, g) for w, g in zip(wanted, given))
