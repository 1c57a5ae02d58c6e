"""``GET /api/...``: what there is. Nothing here changes anything."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eva_env_base import __version__
from eva_state.clip_actions import actions_of_clip
from eva_state.clip_index import SORTS, Search
from eva_state.keys import normalise_pattern, pattern_of
from eva_state.live import STALE_SECONDS, age_of, read_live
from eva_state.video_folder import NotAClip, check_name
from eva_web.arms import count_arms, own_fields
from eva_web.fields import MAX_NAME, Query
from eva_web.messages import HttpError, Request, Response, json_response
from eva_web.ranges import Validators, precondition

if TYPE_CHECKING:
    from eva_web.app import App

MAX_LIMIT = 500
DEFAULT_LIMIT = 50
FAR = 10**9  # an offset nobody reaches


def health(request: Request) -> Response:
    """Open to everybody, so nothing but that the server lives."""
    return json_response({"status": "ok", "service": "eva-review", "version": __version__})


def config(request: Request) -> Response:
    app = request.app
    status = agent_status(request)["status"] or {}
    return json_response(
        {
            "version": __version__,
            "lang": app.settings.lang,
            "simulator": bool(status.get("simulator")),
            "token_required": app.access.required,
            "video_dir_found": app.index.folder.exists,
        }
    )


# ---------------------------------------------------------------- counts and live state
def agent_status(request: Request) -> dict[str, Any]:
    """``{"alive", "age_seconds", "status"}``: what the agent last said about itself, and whether it still runs."""
    path = Path(request.app.settings.state_dir) / "agent_status.json"
    age = age_of(path, request.app.clock())
    status = read_live(path) if age is not None else None
    ended = (status or {}).get("state") == "stopped"  # said by the agent itself, so there is no need to wait for the file to grow old
    alive = age is not None and age <= STALE_SECONDS and not ended
    return {"alive": alive, "age_seconds": None if age is None else round(age, 1), "status": status}


def stats_of(request: Request) -> dict[str, Any]:
    """The contract's names first; ``pending_count`` is how many clips wait for a rating."""
    store, counts = request.app.store.stats(), request.app.index.counts()
    return {
        "total_generated": store["total_generated"],
        "total_rated": counts["rated"],
        "pending_count": counts["unrated"],
        "avg_rating": counts["avg_rating"],
        "best_score": store["best_score"],
        "bandit_iterations": store["bandit_iterations"],
        "learning_arms": store["combos_tried"],
        "best_params": store["best_params"],
        "best_clip": counts["best_clip"],
        "best_auto_score": counts["best_score"],
        "total_clips": counts["total"],
        "existing_clips": counts["existing"],
        "banned_count": store["banned"],
        "banned_clips": counts["banned"],
        "reference_count": counts["reference"],
        "rated_today": counts["rated_today"],
        "failed_count": store["failed"],
        "in_flight": store["in_flight"],
        "comparisons": store["comparisons"],
        "consistency": request.app.store.consistency(),
        "prediction": request.app.index.predictions.latest.check,
    }


def stats(request: Request) -> Response:
    return json_response(stats_of(request))


def agent(request: Request) -> Response:
    return json_response(agent_status(request))


def changes(request: Request) -> Response:
    """What changed after the cursor ``since``; without one, or with one of another run, ``reset`` says to load afresh.

    Answered at once, never held: long requests are cut by proxies. The ETag makes asking again cheap while nothing happens.
    """
    app = request.app
    boot, _, number = request.query.get("since", "").partition("-")
    known = int(number) if boot == app.boot and number.isascii() and number.isdigit() and len(number) < 16 else -1
    version, found = app.index.changes_since(known)
    status = agent_status(request)
    seen = (status["status"] or {}).get("updated_at") or (status["status"] or {}).get("ts") or _mtime(request)
    # Weak: the same tag stands for a compressed body too, and figures that no event changed may differ.
    validators = Validators(f'W/"{app.boot}-{known}-{version}-{status["alive"]:d}-{seen}"', app.started)
    headers = {"ETag": validators.etag, "Cache-Control": "private, no-cache"}
    if request.header("if-none-match") and precondition({"if-none-match": request.headers["if-none-match"]}, validators) == 304:
        return Response(304, headers=headers)
    body = {
        "cursor": f"{app.boot}-{version}",
        "reset": found is None,
        "changes": found or [],
        "stats": stats_of(request),
        "agent": status,
    }
    return json_response(body, headers=headers)


