"""The source role: instants are snapshots, changes are told by their change ids."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from ...domain.errors import Fenced, GiveUp, HotspareError, InstantLost, Refused
from ...domain.machine import Power, VmDescription
from ...faultpoints import fault_point
from ..port import (
    Intent,
    Leftover,
    PointInTime,
    Quiesce,
    SourceCapabilities,
    Token,
)
from . import nbdkit, power, snapshots, tracking
from .connection import Connection
from .machine_read import disk_id, disks_of
from .machines import described, find_machine, read_machine
from .point import SnapshotDisk, SnapshotPoint
from .snapshots import Snapshot
from .transports import DiskExport, DiskFile

MIN_INTERVAL_S = 60
"""A snapshot made and removed takes tens of seconds."""

_QUIESCE_ATTEMPTS = 2


class VsphereSource:
    """Implements :class:`~hotspare.platforms.port.Source`."""

    capabilities = SourceCapabilities(tracking=True, quiesce=True, lan_free=True,
                                      min_interval_s=MIN_INTERVAL_S)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._opened: dict[str, Token | None] = {}  # intents of this process -> tracking if lost

    def inspect(self, vm: str) -> VmDescription:
        return read_machine(self._connection, find_machine(self._connection, vm))

    def power(self, vm: str) -> Power:
        return power.power_of(self._connection, find_machine(self._connection, vm))

    def shut_down(self, vm: str, grace_s: float, force: bool) -> None:
        machine = find_machine(self._connection, vm)
        if power.shut_down(self._connection, machine, grace_s):
            return
        if not force:
            power.refuse_without_tools(self._connection, machine, vm)
            raise Refused("source.still-runs", vm=vm, grace_s=grace_s)
        power.power_off(self._connection, machine)

    def plug(self, vm: str, plugged: bool) -> None:
        power.plug(self._connection, find_machine(self._connection, vm), plugged)

    def token_name(self, token: Token) -> str:
        return str(token.get("snapshot", ""))

    def prepare(self, quiesce: Quiesce) -> None:
        pass

    # --- opening ---------------------------------------------------------------------------------

    def open_point(self, vm: str, base: Token | None, quiesce: Quiesce, intent: Intent,
                   lan_free: bool = False) -> PointInTime:
        machine = find_machine(self._connection, vm)
        now = read_machine(self._connection, machine)
        own = snapshots.own(self._connection, machine, intent.rule)
        newest = max((s.intent.epoch for s in own), default=0)
        if newest > intent.epoch:
            raise Fenced("rule.fenced", rule=intent.rule, found=newest, epoch=intent.epoch)
        found = next((s for s in own if s.intent == intent), None)
        if found is None and str(intent) in self._opened:
            raise InstantLost("source.snapshot-gone", self._opened[str(intent)], vm=now.name)
        for snapshot in own:
            if snapshot.intent.age < intent.age:
                snapshots.remove(self._connection, machine, snapshot)
        began = time.monotonic()
        taken = found or self._take(machine, now, quiesce, intent)
        stall_ms = (time.monotonic() - began) * 1000 if (
            found is None and taken.facts["consistency"] == "quiesced") else 0.0
        point = self._point(machine, taken, base, stall_ms, lan_free)
        self._opened[str(intent)] = point.token
        return point

    def _take(self, machine: Any, vm: VmDescription, quiesce: Quiesce, intent: Intent) -> Snapshot:
        tracking.enable(self._connection, machine)
        note = ""
        fault_point("source.before-begin")
        if quiesce != "off" and vm.power != "off":
            made, note = self._take_quiesced(machine, vm, intent)
            if made is not None:
                return made
            if quiesce == "require":
                raise Refused("quiesce.failed", vm=vm.name, note=note)
        made = snapshots.create(self._connection, machine, intent, False, {
            "taken_at": time.time(), "consistency": "off" if vm.power == "off" else "crash",
            "note": note, "power": vm.power})
        fault_point("source.after-begin")
        return made

    def _take_quiesced(self, machine: Any, vm: VmDescription,
                       intent: Intent) -> tuple[Snapshot | None, str]:
        """The snapshot, or None and why there is none."""
        if vm.power == "paused":
            return None, "quiesce.paused"
        if not power.tools_run(self._connection, machine):
            return None, "quiesce.no-tools"
        for _ in range(_QUIESCE_ATTEMPTS):
            try:
                made = snapshots.create(self._connection, machine, intent, True, {
                    "taken_at": time.time(), "consistency": "quiesced", "note": "",
                    "power": vm.power})
            except GiveUp as error:
                if error.code != "snapshot.failed":
                    raise
                # it says of itself that it is quiesced: nobody may take it for that
                for snapshot in snapshots.own(self._connection, machine, intent.rule):
                    if snapshot.intent == intent:
                        snapshots.remove(self._connection, machine, snapshot)
            else:
                fault_point("source.after-begin")
                return made, ""
        return None, "quiesce.refused"

    def _point(self, machine: Any, snapshot: Snapshot, base: Token | None, stall_ms: float,
               lan_free: bool) -> SnapshotPoint:
        if not {"taken_at", "consistency", "note", "power"} <= snapshot.facts.keys():
            raise GiveUp("source.foreign-snapshot", snapshot=snapshot.name)
        config = self._connection.read(snapshot.ref, "config")["config"]
        state = {"running": "poweredOn", "paused": "suspended"}.get(
            snapshot.facts["power"], "poweredOff")
        vm = described(self._connection, config, state, True)
        specs = {d.id: d for d in vm.disks}
        disks = [
            SnapshotDisk(specs[disk_id(device)], DiskExport(DiskFile(
                self._connection, machine, device.backing.fileName, snapshot.ref,
                off=vm.power == "off", whole=device.backing.parent is None, lan_free=lan_free),
                f"{snapshot.name}.{disk_id(device)}"),
                tracking.changes(self._connection, machine, snapshot.ref, device, base))
            for device in disks_of(config.hardware.device)]
        return SnapshotPoint(self._connection, machine, snapshot, vm, disks,
                             tracking.token(snapshot.name, config), stall_ms)

    # --- sweep -----------------------------------------------------------------------------------

    def sweep(self, vm: str, rule: str, keep: Collection[str],
              bases: Collection[str] = ()) -> list[Leftover]:
        found = nbdkit.sweep(f"hs-{rule}-", keep)
        try:
            machine = find_machine(self._connection, vm)
        except GiveUp as error:
            if error.code == "vm.not-found":
                return found
            raise
        for snapshot in snapshots.own(self._connection, machine, rule):
            if snapshot.name not in keep:
                found.append(self._removed(machine, snapshot))
        if snapshots.consolidate(self._connection, machine):
            found.append(Leftover("consolidation", vm))
        return found

    def _removed(self, machine: Any, snapshot: Snapshot) -> Leftover:
        error = ""
        try:
            snapshots.remove(self._connection, machine, snapshot)
        except HotspareError as fault:
            if fault.action == "reconnect":
                raise
            error = str(fault)
        return Leftover("snapshot", snapshot.name, error)
