"""The vSphere test bed as a target, for the targets' tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyVmomi import vim

from hotspare.domain.machine import DiskSpec, NicSpec, VmDescription
from hotspare.platforms.port import PlatformAccess
from hotspare.platforms.vsphere.platform import VspherePlatform
from hotspare.platforms.vsphere.replica import directory_of, replica_uuid
from testbeds.vsphere.bed import Machine, Vsphere, wait

from .target_rig import SIZE, some_vm


class VsphereTargetRig:
    """Implements :class:`TargetRig`."""

    storage, network = "LocalDS_1", "VM Network"

    def __init__(self, bed: Vsphere, tmp: Path) -> None:
        self.bed, self.tmp = bed, tmp

    @property
    def access(self) -> PlatformAccess:
        return self.bed.access()

    @contextmanager
    def platform(self) -> Iterator[VspherePlatform]:
        platform = VspherePlatform(self.access)
        try:
            yield platform
        finally:
            platform.close()

    def vm(self, name: str, disks: int, **options: Any) -> VmDescription:
        size = options.pop("size", SIZE)
        fields = {
            "virt": "vmware", "machine": "vmx-19", "guest": "debian11_64Guest",
            "disks": tuple(DiskSpec(f"disk-{2000 + i}", size, "scsi", "pvscsi")
                           for i in range(disks)),
            "nics": (NicSpec("00:50:56:00:00:01", "vmxnet3", network="VM Network"),), **options}
        return replace(some_vm(f"{name}-{os.urandom(2).hex()}", disks), **fields)

    def refused(self, good: VmDescription) -> dict[str, VmDescription]:
        return {"target.virt": replace(good, virt="kvm"),
                "target.too-many-disks": replace(good, disks=tuple(
                    DiskSpec(f"disk-{n}", SIZE, "ide") for n in range(5)))}

    def machine(self, rule: str) -> Machine | None:
        found = self.bed.view(vim.VirtualMachine)
        return next((Machine(self.bed, vm) for vm in found if vm.config.instanceUuid
                     == replica_uuid(rule, self.storage)), None)

    @property
    def place(self) -> Path:
        return Path(next(ds for ds in self.bed.datastores() if ds.name == self.storage).info.url)

    def left(self, rule: str) -> set[str]:
        machine = self.machine(rule)
        found = {p.name for p in (self.place / directory_of(rule)).glob("*")
                 if not p.name.startswith("lineage-")}
        found |= {p.name for p in Path(tempfile.gettempdir()).glob(f"hs-{rule}-*")}
        if (self.place / directory_of(rule)).exists():
            found.add("directory")
        if machine is not None:
            found |= {f"snapshot {n}" for n in machine.snapshots()}
            found |= {f"disk {d.key} {d.size}" for d in machine.disks}
            found.add(machine.moref)
        return found

    def check_files(self, rule: str) -> None:
        """Nothing of it is open, nothing is to be consolidated."""
        machine = self.machine(rule)
        assert machine is None or not machine.vm.runtime.consolidationNeeded
        leases = self.bed.state()["leases"].values()
        assert machine is None or machine.moref not in {lease["VM"] for lease in leases}

    def peek(self, file: str) -> bytes:
        name, _, key = file.partition("/")
        for vm in self.bed.view(vim.VirtualMachine):
            for tree in _all(vm.snapshot.rootSnapshotList if vm.snapshot else ()):
                if tree.name == name:
                    for device in tree.snapshot.config.hardware.device:
                        if device.key == int(key):
                            return Machine(self.bed, vm).content(
                                device.backing.fileName).read_bytes()
        raise LookupError(file)

    def disks_of(self, name: str) -> dict[str, bytes]:
        return {f"disk-{d.key}": machine.content(d.file).read_bytes()
                for machine in self.named(name) for d in machine.disks}

    def undefine(self, name: str) -> None:
        [machine] = self.named(name)
        assert not [o for o in machine.vm.config.extraConfig if "hotspare" in o.key]
        assert not machine.snapshots()
        with self.platform() as platform:
            assert machine.uuid in {v.ref for v in platform.inventory.vms()}, "it is the owner's"
        if machine.vm.runtime.powerState == "poweredOn":
            machine.power_off()
        wait(machine.vm.Destroy_Task())

    def named(self, name: str) -> list[Machine]:
        return [Machine(self.bed, vm) for vm in self.bed.view(vim.VirtualMachine)
                if vm.name == name]


def _all(trees: Any) -> Iterator[Any]:
    for tree in trees:
        yield tree
        yield from _all(tree.childSnapshotList)
