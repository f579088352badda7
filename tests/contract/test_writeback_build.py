"""A failback to a new place: a machine is built there, filled, and left to its owner or removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from hotspare.domain.codec import encode
from hotspare.domain.errors import Refused
from hotspare.domain.extents import BLOCK, Extent
from hotspare.domain.machine import VmDescription
from hotspare.platforms.port import Intent
from testbeds.kvm import Lab, SessionHost

from .target_libvirt_rig import LibvirtTargetRig
from .target_rig import SIZE, content_of
from .writeback_rig import blocks, changed, guest_write, needs_ovmf, overwrite, put_back

FAULTS = ("build.after-define", "build.after-disks", "demolish.after-disks")


class Place(LibvirtTargetRig):
    """A host where nothing of the rule is yet."""

    def __init__(self, lab: Lab, host: SessionHost, tmp: Path) -> None:
        super().__init__(lab, host, tmp)
        self.rule = os.urandom(4).hex()
        self.name = f"new-{self.rule}"
        self.task = 0

    def intent(self) -> Intent:
        self.task += 1
        return Intent(self.rule, 1, self.task)

    def there(self) -> set[str]:
        """All that is there of the machine or the rule."""
        found = {p.name for p in self.directory.iterdir()
                 if self.name in p.name or self.rule in p.name}
        return found | {d.name() for d in self.host.conn.listAllDomains()
                        if d.name() == self.name or self.rule in d.name()}


@pytest.fixture
def place(lab: Lab, host_b: SessionHost, tmp_path: Path) -> Iterator[Place]:
    place = Place(lab, host_b, tmp_path)
    yield place
    place.settle(f"wb-{place.rule}")
    assert place.there() == set()


def remove(place: Place) -> None:
    """As the owner of a machine does."""
    domain = place.host.conn.lookupByName(place.name)
    assert "urn:hotspare" not in domain.XMLDesc()
    domain.destroy()
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                         | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
    for path in place.directory.glob(f"{place.name}-*"):
        path.unlink()


@pytest.mark.parametrize("firmware", ["bios", pytest.param("efi", marks=needs_ovmf)])
def test_built_filled_and_left(place: Place, firmware: str) -> None:
    vm = place.vm("any", 2, firmware=firmware)
    intent, origin = place.intent(), place.intent()
    state = bytes(range(256)) * 2112
    with place.platform() as platform:
        writer = platform.write_back
        ref = writer.build(vm, place.name, place.storage, {}, intent)
        assert ref == vm.uuid == writer.build(vm, place.name, place.storage, {}, intent)
        assert platform.source.power(ref) == "off"
        session = writer.open(ref, None, origin, 1)
        assert {d.id: d.size for d in session.vm.disks} == {d.id: d.size for d in vm.disks}
        for disk in session.disks:
            assert content_of(session.disks[disk]) == bytes(SIZE)
            overwrite(session, disk, [Extent(0, SIZE)], 7)
        if firmware == "efi":
            session.write_firmware_state(state)
            session.restore_firmware_state()
            session.write_firmware_state(state)
        session.close(sealed=False)
        if firmware == "efi":
            path, = place.directory.glob(f"{place.name}-nvram-*.fd")
            assert path.read_bytes() == state
        token = writer.power_on(ref, place.intent())
        assert token is not None
        domain = place.host.conn.lookupByName(place.name)
        path, = place.directory.glob(f"{place.name}-vda-*.qcow2")
        guest_write(domain, str(path), 3 * BLOCK, BLOCK, 9)
        point = platform.source.open_point(ref, token, "off", place.intent())
        assert [changed(d.export, d.changes) for d in point.disks] == [blocks(3), []]
        assert point.firmware_state is None or firmware == "efi"
        point.commit()
        writer.clear(ref, origin)
        for _ in range(2):
            writer.let_go(ref, intent)
        assert writer.demolish(ref, intent) == [] and domain.isActive()
        platform.source.sweep(ref, place.rule, ())
    remove(place)


def test_undone_and_demolished(place: Place) -> None:
    """Also while it runs; a file that its owner gave it meanwhile stays."""
    vm = place.vm("any", 2)
    intent, origin = place.intent(), place.intent()
    with place.platform() as platform:
        writer = platform.write_back
        ref = writer.build(vm, place.name, place.storage, {}, intent)
        session = writer.open(ref, None, origin, 1)
        overwrite(session, "vda", blocks(0, 5), 7)
        put_back(session)
        assert content_of(session.disks["vda"]) == bytes(SIZE)
        session.close(sealed=False)
        own = place.directory / f"own-{place.rule}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(own), "1M"], check=True)
        place.lab.identity.own(own)
        domain = place.host.conn.lookupByName(place.name)
        domain.attachDeviceFlags(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
            f"<source file='{own}'/><target dev='vdc' bus='virtio'/></disk>",
            libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        writer.power_on(ref, place.intent())
        writer.clear(ref, origin)
        assert writer.demolish(ref, place.intent()) == []      # another intent's
        kinds = [leftover.kind for leftover in writer.demolish(ref, intent)]
        assert kinds == ["volume", "volume", "domain"]
        assert writer.demolish(ref, intent) == []
    own.unlink()


def test_what_cannot_be_built(place: Place) -> None:
    vm = place.vm("any", 1)
    with place.platform() as platform:
        writer = platform.write_back
        with pytest.raises(Refused) as caught:
            writer.build(place.vm("any", 1, machine="no-such"), place.name, place.storage, {},
                         place.intent())
        assert caught.value.code == "target.machine" and place.there() == set()
        one = place.intent()
        ref = writer.build(vm, place.name, place.storage, {}, one)
        with pytest.raises(Refused) as caught:
            writer.build(vm, place.name, place.storage, {}, place.intent())
        assert caught.value.code == "name.taken"
        # the same machine once more beside it: another uuid
        two = place.intent()
        other = writer.build(vm, f"{place.name}-2", place.storage, {}, two)
        assert other != ref == vm.uuid
        writer.demolish(other, two)
        writer.demolish(ref, one)


@pytest.mark.parametrize("fault", FAULTS)
def test_killed(place: Place, fault: str) -> None:
    vm, intent = place.vm("any", 2), place.intent()
    child(place, fault, vm, intent)
    with place.platform() as platform:
        writer = platform.write_back
        if not fault.startswith("demolish"):
            ref = writer.build(vm, place.name, place.storage, {}, intent)
            origin = place.intent()
            session = writer.open(ref, None, origin, 1)
            assert set(session.disks) == {"vda", "vdb"}
            session.close(sealed=False)
            writer.clear(ref, origin)
        assert writer.demolish(place.name, intent)


def child(place: Place, fault: str, vm: VmDescription, intent: Intent) -> None:
    order = {"do": "build", "uri": place.access.uri, "options": dict(place.access.options),
             "rule": intent.rule, "vm": place.name, "origin": intent.task, "model": encode(vm),
             "storage": place.storage}
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-m", "contract.writeback_child", json.dumps(order)],
                          env={**os.environ, "HOTSPARE_FAULT": f"{fault}:kill"}, cwd=tests,
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, (fault, done.returncode, done.stderr[-2000:])
