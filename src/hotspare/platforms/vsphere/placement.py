"""Where a new machine goes: host, resource pool and folder."""

from __future__ import annotations

from typing import Any

from pyVmomi import vim

from ...domain.errors import Refused
from .connection import Connection
from .files import Files


def host_for(connection: Connection, files: Files, name: str = "") -> Any:
    """The host of that name, or any that is connected and reaches the datastore of ``files``.
    Raises Refused ``target.host``."""
    store = files.store._moId
    for obj, values in connection.collect(vim.HostSystem, [
            "name", "datastore", "runtime.connectionState", "runtime.inMaintenanceMode"]):
        if (name in ("", values["name"]) and values["runtime.connectionState"] == "connected"
                and not values["runtime.inMaintenanceMode"]
                and store in {d._moId for d in values.get("datastore", ())}):
            return obj
    raise Refused("target.host", host=name or "-", storage=files.storage)


def refuse_taken(connection: Connection, name: str, but: Any = None) -> None:
    """Raises Refused ``name.taken`` when a machine has it, other than ``but``."""
    for obj, values in connection.collect(vim.VirtualMachine, ["name"]):
        if values.get("name") == name and (but is None or obj._moId != but._moId):
            raise Refused("name.taken", name=name)


def refuse_memory(connection: Connection, host: Any, memory: int) -> None:
    """Raises Refused ``target.memory`` when the host has less than ``memory`` bytes."""
    size = int(connection.read(host, "summary.hardware.memorySize")["summary.hardware.memorySize"])
    if memory > size:
        raise Refused("target.memory", memory=memory, offered=size)


def create(connection: Connection, files: Files, host: Any, spec: Any) -> Any:
    """A machine as ``spec`` says, on the datastore of ``files``: all of it or nothing."""
    spec.files = vim.vm.FileInfo(vmPathName=f"[{files.storage}]")
    values = connection.read(host, "parent")
    pool = connection.read(values["parent"], "resourcePool")["resourcePool"]
    folder = connection.read(files.datacenter, "vmFolder")["vmFolder"]
    with connection.calls(vm=spec.name):
        task = folder.CreateVM_Task(spec, pool, host)
    return connection.wait(task, vm=spec.name)
