"""What happens to a machine between and during runs: the table of design section 6, row by row."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hotspare.domain.errors import HotspareError, InstantLost, OutOfSpace, Reconnect, Retry
from hotspare.platforms.libvirt.source import LibvirtSource
from hotspare.platforms.port import DirtyContext, PointInTime, Unknown
from testbeds.kvm import Guest, Lab

from . import source_process
from .source_libvirt_rig import LibvirtRig
from .source_reader import Replica
from .source_rig import Numbers

MIB = 1024 * 1024


@pytest.fixture
def numbers(libvirt_rig: LibvirtRig) -> Iterator[Numbers]:
    numbers = Numbers()
    yield numbers
    libvirt_rig.host.start()
    with libvirt_rig.source() as source:
        source.sweep(libvirt_rig.vm, numbers.rule, ())
    assert list(libvirt_rig.left(numbers.rule)) == []
    assert libvirt_rig.running()


@pytest.fixture
def rig(libvirt_rig: LibvirtRig) -> LibvirtRig:
    return libvirt_rig


@pytest.fixture
def source(rig: LibvirtRig) -> Iterator[LibvirtSource]:
    with rig.source() as source:
        yield source


@pytest.fixture
def replica(tmp_path: Path, rig: LibvirtRig, numbers: Numbers) -> Replica:
    return Replica(tmp_path, rig.vm, numbers)


def incremental(point: PointInTime) -> list[bool]:
    return [isinstance(d.changes, DirtyContext) for d in point.disks]


# --- the guest and its QEMU --------------------------------------------------------------------


def test_hard_reset(rig: LibvirtRig, source: LibvirtSource, replica: Replica) -> None:
    replica.sync(source)
    rig.write(0)
    rig.guest.mark()
    rig.domain().reset(0)
    rig.guest.wait_ready()
    rig.guest.wait_agent()
    rig.write(1)
    point, _ = replica.sync(source)
    assert incremental(point) == [True, True]


def test_qemu_killed(rig: LibvirtRig, source: LibvirtSource, replica: Replica) -> None:
    """Once the bitmaps were stored by a clean stop (they come back inconsistent), then when they
    were not (they are gone): error 109 both times. The next run after each tracks again."""
    replica.sync(source)
    rig.shut_down()
    rig.power_on()
    for _ in range(2):
        rig.write(0)
        rig.guest.kill9()
        rig.power_on()
        point, _ = replica.sync(source)
        assert [d.changes for d in point.disks] == [Unknown("tracking.broken")] * 2
        rig.write(1)
        point, _ = replica.sync(source)
        assert incremental(point) == [True, True]
    assert rig.checkpoints(replica.numbers.rule) == [source.token_name(replica.token or {})]
    # no bitmap of an older base stays in the images
    info = subprocess.run(["qemu-img", "info", "-U", str(rig.guest.disk_paths[0])],
                          capture_output=True, text=True, check=True).stdout
    assert info.count(f"hs-{replica.numbers.rule}") <= 1


def test_qemu_killed_during_run(rig: LibvirtRig, source: LibvirtSource,
                                replica: Replica) -> None:
    replica.sync(source)
    intent = replica.numbers.next()
    point = source.open_point(rig.vm, replica.token, "off", intent)
    rig.guest.kill9()
    with pytest.raises(InstantLost) as lost:
        point.healthy()
    assert lost.value.tracking is None
    rig.power_on()
    with pytest.raises(InstantLost) as lost:
        source.open_point(rig.vm, replica.token, "off", intent)
    assert lost.value.tracking is None
    replica.sync(source)


def test_shut_down_during_run(rig: LibvirtRig, source: LibvirtSource, replica: Replica) -> None:
    """The bitmaps of a QEMU that ends in order are good: the next pass reads what changed since
    the lost instant, of the machine that is off now."""
    replica.sync(source)
    rig.write(0)
    point = source.open_point(rig.vm, replica.token, "off", replica.numbers.next())
    replica.apply(point)
    rig.write(1)
    rig.shut_down()
    try:
        with pytest.raises(InstantLost) as lost:
            point.healthy()
        assert lost.value.tracking == point.token != replica.token
        again = source.open_point(rig.vm, lost.value.tracking, "off", replica.numbers.next())
        assert again.consistency == "off" and incremental(again) == [True, True]
        replica.apply(again)
        assert replica.differences(again) == []
        # the machine cannot start on disks that are being read
        with pytest.raises(libvirt.libvirtError):
            rig.domain().create()
        replica.token = again.token
        again.commit()
    finally:
        rig.power_on()
    replica.sync(source)


def test_off_with_broken_tracking(rig: LibvirtRig, source: LibvirtSource,
                                  replica: Replica) -> None:
    replica.sync(source)
    rig.shut_down()
    rig.power_on()
    rig.guest.kill9()
    try:
        point = source.open_point(rig.vm, replica.token, "off", replica.numbers.next())
        assert [d.changes for d in point.disks] == [Unknown("tracking.broken")] * 2
        assert point.token is None
        replica.apply(point)
        assert replica.differences(point) == []
        point.commit()
    finally:
        rig.power_on()


def test_off_process_dies(rig: LibvirtRig, source: LibvirtSource, replica: Replica) -> None:
    """Our death never keeps a machine from starting."""
    replica.sync(source)
    rig.shut_down()
    intent = replica.numbers.next()
    process = source_process.start(rig, replica.token, "off", intent)
    source_process.opened(process)
    process.kill()
    process.wait()
    rig.power_on()
    replica.sync(source)


# --- disks -------------------------------------------------------------------------------------


def test_disk_grows(rig: LibvirtRig, source: LibvirtSource, replica: Replica) -> None:
    replica.sync(source)
    size = 1024 * MIB + 64 * MIB
    rig.domain().blockResize("vdb", size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    assert rig.guest.exec("dd if=/dev/urandom of=/dev/vdb bs=64k seek=16600 count=4 "
                          "conv=fsync,notrunc").rc == 0
    point, moved = replica.sync(source)
    assert incremental(point) == [True, True]
    assert point.disks[1].spec.size == size and moved["vdb"] >= 4 * 65536


@contextlib.contextmanager
def added_disk(rig: LibvirtRig, name: str, fmt: str, dev: str,
               *options: str) -> Iterator[None]:
    path = rig.host.storage_dir / f"{name}.{fmt}"
    subprocess.run(["qemu-img", "create", "-q", "-f", fmt, *options, path, "64M"], check=True)
    rig.host.identity.own(path)
    xml = (f"<disk type='file' device='disk'><driver name='qemu' type='{fmt}'/>"
           f"<source file='{path}'/><target dev='{dev}' bus='virtio'/></disk>")
    domain = rig.domain()
    domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    try:
        # the guest gives it the next free name, and hotplug by PCIe takes it some seconds
        script = ("i=0; while [ ! -b /dev/vdc ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done; "
                  "[ -b /dev/vdc ] && dd if=/dev/urandom of=/dev/vdc bs=1M count=2 conv=fsync")
        assert rig.guest.exec(script).rc == 0
        yield
    finally:
        domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        for _ in range(100):
            if f"'{dev}'" not in domain.XMLDesc(0):
                break
            time.sleep(0.1)
        path.unlink()


def test_disk_added_and_removed(rig: LibvirtRig, source: LibvirtSource,
                                replica: Replica) -> None:
    replica.sync(source)
    with added_disk(rig, "added", "qcow2", "vdz"):
        rig.write(0)
        point, _ = replica.sync(source)
        assert [d.changes for d in point.disks][2] == Unknown("tracking.disk-added")
        assert incremental(point) == [True, True, False]
        point, _ = replica.sync(source)
        assert incremental(point) == [True, True, True]
    rig.write(1)
    point, _ = replica.sync(source)
    assert incremental(point) == [True, True]


def test_raw_disk(rig: LibvirtRig, source: LibvirtSource, replica: Replica) -> None:
    with added_disk(rig, "plain", "raw", "vdy"):
        assert [d.tracking for d in source.inspect(rig.vm).disks] == [True, True, False]
        for _ in range(2):
            point, _ = replica.sync(source)
            assert point.disks[2].changes == Unknown("tracking.raw")
        assert incremental(point) == [True, True, False]


def test_old_image_format(rig: LibvirtRig, source: LibvirtSource, replica: Replica) -> None:
    with added_disk(rig, "old", "qcow2", "vdx", "-o", "compat=0.10"):
        for _ in range(2):
            point, _ = replica.sync(source)
            assert {d.changes for d in point.disks} == {Unknown("tracking.old-format")}
            assert point.token is None


# --- checkpoints and jobs ----------------------------------------------------------------------


def test_checkpoint_metadata_lost(rig: LibvirtRig, source: LibvirtSource,
                                  replica: Replica) -> None:
    replica.sync(source)
    rig.write(0)
    name = source.token_name(replica.token or {})
    rig.domain().checkpointLookupByName(name).delete(
        libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    point, _ = replica.sync(source)
    assert incremental(point) == [True, True]
    # and when the bitmaps are gone, too
    rig.domain().checkpointLookupByName(source.token_name(replica.token or {})).delete(0)
    point, _ = replica.sync(source)
    assert [d.changes for d in point.disks] == [Unknown("tracking.checkpoint-lost")] * 2


def foreign_backup(rig: LibvirtRig, checkpoint: str | None) -> None:
    socket, scratch = rig.host.socket_dir / "other.nbd", rig.host.storage_dir / "other.scratch"
    disk = (f"<disk name='vda' backup='yes' type='file'><driver type='qcow2'/>"
            f"<scratch file='{scratch}'/></disk>")
    rig.domain().backupBegin(
        f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/>"
        f"<disks>{disk}</disks></domainbackup>",
        checkpoint and (f"<domaincheckpoint><name>{checkpoint}</name><disks>"
                        "<disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>"), 0)


@pytest.mark.parametrize("quiesce", ["off", "try"])
def test_foreign_job(rig: LibvirtRig, source: LibvirtSource, replica: Replica,
                     quiesce: Any) -> None:
    replica.sync(source)
    foreign_backup(rig, None)
    try:
        begun = time.monotonic()
        with pytest.raises(Retry) as busy:
            source.open_point(rig.vm, replica.token, quiesce, replica.numbers.next())
        assert busy.value.code == "source.busy"
        assert time.monotonic() - begun < 5
        source.sweep(rig.vm, replica.numbers.rule, ())
        assert rig.domain().jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE
        replica.token = None
    finally:
        rig.domain().abortJob()
    replica.sync(source)


def test_foreign_checkpoint_survives(rig: LibvirtRig, source: LibvirtSource,
                                     replica: Replica) -> None:
    """Older and newer than ours, and made between two of ours."""
    other = Numbers()
    for name in ("backup-tool-1", f"hs-{other.rule}-e1-t1-i1"):
        foreign_backup(rig, name)
        rig.domain().abortJob()
        while rig.domain().jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
            time.sleep(0.02)
        replica.sync(source)
        rig.write(0)
        replica.sync(source)
    source.sweep(rig.vm, replica.numbers.rule, ())
    assert rig.checkpoints() == sorted(["backup-tool-1", f"hs-{other.rule}-e1-t1-i1"])
    for name in rig.checkpoints():
        rig.domain().checkpointLookupByName(name).delete(0)


# --- daemons and processes ---------------------------------------------------------------------


def test_libvirtd_killed_during_run(rig: LibvirtRig, source: LibvirtSource,
                                    replica: Replica) -> None:
    replica.sync(source)
    rig.write(0)
    point = source.open_point(rig.vm, replica.token, "try", replica.numbers.next())
    rig.host.kill()
    with pytest.raises(Reconnect):
        point.healthy()
    replica.apply(point)        # the export belongs to QEMU
    rig.host.start()
    point.healthy()
    assert replica.differences(point) == []
    replica.token = point.token
    point.commit()
    rig.write(1)
    point, _ = replica.sync(source)
    assert incremental(point) == [True, True]


def test_process_killed_during_run(rig: LibvirtRig, source: LibvirtSource,
                                   replica: Replica) -> None:
    replica.sync(source)
    rig.write(0)
    intent = replica.numbers.next()
    process = source_process.start(rig, replica.token, "try", intent)
    first = source_process.opened(process)
    process.kill()
    process.wait()
    rig.write(0)
    point = source.open_point(rig.vm, replica.token, "try", intent)
    assert point.taken_at == pytest.approx(first["taken_at"], abs=0.002)
    assert point.token == first["token"]
    replica.apply(point)
    assert replica.differences(point) == []
    old = source.token_name(replica.token or {})
    point.commit()
    assert old not in rig.checkpoints()


@pytest.mark.parametrize("where", ["source.before-begin", "source.after-begin"])
def test_process_killed_around_begin(rig: LibvirtRig, source: LibvirtSource, replica: Replica,
                                     where: str) -> None:
    replica.sync(source)
    rig.write(0)
    intent = replica.numbers.next()
    source_process.start(rig, replica.token, "try", intent, f"{where}:kill").wait()
    point = source.open_point(rig.vm, replica.token, "try", intent)
    replica.apply(point)
    assert replica.differences(point) == []
    replica.token = point.token
    point.commit()
    replica.sync(source)


@pytest.mark.parametrize("where", ["commit.after-abort", "commit.after-delete"])
def test_process_killed_in_commit(rig: LibvirtRig, source: LibvirtSource, replica: Replica,
                                  where: str) -> None:
    """The point is published: a sweep that keeps its token finishes what commit began."""
    replica.sync(source)
    intent = replica.numbers.next()
    source_process.start(rig, replica.token, "off", intent, f"{where}:kill", True).wait()
    source.sweep(rig.vm, replica.numbers.rule, (str(intent),))
    assert rig.checkpoints(replica.numbers.rule) == [str(intent)]
    with pytest.raises(InstantLost) as lost:
        source.open_point(rig.vm, replica.token, "off", intent)
    assert lost.value.tracking is not None and source.token_name(lost.value.tracking) == str(intent)


def test_job_gone_checkpoint_there(rig: LibvirtRig, source: LibvirtSource,
                                   replica: Replica) -> None:
    replica.sync(source)
    intent = replica.numbers.next()
    point = source.open_point(rig.vm, replica.token, "off", intent)
    rig.domain().abortJob()
    while rig.domain().jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        time.sleep(0.02)
    for ask in (point.healthy, lambda: source.open_point(rig.vm, replica.token, "off", intent)):
        with pytest.raises(InstantLost) as lost:
            ask()
        assert lost.value.tracking == point.token
    with rig.source() as other, pytest.raises(InstantLost) as lost:
        other.open_point(rig.vm, replica.token, "off", intent)
    assert lost.value.tracking == point.token
    rig.domain().checkpointLookupByName(str(intent)).delete(0)
    with pytest.raises(InstantLost) as lost:
        source.open_point(rig.vm, replica.token, "off", intent)
    assert lost.value.tracking is None


# --- scratch space -----------------------------------------------------------------------------


@pytest.fixture
def small_scratch(rig: LibvirtRig) -> Iterator[Path]:
    """A file system of 24 MiB. /data/big of 32 MiB exists, so overwriting it fills that."""
    assert rig.guest.exec("dd if=/dev/zero of=/data/big bs=1M count=32 conv=fsync 2>&1").rc == 0
    place = rig.lab.dir / "scratch"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=24m,uid={rig.host.identity.uid},mode=700",
                    "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


def overwrite(rig: LibvirtRig, mib: int) -> None:
    rig.guest.exec(f"dd if=/dev/urandom of=/data/big bs=1M count={mib} conv=notrunc,fsync "
                   ">/dev/null 2>&1 </dev/null &")


def wait_lost(point: PointInTime, timeout: float = 30) -> InstantLost:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            point.healthy()
        except InstantLost as lost:
            return lost
        time.sleep(0.05)
    raise AssertionError("the instant was not let go")


def test_scratch_nearly_full(rig: LibvirtRig, replica: Replica, small_scratch: Path) -> None:
    options = {"scratch_dir": str(small_scratch), "scratch_reserve": str(12 * MIB)}
    with rig.source(options) as source:
        replica.sync(source)
        point = source.open_point(rig.vm, replica.token, "off", replica.numbers.next())
        replica.apply(point)
        # 11 MiB in all, above the reserve of 12 MiB: slower than a check per second would see
        overwrite(rig, 14)
        lost = wait_lost(point)
        assert lost.code == "source.scratch-low" and lost.tracking == point.token
        assert rig.domain().state()[0] == libvirt.VIR_DOMAIN_RUNNING
        assert list(small_scratch.iterdir()) == []
        replica.token = lost.tracking
        again, _ = replica.sync(source)
        assert incremental(again) == [True, True]
    with (rig.source({**options, "scratch_reserve": str(30 * MIB)}) as source,
          pytest.raises(OutOfSpace)):
        source.open_point(rig.vm, replica.token, "off", replica.numbers.next())


def test_scratch_full_guest_paused(rig: LibvirtRig, replica: Replica,
                                   small_scratch: Path) -> None:
    with rig.source({"scratch_dir": str(small_scratch), "scratch_reserve": "0"}) as source:
        replica.sync(source)
        point = source.open_point(rig.vm, replica.token, "off", replica.numbers.next())
        overwrite(rig, 32)
        end = time.monotonic() + 30
        while (rig.domain().state()[0] == libvirt.VIR_DOMAIN_RUNNING
               and time.monotonic() < end):
            time.sleep(0.05)
        assert rig.domain().state() == [libvirt.VIR_DOMAIN_PAUSED,
                                        libvirt.VIR_DOMAIN_PAUSED_IOERROR]
        lost = wait_lost(point)
        assert lost.code == "source.io-error"
        assert rig.domain().state()[0] == libvirt.VIR_DOMAIN_RUNNING
        replica.token = lost.tracking and replica.token
        replica.sync(source)


# --- what else a machine has -------------------------------------------------------------------


def test_firmware_state(lab: Lab, tmp_path: Path, guest_factory: Callable[..., Guest]) -> None:
    guest = guest_factory(name="efi", firmware="uefi", agent=False)
    guest.start()
    rig = LibvirtRig(lab, guest)
    numbers = Numbers()
    with rig.source() as source:
        point = source.open_point(guest.name, None, "try", numbers.next())
        assert point.vm.firmware == "efi" and point.note == "quiesce.no-agent"
        nvram = Path(libvirt_nvram(rig))
        assert point.firmware_state is not None and len(point.firmware_state) > 64 * 1024
        guest.destroy()
        assert len(nvram.read_bytes()) == len(point.firmware_state)
        off = source.open_point(guest.name, None, "try", numbers.next())
        assert off.firmware_state == nvram.read_bytes()
        off.release()
        source.sweep(guest.name, numbers.rule, ())
    assert [x for x in rig.left(numbers.rule) if "checkpoint" not in x] == []


def libvirt_nvram(rig: LibvirtRig) -> str:
    from hotspare.platforms.libvirt.xmlsafe import parse, text

    return text(parse(rig.domain().XMLDesc(0)), "os/nvram")


def test_errors_are_ours(rig: LibvirtRig) -> None:
    """No libvirt error gets through, whatever is asked of a daemon that is down."""
    with rig.platform() as platform:
        rig.host.kill()
        try:
            for ask in (lambda: platform.source.inspect(rig.vm),
                        lambda: list(platform.inventory.vms()),
                        lambda: list(platform.inventory.places()),
                        lambda: platform.source.sweep(rig.vm, "00000000", ())):
                with pytest.raises(HotspareError) as caught:
                    ask()
                assert caught.value.action == "reconnect"
            assert not platform.inventory.check().ok
        finally:
            rig.host.start()
        assert platform.inventory.check().ok
