"""How far this process is behind the journals on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eva_state.journal import segments

if TYPE_CHECKING:
    from eva_state.store import StateStore


def journal_lag(store: StateStore) -> dict[str, int]:
    """Bytes of each other writer's journal that the store has not read yet; its own is never behind."""
    out: dict[str, int] = {}
    for writer, follower in list(store._followers.items()):
        if writer == store.role:
            continue
        segment, offset, _ = follower.position
        behind = 0
        for path in segments(follower.folder):
            if segment is not None and path.name < segment.name and len(path.name) <= len(segment.name):
                continue
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                continue  # compacted away meanwhile
            behind += max(0, size - offset) if segment is not None and path.name == segment.name else size
        out[writer] = behind
    return out
