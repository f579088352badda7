"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbeds.kvm import Lab

from .source_libvirt_rig import LibvirtRig


@pytest.fixture(scope="package")
def libvirt_rig(lab: Lab) -> Iterator[LibvirtRig]:
    """One running guest with two disks for all tests of libvirt sources: a boot costs seconds.

    Its writer is slow, as each boot verifies all records that there are by then."""
    lab.a.start()
    guest = lab.define_guest(lab.a, "source", disks=2, boot="kernel", rate=0.5,
                             network=None, video=False)
    rig = LibvirtRig(lab, guest)
    rig.power_on()
    yield rig
    lab.a.start()
    lab.remove_guest(guest)
