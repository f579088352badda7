"""What a DR machine's token reaches and what it does not, and which process is the machine."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import uvicorn

from hotspare.api import create_app
from hotspare.api.routes.link import router
from hotspare.domain.errors import HotspareError
from hotspare.server import control, tls
from hotspare.server.control import http_configuration
from hotspare.services import Services, machines
from hotspare.store import schema
from hotspare.worker import enrolment, instance
from hotspare.worker.enrolment import Enrolment
from hotspare.worker.https import Away, Server, address
from hotspare.worker.outbox import Outbox
from hotspare.worker.remote_link import About, RemoteLink
from hotspare.workflows import wire
from unit.fleet_rig import FleetRig, fleet
from unit.service_rig import ADMIN, OPERATOR, wait_until
from unit.test_remote_link import in_transfer, rule_of

REPORTS: dict[str, dict[str, Any]] = {
    "step": {"step": "transfer", "state": "done", "detail": {}},
    "log": {"level": "info", "code": "replicate.continues", "fields": {"task": 1}},
    "pause": {"reason": None}, "adopt": {"points": []}, "failover": {"number": 1, "detail": {}},
    "failback": {"detail": None}, "inventory": {"vms": []},
    "proof": {"verdict": "passed", "checks": [], "screenshot": None},
    "scrubbed": {"points": [], "newest": 1}, "mended": {"number": 1, "damage": {}},
    "finish": {"outcome": "ok", "error": None, "figures": {}}}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[FleetRig]:
    with fleet(tmp_path) as found:
        yield found


def code_of(call: Any) -> str:
    with pytest.raises(HotspareError) as caught:
        call()
    return caught.value.code


def sync(link: Server, **more: Any) -> Any:
    return link.post("/sync", {"protocol": wire.PROTOCOL, "version": "1", "temp_dir": "/t"} | more)


def test_no_call_of_the_link_reaches_what_is_another_machines(made: FleetRig) -> None:
    """Each call that there is, with the token of a machine that the rule is not with."""
    owner = made.worker("m1")
    rule = rule_of(made, "m1")
    task = in_transfer(owner, made, rule)
    thief = made.enrol("m2").connect()
    assert {route.path for route in router.routes} == {                  # type: ignore[attr-defined]
        "/link/enrol", "/link/sync", "/link/report", "/link/tasks/{task}/secrets",
        "/link/rules/{rule}/key", "/link/foreign"}, "a new call belongs into this test"
    assert set(REPORTS) == {"step", "finish", *made.services.fleet._link("m1")._reports.kinds}

    assert sync(thief)["tasks"] == [] == sync(thief)["pending"]
    assert code_of(lambda: thief.get(f"/rules/{rule}/key")) == "rule.not-found"
    assert code_of(lambda: thief.get(f"/tasks/{task}/secrets")) == "task.fenced"
    assert thief.post("/foreign", {"rules": [rule]}) == [rule], "it is told to forget it"

    def all_of_it() -> str:
        with made.services.context.read() as conn:
            return json.dumps([[str(v) for v in row] for table in (
                schema.task, schema.task_step, schema.rule, schema.restore_point,
                schema.platform_vm, schema.log) for row in conn.execute(sa.select(
                    *[c for c in table.c if c.name != "progress"]).order_by(*table.primary_key))])

    before = all_of_it()
    for epoch in (0, 1, 2, 3):
        answer = thief.post("/report", {
            "calls": [{"seq": 100 * (epoch + 1) + n, "call": call, "task": task, "epoch": epoch,
                       "at": time.time(), "body": body}
                      for n, (call, body) in enumerate(REPORTS.items())],
            "progress": {str(task): {"step": "stolen"}}})
        assert {e["code"] for e in answer["refused"].values()} == {"task.fenced"}
        assert len(answer["refused"]) == len(REPORTS)
    assert all_of_it() == before
    assert (made.services.tasks.get(ADMIN, task).progress or {}).get("step") != "stolen"
    owner.player.hold.clear()
    assert made.rig.ended(task).outcome == "ok"


def test_only_a_machines_token_opens_the_link_and_it_opens_nothing_else(made: FleetRig) -> None:
    enrolled = made.enrol("m1")
    people = made.services.users.local_token()
    trust = ssl.create_default_context(cafile=str(made.served.ca))
    with httpx.Client(base_url=made.served.url, verify=trust, trust_env=False) as http:
        for token in ("", "x", people):
            head = {"Authorization": f"Bearer {token}"} if token else {}
            for method, path in (("POST", "/sync"), ("POST", "/report"), ("POST", "/foreign"),
                                 ("GET", "/rules/x/key"),
                                 ("GET", "/tasks/1/secrets")):
                answer = http.request(method, f"/api/v1/link{path}", headers=head, json={
                    "protocol": wire.PROTOCOL, "version": "1", "temp_dir": "/t"})
                assert answer.status_code == 401, (path, answer.text)
        tried = 0
        for path, methods in create_app(made.services, "").openapi()["paths"].items():
            for method in methods:
                answer = http.request(method, path.replace("{", "").replace("}", ""), json={},
                                      headers={"Authorization": f"Bearer {enrolled.token}"})
                tried += answer.status_code == 401
                assert answer.status_code == 401 or path in {
                    "/api/v1/ca", "/api/v1/health", "/api/v1/login", "/api/v1/sessions",
                    "/metrics"} or answer.status_code in {415, 422}, (method, path, answer.text)
        assert tried > 40


def test_one_code_lets_one_machine_in_whoever_is_at_the_door(
        tmp_path: Path, database: str | None) -> None:
    with fleet(tmp_path, database, platforms=False) as made:
        code, _ = wire.read_code(made.code("m1"))
        door = threading.Barrier(8)
        took: list[int] = []
        refused: list[str] = []

        def exchange(n: int) -> None:
            asked = wire.Enrol(code, "m1", wire.digest(f"token-{n}"), wire.PROTOCOL, "1", "/t")
            door.wait()
            try:
                made.services.fleet.exchange(asked, "127.0.0.1")
                took.append(n)
            except HotspareError as error:
                refused.append(error.code)

        threads = [threading.Thread(target=exchange, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(took) == 1 and refused == ["enrolment.invalid"] * 7
        assert made.services.fleet.link(f"token-{took[0]}").machine == "m1"


@contextlib.contextmanager
def listening(services: Services, identity: tls.Identity, host: str = "127.0.0.1"
              ) -> Iterator[str]:
    """The app with another certificate, at an address of its own."""
    config = http_configuration(create_app(services, identity.ca.read_text()), identity)
    config.host, config.port = host, 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"https://{host}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(5.0)


def test_the_ca_is_pinned_and_not_its_certificate(made: FleetRig, tmp_path: Path) -> None:
    enrolled = made.enrol("m1")
    folder = made.rig.folder / "tls"
    old = (folder / "server.pem").read_bytes()
    (folder / "server.pem").unlink()
    renewed = tls.ensure(folder, ["127.0.0.1"])
    assert renewed.certificate.read_bytes() != old
    other = tls.ensure(tmp_path / "other", ["127.0.0.1"])

    def at(url: str) -> Server:
        return Server(url, enrolled.ca, enrolled.token)

    with listening(made.services, renewed) as url, at(url) as link:
        sync(link)
    with listening(made.services, other) as url, at(url) as link, pytest.raises(Away) as caught:
        sync(link)
    assert caught.value.code == "link.untrusted" and "enrol" in str(caught.value)
    with listening(made.services, renewed, "127.0.0.2") as url:
        with at(url) as link, pytest.raises(Away) as caught:
            sync(link)
        assert caught.value.code == "link.name" and "--name" in str(caught.value)
        assert code_of(lambda: made.enrol("m2", url=url)) == "link.name", "it does not wait for it"


def test_the_certificate_of_a_server_that_runs_for_years_is_renewed(
        made: FleetRig, monkeypatch: pytest.MonkeyPatch) -> None:
    enrolled = made.enrol("m1")
    folder = made.rig.folder / "tls"
    config = http_configuration(create_app(made.services, ""), tls.ensure(folder, ["127.0.0.1"]))
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    first = ssl.get_server_certificate(("127.0.0.1", port))
    control.renew(config, folder, ["127.0.0.1"])
    assert ssl.get_server_certificate(("127.0.0.1", port)) == first, "it is good for a year"
    monkeypatch.setattr(tls, "_RENEW_BEFORE", dt.timedelta(days=398))
    control.renew(config, folder, ["127.0.0.1"])
    assert ssl.get_server_certificate(("127.0.0.1", port)) != first
    with Server(f"https://127.0.0.1:{port}", enrolled.ca, enrolled.token) as link:
        sync(link)
    server.should_exit = True
    thread.join(5.0)


def test_what_a_worker_is_told_when_it_cannot_be_enrolled(made: FleetRig) -> None:
    port = int(made.served.url.rsplit(":", 1)[1])
    for url in (f"http://127.0.0.1:{port}", f"127.0.0.1:{port}", "https://", "https://h:x",
                "https://user:secret@h", ""):
        assert code_of(lambda u=url: made.enrol("m1", url=u or " ")) == "link.address"
        with pytest.raises(HotspareError):
            Server(url, "", "token")
    assert address(f"https://127.0.0.1:{port}/") == f"https://127.0.0.1:{port}"
    with pytest.raises(HotspareError) as caught:
        made.enrol("m1", url="https://127.0.0.1:1")
    assert caught.value.code == "client.unreachable" and "is the address right" in str(caught.value)
    with pytest.raises(HotspareError) as caught:
        made.enrol("m1", code=made.code("m1", life_s=-1.0))
    assert "has expired" in str(caught.value)
    assert "hotspare machine enrol m1" in str(caught.value)


def test_another_address_of_the_server_needs_no_code(made: FleetRig) -> None:
    code = made.code("m1")
    first = made.enrol("m1", code=code)
    with made.services.context.change() as change:      # the code is long forgotten
        change.conn.execute(sa.delete(schema.enrolment))
    port = made.served.url.rsplit(":", 1)[1]
    moved = made.enrol("m1", url=f"https://localhost:{port}", code=code)
    assert (moved.token, moved.server) == (first.token, f"https://localhost:{port}")
    assert enrolment.load(made.folder / "m1") == moved


def speak(made: FleetRig, enrolled: Enrolment, state: Path, refused: threading.Event | None = None
          ) -> RemoteLink:
    mine = instance.begin(state)
    return RemoteLink(enrolled.connect(mine.now), Outbox(state / "outbox.sqlite"), About("/t"),
                      (refused or threading.Event()).set, mine)


def test_the_next_process_of_a_machine_goes_on_and_a_copy_of_it_is_refused(
        made: FleetRig, monkeypatch: pytest.MonkeyPatch) -> None:
    from hotspare.worker import remote_link

    enrolled = made.enrol("m1")
    state, copy = made.folder / "m1", made.folder / "copy"
    one = speak(made, enrolled, state).start()
    wait_until(lambda: one.overview()["contact"])
    one.close()
    copy.mkdir()
    for name in ("worker.json", "instance.json"):
        (copy / name).write_bytes((state / name).read_bytes())
    for _ in range(3):              # kill -9 before and after the server took it: no matter
        speak(made, enrolled, state)
    two = speak(made, enrolled, state).start()
    wait_until(lambda: two.overview()["contact"])

    # the copy is older than the process that runs: refused, told, and it has touched nothing
    monkeypatch.setattr(remote_link, "TWICE_S", 1.0)
    told = threading.Event()
    thief = speak(made, enrolled, copy, told).start()
    assert told.wait(10.0) and thief.refused is not None
    assert thief.refused.code == "link.twice" and "delete its state directory" in str(thief.refused)
    assert thief.overview()["contact"] is None
    mine = instance.begin(copy)
    server = enrolled.connect(mine.now)
    for call in (lambda: server.post("/report", {"calls": []}), lambda: server.get("/rules/x/key"),
                 lambda: server.post("/foreign", {"rules": []}), lambda: sync(server)):
        assert code_of(call) == "link.twice"
    assert two.refused is None and not two.overview()["away"]
    two.close()


def test_who_is_replaced_by_a_copy_is_told_and_ends(made: FleetRig) -> None:
    enrolled = made.enrol("m1")
    state, copy = made.folder / "m1", made.folder / "copy"
    told = threading.Event()
    one = speak(made, enrolled, state, told).start()
    wait_until(lambda: one.overview()["contact"])
    copy.mkdir()
    (copy / "instance.json").write_bytes((state / "instance.json").read_bytes())
    two = speak(made, enrolled, copy).start()
    assert told.wait(5.0), "its long poll was not ended"
    assert one.refused is not None and one.refused.code == "link.twice"
    wait_until(lambda: two.overview()["contact"])
    two.close()


def test_a_copy_that_takes_over_from_a_silent_machine_fences_it(
        made: FleetRig, monkeypatch: pytest.MonkeyPatch) -> None:
    enrolled = made.enrol("m1")
    state = made.folder / "m1"
    first = instance.begin(state)
    server = enrolled.connect(first.now)
    sync(server)
    first.accepted()
    rule = made.rig.rule()
    wait_until(lambda: any(m.name == "m1" and m.live
                           for m in made.services.machines.list(ADMIN).items))
    made.services.moves.rule(OPERATOR, rule, "m1")
    task = made.services.rules.start(OPERATOR, rule)
    assert [x["task"]["epoch"] for x in sync(server)["tasks"]] == [2]
    monkeypatch.setattr(machines, "LOST_AFTER_S", 0.2)
    time.sleep(0.5)
    stranger = enrolled.connect("another")
    assert [(x["task"]["id"], x["task"]["epoch"]) for x in sync(stranger)["tasks"]] == [(task, 3)]
    assert code_of(lambda: server.post("/report", {"calls": []})) == "link.twice"
    assert made.services.rules.get(ADMIN, rule).epoch == 3


def test_a_machine_that_is_enrolled_anew_fences_the_one_before(made: FleetRig) -> None:
    """The host was set up again, and the old one still runs somewhere."""
    old = made.worker("m1")
    rule = rule_of(made, "m1")
    task = in_transfer(old, made, rule)
    state = made.folder / "anew"
    state.mkdir()
    enrolled = enrolment.enrol(state, made.served.url, made.code("m1"), "m1", "/t",
                               lambda url, _: made.served.ca.read_text())
    assert old.refused.wait(5.0), "the old one was not told at once"
    link = enrolled.connect()
    tasks = [(x["task"]["id"], x["task"]["epoch"]) for x in sync(link)["tasks"]]
    assert tasks == [(task, 3)], "it goes on under a higher epoch"
    assert made.services.rules.get(ADMIN, rule).epoch == 3

    def finish(seq: int, epoch: int) -> Any:
        return link.post("/report", {"calls": [{
            "seq": seq, "call": "finish", "task": task, "epoch": epoch, "at": time.time(),
            "body": REPORTS["finish"]}]})["refused"]

    assert finish(1, 2)["1"]["code"] == "task.fenced"
    assert finish(2, 3) == {} and made.rig.ended(task).outcome == "ok"
    old.player.hold.clear()
