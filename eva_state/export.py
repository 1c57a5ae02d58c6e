"""One row a clip, and one row an action, for spreadsheets and other programs (``python -m eva_state export``)."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from eva_state import keys, legacy
from eva_state.documents import local_time
from eva_state.reads import StoreReads
from eva_state.registers import combo_of, human_reward
from eva_state.video_folder import NotAClip, check_name

Progress = Callable[[str, int], None]  # what is being counted, how many so far
PARAMS = ("sampler", "scheduler", "fps", "cfg_scale", "steps", "width", "height")
QUALITIES = ("overall_quality", "visual_quality", "motion_quality", "prompt_adherence", "creativity", "technical_quality")
_BEFORE = ("name", "exists", "prompt", "negative_prompt", "seed", *PARAMS, "combo_key", "score", "reward")
_AFTER = (
    *("is_reference", "banned", "banned_by", "defects", "comments", "timestamp", "generated_at", "rated_timestamp", "rated_at"),
    *("cost_minutes", "other_params", "other_rating"),
)


def clip_rows(store: StoreReads, video_dir: Path | None, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
    """A row for every clip that was generated or rated, as JSON values.

    ``score`` is the automatic one in [0,1], ``reward`` a person's where there is one, else ``score``; ``banned``: marked in its
    rating, or its combo is banned now (``banned_by`` names the ban); times are unix seconds and local time; what is not known is null.
    ``exists`` is null without a video folder.
    """
    banned_by: dict[str, str | None] = {}
    for number, clip in enumerate(store.iter_clips(), 1):
        entry, rated = clip.entry or {}, clip.rating or {}
        params = entry["params"] if isinstance(entry.get("params"), dict) else {}
        rating = rated["rating"] if isinstance(rated.get("rating"), dict) else {}
        key = combo_of(entry)
        if key is not None and key not in banned_by:
            banned_by[key] = store.banned_by(key)
        ban = None if key is None else banned_by[key]
        score = entry.get("score") if clip.auto is None else clip.auto
        human = human_reward(rating)
        seed = entry.get("seed", params.get("seed"))
        stamp = unix(entry.get("timestamp"))
        yield {
            "name": clip.name,
            "exists": None if video_dir is None else _exists(video_dir, clip.name),
            "prompt": entry.get("prompt"),
            "negative_prompt": entry.get("negative_prompt"),
            "seed": seed,
            "params": params,
            "combo_key": key,
            "score": score,
            "reward": (score if human is None else human) if entry else human,
            "metrics": entry["metrics"] if isinstance(entry.get("metrics"), dict) else {},
            "rating": rating or None,
            "is_reference": bool(rating.get("is_reference", False)),
            "banned": bool(rating.get("banned", False)) or ban is not None,
            "banned_by": ban,
            "defects": rating.get("defects") or [],
            "comments": rating.get("comments"),
            "timestamp": stamp,
            "generated_at": None if stamp is None else local_time(stamp),
            "rated_timestamp": rated.get("timestamp"),
            "rated_at": rated.get("rated_at"),
            "cost_minutes": clip.cost_minutes,
        }
        if progress is not None:
            progress("clips", number)


def unix(value: Any) -> float | None:
    """Unix seconds, also of a date in ISO form; None for what is neither."""
    found = value if legacy.is_number(value) else legacy.unix_time(value)
    return found if found is not None and 0 <= found < 1e11 else None


def _exists(video_dir: Path, name: str) -> bool:
    try:
        return (video_dir / check_name(name)).is_file()
    except (NotAClip, OSError):
        return False


def write_jsonl(rows: Iterable[dict[str, Any]], file: TextIO) -> int:
    """One JSON object a line; how many."""
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the count is the answer
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return count


def metric_names(store: StoreReads) -> list[str]:
    """Every metric any clip has."""
    return sorted({name for entry in store.iter_history() if isinstance(entry.get("metrics"), dict) for name in entry["metrics"]})


def write_clips_csv(rows: Iterable[dict[str, Any]], metrics: list[str], file: TextIO) -> int:
    """A table with a header (RFC 4180); how many rows.

    Each metric has a column ``metric_NAME``. Params and ratings without a column of their own stand as JSON in
    ``other_params`` and ``other_rating``.
    """
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([*_BEFORE, *(f"metric_{name}" for name in metrics), *QUALITIES, *_AFTER])
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        params, rating = row["params"], row["rating"] or {}
        flat = {
            **row,
            **{name: params.get(name) for name in PARAMS},
            **{name: rating.get(name) for name in QUALITIES},
            "cfg_scale": params.get("cfg_scale", params.get("cfg")),
            "defects": "; ".join(map(_cell, row["defects"])) if isinstance(row["defects"], list) else row["defects"],
            "other_params": {name: value for name, value in params.items() if name not in (*PARAMS, "cfg", "seed")} or None,
            "other_rating": {name: value for name, value in rating.items() if name not in (*QUALITIES, *_AFTER)} or None,
        }
        cells = [*(flat[name] for name in _BEFORE), *(row["metrics"].get(name) for name in metrics)]
        cells += [*(flat[name] for name in (*QUALITIES, *_AFTER))]
        writer.writerow(map(_cell, cells))
    return count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return keys.format_number(value)
    return json.dumps(value, ensure_ascii=False)


def action_line(action: dict[str, Any]) -> str:
    """An action in one line: when, who, what, on what, undone or not, its id."""
    kind = action["type"]
    if kind == "rating":
        rating = action["rating"]
        what = f"{action['name']!r} " + ("taken away" if rating is None else f"overall {rating.get('overall_quality')}")
    elif kind == "compare":
        what = f"{action['left']!r} {action['right']!r} winner {action['winner']}"
    elif kind == "undo":
        what = f"of {action['target']}"
    else:
        clip = f" by clip {action['name']!r}" if action.get("name") else ""
        what = f"{action['key']}{clip}" + (f" ({action['reason']})" if action.get("reason") else "")
    who = action["writer"] + (f" {action['by']}" if action.get("by") else "")
    undone = f"  UNDONE by {action['undone_by']}" if action["undone"] else ""
    return f"{action['time']}  {who:<16}  {kind:<7}  {what}  [{action['event_id']}]{undone}"
