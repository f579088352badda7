"""What the API refuses, for each of its routes, as the router has them: a new one is asked, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.world import MACHINE_TOKEN, World
from hotspare.api import create_app
from hotspare.domain.messages import catalogue
from hotspare.services import Services
from hotspare.workflows.wire import PROTOCOL

PREFIX = "/api/v1"
app = create_app(cast(Services, None))
described = app.openapi()

PUBLIC = {"health", "ca", "login"}
VIEWER = {
    "logout", "session", "list_platforms", "get_platform", "list_vms", "list_machines",
    "get_machine", "list_rules", "get_rule", "list_points", "rule_log", "list_groups",
    "get_group", "list_templates", "get_template", "list_tasks", "get_task", "task_progress",
    "task_log", "get_settings", "get_history", "preview_schedule", "rule_statistics",
    "group_statistics", "statistics", "download_rule_log", "metrics", "list_proof_schedules",
    "get_proof_schedule", "list_tests", "get_test", "test_screenshot"}
OPERATOR = {
    "check_platform", "refresh_platform", "create_rule", "act_on_rules", "edit_rule",
    "delete_rule", "start_rule", "stop_rule", "fail_over", "fail_over_planned",
    "make_permanent", "undo_failover", "fail_back", "switch_back", "commit_failback",
    "undo_failback", "create_group", "save_template", "delete_template",
    "move_rule", "start_test", "stop_task", "scrub_points", "unplug_source", "plug_source",
    "add_proof_schedule", "edit_proof_schedule", "remove_proof_schedule"}
ADMINISTRATOR = {
    "list_users", "add_user", "set_password", "remove_user", "list_audit", "add_platform",
    "edit_platform", "remove_platform", "rebuild_platform", "move_platform", "set_settings",
    "set_machine", "enrol_machine", "revoke_machine", "remove_machine", "list_channels",
    "add_channel", "get_channel", "edit_channel", "remove_channel", "test_channel",
    "make_metrics_token", "set_history"}

RULE = {"source": "src", "target": "dst", "storage": "default", "machine": "local",
        "datacenter": "x", "host": "x", "networks": {"a": "b"}, "temp_dir": "/x",
        "time_zone": "UTC", "schedule": {"kind": "daily", "at": "02:30", "weekdays": []},
        "bandwidth": [{"days": [1], "start": 0, "end": 60, "limit": 1}]}
BODIES: dict[str, dict[str, Any]] = {
    "login": {"user": "x", "password": "y"},
    "add_user": {"name": "x", "password": "long enough", "role": "viewer"},
    "set_password": {"password": "long enough"},
    "add_platform": {"name": "x", "kind": "none", "uri": "qemu:///system", "secret": "x",
                     "options": {"a": "b"}, "machine": "none"},
    "edit_platform": {"name": "x", "uri": "qemu:///system", "options": {"a": "b"}, "secret": "x"},
    "move_platform": {"machine": "none"}, "move_rule": {"machine": "none"},
    "create_rule": RULE | {"name": "x", "vm": "none", "replica_name": "x", "group": "none",
                           "template": "none"},
    "edit_rule": RULE | {"name": "x", "vm": "none", "replica_name": "x", "group": "none"},
    "act_on_rules": {"action": "start", "rules": ["none"], "group": "none"},
    "start_rule": {"compare": True},
    "scrub_points": {"point": 1000},
    "add_proof_schedule": {"name": "x", "schedule": {"kind": "daily", "at": "02:30"},
                           "rule": "none"},
    "edit_proof_schedule": {"schedule": {"kind": "daily", "at": "02:30"}, "rule": "none"},
    "fail_over": {"point": 1000},
    "fail_over_planned": {"grace_s": 1},
    "make_permanent": {"confirm": "none"},
    "start_test": {"point": 1000, "ports": [22], "address": "192.0.2.1/24", "boot_s": 5},
    "fail_back": {"grace_s": 1}, "switch_back": {"grace_s": 1, "commit_after_s": 60},
    "undo_failback": {"confirm": "none"},
    "create_group": RULE | {"name": "x", "vms": ["none"], "template": "none"},
    "save_template": {"name": "x y", "rule": "none", "settings": RULE},
    "set_settings": {"max_tasks_per_host": 4},
    "set_machine": {"time_zone": "UTC", "bandwidth": []},
    "enrol_machine": {"life_s": 60},
    "preview_schedule": {"schedule": {"kind": "daily", "at": "02:30"}, "source": "src",
                         "time_zone": "UTC", "bandwidth": []},
    "add_channel": {"name": "x", "url": "none://x", "events": ["machine.lost"]},
    "edit_channel": {"name": "x", "url": "none://x", "events": ["machine.lost"]},
    "set_history": {"task_days": 90}}
"""Right by their shape; what they name is mostly not there, so nothing comes of them."""
OPTIONAL = {"start_rule"}                  # no body at all is right, too
del BODIES["edit_rule"]["machine"]         # it is changed by a move


def routes() -> Iterator[tuple[str, str, str]]:
    """Operation, method and address of each route."""
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute):
            for method in route.methods or ():
                yield (route.operation_id or route.name or "", method,
                       str(route.path).replace("{task}", "999999").replace("{test}", "999999"))


ALL = [r for r in routes() if "/link/" not in r[2]]
LINK = [r for r in routes() if "/link/" in r[2]]
IDS = [f"{method} {path}" for _, method, path in ALL]
WITH_BODY = [r for r in ALL if r[0] in BODIES]


@pytest.fixture(scope="session")
def http(everything: World) -> Iterator[httpx.Client]:
    with everything.http(everything.tokens["administrator"]) as made:
        yield made


def code_of(answer: httpx.Response) -> str:
    """Of every answer of 400 and above, which has the one shape."""
    assert answer.headers["content-type"] == "application/json", answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "remedy", "fields"}
    assert error["code"] in catalogue() and error["message"]
    return str(error["code"])


def send(http: httpx.Client, method: str, path: str, body: Any = None,
         **more: Any) -> httpx.Response:
    """``ensure_ascii`` lets broken Unicode through to the server."""
    if body is not None:
        more["content"] = json.dumps(body, ensure_ascii=True)
        more["headers"] = {"Content-Type": "application/json"} | more.get("headers", {})
    return http.request(method, path.replace("{ref}", "none"), **more)


# --- who may -------------------------------------------------------------------------------------


def test_each_route_is_known_here() -> None:
    known = [PUBLIC, VIEWER, OPERATOR, ADMINISTRATOR]
    assert sorted(x for part in known for x in part) == sorted(name for name, _, _ in ALL)
    assert {name for name, _, path in ALL if path.startswith(PREFIX)} == {
        o["operationId"] for p in described["paths"].values() for o in p.values()}
    bodies = {o["operationId"] for p in described["paths"].values() for o in p.values()
              if "requestBody" in o}
    assert set(BODIES) == bodies


@pytest.mark.parametrize(("name", "method", "path"), ALL, ids=IDS)
def test_without_a_token_nobody_may(everything: World, name: str, method: str, path: str) -> None:
    if name in PUBLIC:
        assert "security" not in described["paths"][path][method.lower()]
        return
    with everything.http() as http:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"},
                        {"Authorization": f"Bearer {MACHINE_TOKEN}"}):
            answer = send(http, method, path, BODIES.get(name), headers=headers)
            assert (answer.status_code, code_of(answer)) == (401, "auth.required")
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("name", "method", "path"), ALL, ids=IDS)
def test_a_lower_role_may_not(everything: World, name: str, method: str, path: str) -> None:
    least = next((role for role, names in (
        ("administrator", ADMINISTRATOR), ("operator", OPERATOR)) if name in names), "viewer")
    order = ["viewer", "operator", "administrator"]
    for role in order[:order.index(least)]:
        with everything.http(everything.tokens[role]) as http:
            answer = send(http, method, path, BODIES.get(name))
            assert (answer.status_code, code_of(answer)) == (403, "auth.role"), role
    if name not in {"login", "logout"}:
        with everything.http(everything.tokens[least]) as http:
            assert send(http, method, path, BODIES.get(name)).status_code not in {401, 403}


# --- what is not described -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "method", "path"), WITH_BODY,
                         ids=[name for name, _, _ in WITH_BODY])
def test_an_unknown_field_is_named(http: httpx.Client, name: str, method: str, path: str) -> None:
    for at, body in _with_unknown(BODIES[name]):
        answer = send(http, method, path, body)
        assert (answer.status_code, code_of(answer)) == (422, "input.invalid")
        assert at in answer.json()["error"]["fields"], answer.text


def _with_unknown(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The body with a field too many, at each of its objects but the free maps."""
    if isinstance(value, dict):
        yield at + "summary", value | {"summary": 1}    # the name of a field of ours
        yield at + "no_such", value | {"no_such": 1}
        for key, inner in value.items():
            if key not in {"networks", "options"}:
                for deep, changed in _with_unknown(inner, f"{at}{key}."):
                    yield deep, value | {key: changed}
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            for deep, changed in _with_unknown(inner, f"{at}{n}."):
                yield deep, [*value[:n], changed, *value[n + 1:]]


