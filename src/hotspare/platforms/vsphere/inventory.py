"""What a vCenter or an ESXi host is, and what is on it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from ...domain.errors import GiveUp, HotspareError, Refused
from ...domain.machine import Power
from ..port import Check, ConnectionReport, Place, ReplicaRef, VmSummary
from . import nbdkit, placement, privileges, vddk
from .connection import PAGE, Connection
from .machine_read import disks_of, power_named, refuse, size_of
from .replica import UUID_BEGIN, rules_on

API_MIN = (6, 5)
"""The oldest that VDDK 7 reads."""

CLOCK_S = 60.0

_MACHINE = ("name", "runtime.powerState", "config.instanceUuid", "config.changeVersion")
_DETAILS = ("config.template", "config.ftInfo", "config.keyId", "config.hardware.device")
_HOST = ("name", "parent", "datastore", "network", "runtime.connectionState",
         "runtime.inMaintenanceMode")


class VsphereInventory:
    """Implements :class:`~hotspare.platforms.port.Inventory`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str, _Known] = {}     # by managed object reference

    def check(self) -> ConnectionReport:
        begun = time.monotonic()
        try:
            about = self._connection.content.about
        except HotspareError as error:
            return ConnectionReport(False, "", "", (_failed("connection", error),))
        trip_ms = (time.monotonic() - begun) * 1000
        checks = [Check("connection", True, f"{trip_ms:.0f} ms"), self._version(about),
                  self._clock(), *privileges.checks(self._connection), self._library()]
        return ConnectionReport(all(c.ok for c in checks), str(about.fullName), self._identity(),
                                tuple(checks))

    def _identity(self) -> str:
        """Of the vCenter; an ESXi host has that of its board."""
        if self._connection.is_vcenter:
            return str(self._connection.content.about.instanceUuid)
        [(_, host)] = self._connection.collect(vim.HostSystem, ["hardware.systemInfo.uuid"])
        return str(host["hardware.systemInfo.uuid"])

    @staticmethod
    def _version(about: Any) -> Check:
        found = tuple(map(int, re.findall(r"\d+", about.apiVersion)[:2]))
        ok = found >= API_MIN
        return Check("API", ok, f"{about.apiVersion} (needed: {'.'.join(map(str, API_MIN))})",
                     "" if ok else "vsphere.too-old")

    def _clock(self) -> Check:
        with self._connection.calls():
            there = self._connection.content.rootFolder._stub
            now = vim.ServiceInstance("ServiceInstance", there).CurrentTime().timestamp()
        off = abs(now - time.time())
        return Check("clock", off <= CLOCK_S, f"{off:.0f} s apart",
                     *(() if off <= CLOCK_S else ("vsphere.clock", {"seconds": round(off)})))

    def _library(self) -> Check:
        """Whether disks can be read by VMware's library on this machine."""
        options = self._connection.access.options
        place = vddk.libdir(options)
        try:
            if not place:
                raise GiveUp("vddk.missing")
            version = nbdkit.loads(vddk.plugin(options), {"libdir": place})
        except HotspareError as error:
            return _failed("VDDK", error)
        return Check("VDDK", True, f"{place}, nbdkit's plugin {version}")

    # --- places ----------------------------------------------------------------------------------

    def places(self) -> Iterator[Place]:
        """Storage and networks are told for each host that has them."""
        connection = self._connection
        parents = {obj._moId: (values["name"], values.get("parent"))
                   for kind in (vim.Datacenter, vim.Folder, vim.ComputeResource)
                   for obj, values in connection.collect(kind, ["name", "parent"])}
        stores = {obj._moId: values["summary"]
                  for obj, values in connection.collect(vim.Datastore, ["summary"])}
        uplinks = {group._moId for _, values in connection.collect(
            vim.DistributedVirtualSwitch, ["config"])
            for group in values["config"].uplinkPortgroup}
        networks = {obj._moId: str(values["name"])
                    for obj, values in connection.collect(vim.Network, ["name"])
                    if obj._moId not in uplinks}
        hosts = list(connection.collect(vim.HostSystem, _HOST))
        folders = placement.Tree(connection, vim.Folder)
        pools = placement.Tree(connection, vim.ResourcePool)
        for _, datacenter in connection.collect(vim.Datacenter, ["name", "vmFolder"]):
            yield Place("datacenter", str(datacenter["name"]))
            for path in folders.below(datacenter["vmFolder"]):
                yield Place("folder", path, str(datacenter["name"]))
        resources = {obj._moId: values["resourcePool"] for obj, values in connection.collect(
            vim.ComputeResource, ["resourcePool"])}
        for _, host in hosts:
            usable = (host["runtime.connectionState"] == "connected"
                      and not host["runtime.inMaintenanceMode"])
            yield Place("host", str(host["name"]), _datacenter_of(host["parent"], parents),
                        usable=usable, reason="" if usable else "vsphere.host-unusable",
                        fields={} if usable else {"host": str(host["name"])})
            for store in host.get("datastore", ()):
                if store._moId in stores:
                    yield _storage(stores[store._moId], str(host["name"]))
            for path in pools.below(resources[host["parent"]._moId]):
                yield Place("pool", path, str(host["name"]))
            for network in host.get("network", ()):
                if network._moId in networks:
                    yield Place("network", networks[network._moId], str(host["name"]))

    # --- machines --------------------------------------------------------------------------------

    def vms(self) -> Iterator[VmSummary]:
        """Devices, which are most of what there is to read, only of machines whose configuration
        has changed since this connection read them last."""
        found = [(obj, values) for obj, values in self._connection.collect(
            vim.VirtualMachine, _MACHINE) if not is_ours(values)]
        self._known = {obj._moId: known for obj, values in found
                       if (known := self._known.get(obj._moId)) is not None
                       and known.version == values.get("config.changeVersion")}
        changed = [(obj, values) for obj, values in found if obj._moId not in self._known]
        for obj, values in found:
            if obj._moId in self._known:
                yield _summary(obj, values, self._known[obj._moId])
        batches = [changed[first:first + PAGE] for first in range(0, len(changed), PAGE)]
        answers = self._connection.details_of_each(
            ([obj for obj, _ in batch] for batch in batches), _DETAILS)
        for batch, details in zip(batches, answers, strict=True):
            for obj, values in batch:
                if obj._moId in details:        # else it went since it was listed
                    known = _Known.of(values, details[obj._moId])
                    if known.version is not None:
                        self._known[obj._moId] = known
                    yield _summary(obj, values, known)

    def powers(self) -> Mapping[str, Power]:
        paths = ("config.instanceUuid", "runtime.powerState")
        return {str(values[paths[0]]): power_named(values[paths[1]])
                for _, values in self._connection.collect(vim.VirtualMachine, paths)
                if values.get(paths[0]) and not is_ours(values)}

    def replicas(self) -> Iterator[ReplicaRef]:
        for _, values in self._connection.collect(vim.Datastore, ["name", "summary"]):
            name = str(values["name"])
            if _storage(values["summary"], "").usable:
                for rule in rules_on(self._connection, name):
                    yield ReplicaRef(rule, name)


