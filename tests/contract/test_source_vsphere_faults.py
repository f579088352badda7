"""What goes wrong at vSphere: the right point or a clear error, and nothing of ours is left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import nbd
import pytest
from pyVmomi import vim

from hotspare.domain.errors import (
    GiveUp,
    HotspareError,
    InstantLost,
    OutOfSpace,
    Reconnect,
    Refused,
    Retry,
    TrackingUnusable,
)
from hotspare.platforms.port import ChangedAreas, PointInTime, Unknown
from hotspare.platforms.vsphere.source import VsphereSource
from testbeds.vsphere.bed import Vsphere, wait

from .source_reader import Replica
from .source_rig import Numbers
from .source_vsphere_rig import MIB, VsphereRig, made


@pytest.fixture
def rig(vsphere: Vsphere) -> Iterator[VsphereRig]:
    yield from made(vsphere)


@pytest.fixture
def numbers(rig: VsphereRig) -> Iterator[Numbers]:
    numbers = Numbers()
    yield numbers
    rig.bed.calm()
    with rig.source() as source:
        source.sweep(rig.vm, numbers.rule, ())
    assert list(rig.left(numbers.rule)) == []


@pytest.fixture
def source(rig: VsphereRig) -> Iterator[VsphereSource]:
    with rig.source() as source:
        yield source


@pytest.fixture
def replica(tmp_path: Any, rig: VsphereRig, numbers: Numbers) -> Replica:
    return Replica(tmp_path, rig.vm, numbers)


def persistent(work: Callable[[], Any], attempts: int = 5) -> Any:
    """As a task does it: again after what may be gone the next time."""
    for _ in range(attempts - 1):
        try:
            return work()
        except (Reconnect, Retry):
            time.sleep(0.05)
    return work()


def opened(source: VsphereSource, replica: Replica, quiesce: Any = "off") -> PointInTime:
    return source.open_point(replica.vm, replica.token, quiesce, replica.numbers.next())


def reasons(point: PointInTime) -> set[str]:
    return {d.changes.reason for d in point.disks if isinstance(d.changes, Unknown)}


# --- quiescing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["ApplicationQuiesceFault", "FilesystemQuiesceFault"])
def test_quiescing_that_fails(rig: VsphereRig, source: VsphereSource, replica: Replica,
                              fault: str) -> None:
    rig.bed.fault("CreateSnapshot_Task", fault)
    point, _ = replica.sync(source, "try")
    assert (point.consistency, point.note) == ("quiesced", ""), "the second attempt is good"
    rig.bed.fault("CreateSnapshot_Task", fault, count=2)
    point, _ = replica.sync(source, "try")
    assert (point.consistency, point.note) == ("crash", "quiesce.refused")
    rig.bed.fault("CreateSnapshot_Task", fault, count=2)
    with pytest.raises(Refused) as refused:
        replica.sync(source, "require")
    assert refused.value.code == "quiesce.failed"
    assert rig.machine.snapshots() == []


def test_a_machine_that_cannot_be_quiesced(rig: VsphereRig, source: VsphereSource,
                                           replica: Replica) -> None:
    rig.machine.tools(False)
    point, _ = replica.sync(source, "try")
    assert (point.consistency, point.note) == ("crash", "quiesce.no-tools")
    with pytest.raises(Refused):
        replica.sync(source, "require")
    wait(rig.machine.vm.SuspendVM_Task())
    point, _ = replica.sync(source, "try")
    assert (point.consistency, point.note) == ("crash", "quiesce.paused")
    rig.power_on()


# --- tracking ------------------------------------------------------------------------------------


def test_change_ids_that_are_not_trusted(rig: VsphereRig, source: VsphereSource,
                                         replica: Replica) -> None:
    """Each time a compare for a reason that is said, and the next run is quick again."""
    def spoil() -> None:
        rig.machine.spoil_tracking()

    def switch_off_and_on() -> None:
        for on in (False, True):
            wait(rig.machine.vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=on)))
            if not on:
                snapshot = wait(rig.machine.vm.CreateSnapshot_Task("user", "", False, False))
                wait(snapshot.RemoveSnapshot_Task(False, True))

    def revert() -> None:
        snapshot = wait(rig.machine.vm.CreateSnapshot_Task("user", "", False, False))
        rig.write(0)
        wait(snapshot.RevertToSnapshot_Task())
        wait(snapshot.RemoveSnapshot_Task(False, True))
        rig.power_on()

    replica.sync(source)
    for spoiler in (spoil, switch_off_and_on, revert):
        rig.write(0)
        spoiler()
        point, _ = replica.sync(source)
        assert reasons(point) == {"tracking.begun-anew"}, spoiler.__name__
        rig.write(1)
        point, _ = replica.sync(source)
        assert reasons(point) == set(), spoiler.__name__


def test_a_disk_that_grew_and_one_that_came(rig: VsphereRig, source: VsphereSource,
                                            replica: Replica) -> None:
    replica.sync(source)
    disk = next(d for d in rig.machine.vm.config.hardware.device
                if isinstance(d, vim.vm.device.VirtualDisk))
    disk.capacityInKB += 4096
    disk.capacityInBytes += 4096 * 1024
    wait(rig.machine.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
        vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)])))
    new = vim.vm.device.VirtualDisk(
        key=-1, controllerKey=disk.controllerKey, unitNumber=5, capacityInKB=16 * 1024,
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName="[LocalDS_1]", diskMode="persistent", thinProvisioned=True))
    wait(rig.machine.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
        vim.vm.device.VirtualDeviceSpec(operation="add", fileOperation="create", device=new)])))
    point, _ = replica.sync(source)
    assert {d.spec.id: getattr(d.changes, "reason", "") for d in point.disks} == {
        "disk-2000": "tracking.resized", "disk-2001": "", "disk-2005": "tracking.disk-added"}
    point, _ = replica.sync(source)
    assert reasons(point) == set()


@pytest.mark.parametrize("fault", ["InvalidArgument", "FileFault", "NotFound"])
def test_areas_that_are_refused(rig: VsphereRig, source: VsphereSource, replica: Replica,
                                fault: str) -> None:
    replica.sync(source)
    point = opened(source, replica)
    rig.bed.fault("QueryChangedDiskAreas", fault)
    changes = point.disks[0].changes
    assert isinstance(changes, ChangedAreas)
    with pytest.raises(TrackingUnusable) as unusable:
        list(changes.areas)
    assert unusable.value.code == "tracking.refused"
    assert list(changes.areas) == [], "asked again, it is answered: nothing was written"
    point.release()


def test_pages_of_areas(vsphere_factory: Callable[..., Vsphere], tmp_path: Any) -> None:
    bed = vsphere_factory(page=3)
    for rig in made(bed):
        replica = Replica(tmp_path, rig.vm, Numbers())
        with rig.source() as source:
            replica.sync(source)
            for where in range(10):
                rig.machine.write(0, 6 * where * MIB + 1000, os.urandom(5000))
            bed.forget()
            replica.sync(source)
            assert bed.state()["calls"]["QueryChangedDiskAreas"] >= 4


# --- snapshots -----------------------------------------------------------------------------------


def test_snapshots_that_cannot_be_made(rig: VsphereRig, source: VsphereSource,
                                       replica: Replica) -> None:
    rig.bed.fault("CreateSnapshot_Task", "TooManySnapshotLevels")
    with pytest.raises(GiveUp) as many:
        opened(source, replica)
    assert many.value.code == "snapshot.too-many"
    rig.bed.fault("CreateSnapshot_Task", "TaskInProgress")
    with pytest.raises(Retry) as busy:
        opened(source, replica)
    assert busy.value.code == "source.busy"
    rig.bed.full("LocalDS_1")
    with pytest.raises(OutOfSpace) as full:
        opened(source, replica)
    assert full.value.code == "datastore.full" and "LocalDS_1" in str(full.value)
    rig.bed.calm()
    assert rig.machine.snapshots() == []
    replica.sync(source)


def test_a_snapshot_that_is_locked_when_it_goes(rig: VsphereRig, source: VsphereSource,
                                                replica: Replica) -> None:
    point = opened(source, replica)
    with point.disks[0].export.open() as endpoint:
        handle = nbd.NBD()
        handle.connect_uri(endpoint.uri)
        with pytest.raises(Retry) as locked:
            point.commit()
        assert locked.value.code == "source.disk-busy"
        handle.shutdown()
    assert rig.machine.vm.runtime.consolidationNeeded
    point.commit()
    assert rig.machine.snapshots() == [] and not rig.machine.vm.runtime.consolidationNeeded


def test_what_is_not_ours_stays(rig: VsphereRig, source: VsphereSource,
                                replica: Replica) -> None:
    """Snapshots of the machine's owner, and of another rule."""
    wait(rig.machine.vm.CreateSnapshot_Task("before the upgrade", "by hand", False, False))
    other = Numbers()
    kept = source.open_point(rig.vm, None, "off", other.next())
    replica.sync(source)
    rig.write(0)
    replica.sync(source)
    source.sweep(rig.vm, replica.numbers.rule, ())
    assert rig.machine.snapshots() == ["before the upgrade", f"hs-{other.rule}-e1-t1-i1"]
    kept.healthy()
    kept.commit()
    assert rig.machine.snapshots() == ["before the upgrade"]


