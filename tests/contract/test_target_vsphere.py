"""vSphere joins the conformance suite of targets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbeds.vsphere.bed import Vsphere

from .standby_suite import RehearsalSuite, StandbySuite
from .target_suite import TargetSuite
from .target_vsphere_rig import VsphereTargetRig


@pytest.fixture(scope="module")
def vcenter() -> Iterator[Vsphere]:
    with Vsphere() as bed:
        yield bed


@pytest.fixture(scope="module")
def esxi() -> Iterator[Vsphere]:
    with Vsphere(esx=True) as bed:
        yield bed


class TestVcenterTarget(TargetSuite, StandbySuite, RehearsalSuite):
    @pytest.fixture
    def rig(self, vcenter: Vsphere, tmp_path: Path) -> VsphereTargetRig:
        return VsphereTargetRig(vcenter, tmp_path)


@pytest.mark.soak
class TestEsxiTarget(TargetSuite, StandbySuite, RehearsalSuite):
    @pytest.fixture
    def rig(self, esxi: Vsphere, tmp_path: Path) -> VsphereTargetRig:
        return VsphereTargetRig(esxi, tmp_path)
