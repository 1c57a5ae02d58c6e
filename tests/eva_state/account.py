"""An account of what was acknowledged, kept by lists and dictionaries of its own, and the actions that add to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eva_state.store import StateStore
from tests.eva_state.conftest import make_entry


class Account:
    """What was acknowledged, told by lists and dictionaries of its own."""

    def __init__(self) -> None:
        self.ratings: dict[str, list[tuple[str, int]]] = {}
        self.bans: dict[str, list[tuple[str, bool]]] = {}
        self.compares: list[str] = []
        self.undone: set[str] = set()
        self.history: dict[str, float] = {}
        self.flying: dict[str, None] = {}
        self.failed: list[str] = []

    def facts(self) -> dict[str, Any]:
        def holds(log: list[tuple[str, Any]]) -> Any:
            return next((value for id, value in reversed(log) if id not in self.undone), None)

        return {
            "ratings": {name: quality for name, log in self.ratings.items() if (quality := holds(log)) is not None},
            "bans": sorted(key for key, log in self.bans.items() if holds(log)),
            "compares": sorted(set(self.compares) - self.undone),
            "history": dict(self.history),
            "flying": sorted(self.flying),
            "failed": sorted(self.failed),
        }


def told(store: StateStore) -> dict[str, Any]:
    return {
        "ratings": {name: item["rating"]["overall_quality"] for name, item in store.ratings().items()},
        "bans": sorted(store.bans()),
        "compares": sorted(item["event_id"] for item in store.compares()),
        "history": {entry["video"]: entry["score"] for entry in store.history()},
        "flying": sorted(item["prompt_id"] for item in store.in_flight()),
        "failed": sorted(item["prompt_id"] for item in store.failures()),
    }


Step = tuple[Callable[[StateStore], Any], Callable[[Account], Any]]


def rate(id: str, name: str, quality: int) -> Step:
    return (
        lambda store: store.rate(name, {"overall_quality": quality}, id=id),
        lambda account: account.ratings.setdefault(name, []).append((id, quality)),
    )


def ban(id: str, key: str, on: bool = True) -> Step:
    return (
        lambda store: (store.ban if on else store.unban)(key, id=id),
        lambda account: account.bans.setdefault(key, []).append((id, on)),
    )


def ban_clip(id: str, name: str, key: str) -> Step:
    def note(account: Account) -> None:
        account.bans.setdefault(key, []).append((id, True))
        account.ratings.setdefault(name, []).append((id, 2))

    return lambda store: store.ban_clip(name, key, id=id), note


def compare(id: str) -> Step:
    return lambda store: store.compare("a.mp4", "b.mp4", "left", id=id), lambda account: account.compares.append(id)


def undo(target: str) -> Step:
    return lambda store: store.undo(target, id=f"undo {target}"), lambda account: account.undone.add(target)


def submit(prompt: str) -> Step:
    return lambda store: store.submitted({"prompt_id": prompt}), lambda account: account.flying.setdefault(prompt)


def finish(prompt: str, name: str, score: float) -> Step:
    def note(account: Account) -> None:
        account.flying.pop(prompt, None)
        account.history[name] = score

    return lambda store: store.generated(prompt, make_entry(name, score), score), note


def fail(prompt: str) -> Step:
    def note(account: Account) -> None:
        account.flying.pop(prompt, None)
        account.failed.append(prompt)

    return lambda store: store.failed(prompt, {"kind": "oom"}), note


def nothing(_: Any) -> None:
    return None
