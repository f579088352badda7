"""A control server and DR machines as processes of their own, between two real hosts: the server
and the network come and go, a rule moves, and a machine that slept writes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hotspare.client.local import LocalTask, local_tasks
from hotspare.platforms.libvirt import jobs
from unit.fleet_rig import Cut

from .rig import HOTSPARE, Rig, Server, hotspare, remove_replicas, wait_for

if TYPE_CHECKING:
    from testbeds.kvm import Guest, Lab
    from testbeds.postgres import Postgres

MIB = 1 << 20
BANDWIDTH = 2 * MIB
GATE = "replicate.before-publish#*:touch={}"


class Control(Server):
    """``hotspare server`` as a process; machines reach it through ``way``."""

    def __init__(self, directory: Path, database: str | None = None) -> None:
        super().__init__(directory)
        self.way = Cut(1)
        self.database = database        # of PostgreSQL; None: SQLite

    def start(self, fault: str = "", fault_log: Path | None = None) -> Control:
        environment = os.environ | {"HOTSPARE_ADMIN_PASSWORD": "canary-password-93f1"}
        if self.database is not None:
            environment["HOTSPARE_DATABASE"] = self.database
        with self.log.open("a") as errors:
            self.process = subprocess.Popen(
                [HOTSPARE, "server", "--state-dir", str(self.state_dir), "--listen",
                 "127.0.0.1:0", "--json"], stdout=subprocess.PIPE, stderr=errors, text=True,
                env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-2000:]
        self.url = json.loads(line)["url"]
        self.way.mend(int(self.url.rsplit(":", 1)[1]))
        return self


class Machine:
    """``hotspare worker`` as a process."""

    def __init__(self, server: Control, name: str) -> None:
        self.server, self.name = server, name
        self.state_dir = server.directory / name
        self.log = server.directory / f"{name}.log"
        self.process: subprocess.Popen[str] | None = None

    def start(self, fault: str = "") -> Machine:
        command = [HOTSPARE, "worker", "--state", str(self.state_dir), "--temp-dir",
                   str(self.server.temp_dir / self.name), "--json"]
        environment = os.environ | ({"HOTSPARE_FAULT": fault} if fault else {})
        if not (self.state_dir / "worker.json").exists():
            code = hotspare(self.server, "machine", "enrol", self.name, "--json").json["code"]
            command += ["--server", f"https://127.0.0.1:{self.server.way.port}", "--name",
                        self.name]
            environment["HOTSPARE_ENROL"] = code
        with self.log.open("a") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors,
                                            text=True, env=environment)
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), self.log.read_text()[-2000:]
        return self

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
        return self.process.wait(20)

    def task(self, number: int) -> LocalTask | None:
        """The task as the machine itself shows it."""
        found = local_tasks(self.state_dir / "worker.sock")["tasks"]
        return next((t for t in found if t["task"] == number), None)


class Fleet:
    def __init__(self, lab: Lab, guest: Guest, directory: Path, database: str | None = None
                 ) -> None:
        self.control = Control(directory, database).start()
        self.rig = Rig(lab, self.control, guest)
        self.machines: dict[str, Machine] = {}

    def machine(self, name: str, fault: str = "") -> Machine:
        made = self.machines.setdefault(name, Machine(self.control, name))
        return made.start(fault)

    def protect(self, machine: str, platforms: str, bandwidth: int = BANDWIDTH) -> None:
        """Register both hosts with the machine ``platforms``, and create the rule."""
        rig = self.rig
        with self.control.client() as client:
            for name, host in (("site-a", rig.lab.a), ("site-b", rig.lab.b)):
                client.request("POST", "/platforms", body={
                    "name": name, "kind": "libvirt", "uri": host.uri, "machine": platforms})
            wait_for(lambda: all(p["refreshed_at"] for p in client.platforms()), 60,
                     "both platforms are read")
            rig.rule_id = client.create_rule({
                "name": rig.rule, "source": "site-a", "vm": rig.guest.name, "target": "site-b",
                "storage": rig.storage, "machine": machine, "bandwidth": [{
                    "days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440,
                    "limit": bandwidth}]})["id"]

    def start(self) -> int:
        with self.control.client() as client:
            return client.start_rule(self.rig.rule)

    def show(self, what: str) -> Any:
        with self.control.client() as client:
            return client.request("GET", what)

    def live(self, name: str) -> bool:
        return any(m["live"] for m in self.show("/machines")["items"] if m["name"] == name)

    def fill(self, mib: int) -> None:
        done = self.rig.guest.exec(f"dd if=/dev/urandom of=/data/filled-{time.time_ns()} bs=1M "
                                   f"count={mib} && sync")
        assert done.rc == 0, done.err

    def transferred(self, machine: Machine, task: int, share: float) -> int:
        """Wait until this share of the data is at the target, by the machine's own word."""
        def come() -> int:
            now = machine.task(task)
            progress = now["progress"] if now is not None else None
            if progress is None or progress["step"] != "transfer" or not progress["total"]:
                return 0
            done = progress["done"]
            return done if done >= share * progress["total"] else 0

        return int(wait_for(come, 90, f"{share:.0%} of the data is transferred"))


