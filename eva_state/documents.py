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
FORM = 1  # of the items' texts; raised when a version of EVA writes them differently, so that it writes the views anew
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


def entry_of(record: Record) -> dict[str, Any]:
    """The history entry as it was recorded."""
    return entry_in(record.data) or {}


def history_item(entry: Record, rating: Record | None) -> dict[str, Any]:
    """An item of knowledge.json's history, with the person's rating where there is one."""
    found = entry_of(entry)
    if rating is not None:
        item = rating_item(rating)
        found["manual_rating"], found["manual_rated_at"] = item["rating"], item["rated_at"]
    return found


def queue_item(name: str, entry: Record | None, override: dict[str, Any] | None) -> dict[str, Any]:
    """An item of review_queue.json. ``override`` holds what another tool changed in it."""
    item: dict[str, Any] = {"video_id": name}
    if entry is not None:
        found = entry_of(entry)
        item |= {
            "original_path": found.get("video_path") or name,
            "thumbnail_path": None,
            "generated_at": found.get("timestamp", entry.ts),
            "auto_metrics": found.get("metrics") or {},
            "prompt": found.get("prompt", ""),
            "params": found.get("params") or {},
            "combo": found.get("combo") or [],
            # What the automatic score is least sure about is most worth a look: 1 at a score of 0.5, 0 at 0 and 1.
            "priority": priority(found.get("score")),
        }
    if override:
        item |= {key: value for key, value in override.items() if key != "list"}
    return item


def priority(score: Any) -> float:
    """Of a queued clip, in [0,1], from its automatic score."""
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        return 0.5
    return round(1 - 2 * abs(min(1.0, max(0.0, score)) - 0.5), 4)


def queue_override(model: Model, name: str) -> dict[str, Any] | None:
    record = model.imports.get((QUEUE, "item"), {}).get(name)
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


def imported(model: Model, view: str, kind: str) -> dict[str, Any]:
    """What was taken in from a file and is not taken away since: ``{name: value}``."""
    found = model.imports.get((view, kind), {})
    return {name: value for name, record in found.items() if (value := record.data["value"]) is not None}


def base_stats(model: Model) -> dict[str, dict[str, Any]]:
    """Combo statistics beyond what the history accounts for (from legacy files and hand edits)."""
    return imported(model, BANDIT, "base")


def base_pulls(model: Model) -> int:
    return imported(model, BANDIT, "t").get("", 0)


def bandit_head(model: Model, stats: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """bandit_state.json without ``combo_stats``; ``stats`` holds (N, S) by key."""
    return {
        "t": base_pulls(model) + model.pulls,
        "banned_combos": list(model.banned),
        "arms": list(stats),
        "N": {key: item[0] for key, item in stats.items()},
        "S": {key: item[1] for key, item in stats.items()},
        **imported(model, BANDIT, "extra"),
    }


def knowledge_head(model: Model) -> dict[str, Any]:
    """knowledge.json without its history."""
    head: dict[str, Any] = {"best_score": 0.0, "best_params": None, "best_combo": None}
    best = model.best()
    # A best that a file brought along stands until a clip beats it.
    head |= imported(model, KNOWLEDGE, "best").get("", {})
    if best is not None and best[0] > (head["best_score"] or 0.0):
        entry = model.clips[best[1]].entry
        found = {} if entry is None else entry_of(entry)
        head = {"best_score": best[0], "best_params": found.get("params"), "best_combo": found.get("combo")}
    return head | imported(model, KNOWLEDGE, "extra")


def ban_records(model: Model) -> list[dict[str, Any]]:
    """Items of ban_history.json, oldest first: those a file brought along, then every ban and unban."""
    return [*imported(model, BANS, "record").values(), *map(ban_record, model.bans_made)]


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
        found = {clip.name: rating_item(clip.rating) for clip in clips if clip.rating is not None}
        return imported(model, RATINGS, "extra") | found
    if view == BANDIT:
        stats = model.combo_stats(base_stats(model))
        return {"combo_stats": stats} | bandit_head(model, {key: (item["N"], item["S"]) for key, item in stats.items()})
    if view == KNOWLEDGE:
        return knowledge_head(model) | {"history": [history_item(clip.entry, clip.rating) for clip in clips if clip.entry is not None]}
    if view == QUEUE:
        lists: dict[str, list[Any]] = {name: [] for name in QUEUE_LISTS}
        for clip in clips:
            override = queue_override(model, clip.name)
            where = queue_list(clip, override)
            if where is not None:
                lists[where].append(queue_item(clip.name, clip.entry, override))
        return imported(model, QUEUE, "extra") | lists
    if view == BANS:
        return ban_records(model)
    raise ValueError(f"no view is called {view!r}")
