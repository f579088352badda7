"""The whole API as its own description says it is: schemathesis sends what the description allows
and what it does not, and looks at each answer."""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api.world import World
from hotspare.api import create_app
from hotspare.domain.messages import catalogue
from hotspare.services import Services

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance,
          response_headers_conformance, response_schema_conformance, negative_data_rejection,
          ignored_auth, unsupported_method]
REFUSALS = ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429"]

described = create_app(cast(Services, None)).openapi()
schema = schemathesis.openapi.from_dict(described, config=schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}},
     # The token is always sent: ignored_auth leaves it out by itself.
     "generation": {"with-security-parameters": False}}))

pytestmark = pytest.mark.parametrize(
    "everything", ["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)],
    indirect=True, scope="session")

DELETING = {"remove_user": "user", "remove_platform": "platform", "delete_rule": "rule",
            "delete_template": "template", "remove_channel": "channel",
            "remove_machine": "machine", "revoke_machine": "machine",
            "remove_proof_schedule": "proof"}
"""Operations that must have something new each time."""

CHANGING = {"edit_platform", "move_platform"}
"""Operations that would take the ground of all others away."""

statuses: dict[str, Counter[int]] = defaultdict(Counter)

REAL: dict[str, list[str]] = {
    "source": ["src"], "target": ["dst"], "vm": [f"web{n}" for n in range(300, 400)],
    "storage": ["default"], "machine": ["local", "m2"], "template": ["t1"],
    "group": ["g1"], "rule": ["r1", "r2"], "time_zone": ["UTC", "Europe/Berlin"],
    "datacenter": [""], "host": [""], "temp_dir": [""]}
"""Values of fields and parameters that mean something. Random ones would hardly ever get past
the first look-up, and what lies behind it would never be asked."""


def one_shape(answer: Any) -> None:
    """Of every answer of 400 and above."""
    assert "application/json" in answer.headers["content-type"], answer.headers
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "remedy", "fields"}
    assert error["code"] in catalogue(), error
    assert not re.search("<[a-z_]{3,}>", error["message"]), "a field of the text is missing"


def choice(of: Sequence[str], seed: object) -> str:
    return of[zlib.crc32(repr(seed).encode()) % len(of)]


def make_real(case: schemathesis.Case, world: World) -> None:
    """Most references that may be right become so; all that is meant to be wrong stays wrong."""
    meta = case.meta
    assert meta is not None
    right = {place for place, info in meta.components.items() if info.mode.is_positive}
    seed = case.path_parameters, case.query, case.body
    operation = case.operation.definition.raw["operationId"]
    # Hypothesis takes words from our sources, too: one of them may be the name of what others need.
    if operation not in DELETING and zlib.crc32(repr(seed).encode()) % 5 == 0:
        return
    if ParameterLocation.PATH in right and case.path_parameters:
        if operation in DELETING:
            case.path_parameters["ref"] = world.make(DELETING[operation])
        elif "ref" in case.path_parameters:
            case.path_parameters["ref"] = choice(
                [world.ids["spare"]] if operation in CHANGING else world.names(case.path), seed)
        elif "test" in case.path_parameters:
            case.path_parameters["test"] = 1 + zlib.crc32(repr(seed).encode()) % 2
        else:
            case.path_parameters["task"] = 1 + zlib.crc32(repr(seed).encode()) % 12
    for place, values in ((ParameterLocation.QUERY, case.query),
                          (ParameterLocation.BODY, case.body)):
        if place in right and isinstance(values, dict):
            for name, value in values.items():
                if name in REAL and isinstance(value, str):
                    values[name] = choice(REAL[name], seed)
            if "vms" in values:
                values["vms"] = [choice(REAL["vm"], seed)]
            if values.get("action") == "delete":
                values |= {"rules": ["none"], "group": None}
            if operation == "add_proof_schedule":
                values |= {"schedule": {"kind": "daily", "at": "02:30"}, "group": None}
            if values.get("wait"):
                values["wait"] = 0.01           # not for a minute
            if "url" in values:
                # Nowhere else; and not often, since a process of its own looks at it.
                values["url"] = choice([world.hook, "no://a", "no://b", "no://c"], seed)
            if "uri" in values:
                values["uri"] = f"qemu+ssh://h{zlib.crc32(repr(seed).encode())}/system"


def token_for(case: schemathesis.Case, world: World) -> str:
    if case.operation.definition.raw["operationId"] == "logout":
        return world.rig.services.users.local_token()       # it ends
    return world.tokens["administrator"]


@pytest.fixture(scope="session")
def session(everything: World) -> Iterator[requests.Session]:
    """One connection: a handshake for each request would be most of the work."""
    with requests.Session() as made:
        made.trust_env = False
        yield made


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation(case: schemathesis.Case, everything: World,
                         session: requests.Session) -> None:
    make_real(case, everything)
    answer = case.call_and_validate(
        base_url=everything.url, session=session, verify=str(everything.served.ca), checks=CHECKS,
        headers={"Authorization": f"Bearer {token_for(case, everything)}"})
    statuses[case.operation.label][answer.status_code] += 1
    if answer.status_code >= 400:
        one_shape(answer)


def test_all_of_it_was_asked_often_enough(everything: World) -> None:
    """Counted by the server; and each operation was also done, not only refused."""
    operations = {o.ok().label for o in schema.get_all_operations()}
    if statuses.keys() != operations:
        pytest.skip("only a part of the operations was run")
    print(f"\n{everything.requests} requests")
    for label, answers in statuses.items():
        print(label, dict(sorted(answers.items())))
    assert everything.requests >= 5000
    never = {label for label, answers in statuses.items() if not any(
        200 <= status < 300 for status in answers)}
    # A password is not guessed, no second machine is live, the name to confirm is not known, no
    # task that can be stopped by its number runs, and what a rule allows depends on what it is at.
    rule = "POST /api/v1/rules/{ref}"
    assert never <= {"POST /api/v1/login", "POST /api/v1/tasks/{task}/stop", f"{rule}/move",
                     f"{rule}/start", f"{rule}/stop", f"{rule}/failover",
                     f"{rule}/planned-failover", f"{rule}/permanent", f"{rule}/undo",
                     f"{rule}/failback", f"{rule}/failback/switch", f"{rule}/failback/commit",
                     f"{rule}/failback/undo", f"{rule}/scrub", f"{rule}/source/plug",
                     f"{rule}/source/unplug"}
