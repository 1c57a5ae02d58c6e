"""The queue of clips to judge, and what a person asks of the agent.

Nothing here talks to the agent: a request is an event of the state, which the agent follows and answers there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eva_state.agent_requests import CONTROLS, MAKING
from eva_state.clip_index import Search
from eva_state.keys import base_key, combo_key, extra_of_key, parse_combo_key
from eva_state.live import STALE_SECONDS, age_of
from eva_state.review_order import ORDERS, queue_search
from eva_state.video_folder import NotAClip, check_name
from eva_web.api_read import DEFAULT_LIMIT, FAR, MAX_LIMIT, agent_status
from eva_web.arms import own_fields, space_fields
from eva_web.fields import MAX_ID, MAX_TEXT, Body, Query, json_body
from eva_web.messages import HttpError, Request, Response, json_response

BY_PERSON = "review"
PREVIEW_FILE = "agent_preview.jpg"
OLD_SORTS = {"newest": "newest", "oldest": "oldest", "score": "best", "name": "name"}


# ---------------------------------------------------------------- the queue
def videos(request: Request) -> Response:
    """Clips that nobody has rated yet, newest first unless ``order`` says otherwise; ``repeats``: rated ones, to be judged once more."""
    query = Query(request.query)
    offset, limit = query.integer("offset", 0, 0, FAR), query.integer("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    sort = query.choice("sort", tuple(OLD_SORTS), "newest")
    order = query.choice("order", ORDERS, OLD_SORTS[sort] if sort != "name" else "newest")
    by_name = sort == "name" and not request.query.get("order")
    exact: list[tuple[str, Any]] = [(name, word) for name in ("sampler", "scheduler") if (word := query.text(name)) is not None]
    for name in ("width", "height"):
        if (number := query.number(name)) is not None:
            exact.append((name, int(number) if number.is_integer() else number))
    wanted = Search(exact=tuple(exact), min_score=query.number("min_score"), max_score=query.number("max_score"))
    finding, seed = query.text("defect"), query.text("seed") or ""
    repeats = bool(query.tri("repeats"))
    query.done()
    wanted = queue_search(wanted, rated=repeats)
    review = request.app.review
    if by_name:
        items, total = request.app.index.videos(offset, limit, "name")
        used = "name"
    else:
        items, total, used = review.page(wanted, "random" if repeats else order, offset, limit, seed=seed, finding=finding)
    return json_response(items, headers={"X-Total-Count": str(total), "X-Order": used})


# ---------------------------------------------------------------- the agent
def _agent_alive(request: Request) -> dict[str, Any] | None:
    """The status of the agent that runs, or None."""
    found = agent_status(request)
    return (found["status"] or {}) if found["alive"] else None


def _recorded(request: Request, id: str | None) -> bool:
    """Whether this request is in the state already: then it is answered as before, whatever has changed since."""
    return id is not None and any(item["id"] == id for item in request.app.store.requests())


def _record(request: Request, action: str, details: Mapping[str, Any], id: str | None) -> Response:
    given = {name: value for name, value in details.items() if value is not None}
    try:
        done = request.app.store.request(action, {**given, "by": BY_PERSON}, id=id)
    except ValueError as error:
        raise HttpError(409, str(error)) from None
    alive = _agent_alive(request) is not None
    return json_response({"status": "success", "event_id": done.event_id, "action": action, "agent_alive": alive})


def agent_control(request: Request) -> Response:
    """Pause, resume, skip the clip under way, stop after it. Refused where no agent runs."""
    body = Body(json_body(request))
    action = body.text("action", required=True)
    if action is not None and action not in CONTROLS:
        body.wrong["action"] = f"must be one of {', '.join(CONTROLS)}"
    id = body.text("id", longest=MAX_ID) or None
    prompt_id = body.text("prompt_id") or None
    body.done()
    assert action is not None
    if _recorded(request, id):
        return _record(request, action, {"prompt_id": prompt_id}, id)
    status = _agent_alive(request)
    if status is None:
        raise HttpError(409, "no agent runs now; start one with run_agent_qa.py")
    if action == "skip" and prompt_id is None:
        prompt_id = (status.get("now") or {}).get("prompt_id")
        if prompt_id is None:
            raise HttpError(409, "the agent makes no clip now, so there is nothing to skip")
    return _record(request, action, {"prompt_id": prompt_id if action == "skip" else None}, id)


def make_request(request: Request) -> Response:
    """Asks for a clip before the agent's own choices: one once more, one like it, or one with given params."""
    body = Body(json_body(request))
    kind = body.text("kind", required=True)
    if kind is not None and kind not in MAKING:
        body.wrong["kind"] = f"must be one of {', '.join(MAKING)}"
    id, name = body.text("id", longest=MAX_ID) or None, body.text("name") or None
    prompt, params = body.text("prompt", longest=MAX_TEXT) or None, body.body.get("params")
    key: str | None = None
    if params is not None:
        try:
            if not isinstance(params, dict):
                raise ValueError("must be an object")
            key = combo_key(params)
        except (ValueError, TypeError, OverflowError) as error:
            body.wrong["params"] = str(error)[:500]
    elif kind == "try":
        body.wrong["params"] = "is missing"
    elif name is None:
        body.wrong["name"] = "is missing"
    if name is not None:
        try:
            check_name(name)
        except NotAClip as error:
            body.wrong["name"] = str(error)
    body.done()
    assert kind is not None
    details: dict[str, Any] = {"name": name, "params": parse_combo_key(key) if key is not None else None, "prompt": prompt}
    if not _recorded(request, id):
        if name is not None:
            details = _of_clip(request, name, details)
        _must_be_possible(request, kind, combo_key(details["params"]), "name" if key is None else "params")
    return _record(request, kind, details, id)