def is_ours(values: Mapping[str, Any]) -> bool:
    """Whether a machine is a replica of ours, not one to protect."""
    return str(values.get("config.instanceUuid") or "").startswith(UUID_BEGIN)


def _failed(name: str, error: HotspareError) -> Check:
    return Check(name, False, str(error), error.code, error.as_dict()["fields"])


def _datacenter_of(node: Any, parents: Mapping[str, tuple[str, Any]]) -> str:
    while node is not None:
        if isinstance(node, vim.Datacenter):
            return parents[node._moId][0]
        node = parents.get(node._moId, ("", None))[1]
    return ""


def _storage(summary: Any, host: str) -> Place:
    usable = bool(summary.accessible) and summary.maintenanceMode in (None, "normal")
    name = str(summary.name)
    return Place("storage", name, host, free=int(summary.freeSpace) if usable else None,
                 capacity=int(summary.capacity) if usable else None, usable=usable,
                 reason="" if usable else "vsphere.datastore-unusable",
                 fields={} if usable else {"storage": name})


@dataclass(frozen=True, slots=True)
class _Known:
    """What a machine's configuration says; the rest is read each time."""

    version: str | None             # None: it cannot be told whether it has changed
    size: int
    refusal: Refused | None

    @staticmethod
    def of(values: Mapping[str, Any], details: Mapping[str, Any]) -> _Known:
        devices, refusal = details.get("config.hardware.device", ()), None
        try:
            refuse(str(values.get("name")), devices,
                   template=bool(details.get("config.template")),
                   fault_tolerant=details.get("config.ftInfo") is not None,
                   encrypted=details.get("config.keyId") is not None)
        except Refused as error:
            refusal = error
        return _Known(values.get("config.changeVersion") or None,
                      sum(map(size_of, disks_of(devices))), refusal)


def _summary(obj: Any, values: Mapping[str, Any], known: _Known) -> VmSummary:
    name, power = str(values.get("name", obj._moId)), power_named(values["runtime.powerState"])
    ref = values.get("config.instanceUuid")
    if ref is None:
        return VmSummary(obj._moId, name, power, 0, False, "vm.inaccessible", {"vm": name})
    if known.refusal is None:
        return VmSummary(str(ref), name, power, known.size)
    return VmSummary(str(ref), name, power, known.size, False, known.refusal.code,
                     known.refusal.as_dict()["fields"] | {"vm": name})