@pytest.fixture
def fleet(lab: Lab, guest_factory: Callable[..., Guest], tmp_path: Path,
          request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """On SQLite, or with the parameter ``postgresql`` there."""
    database = (request.getfixturevalue("postgres_url")
                if getattr(request, "param", "") == "postgresql" else None)
    lab.a.start()
    lab.b.start()
    guest = guest_factory(boot="kernel", rate=1.0)
    guest.start()
    guest.wait_ready()
    guest.wait_agent()
    made = Fleet(lab, guest, tmp_path, database)
    yield made
    if made.control.alive and getattr(request.node, "failed", False):
        print(made.rig.story())
        for machine in made.machines.values():
            print(machine.name, machine.log.read_text()[-3000:])
    for machine in made.machines.values():
        machine.stop()
    made.control.stop()
    made.control.way.close()
    remove_replicas(lab, [made.rig.rule_id])


def at_gate(fleet: Fleet, gate: Path) -> dict[str, str]:
    """Wait for the commit point, and let it pass: what the source read as at its instant."""
    wait_for(gate.exists, 120, "the run comes to its commit point")
    found = fleet.rig.source_now()
    gate.unlink()
    return found


@pytest.mark.timeout(400)
def test_server_and_network_come_and_go(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig, control = fleet.rig, fleet.control
    machine = fleet.machine("m1", GATE.format(gate))
    wait_for(lambda: fleet.live("m1"), 20, "the machine is there")
    fleet.fill(14)
    fleet.protect("m1", platforms="m1")

    # kill -9 of the server in mid-transfer: the transfer goes on, and is told of afterwards
    task = fleet.start()
    before = fleet.transferred(machine, task, 0.25)
    control.kill()
    after = fleet.transferred(machine, task, 0.5)
    assert after > before
    shown = hotspare(control, "task", "list", "--local", "--socket",
                     str(machine.state_dir / "worker.sock"))
    assert shown.exit == 0 and "replicate" in shown.out and "running" in shown.out
    control.start()
    at_instant = at_gate(fleet, gate)
    ended = rig.ended(task)
    assert ended["machine"] == "m1"
    total = ended["progress"]["total"]
    assert ended["figures"]["bytes_moved"] <= total + 2 * MIB, "nothing was sent twice"
    assert [s["attempts"] for s in ended["steps"]] == [1] * len(ended["steps"])
    points = rig.points()
    assert points[1] == at_instant

    # the network swallows everything from mid-transfer on: the point is published without the
    # server, nothing stays open at the source, and the catalogue follows
    fleet.fill(8)
    task = fleet.start()
    fleet.transferred(machine, task, 0.25)
    control.way.drop()
    at_instant = at_gate(fleet, gate)
    wait_for(lambda: machine.task(task) is None, 120, "the task ends at the machine")
    assert [p.number for p in rig.lineage().points] == [1, 2]
    assert jobs.find_job(rig.guest.domain()) is None
    with control.client() as client:
        assert client.task(task)["state"] == "running"
    assert rig.numbers() == [1]
    told_at = time.time()
    control.way.mend()
    ended = rig.ended(task)
    assert ended["ended_at"] < told_at
    assert rig.numbers() == [1, 2]
    assert rig.points()[2] == at_instant

    # kill -9 of the machine in mid-transfer: it goes on where it was
    fleet.fill(8)
    task = fleet.start()
    before = fleet.transferred(machine, task, 0.5)
    machine.signal(signal.SIGKILL)
    machine.stop()
    machine.start(GATE.format(gate))
    at_instant = at_gate(fleet, gate)
    ended = rig.ended(task)
    total = ended["progress"]["total"]
    assert before + ended["figures"]["bytes_moved"] <= total + 3 * MIB
    assert rig.points()[3] == at_instant
    assert not [x for x in rig.leftovers() if not x.startswith("temporary")]
    assert not list((control.temp_dir / "m1").glob("hs-*/*"))
    rig.check_images()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fleet", ["postgresql"], indirect=True)
def test_a_rule_moves_and_goes_on_incrementally(fleet: Fleet, tmp_path: Path) -> None:
    rig, control = fleet.rig, fleet.control
    one, two = fleet.machine("m1"), fleet.machine("m2")
    wait_for(lambda: fleet.live("m1") and fleet.live("m2"), 20, "both machines are there")
    fleet.fill(16)
    fleet.protect("m1", platforms="m1")
    full = rig.run()
    assert full["machine"] == "m1"

    # in mid-transfer: the run ends there, and begins again at the other machine
    fleet.fill(12)
    task = fleet.start()
    fleet.transferred(one, task, 0.3)
    moved = hotspare(control, "rule", "move", rig.rule, "--machine", "m2", "--json")
    assert moved.exit == 0, moved.err
    assert (moved.json["machine"], moved.json["epoch"]) == ("m2", 2)
    first = rig.ended(task, 10, outcome="stopped")
    assert first["error"]["code"] == "rule.moved"
    newest = wait_for(lambda: fleet.show(f"/rules/{rig.rule}")["live_task"], 10, "it begins there")
    ended = rig.ended(newest)
    assert ended["machine"] == "m2" and ended["figures"]["compared"] == 0
    assert ended["figures"]["bytes_read"] <= 24 * MIB < full["figures"]["bytes_read"], \
        "it reads what changed, not everything"
    assert rig.numbers() == [1, 2] and two.task(newest) is None
    wait_for(lambda: one.task(task) is None, 15, "the first machine has let go")
    assert rig.run()["machine"] == "m2"
    assert not [x for x in rig.leftovers() if not x.startswith("temporary")]
    rig.check_images()

    # and back; then the other one can be taken out of service
    assert hotspare(control, "rule", "move", rig.rule, "--machine", "m1").exit == 0
    assert rig.run()["machine"] == "m1"
    refused = hotspare(control, "machine", "remove", "m1", "--json")
    assert refused.json["error"]["code"] == "machine.in-use"
    assert hotspare(control, "machine", "revoke", "m2").exit == 0
    assert two.process is not None and two.process.wait(20) == 5
    assert hotspare(control, "machine", "remove", "m2").exit == 0


@pytest.mark.timeout(500)
def test_a_machine_that_slept_writes_nothing(fleet: Fleet) -> None:
    """SIGSTOP in mid-transfer, the rule is moved when the machine counts as lost, SIGCONT."""
    rig, control = fleet.rig, fleet.control
    one = fleet.machine("m1")
    fleet.machine("m2")
    wait_for(lambda: fleet.live("m1") and fleet.live("m2"), 20, "both machines are there")
    fleet.protect("m1", platforms="m2")
    rig.run()
    fleet.fill(16)
    task = fleet.start()
    fleet.transferred(one, task, 0.2)
    one.signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    wait_for(lambda: fleet.show(f"/rules/{rig.rule}")["state"] == "invalid", 31,
             "the rule shows invalid")
    assert time.monotonic() - stopped_at <= 30.0
    assert hotspare(control, "rule", "move", rig.rule, "--machine", "m2").exit == 0
    ended = rig.ended(fleet.show(f"/rules/{rig.rule}")["live_task"])
    assert ended["machine"] == "m2"
    points = rig.points()
    fleet.fill(16)
    time.sleep(max(0.0, stopped_at + 90.0 - time.monotonic()))     # a sleep of minutes
    running = fleet.start()
    fleet.transferred(fleet.machines["m2"], running, 0.2)
    held = jobs.find_job(rig.guest.domain())
    assert held is not None
    receivers = {d.name(): d.ID() for d in rig.lab.b.conn.listAllDomains()
                 if d.name().startswith("hs-rx-")}

    one.signal(signal.SIGCONT)
    wait_for(lambda: one.task(task) is None, 30, "it hears that the task is not its own any more")
    after = rig.points()
    assert {n: after[n] for n in points} == points
    now = jobs.find_job(rig.guest.domain())
    with control.client() as client:
        still = client.task(running)
    if still["state"] != "ended" and still["progress"]["step"] == "transfer":
        assert now is not None and now.intent == held.intent, "the other's instant was touched"
        assert receivers == {d.name(): d.ID() for d in rig.lab.b.conn.listAllDomains()
                             if d.name().startswith("hs-rx-")}, "the other's receiver was touched"
    ended = rig.ended(running)
    assert ended["machine"] == "m2" and ended["figures"]["retries"] == 0
    assert {"replicate.next-pass", "task.retry"}.isdisjoint(
        line["code"] for line in fleet.show(f"/tasks/{running}/log")["items"])
    assert rig.numbers() == [1, 2, 3]
    assert one.stop() == 0
    assert not [x for x in rig.leftovers() if not x.startswith("temporary")]
    rig.check_images()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fleet", ["postgresql"], indirect=True)
def test_the_database_and_the_machine_restart_in_mid_transfer(
        fleet: Fleet, postgres: Postgres) -> None:
    rig, control = fleet.rig, fleet.control
    one = fleet.machine("m1")
    wait_for(lambda: fleet.live("m1"), 20, "the machine is there")
    fleet.fill(24)
    fleet.protect("m1", platforms="m1", bandwidth=MIB)

    # PostgreSQL crashes, is away for a while and comes back: the transfer goes on meanwhile
    task = fleet.start()
    before = fleet.transferred(one, task, 0.1)
    postgres.stop(signal.SIGQUIT)
    after = fleet.transferred(one, task, 0.3)
    assert after > before
    postgres.start()

    # SIGTERM of the machine: it lets everything at the source and the target go, and says so with
    # exit code 0; the next process goes on where it was
    before = fleet.transferred(one, task, 0.4)
    shown = one.task(task)
    assert shown is not None and shown["progress"] is not None
    began = time.monotonic()
    assert one.stop() == 0 and time.monotonic() - began < 10.0
    assert not [d.name() for host in rig.lab.hosts.values() for d in host.conn.listAllDomains()
                if d.name().startswith("hs-")]
    one.start()
    ended = rig.ended(task)
    assert ended["figures"]["bytes_moved"] >= 2 * MIB, "it was not in the middle: no test"
    assert before + ended["figures"]["bytes_moved"] <= shown["progress"]["total"] + 6 * MIB
    points = rig.points()
    assert list(points) == rig.numbers() == [1]

    # kill -9 of the machine in mid-transfer, and the rule goes to another one: what the first left
    # open is ended there
    two = fleet.machine("m2")
    wait_for(lambda: fleet.live("m2"), 20, "the second machine is there")
    fleet.fill(12)
    task = fleet.start()
    fleet.transferred(one, task, 0.3)
    one.signal(signal.SIGKILL)
    one.stop()
    assert jobs.find_job(rig.guest.domain()) is not None
    assert hotspare(control, "rule", "move", rig.rule, "--machine", "m2").exit == 0
    rig.ended(task, 10, outcome="stopped")
    newest = wait_for(lambda: fleet.show(f"/rules/{rig.rule}")["live_task"], 10, "it begins there")
    ended = rig.ended(newest)
    assert ended["machine"] == "m2" and ended["figures"]["compared"] == 0
    assert ended["figures"]["bytes_read"] <= 24 * MIB
    assert two.task(newest) is None and rig.numbers() == [1, 2]
    assert rig.points()[1] == points[1]
    assert not [x for x in rig.leftovers() if not x.startswith("temporary")]
    rig.check_images()
