"""What others do to a replica on libvirt, and what the storage does to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hotspare.domain.errors import (
    ForeignChange,
    GiveUp,
    OutOfSpace,
    Refused,
    Retry,
    SealMissing,
)
from hotspare.platforms import lineage_store
from testbeds.kvm import Lab, SessionHost

from .target_libvirt_rig import LibvirtTargetRig
from .target_rig import KEY, MIB, Model, Reader
from .target_suite import ignore


@pytest.fixture
def rig(lab: Lab, host_b: SessionHost, tmp_path: Path) -> LibvirtTargetRig:
    return LibvirtTargetRig(lab, host_b, tmp_path)


def qemu_io(path: Path, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    subprocess.run(["qemu-io", "-f", "qcow2", *words, str(path)], check=True, capture_output=True)


def test_a_foreign_write_is_seen(rig: LibvirtTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = Model(rig, rig.vm("foreign", 2))
        model.ensure(target)
        model.cycle(target)
        head = target.lineage(model.ref).head
        assert head is not None
        rig.settle(model.rule)
        before = rig.left(model.rule)
        qemu_io(rig.directory / head.disks[1].file, "write -P 7 1M 64k")
        intent = model.intent()
        with pytest.raises(ForeignChange) as caught:
            target.begin(model.ref, model.vm.disks, 1, intent)
        assert caught.value.code == "replica.changed"
        assert caught.value.fields["disk"] == "vdb"
        assert rig.left(model.rule) == before       # nothing half-made
        target.seal(model.ref, 1)                   # an operator accepts it
        model.now["vdb"][MIB:MIB + 65536] = b"\7" * 65536
        model.remember(1)
        model.cycle(target)
        model.check(target, port=False)


def test_a_lost_seal_is_told_and_made_anew(rig: LibvirtTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = Model(rig, rig.vm("seal", 1))
        model.ensure(target)
        model.cycle(target)
        head = target.lineage(model.ref).head
        assert head is not None
        rig.settle(model.rule)
        subprocess.run(["qemu-img", "bitmap", "--remove", str(rig.directory / head.disks[0].file),
                        "hotspare-seal"], check=True)
        with pytest.raises(SealMissing):
            target.begin(model.ref, model.vm.disks, 1, model.intent())
        target.seal(model.ref, 1)
        model.cycle(target)
        with pytest.raises(Refused):
            target.seal(model.ref, 1)               # only the head has a seal that counts
        model.check(target, port=False)


def test_torn_forged_damaged_and_lost_lineages(rig: LibvirtTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = Model(rig, rig.vm("lineage", 1))
        model.ensure(target)
        model.cycle(target)
        model.cycle(target)
        rig.settle(model.rule)
        disk = rig.directory / f"hs-{model.rule}.lineage"
        whole = disk.read_bytes()
        lineage = target.lineage(model.ref)
        at = lineage_store.slot_offset(lineage.sequence)

        torn = bytearray(whole)
        torn[at + 100:at + 200] = bytes(100)
        disk.write_bytes(torn)
        older = target.lineage(model.ref)
        assert (older.sequence, older.last_number) == (lineage.sequence - 1, 1)

        forged = bytearray(whole)
        liar = replace(lineage, points=())
        slot = lineage_store.encode_slot(replace(liar, sequence=lineage.sequence + 1), b"x" * 32)
        place = lineage_store.slot_offset(lineage.sequence + 1)
        forged[place:place + len(slot)] = slot
        disk.write_bytes(forged)
        before = rig.left(model.rule)
        for call in (lambda: target.lineage(model.ref), lambda: target.fence(model.ref, 9),
                     lambda: target.remove_replica(model.ref),
                     lambda: target.begin(model.ref, model.vm.disks, 2, model.intent())):
            with pytest.raises(ForeignChange) as caught:
                call()
            assert caught.value.code == "lineage.forged"
        swept = target.sweep(model.ref, [])
        assert [item.name for item in swept] == [disk.name] and swept[0].error
        assert rig.left(model.rule) == before

        damaged = bytearray(torn)
        other = lineage_store.slot_offset(lineage.sequence + 1)
        damaged[other + 100:other + 200] = bytes(100)
        disk.write_bytes(damaged)
        with pytest.raises(ForeignChange) as caught:
            target.lineage(model.ref)
        assert caught.value.code == "lineage.damaged"
        assert target.sweep(model.ref, [])[0].error
        assert rig.left(model.rule) == before

        disk.unlink()
        assert target.sweep(model.ref, []) == []
        assert rig.left(model.rule) == before - {disk.name}
        with pytest.raises(ForeignChange) as caught:
            model.ensure(target)
        assert caught.value.code == "lineage.missing"
        disk.write_bytes(whole)
        rig.host.identity.own(disk)
        model.check(target, port=False)


def test_the_lineage_of_another_rule_is_not_ours(rig: LibvirtTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        models = [Model(rig, rig.vm("mix", 1)) for _ in range(2)]
        for model in models:
            model.ensure(target)
            model.cycle(target)
            rig.settle(model.rule)
        a, b = (rig.directory / f"hs-{m.rule}.lineage" for m in models)
        a.write_bytes(b.read_bytes())
        with pytest.raises(ForeignChange):
            target.lineage(models[0].ref)


def test_foreign_overlays_and_machines_pin(rig: LibvirtTargetRig, lab: Lab) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = Model(rig, rig.vm("pins", 1))
        model.ensure(target)
        for _ in range(3):
            model.cycle(target)
        rig.settle(model.rule)
        files = [p.disks[0].file for p in target.lineage(model.ref).points]
        foreign = rig.directory / "someone.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2",
                        "-b", files[1], str(foreign)], check=True)
        rig.host.identity.own(foreign)
        assert target.pinned(model.ref) == {1, 2}
        with pytest.raises(Refused) as caught:
            target.retire(model.ref, 1, None, ignore)
        assert "someone.qcow2" in caught.value.fields["by"]
        foreign.unlink()
        assert target.pinned(model.ref) == set()
        # a machine that is shut off and has a point's file itself
        rig.host.conn.defineXML(
            "<domain type='qemu'><name>thief</name><memory unit='MiB'>32</memory>"
            "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
            f"<disk type='file'><source file='{rig.directory / files[0]}'/>"
            "<target dev='vda' bus='virtio'/></disk></devices></domain>")
        try:
            assert target.pinned(model.ref) == {1}
        finally:
            rig.host.conn.lookupByName("thief").undefine()
        target.retire(model.ref, 1, None, ignore)
        del model.points[1]
        model.check(target, port=False)


def test_a_retired_point_that_gets_pinned_meanwhile(
        rig: LibvirtTargetRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pins are looked for again after the mark: a start may have come between."""
    from hotspare.platforms.libvirt import retire

    with rig.platform() as platform:
        target = platform.target(KEY)
        model = Model(rig, rig.vm("race", 1))
        model.ensure(target)
        for _ in range(2):
            model.cycle(target)
        calls = []
        real = retire._refuse_pinned

        def late(*args: object) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise Refused("point.pinned", number=1, by="late.qcow2")
            real(*args)     # type: ignore[arg-type]

        monkeypatch.setattr(retire, "_refuse_pinned", late)
        with pytest.raises(Refused):
            target.retire(model.ref, 1, None, ignore)
        monkeypatch.undo()
        assert target.lineage(model.ref).retiring is None
        target.sweep(model.ref, [])
        model.check(target, port=False)


