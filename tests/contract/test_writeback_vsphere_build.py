"""A failback to a new place on vSphere: a machine is built there, left to its owner or removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyVmomi import vim

import hotspare
from hotspare.domain.codec import encode
from hotspare.domain.errors import HotspareError, Refused
from hotspare.domain.machine import DiskSpec, VmDescription
from hotspare.platforms.port import Intent
from hotspare.platforms.vsphere import build
from hotspare.platforms.vsphere.connection import Connection
from testbeds.vsphere.bed import Machine, Vsphere, wait

from .target_rig import SIZE
from .target_vsphere_rig import VsphereTargetRig

_CHILD = """
import json, sys
from hotspare.domain.codec import decode
from hotspare.domain.machine import VmDescription
from hotspare.platforms.port import Intent, PlatformAccess
from hotspare.platforms.vsphere import build
from hotspare.platforms.vsphere.connection import Connection

order = json.loads(sys.argv[1])
kind, uri, options, secret = order["access"]
connection = Connection(PlatformAccess("child", kind, uri, options, secret))
intent = Intent(*order["intent"])
ref = build.build(connection, decode(VmDescription, order["vm"]), order["name"], order["storage"],
                  {}, intent)
build.demolish(connection, ref, intent)
"""


class Place(VsphereTargetRig):
    """A vSphere where nothing of the rule is yet."""

    def __init__(self, bed: Vsphere, tmp: Path) -> None:
        super().__init__(bed, tmp)
        self.connection = Connection(self.access)
        self.rule = os.urandom(4).hex()
        self.name = f"new-{self.rule}"
        self.task = 0

    def intent(self) -> Intent:
        self.task += 1
        return Intent(self.rule, 1, self.task)

    def build(self, vm: VmDescription, intent: Intent, name: str = "") -> str:
        return build.build(self.connection, vm, name or self.name, self.storage, {}, intent)

    def only(self) -> Machine:
        [machine] = self.named(self.name)
        return machine

    def files(self) -> set[str]:
        return {p.name for p in self.place.rglob("*") if self.name in str(p)}


@pytest.fixture(scope="module")
def bed() -> Iterator[Vsphere]:
    with Vsphere() as bed:
        yield bed


@pytest.fixture
def place(bed: Vsphere, tmp_path: Path) -> Iterator[Place]:
    place = Place(bed, tmp_path)
    yield place
    bed.calm()
    assert place.named(place.name) == [] and place.files() == set()
    place.connection.close()


def test_built_and_left(place: Place) -> None:
    vm, intent = place.vm("any", 2), place.intent()
    ref = place.build(vm, intent)
    assert place.build(vm, intent) == ref
    with place.platform() as platform:
        assert platform.source.power(ref) == "off"
        made = platform.source.inspect(ref)
        assert ref in {v.ref for v in platform.inventory.vms()}
    assert {d.id: d.size for d in made.disks} == {d.id: d.size for d in vm.disks}
    assert (made.uuid, made.memory, made.vcpus, made.guest) == (
        vm.uuid, vm.memory, vm.vcpus, vm.guest)
    assert [n.mac for n in made.nics] == [n.mac for n in vm.nics]
    machine = place.only()
    cards = [d for d in machine.vm.config.hardware.device
             if isinstance(d, vim.vm.device.VirtualEthernetCard)]
    assert cards and all(c.connectable.startConnected for c in cards)
    assert machine.vm.config.changeTrackingEnabled
    assert all(machine.content(d.file).read_bytes() == bytes(SIZE) for d in machine.disks)
    build.let_go(place.connection, ref, place.intent())     # another intent's: it stays marked
    assert machine.vm.config.extraConfig
    for _ in range(2):
        build.let_go(place.connection, ref, intent)
    assert build.demolish(place.connection, ref, intent) == []
    place.undefine(place.name)


@pytest.mark.parametrize("disks", [
    [("disk-2003", "scsi", "pvscsi"), ("disk-2001", "scsi", "pvscsi")],
    [("disk-2016", "scsi", "lsilogic"), ("disk-2000", "scsi", "pvscsi")],
    [("disk-16002", "sata", ""), ("disk-32001", "nvme", ""), ("disk-3001", "ide", "")]])
def test_disks_keep_their_ids(place: Place, disks: list[tuple[str, str, str]]) -> None:
    vm = replace(place.vm("ids", 1), disks=tuple(
        DiskSpec(ident, SIZE * (n + 1), bus, controller)
        for n, (ident, bus, controller) in enumerate(disks)))
    intent = place.intent()
    ref = place.build(vm, intent)
    with place.platform() as platform:
        made = platform.source.inspect(ref)
    assert {(d.id, d.size, d.bus, d.controller) for d in made.disks} == {
        (d.id, d.size, d.bus, d.controller) for d in vm.disks}
    assert build.demolish(place.connection, place.name, intent)


def test_a_host_that_numbers_disks_otherwise(place: Place) -> None:
    vm = replace(place.vm("ids", 1), disks=(DiskSpec("disk-9", SIZE, "scsi", "pvscsi"),))
    with pytest.raises(Refused) as caught:
        place.build(vm, place.intent())
    assert (caught.value.code, caught.value.fields["disk"]) == ("target.disk-place", "disk-9")


def test_demolished_while_it_runs(place: Place) -> None:
    """A disk that its owner gave it meanwhile stays."""
    vm, intent = place.vm("any", 2), place.intent()
    ref = place.build(vm, intent)
    machine = place.only()
    other = place.bed.create_vm(f"other-{place.rule}", ((1, place.storage),))
    [own] = other.disks
    other.write(0, 0, b"its owner's")
    wait(machine.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
        vim.vm.device.VirtualDeviceSpec(operation="add", device=vim.vm.device.VirtualDisk(
            key=-1, controllerKey=next(d.key for d in machine.vm.config.hardware.device if
                                       isinstance(d, vim.vm.device.ParaVirtualSCSIController)),
            unitNumber=5, capacityInKB=1024,
            backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                fileName=own.file, diskMode="persistent")))])))
    machine.power_on()
    assert build.demolish(place.connection, ref, place.intent()) == []      # another intent's
    [gone] = build.demolish(place.connection, ref, intent)
    assert (gone.kind, gone.name, gone.error) == ("domain", place.name, "")
    assert build.demolish(place.connection, ref, intent) == []
    assert other.content(own.file).read_bytes().startswith(b"its owner's")
    wait(other.vm.Destroy_Task())


def test_what_cannot_be_built(place: Place) -> None:
    def refused(vm: VmDescription, name: str = "") -> str:
        with pytest.raises(HotspareError) as caught:
            place.build(vm, place.intent(), name)
        return caught.value.code

    vm, one = place.vm("any", 1), place.intent()
    for code, bad in place.refused(vm).items():
        assert refused(bad) == code
    assert refused(replace(vm, memory=1 << 50)) == "target.memory"
    with pytest.raises(HotspareError) as caught:
        build.build(place.connection, vm, place.name, "no-such", {}, place.intent())
    assert caught.value.code == "storage.not-found"
    assert place.named(place.name) == []
    ref = place.build(vm, one)
    assert refused(vm) == "name.taken"
    # the same machine once more beside it: another uuid
    two = place.intent()
    other = place.build(vm, two, f"{place.name}-2")
    with place.platform() as platform:
        uuids = [platform.source.inspect(r).uuid for r in (ref, other)]
    assert uuids[0] == vm.uuid != uuids[1]
    with pytest.raises(Refused) as mismatch:
        place.build(vm, two)
    assert mismatch.value.code == "point.mismatch"
    build.demolish(place.connection, other, two)
    build.demolish(place.connection, ref, one)


@pytest.mark.parametrize("fault", ["fresh.after-create", "fresh.after-off"])
def test_killed(place: Place, fault: str) -> None:
    vm, intent = place.vm("any", 2), place.intent()
    access = place.access
    order = {"access": (access.kind, access.uri, dict(access.options), access.secret),
             "intent": (intent.rule, intent.epoch, intent.task), "vm": encode(vm),
             "name": place.name, "storage": place.storage}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(order)], capture_output=True, text=True,
        timeout=120, check=False, env={
            **os.environ, "HOTSPARE_FAULT": f"{fault}:kill",
            "PYTHONPATH": str(Path(hotspare.__file__).parents[1])})
    assert done.returncode == -signal.SIGKILL, (done.returncode, done.stderr[-2000:])
    ref = place.build(vm, intent)
    assert place.only().uuid == ref
    assert [gone.kind for gone in build.demolish(place.connection, ref, intent)] == ["domain"]