@pytest.mark.parametrize(("name", "method", "path"), ALL, ids=IDS)
def test_an_unknown_parameter_is_named(http: httpx.Client, name: str, method: str, path: str
                                       ) -> None:
    for query, wrong in (("no_such=1", "no_such"), ("limt=1&no_such=2", "limt"), ("=1", "")):
        answer = send(http, method, f"{path}?{query}", BODIES.get(name))
        assert (answer.status_code, code_of(answer)) == (422, "input.invalid")
        assert wrong in answer.json()["error"]["fields"], answer.text


def test_a_parameter_twice_is_refused(http: httpx.Client) -> None:
    for query in ("limit=1&limit=2", "state=idle&state=idle"):
        answer = http.get(f"{PREFIX}/rules?{query}")
        assert (answer.status_code, code_of(answer)) == (422, "input.invalid")


def test_a_body_where_none_is_taken_is_refused(http: httpx.Client) -> None:
    for name, method, path in ALL:
        if name not in BODIES:
            for content in ({"content": b'{"point": 3}'}, {"content": iter([b"{}"])}):
                answer = send(http, method, path, **content)
                assert (answer.status_code, code_of(answer)) == (422, "input.invalid"), path
                assert "body" in answer.json()["error"]["fields"]


def test_every_input_is_bounded() -> None:
    """In the description itself: each text, number, list and map has its largest."""
    loose: list[str] = []
    schemas = described["components"]["schemas"]

    def look(schema: dict[str, Any], where: str) -> None:
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return look(schemas[name], f"{where}:{name}")
        for part in ("anyOf", "oneOf", "allOf"):
            for inner in schema.get(part, ()):
                look(inner, where)
        if "enum" in schema or "const" in schema:
            return None
        match schema.get("type"):
            case "string" if "maxLength" not in schema:
                loose.append(where)
            case "integer" | "number" if not (
                    {"minimum", "exclusiveMinimum"} & schema.keys()
                    and {"maximum", "exclusiveMaximum"} & schema.keys()):
                loose.append(where)
            case "array":
                if "maxItems" not in schema:
                    loose.append(where)
                look(schema["items"], f"{where}[]")
            case "object" if "properties" in schema:
                if schema.get("additionalProperties") is not False:
                    loose.append(where)
                for name, inner in schema["properties"].items():
                    look(inner, f"{where}.{name}")
            case "object":
                if "maxProperties" not in schema or schema["additionalProperties"] is not False:
                    loose.append(where)
                look({"type": "string"} | schema["propertyNames"], f"{where} names")
                for inner in schema["patternProperties"].values():
                    look(inner, f"{where}.*")
            case None if not {"anyOf", "oneOf", "allOf"} & schema.keys():
                loose.append(where)
        return None

    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                look(parameter["schema"], f"{method} {path} {parameter['name']}")
            if "requestBody" in operation:
                [(media_type, content)] = operation["requestBody"]["content"].items()
                assert media_type == "application/json"
                look(content["schema"], f"{method} {path}")
    assert loose == []


