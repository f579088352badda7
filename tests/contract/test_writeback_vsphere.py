"""A source machine on vSphere is started again, and what it writes from then on is known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hotspare
from hotspare.domain.errors import HotspareError, Refused
from hotspare.domain.extents import Extent
from hotspare.platforms.port import ChangedAreas, Intent, PointInTime, Unknown
from hotspare.platforms.vsphere import switched
from testbeds.vsphere.bed import Vsphere, wait

from .source_vsphere_rig import MIB, VsphereRig, made

BLOCK = 64 * 1024


@pytest.fixture(scope="module")
def bed() -> Iterator[Vsphere]:
    with Vsphere() as bed:
        yield bed


@pytest.fixture
def rig(bed: Vsphere) -> Iterator[VsphereRig]:
    for rig in made(bed):
        rig.shut_down()
        yield rig


@pytest.fixture
def rule() -> str:
    return os.urandom(4).hex()


def changed(point: PointInTime) -> list[list[int]]:
    """Numbers of the blocks that changed, by disk."""
    found = []
    for disk in point.disks:
        assert isinstance(disk.changes, ChangedAreas), disk.changes
        areas: list[Extent] = list(disk.changes.areas)
        found.append([n for a in areas for n in range(a.offset // BLOCK, -(-a.end // BLOCK))])
    return found


def test_started_with_tracking(rig: VsphereRig, rule: str) -> None:
    intent = Intent(rule, 1, 1)
    with rig.platform() as platform:
        token = switched.power_on(platform.connection, rig.vm, intent)
        assert token is not None and rig.running()
        assert platform.source.token_name(token) == str(intent) and len(token["disks"]) == 2
        rig.machine.write(0, 5 * BLOCK, b"9" * 512)
        assert switched.power_on(platform.connection, rig.vm, intent) == token
        # off, and on again by the same intent: what it wrote in the meantime stays known
        rig.shut_down()
        assert switched.power_on(platform.connection, rig.vm, intent) == token
        rig.machine.write(1, 9 * BLOCK, b"9" * 512)
        point = platform.source.open_point(rig.vm, token, "off", Intent(rule, 1, 2))
        assert changed(point) == [[5], [9]]
        point.commit()
        assert list(rig.left(rule)) == []
        # the base is gone with the run that came after it
        assert switched.power_on(platform.connection, rig.vm, intent) is None


def test_started_by_somebody_else(rig: VsphereRig, rule: str) -> None:
    rig.power_on()
    with rig.platform() as platform:
        assert switched.power_on(platform.connection, rig.vm, Intent(rule, 1, 1)) is None
    assert list(rig.left(rule)) == []


def test_tracking_that_is_lost_is_not_believed(rig: VsphereRig, rule: str) -> None:
    with rig.platform() as platform:
        token = switched.power_on(platform.connection, rig.vm, Intent(rule, 1, 1))
        rig.machine.write(0, 3 * MIB, b"9" * 512)
        rig.machine.spoil_tracking()
        point = platform.source.open_point(rig.vm, token, "off", Intent(rule, 1, 2))
        assert [d.changes for d in point.disks] == [Unknown("tracking.begun-anew")] * 2
        point.commit()
    assert list(rig.left(rule)) == []


def test_a_suspended_machine_is_not_started(rig: VsphereRig, rule: str) -> None:
    rig.power_on()
    wait(rig.machine.vm.SuspendVM_Task())
    with rig.platform() as platform, pytest.raises(Refused) as caught:
        switched.power_on(platform.connection, rig.vm, Intent(rule, 1, 1))
    assert caught.value.code == "source.saved"
    assert list(rig.left(rule)) == []
    rig.power_on()


def test_a_guest_that_cannot_be_asked(rig: VsphereRig) -> None:
    """It is told at once, and nothing is cut off unless that was allowed."""
    rig.power_on()
    rig.machine.tools(False)
    with rig.platform() as platform:
        with pytest.raises(Refused) as caught:
            platform.source.shut_down(rig.vm, 60.0, False)
        assert caught.value.code == "vsphere.no-tools" and rig.running()
        platform.source.shut_down(rig.vm, 60.0, True)
    assert not rig.running()


def test_a_start_that_failed(rig: VsphereRig, rule: str) -> None:
    """The base of the first try is that of the second."""
    intent = Intent(rule, 1, 1)
    with rig.platform() as platform:
        rig.bed.fault("PowerOnVM_Task", "InvalidState", count=1)
        with pytest.raises(HotspareError):
            switched.power_on(platform.connection, rig.vm, intent)
        assert list(rig.left(rule)) == [f"snapshot {intent}"] and not rig.running()
        token = switched.power_on(platform.connection, rig.vm, intent)
        assert token is not None and rig.running()
        assert list(rig.left(rule)) == [f"snapshot {intent}"]
        platform.source.sweep(rig.vm, rule, ())
    assert list(rig.left(rule)) == []


_CHILD = """
import json, sys
from hotspare.platforms.port import Intent, PlatformAccess
from hotspare.platforms.vsphere import switched
from hotspare.platforms.vsphere.connection import Connection

order = json.loads(sys.argv[1])
kind, uri, options, secret = order["access"]
switched.power_on(Connection(PlatformAccess("child", kind, uri, options, secret)), order["vm"],
                  Intent(*order["intent"]))
"""


def test_killed_before_the_start(rig: VsphereRig, rule: str) -> None:
    intent, access = Intent(rule, 1, 1), rig.access()
    order = {"access": (access.kind, access.uri, dict(access.options), access.secret),
             "vm": rig.vm, "intent": (rule, 1, 1)}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(order)], capture_output=True, text=True,
        timeout=120, check=False, env={
            **os.environ, "HOTSPARE_FAULT": "switched.after-base:kill",
            "PYTHONPATH": str(Path(hotspare.__file__).parents[1])})
    assert done.returncode == -signal.SIGKILL, (done.returncode, done.stderr[-2000:])
    assert list(rig.left(rule)) == [f"snapshot {intent}"] and not rig.running()
    with rig.platform() as platform:
        assert switched.power_on(platform.connection, rig.vm, intent) is not None
        assert rig.running() and list(rig.left(rule)) == [f"snapshot {intent}"]
        platform.source.sweep(rig.vm, rule, ())
