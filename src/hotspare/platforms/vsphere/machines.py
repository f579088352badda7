"""Finding machines, and reading them."""

from __future__ import annotations

import re
from typing import Any

from pyVmomi import vim

from ...domain.errors import GiveUp, HotspareError, Refused
from ...domain.machine import VmDescription
from .connection import Connection
from .machine_read import describe, power_named

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def by_uuid(connection: Connection, uuid: str, bios: bool = False) -> Any:
    """The machine of that instance uuid, or ``bios`` uuid, or None."""
    with connection.calls(vm=uuid):
        return connection.content.searchIndex.FindByUuid(None, uuid, True, not bios)


def find_machine(connection: Connection, vm: str) -> Any:
    """The machine by its lasting id, which is its instance uuid, or by its name. Raises GiveUp
    ``vm.not-found``, Refused ``vm.ambiguous`` where several have the name."""
    if _UUID.fullmatch(vm):
        found = by_uuid(connection, vm)
        if found is not None:
            return found
    else:
        named = [obj for obj, values in connection.collect(vim.VirtualMachine, ["name"])
                 if values["name"] == vm]
        if len(named) > 1:
            raise Refused("vm.ambiguous", vm=vm, platform=connection.host)
        if named:
            return named[0]
    raise GiveUp("vm.not-found", vm=vm, reason=vm)


def read_machine(connection: Connection, machine: Any) -> VmDescription:
    """Raises Refused as :func:`.machine_read.refuse`, GiveUp ``vm.not-found`` and
    ``vm.inaccessible``."""
    try:
        values = connection.read(machine, "config", "runtime.powerState", "capability")
    except HotspareError as error:
        if error.code == "vsphere.object-gone":
            raise GiveUp("vm.not-found", vm=machine._moId, reason=machine._moId) from error
        raise
    if "config" not in values:
        raise GiveUp("vm.inaccessible", vm=machine._moId)
    return described(connection, values["config"], values["runtime.powerState"],
                     bool(values["capability"].changeTrackingSupported))


def described(connection: Connection, config: Any, state: str, tracks: bool) -> VmDescription:
    """Of a machine's configuration, as it is or as a snapshot holds it."""
    def portgroup(key: str) -> str:
        for _, found in connection.collect(
                vim.dvs.DistributedVirtualPortgroup, ["key", "name"]):
            if found["key"] == key:
                return str(found["name"])
        return key

    return describe(config, power_named(state), tracks, portgroup)
