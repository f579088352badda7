"""A source machine on vSphere takes back what its replica became, and can be put back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbd
import pytest
from pyVmomi import vim

import hotspare
from hotspare.domain.errors import Fenced, ForeignChange, HotspareError, Reconnect, Refused
from hotspare.domain.extents import BLOCK, Extent
from hotspare.platforms.port import (
    ChangedAreas,
    Changes,
    Intent,
    Token,
    Unknown,
    WriteBackSession,
)
from hotspare.platforms.vsphere import snapshots
from hotspare.platforms.vsphere.platform import VspherePlatform
from testbeds.vsphere.bed import Vsphere, wait

from .source_vsphere_rig import VsphereRig, made
from .target_rig import Reader, content_of


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
def origin() -> Intent:
    return Intent(os.urandom(4).hex(), 1, 1)


def ignore(done: int, total: int) -> None:
    assert 0 <= done <= total


def blocks(*numbers: int) -> list[Extent]:
    return [Extent(n * BLOCK, BLOCK) for n in numbers]


def contents(rig: VsphereRig) -> list[bytes]:
    """All bytes of its disks as they are now."""
    return [rig.machine.content(d.file).read_bytes() for d in rig.machine.disks]


def ids(rig: VsphereRig) -> list[str]:
    return [f"disk-{d.key}" for d in rig.machine.disks]


def numbers(changes: Changes) -> list[int]:
    assert isinstance(changes, ChangedAreas), changes
    return [n for a in changes.areas for n in range(a.offset // BLOCK, -(-a.end // BLOCK))]


def overwrite(session: WriteBackSession, disk: str, extents: list[Extent], pattern: int) -> None:
    session.preserve(disk, extents, ignore)
    with Reader(session.disks[disk]) as handle:
        for offset, length in extents:
            handle.pwrite(bytes([pattern]) * length, offset)
        handle.flush()


def put_back(session: WriteBackSession) -> None:
    for disk, export in session.disks.items():
        kept = session.preserved(disk)
        if kept is None:
            continue
        assert isinstance(kept.holds, ChangedAreas)
        with Reader(kept.export) as old, Reader(export) as new:
            for offset, length in kept.holds.areas:
                new.pwrite(bytes(old.pread(length, offset)), offset)
            new.flush()
        session.resize(disk, kept.size)


def left(rig: VsphereRig, rule: str) -> list[str]:
    return [*rig.left(rule),
            *(f"option {o.key}" for o in rig.machine.vm.config.extraConfig if rule in o.key),
            *(f"directory {p.name}" for store in rig.bed.datastores()
              for p in Path(store.info.url).iterdir() if rule in p.name)]


def remove_snapshot(platform: VspherePlatform, rig: VsphereRig, part: str) -> None:
    """As its owner would."""
    found = snapshots.names(platform.connection, rig.machine.vm)
    wait(next(ref for name, ref in found.items() if part in name)
         .RemoveSnapshot_Task(removeChildren=False))


def look(platform: VspherePlatform, rig: VsphereRig, origin: Intent, sealed: bool = True,
         base: Token | None = None) -> bool:
    """A session that writes a little; whether it found the disks untouched."""
    session = platform.write_back.open(rig.vm, base, origin, 1)
    overwrite(session, ids(rig)[1], blocks(70), 0xAA)
    found = session.untouched
    session.close(sealed)
    return found


def test_what_is_overwritten_comes_back(rig: VsphereRig, origin: Intent) -> None:
    before, (one, two) = contents(rig), ids(rig)
    with rig.platform() as platform:
        writer = platform.write_back
        assert not writer.undo_exists(rig.vm, origin)
        session = writer.open(rig.vm, None, origin, 1)
        assert set(session.disks) == {one, two} and session.vm.name == rig.vm
        assert [session.preserved(d) for d in (one, two)] == [None, None]
        overwrite(session, one, blocks(0, 48, 49, 1023), 0xAA)
        assert contents(rig)[0] != before[0] and contents(rig)[1] == before[1]
        session.close(sealed=True)
        assert writer.undo_exists(rig.vm, origin)
        # by another process, which overwrites some of it once more
        session = writer.open(rig.vm, None, origin, 1)
        overwrite(session, one, blocks(48, 100), 0xBB)
        overwrite(session, two, blocks(3), 0xCC)
        kept = session.preserved(one)
        assert kept is not None and kept.size == len(before[0])
        assert numbers(kept.holds) == [0, 48, 49, 100, 1023]
        assert content_of(kept.export) == before[0]
        put_back(session)
        session.close(sealed=False)
        assert contents(rig) == before
        gone = writer.clear(rig.vm, origin)
        assert [x.kind for x in gone][-1] == "undo" and not any(x.error for x in gone)
        assert not writer.undo_exists(rig.vm, origin) and writer.clear(rig.vm, origin) == []
    assert contents(rig) == before and left(rig, origin.rule) == []


def test_committed(rig: VsphereRig, origin: Intent) -> None:
    """What a failback wrote stays when all that it kept is dropped, also while the machine runs."""
    with rig.platform() as platform:
        session = platform.write_back.open(rig.vm, None, origin, 1)
        overwrite(session, ids(rig)[0], blocks(5), 0xAA)
        session.close(sealed=False)
        after = contents(rig)
        rig.power_on()
        platform.write_back.clear(rig.vm, origin)
    assert contents(rig) == after and after[0][5 * BLOCK:6 * BLOCK] == b"\xaa" * BLOCK
    assert left(rig, origin.rule) == []


def test_untouched(rig: VsphereRig, origin: Intent) -> None:
    with rig.platform() as platform:
        # what we write ourselves, before we seal, does not count
        assert [look(platform, rig, origin) for _ in range(3)] == [False, True, True]
        assert len([n for n in rig.machine.snapshots() if origin.rule in n]) == 2
        rig.power_on()
        rig.shut_down()
        assert look(platform, rig, origin)
        rig.power_on()
        rig.machine.write(1, 0, b"9" * 512)
        rig.shut_down()
        assert not look(platform, rig, origin)
        assert look(platform, rig, origin)
        rig.machine.write(0, 0, b"9" * 512)             # another program
        assert not look(platform, rig, origin)
        rig.power_on()
        rig.machine.spoil_tracking()                    # what it wrote is not known
        rig.shut_down()
        assert not look(platform, rig, origin)
        assert look(platform, rig, origin, sealed=False)
        assert not look(platform, rig, origin)
        remove_snapshot(platform, rig, ".at-")
        assert not look(platform, rig, origin)          # its owner removed the seal
        platform.write_back.clear(rig.vm, origin)
    assert left(rig, origin.rule) == []


def test_changes_since_a_base(rig: VsphereRig, origin: Intent) -> None:
    """What the session writes is not among them, and what earlier ones wrote is, also where the
    platform does not tell it."""
    one, two = ids(rig)
    with rig.platform() as platform:
        rig.power_on()
        point = platform.source.open_point(rig.vm, None, "off", Intent(origin.rule, 1, 9))
        base = point.token
        point.commit()
        rig.machine.write(0, 5 * BLOCK, b"9" * 512)
        rig.shut_down()
        writer = platform.write_back
        session = writer.open(rig.vm, base, origin, 1)
        assert numbers(session.changes(one)) == [5] and numbers(session.changes(two)) == []
        overwrite(session, one, blocks(20), 0xAA)
        assert numbers(session.changes(one)) == [5]
        session.preserve(two, blocks(7), ignore)        # and was killed before it wrote
        session.close(sealed=True)
        session = writer.open(rig.vm, base, origin, 1)
        assert session.untouched
        assert numbers(session.changes(one)) == [5, 20] and numbers(session.changes(two)) == [7]
        overwrite(session, one, blocks(30), 0xAA)
        session.close(sealed=False)
        session = writer.open(rig.vm, base, origin, 1)
        assert numbers(session.changes(one)) == [5, 20, 30]
        session.close(sealed=False)
        session = writer.open(rig.vm, None, origin, 1)
        assert session.changes(one) == Unknown("first-copy")
        session.close(sealed=False)
        rig.power_on()
        rig.machine.spoil_tracking()
        rig.shut_down()
        session = writer.open(rig.vm, base, origin, 1)
        assert session.changes(one) == Unknown("tracking.begun-anew")
        session.close(sealed=False)
        writer.clear(rig.vm, origin)
    assert left(rig, origin.rule) == []


def test_the_next_run_is_incremental(rig: VsphereRig, origin: Intent) -> None:
    one = ids(rig)[0]
    with rig.platform() as platform:
        rig.power_on()
        point = platform.source.open_point(rig.vm, None, "off", Intent(origin.rule, 1, 9))
        head = point.token
        point.commit()
        rig.shut_down()
        session = platform.write_back.open(rig.vm, head, origin, 1)
        overwrite(session, one, blocks(3), 0xAA)
        session.close(sealed=False)
        switched = platform.write_back.power_on(rig.vm, Intent(origin.rule, 1, 10))
        assert switched is not None and rig.running()
        rig.machine.write(0, 40 * BLOCK, b"9" * 512)
        platform.write_back.clear(rig.vm, origin)
        for base, found in ((switched, [40]), (head, [3, 40])):
            point = platform.source.open_point(rig.vm, base, "off", Intent(
                origin.rule, 1, 11, len(found)))
            assert numbers(point.disks[0].changes) == found
            point.release()
        point = platform.source.open_point(rig.vm, switched, "off", Intent(origin.rule, 1, 12))
        point.commit()
    assert left(rig, origin.rule) == []


# --- who may -------------------------------------------------------------------------------------


def code(platform: VspherePlatform, rig: VsphereRig, origin: Intent, epoch: int = 1) -> str:
    with pytest.raises(HotspareError) as caught:
        platform.write_back.open(rig.vm, None, origin, epoch)
    return caught.value.code


def test_a_machine_that_is_not_off(rig: VsphereRig, origin: Intent) -> None:
    with rig.platform() as platform:
        rig.power_on()
        assert code(platform, rig, origin) == "source.runs"
        wait(rig.machine.vm.SuspendVM_Task())
        assert code(platform, rig, origin) == "source.saved"
        rig.power_on()
        rig.shut_down()
        assert left(rig, origin.rule) == []
        session = platform.write_back.open(rig.vm, None, origin, 1)
        # while a disk is open the host keeps it from starting
        with Reader(session.disks[ids(rig)[0]]), pytest.raises(vim.fault.FileLocked):
            rig.power_on()
        rig.power_on()
        with pytest.raises(Refused) as caught, Reader(session.disks[ids(rig)[0]]):
            pass
        assert caught.value.code == "source.runs"
        session.close(sealed=False)
        platform.write_back.clear(rig.vm, origin)
    assert left(rig, origin.rule) == []


def test_the_fence(rig: VsphereRig, origin: Intent) -> None:
    """The session of a lower epoch, also one of another process, opens no disk any more."""
    disk = ids(rig)[0]
    with rig.platform() as one, rig.platform() as two:
        first = one.write_back.open(rig.vm, None, origin, 1)
        overwrite(first, disk, blocks(1), 0xAA)
        second = two.write_back.open(rig.vm, None, origin, 2)
        with pytest.raises(Fenced), Reader(first.disks[disk]):
            pass
        with pytest.raises(Reconnect):          # in one process it is ended
            first.preserve(disk, blocks(2), ignore)
        from hotspare.platforms.vsphere.kept import Kept
        from hotspare.platforms.vsphere.writeback_session import _DiskOfSource
        old = _DiskOfSource(Kept(one.connection, rig.machine.vm, origin), 1, disk)
        with pytest.raises(Fenced), Reader(old):
            pass
        overwrite(second, disk, blocks(3), 0xBB)
        assert code(one, rig, origin, epoch=1) == "rule.fenced"
        first.close(sealed=True)
        second.close(sealed=True)
        third = two.write_back.open(rig.vm, None, origin, 2)
        assert third.untouched
        third.close(sealed=False)
        two.write_back.clear(rig.vm, origin)
    assert left(rig, origin.rule) == []


def test_an_older_configuration_is_not_written(rig: VsphereRig, origin: Intent) -> None:
    with rig.platform() as platform:
        from hotspare.platforms.vsphere.undo_mark import Mark
        config = platform.connection.read(rig.machine.vm, "config")["config"]
        machine, storage = rig.machine.vm, "LocalDS_0"
        Mark(2, storage).write(platform.connection, machine, config, origin)
        with pytest.raises(HotspareError) as caught:
            Mark(1, storage).write(platform.connection, machine, config, origin)
        assert caught.value.code == "source.busy"
        assert code(platform, rig, origin) == "rule.fenced"
        platform.write_back.clear(rig.vm, origin)
    assert left(rig, origin.rule) == []


def test_an_undo_that_is_gone(rig: VsphereRig, origin: Intent) -> None:
    with rig.platform() as platform:
        session = platform.write_back.open(rig.vm, None, origin, 1)
        overwrite(session, ids(rig)[0], blocks(1), 0xAA)
        remove_snapshot(platform, rig, ".undo")
        with pytest.raises(ForeignChange) as caught, Reader(session.disks[ids(rig)[0]]):
            pass
        assert caught.value.code == "undo.missing"
        session.close(sealed=False)
        assert code(platform, rig, origin) == "undo.missing"
        platform.write_back.clear(rig.vm, origin)
    assert left(rig, origin.rule) == []


def test_sizes_and_firmware(rig: VsphereRig, origin: Intent) -> None:
    disk, size = ids(rig)[0], rig.machine.disks[0].size
    with rig.platform() as platform:
        session = platform.write_back.open(rig.vm, None, origin, 1)
        session.resize(disk, size)
        for wanted, why in ((size - BLOCK, "disk.not-smaller"), (size + BLOCK, "disk.resize")):
            with pytest.raises(Refused) as caught:
                session.resize(disk, wanted)
            assert caught.value.code == why
        session.preserve_firmware()
        session.restore_firmware_state()
        with pytest.raises(Refused) as caught:
            session.write_firmware_state(b"1")
        assert caught.value.code == "firmware.size"
        session.close(sealed=False)
        platform.write_back.clear(rig.vm, origin)
    assert left(rig, origin.rule) == []


def test_a_machine_that_is_gone(bed: Vsphere, origin: Intent) -> None:
    for rig in made(bed):
        rig.shut_down()
        name, machine = rig.vm, rig.machine.vm
        with rig.platform() as platform:
            session = platform.write_back.open(name, None, origin, 1)
            session.preserve(ids(rig)[0], blocks(1), ignore)
            session.close(sealed=False)
            machine.Rename_Task("another")
            assert [x.kind for x in platform.write_back.clear(name, origin)] == ["undo"]
            assert platform.write_back.clear(name, origin) == []
            machine.Rename_Task(name)
            platform.write_back.clear(name, origin)
        assert left(rig, origin.rule) == []


# --- what vSphere refuses ------------------------------------------------------------------------

FAULTS = (
    ("CreateSnapshot_Task", {"fault": "SnapshotFault"}),
    ("CreateSnapshot_Task", {"drop": True, "after": True}),
    ("CreateSnapshot_Task", {"fault": "TooManySnapshotLevels", "skip": 1}),
    ("ReconfigVM_Task", {"fault": "TaskInProgress", "skip": 1}),
    ("ReconfigVM_Task", {"drop": True, "after": True}),
    ("RemoveSnapshot_Task", {"fault": "FileLocked"}),
    ("RemoveSnapshot_Task", {"drop": True, "after": True}),
    ("QueryChangedDiskAreas", {"fault": "FileFault"}),
    ("MakeDirectory", {"drop": True, "after": True}),
    ("MoveDatastoreFile_Task", {"fault": "CannotAccessFile"}),
    ("MoveDatastoreFile_Task", {"drop": True, "after": True}),
    ("SearchDatastore_Task", {"fault": "FileFault", "skip": 1}),
    ("vddk-open", {"fault": "NfcBuffers"}),
    ("RetrievePropertiesEx", {"fault": "NotAuthenticated", "skip": 6}))


@pytest.mark.parametrize(("method", "how"), [
    pytest.param(*fault, marks=pytest.mark.soak if place % 2 else ()) for place, fault
    in enumerate(FAULTS)])
def test_a_fault(rig: VsphereRig, origin: Intent, method: str, how: dict[str, Any]) -> None:
    """One in a call of each kind, before or after its work was done: done again it is right, and
    all can be put back."""
    before, disk = contents(rig), ids(rig)[0]

    def passes(platform: VspherePlatform) -> None:
        for number in (1, 2):
            session = platform.write_back.open(rig.vm, None, origin, 1)
            overwrite(session, disk, blocks(number, 30 + number), number)
            session.close(sealed=True)

    def until_done(what: Callable[[VspherePlatform], object]) -> None:
        for _ in range(3):
            with rig.platform() as platform, contextlib.suppress(HotspareError, nbd.Error):
                what(platform)
                return
        with rig.platform() as platform:
            what(platform)

    rig.bed.fault(method, **how)
    until_done(passes)
    expected = bytearray(before[0])
    for number in (1, 2):
        for block in (number, 30 + number):
            expected[block * BLOCK:(block + 1) * BLOCK] = bytes([number]) * BLOCK
    assert contents(rig) == [bytes(expected), before[1]]
    with rig.platform() as platform:
        session = platform.write_back.open(rig.vm, None, origin, 1)
        put_back(session)
        session.close(sealed=False)
    assert contents(rig) == before
    rig.bed.calm()
    rig.bed.fault(method, **how)
    until_done(lambda platform: platform.write_back.clear(rig.vm, origin))
    assert contents(rig) == before and left(rig, origin.rule) == []


def test_a_full_datastore(rig: VsphereRig, origin: Intent) -> None:
    before = contents(rig)
    with rig.platform() as platform:
        rig.bed.full("LocalDS_0")
        assert code(platform, rig, origin) in {"datastore.full", "snapshot.failed"}
        rig.bed.calm()
        session = platform.write_back.open(rig.vm, None, origin, 1)
        overwrite(session, ids(rig)[0], blocks(1), 1)
        put_back(session)
        session.close(sealed=False)
        platform.write_back.clear(rig.vm, origin)
    assert contents(rig) == before and left(rig, origin.rule) == []


# --- killed --------------------------------------------------------------------------------------

_CHILD = """
import json, sys
from hotspare.platforms.port import Intent, PlatformAccess
from hotspare.platforms.vsphere import snapshots
from hotspare.platforms.vsphere.platform import VspherePlatform
from hotspare.domain.extents import Extent

