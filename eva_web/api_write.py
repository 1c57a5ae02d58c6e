"""``POST /api/...``: what a person decides. An answer of 200 means that it is on disk."""

from __future__ import annotations

from typing import Any

from eva_state.store import WINNERS
from eva_state.video_folder import NotAClip, check_name
from eva_web.api_read import arms_after, pattern_from
from eva_web.fields import MAX_ID, MAX_REASON, Body, json_body
from eva_web.messages import HttpError, Request, Response, json_response

BY_PERSON = "review"


def _clip(request: Request, body: Body, field: str) -> str:
    """A clip that exists in the folder or in the state. Collects a wrong field; raises 404 once all fields are read."""
    name = body.text(field, required=True)
    if name is not None:
        try:
            check_name(name)
        except NotAClip as error:
            body.wrong[field] = str(error)
    return name or ""


def _must_exist(request: Request, *names: str) -> None:
    for name in names:
        if not request.app.index.knows(name):
            raise HttpError(404, f"there is no clip {name!r}, neither in the video folder nor in the state")


def _refused(error: ValueError) -> HttpError:
    """What the state refuses although every field is well formed: an id that names something else, an event of another kind."""
    return HttpError(409, str(error))


def rate(request: Request) -> Response:
    body = Body(json_body(request))
    name = _clip(request, body, "video_name")
    rating = body.rating()
    id = body.text("id", longest=MAX_ID) or None
    repeat = body.body.get("repeat", False)
    if not isinstance(repeat, bool):
        body.wrong["repeat"] = "must be true or false"
    body.done()
    _must_exist(request, name)
    store = request.app.store
    try:
        done = store.repeat(name, rating, id=id) if repeat else store.rate(name, rating, id=id)
    except ValueError as error:
        raise _refused(error) from None
    return json_response({"status": "success", "event_id": done.event_id})


def ban_combo(request: Request) -> Response:
    """Bans the combo of a clip (which also marks that clip), a key or pattern, or params. Refused where it would leave no arm."""
    body = Body(json_body(request))
    reason = body.text("reason", longest=MAX_REASON) or ""
    id = body.text("id", longest=MAX_ID) or None
    body.done()
    store = request.app.store
    pattern, name = pattern_from(body.body, request)
    bans = store.bans()
    if pattern not in bans and arms_after(request, [*bans, pattern]) == 0:
        raise HttpError(409, f"banning {pattern} would leave the agent nothing to try; lift another ban first, or widen the search space")
    try:
        if name is not None:
            done = store.ban_clip(name, pattern, reason=reason, by=BY_PERSON, id=id)
        else:
            done = store.ban(pattern, reason=reason, by=BY_PERSON, id=id)
    except ValueError as error:
        raise _refused(error) from None
    return json_response(
        {
            "status": "success",
            "banned_combo": pattern,
            "total_banned": len(store.bans()),
            "video_marked": name is not None,
            "event_id": done.event_id,
        }
    )


def unban_combo(request: Request) -> Response:
    """Lifts the ban of exactly this key or pattern; a clip names its combo's key."""
    body = Body(json_body(request))
    reason = body.text("reason", longest=MAX_REASON) or ""
    id = body.text("id", longest=MAX_ID) or None
    body.done()
    store = request.app.store
    pattern, _ = pattern_from(body.body, request)
    if pattern not in store.bans() and id is None:
        cover = store.banned_by(pattern)
        hint = f"; it is covered by the ban of {cover}, lift that" if cover is not None else ""
        raise HttpError(409, f"{pattern} is not banned{hint}")
    try:
        done = store.unban(pattern, reason=reason, by=BY_PERSON, id=id)
    except ValueError as error:
        raise _refused(error) from None
    return json_response({"status": "success", "unbanned_combo": pattern, "total_banned": len(store.bans()), "event_id": done.event_id})


def undo(request: Request) -> Response:
    body = Body(json_body(request))
    event_id = body.text("event_id", required=True, longest=200)
    body.done()
    assert event_id is not None
    try:
        done = request.app.store.undo(event_id)
    except KeyError:
        raise HttpError(404, f"there is no event {event_id!r}") from None
    except ValueError as error:
        raise _refused(error) from None
    return json_response({"status": "success", "event_id": done.event_id, "undone": event_id})


def compare(request: Request) -> Response:
    body = Body(json_body(request))
    left, right = _clip(request, body, "left"), _clip(request, body, "right")
    winner: Any = body.text("winner", required=True)
    if winner is not None and winner not in WINNERS:
        body.wrong["winner"] = f"must be one of {', '.join(WINNERS)}"
    if left and left == right:
        _must_exist(request, left)
        body.wrong["right"] = "must be another clip than left"
    id = body.text("id", longest=MAX_ID) or None
    body.done()
    _must_exist(request, left, right)
    try:
        done = request.app.store.compare(left, right, winner, id=id)
    except ValueError as error:
        raise _refused(error) from None
    return json_response({"status": "success", "event_id": done.event_id})
