"""The conformance suite of targets: what the port promises, over any platform."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotspare.domain.errors import (
    Fenced,
    ForeignChange,
    GiveUp,
    HotspareError,
    Reconnect,
    Refused,
)
from hotspare.domain.lineage import Lineage
from hotspare.domain.machine import DiskSpec
from hotspare.platforms.port import Intent, ReplicaRef

from .target_rig import BLOCK, KEY, MIB, SIZE, Model, Reader, TargetRig, content_of


def ignore(done: int, total: int) -> None:
    assert 0 <= done <= total


class TargetSuite:
    """Subclass it and give it a fixture ``rig``."""

    @pytest.mark.parametrize("disks", [1, 3])
    def test_points_keep_their_content(self, rig: TargetRig, disks: int) -> None:
        model = Model(rig, rig.vm("keep", disks))
        with rig.platform() as platform:
            target = platform.target(KEY)
            assert target.lineage(model.ref) == Lineage(model.rule, 0)
            model.ensure(target)
            model.ensure(target)
            for number in range(1, 6):
                assert model.cycle(target).number == number
            model.check(target, port=disks == 1)
            for number in (1, 3):       # the oldest, and one in the middle
                lineage = target.retire(model.ref, number, None, ignore)
                del model.points[number]
                assert [p.number for p in lineage.points] == sorted(model.points)
                assert target.retire(model.ref, number, None, ignore) == lineage
            model.check(target, port=False)
            for number in (2, 4):       # down to the head, which is merged into older files
                target.retire(model.ref, number, None, ignore)
                del model.points[number]
            with pytest.raises(Refused) as caught:
                target.retire(model.ref, 5, None, ignore)
            assert caught.value.code == "point.is-head"
            model.cycle(target)         # the head's seal is right after all that
            target.sweep(model.ref, [])
            model.check(target)         # these by the port, whatever the number of disks
            target.remove_replica(model.ref)
            assert rig.left(model.rule) == set()
            assert target.remove_replica(model.ref) == []

    def test_replicas_are_found_without_their_keys(self, rig: TargetRig) -> None:
        """Also one without points, and one that another key wrote; each once, by its storage."""
        models = [Model(rig, rig.vm(f"found-{i}", 1), seed=i) for i in range(2)]
        with rig.platform() as platform:
            def found() -> list[ReplicaRef]:
                ours = {m.ref for m in models}
                return [r for r in platform.inventory.replicas() if r in ours]

            assert found() == []
            models[0].ensure(platform.target(KEY))
            models[1].ensure(platform.target(KEY[::-1]))
            models[1].cycle(platform.target(KEY[::-1]))
            assert sorted(r.rule for r in found()) == sorted(m.rule for m in models)
            with pytest.raises(ForeignChange):
                platform.target(KEY).lineage(models[1].ref)
            platform.target(KEY).remove_replica(models[0].ref)
            platform.target(KEY[::-1]).remove_replica(models[1].ref)
            assert found() == []

    def test_unpublished_state_is_continued_by_its_own_task_only(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("resume", 2))
        with rig.platform() as platform:
            target = platform.target(KEY)
            model.ensure(target)
            model.cycle(target)
            intent = model.intent()
            session = target.begin(model.ref, model.vm.disks, 1, intent)
            assert (session.number, session.resumed) == (2, False)
            before = {i: bytes(c) for i, c in model.now.items()}
            model.change(session)
            session.close()
            session.close()
            assert [p.number for p in target.lineage(model.ref).points] == [1]
            model.check(target, port=False)
        with rig.platform() as platform:
            target = platform.target(KEY)
            session = target.begin(model.ref, model.vm.disks, 1, replace(intent, instant=2))
            assert (session.number, session.resumed) == (2, True)
            for disk_id, export in session.disks.items():
                assert content_of(export) == bytes(model.now[disk_id])
            session.close()
            # another task starts from the point
            other = model.intent()
            session = target.begin(model.ref, model.vm.disks, 1, other)
            assert (session.number, session.resumed) == (2, False)
            for disk_id, export in session.disks.items():
                assert content_of(export) == before[disk_id]
            model.now = {i: bytearray(c) for i, c in before.items()}
            model.change(session)
            session.close()
            left = rig.left(model.rule)
            target.sweep(model.ref, [str(intent), str(other)])
            assert rig.left(model.rule) == left
            swept = target.sweep(model.ref, [str(other)])
            assert not any(item.error for item in swept)
            assert not [n for n in rig.left(model.rule) if str(intent) in n]
            session = target.begin(model.ref, model.vm.disks, 1, other)
            assert session.resumed
            target.sweep(model.ref, [str(other)])   # the session of a kept intent goes on
            model.publish(session, other)
            assert target.sweep(model.ref, []) == []
            model.check(target, port=False)

    def test_a_merge_below_an_unpublished_state(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("below", 2))
        with rig.platform() as platform:
            target = platform.target(KEY)
            model.ensure(target)
            for _ in range(3):
                model.cycle(target)
            intent = model.intent()
            session = target.begin(model.ref, model.vm.disks, 3, intent)
            model.change(session)
            session.close()
            for number in (1, 2):
                target.retire(model.ref, number, None, ignore)
                del model.points[number]
            session = target.begin(model.ref, model.vm.disks, 3, replace(intent, instant=2))
            assert session.resumed
            for disk_id, export in session.disks.items():
                assert content_of(export) == bytes(model.now[disk_id])
            model.publish(session, intent)
            model.check(target, port=False)

    def test_a_reader_lives_beside_runs_and_makes_way_for_a_merge(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("reader", 1))
        disk = model.vm.disks[0].id
        with rig.platform() as platform, rig.platform() as other:
            target = platform.target(KEY)
            model.ensure(target)
            for _ in range(3):
                model.cycle(target)
            with other.target(KEY).read_point(model.ref, 3) as exports:
                target.fence(model.ref, 1)
                target.sweep(model.ref, [])
                model.cycle(target)
                with Reader(exports[disk]) as handle:
                    content = bytes(handle.pread(SIZE, 0))
                assert content == model.points[3][disk], "what is read stays that point"
                assert target.pinned(model.ref) == {3}
                target.retire(model.ref, 1, None, ignore)
                del model.points[1]
                with pytest.raises(Reconnect) as caught, exports[disk].open():
                    pass
                assert caught.value.code == "receiver.gone"
            assert target.pinned(model.ref) == set()
            with other.target(KEY).read_point(model.ref, 3) as exports:
                assert content_of(exports[disk]) == content
                target.seal(model.ref, 4)
            model.check(target, port=False)
            target.sweep(model.ref, [])     # the sockets of readers that were ended
            target.remove_replica(model.ref)
            assert rig.left(model.rule) == set()

    def test_abandon_leaves_nothing(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("abandon", 2))
        with rig.platform() as platform:
            target = platform.target(KEY)
            model.ensure(target)
            model.cycle(target)
            before = rig.left(model.rule)
            session = target.begin(model.ref, model.vm.disks, 1, model.intent())
            session.abandon()
            session.abandon()
            assert rig.left(model.rule) == before
            model.check(target, port=False)

    def test_publishing_twice_gives_what_is_there(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("twice", 1))
        with rig.platform() as platform:
            target = platform.target(KEY)
            model.ensure(target)
            intent = model.intent()
            session = target.begin(model.ref, model.vm.disks, None, intent)
            model.change(session)
            first = model.publish(session, intent)
            assert model.publish(session, intent) == first
            again = target.begin(model.ref, model.vm.disks, None, intent)
            assert again.number == first.number
            assert again.publish(model.manifest(again, intent), model.digests, None) == first
            again.abandon()
            again.close()
            assert target.lineage(model.ref).points == (first,)
            with pytest.raises(Refused) as caught:
                target.begin(model.ref, model.vm.disks, 7, model.intent())
            assert caught.value.code == "replica.base-stale"
            model.check(target, port=False)

    def test_a_higher_epoch_fences(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("fence", 1))
        with rig.platform() as old, rig.platform() as new:
            target, heir = old.target(KEY), new.target(KEY)
            model.ensure(target)
            model.cycle(target)
            intent = model.intent()
            session = target.begin(model.ref, model.vm.disks, 1, intent)
            before = {i: bytes(c) for i, c in model.now.items()}
            model.change(session)
            heir.fence(model.ref, 2)
            heir.fence(model.ref, 2)
            with pytest.raises(HotspareError):
                session.publish(model.manifest(session, intent), model.digests, None)
            session.close()
            for call in (lambda: target.begin(model.ref, model.vm.disks, 1, intent),
                         lambda: target.fence(model.ref, 1)):
                with pytest.raises(Fenced):
                    call()
            assert [p.number for p in heir.lineage(model.ref).points] == [1]
            assert heir.lineage(model.ref).epoch == 2
            model.now = {i: bytearray(c) for i, c in before.items()}
            model.epoch = 2
            assert model.cycle(heir).number == 2
            heir.sweep(model.ref, [])
            model.check(heir, port=False)

    def test_disks_come_grow_and_go(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("disks", 2))
        a, b = model.vm.disks
        with rig.platform() as platform:
            target = platform.target(KEY)
            model.ensure(target)
            model.cycle(target)

            def become(*disks: DiskSpec) -> None:
                model.vm = replace(model.vm, disks=disks)
                old = model.now
                model.now = {d.id: bytearray(old.get(d.id, b"")).ljust(d.size, b"\0")
                             for d in disks}

            grown = replace(a, size=SIZE + 4 * MIB)
            become(grown, b)
            model.cycle(target)
            become(grown, replace(b, id="vdc"))     # vdb goes, vdc comes empty
            model.cycle(target)
            become(grown, replace(b, id="vdc"), b)  # vdb comes back, as a new empty disk
            model.cycle(target)
            model.check(target, port=False)
            with pytest.raises(Refused) as caught:
                target.begin(model.ref, (a,), 4, model.intent())
            assert caught.value.code == "disk.shrunk"
            for number in (1, 2, 3):
                target.retire(model.ref, number, None, ignore)
                del model.points[number]
            target.sweep(model.ref, [])
            # a full copy from nothing beside the points that are there
            intent = model.intent()
            session = target.begin(model.ref, model.vm.disks, None, intent)
            model.now = {d.id: bytearray(d.size) for d in model.vm.disks}
            model.change(session)
            model.publish(session, intent)
            model.check(target, port=False)
            target.retire(model.ref, 4, None, ignore)
            del model.points[4]
            model.check(target, port=False)

    def test_blobs_are_kept_and_folded(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("blobs", 1))
        firmware = bytes(range(256)) * 2112         # 528 KiB
        with rig.platform() as platform:
            target = platform.target(KEY)
            model.ensure(target)
            first = model.cycle(target, firmware)
            intent = model.intent()
            session = target.begin(model.ref, model.vm.disks, 1, intent)
            huge = model.random.randbytes(5 * MIB + 17)     # more than was reserved for it
            model.digests.write_bytes(huge)
            second = session.publish(model.manifest(session, intent), model.digests,
                                     firmware * 9)
            model.remember(2)

            def read(name: str) -> bytes:
                return b"".join(target.read_blob(model.ref, name))

            assert read(first.digests[0].name) == b"digests of 1\n" * 100
            assert first.firmware_state and read(first.firmware_state.name) == firmware
            assert read(second.digests[0].name) == huge
            assert second.firmware_state and read(second.firmware_state.name) == firmware * 9
            with pytest.raises(GiveUp):
                read("passwd")
            model.cycle(target)
            lineage = target.retire(model.ref, 1, None, ignore)
            assert lineage.points[0].digests == (*first.digests, *second.digests)
            assert read(first.digests[0].name) == b"digests of 1\n" * 100
            table = model.rig.tmp / "folded"
            table.write_bytes(b"folded" * 1000)
            lineage = target.retire(model.ref, 2, table, ignore)
            del model.points[1], model.points[2]
            assert [read(b.name) for b in lineage.points[0].digests] == [b"folded" * 1000]
            assert target.sweep(model.ref, []) == []
            model.check(target, port=False)

    def test_what_the_target_cannot_run_is_refused(self, rig: TargetRig) -> None:
        model = Model(rig, rig.vm("refuse", 1))
        good, nic = model.vm, model.vm.nics[0]
        cases = {
            "target.network": replace(good, nics=(replace(nic, kind="network", network="dmz"),)),
            "disk.invalid": replace(good, disks=(replace(good.disks[0], size=1000),)),
        } | rig.refused(good)
        with rig.platform() as platform:
            target = platform.target(KEY)
            for code, vm in cases.items():
                with pytest.raises(Refused) as caught:
                    target.ensure_replica(model.spec, vm, model.intent())
                assert caught.value.code == code
                assert "<" not in str(caught.value).replace(str(vm.machine), "")
            with pytest.raises(GiveUp):
                target.ensure_replica(replace(model.spec, storage="none"), good, model.intent())
            assert rig.left(model.rule) == set()
            with pytest.raises(GiveUp) as lost:
                target.begin(model.ref, good.disks, None, Intent(model.rule, 1, 1))
            assert lost.value.code == "replica.not-found"

    def test_a_tebibyte(self, rig: TargetRig) -> None:
        size = 1 << 40
        model = Model(rig, rig.vm("huge", 1, size=SIZE))
        disk = replace(model.vm.disks[0], size=size)
        model.vm = replace(model.vm, disks=(disk,))
        with rig.platform() as platform:
            target = platform.target(KEY)
            model.ensure(target)
            base = None
            for number in (1, 2):
                intent = model.intent()
                session = target.begin(model.ref, model.vm.disks, base, intent)
                with Reader(session.disks[disk.id]) as handle:
                    assert handle.get_size() == size
                    handle.pwrite(bytes([number]) * BLOCK, size - number * BLOCK)
                    handle.flush()
                model.digests.write_bytes(b"d" * 100_000)
                base = session.publish(model.manifest(session, intent), model.digests,
                                       None).number
            # no merge: QEMU's commit looks at each 512 KiB, which takes 25 s for a tebibyte
            with target.read_point(model.ref, 2) as exports, Reader(exports[disk.id]) as handle:
                assert bytes(handle.pread(2 * BLOCK, size - 2 * BLOCK)) == (
                    b"\2" * BLOCK + b"\1" * BLOCK)
            target.remove_replica(model.ref)
