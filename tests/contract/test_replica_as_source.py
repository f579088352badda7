"""The source role reads a replica that runs at its target: what a failback copies."""

from __future__ import annotations

import os
import signal
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotspare.domain.extents import BLOCK
from hotspare.platforms.libvirt.platform import LibvirtPlatform
from hotspare.platforms.port import PointInTime, Running, StartSpec, Token, Unknown
from testbeds.kvm import Lab, SessionHost
from testbeds.kvm.procs import wait_for, wait_gone

from .target_libvirt_rig import LibvirtTargetRig
from .target_rig import KEY, Model, content_of
from .writeback_rig import blocks, changed, guest_write


class Replica:
    """A failover that runs, of a machine with two disks, and what its disks hold."""

    def __init__(self, rig: LibvirtTargetRig, platform: LibvirtPlatform) -> None:
        self.rig, self.platform = rig, platform
        self.model = Model(rig, rig.vm("back", 2))
        target = platform.target(KEY)
        self.model.ensure(target)
        self.model.cycle(target)
        self.before = rig.left(self.model.rule)
        self.standby = platform.standby(KEY)
        self.name = f"{self.model.vm.name}-replica"
        self.running: Running = self.standby.start(
            self.model.ref, 1, StartSpec(self.name), self.model.intent())

    @property
    def domain(self) -> Any:
        return self.rig.host.conn.lookupByName(self.name)

    @property
    def token(self) -> Token:
        token = self.standby.tracking(self.running)
        assert token is not None
        return token

    def write(self, block: int, pattern: int) -> None:
        root = ET.fromstring(self.domain.XMLDesc())
        file = next(d.find("source").get("file") for d in root.iter("disk")  # type: ignore[union-attr]
                    if d.find("target").get("dev") == "vda")  # type: ignore[union-attr]
        guest_write(self.domain, str(file), block * BLOCK, BLOCK, pattern)
        self.model.now["vda"][block * BLOCK:(block + 1) * BLOCK] = bytes([pattern]) * BLOCK

    def read(self, base: Token | None) -> PointInTime:
        """An instant; its content is what the replica holds."""
        point = self.platform.source.open_point(self.running.ref, base, "off", self.model.intent())
        assert {d.spec.id: content_of(d.export) for d in point.disks} == self.model.now
        return point

    def checkpoints(self) -> set[str]:
        return {c.getName() for c in self.domain.listAllCheckpoints()}

    def kill9(self) -> None:
        pid = self.rig.host.qemu_pids()[self.name]
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid, 5)
        wait_for(lambda: self.standby.power(self.running) == "off", 5, "libvirt knows")

    def discard(self) -> None:
        """Nothing of it is left, whatever was read of it."""
        self.platform.source.sweep(self.running.ref, self.model.rule, ())
        self.standby.discard(self.running)
        assert self.rig.left(self.model.rule) == self.before
        self.model.check(self.platform.target(KEY), port=False)
        self.platform.target(KEY).remove_replica(self.model.ref)


@pytest.fixture
def replica(lab: Lab, host_b: SessionHost, tmp_path: Path) -> Iterator[Replica]:
    rig = LibvirtTargetRig(lab, host_b, tmp_path)
    with rig.platform() as platform:
        yield Replica(rig, platform)


def differs(point: PointInTime) -> list[Any]:
    return [d.changes if isinstance(d.changes, Unknown) else changed(d.export, d.changes)
            for d in point.disks]


def test_passes_while_it_runs_and_when_it_is_off(replica: Replica) -> None:
    began = replica.token
    replica.write(5, 0x55)
    first = replica.read(began)
    assert differs(first) == [blocks(5), []]
    first.commit()
    replica.write(9, 0x99)
    second = replica.read(first.token)
    assert differs(second) == [blocks(9), []]
    second.commit()
    # the tracking since its start goes on under all that, and a sweep leaves it alone
    replica.platform.source.sweep(replica.running.ref, replica.model.rule, (),
                                  [replica.platform.source.token_name(second.token or {})])
    assert replica.checkpoints() == {began["checkpoint"], (second.token or {})["checkpoint"]}
    assert replica.token["checkpoint"] == began["checkpoint"]
    replica.write(11, 0x11)
    for base, found in ((began, blocks(5, 9, 11)), (second.token, blocks(11))):
        point = replica.read(base)
        assert differs(point) == [found, []]
        point.release()
    replica.standby.stop(replica.running, 0)
    for base, found in ((began, blocks(5, 9, 11)), (second.token, blocks(11))):
        point = replica.read(base)
        assert point.consistency == "off" and differs(point) == [found, []]
        point.commit()
    for _ in range(2):
        replica.standby.power_on(replica.running)
    assert replica.standby.power(replica.running) == "running"
    replica.write(13, 0x13)
    point = replica.read(replica.token)
    assert differs(point) == [blocks(5, 9, 11, 13), []]
    point.commit()
    assert began["checkpoint"] in replica.checkpoints()
    replica.discard()
    assert replica.standby.tracking(replica.running) is None


def test_an_instant_is_found_again(replica: Replica) -> None:
    """By another process of the same intent, whether the replica runs or not."""
    began = replica.token
    replica.write(5, 0x55)
    for off in (False, True):
        if off:
            replica.standby.stop(replica.running, 0)
        point = replica.read(began)
        with replica.rig.platform() as other:
            again = other.source.open_point(replica.running.ref, began, "off",
                                            replica.model.intent(fresh=False))
            assert again.taken_at == pytest.approx(point.taken_at, abs=0.01)
            assert differs(again) == [blocks(5), []]
            again.release()
    replica.discard()


def test_a_replica_that_was_killed(replica: Replica) -> None:
    """It runs again; what it wrote is not known, so all of it is compared, and the next pass
    counts again."""
    began = replica.token
    replica.write(5, 0x55)
    replica.kill9()
    off = replica.read(began)
    assert differs(off) == [Unknown("tracking.broken")] * 2
    off.commit()
    replica.standby.power_on(replica.running)
    point = replica.read(began)
    assert differs(point) == [Unknown("tracking.broken")] * 2
    point.commit()
    replica.write(9, 0x99)
    again = replica.read(point.token)
    assert differs(again) == [blocks(9), []]
    again.commit()
    replica.discard()
