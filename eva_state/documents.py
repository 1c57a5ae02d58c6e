"""What each view says, as a function of the model: one item at a time, or a whole document."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from eva_state.model import Event, Model, entry_data

RATINGS, BANDIT, KNOWLEDGE = "manual_ratings.json", "bandit_state.json", "knowledge.json"
QUEUE, BANS = "review_queue.json", "ban_history.json"
VIEWS = (RATINGS, BANDIT, KNOWLEDGE, QUEUE, BANS)
QUEUE_LISTS = ("pending", "in_review", "completed")
APPLIED_KEY = "_eva"  # in views that are objects with fixed keys; other tools ignore it
ITEM_KEYS = frozenset({"rating", "timestamp", "rated_at"})


def local_time(ts: float) -> str:
    """``YYYY-MM-DD HH:MM:SS`` in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ts))


def rating_item(event: Event) -> dict[str, Any]:
    """An item of manual_ratings.json: ``{"rating", "timestamp", "rated_at"}`` and what else a tool had put there."""
    data = event.data
    stamp = data.get("timestamp", event.ts)
    return {**data.get("extra", {}), "rating": data["rating"], "timestamp": stamp, "rated_at": data.get("rated_at") or local_time(stamp)}


def history_item(entry: Event, rating: Event | None) -> dict[str, Any]:
    """An item of knowledge.json's history, with the person's rating where there is one."""
    found = entry_data(entry) or {}
    if rating is None:
        return found
    item = rating_item(rating)
    return {**found, "manual_rating": item["rating"], "manual_rated_at": item["rated_at"]}


def queue_item(name: str, entry: Event | None, override: dict[str, Any] | None) -> dict[str, Any]:
    """An item of review_queue.json. ``override`` holds what another tool changed in it."""
    item: dict[str, Any] = {"video_id": name}
    if entry is not None:
        found = entry_data(entry) or {}
        item |= {
            "original_path": found.get("video_path") or found.get("video", name),
            "thumbnail_path": None,
            "generated_at": found.get("timestamp", entry.ts),
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


def queue_list(model: Model, name: str) -> str | None:
    """Which list of the review queue a clip stands in; None: in none."""
    override = queue_override(model, name)
    if override is not None and override.get("list") == "removed":
        return None
    if name in model.ratings:
        return "completed" if name in model.entries or override is not None else None
    if override is not None and override.get("list") in QUEUE_LISTS:
        return override["list"]
    return "pending" if name in model.entries else None


def queue_override(model: Model, name: str) -> dict[str, Any] | None:
    event = model.imports.get((QUEUE, f"item/{name}"))
    return None if event is None else event.data["value"]


def queue_names(model: Model) -> Iterator[str]:
    """Every clip that may stand in the review queue."""
    yield from model.entries
    for view, key in model.imports:
        if view == QUEUE and key.startswith("item/") and key[5:] not in model.entries:
            yield key[5:]


def extras(model: Model, view: str) -> dict[str, Any]:
    """Top-level keys of a view that EVA does not know and keeps."""
    return {
        key[6:]: event.data["value"]
        for (where, key), event in model.imports.items()
        if where == view and key.startswith("extra/") and event.data["value"] is not None
    }


def base_stats(model: Model) -> dict[str, dict[str, Any]]:
    """Combo statistics beyond what the history accounts for (from legacy files and hand edits)."""
    return {
        key[5:]: event.data["value"]
        for (where, key), event in model.imports.items()
        if where == BANDIT and key.startswith("base/") and event.data["value"] is not None
    }


def base_pulls(model: Model) -> int:
    event = model.imports.get((BANDIT, "t"))
    return 0 if event is None else event.data["value"]


def bandit_document(model: Model) -> dict[str, Any]:
    stats = model.combo_stats(base_stats(model))
    return {
        "combo_stats": stats,
        "t": base_pulls(model) + sum(map(len, model.combos.values())),
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
        found = entry_data(model.entries[best[1]]) or {}
        head = {"best_score": best[0], "best_params": found.get("params"), "best_combo": found.get("combo")}
    return head | extras(model, KNOWLEDGE)


def ban_records(model: Model) -> list[dict[str, Any]]:
    """Items of ban_history.json, oldest first: those a file brought along, then every ban and unban."""
    old = [
        event.data["value"]
        for (view, key), event in model.imports.items()
        if view == BANS and key.startswith("record/") and event.data["value"] is not None
    ]
    return old + [ban_record(event) for event in model.actions if event.type in ("ban", "unban")]


def ban_record(event: Event) -> dict[str, Any]:
    data = event.data
    record = {
        "action": event.type,
        "combo_key": data["key"],
        "reason": data.get("reason") or "",
        "by": data.get("by") or "",
        "timestamp": event.ts,
        "time": local_time(event.ts),
        "event_id": event.id,
        "undone": event.undone,
    }
    if data.get("name") is not None:
        record["video"] = data["name"]
    return record


def document(model: Model, view: str) -> Any:
    """The whole content of a view, without :data:`APPLIED_KEY`."""
    if view == RATINGS:
        return {name: rating_item(event) for name, event in model.ratings.items()}
    if view == BANDIT:
        return bandit_document(model)
    if view == KNOWLEDGE:
        return knowledge_head(model) | {"history": [history_item(e, model.ratings.get(n)) for n, e in model.entries.items()]}
    if view == QUEUE:
        lists: dict[str, list[Any]] = {name: [] for name in QUEUE_LISTS}
        for name in queue_names(model):
            where = queue_list(model, name)
            if where is not None:
                lists[where].append(queue_item(name, model.entries.get(name), queue_override(model, name)))
        return extras(model, QUEUE) | lists
    if view == BANS:
        return ban_records(model)
    raise ValueError(f"no view is called {view!r}")
