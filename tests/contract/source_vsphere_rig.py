"""One machine of the vSphere test bed, for the sources' tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotspare.platforms.port import PlatformAccess
from hotspare.platforms.vsphere.platform import VspherePlatform
from hotspare.platforms.vsphere.source import VsphereSource
from testbeds.vsphere.bed import Machine, Vsphere, wait

MIB = 1 << 20


class VsphereRig:
    """Implements :class:`SourceRig`; the machine must run."""

    marks = 0
    off_reason = "first-copy"

    def __init__(self, bed: Vsphere, machine: Machine) -> None:
        self.bed, self.machine = bed, machine
        self.vm = str(machine.vm.name)
        self._writes = 0

    def access(self, **options: str) -> PlatformAccess:
        return self.bed.access(**options)

    @contextmanager
    def platform(self, **options: str) -> Iterator[VspherePlatform]:
        platform = VspherePlatform(self.access(**options))
        try:
            yield platform
        finally:
            platform.close()

    @contextmanager
    def source(self, **options: str) -> Iterator[VsphereSource]:
        with self.platform(**options) as platform:
            source = platform.source
            assert isinstance(source, VsphereSource)
            yield source

    def write(self, disk: int) -> None:
        self._writes += 1
        size = self.machine.disks[disk].size
        self.machine.write(disk, self._writes * 3 * MIB % size, os.urandom(MIB // 2))

    def shut_down(self) -> None:
        self.machine.power_off()

    def power_on(self) -> None:
        self.machine.power_on()

    def running(self) -> bool:
        return bool(self.machine.vm.runtime.powerState == "poweredOn")

    def left(self, rule: str) -> Iterator[str]:
        yield from (f"snapshot {n}" for n in self.machine.snapshots() if rule in n)
        yield from (f"lease {n}" for n in self.bed.state()["leases"])
        yield from (f"file {p}" for p in Path(tempfile.gettempdir()).glob(f"*{rule}*"))


def made(bed: Vsphere, firmware: str = "bios", disks: int = 2) -> Iterator[VsphereRig]:
    """A machine that runs, with something on each disk; every other disk on the second store."""
    machine: Machine = bed.create_vm(
        f"vm-{os.urandom(3).hex()}", [(64 >> n % 2, f"LocalDS_{n % 2}") for n in range(disks)],
        firmware=firmware)
    machine.power_on()
    machine.tools()
    for disk in range(disks):
        machine.write(disk, 3 * MIB, os.urandom(4 * MIB))
    try:
        yield VsphereRig(bed, machine)
    finally:
        bed.calm()
        machine.writer(0)
        if machine.vm.runtime.powerState == "poweredOn":
            machine.power_off()
        wait(machine.vm.Destroy_Task())
