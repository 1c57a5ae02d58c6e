"""What ``openapi`` says of each route: parameters, bodies and answers, as JSON Schema 2020-12."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from eva_state.clip_index import SORTS
from eva_state.review_order import ORDERS
from eva_state.store import WINNERS
from eva_web.fields import MAX_DEFECT, MAX_DEFECTS, MAX_ID, MAX_NAME, MAX_REASON, MAX_TEXT, QUALITIES

Schema = dict[str, Any]
_NUMBER = r"(?:[1-9][0-9]{0,3}(?:\.[1-9])?)"
# The name of a dimension of the user's own: none of the six fields
_OWN = r"(?!(?:sampler|scheduler|fps|cfg|cfg_scale|steps|size|width|height|extra)(?:=|$))[a-z][a-z0-9_]{0,39}"
# No dimension twice
_ONCE = r"(?!.*\|([a-z][a-z0-9_]*)=[^|]*\|(?:[^|]*\|)*\1=)"
# A path below the video folder: no empty part, no "." or ".."
NAME_PATTERN = r"^(?!\.{1,2}(?:/|$))(?!.*/\.{0,2}(?:/|$))[^/\u0000][^\u0000]*$"
COMBO_PATTERN = rf"^{_ONCE}(?:\*|[A-Za-z0-9_]+)\|(?:\*|[A-Za-z0-9_]+)\|(?:\*|{_NUMBER})\|(?:\*|{_NUMBER})\|(?:\*|[1-9][0-9]{{0,3}})\|(?:\*|[1-9][0-9]{{0,3}}x[1-9][0-9]{{0,3}})(?:\|{_OWN}=(?:\*|[A-Za-z_]+|{_NUMBER})){{0,4}}$"  # noqa: E501


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def obj(properties: dict[str, Schema], required: tuple[str, ...] | None = None) -> Schema:
    """An object; all properties are required unless ``required`` says which."""
    return {"type": "object", "properties": properties, "required": list(properties if required is None else required)}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
COUNT: Schema = {"type": "integer", "minimum": 0}
UNIT: Schema = {"type": "number", "minimum": 0, "maximum": 1}
MARK: Schema = {"type": "number", "minimum": 1, "maximum": 10}
NAME: Schema = {"type": "string", "pattern": NAME_PATTERN, "maxLength": MAX_NAME}
NAME_OR_NONE: Schema = {**NAME, "pattern": f"^$|{NAME_PATTERN}"}
COMBO: Schema = {"type": "string", "pattern": COMBO_PATTERN}
ID: Schema = {"type": ["string", "null"], "maxLength": MAX_ID}
NAMES = array(STRING)


def query(name: str, schema: Schema, *, required: bool = False) -> Schema:
    """A parameter of a query; an empty value of one that may be absent counts as absent."""
    return {"name": name, "in": "query", "required": required, "schema": schema if required else {"anyOf": [schema, {"const": ""}]}}


@dataclass(frozen=True)
class Operation:
    """``more``: further answers than 200 and the errors. ``kind``: media type of a success, where the path does not tell it."""

    summary: str = ""
    parameters: tuple[Schema, ...] = ()
    body: Schema | None = None
    answer: Schema | None = None
    more: dict[str, Schema] = field(default_factory=dict)
    kind: str | None = None


PAGE = (
    query("offset", {"type": "integer", "minimum": 0, "maximum": 10**9}),
    query("limit", {"type": "integer", "minimum": 1, "maximum": 500}),
)
TRI: Schema = {"enum": ["all", "any", "", "true", "1", "yes", True, 1, "false", "0", "no", False, 0]}
MOMENT: Schema = {"anyOf": [{"type": "string", "format": "date"}, NUMBER]}
WORD: Schema = {"type": "string", "maxLength": 500}
SEARCH = (
    query("q", WORD),
    *(query(name, TRI) for name in ("rated", "banned", "reference", "exists")),
    *(query(name, WORD) for name in ("sampler", "scheduler", "defect", "tag")),
    *(query(name, NUMBER) for name in ("fps", "cfg", "steps", "width", "height")),
    *(query(f"{end}_{name}", NUMBER) for name in ("score", "overall", "cfg", "steps", "metric") for end in ("min", "max")),
    query("metric", {"type": "string", "maxLength": 100}),
    query("made_from", MOMENT),
    query("made_to", MOMENT),
    query("combo", COMBO),
    query("sort", {"enum": list(SORTS)}),
    query("order", {"enum": ["asc", "desc"]}),
)
CLIP = query("name", NAME, required=True)

RATING: Schema = obj(
    {
        **dict.fromkeys(QUALITIES, MARK),
        "is_reference": BOOLEAN,
        "banned": BOOLEAN,
        "comments": {"type": "string", "maxLength": MAX_TEXT},
        "defects": {"type": "array", "maxItems": MAX_DEFECTS, "items": {"type": "string", "minLength": 1, "maxLength": MAX_DEFECT}},
    },
    ("overall_quality",),
)
PARAMS: Schema = obj(
    {
        "sampler": {"type": "string", "pattern": "^[A-Za-z0-9_]+$"},
        "scheduler": {"type": "string", "pattern": "^[A-Za-z0-9_]+$"},
        "fps": {"type": "integer", "minimum": 1, "maximum": 240},
        "cfg_scale": {"type": "integer", "minimum": 1, "maximum": 30},
        "steps": {"type": "integer", "minimum": 1, "maximum": 1000},
        "width": {"type": "integer", "minimum": 16, "maximum": 8192},
        "height": {"type": "integer", "minimum": 16, "maximum": 8192},
        "extra": {"type": "object", "propertyNames": {"pattern": f"^{_OWN}$"}, "additionalProperties": {"type": ["number", "boolean"]}},
    },
    (),
)
COMPLETE: Schema = {**PARAMS, "required": ["sampler", "scheduler", "fps", "cfg_scale", "steps", "width", "height"]}
_ASKED: dict[str, Schema] = {"prompt": maybe({"type": "string", "maxLength": MAX_TEXT}), "id": ID}
BY_COMBO: Schema = {
    **obj(
        {
            "video_name": {"anyOf": [NAME, {"enum": [None, ""]}]},
            "combo_key": {"anyOf": [COMBO, {"enum": [None, ""]}]},
            "params": {"anyOf": [{**PARAMS, "minProperties": 1}, {"enum": [None, ""]}]},
            "reason": {"type": ["string", "null"], "maxLength": MAX_REASON},
            "id": ID,
        },
        (),
    ),
    "oneOf": [  # exactly one of them says something
        {"required": [name], "properties": {name: {"not": {"enum": [None, ""]}}}} for name in ("video_name", "combo_key", "params")
    ],
}
DONE = obj({"status": {"const": "success"}, "event_id": STRING})
PREDICTED = maybe(obj({"mean": MARK, "sd": NUMBER}))
PREDICTION = maybe(obj({"ratings": COUNT, "error": NUMBER, "error_of_mean": NUMBER, "used": BOOLEAN}))
STATUS = obj({"alive": BOOLEAN, "age_seconds": maybe(NUMBER), "status": maybe(OBJECT)})

SCHEMAS: dict[str, Schema] = {
    "Error": obj(
        {
            "status": {"const": "error"},
            "message": STRING,
            "request_id": STRING,
            "fields": {"type": "object", "additionalProperties": STRING},
        },
        ("status", "message", "request_id"),
    ),
    "Stats": obj(
        {
            **dict.fromkeys(("total_generated", "total_rated", "pending_count", "bandit_iterations", "learning_arms"), COUNT),
            **dict.fromkeys(("total_clips", "existing_clips", "banned_count", "banned_clips", "reference_count", "rated_today"), COUNT),
            **dict.fromkeys(("failed_count", "in_flight", "comparisons"), COUNT),
            "avg_rating": maybe(MARK),
            "best_score": maybe(NUMBER),
            "prediction": PREDICTION,
        }
    ),
    "Clip": obj(
        {
            "name": STRING,
            "size_mb": maybe(NUMBER),
            "created": NUMBER,
            "params": OBJECT,
            "combo_key": maybe(STRING),
            "combo_banned": BOOLEAN,
            "score": maybe(NUMBER),
            "found_in_knowledge": BOOLEAN,
            "match_method": {"enum": ["exact", "basename", "none"]},
            "predicted": PREDICTED,
        }
    ),
    "Found": obj(
        {
            "name": STRING,
            "score": maybe(NUMBER),
            "manual_overall": maybe(NUMBER),
            **dict.fromkeys(("rated", "banned", "reference", "exists"), BOOLEAN),
            "params": OBJECT,
            "combo_key": maybe(STRING),
            "created": NUMBER,
            "defects": NAMES,
            "predicted": PREDICTED,
        }
    ),
    "Action": obj({"event_id": STRING, "type": STRING, "ts": NUMBER, "time": STRING, "writer": STRING, "undone": BOOLEAN}),
}

_PREVIEW = obj(
    {
        "combo_key": STRING,
        "video_name": maybe(STRING),
        "queued": COUNT,
        "rated": COUNT,
        "rated_mean": maybe(NUMBER),
        **{name: maybe(COUNT) for name in ("arms_before", "arms_left", "arms_banned")},
        "already_banned": BOOLEAN,
        "allowed": BOOLEAN,
    }
)
_NOTHING_NEW: dict[str, Schema] = {"304": {"description": "Nothing happened."}}
_NO_PICTURE: dict[str, Schema] = {"204": {"description": "There is no picture now."}, "304": {"description": "As the client has it."}}
_PART: dict[str, Schema] = {"206": {"description": "The part asked for."}, "304": {"description": "As the client has it."}}
_GO_ON: dict[str, Schema] = {"303": {"description": "Logged in, by a form."}}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/health"): Operation(
        "Whether the server lives.", answer=obj({"status": {"const": "ok"}, "service": STRING, "version": STRING})
    ),
    ("GET", "/metrics"): Operation("Counters and gauges for Prometheus."),
    ("GET", "/favicon.ico"): Operation("The icon.", more={"204": {"description": "There is none."}}, kind="image/svg+xml"),
    ("GET", "/api/config"): Operation(
        "What the pages must know.",
        answer=obj({"version": STRING, "lang": STRING, "simulator": BOOLEAN, "token_required": BOOLEAN, "video_dir_found": BOOLEAN}),
    ),
    ("GET", "/api/stats"): Operation("Counts.", answer=ref("Stats")),
    ("GET", "/api/bandit"): Operation(
        "What the agent last published about what it learned.",
        answer=obj({"report": maybe(OBJECT), "age_seconds": maybe(NUMBER), "agent_alive": BOOLEAN}),
    ),
    ("GET", "/api/agent"): Operation("What the agent said last.", answer=STATUS),
    ("GET", "/api/agent/preview"): Operation("The clip that is being made.", kind="image/jpeg", more=_NO_PICTURE),
    ("GET", "/api/videos"): Operation(
        "Clips that nobody has rated.",
        (
            *PAGE,
            query("sort", {"enum": ["newest", "oldest", "score", "name"]}),
            query("order", {"enum": list(ORDERS)}),
            query("repeats", TRI),
        ),
        answer=array(ref("Clip")),
    ),
    ("GET", "/api/search"): Operation("Clips by filters.", (*SEARCH, *PAGE), answer=obj({"total": COUNT, "items": array(ref("Found"))})),
    ("GET", "/api/export"): Operation("Clips by filters, as CSV.", SEARCH, kind="text/csv"),
    ("GET", "/api/options"): Operation(
        "Values to filter by.",
        answer=obj(
            {
                **{name: {"type": "array"} for name in ("samplers", "schedulers", "fps", "cfg", "steps", "sizes", "defects", "sorts")},
                "extra": {"type": "object", "additionalProperties": NAMES},
            }
        ),
    ),
    ("GET", "/api/video_details"): Operation(
        "Everything known about a clip.",
        (CLIP,),
        answer=obj(
            {
                "name": STRING,
                "found_in_knowledge": BOOLEAN,
                "details": maybe(OBJECT),
                "manual_rating": maybe(OBJECT),
                "exists": BOOLEAN,
                "combo_key": maybe(STRING),
                "banned_by": maybe(STRING),
                "match_method": {"enum": ["exact", "basename", "none"]},
                "predicted": PREDICTED,
            }
        ),
    ),
    ("GET", "/api/series"): Operation("Measures of every frame.", (CLIP,), answer=OBJECT),
    ("GET", "/api/workflow"): Operation(
        "The workflow that made a clip.", (CLIP, query("part", {"enum": ["workflow", "prompt"]})), answer=OBJECT
    ),
    ("GET", "/api/bans"): Operation(
        "Bans in force.", answer=array(obj({"key": STRING, "reason": STRING, "by": STRING, "ts": NUMBER, "event_id": STRING}))
    ),
    ("GET", "/api/ban_preview"): Operation("What a ban would touch.", (query("combo_key", COMBO, required=True),), answer=_PREVIEW),
    ("GET", "/api/actions"): Operation("What was done, newest first.", (query("name", NAME_OR_NONE), *PAGE), answer=array(ref("Action"))),
    ("GET", "/api/changes"): Operation(
        "What changed after a cursor.",
        (query("since", STRING),),
        answer=obj({"cursor": STRING, "reset": BOOLEAN, "changes": array(OBJECT), "stats": ref("Stats"), "agent": STATUS}),
        more=_NOTHING_NEW,
    ),
    ("GET", "/api/insights"): Operation("What all clips together say.", answer=OBJECT, more=_NOTHING_NEW),
    ("GET", "/api/requests"): Operation("What was asked of the agent.", answer=obj({"agent_alive": BOOLEAN, "requests": array(OBJECT)})),
    ("POST", "/api/agent_control"): Operation(
        "Asks the agent to pause, resume, skip or stop.",
        body=obj({"action": {"enum": ["pause", "resume", "skip", "stop_after"]}, "prompt_id": maybe(STRING), "id": ID}, ("action",)),
        answer=DONE,
    ),
    ("POST", "/api/request"): Operation(
        "Asks the agent for a clip.",
        body={
            "anyOf": [
                obj({"kind": {"enum": ["again", "vary"]}, "name": NAME, "params": maybe(COMPLETE), **_ASKED}, ("kind", "name")),
                obj({"kind": {"enum": ["again", "vary", "try"]}, "name": maybe(NAME), "params": COMPLETE, **_ASKED}, ("kind", "params")),
            ]
        },
        answer=DONE,
    ),
    ("POST", "/api/cancel_request"): Operation(
        "Takes back a request for a clip that still waits.",
        body=obj({"event_id": {"type": "string", "minLength": 1, "maxLength": MAX_ID}}),
        answer=DONE,
    ),
    ("POST", "/api/showing"): Operation(
        "Tells which clip a page shows and asks which ones others show. Nothing is kept.",
        body=obj(
            {"page": {"type": "string", "minLength": 1, "maxLength": MAX_ID}, "name": maybe({"type": "string", "maxLength": MAX_NAME})},
            ("page",),
        ),
        answer=obj({"status": {"const": "success"}, "others": NAMES}),
    ),
    ("POST", "/api/rate"): Operation(
        "Rates a clip; ``repeat``: a second judgement, kept beside the first.",
        body=obj({"video_name": NAME, "rating": RATING, "repeat": BOOLEAN, "id": ID}, ("video_name", "rating")),
        answer=DONE,
    ),
    ("POST", "/api/ban_combo"): Operation(
        "Bans a combo or pattern.",
        body=BY_COMBO,
        answer=obj({**DONE["properties"], "banned_combo": STRING, "total_banned": COUNT, "video_marked": BOOLEAN}),
    ),
    ("POST", "/api/unban_combo"): Operation(
        "Lifts a ban.", body=BY_COMBO, answer=obj({**DONE["properties"], "unbanned_combo": STRING, "total_banned": COUNT})
    ),
    ("POST", "/api/undo"): Operation(
        "Takes an action back.",
        body=obj({"event_id": {"type": "string", "minLength": 1, "maxLength": 200}}),
        answer=obj({**DONE["properties"], "undone": STRING}),
    ),
    ("POST", "/api/compare"): Operation(
        "Says which of two clips is better.",
        body=obj({"left": NAME, "right": NAME, "winner": {"enum": list(WINNERS)}, "id": ID}, ("left", "right", "winner")),
        answer=DONE,
    ),
    ("POST", "/login"): Operation(
        "Logs in.",
        body=obj({"token": {"type": "string", "minLength": 1}, "next": {}}, ("token",)),
        answer=obj({"status": {"const": "success"}, "next": STRING}),
        more=_GO_ON,
    ),
    ("POST", "/logout"): Operation("Logs out.", body={}, answer=obj({"status": {"const": "success"}})),
    ("GET", "/video/<rest>"): Operation("The clip.", more=_PART),
    ("GET", "/thumb/<rest>"): Operation("One frame.", more=_NOTHING_NEW),
    ("GET", "/filmstrip/<rest>"): Operation("Ten frames side by side.", more=_NOTHING_NEW),
    ("GET", "/static/<rest>"): Operation("Scripts, styles, texts.", more=_NOTHING_NEW),
    ("GET", "/api/openapi.json"): Operation("This description.", answer=OBJECT),
}
