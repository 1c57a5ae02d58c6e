"""What people ask for through the review pages: taken from the state, obeyed or put before the agent's own choices, and answered.

Controls (pause, resume, skip, stop after this one) are obeyed when they are noticed, some tenths of a second after they were recorded.
Requests for clips wait in a line, oldest first, and each takes the next free place at any server: ``again`` makes a clip once more with a
new seed, ``vary`` changes one parameter to a neighbouring value and keeps prompt and seed, ``try`` takes the given parameters.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from eva_p1.agent_hooks import AgentControl, AgentHooks
from eva_p1.agent_ledger import Ledger
from eva_p1.agent_types import Params, Proposal
from eva_p1.search_space import SearchSpace
from eva_state.agent_requests import CONTROLS
from eva_state.keys import EXTRA, combo_key

log = logging.getLogger(__name__)
NEW_REQUESTS = frozenset({"request", "reload"})


class RequestDesk(AgentHooks):
    """The policy that is asked first. ``space``: the search space in use."""

    name = "request"

    def __init__(self, ledger: Ledger, space: Callable[[], SearchSpace], rng: random.Random):
        self._ledger, self._space, self._rng = ledger, space, rng
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._line: deque[dict[str, Any]] = deque()

    def begin(self) -> None:
        """At the start of a run: clips asked for earlier are taken up, controls of an earlier run are void."""
        with self._lock:
            self._line.clear()
            waiting = [item for item in reversed(self._ledger.store.requests()) if item["state"] == "waiting"]
            self._seen.update(item["id"] for item in waiting)
            self._line.extend(item for item in waiting if item["action"] not in CONTROLS)
        for item in waiting:
            if item["action"] in CONTROLS:
                self._ledger.answer(item["id"], "refused", "it was asked of a run that has ended")

    @property
    def waiting(self) -> int:
        return len(self._line)

    def on_event(self, agent: AgentControl, change: Any) -> None:
        if change.kind in NEW_REQUESTS:
            self.take_in(agent)
        elif change.kind == "answer":
            self._drop_cancelled()

    def take_in(self, agent: AgentControl) -> None:
        """Obeys new controls and puts new requests in line."""
        with self._lock:
            found = [
                item for item in reversed(self._ledger.store.requests()) if item["state"] == "waiting" and item["id"] not in self._seen
            ]
            self._seen.update(item["id"] for item in found)
            self._line.extend(item for item in found if item["action"] not in CONTROLS)
        for item in found:
            log.info("a person asks: %s %s", item["action"], item.get("name") or item.get("combo_key") or "")
            if item["action"] in CONTROLS:
                refusal = self._obey(agent, item)
                self._ledger.answer(item["id"], "refused" if refusal else "obeyed", refusal or "")

    def _drop_cancelled(self) -> None:
        """Takes requests out of the line that a person took back."""
        if not self._line:
            return
        back = {item["id"] for item in self._ledger.store.requests() if item["state"] == "cancelled"}
        with self._lock:
            kept = [item for item in self._line if item["id"] not in back]
            self._line.clear()
            self._line.extend(kept)

    @staticmethod
    def _obey(agent: AgentControl, item: Mapping[str, Any]) -> str | None:
        """Carries a control out; returns why it cannot be, or None."""
        action = item["action"]
        if action == "skip":
            prompt_id = item.get("prompt_id")
            return None if prompt_id and agent.skip(prompt_id) else "that clip is not under way any more"
        {"pause": agent.pause, "resume": agent.resume, "stop_after": agent.stop_after}[action]()
        return None

    def give_back(self, request: str | None) -> None:
        """A prompt made for this request left its server unpaid: the request is the first in line again."""
        if request is None:
            return
        item = next((item for item in self._ledger.store.requests() if item["id"] == request), None)
        if item is not None and item["state"] != "cancelled":
            with self._lock:
                self._line.appendleft(item)

    # ------------------------------------------------------------ choosing
    def propose(self, agent: AgentControl) -> Proposal | None:
        self._drop_cancelled()
        while True:
            with self._lock:
                if not self._line:
                    return None
                item = self._line.popleft()
            proposal = self._plan(agent, item)
            if isinstance(proposal, Proposal):
                return proposal
            self._ledger.answer(item["id"], "refused", proposal)

    def on_refused(self, agent: AgentControl, proposal: Proposal, reason: str) -> None:
        if proposal.request is not None:
            self._ledger.answer(proposal.request, "refused", reason)

    def _plan(self, agent: AgentControl, item: Mapping[str, Any]) -> Proposal | str:
        """What to try for a request, or why nothing can be."""
        entry = self._ledger.store.entry(item["name"]) if item.get("name") else None
        entry = entry or {}
        params = dict(item.get("params") or entry.get("params") or {})
        if not params:
            return "nothing tells how that clip was made"
        prompt = item.get("prompt") or entry.get("prompt")
        negative = item.get("negative_prompt") or entry.get("negative_prompt")
        if item["action"] != "vary":
            return Proposal(params, prompt, negative, None, item["id"])
        near = [other for other in neighbours(params, self._space()) if not agent.is_banned(combo_key(other))]
        if not near:
            return "every neighbouring combination is banned, or the search space holds none"
        least = min(len(agent.recent_rewards(combo_key(other))) for other in near)
        fresh = [other for other in near if len(agent.recent_rewards(combo_key(other))) == least]
        seed = entry.get("seed")
        return Proposal(self._rng.choice(fresh), prompt, negative, seed if isinstance(seed, int) else None, item["id"])


def neighbours(params: Params, space: SearchSpace) -> list[Params]:
    """Params of ``space`` that differ from ``params`` in one axis: the next number down or up, the next size, any other name."""
    found: list[Params] = []
    for axis in ("sampler", "scheduler"):
        found += [{**params, axis: value} for value in getattr(space, axis) if value != params.get(axis)]
    for axis in ("fps", "cfg_scale", "steps"):
        found += [{**params, axis: value} for value in _beside(params.get(axis), sorted(getattr(space, axis)))]
    own = (params.get("width"), params.get("height"))
    sizes = sorted(space.size, key=lambda size: (size[0] * size[1], size))
    at = next((i for i, size in enumerate(sizes) if tuple(size) == own), None)
    if at is not None:
        beside = [sizes[i] for i in (at - 1, at + 1) if 0 <= i < len(sizes)]
        found += [{**params, "width": width, "height": height} for width, height in beside]
    extra = params.get(EXTRA) or {}
    for item in space.extra:
        level = item.level_of(extra)
        near = [value for value in item.values if value != level] if item.nominal else _beside(level, sorted(item.values))
        found += [{**params, EXTRA: {**extra, item.name: value}} for value in near]
    return [other for other in found if other in space]


def _beside(value: Any, levels: list[Any]) -> list[Any]:
    """The nearest levels below and above ``value``."""
    if value is None:
        return []
    below, above = [level for level in levels if level < value], [level for level in levels if level > value]
    return below[-1:] + above[:1]
