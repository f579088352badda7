"""A machine at a new place, for a failback whose source is gone: built from the model, with empty
disks that keep their ids.

It is made by one call, all of it or nothing, with an instance uuid that its intent gives: so it is
found again. An option of its configuration says for which intent it was built, until it is its
owner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from pyVmomi import vim

from ...domain.errors import GiveUp, Refused
from ...domain.machine import VmDescription
from ...faultpoints import fault_point
from ..port import Intent, Leftover
from . import placement, power
from .connection import Connection
from .files import Files
from .machine_read import disk_id, disks_of
from .machine_write import (
    Slots,
    connect_cards,
    machine_spec,
    new_disk,
    reconfigure,
    removed_disk,
)
from .machines import by_uuid, find_machine
from .replica import options_of
from .session import checked_disks

BUILT: Final = "hotspare.built"


def build(connection: Connection, vm: VmDescription, name: str, storage: str,
          networks: Mapping[str, str], intent: Intent) -> str:
    """See :meth:`WriteBack.build`. Raises Refused ``target.disk-place`` when a disk cannot have
    the place that its id tells."""
    ident = str(uuid5(NAMESPACE_OID, f"{intent} {storage}"))
    machine = by_uuid(connection, ident)
    new = machine is None
    if new:
        machine = _create(connection, vm, name, storage, networks, intent, ident)
        fault_point("fresh.after-create")
    found = str(connection.read(machine, "name")["name"])
    if found != name:
        raise Refused("point.mismatch", expected=name, found=found)
    try:
        _check_ids(connection, machine, vm)
    except Refused:
        if new:                     # else its owner may have changed it since, and it may be filled
            demolish(connection, ident, intent)
        raise
    return ident


def _create(connection: Connection, vm: VmDescription, name: str, storage: str,
            networks: Mapping[str, str], intent: Intent, ident: str) -> Any:
    checked_disks(vm.disks)
    spec = machine_spec(connection, vm, name, networks)
    files = Files(connection, storage, "")
    host = placement.host_for(connection, files)
    placement.refuse_memory(connection, host, vm.memory)
    placement.refuse_taken(connection, name)
    connect_cards(spec.deviceChange, True)
    spec.instanceUuid, spec.changeTrackingEnabled = ident, True
    if by_uuid(connection, vm.uuid, bios=True) is not None:
        spec.uuid = None
    spec.extraConfig = [vim.option.OptionValue(key=BUILT, value=str(intent))]
    spec.deviceChange = [*_disks(vm, storage), *spec.deviceChange]
    return placement.create(connection, files, host, spec)


def _disks(vm: VmDescription, storage: str) -> list[Any]:
    slots = Slots.of_new_machine()
    edits = []
    for place, disk in enumerate(vm.disks):
        controller, slot = slots.take(disk)
        edits.append(new_disk(disk, -100 - place, controller, slot[2], storage))
    return [*slots.edits, *edits]


def _check_ids(connection: Connection, machine: Any, vm: VmDescription) -> None:
    """What is copied back is told by ids: a host that numbers disks otherwise is not written."""
    devices = connection.read(machine, "config.hardware.device")["config.hardware.device"]
    made, wanted = {disk_id(d) for d in disks_of(devices)}, {d.id for d in vm.disks}
    if not wanted <= made:
        raise Refused("target.disk-place", disk=", ".join(sorted(wanted - made)),
                      made=", ".join(sorted(made - wanted)))


def let_go(connection: Connection, vm: str, intent: Intent) -> None:
    """See :meth:`WriteBack.let_go`."""
    machine = built(connection, vm, intent)
    if machine is not None:
        reconfigure(connection, machine, vim.vm.ConfigSpec(
            extraConfig=[vim.option.OptionValue(key=BUILT, value="")]))


def demolish(connection: Connection, vm: str, intent: Intent) -> list[Leftover]:
    """See :meth:`WriteBack.demolish`."""
    machine = built(connection, vm, intent)
    if machine is None:
        return []
    power.power_off(connection, machine)
    fault_point("fresh.after-off")
    values = connection.read(machine, "config", "name")
    home = values["config"].files.vmPathName.rpartition("/")[0]
    # a disk that lies elsewhere was not made by us
    foreign = [removed_disk(d) for d in disks_of(values["config"].hardware.device)
               if d.backing.fileName.rpartition("/")[0] != home]
    if foreign:
        reconfigure(connection, machine, vim.vm.ConfigSpec(deviceChange=foreign))
        fault_point("fresh.after-detach")
    with connection.calls(vm=machine._moId):
        task = machine.Destroy_Task()
    connection.wait(task, vm=machine._moId)
    return [Leftover("domain", str(values["name"]))]


def built(connection: Connection, vm: str, intent: Intent) -> Any:
    """The machine ``vm`` if it is there and still marked as built for ``intent``, or None."""
    try:
        machine = find_machine(connection, vm)
    except GiveUp as error:
        if error.code == "vm.not-found":
            return None
        raise
    options = options_of(connection.read(machine, "config")["config"])
    return machine if options.get(BUILT) == str(intent) else None
