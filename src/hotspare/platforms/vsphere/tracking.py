"""Changed block tracking: what a change id may be trusted for, and the areas that it tells.

A change id is ``UUID/number``; the platform makes a new UUID whenever tracking began anew (it was
switched off and on, the machine lost its power, was reverted, or moved without its tracking file).
Source: Virtual Disk Development Kit Programming Guide, "Changed Block Tracking".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyVmomi import vim, vmodl

from ...domain.errors import TrackingUnusable
from ...domain.extents import Extent
from ..port import ChangedAreas, Changes, Token, Unknown
from .connection import Connection
from .machine_read import disk_id, disks_of, size_of


def enable(connection: Connection, machine: Any) -> None:
    """Track from the next stun of the machine on, which a snapshot is; nothing where it is on, or
    cannot be."""
    values = connection.read(machine, "config.changeTrackingEnabled", "capability")
    if not values["capability"].changeTrackingSupported or values.get(
            "config.changeTrackingEnabled"):
        return
    with connection.calls(vm=machine._moId):
        task = machine.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=True))
    connection.wait(task, vm=machine._moId)


def token(name: str, config: Any) -> Token | None:
    """The base of a next run, of a snapshot's configuration; None where nothing is tracked.
    ``disks``: change id (empty: not tracked), the disk's own uuid and its size in bytes, by disk
    id."""
    disks = {disk_id(d): [d.backing.changeId or "", d.backing.uuid or "", size_of(d)]
             for d in disks_of(config.hardware.device)}
    return {"snapshot": name, "disks": disks} if any(c for c, *_ in disks.values()) else None


def changes(connection: Connection, machine: Any, snapshot: Any, device: Any,
            base: Token | None) -> Changes:
    """What may have changed of a snapshot's disk since ``base``."""
    if base is None:
        return Unknown("first-copy")
    known = base.get("disks", {}).get(disk_id(device))
    if known is None:
        return Unknown("tracking.disk-added")
    since, uuid, size = known
    now = device.backing.changeId or ""
    if not (now and since):
        return Unknown("tracking.not-on")
    if uuid != (device.backing.uuid or ""):
        return Unknown("tracking.disk-replaced")
    if size != size_of(device):
        return Unknown("tracking.resized")
    if since.rpartition("/")[0] != now.rpartition("/")[0]:
        return Unknown("tracking.begun-anew")
    return ChangedAreas(DiskAreas(int(device.key), size, since, snapshot._moId,
                                  connection, machine, snapshot))


@dataclass(frozen=True, slots=True)
class DiskAreas:
    """The areas of a disk that changed since a change id, asked for page by page each time that
    they are gone through. Raises TrackingUnusable ``tracking.refused`` where the platform does
    not stand by the change id."""

    key: int
    size: int
    since: str
    at: str                         # the snapshot
    connection: Connection = field(compare=False, repr=False)
    machine: Any = field(compare=False, repr=False)
    snapshot: Any = field(compare=False, repr=False)

    def __iter__(self) -> Iterator[Extent]:
        at = end = 0
        while at < self.size:
            page = self._page(at)
            for area in page.changedArea:
                start, stop = int(area.start), min(int(area.start) + int(area.length), self.size)
                if start < end:
                    raise TrackingUnusable("tracking.refused", disk=f"disk-{self.key}",
                                           reason=f"area at {start} after {end}")
                if stop > start:
                    yield Extent(start, stop - start)
                    end = stop
            following = int(page.startOffset) + int(page.length)
            if following <= at:
                raise TrackingUnusable("tracking.refused", disk=f"disk-{self.key}",
                                       reason=f"no progress at {at}")
            at = following

    def _page(self, at: int) -> Any:
        with self.connection.calls(vm=self.machine._moId):
            try:
                return self.machine.QueryChangedDiskAreas(
                    self.snapshot, self.key, at, self.since)
            except (vmodl.fault.InvalidArgument, vim.fault.FileFault,
                    vim.fault.NotFound) as error:
                raise TrackingUnusable(
                    "tracking.refused", disk=f"disk-{self.key}",
                    reason=type(error).__name__.rpartition(".")[2]) from error
