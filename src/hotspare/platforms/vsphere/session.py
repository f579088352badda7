"""The one unpublished state of a replica: its current disks, until they are a snapshot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyVmomi import vim

from ...domain.errors import ForeignChange, GiveUp, Refused
from ...domain.lineage import Lineage, Manifest
from ...domain.machine import DiskSpec
from ...faultpoints import fault_point
from ..port import Export, Intent, NbdEndpoint
from ..published import PublishedSession, same_point
from . import snapshots
from .files import CHUNK
from .machine_read import disks_of, size_of
from .machine_write import Slots, new_disk, removed_disk, slots_of
from .replica import Replica, State, point_name
from .transports import DiskExport, DiskFile


def checked_disks(disks: Sequence[DiskSpec]) -> None:
    """Raises Refused ``disk.invalid``."""
    seen = set()
    for disk in disks:
        if not disk.id or len(disk.id) > 64 or disk.id in seen:
            raise Refused("disk.invalid", disk=disk.id, reason="id")
        if disk.size <= 0 or disk.size % 1024:
            raise Refused("disk.invalid", disk=disk.id, reason=f"size {disk.size}")
        seen.add(disk.id)


class VsphereSession:
    """Implements :class:`~hotspare.platforms.port.Session`."""

    def __init__(self, replica: Replica, machine: Any, keys: Mapping[str, int], number: int,
                 intent: Intent, resumed: bool) -> None:
        self._replica, self._machine, self._keys = replica, machine, keys
        self._number, self._intent, self._resumed = number, intent, resumed
        self._published: Manifest | None = None
        self._exports = {ident: _WritableExport(replica, machine, key, intent, ident)
                         for ident, key in keys.items()}

    @property
    def number(self) -> int:
        return self._number

    @property
    def disks(self) -> Mapping[str, Export]:
        return self._exports

    @property
    def resumed(self) -> bool:
        return self._resumed

    def publish(self, manifest: Manifest, digests: Path,
                firmware_state: bytes | None) -> Manifest:
        """What was written is on the datastore already: an export that was flushed or closed is
        (VMware's library does not cache), and one that is open would keep the snapshot away."""
        if self._published is not None:
            return self._published
        replica, intent, number = self._replica, self._intent, self._number
        expected = (replica.rule, number, intent.epoch, intent.task)
        found = (manifest.rule, manifest.number, manifest.epoch, manifest.task)
        if found != expected or [d.id for d in manifest.disks] != list(self._keys):
            raise GiveUp("point.mismatch", expected=expected, found=found)
        replica.check_epoch(replica.lineage(), intent.epoch)
        fault_point("point.before-digests")
        with digests.open("rb") as file:
            blob = replica.store_blob(f"digests-{intent}.p{number}",
                                      iter(lambda: file.read(CHUNK), b""),
                                      digests.stat().st_size)
        firmware = None if firmware_state is None else replica.store_blob(
            f"firmware-{intent}.p{number}", [firmware_state], len(firmware_state))
        fault_point("point.after-digests")
        replica.refuse_running(self._machine)
        name = point_name(intent, number)
        if name not in replica.snapshots(self._machine):
            snapshots.create_named(replica.connection, self._machine, name, intent,
                                   {"number": number, "taken_at": manifest.taken_at,
                                    "consistency": manifest.consistency})
        fault_point("point.after-snapshot")
        filled = replace(manifest, digests=(blob,), firmware_state=firmware, disks=tuple(
            replace(d, file=f"{name}/{self._keys[d.id]}") for d in manifest.disks))
        lineage = replica.lineage()
        replica.check_epoch(lineage, intent.epoch)
        if lineage.point(number) is not None or number <= lineage.last_number:
            self._published = same_point(lineage, filled)
        else:
            replica.store(lineage.with_point(filled))
            self._published = filled
        fault_point("point.after-lineage")
        return self._published

    def abandon(self) -> None:
        if self._published is None:
            self.close()
            lineage = self._replica.lineage()
            self._replica.check_epoch(lineage, self._intent.epoch)
            self._replica.settle(self._machine, lineage.head)

    def close(self) -> None:
        for export in self._exports.values():
            export.end()


class _WritableExport:
    """Implements :class:`~hotspare.platforms.port.Export`. Looks before each opening that nobody
    has taken over and that it is still the machine's current disk: to write to a snapshot's file
    would change a point."""

    def __init__(self, replica: Replica, machine: Any, key: int, intent: Intent,
                 ident: str) -> None:
        self._replica, self._machine, self._key = replica, machine, key
        self._intent, self._ident = intent, ident
        self._open: list[contextlib.ExitStack] = []

    @contextlib.contextmanager
    def open(self) -> Iterator[NbdEndpoint]:
        replica, intent = self._replica, self._intent
        replica.check_epoch(replica.lineage(), intent.epoch)
        config = replica.config(self._machine)
        state = State.of(config)
        device = next((d for d in disks_of(config.hardware.device) if int(d.key) == self._key),
                      None)
        if state is None or device is None or state.task != (intent.epoch, intent.task):
            raise ForeignChange("replica.changed", disk=self._ident, file=self._machine._moId,
                                size=0)
        if _unsnap(replica, self._machine, intent):
            device = next(d for d in disks_of(replica.config(self._machine).hardware.device)
                          if int(d.key) == self._key)
        stack = contextlib.ExitStack()
        endpoint = stack.enter_context(DiskExport(DiskFile(
            replica.connection, self._machine, device.backing.fileName, off=True, writable=True),
            f"{intent}.{self._ident}").open())
        self._open.append(stack)
        try:
            yield endpoint
        finally:
            stack.close()
            if stack in self._open:
                self._open.remove(stack)

    def end(self) -> None:
        while self._open:
            self._open.pop().close()


def begin(replica: Replica, disks: Sequence[DiskSpec], base: int | None, intent: Intent,
          sealed: bool) -> VsphereSession | PublishedSession:
    """See :meth:`Target.begin`."""
    checked_disks(disks)
    machine = replica.machine()
    lineage = replica.lineage()
    replica.check_epoch(lineage, intent.epoch)
    head = lineage.head
    if head is not None and (head.epoch, head.task) == (intent.epoch, intent.task):
        return PublishedSession(head)
    _check_base(lineage, base, disks)
    replica.refuse_running(machine)
    lineage = replica.raise_epoch(intent.epoch)
    number = lineage.last_number + 1
    state = State.of(replica.config(machine))
    resumed = _resumable(replica, machine, state, disks, base, intent)
    if resumed:
        _unsnap(replica, machine, intent)
        assert state is not None and state.keys is not None
        return VsphereSession(replica, machine, {d.id: state.keys[d.id] for d in disks}, number,
                              intent, True)
    _return_to_head(replica, machine, lineage, state, {d.id for d in disks}, sealed)
    fault_point("point.at-head")
    keys = _shape(replica, machine, disks, head if base is not None else None, intent)
    fault_point("point.shaped")
    return VsphereSession(replica, machine, keys, number, intent, False)


def _check_base(lineage: Lineage, base: int | None, disks: Sequence[DiskSpec]) -> None:
    if base is None:
        return
    head = lineage.head
    if head is None or head.number != base:
        raise Refused("replica.base-stale", base=base, head=head.number if head else None)
    for disk in disks:
        old = head.disk(disk.id)
        if old is not None and disk.size < old.size:
            raise Refused("disk.shrunk", disk=disk.id, size=disk.size, before=old.size)


def _resumable(replica: Replica, machine: Any, state: State | None, disks: Sequence[DiskSpec],
               base: int | None, intent: Intent) -> bool:
    if (state is None or state.keys is None or state.base != (base or 0)
            or state.task != (intent.epoch, intent.task)):
        return False
    sizes = {int(d.key): size_of(d) for d in disks_of(replica.config(machine).hardware.device)}
    return {d.id: d.size for d in disks} == {
        ident: sizes.get(key) for ident, key in state.keys.items()}


def _unsnap(replica: Replica, machine: Any, intent: Intent) -> bool:
    """The snapshot of a point that was not published goes: what is written from now on belongs to
    it, too. Whether there was one."""
    found = [s for s in replica.snapshots(machine).values()
             if (s.intent.epoch, s.intent.task) == (intent.epoch, intent.task)]
    for snapshot in found:
        snapshots.remove(replica.connection, machine, snapshot)
    return bool(found)


def _return_to_head(replica: Replica, machine: Any, lineage: Lineage, state: State | None,
                    wanted: set[str], sealed: bool) -> None:
    """Leave the current disks as the head's snapshot holds them. What an unpublished task of ours
    wrote is thrown away, what anybody else did never in silence."""
    head = lineage.head
    for name, snapshot in replica.snapshots(machine).items():
        if name.endswith(".p0"):        # a process was killed as it settled the machine
            snapshots.remove(replica.connection, machine, snapshot)
    if head is not None and not replica.unpublished(machine, lineage):
        if sealed:
            replica.require_clean(machine, head, wanted)
            return
    elif head is None and state is None:
        return
    replica.discard(machine, head)


def _shape(replica: Replica, machine: Any, disks: Sequence[DiskSpec], below: Manifest | None,
           intent: Intent) -> dict[str, int]:
    """Give the machine the disks of the next point, above those of ``below``; device keys by
    id."""
    config = replica.config(machine)
    devices = config.hardware.device
    current = {int(d.key): d for d in disks_of(devices)}
    before = {d.id: current[int(d.file.partition("/")[2])] for d in below.disks} if below else {}
    keep = {d.id: before[d.id] for d in disks
            if d.id in before and size_of(before[d.id]) == d.size}
    gone = [d for d in current.values() if d not in keep.values()]
    grown = {d.id: _copy(replica, machine, before[d.id], d, intent) for d in disks
             if d.id in before and d.id not in keep}
    slots = Slots([d for d in devices if d not in gone])
    edits, places = [], {}
    for place, disk in enumerate(disks):
        if disk.id not in keep:
            controller, slot = slots.take(disk)
            places[disk.id] = slot
            edits.append(new_disk(disk, -100 - place, controller, slot[2],
                                  replica.ref.storage, grown.get(disk.id, "")))
    state = State(str(intent), below.number if below else 0)
    replica.reconfigure(machine, vim.vm.ConfigSpec(
        deviceChange=[removed_disk(d, d.backing.parent is None) for d in gone],
        extraConfig=[state.option()], changeTrackingEnabled=True))
    if edits:
        replica.reconfigure(machine, vim.vm.ConfigSpec(deviceChange=[*slots.edits, *edits]))
    there = slots_of(replica.config(machine).hardware.device)
    keys = {d.id: int(keep[d.id].key if d.id in keep else there[places[d.id]].key) for d in disks}
    replica.reconfigure(machine, vim.vm.ConfigSpec(
        extraConfig=[replace(state, keys=keys).option()]))
    return keys


def _copy(replica: Replica, machine: Any, device: Any, disk: DiskSpec, intent: Intent) -> str:
    """A copy of a disk that has grown, made by the host itself: what snapshots hold cannot be
    made larger."""
    connection = replica.connection
    manager, center = connection.content.virtualDiskManager, replica.files.datacenter
    home = device.backing.fileName.rpartition("/")[0]
    file = f"{home}/{intent}.{disk.id}.vmdk"
    with connection.calls(vm=machine._moId):
        task = manager.CopyVirtualDisk_Task(device.backing.fileName, center, file, center, None,
                                            True)
    connection.wait(task, vm=machine._moId)
    with connection.calls(vm=machine._moId):
        task = manager.ExtendVirtualDisk_Task(file, center, disk.size // 1024, False)
    connection.wait(task, vm=machine._moId)
    return file
