"""What each view says, as a function of the model: one item at a time, or a whole document."""

from __future__ import annotations

import time
from typing import Any

from eva_state.model import Model
from eva_state.records import Record
from eva_state.registers import Clip, entry_in

RATINGS, BANDIT, KNOWLEDGE = "manual_ratings.json", "bandit_state.json", "knowledge.json"
QUEUE, BANS = "review_queue.json", "ban_history.json"
VIEWS = (RATINGS, BANDIT, KNOWLEDGE, QUEUE, BANS)
QUEUE_LISTS = ("pending", "in_review", "completed")
APPLIED_KEY = "_eva"  # in views that are objects with fixed keys; other tools ignore it
ITEM_KEYS = frozenset({"rating", "timestamp", "rated_at"})


def local_time(ts: float) -> str:
    """``YYYY-MM-DD HH:MM:SS`` in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ts))


def rating_item(record: Record) -> dict[str, Any]:
    """An item of manual_ratings.json: ``{"rating", "timestamp", "rated_at"}`` and what else a tool had put there."""
    data = record.data
    stamp = data.get("timestamp", record.ts)
    return {**data.get("extra", {}), "rating": data["rating"], "timestamp": stamp, "rated_at": data.get("rated_at") or local_time(stamp)}


def entry_of(clip: Clip) -> dict[str, Any]:
    """The clip's history entry as it was recorded; empty without one."""
    return (None if clip.entry is None else entry_in(clip.entry.data)) or {}


def history_item(clip: Clip) -> dict[str, Any]:
    """An item of knowledge.json's history, with the person's rating where there is one."""
    found = entry_of(clip)
    if clip.rating is not None:
        item = rating_item(clip.rating)
        found["manual_rating"], found["manual_rated_at"] = item["rating"], item["rated_at"]
    return found


def queue_item(clip: Clip, override: dict[str, Any] | None) -> dict[str, Any]:
    """An item of review_queue.json. ``override`` holds what another tool changed in it."""
    item: dict[str, Any] = {"video_id": clip.name}
    if clip.entry is not None:
        found = entry_of(clip)
        item |= {
            "original_path": found.get("video_path") or clip.name,
            "thumbnail_path": None,
            "generated_at": found.get("timestamp", clip.entry.ts),
            "auto_metrics": found.get("metrics") or {},
            "prompt": found.get("prompt", ""),
            "params": found.get("params") or {},
            "combo": found.get("combo") or [],
            # What the automatic score is least sure about is most worth a look: 1 at a score of 0.5, 0 at 0 and 1.
            "priority": _priority(found.get("score")),
        }
    if override:
        item |= {key: value for key, value in override.items() if key != "list"}
    return item


def _priority(score: Any) -> float:
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        return 0.5
    return round(1 - 2 * abs(min(1.0, max(0.0, score)) - 0.5), 4)


def queue_override(model: Model, name: str) -> dict[str, Any] | None:
    record = model.imports.get((QUEUE, f"item/{name}"))
    return None if record is None else record.data["value"]


def queue_list(clip: Clip, override: dict[str, Any] | None) -> str | None:
    """Which list of the review queue a clip stands in; None: in none."""
    wanted = None if override is None else override.get("list")
    if wanted == "removed":
        return None
    if clip.entry is None and override is None:
        return None
    if clip.rating is not None:
        return "completed"
    return wanted if wanted in QUEUE_LISTS else "pending"


def extras(model: Model, view: str) -> dict[str, Any]:
    """Top-level keys of a view that EVA does not know and keeps."""
    return {
        key[6:]: value
        for (where, key), record in model.imports.items()
        if where == view and key.startswith("extra/") and (value := record.data["value"]) is not None
    }


def base_stats(model: Model) -> dict[str, dict[str, Any]]:
    """Combo statistics beyond what the history accounts for (from legacy files and hand edits)."""
    return {
        key[5:]: value
        for (where, key), record in model.imports.items()
        if where == BANDIT and key.startswith("base/") and (value := record.data["value"]) is not None
    }


def base_pulls(model: Model) -> int:
    record = model.imports.get((BANDIT, "t"))
    return 0 if record is None else record.data["value"]


def bandit_document(model: Model) -> dict[str, Any]:
    stats = model.combo_stats(base_stats(model))
    return {
        "combo_stats": stats,
        "t": base_pulls(model) + model.pulls,
        "banned_combos": list(model.banned),
        "arms": list(stats),
        "N": {key: item["N"] for key, item in stats.items()},
        "S": {key: item["S"] for key, item in stats.items()},
        **extras(model, BANDIT),
    }


def knowledge_head(model: Model) -> dict[str, Any]:
    """knowledge.json without its history."""
    head: dict[str, Any] = {"best_score": 0.0, "best_params": None, "best_combo": None}
    override = model.imports.get((KNOWLEDGE, "best"))
    best = model.best()
    # A best that a file brought along stands until a clip beats it.
    if override is not None:
        head |= override.data["value"]
    if best is not None and best[0] > (head["best_score"] or 0.0):
        found = entry_of(model.clips[best[1]])
        head = {"best_score": best[0], "best_params": found.get("params"), "best_combo": found.get("combo")}
    return head | extras(model, KNOWLEDGE)


def ban_records(model: Model) -> list[dict[str, Any]]:
    """Items of ban_history.json, oldest first: those a file brought along, then every ban and unban."""
    old = [
        value
        for (view, key), record in model.imports.items()
        if view == BANS and key.startswith("record/") and (value := record.data["value"]) is not None
    ]
    return old + [ban_record(record) for record in model.actions if record.type in ("ban", "unban")]


def ban_record(record: Record) -> dict[str, Any]:
    data = record.data
    item = {
        "action": record.type,
        "combo_key": data["key"],
        "reason": data.get("reason") or "",
        "by": data.get("by") or "",
        "timestamp": record.ts,
        "time": local_time(record.ts),
        "event_id": record.id,
        "undone": record.undone,
    }
    if data.get("name") is not None:
        item["video"] = data["name"]
    return item


def document(model: Model, view: str) -> Any:
    """The whole content of a view, without :data:`APPLIED_KEY`."""
    clips = model.clips.values()
    if view == RATINGS:
        return {clip.name: rating_item(clip.rating) for clip in clips if clip.rating is not None}
    if view == BANDIT:
        return bandit_document(model)
    if view == KNOWLEDGE:
        return knowledge_head(model) | {"history": [history_item(clip) for clip in clips if clip.entry is not None]}
    if view == QUEUE:
        lists: dict[str, list[Any]] = {name: [] for name in QUEUE_LISTS}
        for clip in clips:
            override = queue_override(model, clip.name)
            where = queue_list(clip, override)
            if where is not None:
                lists[where].append(queue_item(clip, override))
        return extras(model, QUEUE) | lists
    if view == BANS:
        return ban_records(model)
    raise ValueError(f"no view is called {view!r}")
