"""A machine of VMware as QEMU runs it: the same firmware, CPUs, memory and networks, on devices
that its operating system has drivers for.

QEMU emulates VMware's paravirtual SCSI and network cards, LSI's SAS and Intel's network cards, so a
guest that knows no virtio boots on what it had. Guests are known by vSphere's identifiers
(VirtualMachineGuestOsIdentifier). Converting guests, which puts drivers into them, would belong
between a restore point and this.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from ...domain.machine import CpuSpec, Devices, DiskSpec, NicSpec, VmDescription

_VIRTIO = re.compile(r"debian|ubuntu|freebsd|coreos|vmwarePhoton|opensuse", re.IGNORECASE)
"""Whose boot images hold the drivers of all machines. Those of Red Hat and SUSE, as installed, hold
only what the machine had then; Windows has no virtio of its own."""

_SCSI = {"pvscsi": "vmpvscsi", "lsisas1068": "lsisas1068"}
_NICS = {"vmxnet3", "e1000", "e1000e", "pcnet"}


def adapted(vm: VmDescription, devices: Devices) -> VmDescription:
    """``vm`` itself when it is QEMU's already."""
    if vm.virt != "vmware":
        return vm
    kind = devices if devices != "auto" else "virtio" if _VIRTIO.match(vm.guest) else "same"
    return replace(
        vm, virt="kvm", machine="q35", cpu=replace(_topology(vm), mode="host-model"), agent=True,
        serial_console=False, rng=kind == "virtio",
        disks=tuple(_disk(d, kind, vm) for d in vm.disks),
        nics=tuple(_nic(n, kind) for n in vm.nics))


def _topology(vm: VmDescription) -> CpuSpec:
    return vm.cpu if vm.cpu.sockets * vm.cpu.cores * vm.cpu.threads == vm.vcpus else CpuSpec()


def _disk(disk: DiskSpec, kind: Literal["virtio", "same", "sata"],
          vm: VmDescription) -> DiskSpec:
    bus, controller = "sata", ""
    if kind == "virtio":
        bus = "virtio"
    elif kind == "same" and disk.bus == "scsi" and vm.firmware == "bios":
        # Debian's UEFI has no driver for these controllers (seen with ovmf 2022.11).
        # One controller for all: that of the first of them, which is most often the boot disk.
        first = next(d.controller for d in vm.disks if d.bus == "scsi")
        if first in _SCSI:
            bus, controller = "scsi", _SCSI[first]
    return replace(disk, bus=bus, controller=controller)


def _nic(nic: NicSpec, kind: Literal["virtio", "same", "sata"]) -> NicSpec:
    same = nic.model if nic.model in _NICS else "e1000"
    return replace(nic, model={"virtio": "virtio", "same": same, "sata": "e1000e"}[kind])
