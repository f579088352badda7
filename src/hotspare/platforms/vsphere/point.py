"""An open instant: a snapshot of ours, and its disks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...domain.errors import GiveUp, InstantLost
from ...domain.lineage import Consistency
from ...domain.machine import DiskSpec, VmDescription
from ...faultpoints import fault_point
from ..port import Changes, Token
from . import snapshots
from .connection import Connection
from .snapshots import Snapshot
from .transports import DiskExport


@dataclass
class SnapshotDisk:
    """Implements :class:`~hotspare.platforms.port.PointDisk`."""

    spec: DiskSpec
    export: DiskExport
    changes: Changes

    @property
    def transport(self) -> str:
        return self.export.transport


class SnapshotPoint:
    """Implements :class:`~hotspare.platforms.port.PointInTime`.

    UEFI variables are not read: those of VMware's firmware are of no use to any other."""

    firmware_state: bytes | None = None

    def __init__(self, connection: Connection, machine: Any, snapshot: Snapshot,
                 vm: VmDescription, disks: Sequence[SnapshotDisk], token: Token | None,
                 stall_ms: float) -> None:
        self._connection, self._machine, self._snapshot = connection, machine, snapshot
        self.vm, self.disks, self.token, self.stall_ms = vm, disks, token, stall_ms
        self._closed = False

    @property
    def taken_at(self) -> float:
        return float(self._snapshot.facts["taken_at"])

    @property
    def consistency(self) -> Consistency:
        found: Consistency = self._snapshot.facts["consistency"]
        return found

    @property
    def note(self) -> str:
        return str(self._snapshot.facts["note"])

    def healthy(self) -> None:
        try:
            self._connection.read(self._snapshot.ref, "vm")
        except GiveUp as error:
            if error.code != "vsphere.object-gone":
                raise
            self._closed = True
            # what was written since is told by the change ids, without the snapshot
            raise InstantLost("source.snapshot-gone", self.token, vm=self.vm.name) from error

    def commit(self) -> None:
        for snapshot in snapshots.own(self._connection, self._machine,
                                      self._snapshot.intent.rule):
            if snapshot.intent.age < self._snapshot.intent.age:
                snapshots.remove(self._connection, self._machine, snapshot)
        fault_point("snapshot.older-gone")
        self.release()
        fault_point("snapshot.gone")

    def release(self) -> None:
        if not self._closed:
            snapshots.remove(self._connection, self._machine, self._snapshot)
            snapshots.consolidate(self._connection, self._machine)
            self._closed = True
