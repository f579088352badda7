"""The target on vSphere: a machine that is off, whose snapshots are the restore points."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyVmomi import vim

from ...domain.errors import ForeignChange, GiveUp, Refused
from ...domain.lineage import Blob, Lineage
from ...domain.machine import DiskSpec, VmDescription
from ...faultpoints import fault_point
from ..port import (
    Export,
    Intent,
    Leftover,
    Progress,
    ReplicaRef,
    ReplicaSpec,
    Session,
    TargetCapabilities,
)
from . import nbdkit, placement, readers, session, snapshots, standing, trials
from .connection import Connection
from .files import CHUNK, PASSING
from .machine_write import check_places, machine_spec
from .readers import PointReader, ReaderExport
from .replica import RULE, Replica, State
from .transports import DiskExport, DiskFile

MAX_POINTS = 28
"""Of the 32 snapshots that vSphere allows above each other: room for the operator's own."""

_NOT_SWEPT = ("lineage-", "failover", "trial-")
"""Tests may begin and end while others sweep: they are cleared by name."""


class VsphereTarget:
    """Implements :class:`~hotspare.platforms.port.Target`."""

    capabilities = TargetCapabilities(writes_need_power_off=True, test_during_write=True,
                                      max_points=MAX_POINTS, test_boot="linked-clone")

    def __init__(self, connection: Connection, key: bytes) -> None:
        self._connection, self._key = connection, key

    def _replica(self, ref: ReplicaRef) -> Replica:
        return Replica(self._connection, self._key, ref)

    # --- the replica -----------------------------------------------------------------------------

    def ensure_replica(self, spec: ReplicaSpec, vm: VmDescription, intent: Intent) -> ReplicaRef:
        ref = ReplicaRef(spec.rule, spec.storage)
        there = self._replica(ref)
        session.checked_disks(vm.disks)
        check_places(vm.disks)
        wanted = machine_spec(self._connection, vm, spec.name, spec.networks)
        host = placement.host_for(self._connection, there.files, spec.host)
        machine = there.find()
        if machine is not None:
            return ref
        if there.files.names():
            # without its machine the points are gone: a new empty one would hide that
            raise ForeignChange("replica.machine-gone", rule=spec.rule, storage=spec.storage)
        placement.refuse_taken(self._connection, spec.name)
        there.files.make_directory()
        wanted.instanceUuid, wanted.changeTrackingEnabled = there.uuid, True
        wanted.extraConfig = [vim.option.OptionValue(key=RULE, value=spec.rule)]
        placement.create(self._connection, there.files, host, wanted, spec.folder, spec.pool)
        return ref

    def remove_replica(self, replica: ReplicaRef) -> list[Leftover]:
        there = self._replica(replica)
        machine = there.find()
        readers.end_readers(there.rule)
        found = []
        stands = standing.read(there.files)
        if stands is not None and stands.kept and machine is not None:
            return self._leave_machine(there, machine)
        if machine is not None:
            if stands is not None:
                raise Refused("replica.in-use", rule=there.rule, by=stands.name)
            if tests := trials.all_of(there.files):
                raise Refused("replica.in-use", rule=there.rule,
                              by=", ".join(str(t.intent) for t in tests))
            there.refuse_running(machine)
            with self._connection.calls(vm=machine._moId):
                task = machine.Destroy_Task()
            self._connection.wait(task, vm=machine._moId)
            found.append(Leftover("domain", there.uuid))
        # last: as long as it is there, something tells whose the rest is
        if there.files.delete():
            found.append(Leftover("volume", there.files.path()))
        return found

    def _leave_machine(self, replica: Replica, machine: Any) -> list[Leftover]:
        """Of a failover that is kept: all but the machine and what it runs on."""
        found = []
        for name, ref in snapshots.names(self._connection, machine).items():
            intent = Intent.of_name(name)
            if intent is not None and intent.rule == replica.rule:
                snapshots.remove_ref(self._connection, machine, ref)
                found.append(Leftover("snapshot", name))
        if replica.files.delete():
            found.append(Leftover("volume", replica.files.path()))
        return found

    def lineage(self, replica: ReplicaRef) -> Lineage:
        return self._replica(replica).lineage()

    def fence(self, replica: ReplicaRef, epoch: int) -> None:
        there = self._replica(replica)
        lineage = there.lineage()
        there.check_epoch(lineage, epoch)
        if lineage.epoch < epoch and there.find() is not None:
            there.raise_epoch(epoch)

    # --- points ----------------------------------------------------------------------------------

    def begin(self, replica: ReplicaRef, disks: Sequence[DiskSpec], base: int | None,
              intent: Intent, sealed: bool = True) -> Session:
        return session.begin(self._replica(replica), disks, base, intent, sealed)

    def seal(self, replica: ReplicaRef, number: int) -> None:
        there = self._replica(replica)
        head = there.lineage().head
        if head is None or head.number != number:
            raise Refused("replica.base-stale", base=number, head=head.number if head else None)
        machine = there.machine()
        there.refuse_running(machine)
        there.settle(machine, head)

    @contextlib.contextmanager
    def read_point(self, replica: ReplicaRef, number: int) -> Iterator[Mapping[str, Export]]:
        there = self._replica(replica)
        point = there.lineage().point(number)
        if point is None:
            raise GiveUp("point.not-found", number=number)
        machine = there.machine()
        snapshot = there.snapshot_of(machine, point)
        with PointReader(there.rule, number) as reader:
            yield {ident: ReaderExport(reader, DiskExport(DiskFile(
                self._connection, machine, device.backing.fileName, snapshot.ref),
                f"{snapshot.name}.{ident}"))
                for ident, device in there.devices_of(snapshot, point).items()}

    def read_blob(self, replica: ReplicaRef, blob: str) -> Iterator[bytes]:
        there = self._replica(replica)
        found = there.lineage().blobs.get(blob)
        if found is None:
            raise GiveUp("blob.not-found", blob=blob)
        yield from there.read_blob(found)

    def pinned(self, replica: ReplicaRef) -> set[int]:
        there = self._replica(replica)
        return set(_stood_on(there, there.lineage())) | readers.numbers_read(there.rule)

    def retire(self, replica: ReplicaRef, number: int, folded: Path | None,
               progress: Progress) -> Lineage:
        """The snapshot goes, the host merges it into what comes after it. Before that the point
        is marked, so that nobody takes it for whole while that lasts."""
        there = self._replica(replica)
        lineage = there.lineage()
        point = lineage.point(number)
        if point is None:
            return lineage
        if lineage.retiring not in (None, number):
            raise Refused("point.other-retiring", number=number, other=lineage.retiring)
        successor = lineage.successor(number)
        if successor is None:
            raise Refused("point.is-head", number=number)
        pins = _stood_on(there, lineage)
        for pinned in (number, successor.number):
            if pinned in pins:
                raise Refused("point.pinned", number=pinned, by=pins[pinned])
        machine = there.machine()
        digests: tuple[Blob, ...] = (*point.digests, *successor.digests)
        if folded is not None:
            with folded.open("rb") as file:
                digests = (there.store_blob(
                    f"folded-{there.rule}.p{successor.number}-{number}",
                    iter(lambda: file.read(CHUNK), b""), folded.stat().st_size),)
        if lineage.retiring is None:
            lineage = there.store(replace(lineage, retiring=number))
        fault_point("merge.after-mark")
        progress(0, 1)
        readers.end_readers(there.rule)
        name = point.disks[0].file.partition("/")[0]
        snapshot = there.snapshots(machine).get(name)
        if snapshot is not None:
            snapshots.remove(self._connection, machine, snapshot)
        snapshots.consolidate(self._connection, machine)
        progress(1, 1)
        fault_point("merge.after-remove")
        lineage = there.store(replace(lineage, retiring=None, points=tuple(
            replace(p, digests=digests) if p.number == successor.number else p
            for p in lineage.points if p.number != number)))
        fault_point("merge.after-lineage")
        self._forget_blobs(there, lineage, frozenset({*point.digests, *successor.digests}
                           | ({point.firmware_state} if point.firmware_state else set())))
        return lineage

    @staticmethod
    def _forget_blobs(replica: Replica, lineage: Lineage, blobs: frozenset[Blob]) -> None:
        for blob in blobs:
            if blob.name not in lineage.blobs:
                replica.files.delete(blob.name)

    # --- leftovers -------------------------------------------------------------------------------

    def sweep(self, replica: ReplicaRef, keep: Collection[str]) -> list[Leftover]:
        there = self._replica(replica)
        found = nbdkit.sweep(f"hs-{there.rule}-", keep)
        machine = there.find()
        if machine is None:
            return found
        lineage = there.lineage()
        state = State.of(there.config(machine))
        kept = {(i.epoch, i.task) for name in keep if (i := Intent.of_name(name)) is not None}
        if (state is not None and state.task is not None and state.task[0] <= lineage.epoch
                and state.task not in kept and there.unpublished(machine, lineage)
                and standing.read(there.files) is None):
            there.refuse_running(machine)
            there.settle(machine, lineage.head)
            found.append(Leftover("snapshot", state.intent))
        named = lineage.blobs
        for name in there.files.names():
            intent = Intent.of_name(name.partition("-")[2])
            if name in named or name.startswith(_NOT_SWEPT) or (
                    intent is not None and ((intent.epoch, intent.task) in kept
                                            or intent.epoch > lineage.epoch)):
                continue
            if intent is not None or name.startswith(PASSING) or (
                    name.startswith("folded-") and lineage.retiring is None):
                there.files.delete(name)
                found.append(Leftover("volume", name))
        return found


def _stood_on(replica: Replica, lineage: Lineage) -> dict[int, str]:
    """By the number of a point, what stands on it: on its own and on all below."""
    stands = {t.number: str(t.intent) for t in trials.all_of(replica.files)}
    found = standing.read(replica.files)
    if found is not None and not found.kept:
        stands[found.number] = found.name
    return {p.number: by for number, by in stands.items()
            for p in lineage.points if p.number <= number}
