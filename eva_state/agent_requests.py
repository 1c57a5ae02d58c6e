"""What people ask of the agent, and what the agent answers: events like any other, so that both outlive either process.

A ``request`` is written by the server, an ``answer`` by the agent, or by the server where a person takes a request back. A
request's state is read off its newest answer:

| state | means |
|---|---|
| ``waiting`` | nobody took it up yet (or its prompt came back unpaid: ``returned``) |
| ``taken`` | its prompt is under way |
| ``obeyed`` | a control was carried out |
| ``made`` | its clip is there |
| ``failed`` | its prompt came to nothing |
| ``refused`` | it cannot be done; the message says why |
| ``cancelled`` | a person took it back while it waited |
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eva_state import checks, keys
from eva_state.checks import Done
from eva_state.records import Record, plain

if TYPE_CHECKING:
    from eva_state.model import Model

CONTROLS = ("pause", "resume", "skip", "stop_after")  # about the run that is going on
MAKING = ("again", "vary", "try")  # ask for a clip; they wait until an agent takes them up
OUTCOMES = ("taken", "returned", "obeyed", "made", "failed", "refused", "cancelled")


class RequestLog:
    """The requests of a replica by id, each with its newest answer. Not thread-safe: the store holds its lock."""

    def __init__(self) -> None:
        self.asked: dict[str, Record] = {}
        self.answers: dict[str, Record] = {}

    def ask(self, record: Record) -> None:
        self.asked[record.id] = record

    def answer(self, record: Record, request: str) -> None:
        known = self.answers.get(request)
        if known is None or record.order > known.order:
            self.answers[request] = record

    def facts(self) -> dict[str, tuple[bytes, bytes | None]]:
        """The texts of every request and of the answer that holds, to compare two replicas."""
        return {id: (record.raw, self.answers[id].raw if id in self.answers else None) for id, record in self.asked.items()}


class StoreRequests:
    """The part of the store that keeps requests. Needs ``_lock``, ``_model`` and ``_record``."""

    _lock: threading.RLock | Any
    _model: Model

    def _record(self, kind: str, data: dict[str, Any], id: str | None) -> Done:
        raise NotImplementedError

    def _now(self) -> str:
        raise NotImplementedError

    def request(self, action: str, details: Mapping[str, Any] | None = None, id: str | None = None) -> Done:
        """Asks the agent for something. ``details``: a clip's ``name``, ``params``, ``prompt``, ``negative_prompt``, ``prompt_id``, ``by``.

        ``again`` and ``vary`` need ``name`` or ``params``, ``try`` needs ``params``. Raises ValueError for a malformed request.
        """
        if action not in (*CONTROLS, *MAKING):
            raise ValueError(f"action: {action!r} is none of {', '.join((*CONTROLS, *MAKING))}")
        data = plain(dict(details or {}), "request")
        for field in ("name", "prompt", "negative_prompt", "prompt_id", "by"):
            if data.get(field) is not None:
                checks.text(data[field], field)
        if action in MAKING and not data.get("params") and not (action != "try" and data.get("name")):
            raise ValueError(f"params: {action} needs the params of a clip")
        if data.get("params"):
            data["combo_key"] = keys.combo_key(data["params"])  # raises ValueError for params that are not complete
        return self._record("request", {"action": action, **data}, id)

    def answer_request(self, request: str, outcome: str, message: str = "", prompt_id: str | None = None, video: str | None = None) -> Done:
        """The agent's word on a request, or ``cancelled`` by a person. Raises KeyError for an unknown request."""
        if outcome not in OUTCOMES:
            raise ValueError(f"outcome: {outcome!r} is none of {', '.join(OUTCOMES)}")
        with self._lock:
            if request not in self._model.requests.asked:
                raise KeyError(request)
        data = {"request": request, "outcome": outcome, "message": checks.text(message, "message")}
        data |= {name: value for name, value in (("prompt_id", prompt_id), ("video", video)) if value is not None}
        return self._record("answer", data, None)

    def requests(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Every request, newest first: its data, ``id``, ``ts``, ``state``, ``message`` and, once there, ``prompt_id`` and ``video``."""
        with self._lock:
            model = self._model
            found = sorted(model.requests.asked.values(), key=lambda record: record.order, reverse=True)[:limit]
            pairs = [(record, model.requests.answers.get(record.id)) for record in found]
            ended, flying = model.finished, model.submitted
            known = {a.id: (p := a.data.get("prompt_id")) is None or p in ended or p in flying for _, a in pairs if a is not None}
        out = []
        for record, answer in pairs:
            item = {**record.data, "id": record.id, "ts": record.ts, "state": "waiting", "message": ""}
            if answer is not None:
                said = answer.data
                item |= {name: said[name] for name in ("message", "prompt_id", "video") if name in said}
                # Taken by a process that died before it handed the prompt to a server: nothing was paid, it waits again.
                lost = said["outcome"] == "taken" and not known[answer.id]
                item["state"] = "waiting" if lost or said["outcome"] == "returned" else said["outcome"]
                item["answered_at"] = answer.ts
            out.append(item)
        return out

    # ------------------------------------------------------------ a rater's own consistency
    def repeat(self, name: str, rating: dict[str, Any], id: str | None = None) -> Done:
        """Records a second, blind judgement of a clip that is rated already. The first one stays as it is.

        Raises ValueError for a malformed rating or a clip that nobody has rated yet.
        """
        name, found = checks.clip_name(name), checks.rating(rating)
        with self._lock:
            clip = self._model.clips.get(name)
            first = None if clip is None or clip.rating is None else clip.rating.data["rating"].get("overall_quality")
        if first is None and (id is None or self._model.known(id) is None):
            raise ValueError(f"video_name: {name!r} is not rated, so there is nothing to repeat")
        return self._record("repeat", {"name": name, "rating": found, "first": first, "rated_at": self._now()}, id)

    def consistency(self) -> dict[str, Any]:
        """``repeats`` and, over them, the mean absolute difference of the two ``overall_quality`` (None without any)."""
        differences = self.repeat_differences()
        mean = round(sum(differences) / len(differences), 4) if differences else None
        return {"repeats": len(differences), "mean_abs_difference": mean}

    def repeat_differences(self) -> list[float]:
        """Absolute differences of the two ``overall_quality`` of every clip that was judged twice."""
        with self._lock:
            found = list(self._model.repeats.values())
        differences: list[float] = []
        for record in found:
            data = record.data
            second = data["rating"].get("overall_quality")
            if isinstance(data.get("first"), (int, float)) and isinstance(second, (int, float)):
                differences.append(abs(second - data["first"]))
        return differences
