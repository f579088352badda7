"""vSphere's source against the conformance suite: a vCenter, and an ESXi host without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbeds.vsphere.bed import Vsphere

from .source_suite import SourceSuite
from .source_vsphere_rig import VsphereRig, made


class TestVcenterSource(SourceSuite):
    @pytest.fixture(params=["bios", "efi"])
    def rig(self, vsphere: Vsphere, request: pytest.FixtureRequest) -> Iterator[VsphereRig]:
        yield from made(vsphere, request.param)


class TestEsxiSource(SourceSuite):
    @pytest.fixture
    def rig(self, esxi: Vsphere) -> Iterator[VsphereRig]:
        yield from made(esxi)