@pytest.fixture
def small_pool(rig: LibvirtTargetRig) -> Iterator[str]:
    """A pool on a file system of 24 MiB."""
    place = rig.host.base / "small"
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=24m,uid={rig.host.identity.uid},"
                           f"gid={rig.host.identity.gid}", "none", str(place)],
                          capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        rig.pool("small", place)
        rig.directory = place
        yield "small"
    finally:
        rig.drop_pool("small")
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_storage(rig: LibvirtTargetRig, small_pool: str,
                        monkeypatch: pytest.MonkeyPatch) -> None:
    from hotspare.platforms.libvirt import target as target_module

    rig.storage = small_pool
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = Model(rig, rig.vm("full", 1, size=32 * MIB))
        with pytest.raises(OutOfSpace) as caught:
            model.ensure(target)
        assert caught.value.code == "storage.full"
        assert rig.left(model.rule) == set()
        monkeypatch.setattr(target_module, "_FREE_FLOOR", MIB)
        model.ensure(target)
        model.cycle(target)
        intent = model.intent()
        before = {i: bytes(c) for i, c in model.now.items()}
        session = target.begin(model.ref, model.vm.disks, 1, intent)
        with Reader(session.disks["vda"]) as handle, pytest.raises(Exception, match="space"):
            for at in range(0, 32 * MIB, MIB):
                handle.pwrite(model.random.randbytes(MIB), at)
            handle.flush()
        with pytest.raises(OutOfSpace):
            session.publish(model.manifest(session, intent), _table(rig, MIB), None)
        session.abandon()
        model.now = {i: bytearray(c) for i, c in before.items()}
        model.check(target, port=False)     # nothing that was published is lost
        model.cycle(target)                 # and it goes on
        model.check(target, port=False)
        target.remove_replica(model.ref)
        assert rig.left(model.rule) == set()


