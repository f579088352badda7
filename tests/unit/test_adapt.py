"""Which devices a machine of VMware finds under QEMU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hotspare.domain.machine import CpuSpec, DiskSpec, NicSpec, VmDescription
from hotspare.platforms.libvirt.adapt import adapted
from hotspare.platforms.libvirt.domain_write import checked_vm

VM = VmDescription(
    ref="r", name="web", uuid="f8e52119-4651-47a3-9d92-4223633b2653", memory=1 << 30, vcpus=4,
    machine="vmx-19", virt="vmware", cpu=CpuSpec(sockets=2, cores=2, threads=1),
    clock="localtime", guest="windows9_64Guest",
    disks=(DiskSpec("disk-2000", 1 << 30, "scsi", "pvscsi", format="vmdk"),
           DiskSpec("disk-3000", 1 << 30, "ide", format="vmdk"),
           DiskSpec("disk-32000", 1 << 30, "nvme", format="vmdk")),
    nics=(NicSpec("00:50:56:01:02:03", "vmxnet3", network="VM Network"),
          NicSpec("00:50:56:01:02:04", "vmxnet2", network="VM Network")))


def found(vm: VmDescription, devices: Any) -> tuple[list[str], list[str]]:
    made = checked_vm(adapted(vm, devices))
    assert (made.virt, made.machine, made.cpu.mode) == ("kvm", "q35", "host-model")
    assert (made.firmware, made.clock, made.memory, made.vcpus) == (
        vm.firmware, vm.clock, vm.memory, vm.vcpus)
    return ([f"{d.bus} {d.controller}".strip() for d in made.disks], [n.model for n in made.nics])


@pytest.mark.parametrize(("devices", "disks", "nics"), [
    ("virtio", ["virtio"] * 3, ["virtio"] * 2),
    ("sata", ["sata"] * 3, ["e1000e"] * 2),
    ("same", ["scsi vmpvscsi", "sata", "sata"], ["vmxnet3", "e1000"]),
    ("auto", ["scsi vmpvscsi", "sata", "sata"], ["vmxnet3", "e1000"])])
def test_by_the_rules_setting(devices: str, disks: list[str], nics: list[str]) -> None:
    assert found(VM, devices) == (disks, nics)


@pytest.mark.parametrize(("guest", "virtio"), [
    ("debian11_64Guest", True), ("ubuntu64Guest", True), ("freebsd13_64Guest", True),
    ("rhel9_64Guest", False), ("sles15_64Guest", False), ("windows2019srv_64Guest", False),
    ("", False)])
def test_by_the_operating_system(guest: str, virtio: bool) -> None:
    disks, _nics = found(replace(VM, guest=guest), "auto")
    assert (disks[0] == "virtio") is virtio


def test_controllers_that_are_not_emulated() -> None:
    def first(controller: str, **change: Any) -> str:
        disk = replace(VM.disks[0], controller=controller)
        return found(replace(VM, disks=(disk, *VM.disks[1:]), **change), "same")[0][0]

    assert first("lsisas1068") == "scsi lsisas1068"
    assert first("lsilogic") == first("buslogic") == "sata"
    assert first("pvscsi", firmware="efi") == "sata", "UEFI could not boot from it"


def test_a_machine_of_qemu_stays_as_it_is() -> None:
    vm = replace(VM, virt="kvm", machine="pc-q35-7.2")
    assert adapted(vm, "sata") is vm
