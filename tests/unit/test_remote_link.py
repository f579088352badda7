"""Work over HTTPS: the same as by direct calls, and the control server may come and go."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import uvicorn

from hotspare.api import create_app
from hotspare.client.local import local_tasks
from hotspare.domain.codec import encode
from hotspare.domain.errors import GiveUp, HotspareError, Refused
from hotspare.domain.lineage import Manifest
from hotspare.server import tls
from hotspare.server.control import http_configuration
from hotspare.services import Services, machines
from hotspare.store import schema
from hotspare.worker import folders
from hotspare.worker.clock import Clock, uptime
from hotspare.worker.https import Server
from hotspare.worker.local_socket import LocalSocket
from hotspare.worker.outbox import Outbox
from hotspare.workflows import wire
from hotspare.workflows.link import Progress
from unit.fleet_rig import Cut, FleetRig, Worker, fleet
from unit.service_rig import ADMIN, OPERATOR, STEPS, manifest, wait_until


@pytest.fixture
def made(tmp_path: Path, database: str | None) -> Iterator[FleetRig]:
    with fleet(tmp_path, database) as found:
        yield found


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[FleetRig]:
    with fleet(tmp_path) as found:
        yield found


def rule_of(made: FleetRig, machine: str, name: str = "r1", vm: str = "web0") -> str:
    """A rule of ``machine``'s."""
    rule = made.rig.rule(name, vm)
    wait_until(lambda: any(m.name == machine and m.live
                           for m in made.services.machines.list(ADMIN).items))
    made.services.moves.rule(OPERATOR, rule, machine)
    return rule


def in_transfer(worker: Worker, made: FleetRig, rule: str) -> int:
    """Begin a run; it stays in its transfer."""
    worker.player.hold.set()
    task: int = made.services.rules.start(OPERATOR, rule)
    wait_until(lambda: any(s.name == "transfer" for s in made.services.tasks.get(
        ADMIN, task).steps))
    return task


def silence(worker: Worker, made: FleetRig) -> Server:
    """End the worker as by kill -9; the test speaks for it."""
    worker.link.close()
    worker.outbox.close()
    worker.player._closing = True
    worker.player.hold.clear()
    made.workers.remove(worker)
    return worker.enrolled.connect()


def codes(made: FleetRig, task: int) -> list[str]:
    return [line.code for line in made.services.logs.page(ADMIN, task=task).items]


def test_a_run_over_https_is_a_run(made: FleetRig) -> None:
    worker = made.worker("m1")
    rule = rule_of(made, "m1")
    ended = made.rig.run(rule)
    assert ended.outcome == "ok" and ended.machine == "m1"
    assert [s.name for s in ended.steps] == list(STEPS)
    assert {s.state for s in ended.steps} == {"done"}
    view = made.services.rules.get(ADMIN, rule)
    assert view.points == 1 and view.epoch == 2
    assert [t.id for t in worker.player.begun] == [ended.id], "begun once"
    # what was read for a task is forgotten with it
    wait_until(worker.link._vault.empty)


def test_stop_and_limits_reach_a_running_task_within_a_second(lone: FleetRig) -> None:
    worker = lone.worker("m1")
    rule = rule_of(lone, "m1")
    task = in_transfer(worker, lone, rule)
    begun = worker.player.begun[0]
    from hotspare.domain.bandwidth import Range
    lone.services.machines.set(ADMIN, "m1", bandwidth=(Range((1, 2, 3, 4, 5, 6, 7), 0, 1440, 9),))
    wait_until(lambda: worker.link.limits(begun).machine_bandwidth.limit_at(time.time()) == 9, 1.0)
    asked = time.monotonic()
    lone.services.rules.stop(OPERATOR, rule)
    assert lone.rig.ended(task).outcome == "stopped"
    assert time.monotonic() - asked < 1.0


