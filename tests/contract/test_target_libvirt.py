"""libvirt joins the conformance suite of targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbeds.kvm import Lab, SessionHost

from .standby_suite import RehearsalSuite, StandbySuite
from .target_libvirt_rig import LibvirtTargetRig
from .target_suite import TargetSuite


class TestLibvirtTarget(TargetSuite, StandbySuite, RehearsalSuite):
    @pytest.fixture
    def rig(self, lab: Lab, host_b: SessionHost, tmp_path: Path) -> LibvirtTargetRig:
        return LibvirtTargetRig(lab, host_b, tmp_path)