# --- what no database takes ----------------------------------------------------------------------

BAD_TEXTS = ["\0", "a\0b", "\ud800", "a\udfffb", "x" * 70_000, "\x7f", "\n\0"]


def _with_text(value: Any, text: str) -> Iterator[Any]:
    """The body with the text in place of each of its texts, and as a key of its maps."""
    if isinstance(value, str):
        yield text
    elif isinstance(value, dict):
        yield {k: v for k, v in value.items()} | {text: "x"}
        for key, inner in value.items():
            for changed in _with_text(inner, text):
                yield value | {key: changed}
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            for changed in _with_text(inner, text):
                yield [*value[:n], changed, *value[n + 1:]]


@pytest.mark.parametrize(("name", "method", "path"), WITH_BODY,
                         ids=[name for name, _, _ in WITH_BODY])
def test_text_that_no_database_takes(http: httpx.Client, name: str, method: str, path: str
                                     ) -> None:
    for text in BAD_TEXTS[:-2]:
        for body in _with_text(BODIES[name], text):
            answer = send(http, method, path, body)
            assert (answer.status_code, code_of(answer)) == (422, "input.invalid"), answer.text


def test_addresses_that_no_database_takes(http: httpx.Client) -> None:
    texts = ("%00", "a%00b", "%ff", "%ed%a0%80", "%0a", "x" * 5000, "%F0%9F%98%80")
    for _, method, path in ALL:
        parameters = [p for p in described["paths"].get(path, {}).get(
            method.lower(), {}).get("parameters", ()) if p["in"] == "query"]
        for text in texts:
            wanted = [f"{path}?{p['name']}={text}" for p in parameters]
            if "{ref}" in path:
                wanted.append(path.replace("{ref}", text))
            for address in wanted:
                answer = http.request(method, address)
                assert answer.status_code < 500, (address, answer.text)
                if answer.status_code >= 400:
                    assert code_of(answer)


