"""Reads the forms users' files have had: each function turns a part of a file into today's form, without loss.

Today's form is a fixed point: what EVA itself published comes out unchanged.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any

from eva_state import keys
from eva_state.documents import BANS, KNOWLEDGE, QUEUE, RATINGS
from eva_state.video_folder import is_clip_name

QUALITY_ALIASES = ("overall", "quality")  # instead of overall_quality
NAME_KEYS = ("video", "video_path", "video_id", "video_name", "name")
STAT_KEYS = frozenset({"N", "S", "scores", "count", "total_reward"})
_SURROGATE = re.compile("[\ud800-\udfff]")


def load(data: bytes) -> tuple[Any, list[str]]:
    """The JSON value of a file (UTF-8, -16 or -32, with or without BOM), and the names that stand twice in one object.

    Raises ValueError (RecursionError) for what is no JSON.
    """
    doubled: list[str] = []

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            doubled.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return found

    return json.loads(data, object_pairs_hook=made), doubled


def clean(value: Any) -> Any:
    """``value`` with U+FFFD for halves of surrogate pairs, which a page that cuts a text inside an emoji leaves behind."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value


def shaped(view: str, content: Any) -> Any:
    """A whole file in the form of an object, where it is a bare list of what the object would hold."""
    if not isinstance(content, list) or view == BANS:
        return content
    if view == KNOWLEDGE:
        return {"history": content}
    if view == QUEUE:
        return {"pending": content}
    if view == RATINGS and all(isinstance(item, dict) and _name_in(item) for item in content):
        out: dict[str, Any] = {}
        for item in content:
            name = _name_in(item)
            while name in out:  # told apart as paths of one clip are
                name = "/" + name
            out[name] = item
        return out
    return content


def _name_in(item: dict[str, Any]) -> str:
    return next((value for key in NAME_KEYS if isinstance(value := item.get(key), str) and value), "")


def clip_name(value: Any, video_dir: Path | None, *, windows: bool = False) -> str | None:
    """A clip's name from a name or an absolute path; None when it is neither.

    ``windows``: a relative path with backslashes is taken for Windows' (elsewhere a name may hold one).
    """
    if not isinstance(value, str) or not value:
        return None
    path = PureWindowsPath(value)
    if not (value.startswith("/") or path.drive):
        if windows and "\\" in value and "/" not in value and is_clip_name(path.name):
            return path.as_posix()
        return value
    text = path.as_posix()
    if video_dir is not None:
        root = video_dir.as_posix().rstrip("/") + "/"
        if text.startswith(root):
            return text[len(root) :]
        parts = text.split("/")
        # The folder was moved or belongs to another machine: the longest tail that exists here is the clip.
        for start in range(1, len(parts) - 1):
            tail = "/".join(parts[start:])
            if (video_dir / tail).is_file():
                return tail
    # ComfyUI's folder is called `output` everywhere; below it stands the name.
    for folder in ("/ComfyUI/output/", "/output/"):
        _, found, tail = text.partition(folder)
        if found and tail:
            return tail
    return text.rsplit("/", 1)[-1] or value


def rating(value: Any) -> dict[str, Any] | None:
    """A rating with ``overall_quality``, whatever it was called; None when there is no number to be found."""
    if is_number(value):
        return {"overall_quality": value}
    if not isinstance(value, dict):
        return None
    if is_number(value.get("overall_quality")):
        return value
    feedback = value.get("user_feedback")
    candidates = [value.get("overall_quality"), *(value.get(alias) for alias in QUALITY_ALIASES)]
    candidates.append(feedback.get("overall_rating") if isinstance(feedback, dict) else None)
    quality = next((found for item in candidates if (found := _number(item)) is not None), None)
    return None if quality is None else {**value, "overall_quality": quality}


def _number(value: Any) -> int | float | None:
    """A number, also where it was written as text."""
    if isinstance(value, str):
        try:
            value = float(value.strip().replace(",", "."))
        except ValueError:
            return None
        value = int(value) if math.isfinite(value) and value.is_integer() else value
    return value if is_number(value) else None


