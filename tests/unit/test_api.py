"""The REST API over real TLS: what it refuses, what it never says, how it waits."""

from __future__ import annotations

import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotspare.client import Client, Session, shapes
from hotspare.client.client import fetch_ca
from hotspare.domain.errors import GiveUp, HotspareError
from hotspare.domain.messages import catalogue
from unit.service_rig import ADMIN, OPERATOR, Rig, Served, prepared, rig, served, wait_until

PASSWORD = "CANARY-pw-51c2"
SECRET = "CANARY-secret-9e11"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the module, with rule r1 that has a point, and a user of each role."""
    folder = prepared(tmp_path_factory.mktemp("api"))
    with rig(folder) as made:
        made.services.users.add(ADMIN, "admin", PASSWORD, "administrator")
        made.services.users.add(ADMIN, "olga", PASSWORD, "operator")
        made.services.users.add(ADMIN, "vera", PASSWORD, "viewer")
        made.run(made.rule(interval_s=86400))
        with served(made) as it:
            yield it


def client_of(server: Served, user: str = "admin") -> Client:
    with Client(Session(server.url, "", str(server.ca))) as client:
        token = client.login(user, PASSWORD)["token"]
    return Client(Session(server.url, token, str(server.ca)))


@pytest.fixture(scope="module")
def admin(server: Served) -> Iterator[Client]:
    with client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def raw(server: Served, admin: Client) -> Iterator[httpx.Client]:
    """Below the typed client: anything can be sent."""
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=30.0, trust_env=False,
                      verify=ssl.create_default_context(cafile=str(server.ca)),
                      headers={"Authorization": f"Bearer {admin._session.token}"}) as http:
        yield http


def code_of(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "remedy", "fields"}
    assert error["code"] in catalogue()
    assert error["message"] and "<" not in error["message"], error["message"]
    return str(error["code"])


# --- signing in ----------------------------------------------------------------------------------


def test_without_a_token_nothing_is_told(server: Served, raw: httpx.Client) -> None:
    described = raw.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        if path.endswith(("/health", "/ca", "/login")):
            continue
        for method in methods:
            url = path.replace("{ref}", "x").replace("{task}", "1").removeprefix("/api/v1")
            answer = raw.request(method, url, headers={"Authorization": "Bearer x"}, json={})
            assert (answer.status_code, code_of(answer)) == (401, "auth.required"), path
    for header in (b"", b"Bearer", b"Basic abc", b"Bearer \xff", b"bearer " + b"x" * 5000):
        answer = raw.get("/rules", headers=[(b"Authorization", header)])
        assert answer.status_code == 401, header


def test_roles_over_the_api(server: Served) -> None:
    with client_of(server, "vera") as vera, client_of(server, "olga") as olga:
        assert vera.rules()[0]["name"] == "r1"
        for call in (lambda: vera.start_rule("r1"), lambda: vera.refresh_platform("src"),
                     lambda: olga.add_platform("x", "qemu:///system"),
                     lambda: olga.request("GET", "/audit")):
            with pytest.raises(HotspareError) as caught:
                call()
            assert caught.value.code == "auth.role"


def test_too_many_guesses_are_told_to_wait(server: Served) -> None:
    with httpx.Client(base_url=f"{server.url}/api/v1", trust_env=False, timeout=30.0,
                      verify=ssl.create_default_context(cafile=str(server.ca))) as http:
        codes = [http.post("/login", json={"user": "mallory", "password": "guess"})
                 for _ in range(6)]
    assert [a.status_code for a in codes] == [401] * 5 + [429]
    assert int(codes[-1].headers["retry-after"]) >= 1


def test_logout_ends_the_session(server: Served) -> None:
    server.rig.services.users._guard.forgive("admin", "127.0.0.1")
    with client_of(server) as client:
        client.rules()
        client.logout()
        with pytest.raises(HotspareError) as caught:
            client.rules()
        assert caught.value.code == "auth.required"


def test_the_ca_is_pinned(server: Served, tmp_path: Path) -> None:
    with pytest.raises(HotspareError) as caught, Client(Session(server.url, "x", None)) as client:
        client.rules()
    assert caught.value.code == "client.untrusted"
    spaced = ":".join(server.fingerprint[i:i + 2].upper() for i in range(0, 64, 2))
    pem = tmp_path / "ca.pem"
    pem.write_text(fetch_ca(server.url, spaced))
    with Client(Session(server.url, "", str(pem))) as client:
        assert client.request("GET", "/health")["status"] == "ok"
    with pytest.raises(HotspareError) as caught:
        fetch_ca(server.url, "0" * 64)
    assert caught.value.code == "client.fingerprint"
    with pytest.raises(HotspareError) as caught, Client(
            Session("https://127.0.0.1:1", "x", str(pem))) as client:
        client.rules()
    assert caught.value.code == "client.unreachable"


# --- garbage -------------------------------------------------------------------------------------

GARBAGE: list[Any] = [
    None, True, -1, 0, 2**63, 10**400, 1.5, "", " ", "\x00", "a\nb", "\ud800", "x" * 70_000,
    "../../etc", "'; DROP TABLE rule; --", "\u202e", "😀", [], [1], {}, {"a": 1},
    {"\ud800": "x"}, {"": ""}, {"self": "x", "code": "y"}, "0123abcd", "%00", "%ff"]

BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/login"): {"user": "x", "password": "y"},
    ("POST", "/users"): {"name": "x", "password": "long enough", "role": "viewer"},
    ("PUT", "/users/nobody/password"): {"password": "long enough"},
    ("POST", "/platforms"): {"name": "x", "kind": "libvirt", "uri": "qemu:///system",
                             "options": {}, "secret": None, "machine": "none"},
    ("POST", "/rules"): {"name": "x", "source": "src", "vm": "none", "target": "dst",
                         "storage": "default", "replica_name": None, "networks": {},
                         "retention": 7, "quiesce": "try", "datacenter": "",
                         "host": "", "machine": "none", "temp_dir": "/x", "fast_transfer": True,
                         "lan_free": False, "delete_replica": False, "time_zone": "UTC",
                         "schedule": {"kind": "daily", "at": "02:30"}, "rpo_s": None,
                         "bandwidth": [{"days": [1], "start": 0, "end": 60, "limit": 1}],
                         "group": None, "template": None},
    ("PATCH", "/rules/r1"): {"name": "r1", "revision": 1, "retention": 3, "schedule": None,
                             "networks": {}, "bandwidth": [], "temp_dir": "", "rpo_s": None,
                             "group": None},
    ("POST", "/rules/actions"): {"action": "start", "rules": ["none"], "group": None,
                                 "delete_replica": None, "force": False},
    ("POST", "/groups"): {"name": "g", "vms": ["none"], "source": "src", "target": "dst",
                          "storage": "default"},
    ("POST", "/templates"): {"name": "t", "rule": "none", "settings": {"retention": 3}},
    ("PATCH", "/platforms/dst"): {"name": "dst", "options": {}, "secret": None,
                                  "accept_host": False},
    ("POST", "/rules/none/failover"): {"point": 1},
}


def send(raw: httpx.Client, method: str, path: str, body: Any) -> httpx.Response:
    """``ensure_ascii`` lets broken Unicode through to the server."""
    return raw.request(method, path, content=json.dumps(body, ensure_ascii=True).encode(),
                       headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(("where", "body"), BODIES.items(), ids=lambda v: str(v)[:40])
def test_garbage_in_every_field_is_refused_in_one_shape(
        server: Served, raw: httpx.Client, where: tuple[str, str],
        body: dict[str, Any]) -> None:
    failures = server.rig.services.users._guard._failures
    for field in [*body, "unknown"]:
        failures.clear()                # so that some pass the guard; all would take long
        for value in GARBAGE:
            answer = send(raw, *where, body | {field: value})
            assert answer.status_code < 500, (field, value, answer.text)
            if answer.status_code >= 400:
                assert code_of(answer)
            if field == "unknown":
                assert answer.status_code == 422
    failures.clear()


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000,
    b'{"user": NaN, "password": Infinity}', b'{"user": ' + b"9" * 10_000 + b"}"])
def test_a_body_that_is_none(raw: httpx.Client, body: bytes) -> None:
    for content_type in ("application/json", "text/plain", "application/json; charset=x"):
        answer = raw.post("/login", content=body, headers={"Content-Type": content_type})
        expected = ((415, "api.media-type") if body and content_type == "text/plain"
                    else (422, "input.invalid"))
        assert (answer.status_code, code_of(answer)) == expected


def test_a_body_that_is_too_large(raw: httpx.Client) -> None:
    answer = raw.post("/login", content=b"x" * (1024 * 1024 + 1))
    assert (answer.status_code, code_of(answer)) == (413, "input.too-large")

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 65536

    answer = raw.post("/login", content=endless(), headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500 and code_of(answer)


@pytest.mark.parametrize("path", [
    "/tasks/0", "/tasks/-1", "/tasks/x", f"/tasks/{2**63}", f"/tasks/{'9' * 5000}",
    "/tasks/999999", "/rules/%00", "/rules/%ff%fe", "/rules/..%2f..%2fetc", "/rules/" + "x" * 4000,
    "/rules?limit=0", "/rules?limit=x", "/rules?limit=99999999999999999999", "/rules?cursor=-1",
    "/rules?cursor=999999999999999999999", "/rules?cursor=a", "/rules?state=x",
    "/tasks?state=%00", "/tasks?rule=", "/tasks?rule=none", "/tasks/1/progress?wait=nan",
    "/tasks/1/progress?wait=1e9", "/tasks/1/progress?wait=-1", "/tasks/1/progress?seen=x",
    "/tasks/1/progress?seen=99999999999999999999999", "/nothing", "/rules/%2e%2e", "//",
    "/rules/none/points", "/rules/none/log", "/platforms/none/vms"])
def test_addresses_that_are_wrong(raw: httpx.Client, path: str) -> None:
    answer = raw.get(path)
    assert 400 <= answer.status_code < 500, (path, answer.text)
    assert code_of(answer)


def test_methods_that_are_wrong(raw: httpx.Client) -> None:
    answer = raw.patch("/rules")
    assert (answer.status_code, code_of(answer)) == (405, "api.method")


@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(sorted(BODIES)), data=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["name", "user", "password", "uri", "options", "networks", "point"])
        | st.text(max_size=5), inner, max_size=5), max_leaves=8))
def test_any_json_is_answered(server: Served, raw: httpx.Client, where: tuple[str, str],
                              data: Any) -> None:
    server.rig.services.users._guard._failures.clear()
    assert send(raw, *where, data).status_code < 500


def test_bytes_that_are_no_http(server: Served) -> None:
    host, port = server.url.removeprefix("https://").split(":")
    for garbage in (b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n",
                    b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"):
        context = ssl.create_default_context(cafile=str(server.ca))
        with context.wrap_socket(socket.create_connection((host, int(port))),
                                 server_hostname=host) as sock:
            sock.sendall(garbage)
            sock.settimeout(5)
            assert b" 500 " not in sock.recv(1000)


# --- lists, answers, secrets ---------------------------------------------------------------------


def test_lists_come_in_pages(server: Served, raw: httpx.Client, admin: Client) -> None:
    for _ in range(5):
        server.rig.ended(server.rig.services.platforms.check(OPERATOR, "src"))
    seen: list[int] = []
    cursor = None
    while True:
        page = raw.get("/tasks", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
                       ).json()
        assert len(page["items"]) <= 2
        seen += [t["id"] for t in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == sorted(seen, reverse=True) == [t["id"] for t in admin.tasks(largest=10_000)]
    first = raw.get("/platforms", params={"limit": 1}).json()
    second = raw.get("/platforms", params={"limit": 1, "cursor": first["next"]}).json()
    assert [first["items"][0]["name"], second["items"][0]["name"]] == ["dst", "src"]


def test_the_clients_shapes_are_the_servers(raw: httpx.Client) -> None:
    schemas = raw.get("/openapi.json").json()["components"]["schemas"]
    for shape, view in ((shapes.Platform, "PlatformView"), (shapes.Vm, "VmView"),
                        (shapes.Machine, "MachineView"), (shapes.Rule, "RuleView"),
                        (shapes.Action, "ActionView"), (shapes.Group, "GroupView"),
                        (shapes.Template, "TemplateView"),
                        (shapes.Point, "PointView"), (shapes.Step, "StepView"),
                        (shapes.Task, "TaskView"), (shapes.Progress, "ProgressView"),
                        (shapes.LogLine, "LogView"), (shapes.Login, "SessionView")):
        assert set(get_type_hints(shape)) == set(schemas[view]["properties"]), view
    assert "HTTPValidationError" not in schemas


def test_headers(raw: httpx.Client) -> None:
    for path in ("/rules", "/nothing", "/tasks/x"):
        headers = raw.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_secrets_are_nowhere(server: Served, raw: httpx.Client,
                             caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    made = send(raw, "POST", "/platforms", {
        "name": "canary", "uri": "qemu+ssh://canary/system", "secret": SECRET})
    assert made.status_code == 201
    server.rig.ended(made.json()["task"])
    texts = [made.text]
    send(raw, "POST", "/platforms", {"name": "canary", "uri": SECRET, "secret": SECRET})
    wrong = send(raw, "POST", "/platforms", {"name": 5, "uri": "x", "secret": SECRET})
    texts += [wrong.text, send(raw, "POST", "/users", {
        "name": "admin", "password": PASSWORD, "role": "viewer"}).text]
    for path in ("/platforms", "/platforms/canary", "/tasks?limit=500", "/audit", "/users",
                 "/rules", "/machines"):
        answer = raw.get(path)
        assert answer.status_code == 200
        texts.append(answer.text)
    for number in range(1, 8):
        texts += [raw.get(f"/tasks/{number}").text, raw.get(f"/tasks/{number}/log").text]
    files = b"".join(f.read_bytes() for f in server.rig.folder.rglob("*")
                     if f.is_file())
    everything = "".join(texts) + caplog.text
    for canary in (SECRET, PASSWORD):
        assert canary not in everything
        assert canary.encode() not in files
    token = str(raw.headers["authorization"]).split()[1]
    assert token not in everything and token.encode() not in files


# --- the operator's path -------------------------------------------------------------------------


def test_the_whole_path(server: Served, admin: Client) -> None:
    made = admin.create_rule({"name": "path 1", "source": "src", "vm": "web1", "target": "dst",
                              "storage": "default", "networks": {"default": "lan"}})
    assert (made["state"], made["state_zh"]) == ("stopped", "停止")
    news = list(admin.follow(admin.start_rule("path 1")))
    assert news[-1]["outcome"] == "ok"
    assert [p["number"] for p in admin.points("path 1")] == [1]
    list(admin.follow(admin.failover("path 1", 1)))
    assert admin.rule("path 1")["state"] == "temporary-failover"
    with pytest.raises(HotspareError) as caught:
        admin.start_rule("path 1")
    assert caught.value.code == "rule.in-temporary-failover"
    assert "hotspare undo path 1" in str(caught.value)
    list(admin.follow(admin.undo("path 1")))
    assert admin.rule("path 1")["state"] == "finished"
    list(admin.follow(admin.delete_rule("path 1", True)))
    with pytest.raises(HotspareError):
        admin.rule("path 1")


def test_a_long_poll_wakes_at_once_and_costs_no_thread(server: Served, admin: Client) -> None:
    """60 polls at once are more than the pool has threads; all wake by one report."""
    here: Rig = server.rig
    here.player.hold.set()
    task = admin.start_rule("r1")
    wait_until(lambda: here.services.tasks.progress(ADMIN, task).progress)
    time.sleep(0.1)
    seen = here.services.tasks.progress(ADMIN, task).version
    answers: list[Any] = []

    def poll() -> None:
        with Client(admin._session) as client:
            answers.append(client.request("GET", f"/tasks/{task}/progress", timeout_s=60,
                                          parameters={"wait": 30, "seen": seen}))

    threads = [threading.Thread(target=poll) for _ in range(60)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(here.services.context.hub._async.get(f"task {task}", ())) == 60, 30)
    assert admin.rules()                # the server answers others meanwhile
    assert not answers
    here.player.hold.clear()
    for thread in threads:
        thread.join(20)
    assert len(answers) == 60 and all(a["version"] != seen for a in answers)
    here.ended(task)


def test_an_unexpected_failure_has_the_shape_too(server: Served, raw: httpx.Client,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_named: object) -> None:
        raise ZeroDivisionError("CANARY")

    monkeypatch.setattr(server.rig.services.rules, "list", broken)
    answer = raw.get("/rules")
    assert (answer.status_code, code_of(answer)) == (500, "api.unexpected")
    assert "CANARY" not in answer.text


def test_errors_of_a_task_come_with_their_code(server: Served, admin: Client) -> None:
    server.rig.player.fail["check"] = GiveUp("vm.unknown", vm="a", platform="b")
    try:
        news = list(admin.follow(admin.check_platform("dst")))
    finally:
        del server.rig.player.fail["check"]
    assert news[-1]["outcome"] == "failed"
    assert (news[-1]["error"] or {})["code"] == "vm.unknown"
    assert not math.isnan(admin.task(news[-1]["task"])["created_at"])