def test_an_instant_that_somebody_deletes(rig: VsphereRig, source: VsphereSource,
                                          replica: Replica) -> None:
    """What was read of it is good, and what was written since is told by its change ids."""
    replica.sync(source)
    rig.write(0)
    point = opened(source, replica)
    replica.apply(point)
    wait(rig.machine.vm.RemoveAllSnapshots_Task())
    with pytest.raises(InstantLost) as lost:
        point.healthy()
    assert lost.value.tracking == point.token
    rig.write(1)
    replica.token = lost.value.tracking
    after, _ = replica.sync(source)
    assert reasons(after) == set()


def test_a_snapshot_with_our_name_that_is_not_ours(rig: VsphereRig, source: VsphereSource,
                                                   numbers: Numbers) -> None:
    intent = numbers.next()
    wait(rig.machine.vm.CreateSnapshot_Task(str(intent), "not JSON", False, False))
    with pytest.raises(GiveUp) as foreign:
        source.open_point(rig.vm, None, "off", intent)
    assert foreign.value.code == "source.foreign-snapshot"


# --- the way to it -------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("method", [
    "Login", "FindByUuid", "CreateContainerView", "RetrievePropertiesEx", "ReconfigVM_Task",
    "CreateSnapshot_Task", "QueryChangedDiskAreas", "RemoveSnapshot_Task"])
