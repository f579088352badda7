"""Where a new machine goes: host, resource pool and folder."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

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


class Tree:
    """All folders, or all resource pools, read at once."""

    def __init__(self, connection: Connection, kind: Any) -> None:
        self._found = {obj._moId: (obj, str(values["name"]), values["parent"]._moId)
                       for obj, values in connection.collect(kind, ["name", "parent"])
                       if values.get("parent") is not None}

    def below(self, root: Any) -> dict[str, Any]:
        """Those in ``root`` and in each other, by path: ``Production/Web``."""
        found = {}
        for ident, (obj, _, _) in self._found.items():
            path, at = [], ident
            while at in self._found and at != root._moId:
                path.append(unquote(self._found[at][1]))
                at = self._found[at][2]
            if path and at == root._moId:
                found["/".join(reversed(path))] = obj
        return found


def _below(connection: Connection, kind: str, root: Any, wanted: str) -> Any:
    known = Tree(connection, vim.Folder if kind == "folder" else vim.ResourcePool).below(root)
    if wanted not in known:
        raise Refused("target.place-gone", kind=kind, name=wanted,
                      known=", ".join(sorted(known)) or "-")
    return known[wanted]


def create(connection: Connection, files: Files, host: Any, spec: Any, folder: str = "",
           pool: str = "") -> Any:
    """A machine as ``spec`` says, on the datastore of ``files``: all of it or nothing. Raises
    Refused ``target.place-gone``."""
    spec.files = vim.vm.FileInfo(vmPathName=f"[{files.storage}]")
    values = connection.read(host, "parent")
    resources = connection.read(values["parent"], "resourcePool")["resourcePool"]
    if pool:
        resources = _below(connection, "pool", resources, pool)
    home = connection.read(files.datacenter, "vmFolder")["vmFolder"]
    if folder:
        home = _below(connection, "folder", home, folder)
    with connection.calls(vm=spec.name):
        task = home.CreateVM_Task(spec, resources, host)
    return connection.wait(task, vm=spec.name)