def _of_clip(request: Request, name: str, details: dict[str, Any]) -> dict[str, Any]:
    """Fills in how the clip was made. Raises 404 where there is no such clip, 409 where nothing tells how it was made."""
    app = request.app
    if not app.index.knows(name):
        raise HttpError(404, f"there is no clip {name!r}, neither in the video folder nor in the state")
    row = app.index.row(name)
    entry = app.store.entry(row.alias or name) if row is not None else None
    if details["params"] is None and (row is None or row.combo is None):
        raise HttpError(409, f"the history does not tell how {name!r} was made; give params")
    found = entry or {}
    params = details["params"] or parse_combo_key(row.combo)  # type: ignore[union-attr, arg-type]
    return {
        **details,
        "name": row.alias or name if row is not None else name,
        "params": params,
        "prompt": details["prompt"] or found.get("prompt"),
        "negative_prompt": found.get("negative_prompt"),
    }


def _must_be_possible(request: Request, kind: str, key: str, field: str) -> None:
    """Raises 409 for a banned combo, 422 for params outside the search space. What is like a clip may differ from both."""
    if kind == "vary":
        return
    ban = request.app.store.banned_by(key)
    if ban is not None:
        raise HttpError(409, f"{key} is banned{'' if ban == key else f' by {ban}'}; lift the ban first")
    outside = outside_space(request.app.store.space(), key)
    if outside is not None:
        raise HttpError(422, f"{field}: {outside}", fields={field: outside})


def outside_space(space: Mapping[str, Any] | None, key: str) -> str | None:
    """Why a combo lies outside the search space the agent recorded, or None (also while there is none)."""
    if space is None:
        return None
    try:
        pairs, rest = space_fields(space)
        own = own_fields(space)
    except ValueError:
        return None
    sampler, scheduler, *values = base_key(key).split("|")
    if (sampler, scheduler) not in pairs:
        return f"the agent's search space does not hold {sampler} with {scheduler}"
    for what, value, levels in zip(("fps", "cfg_scale", "steps", "size"), values, rest):
        if value not in levels:
            return f"the agent's search space does not hold {what} {value}; it holds {', '.join(levels)}"
    for what, value in extra_of_key(key).items():
        if what not in own:
            return f"the agent's search space has no {what}"
        if value not in own[what]:
            return f"the agent's search space does not hold {what} {value}; it holds {', '.join(own[what])}"
    return None


def cancel_request(request: Request) -> Response:
    """Takes back a request for a clip that nobody took up yet. The same again changes nothing and answers the same."""
    body = Body(json_body(request))
    event_id = body.text("event_id", longest=MAX_ID, required=True)
    body.done()
    store = request.app.store
    found = next((item for item in store.requests() if item["id"] == event_id), None)
    if event_id is None or found is None or found["action"] not in MAKING:
        raise HttpError(404, f"there is no request {event_id!r} for a clip")
    if found["state"] != "cancelled":
        if found["state"] != "waiting":
            raise HttpError(409, f"it does not wait any more: it is {found['state']}")
        store.answer_request(event_id, "cancelled")
    return json_response({"status": "success", "event_id": event_id})


def requests(request: Request) -> Response:
    """What people asked of the agent, newest first, and what came of it."""
    query = Query(request.query)
    limit = query.integer("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    query.done()
    return json_response({"agent_alive": _agent_alive(request) is not None, "requests": request.app.store.requests(limit)})


def preview(request: Request) -> Response:
    """The latest picture of the clip that is being made; 204 while there is none (no error: pages look often)."""
    path = Path(request.app.settings.state_dir) / PREVIEW_FILE
    age = age_of(path, request.app.clock())
    try:
        status = path.stat()
        picture = path.read_bytes()
    except FileNotFoundError:
        return Response(204, headers={"Cache-Control": "no-store"})
    if age is None or (age > STALE_SECONDS and _agent_alive(request) is None):  # left behind by an agent that was killed
        return Response(204, headers={"Cache-Control": "no-store"})
    etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    headers = {"ETag": etag, "Cache-Control": "no-store"}
    if request.header("if-none-match") == etag:
        return Response(304, headers=headers)
    return Response(200, picture, "image/jpeg", headers)