def test_secrets_come_at_once_and_a_new_password_with_the_next_connection(
        lone: FleetRig, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = lone.worker("m1")
    rule = rule_of(lone, "m1")
    src, dst = (lone.services.platforms.get(ADMIN, name).id for name in ("src", "dst"))
    asked: list[str] = []
    get = worker.link._server.get
    monkeypatch.setattr(worker.link._server, "get", lambda path: (asked.append(path), get(path))[1])
    task = in_transfer(worker, lone, rule)
    for _ in range(2):
        assert worker.link.access(src).uri == "qemu+ssh://source/system"
        assert worker.link.access(dst).uri == "qemu+ssh://target/system"
        assert worker.link.rule_key(rule) == lone.services.context.keys.rule_key(rule)
    assert asked == [f"/tasks/{task}/secrets"]

    lone.services.platforms.edit(ADMIN, "src", {"secret": "CANARY-new"})
    wait_until(lambda: worker.link.access(src).secret == "CANARY-new", 1.0)
    for file in worker.state_dir.rglob("*"):
        assert not file.is_file() or b"CANARY" not in file.read_bytes(), file

    other = worker.enrolled.connect()           # as a rebuild asks
    assert other.get(f"/rules/{rule}/key")["key"] == worker.link.rule_key(rule).hex()
    worker.player.hold.clear()
    lone.rig.ended(task)
    for path in (f"/tasks/{task}/secrets", f"/rules/{rule}/key"):
        with pytest.raises(HotspareError):
            other.get(path)
    other.close()


@pytest.mark.parametrize("how", ["drop", "refuse"])
def test_a_transfer_goes_on_and_ends_without_the_server(
        lone: FleetRig, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hotspare.worker import remote_link
    monkeypatch.setattr(remote_link, "_ANSWER_S", 0.5)
    monkeypatch.setattr(remote_link, "POLL_S", 0.5)
    way = Cut(int(lone.served.url.rsplit(":", 1)[1]))
    worker = lone.worker("m1", f"https://127.0.0.1:{way.port}")
    rule = rule_of(lone, "m1")
    task = in_transfer(worker, lone, rule)
    begun = worker.player.begun[0]
    key = worker.link.rule_key(rule)
    getattr(way, how)()
    wait_until(lambda: worker.link.overview()["away"], 15.0)
    assert worker.link.limits(begun).stop is False
    assert worker.link.rule_key(rule) == key, "it is known until the task has ended"
    for n in range(3):
        worker.link.log(begun, "info", "replicate.continues", {"task": n})
        worker.link.progress(begun, Progress("transfer", n, 3))
    worker.player.hold.clear()
    wait_until(lambda: worker.outbox.finished() == {(task, begun.epoch)})
    ended_at = time.time()
    assert worker.link.next_task(0.0) is None, "it is not offered to us again"
    time.sleep(1.5)
    assert lone.services.tasks.get(ADMIN, task).state == "running"
    way.mend()
    ended = lone.rig.ended(task)
    assert ended.outcome == "ok" and abs(ended.ended_at - ended_at) < 0.5
    assert all(s.ended_at <= ended_at + 0.01 for s in ended.steps)
    lines = [x for x in lone.services.logs.page(ADMIN, task=task).items
             if x.code == "replicate.continues"]
    assert [x.fields["task"] for x in lines] == [0, 1, 2]
    assert all(x.at <= ended_at for x in lines), "each has the time that it happened at"
    assert lone.services.rules.get(ADMIN, rule).points == 1
    wait_until(lambda: not worker.outbox.batch())
    way.close()


def test_an_answer_that_is_lost_does_nothing_twice(made: FleetRig) -> None:
    """The machine says it again, with what came since; and a request that was stuck somewhere
    arrives at last."""
    worker = made.worker("m1")
    rule = rule_of(made, "m1")
    task = in_transfer(worker, made, rule)
    begun = worker.player.begun[0]
    wait_until(lambda: not worker.outbox.batch())
    server = silence(worker, made)

    def say(*numbers: int) -> Any:
        return server.post("/report", {"calls": [{
            "seq": 1000 + n, "call": "log", "task": task, "epoch": begun.epoch, "at": time.time(),
            "body": {"level": "info", "code": "replicate.continues", "fields": {"task": n}}}
            for n in numbers]})

    assert say(1, 2, 3)["reported"] == 1003
    assert say(1, 2, 3, 4)["reported"] == 1004
    assert say(2)["reported"] == 1004
    numbers = [x.fields["task"] for x in made.services.logs.page(ADMIN, task=task).items
               if x.code == "replicate.continues"]
    assert numbers == [1, 2, 3, 4]
    made.services.moves.rule(OPERATOR, rule, "local")


def test_a_server_that_was_killed_and_is_back(tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process of the server over the same database: the machine goes on with its task,
    and what it said meanwhile arrives."""
    from hotspare.worker import remote_link
    monkeypatch.setattr(remote_link, "_ANSWER_S", 1.0)
    way = Cut(1)
    with fleet(tmp_path) as first:
        way.mend(int(first.served.url.rsplit(":", 1)[1]))
        worker = first.worker("m1", f"https://127.0.0.1:{way.port}")
        rule = rule_of(first, "m1")
        task = in_transfer(worker, first, rule)
        first.workers.clear()
        way.refuse()
    worker.player.hold.clear()
    wait_until(worker.outbox.finished)
    services = Services.open(tmp_path / "server")
    identity = tls.ensure(tmp_path / "server" / "tls", ["127.0.0.1"])
    config = http_configuration(create_app(services, identity.ca.read_text()), identity)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        way.mend(server.servers[0].sockets[0].getsockname()[1])
        wait_until(lambda: services.tasks.get(ADMIN, task).state == "ended", 15.0)
        assert services.tasks.get(ADMIN, task).outcome == "ok"
        assert services.rules.get(ADMIN, rule).points == 1
        assert [t.id for t in worker.player.begun] == [task]
    finally:
        worker.stop()
        services.context.hub.close()
        server.should_exit = True
        thread.join(5.0)
        services.close()
        way.close()


def test_a_machine_that_starts_again_is_given_its_live_tasks_and_no_finished_one(
        lone: FleetRig) -> None:
    worker = lone.worker("m1")
    rules = [rule_of(lone, "m1", f"r{n}", f"web{n}") for n in range(2)]
    tasks = [in_transfer(worker, lone, rule) for rule in rules]
    by_id = {t.id: t for t in worker.player.begun}
    worker.link.close()             # killed: what follows is written down and never sent
    time.sleep(0.2)
    worker.link.finish(by_id[tasks[0]], "ok", None, {})
    worker.outbox.close()
    again = lone.worker("m1")
    wait_until(lambda: again.player.begun)
    lone.rig.ended(tasks[0])
    lone.rig.ended(tasks[1])
    assert [t.id for t in again.player.begun] == [tasks[1]]
    worker.player._closing = True
    worker.player.hold.clear()
    worker.player.errors.clear()    # its player went on with an outbox that is closed
    lone.workers.remove(worker)


def test_one_report_that_is_refused_does_not_keep_the_others(lone: FleetRig) -> None:
    worker = lone.worker("m1")
    rule = rule_of(lone, "m1")
    task = in_transfer(worker, lone, rule)
    begun = worker.player.begun[0]
    worker.link.log(begun, "info", "replicate.continues", {"task": 1})
    worker.outbox.put("finish", task, begun.epoch + 1, time.time(),
                      {"outcome": "ok", "error": None, "figures": {}})
    worker.outbox.put("adopt", task, begun.epoch, time.time(), {"points": [{"nonsense": 1}]})
    worker.link.log(begun, "info", "replicate.continues", {"task": 2})
    wait_until(lambda: codes(lone, task).count("replicate.continues") == 2)
    assert lone.services.tasks.get(ADMIN, task).state == "running"
    # an end that makes no sense is an end
    worker.outbox.put("finish", task, begun.epoch, time.time(),
                      {"outcome": "exploded", "error": None, "figures": {}})
    worker.link.log(begun, "info", "replicate.continues", {"task": 3})
    ended = lone.rig.ended(task)
    assert ended.outcome == "failed" and ended.error["code"] == "link.report-refused"
    worker.player.hold.clear()


def test_a_point_is_told_whole_once_and_named_after_that(made: FleetRig) -> None:
    """What the server lost meanwhile, as by a restore, it is told whole with the report after."""
    worker = made.worker("m1")
    rule = rule_of(made, "m1")
    in_transfer(worker, made, rule)
    task = worker.player.begun[0]
    said: list[Any] = []
    put = worker.outbox.put

    def heard(call: str, of: int, epoch: int, at: float, body: dict[str, Any]) -> None:
        if call == "adopt":
            said.append(body["points"])
        put(call, of, epoch, at, body)

    worker.outbox.put = heard           # type: ignore[method-assign]
    five = tuple(manifest(task, n) for n in range(1, 6))

    def adopt(wanted: tuple[Manifest, ...], there: tuple[Manifest, ...]) -> None:
        worker.link.adopt(task, wanted)
        wait_until(worker.outbox.empty)
        with made.services.context.read() as conn:
            found = conn.execute(sa.select(schema.restore_point.c.manifest).where(
                schema.restore_point.c.rule == rule).order_by("number")).scalars().all()
        assert found == encode(there)

    def whole(report: int) -> list[int]:
        return [point["number"] for point in said[report] if "disks" in point]

    adopt(five[:3], five[:3])
    adopt(five[:4], five[:4])
    adopt(five[1:], five[1:])
    other = replace(five[4], note="another one of the same number")
    adopt((*five[1:4], other), (*five[1:4], other))
    assert [whole(n) for n in range(4)] == [[1, 2, 3], [4], [5], [5]]
    assert all(point.keys() == {"number", "digest"} for point in said[1][:3])
    with made.services.context.change() as change:
        change.conn.execute(sa.delete(schema.restore_point).where(
            schema.restore_point.c.rule == rule, schema.restore_point.c.number == 2))
    adopt((*five[1:4], other), (*five[2:4], other))         # refused: all stays as it is
    adopt((*five[1:4], other), (*five[1:4], other))
    assert whole(4) == [] and whole(5) == [2, 3, 4, 5]
    worker.player.hold.clear()


def test_a_lost_machine_turns_its_rules_invalid_and_its_transfer_goes_on(
        lone: FleetRig, monkeypatch: pytest.MonkeyPatch) -> None:
    from hotspare.worker import remote_link
    monkeypatch.setattr(remote_link, "_ANSWER_S", 0.5)
    monkeypatch.setattr(remote_link, "POLL_S", 0.2)
    monkeypatch.setattr(machines, "LOST_AFTER_S", 2.0)
    way = Cut(int(lone.served.url.rsplit(":", 1)[1]))
    worker = lone.worker("m1", f"https://127.0.0.1:{way.port}")
    rule = rule_of(lone, "m1")
    task = in_transfer(worker, lone, rule)
    way.refuse()

    def invalid() -> bool:
        lone.services.machines.watch()
        return lone.rig.state(rule) == "invalid"

    wait_until(invalid)
    assert lone.services.tasks.get(ADMIN, task).state == "running"
    way.mend()
    wait_until(lambda: lone.rig.state(rule) == "running", 15.0)
    worker.player.hold.clear()
    assert lone.rig.ended(task).outcome == "ok"
    way.close()


def test_a_silence_shows_within_thirty_seconds() -> None:
    """From the last word to invalid: the patience, and the time between two looks."""
    from hotspare.services import scheduler
    from hotspare.worker import remote_link

    assert machines.LOST_AFTER_S + scheduler._LONGEST_SLEEP_S <= 30.0
    assert 2 * remote_link.POLL_S < machines.LOST_AFTER_S


def test_the_clock_of_a_machine_is_measured(lone: FleetRig, caplog: pytest.LogCaptureFixture
                                            ) -> None:
    link = lone.enrol("m1").connect()

    def sync(ahead: float) -> None:
        link.post("/sync", {"protocol": wire.PROTOCOL, "version": "1", "temp_dir": "/t",
                            "ahead": ahead})

    def offset(name: str) -> float | None:
        return next(m.clock_offset for m in lone.services.machines.list(ADMIN).items
                    if m.name == name)

    sync(0.1)
    assert offset("m1") == 0.1 and not caplog.records
    sync(60.0)
    assert offset("m1") == 60.0
    assert [r.message for r in caplog.records if "60.0 s" in r.message]
    # what it says is put right by that: a report from its future happened now
    lone.worker("m2")
    rule = rule_of(lone, "m2")
    worker = lone.workers[0]
    task = in_transfer(worker, lone, rule)
    wait_until(lambda: offset("m2") is not None)
    assert abs(offset("m2") or 0.0) < 1.0, "both clocks are one"
    before = time.time()
    silence(worker, lone).post("/report", {
        "ahead": 3600.0, "calls": [{
            "seq": 10_000, "call": "log", "task": task, "epoch": 2, "at": time.time() + 3590.0,
            "body": {"level": "info", "code": "replicate.continues", "fields": {"task": 1}}}]})
    line = next(x for x in lone.services.logs.page(ADMIN, task=task).items
                if x.code == "replicate.continues")
    assert before - 11.0 < line.at < before - 9.0
    lone.services.moves.rule(OPERATOR, rule, "local")


def test_a_rule_that_moved_takes_its_run_along(lone: FleetRig) -> None:
    one, two = lone.worker("m1"), lone.worker("m2")
    rule = rule_of(lone, "m1")
    task = in_transfer(one, lone, rule)
    lone.services.moves.rule(OPERATOR, rule, "m2")
    first = lone.services.tasks.get(ADMIN, task)
    assert first.outcome == "stopped" and first.error["code"] == "rule.moved"
    begun = wait_until(lambda: [t for t in two.player.begun if t.kind == "replicate"])
    assert begun[0].epoch == 3
    # the old machine is told, and what it still says is refused
    wait_until(lambda: one.link.task(task) is None)
    assert one.link.limits(one.player.begun[0]).stop
    wait_until(lambda: not one.outbox.batch())
    ended = lone.rig.ended(begun[0].id)
    assert ended.outcome == "ok" and ended.machine == "m2"
    with pytest.raises(GiveUp):
        one.enrolled.connect().get(f"/rules/{rule}/key")
    with pytest.raises(Refused, match="already"):
        lone.services.moves.rule(OPERATOR, rule, "m2")
    with pytest.raises(GiveUp):
        lone.services.moves.rule(OPERATOR, rule, "m3")


def test_the_folder_of_a_rule_that_moved_is_removed_and_no_other(lone: FleetRig) -> None:
    one = lone.worker("m1")
    lone.worker("m2")
    moved, kept = rule_of(lone, "m1", "r1", "web0"), rule_of(lone, "m1", "r2", "web1")
    temp = lone.folder / "temp"
    for name in (f"hs-{moved}", f"hs-{kept}", "hs-00000000", "somebody-elses"):
        (temp / name).mkdir(parents=True)
    assert folders.sweep(temp, one.link.foreign) == []
    lone.services.moves.rule(OPERATOR, moved, "m2")
    assert folders.sweep(temp, one.link.foreign) == [moved]
    assert {p.name for p in temp.iterdir()} == {f"hs-{kept}", "hs-00000000", "somebody-elses"}


def test_what_a_host_says_of_its_own_machine(
        lone: FleetRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hotspare.worker import remote_link
    monkeypatch.setattr(remote_link, "POLL_S", 0.5)
    worker = lone.worker("m1")
    rules = [rule_of(lone, "m1", f"r{n}", f"web{n}") for n in range(2)]
    lone.services.machines.set(ADMIN, "m1", max_tasks=1)
    running = in_transfer(worker, lone, rules[0])
    waiting = lone.services.rules.start(OPERATOR, rules[1])
    deep = tmp_path.joinpath(*["d" * 60] * 3)
    deep.mkdir(parents=True)
    local = LocalSocket(deep, worker.link.overview)
    path = deep / "worker.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    wait_until(lambda: len(local_tasks(path)["tasks"]) == 2)
    found = {t["task"]: t for t in local_tasks(path)["tasks"]}
    assert found[running]["state"] == "running" and found[running]["step"] == "transfer"
    assert found[running]["progress"]["total"] == 1 << 20          # type: ignore[index]
    assert found[waiting]["state"] == "pending" and found[waiting]["of"] == "r1"
    assert found[waiting]["code"] == "queue.machine-full" and found[waiting]["message"]
    local.close()
    with pytest.raises(GiveUp, match="No DR machine of this host"):
        local_tasks(path)
    worker.player.hold.clear()
    lone.rig.ended(waiting)


def test_the_outbox_survives_and_never_uses_a_number_twice(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    box = Outbox(path)
    for n in range(3):
        box.put("log", 1, 1, 0.0, {"n": n})
    assert [c.seq for c in box.batch()] == [1, 2, 3]
    box.arrived(3)
    box.close()
    box = Outbox(path)
    box.put("log", 1, 1, 0.0, {"n": 3})
    assert [c.seq for c in box.batch()] == [4]
    box.arrived(100)                # the file was lost, or brought back from a backup: what it
    box.put("finish", 1, 1, 0.0, {})    # holds the server has not heard
    assert [(c.seq, c.call) for c in box.batch()] == [(104, "log"), (105, "finish")]
    assert box.finished() == {(1, 1)}
    box.arrived(104)
    for _ in range(3):
        box.put("inventory", 1, 1, 0.0, {"vms": "x" * 300_000})
    assert [c.seq for c in box.batch()] == [105, 106], "a batch is bounded"
    box.close()


def test_two_hundred_machines_wait_without_a_thread_each(lone: FleetRig) -> None:
    count = 200
    tokens = [f"token-{n}" for n in range(count)]
    with lone.services.context.change() as change:
        change.conn.execute(sa.insert(schema.machine), [
            {"name": f"m{n}", "live": False, "max_tasks": 4, "temp_dir": "/t", "version": "1",
             "created_at": 0.0, "token_digest": wire.digest(token)}
            for n, token in enumerate(tokens)])
    trust = ssl.create_default_context(cafile=str(lone.served.ca))
    body = {"protocol": wire.PROTOCOL, "version": "1", "temp_dir": "/t", "wait": 20.0}

    async def poll(http: httpx.AsyncClient, token: str, seen: int | None) -> Any:
        answer = await http.post(
            "/api/v1/link/sync", json=body | {"seen": seen},
            headers={"Authorization": f"Bearer {token}"}, timeout=60.0)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def all_of_them() -> tuple[int, float]:
        limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
        async with httpx.AsyncClient(base_url=lone.served.url, verify=trust, limits=limits,
                                     trust_env=False) as http:
            first = await asyncio.gather(*(poll(http, t, None) for t in tokens))
            waiting = [asyncio.create_task(poll(http, t, f["version"]))
                       for t, f in zip(tokens, first, strict=True)]
            await asyncio.sleep(2.0)
            assert not any(w.done() for w in waiting)
            threads = threading.active_count()
            began = time.process_time()
            lone.services.context.hub.publish(*(f"machine m{n}" for n in range(count)))
            await asyncio.gather(*waiting)
            return threads, time.process_time() - began

    threads, spent = asyncio.run(all_of_them())
    assert threads < 80, f"{threads} threads for {count} machines that wait"
    # of both ends, this test's own included: some 20 ms a machine
    assert spent < 8.0, f"{spent:.1f} s of processor time for one answer to each"


def test_nothing_secret_is_kept_by_the_machine(lone: FleetRig) -> None:
    worker = lone.worker("m1")
    lone.services.platforms.add(ADMIN, name="p", kind="libvirt", uri="qemu+ssh://far/system",
                                secret="canary-51f0", machine="m1")
    wait_until(lambda: lone.services.platforms.get(ADMIN, "p").refreshed_at)
    kept = b"".join(p.read_bytes() for p in worker.state_dir.rglob("*") if p.is_file())
    assert b"canary-51f0" not in kept
    with lone.services.context.read() as conn:
        tasks = json.dumps([str(r) for r in conn.execute(sa.select(schema.task))])
    assert "canary-51f0" not in tasks


def test_the_clock_is_measured_by_the_quickest_of_the_last_polls() -> None:
    clock = Clock()
    assert clock.ahead() is None
    skew = time.time() - uptime()
    # the server's clock is 100 s ahead of ours; one poll was quick, one waited on its way out,
    # one on its way back
    for asked, out, back in ((0.0, 0.02, 0.02), (20.0, 9.0, 0.01), (60.0, 0.01, 7.0)):
        came = skew + asked + out + 100.0
        clock.heard(asked, came, came + 5.0, asked + out + 5.0 + back)
        assert abs((clock.ahead() or 0.0) + 100.0) < 0.03
    for n in range(12):             # old news is forgotten: it was set right meanwhile
        came = skew + 100.0 + n
        clock.heard(100.0 + n, came, came, 100.0 + n)
    assert abs(clock.ahead() or 1.0) < 0.01
