"""libvirt joins the conformance suite of sources."""

from __future__ import annotations

import pytest

from .source_libvirt_rig import LibvirtRig
from .source_suite import SourceSuite


class TestLibvirtSource(SourceSuite):
    @pytest.fixture
    def rig(self, libvirt_rig: LibvirtRig) -> LibvirtRig:
        return libvirt_rig
