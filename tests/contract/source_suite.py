"""The conformance suite of sources: every driver passes it. See test_source_libvirt.py for how a
driver joins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotspare.domain.errors import GiveUp
from hotspare.platforms.port import Intent, Source, Unknown

from .source_reader import Replica, connect
from .source_rig import Numbers, SourceRig


class SourceSuite:
    """Join by a subclass with a fixture ``rig`` (see :class:`SourceRig`)."""

    @pytest.fixture
    def numbers(self, rig: SourceRig) -> Iterator[Numbers]:
        numbers = Numbers()
        yield numbers
        with rig.source() as source:
            source.sweep(rig.vm, numbers.rule, ())
        assert list(rig.left(numbers.rule)) == []
        assert rig.running()

    @pytest.fixture
    def source(self, rig: SourceRig) -> Iterator[Source]:
        with rig.source() as source:
            yield source

    @pytest.fixture
    def replica(self, tmp_path: Path, rig: SourceRig, numbers: Numbers) -> Replica:
        return Replica(tmp_path, rig.vm, numbers)

    def test_inspect_finds_by_name_and_id(self, rig: SourceRig, source: Source) -> None:
        vm = source.inspect(rig.vm)
        assert vm.power == "running" and len(vm.disks) == 2
        again = source.inspect(vm.ref)
        assert (again.name, again.ref) == (vm.name, vm.ref)
        with pytest.raises(GiveUp) as caught:
            source.inspect("no-such-machine")
        assert caught.value.code == "vm.not-found"

    def test_first_copy_then_changes_only(self, rig: SourceRig, source: Source,
                                          replica: Replica) -> None:
        point, full = replica.sync(source)
        assert [d.changes for d in point.disks] == [Unknown("first-copy")] * 2
        assert point.consistency == "crash" and point.token is not None
        for disk in (0, 1, 0):
            rig.write(disk)
            before = time.time()
            point, moved = replica.sync(source)
            assert before <= point.taken_at <= time.time()
            assert not any(isinstance(d.changes, Unknown) for d in point.disks)
            assert 0 < sum(moved.values()) < sum(full.values()) / 2
        assert len(list(rig.left(replica.numbers.rule))) == rig.marks, "of the newest base only"

    def test_quiesced(self, rig: SourceRig, source: Source, replica: Replica) -> None:
        point, _ = replica.sync(source, "require")
        assert (point.consistency, point.note) == ("quiesced", "")
        assert 0 < point.stall_ms < 5000
        rig.write(0)    # works: the guest is thawed

    def test_same_intent_finds_its_instant_again(self, rig: SourceRig, source: Source,
                                                 replica: Replica) -> None:
        replica.sync(source)
        rig.write(1)
        intent = replica.numbers.next()
        first = source.open_point(rig.vm, replica.token, "try", intent)
        rig.write(1)
        with rig.source() as other:
            again = other.open_point(rig.vm, replica.token, "try", intent)
            assert again.taken_at == pytest.approx(first.taken_at, abs=0.002)
            assert (again.consistency, again.note) == (first.consistency, first.note)
            assert again.token == first.token
            assert [d.changes for d in again.disks] == [d.changes for d in first.disks]
            replica.apply(again)
            assert replica.differences(again) == []
            again.commit()
            again.commit()
        replica.token = again.token
        replica.sync(source)

    def test_released_instant_is_a_base(self, rig: SourceRig, source: Source,
                                        replica: Replica) -> None:
        """Rule 1 of the design: a lost pass goes on from the changes since its instant."""
        replica.sync(source)
        rig.write(0)
        lost = source.open_point(rig.vm, replica.token, "off", replica.numbers.next())
        replica.apply(lost)
        lost.release()
        lost.release()
        rig.write(1)
        old, replica.token = replica.token, lost.token
        point, moved = replica.sync(source)
        assert moved[point.disks[1].spec.id] > 0
        assert old is not None
        assert not any(source.token_name(old) in x for x in rig.left(replica.numbers.rule))

    def test_older_base_holds_all_changes(self, rig: SourceRig, source: Source,
                                          replica: Replica) -> None:
        """An instant that came to nothing does not take changes away from an older base."""
        replica.sync(source)
        rig.write(0)
        source.open_point(rig.vm, replica.token, "off", replica.numbers.next()).release()
        rig.write(1)
        replica.sync(source)

    def test_export_opens_again(self, rig: SourceRig, source: Source, replica: Replica) -> None:
        point = source.open_point(rig.vm, None, "off", replica.numbers.next())
        export = point.disks[0].export
        seen = []
        for _ in range(2):
            with export.open() as endpoint:
                handle = connect(endpoint)
                seen.append(handle.pread(4096, 0))
                handle.shutdown()
        assert seen[0] == seen[1]
        point.release()

    def test_sweep_keeps_what_it_is_told(self, rig: SourceRig, source: Source,
                                         replica: Replica) -> None:
        replica.sync(source)
        assert replica.token is not None
        base, rule = source.token_name(replica.token), replica.numbers.rule
        running = replica.numbers.next()
        point = source.open_point(rig.vm, replica.token, "off", running)
        assert source.sweep(rig.vm, rule, (base, str(running))) == []
        point.healthy()
        assert source.sweep(rig.vm, Numbers().rule, ()) == []
        point.healthy()
        removed = source.sweep(rig.vm, rule, (base,))
        assert removed and not any(x.error for x in removed)
        assert all(base not in x.name for x in removed)
        replica.sync(source)

    def test_intents_of_a_rule_follow_each_other(self, rig: SourceRig, source: Source,
                                                 replica: Replica) -> None:
        """A newer task ends the job that a dead one left, and is not hindered by it."""
        source.open_point(rig.vm, None, "off", replica.numbers.next())
        with rig.source() as other:
            replica.sync(other)

    def test_machine_that_is_off(self, rig: SourceRig, source: Source,
                                 replica: Replica) -> None:
        replica.sync(source)
        rig.write(0)
        rig.shut_down()
        try:
            point = source.open_point(rig.vm, replica.token, "require", replica.numbers.next())
            assert point.consistency == "off" and point.stall_ms == 0
            assert not any(isinstance(d.changes, Unknown) for d in point.disks)
            replica.apply(point)
            assert replica.differences(point) == []
            point.healthy()
            replica.token = point.token
            point.commit()
            assert source.inspect(rig.vm).power == "off"
            full = source.open_point(rig.vm, None, "off", replica.numbers.next())
            assert [d.changes for d in full.disks] == [Unknown(rig.off_reason)] * 2
            assert replica.differences(full) == []
            full.release()
        finally:
            rig.power_on()
        rig.write(1)
        replica.sync(source)

    def test_intent_names_are_prefixes(self) -> None:
        assert str(Intent("0123abcd", 2, 34, 5)) == "hs-0123abcd-e2-t34-i5"
