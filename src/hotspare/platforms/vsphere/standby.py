"""The standby role: the replica's machine itself, reverted to a point, runs.

What it writes goes above a snapshot of ours that is made before it is switched on: its change ids
tell a failback what the replica wrote. Undo is a revert to the head; to keep it costs nothing but
the merge of the snapshots, when the replica is removed.
"""

from __future__ import annotations

from typing import Any

from pyVmomi import vim

from ...domain.errors import ForeignChange, GiveUp, Refused, SealMissing
from ...domain.lineage import Lineage, Manifest
from ...domain.machine import Power
from ...faultpoints import fault_point
from ..port import Intent, Progress, ReplicaRef, Running, StartSpec, Token
from . import placement, power, readers, snapshots, standing, tracking, trials
from .connection import Connection
from .machine_read import disks_of, size_of
from .machine_write import cards_changed, machine_spec
from .replica import RULE, STATE, Replica, options_of
from .standing import Standing
from .trials import Trial

_STARTED = "hotspare.failover"      # its intent, in the configuration that was made for it


class VsphereStandby:
    """Implements :class:`~hotspare.platforms.port.Standby`."""

    def __init__(self, connection: Connection, key: bytes) -> None:
        self._connection, self._key = connection, key

    def _replica(self, ref: ReplicaRef) -> Replica:
        return Replica(self._connection, self._key, ref)

    # --- start -----------------------------------------------------------------------------------

    def start(self, replica: ReplicaRef, number: int, how: StartSpec, intent: Intent) -> Running:
        there = self._replica(replica)
        machine = there.machine()
        if how.kind == "test":
            trial = Trial(intent, number)
            if trials.machine_of(there, trial.uuid) is None:
                self._check(machine, _usable(there.lineage(), number), how)
            trials.begin(there, trial)
            # again: it is pinned now, and a merge that began before has marked it
            trials.start(there, trial, _usable(there.lineage(), number), how)
            return Running(replica, number, how.name, trial.uuid, str(intent))
        found = standing.read(there.files)
        if found is not None and found.intent != str(intent):
            raise Refused("name.taken", name=found.name)
        if found is None:
            lineage = there.lineage()
            there.check_epoch(lineage, intent.epoch)
            point = _usable(lineage, number)
            machine_spec(self._connection, point.vm, how.name, how.networks)
            self._check(machine, point, how)
            there.refuse_running(machine)
            readers.end_readers(there.rule)
            self._set_aside(there, machine, lineage, intent)
            name = str(self._connection.read(machine, "name")["name"])
            found = Standing(str(intent), number, how.name, name)
            if not standing.write(there.files, found):
                raise Refused("name.taken", name=how.name)
            fault_point("stand.after-mark")
        self._shape(there, machine, found, how, intent)
        power.power_on(self._connection, machine)
        fault_point("stand.after-start")
        return self._running(there, found)

    def _check(self, machine: Any, point: Manifest, how: StartSpec) -> None:
        """Raises Refused ``vm.invalid``, ``name.taken``, ``target.memory``."""
        if not how.name or len(how.name) > 80 or set(how.name) & set("/\\%"):
            raise Refused("vm.invalid", field="name", value=how.name)
        placement.refuse_taken(self._connection, how.name, machine)
        host = self._connection.read(machine, "runtime.host")["runtime.host"]
        placement.refuse_memory(self._connection, host, point.vm.memory)

    def _set_aside(self, replica: Replica, machine: Any, lineage: Lineage,
                   intent: Intent) -> None:
        """What somebody else wrote to the replica is kept as a snapshot that is theirs: a failover
        must not wait for them, nor throw it away."""
        head = lineage.head
        if head is None or replica.unpublished(machine, lineage):
            return
        try:
            replica.require_clean(machine, head, {d.id for d in head.disks})
        except SealMissing:
            pass                    # it cannot be told; nothing says that anybody did
        except ForeignChange as error:
            if error.code != "replica.changed":
                raise
            name = f"written by others before {intent}"
            # whoever was killed here finds the machine above it, not above the head
            if name not in snapshots.names(self._connection, machine):
                snapshots.create_named(self._connection, machine, name, intent, {})
            fault_point("stand.set-aside")

    def _shape(self, replica: Replica, machine: Any, found: Standing, how: StartSpec,
               intent: Intent) -> None:
        """Revert, configure, and begin the tracking: each unless it is done."""
        base = _base_name(found)
        if base in snapshots.names(self._connection, machine):
            return
        point = _usable(replica.lineage(), found.number)
        if options_of(replica.config(machine)).get(_STARTED) != found.intent:
            with self._connection.calls(vm=machine._moId):
                task = replica.snapshot_of(machine, point).ref.RevertToSnapshot_Task()
            self._connection.wait(task, vm=machine._moId)
            fault_point("stand.after-revert")
            spec = machine_spec(self._connection, point.vm, found.name, how.networks)
            config = replica.config(machine)
            spec.deviceChange = cards_changed(config.hardware.device, spec.deviceChange,
                                              how.connect_network)
            spec.version = None         # the hardware's version only ever goes up
            if spec.guestId == config.guestId:
                spec.guestId = None
            spec.extraConfig = [vim.option.OptionValue(key=_STARTED, value=found.intent)]
            spec.changeTrackingEnabled = True
            replica.reconfigure(machine, spec)
            fault_point("stand.after-configure")
        snapshots.create_named(self._connection, machine, base, intent, {"number": found.number})
        fault_point("stand.after-snapshot")

    def _running(self, replica: Replica, found: Standing) -> Running:
        return Running(replica.ref, found.number, found.name, replica.uuid, found.intent)

    # --- while it stands -------------------------------------------------------------------------

    def find(self, replica: ReplicaRef) -> Running | None:
        there = self._replica(replica)
        found = standing.read(there.files)
        return None if found is None else self._running(there, found)

    def _standing(self, running: Running) -> tuple[Replica, Any, Standing] | None:
        """With its machine; None when it does not stand (any more)."""
        there = self._replica(running.replica)
        found = standing.read(there.files)
        machine = there.find()
        if found is None or found.intent != running.intent or machine is None:
            return None
        return there, machine, found

    def _machine(self, running: Running) -> Any:
        """Of a failover or of a test; None when there is none."""
        there = self._replica(running.replica)
        if running.ref != there.uuid:
            return trials.machine_of(there, running.ref)
        stands = self._standing(running)
        return None if stands is None else stands[1]

    def power(self, running: Running) -> Power:
        machine = self._machine(running)
        return "off" if machine is None else power.power_of(self._connection, machine)

    def power_on(self, running: Running) -> None:
        machine = self._machine(running)
        if machine is None:
            raise GiveUp("failover.not-standing", name=running.name)
        power.power_on(self._connection, machine)

    def stop(self, running: Running, grace_s: float, force: bool = True) -> None:
        machine = self._machine(running)
        if machine is None or power.shut_down(self._connection, machine, grace_s):
            return
        if not force:
            power.refuse_without_tools(self._connection, machine, running.name)
            raise Refused("replica.still-runs", name=running.name, grace_s=grace_s)
        power.power_off(self._connection, machine)

    def tracking(self, running: Running) -> Token | None:
        there = self._standing(running)
        if there is None:
            return None
        base = _base_name(there[2])
        ref = snapshots.names(self._connection, there[1]).get(base)
        if ref is None:
            return None
        return tracking.token(base, self._connection.read(ref, "config")["config"])

    # --- the end ---------------------------------------------------------------------------------

    def discard(self, running: Running) -> None:
        there = self._standing(running)
        if there is None:
            return
        replica, machine, found = there
        power.power_off(self._connection, machine)
        fault_point("unstand.after-off")
        lineage = replica.lineage()
        replica.settle(machine, lineage.head)
        fault_point("unstand.after-revert")
        published = {d.file.partition("/")[0] for p in lineage.points for d in p.disks}
        for name, ref in snapshots.names(self._connection, machine).items():
            intent = Intent.of_name(name)
            if intent is not None and intent.rule == replica.rule and name not in published:
                snapshots.remove_ref(self._connection, machine, ref)
        replica.reconfigure(machine, vim.vm.ConfigSpec(name=found.was))
        fault_point("unstand.after-rename")
        standing.remove(replica.files)

    def keep(self, running: Running, progress: Progress) -> None:
        there = self._standing(running)
        if there is None:
            raise GiveUp("failover.not-standing", name=running.name)
        replica, machine, _ = there
        total = sum(map(size_of, disks_of(replica.config(machine).hardware.device)))
        progress(0, total)
        progress(total, total)
        standing.mark_kept(replica.files)

    def let_go(self, running: Running) -> None:
        there = self._replica(running.replica)
        machine = there.find()
        if machine is not None:
            there.reconfigure(machine, vim.vm.ConfigSpec(
                instanceUuid=there.fresh_uuid(), extraConfig=[
                    vim.option.OptionValue(key=key, value="") for key in (RULE, STATE, _STARTED)]))
        standing.remove(there.files)


def _base_name(found: Standing) -> str:
    return f"{found.intent}.base"


def _usable(lineage: Lineage, number: int) -> Manifest:
    point = lineage.point(number)
    if point is None:
        raise GiveUp("point.not-found", number=number)
    if lineage.retiring == number:
        raise Refused("point.retiring", number=number)
    return point