def test_connections_cut_in_each_call(rig: VsphereRig, replica: Replica, numbers: Numbers,
                                      method: str, after: bool) -> None:
    """Before the work is done, and after it: repeated, it is done once."""
    ref = rig.machine.uuid
    with rig.source() as source:
        if method != "ReconfigVM_Task":
            replica.sync(source)
            rig.write(0)
    for skip in range(3):
        with rig.source() as source:
            if method not in ("RemoveSnapshot_Task", "QueryChangedDiskAreas"):
                rig.bed.fault(method, drop=True, after=after, skip=skip)
            intent = numbers.next()
            point = persistent(lambda s=source, i=intent: s.open_point(
                ref if method == "FindByUuid" else rig.vm, replica.token, "off", i))
            assert rig.machine.snapshots() == [str(intent)]
            if method == "QueryChangedDiskAreas":
                rig.bed.fault(method, drop=True, after=after)
                with pytest.raises(Reconnect):
                    list(point.disks[0].changes.areas)
                point = source.open_point(rig.vm, replica.token, "off", intent)
            rig.bed.calm()
            replica.apply(point)
            assert replica.differences(point) == []
            replica.token = point.token
            if method == "RemoveSnapshot_Task":
                rig.bed.fault(method, drop=True, after=after)
                with pytest.raises(Reconnect):
                    point.commit()
                source.sweep(rig.vm, numbers.rule, (), (str(intent),))
            else:
                point.commit()
            assert rig.machine.snapshots() == []
        rig.write(skip % 2)


