"""The target on vSphere, when things go wrong: others' hands, two at once, kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbd
import pytest
from pyVmomi import vim

import hotspare
from hotspare.domain.codec import encode
from hotspare.domain.errors import (
    Fenced,
    ForeignChange,
    GiveUp,
    HotspareError,
    OutOfSpace,
    Refused,
    SealMissing,
)
from hotspare.domain.extents import Extent
from hotspare.domain.lineage import DiskPoint, Manifest
from hotspare.platforms.port import ChangedAreas, Running, StartSpec, Target
from hotspare.platforms.vsphere.replica import Replica
from testbeds.vsphere.bed import Machine, Vsphere, wait

from .target_rig import BLOCK, KEY, Model, content_of
from .target_suite import ignore
from .target_vsphere_rig import VsphereTargetRig

PUBLISH = ("point.at-head", "point.shaped", "point.before-digests", "point.after-digests",
           "point.after-snapshot", "point.after-lineage")
STAND = ("stand.after-mark", "stand.after-revert", "stand.after-configure",
         "stand.after-snapshot", "stand.after-start")
UNSTAND = ("unstand.after-off", "unstand.after-revert", "unstand.after-rename")
TRIAL = ("trial.after-create", "trial.after-off", "trial.after-detach", "trial.after-destroy")
MERGE = ("merge.after-mark", "merge.after-remove", "merge.after-lineage")
SAMPLE = ("point.shaped", "point.after-snapshot", "merge.after-remove", "stand.after-revert",
          "unstand.after-revert", "trial.after-detach")
"""Those that run with every ``make test``; ``make soak`` runs them all."""


def _sampled(names: tuple[str, ...]) -> list[Any]:
    return [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.soak)
            for name in names]


@pytest.fixture(scope="module")
def bed() -> Iterator[Vsphere]:
    with Vsphere() as bed:
        yield bed


@pytest.fixture
def rig(bed: Vsphere, tmp_path: Path) -> Iterator[VsphereTargetRig]:
    yield VsphereTargetRig(bed, tmp_path)
    bed.calm()


def prepared(rig: VsphereTargetRig, target: Target, points: int = 2,
             disks: int = 2) -> tuple[Model, Machine]:
    model = Model(rig, rig.vm("fault", disks))
    model.ensure(target)
    for _ in range(points):
        model.cycle(target)
    machine = rig.machine(model.rule)
    assert machine is not None
    return model, machine


def begun(target: Target, model: Model, base: int, sealed: bool = True) -> None:
    """A run that finds the base as it was."""
    intent = model.intent()
    session = target.begin(model.ref, model.vm.disks, base, intent, sealed)
    for ident, export in session.disks.items():
        assert content_of(export) == model.points[base][ident]
    model.change(session)
    model.publish(session, intent)


def test_it_is_a_machine_that_nobody_protects(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        model, machine = prepared(rig, platform.target(KEY), 1)
        assert machine.vm.name == model.spec.name and machine.vm.config.uuid == model.vm.uuid
        card = next(d for d in machine.vm.config.hardware.device if hasattr(d, "macAddress"))
        assert card.macAddress == "00:50:56:00:00:01" and not card.connectable.startConnected
        assert machine.uuid not in {v.ref for v in platform.inventory.vms()}
        assert machine.uuid not in platform.inventory.powers()


def test_switched_on_and_written_by_hand(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, machine = prepared(rig, target)
        machine.power_on()
        for call in (lambda: target.begin(model.ref, model.vm.disks, 2, model.intent()),
                     lambda: target.seal(model.ref, 2),
                     lambda: target.remove_replica(model.ref)):
            with pytest.raises(ForeignChange) as caught:
                call()
            assert caught.value.code == "replica.runs"
        machine.power_off()
        machine.write(1, 3 * BLOCK, b"somebody's work" * 100)
        with pytest.raises(ForeignChange) as changed:
            target.begin(model.ref, model.vm.disks, 2, model.intent())
        assert changed.value.code == "replica.changed"
        left = machine.content(machine.disks[1].file).read_bytes()
        assert left[3 * BLOCK:].startswith(b"somebody's work"), "it was not touched"
        begun(target, model, 2, sealed=False)
        model.check(target, port=False)


def test_reverted_by_hand(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, machine = prepared(rig, target, 3)
        wait(machine.vm.snapshot.rootSnapshotList[0].snapshot.RevertToSnapshot_Task())
        with pytest.raises(ForeignChange):
            target.begin(model.ref, model.vm.disks, 3, model.intent())
        begun(target, model, 3, sealed=False)
        model.check(target, port=False)


def test_tracking_that_was_lost(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, machine = prepared(rig, target)
        machine.spoil_tracking()
        with pytest.raises(SealMissing):
            target.begin(model.ref, model.vm.disks, 2, model.intent())
        target.seal(model.ref, 2)
        before = machine.snapshots()
        begun(target, model, 2)
        assert set(before) < set(machine.snapshots()), "sealing left no snapshot"
        target.seal(model.ref, 3)
        machine.write(0, 0, b"x" * 512)
        with pytest.raises(ForeignChange):
            target.begin(model.ref, model.vm.disks, 3, model.intent())


def test_a_point_that_somebody_deleted(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, machine = prepared(rig, target, 3)
        middle = machine.vm.snapshot.rootSnapshotList[0].childSnapshotList[0]
        wait(middle.snapshot.RemoveSnapshot_Task(removeChildren=False))
        with pytest.raises(ForeignChange) as caught, target.read_point(model.ref, 2):
            pass
        assert caught.value.code == "point.snapshot-gone"
        for number in (1, 3):
            with target.read_point(model.ref, number) as exports:
                model.compare({i: content_of(e) for i, e in exports.items()}, number)
        target.retire(model.ref, 2, None, ignore)
        del model.points[2]
        model.check(target, port=False)


def test_a_machine_that_somebody_removed(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, machine = prepared(rig, target)
        wait(machine.vm.Destroy_Task())
        with pytest.raises(ForeignChange) as caught:
            model.ensure(target)
        assert caught.value.code == "replica.machine-gone"
        target.remove_replica(model.ref)
        assert rig.left(model.rule) == set()


def test_whoever_was_fenced_cannot_open_a_disk(rig: VsphereTargetRig) -> None:
    with rig.platform() as old, rig.platform() as new:
        target, heir = old.target(KEY), new.target(KEY)
        model, _ = prepared(rig, target)
        session = target.begin(model.ref, model.vm.disks, 2, model.intent())
        export = next(iter(session.disks.values()))
        with export.open():
            pass
        heir.fence(model.ref, 2)
        with pytest.raises(Fenced), export.open():
            pass
        model.epoch = 2
        begun(heir, model, 2)
        with pytest.raises(Fenced), export.open():
            pass


def test_two_that_write_the_lineage_at_once(rig: VsphereTargetRig) -> None:
    with rig.platform() as one, rig.platform() as two:
        model, _ = prepared(rig, one.target(KEY))
        replicas = [Replica(p.connection, KEY, model.ref) for p in (one, two)]
        lineage = replicas[0].lineage()
        replicas[1].store(replace(lineage, epoch=2))
        with pytest.raises(Fenced):
            replicas[0].store(lineage)
        assert replicas[0].lineage().epoch == 2
        # also when what it would write was swept away meanwhile
        for _ in range(3):
            replicas[1].store(replicas[1].lineage())
        with pytest.raises(Fenced):
            replicas[0].store(lineage)
        assert replicas[0].lineage().epoch == 2


def test_a_full_datastore(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, _ = prepared(rig, target)
        intent = model.intent()
        session = target.begin(model.ref, model.vm.disks, 2, intent)
        model.change(session)
        rig.bed.full(rig.storage)
        with pytest.raises(OutOfSpace):
            model.publish(session, intent)
        rig.bed.calm()
        assert [p.number for p in target.lineage(model.ref).points] == [1, 2]
        model.publish(session, intent)
        target.sweep(model.ref, [])
        model.check(target, port=False)


def test_written_to_after_a_publication_that_failed(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, _ = prepared(rig, target)
        intent = model.intent()
        session = target.begin(model.ref, model.vm.disks, 2, intent)
        model.change(session)
        rig.bed.fault("MoveDatastoreFile_Task", "CannotAccessFile", skip=1)
        with pytest.raises(HotspareError):
            model.publish(session, intent)
        model.change(session)
        model.publish(session, intent)
        target.sweep(model.ref, [])
        model.check(target, port=False)


def test_a_disk_that_somebody_attached(rig: VsphereTargetRig) -> None:
    """It is taken out where a revert must be, but never deleted."""
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, machine = prepared(rig, target)
        other = rig.bed.create_vm("other", [(8, rig.storage)])
        other.write(0, 0, b"precious" * 100)
        file = other.disks[0].file
        where = other.content(file)
        wait(machine.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation="add", device=vim.vm.device.VirtualDisk(
                key=-1, controllerKey=1000, unitNumber=9, capacityInKB=8192,
                backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                    fileName=file, diskMode="persistent")))])))
        assert len(machine.disks) == 3
        begun(target, model, 2, sealed=False)
        assert len(machine.disks) == 2
        assert where.read_bytes().startswith(b"precious")
        model.check(target, port=False)
        wait(other.vm.Destroy_Task())


@pytest.mark.parametrize(("method", "fault"), [
    ("CreateSnapshot_Task", "SnapshotFault"),
    pytest.param("ReconfigVM_Task", "TaskInProgress", marks=pytest.mark.soak),
    ("MoveDatastoreFile_Task", "CannotAccessFile"),
    pytest.param("SearchDatastore_Task", "FileFault", marks=pytest.mark.soak),
    ("vddk-open", "NfcBuffers")])
def test_a_fault_in_a_run(rig: VsphereTargetRig, method: str, fault: str) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, _ = prepared(rig, target)
        before = {i: bytes(c) for i, c in model.now.items()}
        rig.bed.fault(method, fault)
        with pytest.raises((HotspareError, nbd.Error)):
            model.cycle(target)
        rig.bed.calm()
        model.now = {i: bytearray(c) for i, c in before.items()}
        model.cycle(target)
        target.sweep(model.ref, [])
        assert target.lineage(model.ref).last_number == 3
        model.check(target, port=False)


def child(rig: VsphereTargetRig, model: Model, fault: str, **order: object) -> None:
    """Run a child that is killed at ``fault``."""
    access = rig.access
    order = {"access": [access.kind, access.uri, dict(access.options), access.secret],
             "rule": model.rule, "storage": rig.storage, "epoch": model.epoch,
             "task": model.task, **order}
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-m", "contract.target_child", json.dumps(order)],
                          env={**os.environ, "HOTSPARE_FAULT": f"{fault}:kill",
                               "PYTHONPATH": f"{tests}:{Path(hotspare.__file__).parents[1]}"},
                          cwd=tests, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, (fault, done.returncode, done.stderr[-2000:])


@pytest.mark.parametrize(("fault", "again"), [
    pytest.param(fault, again, marks=[] if fault in SAMPLE else pytest.mark.soak)
    for fault in PUBLISH for again in ("the same task", "another task")
    if (fault, again) != ("point.after-lineage", "another task")])
def test_killed_in_a_run(rig: VsphereTargetRig, fault: str, again: str) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, _ = prepared(rig, target)
        intent = model.intent()
        model.digests.write_bytes(b"digests" * 100)
        manifest = Manifest(model.rule, 3, 1, intent.task, 1.5e9, "crash", model.vm,
                            tuple(DiskPoint(d.id, d.size, "") for d in model.vm.disks))
        child(rig, model, fault, do="publish", manifest=encode(manifest), base=2,
              digests=str(model.digests),
              writes={d.id: [[0, 7, BLOCK]] for d in model.vm.disks})
        done = fault == "point.after-lineage"
        assert [p.number for p in target.lineage(model.ref).points] == [1, 2, 3][:2 + done]
        written = {i: bytearray(bytes([7]) * BLOCK + c[BLOCK:]) for i, c in model.now.items()}
        if done:
            model.now = written
            model.remember(3)
        elif again == "the same task":
            session = target.begin(model.ref, model.vm.disks, 2, replace(intent, instant=2))
            assert session.resumed == (fault not in ("point.at-head",))
            if fault in PUBLISH[2:]:
                model.now = written
            for ident, export in session.disks.items():
                assert content_of(export) == bytes(model.now[ident])
            model.change(session)
            model.publish(session, intent)
        target.sweep(model.ref, [])
        model.check(target, port=False)
        begun(target, model, max(model.points))
        assert target.sweep(model.ref, []) == []
        model.check(target, port=False)
        target.remove_replica(model.ref)
        assert rig.left(model.rule) == set()


@pytest.mark.parametrize("fault", _sampled(MERGE))
def test_killed_in_a_merge(rig: VsphereTargetRig, fault: str) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, _ = prepared(rig, target, 3)
        child(rig, model, fault, do="retire", number=1)
        target.retire(model.ref, 1, None, ignore)
        del model.points[1]
        target.sweep(model.ref, [])
        model.check(target)
        begun(target, model, 3)
        model.check(target, port=False)


@pytest.mark.parametrize("fault", _sampled(STAND + UNSTAND))
def test_killed_in_a_failover(rig: VsphereTargetRig, fault: str) -> None:
    with rig.platform() as platform:
        target, standby = platform.target(KEY), platform.standby(KEY)
        model, machine = prepared(rig, target, 3)
        before, was = rig.left(model.rule), machine.vm.name
        intent = model.intent()
        how = StartSpec(f"{was}-runs")
        child(rig, model, fault, do="start" if fault in STAND else "discard", number=2,
              name=how.name)
        running = standby.find(model.ref)
        assert running is not None and running.number == 2, "it is found, however far it came"
        if fault in STAND:
            assert standby.start(model.ref, 2, how, intent) == running
            assert standby.power(running) == "running" and machine.vm.name == how.name
            model.compare(rig.disks_of(how.name), 2)
        standby.discard(running)
        assert standby.find(model.ref) is None and machine.vm.name == was
        assert rig.left(model.rule) == before
        begun(target, model, 3)
        model.check(target, port=False)


def test_what_a_replica_wrote_is_told(rig: VsphereTargetRig) -> None:
    """As a failback asks for it, again and again, while the replica runs."""
    with rig.platform() as platform:
        target, standby, source = platform.target(KEY), platform.standby(KEY), platform.source
        model, machine = prepared(rig, target, 3)
        before = rig.left(model.rule)
        running = standby.start(model.ref, 2, StartSpec("told"), model.intent())
        token = standby.tracking(running)
        assert token is not None and len(token["disks"]) == 2
        for turn in (1, 2):
            machine.write(0, turn * BLOCK, b"w" * BLOCK)
            point = source.open_point(running.ref, token, "off", model.intent())
            changes = {d.spec.id: d.changes for d in point.disks}
            first, other = (changes[d.id] for d in model.vm.disks)
            assert isinstance(first, ChangedAreas) and isinstance(other, ChangedAreas)
            assert list(first.areas) == [Extent(BLOCK, turn * BLOCK)] and not list(other.areas)
            point.commit()
        source.sweep(running.ref, model.rule, [])
        assert standby.find(model.ref) == running
        with rig.platform() as another:
            assert another.standby(KEY).tracking(running) == token
        standby.stop(running, 0)
        standby.power_on(running)
        assert standby.power(running) == "running"
        standby.discard(running)
        with pytest.raises(GiveUp):
            standby.power_on(running)
        assert standby.tracking(running) is None and rig.left(model.rule) == before
        begun(target, model, 3)


def test_a_failover_keeps_what_others_wrote(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        target, standby = platform.target(KEY), platform.standby(KEY)
        model, machine = prepared(rig, target)
        machine.write(0, 0, b"theirs" * 10)
        intent = model.intent()
        child(rig, model, "stand.set-aside", do="start", number=1, name="theirs")
        running = standby.start(model.ref, 1, StartSpec("theirs"), intent)
        model.compare(rig.disks_of("theirs"), 1)
        assert machine.snapshots().count(f"written by others before {intent}") == 1
        standby.discard(running)
        target.sweep(model.ref, [])
        [kept] = [t for t in _trees(machine.vm.snapshot.rootSnapshotList)
                  if t.name.startswith("written by others")]
        disk = next(d for d in kept.snapshot.config.hardware.device
                    if d.key == machine.disks[0].key)
        assert machine.content(disk.backing.fileName).read_bytes().startswith(b"theirs")
        begun(target, model, 2)
        model.check(target, port=False)


def test_two_failovers_at_once(rig: VsphereTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model, _ = prepared(rig, target)
        intents = [model.intent(), model.intent()]

        def start(number: int) -> Running | HotspareError:
            with rig.platform() as own:
                try:
                    return own.standby(KEY).start(
                        model.ref, number, StartSpec(f"both-{number}"), intents[number - 1])
                except HotspareError as error:
                    return error

        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(start, (1, 2)))
        [running] = [e for e in ends if isinstance(e, Running)]
        [refused] = [e for e in ends if isinstance(e, HotspareError)]
        assert refused.code in ("name.taken", "replica.stands")     # by how far the other was
        model.compare(rig.disks_of(running.name), running.number)
        platform.standby(KEY).discard(running)


def test_the_copy_of_a_test(rig: VsphereTargetRig) -> None:
    """It holds the point, on networks without a way out, and what it writes is nobody else's."""
    with rig.platform() as platform:
        target, standby, rehearsal = (platform.target(KEY), platform.standby(KEY),
                                      platform.rehearsal(KEY))
        model, machine = prepared(rig, target, 3)
        before = rig.left(model.rule)
        intent = model.intent()
        isolation = rehearsal.isolate(model.ref, 2, "dhcp", intent)
        assert isolation.connected and isolation.reason and not isolation.address
        assert rehearsal.isolate(model.ref, 2, None, intent).reason == ""
        assert rehearsal.left(model.ref) == [intent], "also before there is a machine"
        trial = standby.start(model.ref, 2, StartSpec(
            "trial", isolation.networks, "test", isolation.connected), intent)
        model.compare(rig.disks_of("trial"), 2)
        [copy] = [m for m in rig.named("trial")]
        host = copy.vm.runtime.host.configManager.networkSystem.networkInfo
        card = next(d for d in copy.vm.config.hardware.device if hasattr(d, "macAddress"))
        group = next(g for g in host.portgroup if g.spec.name == card.backing.deviceName)
        switch = next(s for s in host.vswitch if s.name == group.spec.vswitchName)
        assert card.connectable.startConnected and not switch.pnic
        assert copy.uuid not in {v.ref for v in platform.inventory.vms()}
        copy.write(0, 0, b"of the copy" * 20)
        assert rehearsal.heartbeat(trial) is None, "no VMware Tools are in it"
        model.check(target, port=False)
        with pytest.raises(Refused) as in_use:
            target.remove_replica(model.ref)
        assert in_use.value.code == "replica.in-use"
        target.sweep(model.ref, [])
        standby.stop(trial, 0)
        assert rehearsal.ended(trial) == "other"
        rehearsal.clear(model.ref, intent)
        host = machine.vm.runtime.host.configManager.networkSystem.networkInfo
        assert not [g for g in host.portgroup if model.rule in g.spec.name]
        assert not [s for s in host.vswitch if model.rule in s.name]
        assert rig.left(model.rule) == before and not rig.named("trial")
        begun(target, model, 3)
        model.check(target, port=False)


@pytest.mark.parametrize("fault", _sampled(TRIAL))
def test_killed_in_a_test(rig: VsphereTargetRig, fault: str) -> None:
    with rig.platform() as platform:
        target, rehearsal = platform.target(KEY), platform.rehearsal(KEY)
        model, _ = prepared(rig, target, 2)
        before = rig.left(model.rule)
        intent = model.intent()
        child(rig, model, fault, do="test", number=1, name="killed")
        target.sweep(model.ref, [])
        assert rehearsal.left(model.ref) == [intent] and target.pinned(model.ref) == {1}
        rehearsal.clear(model.ref, intent)
        assert rehearsal.clear(model.ref, intent) == [] and rehearsal.left(model.ref) == []
        assert rig.left(model.rule) == before and not rig.named("killed")
        model.check(target, port=False)


def _trees(trees: Any) -> Iterator[Any]:
    for tree in trees:
        yield tree
        yield from _trees(tree.childSnapshotList)
