"""A rule whose source is at vSphere, while things go wrong in the middle of its transfer, and with
our process killed at each of its instants: the right point, and nothing of ours is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyVmomi import vim

from testbeds.vsphere.bed import Machine, Vsphere, wait

from .rig import Rig, remove_replicas, wait_for
from .vsphere_rule import contents, protect

if TYPE_CHECKING:
    from testbeds.kvm import Lab

MIB = 1 << 20


class Protected:
    """A machine of two disks at vSphere, and its rule; ``expected``: what its points hold."""

    def __init__(self, rig: Rig, machine: Machine) -> None:
        self.rig, self.machine, self.bed = rig, machine, machine.bed
        self.expected: dict[int, dict[str, str]] = {}
        self.task = 0

    def write(self, mib: int = 4) -> None:
        for disk in (0, 1):
            for at in range(mib):
                self.machine.write(disk, (5 * at + disk) * MIB % self.machine.disks[disk].size,
                                   os.urandom(MIB))

    def start(self, bandwidth: int | None = None) -> None:
        self.expected[len(self.expected) + 1] = contents(self.machine)
        with self.rig.server.client() as client:
            if bandwidth is not None:
                client.edit_rule(self.rig.rule, {"bandwidth": [{
                    "days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440, "limit": bandwidth}]})
            self.task = client.start_rule(self.rig.rule)

    def moved(self) -> int:
        with self.rig.server.client() as client:
            return int((client.task(self.task)["progress"] or {}).get("done", 0))

    def in_mid_transfer(self) -> None:
        wait_for(lambda: self.moved() > 2 * MIB, 60, "some of it is at the target")

    def end(self) -> dict[str, Any]:
        found = self.rig.ended(self.task)
        self.check()
        return dict(found["figures"])

    def run(self) -> dict[str, Any]:
        self.start()
        return self.end()

    def check(self) -> None:
        assert self.rig.points() == self.expected
        assert self.machine.snapshots() == []
        assert self.bed.state()["leases"] == {}
        assert not list(Path(tempfile.gettempdir()).glob(f"hs-{self.rig.rule_id}*"))
        assert not nbdkits(self.rig.rule_id)


def nbdkits(rule: str) -> list[int]:
    done = subprocess.run(["pgrep", "-f", f"nbdkit.*hs-{rule}"], capture_output=True, text=True,
                          check=False)
    return [int(pid) for pid in done.stdout.split()]


@pytest.fixture
def protected(lab: Lab, vsphere: Vsphere, tmp_path: Path) -> Iterator[Protected]:
    lab.b.start()
    machine = vsphere.create_vm(f"web-{os.urandom(2).hex()}",
                                [(64, "LocalDS_0"), (32, "LocalDS_1")])
    machine.power_on()
    machine.tools()
    made = Protected(protect(lab, tmp_path, machine, retention=40), machine)
    try:
        made.write()
        made.run()
        yield made
    except BaseException:
        if made.rig.server.alive:
            print(made.rig.story())
        raise
    finally:
        vsphere.calm()
        made.rig.server.stop()
        remove_replicas(lab, [made.rig.rule_id])
        if machine.vm.runtime.powerState == "poweredOn":
            machine.power_off()
        wait(machine.vm.Destroy_Task())


def end_session(it: Protected) -> None:
    it.bed.fault("RetrievePropertiesEx", "NotAuthenticated")


def kill_nbdkit(it: Protected, must: bool = True) -> None:
    found = nbdkits(it.rig.rule_id)
    assert found or not must, "it reads"
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def move_to_another_host(it: Protected) -> None:
    here = it.machine.vm.runtime.host
    there = next(h for h in it.bed.view(vim.HostSystem) if h != here)
    wait(it.machine.vm.RelocateVM_Task(vim.vm.RelocateSpec(
        host=there, pool=there.parent.resourcePool)))


def cut_connections(it: Protected, must: bool = True) -> None:
    it.bed.fault("vddk-open", drop=True)
    kill_nbdkit(it, must)
    it.bed.fault("RetrievePropertiesEx", drop=True, count=3)


def no_buffers(it: Protected, must: bool = True) -> None:
    """The host has no memory for one more reader just then."""
    it.bed.fault("vddk-open", "CannotAccessFile", count=2)
    kill_nbdkit(it, must)


@pytest.mark.timeout(300)
def test_in_mid_transfer(protected: Protected) -> None:
    for trouble in (end_session, kill_nbdkit, move_to_another_host, cut_connections, no_buffers):
        protected.write(6)
        protected.start(bandwidth=4 * MIB)
        protected.in_mid_transfer()
        trouble(protected)
        figures = protected.end()
        assert not figures["full"], trouble.__name__
        protected.bed.calm()


@pytest.mark.timeout(300)
def test_the_instant_is_deleted_in_mid_transfer(protected: Protected) -> None:
    """The run goes on from what it has, with a newer instant, and reads only what changed."""
    protected.write(10)
    protected.start(bandwidth=4 * MIB)
    protected.in_mid_transfer()
    protected.machine.write(0, 40 * MIB, os.urandom(MIB))
    protected.expected[2] = contents(protected.machine)
    # its disk is open: not by vSphere's own call, which would be refused
    kill_nbdkit(protected)
    wait_for(lambda: remove_all(protected), 20, "the snapshot is gone")
    figures = protected.end()
    assert not figures["full"]


def remove_all(it: Protected) -> bool:
    try:
        wait(it.machine.vm.RemoveAllSnapshots_Task())
    except vim.fault.FileLocked:
        return False
    return it.machine.snapshots() == []


@pytest.mark.timeout(300)
def test_tracking_that_is_lost_is_said(protected: Protected) -> None:
    """Never a second full copy in silence: it is compared, in the log and in the figures."""
    protected.write()
    protected.machine.spoil_tracking()
    figures = protected.run()
    assert (figures["full"], figures["full_reason"]) == (True, "tracking.begun-anew")
    assert figures["bytes_moved"] < 20 * MIB, "what was the same did not go over the network"
    with protected.rig.server.client() as client:
        said = [line for line in client.rule_log(protected.rig.rule)
                if line["code"] == "replicate.compare"]
    assert said and said[0]["fields"]["reason"] == "tracking.begun-anew"
    assert not protected.run()["full"]


POINTS = ["source.before-begin", "source.after-begin", "replicate.instant-open",
          "copy.after-flush", "replicate.before-publish", "replicate.after-publish",
          "replicate.after-adopt", "snapshot.older-gone", "snapshot.gone",
          "replicate.after-commit"]
SAMPLE = {"source.after-begin", "snapshot.older-gone"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", [
    p if p in SAMPLE else pytest.param(p, marks=pytest.mark.soak) for p in POINTS])
def test_killed(protected: Protected, point: str) -> None:
    server = protected.rig.server
    server.stop()
    protected.write()
    server.start(f"{point}:kill")
    protected.start()
    wait_for(lambda: not server.alive, 60, "the process is killed at the fault point")
    server.start()
    protected.rig.settled(90)
    protected.check()
    assert not protected.run()["full"]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_random_trouble(protected: Protected) -> None:
    """Twenty runs with a trouble at a time that nobody chose."""
    chance = random.Random(7)
    troubles: list[Callable[[Protected], None]] = [
        end_session, move_to_another_host, lambda it: it.rig.server.kill(),
        *(partial(trouble, must=False) for trouble in (
            kill_nbdkit, cut_connections, no_buffers))]
    for _ in range(20):
        protected.write()
        protected.start(bandwidth=6 * MIB)
        time.sleep(chance.uniform(0, 3))
        chance.choice(troubles)(protected)
        if not protected.rig.server.alive:
            protected.rig.server.start()
            protected.rig.settled(120)
            protected.check()
        else:
            assert not protected.end()["full"]
        protected.bed.calm()