def test_a_session_that_ends(rig: VsphereRig, source: VsphereSource, replica: Replica) -> None:
    point = opened(source, replica)
    rig.bed.fault("RetrievePropertiesEx", "NotAuthenticated")
    with pytest.raises(Reconnect) as ended:
        point.healthy()
    assert ended.value.code == "vsphere.session-ended"
    point.healthy()
    replica.apply(point)
    point.commit()


def test_who_is_not_let_in(rig: VsphereRig) -> None:
    cases: list[tuple[dict[str, str], str]] = [
        ({"user": "nobody"}, "platform.auth"),
        ({"thumbprint": ":".join(["AB"] * 20)}, "vsphere.thumbprint-other"),
        ({"thumbprint": ""}, "vsphere.thumbprint-unknown"),
        ({"user": ""}, "vsphere.user")]
    for options, code in cases:
        with rig.platform(**options) as platform:
            report = platform.inventory.check()
            assert not report.ok and [c.code for c in report.checks] == [code]
            if code.startswith("vsphere.thumbprint"):
                assert rig.bed.thumbprint in report.checks[0].detail, "shown, to be compared"
            with pytest.raises(GiveUp):
                platform.source.inspect(rig.vm)
    with pytest.raises(GiveUp) as form, rig.platform(thumbprint="12:34"):
        pass
    assert form.value.code == "vsphere.thumbprint-form"


def test_privileges_are_named(rig: VsphereRig, numbers: Numbers) -> None:
    lacking = ["VirtualMachine.State.CreateSnapshot", "VirtualMachine.Config.ChangeTracking"]
    for privilege in lacking:
        rig.bed.deny(privilege)
    with rig.platform() as platform:
        report = platform.inventory.check()
        assert not report.ok
        assert sorted(c.fields["privilege"] for c in report.checks if not c.ok) == sorted(lacking)
        with pytest.raises(GiveUp) as denied:
            platform.source.open_point(rig.vm, None, "off", numbers.next())
        assert denied.value.code == "vsphere.privilege"
        assert "VirtualMachine.Config.ChangeTracking" in str(denied.value)
    rig.bed.calm()
    rig.bed.deny("VirtualMachine.Inventory.Create")
    with rig.platform() as platform:
        report = platform.inventory.check()
        assert report.ok, "a source can do without"
        told = next(c.detail for c in report.checks if c.name == "target")
        assert told == "as a source only, without VirtualMachine.Inventory.Create"


@pytest.mark.parametrize(("options", "code"), [
    ({"vddk_libdir": "/nowhere"}, "vddk.missing"),
    ({"vddk_plugin": "sh"}, "vddk.untrusted"),
    ({"vddk_plugin": "/tmp/nbdkit-vddk-plugin.so"}, "vddk.missing")])
def test_a_library_that_is_not_there(rig: VsphereRig, numbers: Numbers, options: dict[str, str],
                                     code: str) -> None:
    with rig.platform(transports="vddk", **options) as platform:
        report = platform.inventory.check()
        assert [c.code for c in report.checks if not c.ok] == [code]
        point = platform.source.open_point(rig.vm, None, "off", numbers.next())
        with pytest.raises(HotspareError) as refused, point.disks[0].export.open():
            pass
        assert refused.value.code in {code, "vsphere.no-transport"}
        point.release()


# --- transports ----------------------------------------------------------------------------------


