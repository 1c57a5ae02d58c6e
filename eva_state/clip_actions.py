"""What was done to one clip: the actions that name it, without parsing those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eva_state.reads import action_item
from eva_state.records import Record, dump

if TYPE_CHECKING:
    from eva_state.store import StateStore


def actions_of_clip(store: StateStore, name: str, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
    """As ``store.actions``, newest first, but only ratings, bans, comparisons and undos that concern the clip ``name``."""
    with store._lock:
        model = store._model
        clip = model.clips.get(name)
        log = None if clip is None else clip.rating_log
        found = {record.id for record in (log if isinstance(log, list) else [log]) if record is not None}
        actions = list(model.actions)
    quoted = dump(name)
    mine: list[Record] = []
    for record in actions:  # an undo comes after what it undoes
        if record.id in found:
            mine.append(record)
        elif record.type == "undo":
            if record.data.get("target") in found:
                mine.append(record)
        elif record.type != "rating" and quoted in record.raw and name in _named(record.data):
            found.add(record.id)
            mine.append(record)
    end = len(mine) - offset
    return [action_item(record) for record in reversed(mine[max(0, end - limit) : max(0, end)])]


def _named(data: dict[str, Any]) -> tuple[Any, ...]:
    return data.get("name"), data.get("left"), data.get("right")
