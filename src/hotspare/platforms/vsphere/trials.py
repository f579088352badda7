"""Copies of restore points for tests: machines of their own above a point's snapshot.

A copy lies in a directory of its own in the replica's, named by the test and the point. That is
made first and removed last, so all that was made for a test is found by it; the machine has one of
its own in it, which a host removes with the machine. The copy's disks are children of the
snapshot's files (as a linked clone's, but a host without a vCenter can make them, too). They are
taken out before the machine is deleted: a host that knows nothing of the replica would delete what
is below them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blake3 import blake3
from pyVmomi import vim

from ...domain.errors import GiveUp
from ...domain.lineage import Manifest
from ...faultpoints import fault_point
from ..port import Intent, Leftover, StartSpec
from . import power
from .files import Files
from .machine_read import disks_of
from .machine_write import Slots, child_disk, connect_cards, machine_spec
from .replica import RULE, UUID_BEGIN, Replica, directory_of

_NAME = re.compile(r"trial-(hs-[0-9a-f]{8}-e\d+-t\d+-i\d+)\.p(\d+)")


@dataclass(frozen=True, slots=True)
class Trial:
    intent: Intent
    number: int

    @property
    def directory(self) -> str:
        """Its name in the replica's."""
        return f"trial-{self.intent}.p{self.number}"

    @property
    def uuid(self) -> str:
        """The instance uuid of its machine."""
        digest = blake3(str(self.intent).encode()).hexdigest()
        return f"{UUID_BEGIN}001-8{digest[:3]}-{digest[3:15]}"

    @property
    def switch(self) -> str:
        """Of its networks; 31 characters are allowed."""
        return f"hs-{self.intent.rule}-t{self.intent.task}"


def all_of(files: Files) -> list[Trial]:
    """All of a replica, the oldest first."""
    found = []
    for name in files.names("trial-*"):
        parsed = _NAME.fullmatch(name)
        intent = Intent.of_name(parsed[1]) if parsed is not None else None
        if parsed is not None and intent is not None:
            found.append(Trial(intent, int(parsed[2])))
    return sorted(found, key=lambda t: t.intent.age)


def begin(replica: Replica, trial: Trial) -> None:
    """From now on the point is pinned, and the trial found. Idempotent."""
    _directory(replica, trial, "/machine").make_directory()


def _directory(replica: Replica, trial: Trial, below: str = "") -> Files:
    return Files(replica.connection, replica.ref.storage,
                 f"{directory_of(replica.rule)}/{trial.directory}{below}")


def machine_of(replica: Replica, uuid: str) -> Any:
    """The copy's machine or None."""
    with replica.connection.calls():
        return replica.connection.content.searchIndex.FindByUuid(None, uuid, True, True)


def start(replica: Replica, trial: Trial, point: Manifest, how: StartSpec) -> None:
    """Idempotent for the trial."""
    connection = replica.connection
    begin(replica, trial)
    machine = machine_of(replica, trial.uuid)
    if machine is None:
        own = replica.machine()
        placed = connection.read(own, "runtime.host", "resourcePool", "parent")
        with connection.calls(vm=how.name):
            task = placed["parent"].CreateVM_Task(
                _spec(replica, own, trial, point, how), placed["resourcePool"],
                placed["runtime.host"])
        machine = connection.wait(task, vm=how.name)
        fault_point("trial.after-create")
    power.power_on(connection, machine)


def _spec(replica: Replica, own: Any, trial: Trial, point: Manifest, how: StartSpec) -> Any:
    spec = machine_spec(replica.connection, point.vm, how.name, how.networks)
    connect_cards(spec.deviceChange, how.connect_network)
    spec.instanceUuid, spec.uuid = trial.uuid, trial.uuid
    spec.files = vim.vm.FileInfo(
        vmPathName=_directory(replica, trial, "/machine").path("copy.vmx"))
    spec.extraConfig = [vim.option.OptionValue(key=RULE, value=replica.rule)]
    held = replica.devices_of(replica.snapshot_of(own, point), point)
    slots = Slots.of_new_machine()
    disks = []
    for place, disk in enumerate(d for d in point.vm.disks if d.id in held):
        controller, slot = slots.take(disk)
        disks.append(child_disk(held[disk.id], -100 - place, controller, slot[2],
                                replica.ref.storage))
    spec.deviceChange = [*slots.edits, *disks, *spec.deviceChange]
    return spec


def clear(replica: Replica, trial: Trial) -> Iterator[Leftover]:
    """The machine and its files; networks are the caller's. Idempotent."""
    connection = replica.connection
    machine = machine_of(replica, trial.uuid)
    if machine is not None:
        name = str(connection.read(machine, "name")["name"])
        power.power_off(connection, machine)
        fault_point("trial.after-off")
        disks = list(disks_of(replica.config(machine).hardware.device))
        if disks:
            replica.reconfigure(machine, vim.vm.ConfigSpec(deviceChange=[
                vim.vm.device.VirtualDeviceSpec(operation="remove", device=d) for d in disks]))
        fault_point("trial.after-detach")
        try:
            with connection.calls(vm=name):
                task = machine.Destroy_Task()
            connection.wait(task, vm=name)
        except GiveUp as error:
            if error.code != "vsphere.object-gone":
                raise
        yield Leftover("domain", name)
    fault_point("trial.after-destroy")


def end(replica: Replica, trial: Trial) -> Iterator[Leftover]:
    """Remove the directory: the last of it."""
    directory = _directory(replica, trial)
    if directory.delete():
        yield Leftover("volume", directory.path())