# --- the one shape -------------------------------------------------------------------------------


def test_errors_that_no_route_makes(http: httpx.Client) -> None:
    for path in ("/", "/nothing", PREFIX, f"{PREFIX}/", f"{PREFIX}/rules/", f"{PREFIX}//rules",
                 f"{PREFIX}/rules/r1/nothing", "/docs", "/redoc", f"{PREFIX}/link/nothing"):
        answer = http.get(path)
        assert (answer.status_code, code_of(answer)) == (404, "api.not-found"), path
    for method in ("PUT", "TRACE", "OPTIONS", "PROPFIND", "X" * 3000):
        answer = http.request(method, f"{PREFIX}/machines/local")
        assert (answer.status_code, code_of(answer)) == (405, "api.method")
        assert answer.headers["allow"] == "DELETE, GET, PATCH"      # routes of two modules
    assert http.head(f"{PREFIX}/rules").status_code == 405


@pytest.mark.parametrize(("name", "method", "path"), WITH_BODY,
                         ids=[name for name, _, _ in WITH_BODY])
def test_bodies_that_are_none(http: httpx.Client, name: str, method: str, path: str) -> None:
    for content in (b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"{'a': 1}", b"[" * 100_000,
                    b'{"a":' * 50_000, b"9" * 5000, b'{"a": 1}x', b'{"a": NaN}'):
        if name in OPTIONAL and content in {b"", b"null"}:
            continue
        answer = send(http, method, path, content=content,
                      headers={"Content-Type": "application/json"})
        assert (answer.status_code, code_of(answer)) == (422, "input.invalid"), content[:20]
    good = json.dumps(BODIES[name])
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/xml",
                       "multipart/form-data", "json", "", "application/jsonx"):
        answer = send(http, method, path, content=good, headers={"Content-Type": media_type})
        assert (answer.status_code, code_of(answer)) == (415, "api.media-type"), media_type


def test_a_body_that_is_too_large(http: httpx.Client) -> None:
    for name, method, path in (*ALL, *LINK):
        largest = (25 if path.endswith("/report") else 1) * 1024 * 1024
        refused = send(http, method, path, content=b" " * (largest + 1))
        assert (refused.status_code, code_of(refused)) == (413, "input.too-large"), path
        if name in BODIES:
            # its length is not said before
            refused = send(http, method, path, content=iter([b" " * 65536] * 17),
                           headers={"Content-Type": "application/json"})
            assert (refused.status_code, code_of(refused)) == (413, "input.too-large"), path


def test_the_shape_is_described() -> None:
    shape = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    for path, operations in described["paths"].items():
        for operation in operations.values():
            errors = {status: r for status, r in operation["responses"].items()
                      if status[0] in "45"}
            assert {"413", "415", "422", "5XX"} <= errors.keys(), path
            if operation["operationId"] not in PUBLIC:
                assert {"401", "403", "404"} <= errors.keys()
                assert operation["security"] == [{"token": []}]
            for status, response in errors.items():
                assert {k: v for k, v in response["content"].items()
                        if k == "application/json"} == shape, (path, status)
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in described["components"]["schemas"]