def _table(rig: LibvirtTargetRig, size: int) -> Path:
    path = rig.tmp / "table"
    path.write_bytes(b"t" * size)
    return path


def test_pools_that_cannot_hold_chains(rig: LibvirtTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = Model(rig, rig.vm("pool", 1))
        conn = rig.host.conn
        kinds = {"iscsi": "<source><host name='127.0.0.1'/><device path='iqn.x'/></source>"
                          "<target><path>/dev/disk/by-path</path></target>",
                 "dir": f"<target><path>{rig.host.base}/off</path></target>"}
        for kind, rest in kinds.items():
            try:
                pool = conn.storagePoolDefineXML(
                    f"<pool type='{kind}'><name>odd</name>{rest}</pool>")
            except Exception:       # libvirt without that backend
                continue
            try:
                with pytest.raises(Refused) as caught:
                    target.ensure_replica(replace(model.spec, storage="odd"), model.vm,
                                          model.intent())
                assert caught.value.code == (
                    "storage.inactive" if kind == "dir" else "storage.type")
            finally:
                pool.undefine()
        with pytest.raises(GiveUp) as missing:
            target.ensure_replica(replace(model.spec, storage="none"), model.vm, model.intent())
        assert missing.value.code == "storage.not-found"


def test_a_lasting_domain_with_the_receivers_name_is_left_alone(rig: LibvirtTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = Model(rig, rig.vm("squat", 1))
        model.ensure(target)
        domain = rig.host.conn.defineXML(
            f"<domain type='qemu'><name>hs-rx-{model.rule}</name><memory unit='MiB'>32</memory>"
            "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>")
        try:
            with pytest.raises(Refused) as caught:
                target.begin(model.ref, model.vm.disks, None, model.intent())
            assert caught.value.code == "name.taken"
            assert not list(rig.directory.glob(f"hs-{model.rule}-*"))
        finally:
            domain.undefine()


def test_a_file_that_another_qemu_writes(rig: LibvirtTargetRig) -> None:
    with rig.platform() as platform:
        target = platform.target(KEY)
        model = Model(rig, rig.vm("busy", 1))
        model.ensure(target)
        model.cycle(target)
        rig.settle(model.rule)
        head = target.lineage(model.ref).head
        assert head is not None
        socket = rig.tmp / "other.sock"
        other = subprocess.Popen(["qemu-nbd", "-t", "-f", "qcow2", "-k", str(socket),
                                  str(rig.directory / head.disks[0].file)])
        try:
            while not socket.exists():
                assert other.poll() is None
            with pytest.raises(Retry) as caught:
                target.begin(model.ref, model.vm.disks, 1, model.intent())
            assert caught.value.code == "replica.busy"
        finally:
            other.terminate()
            other.wait(10)
