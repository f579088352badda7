"""The target on libvirt: restore points as an external qcow2 chain in one storage pool."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from ...domain.errors import ForeignChange, GiveUp, HotspareError, Refused
from ...domain.lineage import Lineage
from ...domain.machine import DiskSpec, VmDescription
from ...faultpoints import fault_point
from .. import lineage_store
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
from . import host_facts, names, retire, session, started
from .adapt import adapted
from .connection import Connection
from .domain_write import checked_vm
from .receiver import (
    Medium,
    Receiver,
    ReceiverExport,
    end_receivers,
    live_readers,
    remove_sockets,
)
from .replica import LINEAGE_KEY, Replica, files_of, machines

MAX_POINTS = 100
"""Depth of a chain. QEMU opens two files for each, and reads get slower with it: 60 points read at
56 % of the sequential speed of one (design, section 6). The lineage disk has room for them."""

_FREE_FLOOR = 256 * 1024 * 1024
"""Bytes that a pool must have free for a new replica. How much a thin copy needs is not known."""


_NOT_SWEPT = ("lineage", "test", "test-nvram")
"""A test may begin and end while others sweep: it is cleared by name (:mod:`.rehearsal`)."""

_UNREADABLE = re.compile(
    r'-blockdev .*"driver":"qcow2".*\}: (?!.*(Permission denied|Failed to get|Too many|allocate))'
    r"|Cannot access (storage|backing) file .*No such file")
"""What QEMU and libvirt say of a file of a point that is no image any more, or gone."""


class LibvirtTarget:
    """Implements :class:`~hotspare.platforms.port.Target`."""

    capabilities = TargetCapabilities(writes_need_power_off=False, test_during_write=True,
                                      max_points=MAX_POINTS, test_boot="overlay")

    def __init__(self, connection: Connection, key: bytes) -> None:
        self._connection = connection
        self._key = key

    def _replica(self, ref: ReplicaRef) -> Replica:
        return Replica(self._connection, self._key, ref)

    # --- the replica ---------------------------------------------------------------------------

    def ensure_replica(self, spec: ReplicaSpec, vm: VmDescription, intent: Intent) -> ReplicaRef:
        names.checked_rule(spec.rule)
        vm = checked_vm(adapted(vm, spec.devices))
        session.checked_disks(vm.disks)
        ref = ReplicaRef(spec.rule, spec.storage)
        replica = self._replica(ref)
        replica.pool.check()
        host_facts.read(self._connection, vm).check(vm, spec.networks)
        started.refuse_taken(self._connection, spec.name, spec.rule)
        present = replica.volume_names()
        if names.lineage(spec.rule) in present:
            return ref
        if present:
            # points without a lineage: it was deleted behind our back, and a new empty one would
            # let the sweep take them for leftovers
            raise ForeignChange("lineage.missing", rule=spec.rule, storage=spec.storage)
        replica.pool.check(need=_FREE_FLOOR)
        replica.pool.create(names.lineage(spec.rule), lineage_store.DISK_BYTES, "raw")
        return ref

    def remove_replica(self, replica: ReplicaRef) -> list[Leftover]:
        there = self._replica(replica)
        end_receivers(self._connection, names.receiver(there.rule))
        lineage = there.lineage()
        pins = there.pins(lineage)
        if pins:
            raise Refused("replica.in-use", rule=there.rule,
                          by=", ".join(sorted(set().union(*pins.values()))))
        # newest first: what is left after a crash is a chain that still reads, and the lineage
        # goes last, as without it nothing tells whose the rest is
        used = {s.rsplit("/", 1)[-1] for sources in machines(self._connection).values()
                for s in sources}       # the UEFI variables of a replica that was kept
        order = sorted(((name, parsed) for name, parsed in there.volume_names().items()
                        if name not in used), key=lambda item: (
            item[1].kind == "lineage", item[1].kind != "merge", -item[1].number))
        return [_delete(there, name) for name, _ in order]

    def lineage(self, replica: ReplicaRef) -> Lineage:
        return self._replica(replica).lineage()

    def fence(self, replica: ReplicaRef, epoch: int) -> None:
        there = self._replica(replica)
        there.check_epoch(there.lineage(), epoch)
        end_receivers(self._connection, names.receiver(there.rule), lost=True)
        lineage = there.lineage()
        there.check_epoch(lineage, epoch)
        if lineage.epoch == epoch or not there.exists():
            return
        with there.receiver([there.lineage_medium()]) as receiver, \
                receiver.device(LINEAGE_KEY) as device:
            there.update_epoch(device, epoch)

    # --- points --------------------------------------------------------------------------------

    def begin(self, replica: ReplicaRef, disks: Sequence[DiskSpec], base: int | None,
              intent: Intent, sealed: bool = True) -> Session:
        return session.begin(self._replica(replica), disks, base, intent, sealed)

    def seal(self, replica: ReplicaRef, number: int) -> None:
        there = self._replica(replica)
        head = there.lineage().head
        if head is None or head.number != number:
            raise Refused("replica.base-stale", base=number, head=head.number if head else None)
        retire.seal_files(there, [disk.file for disk in head.disks])

    @contextlib.contextmanager
    def read_point(self, replica: ReplicaRef, number: int) -> Iterator[Mapping[str, Export]]:
        there = self._replica(replica)
        point = there.lineage().point(number)
        if point is None:
            raise GiveUp("point.not-found", number=number)
        media = [Medium(d.id, there.pool.path(d.file)) for d in point.disks]
        name = names.reader(there.rule, number, os.urandom(3).hex())
        try:
            opened = Receiver(self._connection, name, media, writable=False)
        except GiveUp as error:
            reason = str(error.fields.get("reason", ""))
            if error.code == "platform.failed" and _UNREADABLE.search(reason):
                raise GiveUp("point.unreadable", number=number, reason=reason) from error
            raise
        with opened as receiver:
            yield {m.key: ReceiverExport(receiver, m.key) for m in media}

    def read_blob(self, replica: ReplicaRef, blob: str) -> Iterator[bytes]:
        there = self._replica(replica)
        found = there.lineage().blobs.get(blob)
        if found is None:
            raise GiveUp("blob.not-found", blob=blob)
        yield from there.read_blob(found)

    def pinned(self, replica: ReplicaRef) -> set[int]:
        there = self._replica(replica)
        ours = f"{names.receiver(there.rule)}-"
        read = {names.read_by(name) for name in live_readers() if name.startswith(ours)}
        return set(there.pins(there.lineage())) | read

    def retire(self, replica: ReplicaRef, number: int, folded: Path | None,
               progress: Progress) -> Lineage:
        return retire.retire(self._replica(replica), number, folded, progress)

    # --- leftovers -----------------------------------------------------------------------------

    def sweep(self, replica: ReplicaRef, keep: Collection[str]) -> list[Leftover]:
        there = self._replica(replica)
        found = self._sweep_receivers(there, keep)
        try:
            lineage = there.lineage()
        except HotspareError as error:
            # without the truth nothing tells a leftover from a point
            return [*found, Leftover("volume", names.lineage(there.rule), error=str(error))]
        if lineage.sequence == 0:
            return found    # never written: there is nothing, or it is not the disk that we knew
        named = {name for point in lineage.points for name in files_of(point)}
        used = {s.rsplit("/", 1)[-1] for sources in machines(self._connection).values()
                for s in sources}
        for name, parsed in there.volume_names().items():
            if (parsed.kind in _NOT_SWEPT or name in named or name in used
                    or parsed.epoch > lineage.epoch or names.kept(parsed, keep)):
                continue
            if lineage.retiring is not None and parsed.kind == "digests" and parsed.epoch < 0:
                continue    # the folded table of a merge that goes on
            found.append(_delete(there, name))
            fault_point("sweep.after-delete")
        return found

    def _sweep_receivers(self, there: Replica, keep: Collection[str]) -> list[Leftover]:
        """End the rule's receivers, but for one that has open what a kept intent made: that is a
        session. Without one, remove the sockets of receivers that were killed (on this machine;
        on another host they cost a directory entry)."""
        rule, prefix = there.rule, names.receiver(there.rule)
        for domain, sources in machines(self._connection).items():
            parsed = (names.parse(s.rsplit("/", 1)[-1], rule) for s in sources)
            if domain == prefix and any(p is not None and p.kind == "data" and names.kept(p, keep)
                                        for p in parsed):
                return []
        found = [Leftover("domain", name)
                 for name in end_receivers(self._connection, prefix, lost=True)]
        return found + remove_sockets(self._connection, prefix)


def _delete(replica: Replica, name: str) -> Leftover:
    try:
        replica.pool.delete(name)
    except HotspareError as error:
        return Leftover("volume", name, error=str(error))
    return Leftover("volume", name)