def _mtime(request: Request) -> int:
    try:
        return (Path(request.app.settings.state_dir) / "agent_status.json").stat().st_mtime_ns
    except OSError:
        return 0


# ---------------------------------------------------------------- clips
def _page_of(query: Query) -> tuple[int, int]:
    return query.integer("offset", 0, 0, FAR), query.integer("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)


def wanted_of(query: Query, app: App) -> Search:
    """The filters of a search. What is wrong is collected in ``query``; a metric's values are read when first asked for."""
    exact: list[tuple[str, Any]] = []
    for name in ("sampler", "scheduler", "defect", "tag"):
        if (word := query.text(name)) is not None:
            exact.append((name, word))
    for name in ("fps", "cfg", "steps", "width", "height"):
        if (number := query.number(name)) is not None:
            exact.append((name, int(number) if number.is_integer() else number))
    combo = query.text("combo")
    if combo is not None:
        try:
            combo = normalise_pattern(combo)
        except (ValueError, OverflowError) as error:
            query.wrong["combo"] = str(error)[:500]
    order = query.choice("order", ("asc", "desc", ""), "")
    wanted = Search(
        made_from=query.moment("made_from"),
        made_to=query.moment("made_to", end_of_day=True),
        text=query.text("q") or "",
        rated=query.tri("rated"),
        banned=query.tri("banned"),
        reference=query.tri("reference"),
        exists=query.tri("exists"),
        exact=tuple(exact),
        min_score=query.number("min_score"),
        max_score=query.number("max_score"),
        min_overall=query.number("min_overall"),
        max_overall=query.number("max_overall"),
        min_cfg=query.number("min_cfg"),
        max_cfg=query.number("max_cfg"),
        min_steps=query.number("min_steps"),
        max_steps=query.number("max_steps"),
        combo=combo,
        sort=query.choice("sort", SORTS, "newest"),
        descending=order == "desc" if order else None,
    )
    metric = query.text("metric", longest=100)
    low, high = query.number("min_metric"), query.number("max_metric")
    if metric is None or query.wrong:
        return wanted
    return dataclasses.replace(wanted, names=app.facts.names_where(metric, low, high))


def search(request: Request) -> Response:
    query = Query(request.query)
    offset, limit = _page_of(query)
    wanted = wanted_of(query, request.app)
    query.done()
    items, total = request.app.index.search(wanted, offset, limit)
    return json_response({"total": total, "items": items}, headers={"X-Total-Count": str(total)})


def options(request: Request) -> Response:
    """Values to choose from: those that occur among the clips, and those of the search space the agent uses."""
    found = request.app.index.options()
    space = request.app.store.space() or {}
    for name, key in (("samplers", "sampler"), ("schedulers", "scheduler"), ("fps", "fps"), ("cfg", "cfg_scale"), ("steps", "steps")):
        extra = [value for value in space.get(key, ()) if isinstance(value, str if name.endswith("ers") else (int, float))]
        found[name] = sorted({*found[name], *extra})
    sizes = {tuple(size) for size in [*found["sizes"], *space.get("size", ())] if len(size) == 2}
    found["sizes"] = [list(size) for size in sorted(sizes)]
    try:
        own = own_fields(space)
    except ValueError:  # written by hand, or by a program that knew more
        own = {}
    return json_response({**found, "sorts": list(SORTS), "extra": own})


def wanted_name(query: Query, field: str = "name") -> str:
    name = query.text(field, longest=MAX_NAME)
    if name is None and field not in query.wrong:
        query.wrong[field] = "is missing"
    query.done()
    assert name is not None
    try:
        return check_name(name)
    except NotAClip as error:
        raise _wrong(field, str(error)) from None


def video_details(request: Request) -> Response:
    """Everything known about one clip. ``details`` is its history entry, ``manual_rating`` its item of the ratings."""
    name = wanted_name(Query(request.query))
    app = request.app
    if not app.index.knows(name):
        raise HttpError(404, f"there is no clip {name!r}, neither in the video folder nor in the state")
    row = app.index.row(name)
    alias = row.alias if row is not None and row.alias is not None else name
    entry = app.store.entry(alias)
    file = app.index.folder.look(name)
    combo = row.combo if row is not None else None
    return json_response(
        {
            "name": name,
            "found_in_knowledge": entry is not None,
            "details": entry,
            "manual_rating": app.store.rating(name) or app.store.rating(alias),
            "exists": file is not None,
            "combo_key": combo,
            "banned_by": app.store.banned_by(combo) if combo is not None else None,
            "size_mb": round(file.size / 1e6, 3) if file is not None else None,
            "created": round(row.created, 3) if row is not None else None,
            "match_method": "none" if entry is None else "exact" if alias == name else "basename",
            "predicted": app.index.predictions.latest.predicted(name, alias),
        }
    )


# ---------------------------------------------------------------- bans and history
def bans(request: Request) -> Response:
    """Every ban in force, newest first."""
    found = [{"key": key, **ban} for key, ban in request.app.store.bans().items()]
    return json_response(sorted(found, key=lambda ban: -ban["ts"]))


def actions(request: Request) -> Response:
    """What was done, newest first; with ``name`` only what concerns that clip."""
    query = Query(request.query)
    offset, limit = _page_of(query)
    if request.query.get("name"):
        name = wanted_name(query)
        return json_response(actions_of_clip(request.app.store, name, limit=limit, offset=offset))
    query.done()
    return json_response(request.app.store.actions(limit=limit, offset=offset))


def combo_of_clip(request: Request, name: str) -> str:
    """The combo key of a clip. Raises 404 where there is no such clip, 409 where nothing tells how it was made."""
    try:
        check_name(name)
    except NotAClip as error:
        raise _wrong("video_name", str(error)) from None
    if not request.app.index.knows(name):
        raise HttpError(404, f"there is no clip {name!r}, neither in the video folder nor in the state")
    row = request.app.index.row(name)
    if row is None or row.combo is None:
        raise HttpError(409, f"the history does not tell how {name!r} was made, so there is no combo to ban; give combo_key or params")
    return row.combo


def pattern_from(given: Mapping[str, Any], request: Request) -> tuple[str, str | None]:
    """``(combo key or pattern, clip name or None)`` from the one of ``video_name``, ``combo_key``, ``params`` that is given."""
    named = [name for name in ("video_name", "combo_key", "params") if given.get(name) not in (None, "")]
    if len(named) != 1:
        why = "give exactly one of video_name, combo_key and params"
        raise HttpError(422, why, fields=dict.fromkeys(named or ("combo_key",), why))
    field = named[0]
    value = given[field]
    if field == "params":
        if not isinstance(value, dict):
            raise _wrong(field, "must be an object")
    elif not isinstance(value, str):
        raise _wrong(field, "must be a string")
    elif len(value) > MAX_NAME:
        raise _wrong(field, f"is longer than {MAX_NAME} characters")
    elif field == "video_name":
        return combo_of_clip(request, value), value
    try:
        return (pattern_of(value) if isinstance(value, dict) else normalise_pattern(value)), None
    except (ValueError, OverflowError) as error:
        raise _wrong(field, str(error)[:500]) from None


def _wrong(field: str, why: str) -> HttpError:
    return HttpError(422, f"{field}: {why}", fields={field: why})


_counting = threading.Lock()  # counting arms is the one question that costs more than microseconds: one at a time


def arms_after(request: Request, bans_in_force: list[str]) -> int | None:
    """Arms that are left; None while no agent has recorded its search space."""
    space = request.app.store.space()
    if space is None:
        return None
    try:
        with _counting:
            return count_arms(space, bans_in_force)
    except ValueError:
        return None


def ban_preview(request: Request) -> Response:
    """What a ban would touch, before it is made."""
    query = Query(request.query)
    given: dict[str, Any] = {name: query.text(name, longest=MAX_NAME) for name in ("video_name", "combo_key")}
    given["params"] = query.json_object("params")
    query.done()
    pattern, name = pattern_from(given, request)
    in_force = list(request.app.store.bans())
    before = arms_after(request, in_force)
    after = arms_after(request, [*in_force, pattern])
    touched = request.app.index.affected(pattern)
    return json_response(
        {
            "combo_key": pattern,
            "video_name": name,
            **touched,
            "arms_before": before,
            "arms_left": after,
            "arms_banned": None if before is None or after is None else before - after,
            "already_banned": request.app.store.banned_by(pattern) is not None,
            "allowed": after is None or after > 0,
        }
    )
