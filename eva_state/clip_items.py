"""What the index answers about one clip, in the shapes that pages and scripts rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eva_state.clip_rows import Row
from eva_state.documents import entry_of
from eva_state.predictions import NOTHING, Said

if TYPE_CHECKING:
    from eva_state.store import StateStore


def _entry(store: StateStore, name: str) -> Mapping[str, Any]:
    """The history entry as generated: ``store.entry`` would read the rating too, which no item shows."""
    with store._lock:
        clip = store._model.clips.get(name)
        record = None if clip is None else clip.entry
    return {} if record is None else entry_of(record)


def _params(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    params = entry.get("params")
    return params if isinstance(params, Mapping) else {}


def video_item(row: Row, store: StateStore, banned: bool, said: Said = NOTHING) -> dict[str, Any]:
    """An element of ``GET /api/videos``."""
    entry = _entry(store, row.alias or row.name)
    params = _params(entry)
    return {
        "name": row.name,
        "size_mb": round(row.file.size / 1e6, 3) if row.file is not None else None,
        "created": round(row.created, 3),
        "prompt": entry.get("prompt"),
        "negative_prompt": entry.get("negative_prompt"),
        "fps": params.get("fps"),
        "width": params.get("width"),
        "height": params.get("height"),
        "seconds": entry.get("seconds", params.get("seconds")),
        "seed": entry.get("seed", params.get("seed")),
        # An older entry may hold its params without the pair.
        "combo": entry.get("combo") or ([params["sampler"], params["scheduler"]] if {"sampler", "scheduler"} <= params.keys() else None),
        "combo_key": row.combo,
        "combo_banned": banned,
        "params": params,
        "score": row.score,
        "auto_metrics": entry.get("metrics"),
        "findings": entry.get("findings"),
        "iteration": entry.get("iteration", row.position + 1 if row.position >= 0 else None),
        "found_in_knowledge": row.found,
        "match_method": "none" if not row.found else "exact" if row.alias is None else "basename",
        "predicted": said.predicted(row.name, row.alias),
    }


def search_item(row: Row, store: StateStore, banned: bool, said: Said = NOTHING) -> dict[str, Any]:
    """An element of ``GET /api/search``'s ``items``."""
    entry = _entry(store, row.alias or row.name)
    return {
        "name": row.name,
        "score": row.score,
        "manual_overall": row.manual,
        "rated": row.rated,
        "banned": banned,
        "reference": row.reference,
        "params": _params(entry),
        "combo_key": row.combo,
        "prompt": entry.get("prompt"),
        "created": round(row.created, 3),
        "rated_at": row.rated_at,
        "defects": [value for kind, value in row.facets if kind == "defect"],
        "tags": [value for kind, value in row.facets if kind == "tag"],
        "exists": row.file is not None,
        "predicted": said.predicted(row.name, row.alias),
    }
