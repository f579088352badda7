"""A machine of one vSphere is replicated to another one, runs there, and comes home."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyVmomi import vim

from hotspare.domain.errors import GiveUp, HotspareError
from hotspare.domain.lineage import Lineage
from hotspare.platforms.port import ReplicaRef
from hotspare.platforms.vsphere.platform import VspherePlatform
from hotspare.services.keys import KeyRing
from testbeds.vsphere.bed import PASSWORD, Machine, Vsphere, wait

from .rig import Rig, Server, hotspare, wait_for
from .vsphere_rule import contents

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbeds.kvm import Lab

MIB = 1 << 20


class Pair:
    """A rule from a machine of two disks at one vCenter to another vCenter."""

    def __init__(self, lab: Lab, directory: Path, source: Vsphere, target: Vsphere) -> None:
        self.source, self.target, self.kills = source, target, 0
        self.machine = source.create_vm(f"web-{os.urandom(2).hex()}",
                                        [(64, "LocalDS_0"), (32, "LocalDS_1")])
        self.machine.power_on()
        self.machine.tools()
        self.write(self.machine)
        self.rig = Rig(lab, Server(directory).start(), None)        # type: ignore[arg-type]
        self.storage = "LocalDS_1"

    def protect(self, **settings: Any) -> None:
        with self.rig.server.client() as client:
            there = {p["name"] for p in client.platforms()}
            for name, bed in (("site-a", self.source), ("site-b", self.target)):
                access = bed.access()
                if name not in there:
                    client.add_platform(name, access.uri, kind="vsphere",
                                        options=dict(access.options), secret=PASSWORD)
            wait_for(lambda: all(p["refreshed_at"] for p in client.platforms()), 60,
                     "both platforms are read")
            self.rig.rule_id = client.create_rule({
                "name": self.rig.rule, "source": "site-a", "vm": self.machine.vm.name,
                "target": "site-b", "storage": self.storage,
                "host": "DC0_C0_H0", "networks": {"VM Network": "VM Network"},
                **settings})["id"]

    def write(self, machine: Machine, mib: int = 3) -> None:
        for disk in (0, 1):
            for at in range(mib):
                machine.write(disk, (7 * at + disk) * MIB % machine.disks[disk].size,
                              os.urandom(MIB // 2))

    def run(self, full: bool = False) -> dict[str, str]:
        """One run; what its point holds."""
        expected = contents(self.machine)
        figures = self.rig.run()["figures"]
        assert figures["full"] == full
        return expected

    def do(self, *arguments: str) -> Any:
        said = hotspare(self.rig.server, *arguments, "--wait", "--json", timeout_s=200)
        assert said.exit == 0, said.out + said.err + self.rig.story()
        return said.json

    def go(self, state: str, *arguments: str) -> None:
        """As :meth:`do`, however often the server is killed on the way to ``state``."""
        said = hotspare(self.rig.server, *arguments, "--json")
        assert said.exit == 0 or not self.rig.server.alive, said.out + said.err

        def there() -> bool:
            if not self.rig.server.alive:
                self.kills += 1
                self.rig.server.start()
            with contextlib.suppress(HotspareError), self.rig.server.client() as client:
                rule = client.rule(self.rig.rule)
                return rule["live_task"] is None and rule["state"] == state
            return False

        wait_for(there, 120, state)

    def state(self) -> str:
        with self.rig.server.client() as client:
            return str(client.rule(self.rig.rule)["state"])

    def lineage(self) -> Lineage:
        key = KeyRing.load_or_make(self.rig.server.state_dir / "secret.key",
                                   may_make=False).rule_key(self.rig.rule_id)
        platform = VspherePlatform(self.target.access())
        try:
            return platform.target(key).lineage(ReplicaRef(self.rig.rule_id, self.storage))
        finally:
            platform.close()

    def replica(self) -> Machine:
        """The machine that holds the points, under whatever name."""
        found = [vm for vm in self.target.view(vim.VirtualMachine) if any(
            o.key == "hotspare.rule" and o.value == self.rig.rule_id
            for o in vm.config.extraConfig)]
        assert len(found) == 1, found
        replica = Machine(self.target, found[0])
        replica.tools()
        return replica

    def stands_on(self, point: dict[str, str]) -> Machine:
        """The replica runs and has what the point has."""
        replica = self.replica()
        assert replica.vm.runtime.powerState == "poweredOn"
        assert list(contents(replica).values()) == list(point.values())
        return replica

    def runs(self) -> bool:
        return bool(self.machine.vm.runtime.powerState == "poweredOn")

    def left(self) -> list[str]:
        """What no task of ours should have left at the source, or open anywhere."""
        rule = self.rig.rule_id
        return [*(f"snapshot {n}" for n in self.machine.snapshots() if rule in n),
                *(f"option {o.key}" for o in self.machine.vm.config.extraConfig
                  if rule in o.key),
                *(f"lease {n}" for bed in (self.source, self.target)
                  for n in bed.state()["leases"]),
                *(f"directory {p.name}" for store in self.source.datastores()
                  for p in Path(store.info.url).iterdir() if rule in p.name),
                *(f"file {p.name}" for p in Path(tempfile.gettempdir()).glob(f"hs-{rule}*"))]

    def remove(self) -> None:
        self.rig.server.stop()
        if self.runs():
            self.machine.power_off()
        wait(self.machine.vm.Destroy_Task())




@pytest.fixture
def pair(lab: Lab, vsphere: Vsphere, vsphere_factory: Callable[..., Vsphere], tmp_path: Path
         ) -> Iterator[Pair]:
    made = Pair(lab, tmp_path, vsphere, vsphere_factory())
    try:
        yield made
    except BaseException:
        if made.rig.server.alive:
            print(made.rig.story())
        raise
    finally:
        made.remove()


@pytest.mark.timeout(300)
def test_there_and_back(pair: Pair) -> None:
    """Replicated, failed over and undone, failed over and home again, and on from there."""
    [datacenter] = pair.target.view(vim.Datacenter)
    folder = datacenter.vmFolder.CreateFolder("DR").CreateFolder("Web")
    host = next(h for h in pair.target.view(vim.HostSystem) if h.name == "DC0_C0_H0")
    pool = host.parent.resourcePool.CreateResourcePool("spare", host.parent.resourcePool.config)
    with pytest.raises(GiveUp) as caught:
        pair.protect(pool="spare", folder="DR/Mail")
    assert caught.value.code == "place.unknown" and "DR/Web" in str(caught.value)
    pair.protect(retention=3, pool="spare", folder="DR/Web")
    points = {1: pair.run(full=True)}
    for number in (2, 3, 4):
        pair.write(pair.machine, number)
        points[number] = pair.run()
    assert [p.number for p in pair.lineage().points] == [2, 3, 4]
    assert (pair.replica().vm.parent, pair.replica().vm.resourcePool) == (folder, pool)
    assert pair.left() == []

    # to an older point, and undone: what the replica wrote is gone
    pair.do("failover", pair.rig.rule, "--point", "2", "--unplugged")
    replica = pair.stands_on(points[2])
    pair.write(replica, 2)
    pair.do("undo", pair.rig.rule)
    assert pair.replica().vm.runtime.powerState == "poweredOff"
    pair.write(pair.machine, 1)
    points[5] = pair.run()

    # and home: the source is lost after its last run
    pair.write(pair.machine, 2)
    pair.machine.power_off()
    pair.do("failover", pair.rig.rule)
    replica = pair.stands_on(points[5])
    pair.write(replica, 3)
    bulk = pair.do("failback", "start", pair.rig.rule)
    assert pair.state() == "ready-to-switch" and not pair.runs()
    assert not bulk["figures"]["full"] and bulk["figures"]["bytes_moved"] > 0
    replica.write(0, 40 * MIB, b"last" * 4096)
    pair.do("failback", "switch", pair.rig.rule)
    assert pair.state() == "failed-back" and pair.runs()
    assert list(contents(pair.machine).values()) == list(contents(replica).values())
    assert contents(pair.machine)["disk-2000"]
    pair.write(pair.machine, 1)
    pair.do("failback", "commit", pair.rig.rule)
    assert pair.state() == "finished"
    points[6] = pair.run()
    pair.write(pair.machine, 1)
    points[7] = pair.run()
    assert [p.number for p in pair.lineage().points] == [5, 6, 7]
    assert pair.left() == []
    pair.do("failover", pair.rig.rule, "--point", "6", "--unplugged")
    pair.stands_on(points[6])


@pytest.mark.timeout(300)
def test_a_failback_is_undone(pair: Pair) -> None:
    """After the switch, with what the source wrote meanwhile: block by block what it was."""
    pair.protect()
    pair.run(full=True)
    pair.write(pair.machine, 2)
    pair.machine.power_off()
    before = contents(pair.machine)
    pair.do("failover", pair.rig.rule)
    replica = pair.replica()
    pair.write(replica, 4)
    pair.do("failback", "start", pair.rig.rule)
    pair.do("failback", "switch", pair.rig.rule)
    at_switch = contents(replica)
    assert contents(pair.machine) == at_switch != before
    pair.machine.write(1, 20 * MIB, b"meanwhile" * 1000)
    pair.do("failback", "undo", pair.rig.rule, "--confirm", pair.machine.vm.name)
    assert pair.state() == "temporary-failover" and not pair.runs()
    assert contents(pair.machine) == before and pair.left() == []
    pair.stands_on(at_switch)
    pair.do("undo", pair.rig.rule)
    pair.machine.power_on()
    pair.write(pair.machine, 1)
    pair.run()
    assert pair.left() == []


@pytest.mark.timeout(300)
def test_planned_permanent_and_removed(pair: Pair) -> None:
    pair.protect()
    pair.run(full=True)
    pair.write(pair.machine, 2)
    pair.do("failover", pair.rig.rule, "--planned", "--power-off")
    assert not pair.runs()
    pair.stands_on(contents(pair.machine))
    pair.do("undo", pair.rig.rule)
    pair.do("failover", pair.rig.rule)
    replica = pair.replica()
    pair.write(replica, 1)
    kept = contents(replica)
    pair.do("permanent", pair.rig.rule, "--confirm", pair.machine.vm.name)
    assert replica.vm.runtime.powerState == "poweredOn" and contents(replica) == kept
    assert replica.snapshots() == [] and pair.left() == []
    assert not any(o.key.startswith("hotspare.") for o in replica.vm.config.extraConfig)


@pytest.mark.timeout(300)
def test_points_are_proved(pair: Pair) -> None:
    """By a test on an isolated network, and by reading them again."""
    pair.protect()
    pair.run(full=True)
    pair.write(pair.machine, 2)
    pair.run()
    machines = {vm.name for vm in pair.target.view(vim.VirtualMachine)}
    with pair.rig.server.client() as client:
        task = client.start_test(pair.rig.rule, {"point": 1, "boot_s": 30.0})
        copy = wait_for(lambda: next((vm for vm in pair.target.view(vim.VirtualMachine)
                                      if vm.name not in machines), None), 60, "the copy is there")
        Machine(pair.target, copy).tools()
        pair.rig.ended(task)
        [found] = client.tests(pair.rig.rule)
    told = {check["name"]: check["state"] for check in found["checks"]}
    assert told["heartbeat"] == told["network"] == "passed", told
    with pair.rig.server.client() as client:
        pair.rig.ended(client.scrub(pair.rig.rule, None, True))
        assert not any(p["damaged_at"] for p in client.points(pair.rig.rule))
    assert {vm.name for vm in pair.target.view(vim.VirtualMachine)} == machines
    assert pair.left() == []


@pytest.mark.timeout(300)
def test_home_to_a_new_place(pair: Pair) -> None:
    """The source is lost with its machine: another one is made, on the source's platform."""
    pair.protect()
    pair.run(full=True)
    pair.machine.power_off()
    pair.do("failover", pair.rig.rule)
    replica = pair.replica()
    pair.write(replica, 2)
    pair.do("failback", "start", pair.rig.rule, "--to", "site-a", "--name", "again",
            "--storage", "LocalDS_0", "--network", "VM Network=VM Network")
    pair.do("failback", "switch", pair.rig.rule)
    home = list(contents(replica).values())
    pair.do("failback", "commit", pair.rig.rule)
    again = next(vm for vm in pair.source.view(vim.VirtualMachine) if vm.name == "again")
    assert again.runtime.powerState == "poweredOn"
    made = Machine(pair.source, again)
    assert list(contents(made).values()) == home
    assert made.snapshots() == [] or pair.rig.rule_id in made.snapshots()[0]
    pair.rig.run()
    assert made.snapshots() == [] and pair.left() == []
    made.power_off()
    wait(again.Destroy_Task())