order = json.loads(sys.argv[1])
kind, uri, options, secret = order["access"]
platform = VspherePlatform(PlatformAccess("child", kind, uri, options, secret))
origin = Intent(*order["origin"])
session = platform.write_back.open(order["vm"], None, origin, 1)
import nbd
for disk, export in session.disks.items():
    session.preserve(disk, [Extent(0, 65536)], lambda done, total: None)
    with export.open() as endpoint:
        handle = nbd.NBD()
        handle.connect_uri(endpoint.uri)
        handle.pwrite(b"x" * 512, 0)
        handle.flush()
        handle.shutdown()
session.close(True)
platform.write_back.clear(order["vm"], origin)
"""

POINTS = ("after-mark", "after-undo", "after-note", "after-instant", "before-seal",
          "snapshots-gone", "files-gone")


@pytest.mark.parametrize("point", POINTS)
def test_killed(rig: VsphereRig, origin: Intent, point: str) -> None:
    """Wherever: the next session goes on, and until the end begins all can be put back."""
    before, access = contents(rig), rig.access()
    order = {"access": (access.kind, access.uri, dict(access.options), access.secret),
             "vm": rig.vm, "origin": (origin.rule, origin.epoch, origin.task)}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(order)], capture_output=True, text=True,
        timeout=120, check=False, env={
            **os.environ, "HOTSPARE_FAULT": f"write-back.{point}:kill",
            "PYTHONPATH": str(Path(hotspare.__file__).parents[1])})
    assert done.returncode == -signal.SIGKILL, (done.returncode, done.stderr[-2000:])
    with rig.platform() as platform:
        assert platform.write_back.undo_exists(rig.vm, origin)
        if point not in {"snapshots-gone", "files-gone"}:
            session = platform.write_back.open(rig.vm, None, origin, 1)
            assert not session.untouched
            put_back(session)
            session.close(sealed=False)
            assert contents(rig) == before
        platform.write_back.clear(rig.vm, origin)
    assert left(rig, origin.rule) == []
