"""Texts the frontend rewrites while it exports: dynamic prompts, and ``%Node.widget%`` in file names.

Rules as in https://github.com/Comfy-Org/ComfyUI_frontend, ``src/utils/formatUtil.ts`` and ``src/utils/searchAndReplace.ts``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import datetime

_COMMENT = re.compile(r"/\*[\s\S]*?\*/|//.*")
_TOKEN = re.compile(r"%([^%]+)%")
_DATE = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyy?y?")
_UNSAFE = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
# Nodes whose filename_prefix is expanded.
SAVE_CLASSES = frozenset({
    "SaveImage", "SaveVideo", "SaveAnimatedWEBP", "SaveWEBM", "SaveAudio", "SaveGLB", "SaveAnimatedPNG", "CLIPSave", "VAESave", "ModelSave",
    "LoraSave", "SaveLatent",
})  # fmt: skip


def dynamic_prompt(text: str, rng: random.Random) -> str:
    """Strips ``//`` and ``/* */`` comments and picks one of each ``{a|b}``, nested too. Escaped braces and bars stand for themselves."""
    text = _COMMENT.sub("", text)
    result, place = "", 0
    while place < len(text):
        char = text[place]
        place += 1
        if char == "\\":
            result += text[place - 1 : place + 1]
            place += 1
        elif char == "{":
            options, place = _options(text, place)
            result += dynamic_prompt(rng.choice(options), rng)
        else:
            result += char
    return re.sub(r"\\([{}|])", r"\1", result)


def _options(text: str, place: int) -> tuple[list[str], int]:
    """The alternatives of a block whose brace was just read, and the place behind it. An unclosed block ends with the text."""
    options, choice, depth = [], "", 0
    while place < len(text):
        char = text[place]
        place += 1
        if char == "\\":
            choice += text[place - 1 : place + 1]
            place += 1
            continue
        if char == "{":
            depth += 1
        elif char == "}":
            if not depth:
                break
            depth -= 1
        elif char == "|" and not depth:
            options.append(choice)
            choice = ""
            continue
        choice += char
    return [*options, choice], place


def expand_tokens(text: str, lookup: Callable[[str, str], object | None], now: datetime) -> str:
    """Replaces ``%Node.widget%`` by what ``lookup(node, widget)`` says, and ``%date:yyyy-MM-dd%``; the rest is left for the server."""

    def one(match: re.Match[str]) -> str:
        parts = match.group(1).split(".")
        if len(parts) != 2:
            return _date(parts[0][5:], now) if parts[0].startswith("date:") else match.group(0)
        value = lookup(parts[0], parts[1])
        return match.group(0) if value is None else _UNSAFE.sub("_", _shown(value))

    return _TOKEN.sub(one, text)


def _shown(value: object) -> str:
    """A value as JavaScript writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)


def _date(pattern: str, now: datetime) -> str:
    numbers = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def one(match: re.Match[str]) -> str:
        text = match.group(0)
        if text == "yy":
            return f"{now.year:04}"[2:]
        if text == "yyyy":
            return str(now.year)
        return str(numbers[text[0]]).zfill(len(text)) if text[0] in numbers else text

    return _DATE.sub(one, pattern)