@pytest.mark.timeout(300)
def test_a_rule_is_deleted_with_its_replica(pair: Pair) -> None:
    pair.protect()
    pair.run(full=True)
    rule = pair.rig.rule_id
    pair.do("rule", "delete", pair.rig.rule, "--delete-replica", "--yes")
    assert pair.left() == []
    assert not [vm for vm in pair.target.view(vim.VirtualMachine) if any(
        o.value == rule for o in vm.config.extraConfig)]
    assert not [p for store in pair.target.datastores()
                for p in Path(store.info.url).iterdir() if rule in p.name]


UNDONE = ("write-back.after-mark", "write-back.after-undo", "write-back.after-note",
          "write-back.after-instant", "write-back.before-seal", "failback.copied",
          "failback.sealed", "failback.replica-off", "switched.after-base", "failback.source-on",
          "failback-undo.source-off", "failback-undo.restored", "write-back.snapshots-gone",
          "write-back.files-gone")
COMMITTED = ("stand.after-mark", "stand.after-revert", "stand.after-snapshot",
             "failback.committed", "unstand.after-off", "unstand.after-revert",
             "unstand.after-rename", "write-back.files-gone")
_SHORT = {"write-back.after-undo", "failback-undo.restored", "unstand.after-revert"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("point", "way"), [
    pytest.param(point, way, marks=() if point in _SHORT else pytest.mark.soak)
    for way, points in (("undo", UNDONE), ("commit", COMMITTED)) for point in points])
def test_killed(pair: Pair, point: str, way: str) -> None:
    """Our process, at each instant of a failover and of the way home."""
    pair.protect()
    pair.run(full=True)
    pair.write(pair.machine, 2)
    pair.machine.power_off()
    before = contents(pair.machine)
    pair.rig.server.stop()
    pair.rig.server.start(f"{point}:kill")
    rule = pair.rig.rule
    pair.go("temporary-failover", "failover", rule)
    replica = pair.replica()
    pair.write(replica, 3)
    pair.go("ready-to-switch", "failback", "start", rule)
    pair.go("failed-back", "failback", "switch", rule)
    home = contents(pair.machine)
    assert pair.runs() and home == contents(replica) != before
    if way == "undo":
        pair.machine.write(1, 20 * MIB, b"meanwhile" * 1000)
        pair.go("temporary-failover", "failback", "undo", rule, "--confirm",
                pair.machine.vm.name)
        assert contents(pair.machine) == before and not pair.runs()
        pair.stands_on(home)
    else:
        pair.go("finished", "failback", "commit", rule)
        assert contents(pair.machine) == home and pair.runs()
        pair.run()
    assert pair.kills == 1, "it was there"
    assert pair.left() == []
