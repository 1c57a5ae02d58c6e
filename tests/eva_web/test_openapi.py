"""The OpenAPI description: well formed, complete, and kept by the server for requests made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eva_web.openapi import document
from eva_web.openapi_operations import OPERATIONS
from eva_web.routes import ROUTES

jsonschema = pytest.importorskip("jsonschema", reason="the description is checked with jsonschema")
DRAFT = "https://json-schema.org/draft/2020-12/schema"
API = [
    (method, path) for path, item in document(False)["paths"].items() for method in item if path.startswith("/api/") or path == "/health"
]


def full(schema: Any) -> dict[str, Any]:
    return {"$schema": DRAFT, **schema, "components": document(False)["components"]}


def test_every_route_is_described_and_nothing_else() -> None:
    paths = document(False)["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert described == {(route.method, route.path.replace("<rest>", "{name}")) for route in ROUTES}
    assert set(OPERATIONS) <= {(route.method, route.path) for route in ROUTES}
    ids = [operation["operationId"] for item in paths.values() for operation in item.values()]
    assert len(ids) == len(set(ids))
    for route in ROUTES:
        if route.path.startswith("/api/"):
            assert (route.method, route.path) in OPERATIONS, f"describe {route.method} {route.path} in eva_web/openapi_operations.py"


def test_every_schema_is_one(site: Any) -> None:
    served = site.get("/api/openapi.json").json
    assert served["openapi"] == "3.1.0" and served["info"]["version"]
    for item in served["paths"].values():
        for operation in item.values():
            schemas = [parameter["schema"] for parameter in operation.get("parameters", ())]
            schemas += [found["schema"] for found in operation.get("requestBody", {}).get("content", {}).values()]
            for answer in operation["responses"].values():
                schemas += [found["schema"] for found in answer.get("content", {}).values() if "schema" in found]
            for schema in schemas:
                jsonschema.Draft202012Validator.check_schema(full(schema))


def test_what_needs_the_token_says_so(make_site: Callable[..., Any]) -> None:
    closed = make_site(token="tok")
    paths = closed.get("/api/openapi.json", Authorization="Bearer tok").json["paths"]
    for route in ROUTES:
        operation = paths[route.path.replace("<rest>", "{name}")][route.method.lower()]
        assert ("security" in operation) is not route.open, route.path


VALUES: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.floats(allow_nan=False, width=32),
    st.sampled_from(
        ["", "a.mp4", "b.mp4", "../x", "euler|simple|16|3.5|20|832x480", "*|*|*|*|*|*", "left", "tie", "newest", "asc", "pause", "vary"]
    ),
    st.text(max_size=8),
    st.fixed_dictionaries(
        {"overall_quality": st.integers(0, 11)}, optional={"comments": st.text(max_size=5), "defects": st.just(["flicker"])}
    ),
    st.dictionaries(st.sampled_from(["sampler", "fps", "steps"]), st.one_of(st.integers(0, 40), st.just("euler")), max_size=3),
)


def conforms(value: Any, schema: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(full(schema)).is_valid(value))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.sampled_from(API), data=st.data())
def test_the_server_keeps_its_description(site: Any, which: tuple[str, str], data: st.DataObject) -> None:
    """Answers match the schema of their status; what a schema forbids in a body is refused; nothing is a 500."""
    if not site.index.knows("a.mp4"):
        site.made("a.mp4")
        site.made("b.mp4")
    method, path = which
    operation = document(False)["paths"][path][method]
    body, target = None, path
    query = {
        parameter["name"]: data.draw(VALUES, label=parameter["name"])
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and (parameter["required"] or data.draw(st.integers(0, 5)) == 0)
    }
    if query:
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()}
        target += "?" + urlencode(texts, quote_via=quote, errors="replace")
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if schema is not None:
        names = list(schema.get("properties") or {name: 1 for one in schema.get("oneOf", ()) for name in one["properties"]})
        body = (
            {name: data.draw(VALUES, label=name) for name in data.draw(st.lists(st.sampled_from(names), unique=True)) if names}
            if names
            else {}
        )
    answer = site.ask(method.upper(), target, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"})
    assert answer.status < 500, (method, target, body, answer.body)
    described = operation["responses"].get(str(answer.status)) or operation["responses"]["default"]
    for kind, content in described.get("content", {}).items():
        assert answer.headers["content-type"].startswith(re.sub(r"\*.*", "", kind)), (target, answer.headers)
        if "schema" in content:
            jsonschema.Draft202012Validator(full(content["schema"])).validate(answer.json)
    if body is not None and schema is not None and answer.status == 200:
        assert conforms({name: value for name, value in body.items() if value is not None}, schema), (target, body)
