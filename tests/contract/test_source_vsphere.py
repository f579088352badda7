"""vSphere's source against the conformance suite: a vCenter, and an ESXi host without one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from testbeds.vsphere.bed import Machine, Vsphere, wait

from .source_suite import SourceSuite
from .source_vsphere_rig import MIB, VsphereRig


def made(bed: Vsphere, firmware: str = "bios") -> Iterator[VsphereRig]:
    machine: Machine = bed.create_vm(
        f"vm-{os.urandom(3).hex()}", [(64, "LocalDS_0"), (32, "LocalDS_1")], firmware=firmware)
    machine.power_on()
    machine.tools()
    for disk in (0, 1):
        machine.write(disk, 3 * MIB, os.urandom(4 * MIB))
    try:
        yield VsphereRig(bed, machine)
    finally:
        bed.calm()
        if machine.vm.runtime.powerState == "poweredOn":
            machine.power_off()
        wait(machine.vm.Destroy_Task())


class TestVcenterSource(SourceSuite):
    @pytest.fixture(params=["bios", "efi"])
    def rig(self, vsphere: Vsphere, request: pytest.FixtureRequest) -> Iterator[VsphereRig]:
        yield from made(vsphere, request.param)


class TestEsxiSource(SourceSuite):
    @pytest.fixture
    def rig(self, esxi: Vsphere) -> Iterator[VsphereRig]:
        yield from made(esxi)
