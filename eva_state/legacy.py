"""Reads the forms users' files have had: each function turns a part of a file into today's form, without loss.

Today's form is a fixed point: what EVA itself published comes out unchanged.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path, PureWindowsPath
from typing import Any

from eva_state import keys

QUALITY_ALIASES = ("overall", "quality")  # instead of overall_quality
NAME_KEYS = ("video", "video_path", "video_id", "video_name", "name")


def clip_name(value: Any, video_dir: Path | None) -> str | None:
    """A clip's name from a name or an absolute path; None when it is neither."""
    if not isinstance(value, str) or not value:
        return None
    windows = PureWindowsPath(value)
    if not (value.startswith("/") or windows.drive):
        return value
    text = windows.as_posix()
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
    _, found, tail = text.rpartition("/output/")
    return tail if found else text.rsplit("/", 1)[-1]


def rating(value: Any) -> dict[str, Any] | None:
    """A rating with ``overall_quality``, whatever it was called; None when there is no number to be found."""
    if not isinstance(value, dict):
        return None
    if is_number(value.get("overall_quality")):
        return value
    feedback = value.get("user_feedback")
    candidates = [value.get(alias) for alias in QUALITY_ALIASES]
    candidates.append(feedback.get("overall_rating") if isinstance(feedback, dict) else None)
    quality = next((found for found in candidates if is_number(found)), None)
    return None if quality is None else {**value, "overall_quality": quality}


def rating_data(name: str, value: Any) -> dict[str, Any] | None:
    """Data of a ``rating`` record for an item of manual_ratings.json; None when it holds no rating."""
    if not isinstance(value, dict):
        return None
    inner = value.get("rating")
    found = rating(inner)
    if found is None and isinstance(inner, dict) and not inner:
        return None
    if found is None:
        found = rating(value)  # the rating itself, not wrapped
        if found is None:
            return None
        if "rating" not in value:
            inner = {key: item for key, item in found.items() if key not in ("timestamp", "rated_at")}
            value = {key: value[key] for key in ("timestamp", "rated_at") if key in value}
            found = inner
    data: dict[str, Any] = {"name": name, "rating": found}
    if is_number(value.get("timestamp")):
        data["timestamp"] = value["timestamp"]
    if isinstance(value.get("rated_at"), str):
        data["rated_at"] = value["rated_at"]
    extra = {key: item for key, item in value.items() if key != "rating" and key not in data}
    if extra:
        data["extra"] = extra
    return data


def history(items: Any, video_dir: Path | None) -> tuple[dict[str, dict[str, Any]], list[Any]]:
    """Entries by clip name and the items that are no entries.

    Of several entries for one clip the newest by ``timestamp`` carries the plain name; the others, and those that
    name no clip, are told apart by their content.
    """
    named: dict[str, list[dict[str, Any]]] = {}
    odd: list[Any] = []
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, dict):
            odd.append(item)
            continue
        entry = dict(item)
        name = next((found for key in NAME_KEYS if (found := clip_name(item.get(key), video_dir)) is not None), None)
        if name is not None and item.get("video") != name:
            if isinstance(item.get("video"), str):
                entry.setdefault("video_path", item["video"])  # the path it had is kept
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
    """``{key: {"N", "S", "scores"}}`` of a bandit file in any form: combo_stats, total_reward/count, bare arms/N/S."""
    out: dict[str, dict[str, Any]] = {}
    found = document.get("combo_stats")
    if isinstance(found, dict):
        for key, value in found.items():
            if not isinstance(value, dict):
                continue
            scores = [score for score in value.get("scores") or [] if is_number(score)]
            count, total = value.get("N", value.get("count", len(scores))), value.get("S", value.get("total_reward", math.fsum(scores)))
            if is_number(count) and is_number(total):
                out[combo_key(key)] = {"N": count, "S": total, "scores": scores}
        return out
    names = document.get("arms")
    counts, sums = document.get("N"), document.get("S")
    if isinstance(names, dict):
        names = list(names)
    if names is None and isinstance(counts, dict):
        names = list(counts)
    for number, arm in enumerate(names if isinstance(names, list) else []):
        key = combo_key(arm)
        count, total = _at(counts, number, arm, key), _at(sums, number, arm, key)
        if is_number(count) and is_number(total) and count > 0:
            out[key] = {"N": count, "S": total, "scores": []}
    return out


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


def banned(document: dict[str, Any]) -> list[str]:
    """Keys of ``banned_combos`` (a list, or an object with the keys as names)."""
    found = document.get("banned_combos")
    return [combo_key(item) for item in found] if isinstance(found, (list, dict)) else []


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