def rating_data(name: str, value: Any) -> dict[str, Any] | None:
    """Data of a ``rating`` record for an item of manual_ratings.json; None when it holds no rating."""
    if is_number(value):
        value = {"rating": value}
    if not isinstance(value, dict):
        return None
    inner = value.get("rating")
    found = rating(inner)
    if found is None:
        found = rating(value)  # the rating itself, not wrapped
        if found is None:
            return None
        if "rating" not in value:
            inner = {key: item for key, item in found.items() if key not in ("timestamp", "rated_at")}
            value = {key: value[key] for key in ("timestamp", "rated_at") if key in value}
            found = inner
        else:
            # What stood under `rating` and told no number is kept in the rating, the rest beside it.
            found = {**(inner if isinstance(inner, dict) else {}), "overall_quality": found["overall_quality"]}
    data: dict[str, Any] = {"name": name, "rating": found}
    stamp = value.get("timestamp")
    if not is_number(stamp):
        stamp = next((when for text in (stamp, value.get("rated_at")) if (when := unix_time(text)) is not None), None)
    if stamp is not None:
        data["timestamp"] = stamp
    if isinstance(value.get("rated_at"), str):
        data["rated_at"] = value["rated_at"]
    elif isinstance(value.get("timestamp"), str):
        data["rated_at"] = value["timestamp"]
    extra = {key: item for key, item in value.items() if key not in ("rating", "timestamp", "rated_at")}
    for key in ("timestamp", "rated_at"):
        if key in value and value[key] not in (None, data.get("timestamp"), data.get("rated_at")):
            extra.setdefault(f"{key}_original", value[key])
    if extra:
        data["extra"] = extra
    return data


