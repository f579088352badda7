"""What is read of vSphere's machines and inventory, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyVmomi import vim

from hotspare.domain.errors import GiveUp, Refused
from hotspare.domain.machine import VmDescription
from hotspare.platforms.port import PlatformAccess
from hotspare.platforms.vsphere.machine_read import describe, disks_of
from hotspare.platforms.vsphere.platform import VspherePlatform
from testbeds.vsphere.bed import Machine, Vsphere, wait

device = vim.vm.device
MIB = 1 << 20


@pytest.fixture
def machine(vsphere: Vsphere) -> Iterator[Machine]:
    made = vsphere.create_vm("read-me", [(64, "LocalDS_0"), (32, "LocalDS_1")], firmware="efi",
                             mac="00:50:56:01:02:03")
    yield made
    wait(made.vm.Destroy_Task())


@pytest.fixture
def platform(vsphere: Vsphere) -> Iterator[VspherePlatform]:
    made = VspherePlatform(vsphere.access())
    yield made
    made.close()


def described(config: Any) -> VmDescription:
    return describe(config, "running", True, lambda key: f"portgroup {key}")


def test_a_machine_is_read(machine: Machine, platform: VspherePlatform) -> None:
    vm = platform.source.inspect("read-me")
    assert vm == platform.source.inspect(machine.uuid)
    assert (vm.ref, vm.name, vm.virt, vm.firmware) == (machine.uuid, "read-me", "vmware", "efi")
    assert (vm.memory, vm.vcpus, vm.cpu.sockets, vm.cpu.cores) == (512 * MIB, 2, 2, 1)
    assert [(d.id, d.size, d.bus, d.controller, d.location) for d in vm.disks] == [
        ("disk-2000", 64 * MIB, "scsi", "pvscsi", "[LocalDS_0] read-me/read-me.vmdk"),
        ("disk-2001", 32 * MIB, "scsi", "pvscsi", "[LocalDS_1] read-me/read-me.vmdk")]
    assert [(n.mac, n.model, n.network) for n in vm.nics] == [
        ("00:50:56:01:02:03", "vmxnet3", "VM Network")]
    assert (vm.guest, vm.clock, vm.power) == ("debian11_64Guest", "utc", "off")


def test_the_same_while_a_snapshot_holds_it(machine: Machine, platform: VspherePlatform) -> None:
    """A run compares what it saw before with what the snapshot holds."""
    before = platform.source.inspect("read-me").disks
    snapshot = wait(machine.vm.CreateSnapshot_Task("user", "", False, False))
    assert "-000001" in machine.disks[0].file
    assert platform.source.inspect("read-me").disks == before
    wait(snapshot.RemoveSnapshot_Task(False, True))


def test_details(machine: Machine) -> None:
    config = machine.vm.config
    config.guestId = "windows9_64Guest"
    config.hardware.numCPU, config.hardware.numCoresPerSocket = 8, 4
    config.bootOptions = vim.vm.BootOptions(
        efiSecureBootEnabled=True, bootOrder=[
            vim.vm.BootOptions.BootableEthernetDevice(deviceKey=4000),
            vim.vm.BootOptions.BootableDiskDevice(deviceKey=2001)])
    nic = next(d for d in config.hardware.device if isinstance(d, device.VirtualEthernetCard))
    nic.backing = device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(
        port=vim.dvs.PortConnection(switchUuid="s", portgroupKey="dvportgroup-7"))
    config.hardware.device += [
        device.VirtualCdrom(key=16000, backing=device.VirtualCdrom.IsoBackingInfo(
            fileName="[ds] x.iso")),
        device.VirtualUSB(key=17000), device.VirtualSoundCard(key=18000)]
    vm = described(config)
    assert (vm.firmware, vm.clock, vm.cpu.sockets, vm.cpu.cores) == (
        "efi-secure", "localtime", 2, 4)
    assert vm.nics[0].network == "portgroup dvportgroup-7" and vm.nics[0].boot_order == 1
    assert [d.boot_order for d in vm.disks] == [None, 2]
    assert len(vm.warnings) == 2 and "[ds] x.iso" in vm.warnings[0] and "17000" in vm.warnings[1]


def independent(config: Any) -> None:
    next(disks_of(config.hardware.device)).backing.diskMode = "independent_persistent"


def multi_writer(config: Any) -> None:
    next(disks_of(config.hardware.device)).backing.sharing = "sharingMultiWriter"


def physical_rdm(config: Any) -> None:
    next(disks_of(config.hardware.device)).backing = (
        device.VirtualDisk.RawDiskMappingVer1BackingInfo(
            fileName="[ds] x.vmdk", compatibilityMode="physicalMode", diskMode="persistent"))


def old_format(config: Any) -> None:
    next(disks_of(config.hardware.device)).backing = device.VirtualDisk.FlatVer1BackingInfo(
        fileName="[ds] x.vmdk", diskMode="persistent")


def shared_bus(config: Any) -> None:
    for found in config.hardware.device:
        if isinstance(found, device.VirtualSCSIController):
            found.sharedBus = "physicalSharing"


def passthrough(config: Any) -> None:
    config.hardware.device.append(device.VirtualPCIPassthrough(key=13000))


def sriov(config: Any) -> None:
    config.hardware.device.append(device.VirtualSriovEthernetCard(key=4001))


def tpm(config: Any) -> None:
    config.hardware.device.append(device.VirtualTPM(key=11000))


def fault_tolerant(config: Any) -> None:
    config.ftInfo = vim.vm.FaultToleranceConfigInfo(role=1, instanceUuids=["x"],
                                                    configPaths=["y"])


def encrypted(config: Any) -> None:
    config.keyId = vim.encryption.CryptoKeyId(keyId="k")


def template(config: Any) -> None:
    config.template = True


def no_disks(config: Any) -> None:
    config.hardware.device = [d for d in config.hardware.device
                              if not isinstance(d, device.VirtualDisk)]


@pytest.mark.parametrize(("change", "code"), [
    (independent, "disk.independent"), (multi_writer, "disk.multi-writer"),
    (physical_rdm, "disk.lun"), (old_format, "disk.format"), (shared_bus, "vm.shared-bus"),
    (passthrough, "vm.passthrough"), (sriov, "vm.passthrough"), (tpm, "vm.tpm"),
    (fault_tolerant, "vm.fault-tolerant"), (encrypted, "vm.encrypted"), (template, "vm.template"),
    (no_disks, "vm.no-disks")])
def test_what_is_refused(machine: Machine, change: Callable[[Any], None], code: str) -> None:
    config = machine.vm.config
    described(config)
    change(config)
    with pytest.raises(Refused) as refused:
        described(config)
    assert refused.value.code == code
    assert "read-me" in str(refused.value) or "disk" in str(refused.value).lower()


def test_the_picker_says_why(machine: Machine, platform: VspherePlatform) -> None:
    """As a whole machine at vSphere, not only as an object here."""
    disk = next(disks_of(machine.vm.config.hardware.device))
    disk.backing.diskMode = "independent_persistent"
    wait(machine.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
        device.VirtualDeviceSpec(operation="edit", device=disk)])))
    [found] = [v for v in platform.inventory.vms() if v.name == "read-me"]
    assert (found.ref, found.protectable, found.reason) == (
        machine.uuid, False, "disk.independent")
    assert found.size == 96 * MIB
    with pytest.raises(Refused):
        platform.source.inspect("read-me")


def test_only_what_has_changed_is_read_again(
        vsphere_factory: Callable[..., Vsphere]) -> None:
    bed = vsphere_factory(machines=300)
    machines = [bed.create_vm(f"m{n}") for n in range(3)]
    platform = VspherePlatform(bed.access())

    def listed() -> tuple[dict[str, Any], int]:
        bed.forget()
        found = {v.ref: v for v in platform.inventory.vms()}
        calls = bed.state()["calls"]
        return found, (calls["RetrievePropertiesEx"]
                       + calls.get("ContinueRetrievePropertiesEx", 0))

    before, all_of_it = listed()
    again, little = listed()
    assert again == before and len(before) == 303
    assert little < all_of_it, "no devices"
    disk = next(disks_of(machines[0].vm.config.hardware.device))
    disk.backing.diskMode = "independent_persistent"
    wait(machines[0].vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
        device.VirtualDeviceSpec(operation="edit", device=disk)])))
    machines[1].power_on()
    gone = machines[2].uuid
    wait(machines[2].vm.Destroy_Task())
    after, _calls = listed()
    assert after[machines[0].uuid].reason == "disk.independent"
    assert after[machines[1].uuid].power == "running"
    assert gone not in after
    assert {r: v for r, v in after.items() if before[r] != v}.keys() == {
        m.uuid for m in machines[:2]}
    platform.close()


def test_two_of_one_name(vsphere: Vsphere, platform: VspherePlatform) -> None:
    folder = vsphere.view(vim.Datacenter)[0].vmFolder.CreateFolder("other")
    machines = [vsphere.create_vm("twin"), vsphere.create_vm("twin-2")]
    wait(folder.MoveIntoFolder_Task([machines[1].vm]))
    wait(machines[1].vm.Rename_Task("twin"))
    try:
        with pytest.raises(Refused) as ambiguous:
            platform.source.inspect("twin")
        assert ambiguous.value.code == "vm.ambiguous"
        assert platform.source.inspect(machines[1].uuid).ref == machines[1].uuid
        with pytest.raises(GiveUp):
            platform.source.inspect("00000000-0000-4000-8000-000000000000")
    finally:
        for made in machines:
            wait(made.vm.Destroy_Task())
        wait(folder.Destroy_Task())


def test_places(vsphere: Vsphere, esxi: Vsphere, platform: VspherePlatform) -> None:
    [datacenter] = vsphere.view(vim.Datacenter)
    folder = datacenter.vmFolder.CreateFolder("a%2fb")
    folder.CreateFolder("c")
    pool = vsphere.view(vim.HostSystem)[0].parent.resourcePool
    pool.CreateResourcePool("gold", pool.config).CreateResourcePool("web", pool.config)
    found = list(platform.inventory.places())
    assert {(p.name, p.parent) for p in found if p.kind == "folder"} >= {
        ("a/b", "DC0"), ("a/b/c", "DC0")}
    assert {"gold", "gold/web"} <= {p.name for p in found if p.kind == "pool"}
    hosts = [p for p in found if p.kind == "host"]
    assert [p.name for p in found if p.kind == "datacenter"] == ["DC0"]
    assert len(hosts) == 2 and all(p.parent == "DC0" and p.usable for p in hosts)
    for host in hosts:
        assert {p.name for p in found if p.kind == "storage" and p.parent == host.name} == {
            "LocalDS_0", "LocalDS_1"}
        assert {p.name for p in found if p.kind == "network" and p.parent == host.name} == {
            "VM Network", "DC0_DVPG0"}, "without uplinks"
    assert all(p.free and p.capacity and p.free <= p.capacity
               for p in found if p.kind == "storage")
    alone = VspherePlatform(esxi.access())
    report = alone.inventory.check()
    assert report.ok and report.product.startswith("VMware ESXi") and report.host_id
    assert report.host_id != platform.inventory.check().host_id
    assert [p.kind for p in alone.inventory.places()][:2] == ["datacenter", "host"]
    alone.close()


def test_many_machines_in_bounded_memory(vsphere_factory: Callable[..., Vsphere]) -> None:
    """Their devices come page by page, and are not held."""
    bed = vsphere_factory(machines=600)
    platform = VspherePlatform(bed.access())
    bed.forget()
    began = time.monotonic()
    found = platform.inventory.vms()
    first = next(found)
    assert first.protectable
    assert bed.state()["calls"]["RetrievePropertiesEx"] <= 3, "the list, and two pages of devices"
    assert sum(1 for _ in found) == 599
    assert time.monotonic() - began < 20
    assert len(platform.inventory.powers()) == 600
    platform.close()


@pytest.mark.parametrize("uri", [
    "http://vc/sdk", "https:///sdk", "https://vc/ui", "qemu:///system"])
def test_addresses(uri: str) -> None:
    with pytest.raises(Refused) as refused:
        VspherePlatform(PlatformAccess("x", "vsphere", uri))
    assert refused.value.code == "platform.uri"
