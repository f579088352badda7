"""What a host is, and what is on it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import libvirt

from ...domain.errors import GiveUp, HotspareError
from ...domain.machine import Power
from ..port import Check, ConnectionReport, Place, ReplicaRef, VmSummary
from . import names
from .connection import Connection
from .domain_read import power_of, read_layout
from .liberrors import mapped, translate
from .power import power_named
from .volumes import Pool
from .xmlsafe import parse, text

LIBVIRT_MIN, QEMU_MIN = (8, 2, 0), (6, 1, 0)
"""8.2: ``qemu:override``, which the receiver needs. QEMU 6.1: ``blockdev-reopen``,
which the undo disk needs."""

FILE_POOLS = {"dir", "fs", "netfs"}
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_OURS = re.compile(r"hs-(rx-|[0-9a-f]{8}-)")


def is_ours(name: str) -> bool:
    """Whether a domain's name says that it is a receiver or helper of Hotspare."""
    return _OURS.match(name) is not None


def find_machine(connection: Connection, vm: str) -> Any:
    """The domain by its uuid or name. Raises GiveUp ``vm.not-found``, also for one of ours."""
    conn = connection.conn
    with mapped(vm=vm):
        domain = conn.lookupByUUIDString(vm) if _UUID.match(vm) else conn.lookupByName(vm)
        name = domain.name()
    if is_ours(name):
        raise GiveUp("vm.not-found", vm=vm, reason="a helper of Hotspare")
    return domain


def _version(number: int) -> tuple[int, int, int]:
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


class LibvirtInventory:
    """Implements :class:`~hotspare.platforms.port.Inventory`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def check(self) -> ConnectionReport:
        try:
            conn = self._connection.conn
        except HotspareError as error:
            return ConnectionReport(False, "", "", (
                Check("connection", False, str(error), error.code, error.as_dict()["fields"]),))
        begun = time.monotonic()
        with mapped():
            qemu, lib = _version(conn.getVersion()), _version(conn.getLibVersion())
            host = parse(conn.getCapabilities()).find("host")
        trip_ms = (time.monotonic() - begun) * 1000
        checks = [
            Check("connection", True, f"{trip_ms:.0f} ms"),
            self._at_least("libvirt", lib, LIBVIRT_MIN), self._at_least("QEMU", qemu, QEMU_MIN),
            self._accelerator(conn), self._socket_dir()]
        return ConnectionReport(
            ok=all(c.ok for c in checks), product=f"QEMU {_dotted(qemu)}, libvirt {_dotted(lib)}",
            host_id="" if host is None else text(host, "uuid"), checks=tuple(checks))

    @staticmethod
    def _at_least(name: str, have: tuple[int, int, int], need: tuple[int, int, int]) -> Check:
        ok = have >= need
        return Check(name, ok, f"{_dotted(have)} (needed: {_dotted(need)})",
                     "" if ok else "platform.too-old")

    @staticmethod
    def _accelerator(conn: Any) -> Check:
        """The domain capabilities say whether backups are possible: libvirt lists the feature."""
        with mapped():
            root = parse(conn.getDomainCapabilities(None, None, None, None, 0))
        backup = root.find("features/backup")
        ok = backup is None or backup.get("supported") == "yes"
        kind = text(root, "domain")
        return Check("backup", ok, f"backup jobs of {kind or 'qemu'} domains",
                     "" if ok else "platform.no-backup")

    def _socket_dir(self) -> Check:
        try:
            return Check("sockets", True, self._connection.socket_dir)
        except HotspareError as error:
            return Check("sockets", False, str(error), error.code, error.as_dict()["fields"])

    def places(self) -> Iterator[Place]:
        conn = self._connection.conn
        with mapped():
            host = str(conn.getHostname())
            pools = conn.listAllStoragePools(0)
            networks = self._networks(conn)
        yield Place("host", host)
        for pool in pools:
            place = self._pool(pool, host)
            if place is not None:
                yield place
        for name, active in networks:
            yield Place("network", name, host, usable=active,
                        reason="" if active else "network.inactive",
                        fields={} if active else {"network": name})

    @staticmethod
    def _networks(conn: Any) -> list[tuple[str, bool]]:
        try:
            return [(n.name(), bool(n.isActive())) for n in conn.listAllNetworks(0)]
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
                return []       # a host without libvirt's network driver has bridges only
            raise

    @staticmethod
    def _pool(pool: Any, host: str) -> Place | None:
        try:
            name, active = str(pool.name()), bool(pool.isActive())
            if name.startswith("hs-dir-"):      # a transient pool of ours
                return None
            kind = parse(pool.XMLDesc(0)).get("type", "")
            _state, capacity, _allocation, free = pool.info()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
                return None     # it went since it was listed
            raise translate(error) from error
        reason = "storage.type" if kind not in FILE_POOLS else "" if active else "storage.inactive"
        return Place("storage", name, host, free=int(free) if active else None,
                     capacity=int(capacity) if active else None, usable=not reason, reason=reason,
                     fields={"storage": name, "kind": kind,
                             "usable": ", ".join(sorted(FILE_POOLS))} if reason else {})

    def powers(self) -> Mapping[str, Power]:
        flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        with mapped():
            found = self._connection.conn.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, flags)
            return {domain.UUIDString(): power_named(stats.get("state.state", 0))
                    for domain, stats in found if not is_ours(domain.name())}

    def replicas(self) -> Iterator[ReplicaRef]:
        for place in self.places():
            if place.kind == "storage" and place.usable:
                for volume in Pool(self._connection, place.name).names():
                    rule = names.rule_of_lineage(volume)
                    if rule is not None:
                        yield ReplicaRef(rule, place.name)

    def vms(self) -> Iterator[VmSummary]:
        conn = self._connection.conn
        with mapped():
            domains = conn.listAllDomains(0)    # one call; details come as they are read
        for domain in domains:
            if not is_ours(domain.name()):
                summary = self._summary(conn, domain)
                if summary is not None:
                    yield summary

    @staticmethod
    def _summary(conn: Any, domain: Any) -> VmSummary | None:
        try:
            vm = read_layout(conn, domain).vm
            return VmSummary(vm.ref, vm.name, vm.power, sum(d.size for d in vm.disks))
        except HotspareError as error:
            if error.action != "give_up":
                raise
            if error.code == "vm.not-found":
                return None     # it went since it was listed
            with mapped():
                power = power_of(bool(domain.isActive()), domain.state()[0])
            return VmSummary(domain.UUIDString(), domain.name(), power, 0, False, error.code,
                             error.as_dict()["fields"])