def test_errors_are_told_in_the_language(http: httpx.Client) -> None:
    answer = http.get(f"{PREFIX}/rules/none", headers={"Accept-Language": "zh-CN"})
    assert answer.headers["content-language"] == "zh-CN"
    assert "规则" in answer.json()["error"]["message"]


# --- the machines' end ---------------------------------------------------------------------------

SYNC = {"protocol": PROTOCOL, "version": "0", "temp_dir": "/x", "ahead": 0.0, "seen": -1,
        "wait": 0.0, "configured": {"max_tasks": 2, "transfer_buffer": None, "bandwidth": None},
        "busy": {"code": "x", "fields": {}}}
CALL = {"seq": 1, "call": "step", "task": 1, "epoch": 1, "at": 1.0, "body": {"step": "x"}}
ENROL = {"code": "x", "name": "m9", "token_digest": "0" * 64, "protocol": PROTOCOL,
         "version": "0", "temp_dir": "/x"}
SAID: dict[str, dict[str, Any]] = {
    "sync": SYNC, "enrol": ENROL, "foreign": {"rules": ["x"]},
    "report": {"ahead": 0.0, "calls": [CALL], "progress": {"1": {
        "phase": "x", "done": 1, "total": 1, "rate": 1.0, "remaining_s": None}}}}
GARBAGE: list[Any] = [
    None, True, -1, 0, 2**63, -2**63 - 1, 10**400, 1.5, 1e308, -1e308, float("nan"),
    float("inf"), "", "\0", "\ud800", "x" * 70_000, "9" * 5000, [], [1], {}, {"a": 1},
    {"\ud800": "x"}, {"\0": 1}, {"code": "x", "fields": {"a": "\0"}}]


def _each_replaced(value: Any, by: Any) -> Iterator[Any]:
    yield by
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {k: v for k, v in value.items() if k != key}
            for changed in _each_replaced(inner, by):
                yield value | {key: changed}
        if isinstance(by, str):
            yield value | {by: 1}
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            for changed in _each_replaced(inner, by):
                yield [*value[:n], changed, *value[n + 1:]]


def test_the_machines_routes_are_not_described_and_want_a_token(everything: World) -> None:
    assert not any("/link" in path for path in described["paths"])
    assert "/api/v1/link/" in described["info"]["description"]
    admin = everything.tokens["administrator"]
    for token in ("", "x", admin):
        with everything.http(token) as http:
            for _, method, path in LINK:
                if path.endswith("/enrol"):
                    continue
                answer = http.request(method, path, json=SAID.get(path.rsplit("/", 1)[1]))
                assert answer.status_code == 401, path
                assert code_of(answer) in {"auth.required", "link.token"}


@pytest.mark.parametrize("what", SAID)
def test_garbage_of_a_machine(everything: World, what: str) -> None:
    with everything.http(MACHINE_TOKEN) as http:
        for garbage in GARBAGE:
            for body in _each_replaced(SAID[what], garbage):
                answer = http.post(f"{PREFIX}/link/{what}", content=json.dumps(body))
                assert answer.status_code < 500, (garbage, body, answer.text)
                if answer.status_code >= 400:
                    assert code_of(answer)
    _all_is_shown(everything)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(what=st.sampled_from(sorted(SAID)), body=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        sorted({*SYNC, *CALL, *ENROL, "calls", "progress", "rules"})), inner, max_size=8),
    max_leaves=20))
def test_anything_of_a_machine(everything: World, what: str, body: Any) -> None:
    with everything.http(MACHINE_TOKEN) as http:
        assert http.post(f"{PREFIX}/link/{what}", content=json.dumps(body)).status_code < 500


def test_addresses_of_a_machine(everything: World) -> None:
    with everything.http(MACHINE_TOKEN) as http:
        for name in ("none", "%00", "%ff", "x" * 5000, "..%2f..", "%F0%9F%98%80"):
            answer = http.get(f"{PREFIX}/link/rules/{name}/key")
            assert 400 <= answer.status_code < 500 and code_of(answer)


def _all_is_shown(everything: World) -> None:
    """Nothing that a machine said keeps people from seeing what there is."""
    with everything.http(everything.tokens["administrator"]) as http:
        for path in ("machines", "machines/m2", "tasks", "audit", "rules/r1/log/download",
                     "tasks?format=csv"):
            assert http.get(f"{PREFIX}/{path}").status_code == 200
        assert http.get("/metrics").status_code == 200
