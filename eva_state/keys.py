"""Combo keys: ``sampler|scheduler|fps|cfg|steps|WIDTHxHEIGHT``, and ``|name=value`` for each dimension of the user's own.

Numbers stand in their shortest form (``7``, ``3.5``); ``7.0`` is read as ``7``. A *pattern* is a key in
which any field may be ``*``. Own dimensions stand in alphabetical order (``...|832x480|lora=0.8|shift=5``); in params
they are ``{"extra": {"lora": 0.8, "shift": 5}}``. As a pattern a key covers every value of a dimension it does not name:
``euler|simple|16|7|20|832x480`` also covers ``euler|simple|16|7|20|832x480|shift=5``. Every function raises
:class:`ValueError` naming the text that is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

ANY = "*"
FIELDS = ("sampler", "scheduler", "fps", "cfg_scale", "steps", "size")
FORM = "sampler|scheduler|fps|cfg|steps|WIDTHxHEIGHT"
EXTRA = "extra"  # where params hold the user's own dimensions
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SPECIAL = re.compile(r"[|=*\x00-\x1f]")
Value = int | float | bool | str


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


def extra_name(name: Any) -> str:
    """A dimension's name as it stands in keys. Raises ValueError for one that cannot."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in (*FIELDS, "cfg", "width", "height", EXTRA):
        raise ValueError(f"{name!r} is no name for a dimension: small letters, digits and _, and none of the six fields")
    return name


def extra_text(value: Any, name: str = "value") -> str:
    """A dimension's value as it stands in keys: ``5.0`` -> ``5``, ``True`` -> ``true``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return format_number(value, name)
    if not isinstance(value, str) or not value.strip() or _SPECIAL.search(value):
        raise ValueError(f"{name}: {value!r} is neither a number nor text without '|', '=' and '*'")
    text = value.strip()
    return format_number(text, name) if _NUMBER.fullmatch(text) else text


def extra_value(text: str) -> Value:
    """The inverse of :func:`extra_text`: a number, a truth value or text."""
    if text in ("true", "false"):
        return text == "true"
    return _number(text) if _NUMBER.fullmatch(text) else text


def _extra_of(params: Mapping[str, Any], partial: bool) -> list[str]:
    found = params.get(EXTRA)
    if found is None:
        return []
    if not isinstance(found, Mapping):
        raise ValueError(f"{EXTRA}: {found!r} is not an object")
    given = {name: value for name, value in found.items() if not (partial and value in (None, ANY))}
    return [f"{extra_name(name)}={extra_text(given[name], name)}" for name in sorted(given, key=str)]


def _extra_parts(parts: list[str]) -> list[str]:
    """``name=value`` parts in order. One whose value is ``*`` says nothing."""
    found: dict[str, str] = {}
    for part in parts:
        name, sign, text = (piece.strip() for piece in part.partition("="))
        if not sign:
            raise ValueError(f"{part!r} is not name=value")
        if extra_name(name) in found:
            raise ValueError(f"{name} is given twice")
        found[name] = text if text == ANY else extra_text(text, name)
    return [f"{name}={found[name]}" for name in sorted(found) if found[name] != ANY]


def base_key(key: str) -> str:
    """The six fixed fields of a canonical key or pattern."""
    return key if "=" not in key else "|".join(key.split("|", len(FIELDS))[: len(FIELDS)])


def extra_of_key(key: str) -> dict[str, str]:
    """The own dimensions of a canonical key or pattern: ``{name: text}``."""
    return dict(part.split("=", 1) for part in key.split("|")[len(FIELDS) :]) if "=" in key else {}


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
            *_extra_of(params, partial),
        )
    )


@lru_cache(maxsize=65536)
def normalise_pattern(text: str) -> str:
    """Canonical form of a key or pattern: ``euler|simple|16.0|7.0|20|832X480`` -> ``euler|simple|16|7|20|832x480``."""
    if not isinstance(text, str):
        raise ValueError(f"combo key {text!r} is not text; write it as {FORM}")
    parts = [part.strip() for part in text.split("|")]
    if len(parts) < len(FIELDS) or (len(parts) > len(FIELDS) and "=" not in parts[len(FIELDS)]):
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
        out += _extra_parts(parts[len(FIELDS) :])
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
    """The params of a key: ``{"sampler", "scheduler", "fps", "cfg_scale", "steps", "width", "height"}``, and ``extra`` where it has any."""
    key = normalise_key(text)
    sampler, scheduler, fps, cfg, steps, size = base_key(key).split("|")
    width, height = size.split("x")
    extra = {name: extra_value(value) for name, value in extra_of_key(key).items()}
    return {
        "sampler": sampler,
        "scheduler": scheduler,
        "fps": _number(fps),
        "cfg_scale": _number(cfg),
        "steps": int(steps),
        "width": int(width),
        "height": int(height),
        **({EXTRA: extra} if extra else {}),
    }


def matches(pattern: str, key: str) -> bool:
    """True when every field of ``pattern`` is ``*`` or equals that of ``key``, which has each own dimension that ``pattern`` names."""
    wanted, given = normalise_pattern(pattern).split("|"), normalise_pattern(key).split("|")
    size = len(FIELDS)
    if len(wanted) > size and not set(wanted[size:]) <= set(given[size:]):
        return False
    return all(w in (ANY, g) for w, g in zip(wanted[:size], given[:size]))


def covers_others(key: str) -> bool:
    """False for a key whose six fields are all given and that names no own dimension: then only keys with these six fields are covered."""
    return is_pattern(key) or "=" in key