def test_a_machine_that_is_off_is_read_without_the_library(
        rig: VsphereRig, replica: Replica) -> None:
    with rig.source(vddk_libdir="/nowhere") as source:
        point = opened(source, replica)
        with pytest.raises(Refused) as runs, point.disks[0].export.open():
            pass
        assert runs.value.code == "vsphere.no-transport"
        assert "vddk.missing" in str(runs.value) and "folder.runs" in str(runs.value)
        point.release()
        rig.shut_down()
        point, _ = replica.sync(source)
        assert {d.transport for d in point.disks} == {"folder"}
        wait(rig.machine.vm.CreateSnapshot_Task("user", "", False, False))
        point = opened(source, replica)
        with pytest.raises(Refused) as above, point.disks[0].export.open():
            pass
        assert "folder.snapshots" in str(above.value), "never the stale file below"
        point.release()
    rig.power_on()


def test_lan_free(rig: VsphereRig, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    for modes, asked, used in (("san:hotadd:nbdssl:nbd", True, "vddk (san)"),
                               ("nbdssl:nbd", True, "vddk (nbdssl)"),
                               ("san:hotadd:nbdssl:nbd", False, "vddk (nbdssl)")):
        monkeypatch.setenv("HS_VDDK_TRANSPORTS", modes)
        with rig.source() as source:
            point = source.open_point(rig.vm, replica.token, "off", replica.numbers.next(), asked)
            replica.apply(point)
            assert {d.transport for d in point.disks if d.transport} <= {used}
            assert point.disks[0].transport == used or replica.token
            replica.token = point.token
            point.commit()
            rig.write(0)


def test_what_an_opened_disk_complains_of_is_told(rig: VsphereRig, source: VsphereSource,
                                                  replica: Replica) -> None:
    point = opened(source, replica)
    rig.bed.fault("vddk-open", "CannotAccessFile", count=1)
    with point.disks[0].export.open() as endpoint:
        handle = nbd.NBD()
        with pytest.raises(nbd.Error):
            handle.connect_uri(endpoint.uri)
            handle.pread(512, 0)
        assert "VixDiskLib" in endpoint.complaint()
    replica.apply(point)
    point.commit()


# --- many points ---------------------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mode", "firmware"), [
    ("vcenter", "efi"), pytest.param("esxi", "bios", marks=pytest.mark.soak)])
def test_twenty_points_while_the_guest_writes(
        vsphere: Vsphere, request: pytest.FixtureRequest, tmp_path: Any, mode: str,
        firmware: str) -> None:
    """Three disks on two datastores; incremental runs read what changed, and nothing else."""
    bed = vsphere if mode == "vcenter" else request.getfixturevalue("esxi")
    for rig in made(bed, firmware, disks=3):
        replica = Replica(tmp_path, rig.vm, Numbers())
        rig.machine.writer(100)
        with rig.source() as source:
            for number in range(20):
                if number == 10:
                    replica.token = None        # a full copy in between
                point = source.open_point(rig.vm, replica.token, "off", replica.numbers.next())
                bed.forget()
                moved = replica.apply(point)
                traffic = bed.state()["traffic"]
                assert traffic["Largest"] <= 2 << 20
                assert traffic["MostBuffered"] <= 32 << 20
                if replica.token is not None:
                    # what is not a multiple of its request is read as a whole by the filter
                    assert traffic["Read"] <= sum(moved.values()) * 1.05 + MIB
                for disk, device in zip(point.disks, rig.machine.vm.snapshot.currentSnapshot.config
                                        .hardware.device[-len(point.disks):], strict=True):
                    frozen = next(d for d in rig.machine.vm.snapshot.currentSnapshot.config
                                  .hardware.device if f"disk-{d.key}" == disk.spec.id)
                    held = rig.machine.content(frozen.backing.fileName).read_bytes()
                    assert replica.image(disk).read_bytes() == held, (number, device.key)
                replica.token = point.token
                point.commit()
            source.sweep(rig.vm, replica.numbers.rule, ())
        assert rig.machine.snapshots() == []
        assert list(rig.left(replica.numbers.rule)) == []
