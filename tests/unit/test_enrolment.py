"""A one-time code becomes a machine's own token; what else is tried is refused."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotspare.domain.errors import HotspareError
from hotspare.services import Actor
from hotspare.store import schema
from hotspare.worker import enrolment
from hotspare.worker.https import Server
from hotspare.workflows import wire
from unit.fleet_rig import FleetRig, fleet
from unit.service_rig import ADMIN, OPERATOR, wait_until


@pytest.fixture
def made(tmp_path: Path) -> Iterator[FleetRig]:
    with fleet(tmp_path, platforms=False) as found:
        yield found


def refused(code: str, call) -> HotspareError:  # type: ignore[no-untyped-def]
    with pytest.raises(HotspareError) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def sync(link: Server, **more: object) -> object:
    body = {"protocol": wire.PROTOCOL, "version": "1", "temp_dir": "/t"} | more
    return link.post("/sync", body)


def test_a_code_works_once_and_the_server_keeps_digests_only(made: FleetRig) -> None:
    code = made.code("m1")
    enrolled = made.enrol("m1", code=code)
    assert sync(enrolled.connect())["tasks"] == []       # type: ignore[index]
    kept = made.folder / "m1" / "worker.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    refused("enrolment.invalid", lambda: enrolment.enrol(
        _dir(made, "thief"), made.served.url, code, "m1", "/t", enrolment_ca))
    secret = wire.read_code(code)[0]
    with made.services.context.read() as conn:
        stored = json.dumps([[str(v) for v in row] for table in (
            schema.machine, schema.enrolment, schema.audit, schema.log)
            for row in conn.execute(sa.select(table))])
    assert enrolled.token not in stored and secret not in stored
    assert wire.digest(enrolled.token) in stored


def test_an_exchange_that_was_cut_off_is_asked_for_again(made: FleetRig) -> None:
    """The machine sends the digest of a token that it kept before; a lost answer costs nothing,
    and a service that is always started with its code does not mind that it is used."""
    code = made.code("m1")
    first = made.enrol("m1", code=code)
    state = made.folder / "m1"
    (state / "worker.json").rename(state / "worker.json.begun")     # as if killed before the end
    again = made.enrol("m1", code=code)
    assert again == first == made.enrol("m1", code=code)
    sync(again.connect())


def test_codes_of_others_late_ones_and_nonsense_are_refused(made: FleetRig) -> None:
    refused("enrolment.invalid", lambda: made.enrol("m2", code=made.code("m1")))
    refused("enrolment.invalid", lambda: made.enrol("m1", code=made.code("m1", life_s=-1.0)))
    for nonsense in ("", "x", "é" * 67, made.code("m1")[:-1]):
        refused("enrolment.code", lambda n=nonsense: made.enrol("m3", code=n or " "))
    refused("auth.role", lambda: made.services.fleet.enrol(OPERATOR, "m9", "00" * 32))
    refused("machine.own-process", lambda: made.code("local"))


def test_another_servers_ca_is_not_trusted(made: FleetRig) -> None:
    secret = wire.read_code(made.code("m1"))[0]
    error = refused("client.fingerprint", lambda: made.enrol(
        "m1", code=wire.make_code(secret, "ab" * 32)))
    assert error.fields["found"] == made.served.fingerprint


def test_a_revoked_token_is_dead_at_once_and_a_new_code_lets_the_machine_back_in(
        made: FleetRig) -> None:
    worker = made.worker("m1")
    wait_until(lambda: worker.link.overview()["contact"])
    made.services.fleet.revoke(ADMIN, "m1")
    assert worker.refused.wait(2.0), "its long poll was not ended"
    assert worker.link.refused is not None and worker.link.refused.code == "link.token"
    refused("link.token", lambda: sync(worker.enrolled.connect()))
    refused("link.token", lambda: worker.enrolled.connect().get("/rules/00000000/key"))
    renewed = made.enrol("m1")
    assert renewed.token != worker.enrolled.token
    sync(renewed.connect())


def test_a_machine_in_use_is_not_removed(made: FleetRig) -> None:
    made.worker("m1")
    fleet = made.services.fleet
    platform = made.services.platforms.add(
        ADMIN, name="p", kind="libvirt", uri="qemu+ssh://far/system", machine="m1")
    wait_until(lambda: made.services.platforms.get(ADMIN, "p").refreshed_at)
    wait_until(lambda: not made.services.tasks.list(ADMIN, state="live").items)
    error = refused("machine.in-use", lambda: fleet.remove(ADMIN, "m1"))
    assert "platforms" in error.fields["what"]
    refused("machine.own-process", lambda: fleet.remove(ADMIN, "local"))
    made.services.moves.platform(ADMIN, platform.id, "local")
    fleet.remove(ADMIN, "m1")
    assert "m1" not in {m.name for m in made.services.machines.list(ADMIN).items}
    refused("machine.not-found", lambda: fleet.revoke(ADMIN, "m1"))
    made.enrol("m1")
    assert "m1" in {m.name for m in made.services.machines.list(ADMIN).items}


def test_a_machine_reaches_its_own_platforms_and_rules_only(made: FleetRig) -> None:
    made.rig.platforms()
    rule = made.rig.rule()
    stranger = made.enrol("m1").connect()
    refused("rule.not-found", lambda: stranger.get(f"/rules/{rule}/key"))
    made.rig.player.hold.set()
    task = made.services.rules.start(OPERATOR, rule)
    answer = stranger.post("/report", {
        "calls": [{"seq": 1, "call": "finish", "task": task, "epoch": 1, "at": 0.0,
                                 "body": {"outcome": "ok", "error": None, "figures": {}}}],
        "progress": {str(task): {"step": "stolen"}}})
    assert answer["refused"]["1"]["code"] == "task.fenced"
    assert made.services.tasks.get(ADMIN, task).state != "ended"
    assert (made.services.tasks.get(ADMIN, task).progress or {}).get("step") != "stolen"
    # its token is nobody's at the API for people
    import httpx

    from hotspare.client.client import Client
    from hotspare.client.session import Session
    with Client(Session(made.served.url, made.enrol("m2").token, str(made.served.ca))) as client:
        refused("auth.required", client.rules)
    assert httpx is not None
    made.rig.player.hold.clear()
    made.rig.ended(task)


@pytest.mark.parametrize("server, worker, code", [
    (3, 3, None), (3, 2, None), (3, 1, "link.too-old"), (3, 4, "link.too-new")])
def test_the_protocol_before_is_served_and_no_other(
        made: FleetRig, monkeypatch: pytest.MonkeyPatch, server: int, worker: int,
        code: str | None) -> None:
    link = made.enrol("m1").connect()
    monkeypatch.setattr(wire, "PROTOCOL", server)
    monkeypatch.setattr(wire, "OLDEST", server - 1)
    if code is None:
        sync(link, protocol=worker, said_by_a_newer_version=1)
    else:
        error = refused(code, lambda: sync(link, protocol=worker))
        assert str(worker) in str(error) and "Upgrade" in str(error)


def test_what_is_malformed_is_refused_in_the_documented_shape(made: FleetRig) -> None:
    link = made.enrol("m1").connect()
    for path in ("/sync", "/report", "/enrol"):
        refused("input.invalid", lambda p=path: link.post(
            p, {"protocol": "x", "ahead": "x"}))
        refused("input.invalid", lambda p=path: link.post(p, []))
    answer = link.post("/report", {"calls": [
        {"seq": n, "call": call, "task": 1, "epoch": 0, "at": 0.0, "body": {}}
        for n, call in enumerate(("explode", "step"), 1)]})
    assert answer["reported"] == 2
    assert answer["refused"]["1"]["code"] == "link.call"


def enrolment_ca(url: str, fingerprint: str) -> str:
    from hotspare.client.client import fetch_ca

    return fetch_ca(url, fingerprint)


def _dir(made: FleetRig, name: str) -> Path:
    found = made.folder / name
    found.mkdir(exist_ok=True)
    return found


assert Actor is not None