def unix_time(text: Any) -> float | None:
    """Unix seconds of a date in ISO form (local time where it names no zone)."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):  # OSError: before 1970 on Windows
        return None


def rated_when(value: Any) -> float:
    """When an item of manual_ratings.json was rated; -inf where it does not say."""
    found = rating_data("", value)
    stamp = None if found is None else found.get("timestamp")
    return -math.inf if stamp is None else float(stamp)


def history(items: Any, video_dir: Path | None, *, windows: bool = False) -> tuple[dict[str, dict[str, Any]], list[Any]]:
    """Entries by clip name and the items that are no entries.

    Of several entries for one clip the newest by ``timestamp`` carries the plain name; the others, and those that
    name no clip, are told apart by their content.
    """
    named: dict[str, list[dict[str, Any]]] = {}
    odd: list[Any] = []
    if isinstance(items, dict):  # by name or number
        items = [item if not isinstance(item, dict) or _name_in(item) else {"video": key, **item} for key, item in items.items()]
    elif not isinstance(items, (list, type(None))):
        odd, items = [items], []
    for item in items or []:
        if not isinstance(item, dict):
            odd.append(item)
            continue
        entry = dict(item)
        name = next((found for key in NAME_KEYS if (found := clip_name(item.get(key), video_dir, windows=windows)) is not None), None)
        if name is not None and item.get("video") != name:
            written = item.get("video")
            if written is not None and entry.setdefault("video_path", written) != written:
                entry.setdefault("video_original", written)  # what stood there is kept
            entry["video"] = name
        named.setdefault(name or "", []).append(entry)
    entries: dict[str, dict[str, Any]] = {}
    for clip, several in named.items():
        several.sort(key=_when_and_what)
        for entry in several if not clip else several[:-1]:
            entries[f"{clip} ({hashlib.sha256(_text(entry)).hexdigest()[:12]})".lstrip()] = entry
        if clip:
            entries[clip] = several[-1]
    return entries, odd


def _text(entry: dict[str, Any]) -> bytes:
    # Without the rating, which may change while the entry stays the same one.
    return json.dumps({key: value for key, value in entry.items() if not key.startswith("manual_")}, sort_keys=True).encode()


def _when_and_what(entry: dict[str, Any]) -> tuple[float, bytes]:
    stamp: Any = entry.get("timestamp")
    return (float(stamp) if is_number(stamp) else -math.inf, _text(entry))


def combo_stats(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """``{key: {"N", "S", "scores"}}`` of a bandit file in any form: combo_stats, total_reward/count, bare arms/N/S.

    Unknown keys of an item are kept in it. Two spellings of one key (``7`` and ``7.0``) are added up.
    """
    out: dict[str, dict[str, Any]] = {}
    found = document.get("combo_stats")
    if isinstance(found, dict):
        for key, value in found.items():
            stat = _stat(value)
            if stat is not None:
                _add(out, combo_key(key), stat)
        return out
    names = document.get("arms")
    counts, sums = document.get("N"), document.get("S")
    if isinstance(names, dict):
        if counts is None and sums is None:  # arms that carry their own figures
            return combo_stats({"combo_stats": names})
        names = list(names)
    if names is None and isinstance(counts, dict):
        names = list(counts)
    for number, arm in enumerate(names if isinstance(names, list) else []):
        key = combo_key(arm)
        count, total = _at(counts, number, arm, key), _at(sums, number, arm, key)
        if is_number(count) and is_number(total) and count > 0:
            _add(out, key, {"N": count, "S": total, "scores": []})
    return out


def _stat(value: Any) -> dict[str, Any] | None:
    """One item of combo_stats, or None when it tells no count or sum."""
    if isinstance(value, list):
        value = {"scores": value}
    if not isinstance(value, dict):
        return None
    given = value.get("scores")
    scores = [score for score in given if is_number(score)] if isinstance(given, list) else []
    count, total = value.get("N", value.get("count", len(scores))), value.get("S", value.get("total_reward", math.fsum(scores)))
    if not (is_number(count) and is_number(total)):
        return None
    return {**{key: item for key, item in value.items() if key not in STAT_KEYS}, "N": count, "S": total, "scores": scores}


def _add(out: dict[str, dict[str, Any]], key: str, stat: dict[str, Any]) -> None:
    known = out.get(key)
    if known is not None:
        both = {"N": known["N"] + stat["N"], "S": known["S"] + stat["S"], "scores": [*known["scores"], *stat["scores"]]}
        stat = {**known, **stat, **both}
    out[key] = stat


def unreadable_combos(document: dict[str, Any]) -> dict[str, Any]:
    """The items of ``combo_stats`` that :func:`combo_stats` cannot read."""
    found = document.get("combo_stats")
    if isinstance(found, dict):
        return {key: value for key, value in found.items() if _stat(value) is None}
    return {} if found is None else {"combo_stats": found}


def _at(values: Any, number: int, arm: Any, key: str) -> Any:
    if isinstance(values, list):
        return values[number] if number < len(values) else None
    if isinstance(values, dict):
        return values.get(arm if isinstance(arm, str) else key, values.get(key, values.get(str(number))))
    return None


def combo_key(value: Any) -> str:
    """A key or pattern from a key, params, or a list of its fields; text that is none of these stays as it is."""
    try:
        if isinstance(value, dict):
            return keys.pattern_of(value)
        parts = [str(part) for part in value] if isinstance(value, (list, tuple)) else str(value).split("|")
        # The first bandits knew [sampler, scheduler] only.
        return keys.normalise_pattern("|".join(parts + [keys.ANY] * (len(keys.FIELDS) - len(parts))))
    except ValueError:
        return str(value)


def banned(document: dict[str, Any]) -> dict[str, str]:
    """Keys of ``banned_combos`` with the reason where one stands there (a list, or an object with the keys as names)."""
    out: dict[str, str] = {}
    for item, reason in _banned_items(document):
        key = _ban_key(item)
        if key is not None:
            out[key] = reason if isinstance(reason, str) else ""
    return out


def unreadable_bans(document: dict[str, Any]) -> list[Any]:
    """What stands under ``banned_combos`` and is neither a key, nor a pattern, nor params."""
    found = document.get("banned_combos")
    if not isinstance(found, (list, dict, type(None))):
        return [found]
    return [item for item, _ in _banned_items(document) if _ban_key(item) is None]


def _banned_items(document: dict[str, Any]) -> list[tuple[Any, Any]]:
    found = document.get("banned_combos")
    if isinstance(found, dict):
        return [(key, value.get("reason") if isinstance(value, dict) else value) for key, value in found.items()]
    items = found if isinstance(found, list) else []
    out = []
    for item in items:
        wrapped = isinstance(item, dict) and next((item[key] for key in ("combo_key", "combo", "key", "params") if item.get(key)), None)
        out.append((wrapped, item.get("reason")) if wrapped else (item, None))
    return out


def _ban_key(item: Any) -> str | None:
    key = combo_key(item)
    try:
        key = keys.normalise_pattern(key)
    except ValueError:
        return None
    # An empty object or list is no wish to ban everything.
    return None if not isinstance(item, str) and set(key.split("|")) == {keys.ANY} else key


def ban_records(document: Any) -> list[Any]:
    """Items of ban_history.json: a list, or an object that holds lists or one item a key."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return [document]
    out: list[Any] = []
    for key, value in document.items():
        if isinstance(value, list):
            out += value
        elif isinstance(value, dict):
            out.append({"combo_key": key} | value)
        else:
            out.append({"key": key, "value": value})
    return out


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
