"""A receiver: a paused helper domain whose QEMU opens files on the host and serves them over NBD.

It is all that the target needs of a host: no agent, no shell, no file pushed there. It is
transient, has 16 MiB of memory, never executes an instruction, and goes with our connection
(AUTODESTROY) or, where libvirtd forgot that, by its name. All files are disks in its XML, never
added by QMP, so that libvirt labels them for SELinux and AppArmor.

The disks' frontends get ``share-rw`` (libvirt has no element for it, hence ``qemu:override``,
libvirt 8.2): without it the frontend's own claim on the image forbids a writable export.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import libvirt

from ...domain.errors import (
    ForeignChange,
    GiveUp,
    HotspareError,
    Reconnect,
    Refused,
    Retry,
    SealMissing,
)
from ..port import Leftover, NbdEndpoint
from . import names
from .connection import Connection, mapped, socket_path
from .device import Device
from .volumes import new_element

SEAL = "hotspare-seal"
"""The persistent bitmap that records whatever is written to a file after its point."""

_SEAL_GRAIN = 64 * 1024 * 1024
"""Bytes that a bit of the seal stands for. Whether, not where, is asked; with QEMU's default of
64 KiB each open file of a chain over a disk of 1 TiB would cost 2 MiB of memory."""

_QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
_MEMORY_MIB = 16
_GONE_S = 20.0          # libvirt itself gives a QEMU 15 s to die before it fails
_QUIT_S = 2.0           # seconds for a QEMU that was told to quit, before it is destroyed
LOCKED = re.compile(r'Failed to get [^:]{0,40}lock')
"""QEMU's words. "lock" alone is in each option -blockdev that it complains of."""
_EXISTS = "already exists with uuid"    # libvirt's, which has no number for it

_reading: set[str] = set()
"""Readers of this process. A rule has one DR machine, so one that is not among them was left by a
process that died."""


@dataclass(frozen=True, slots=True)
class Medium:
    """A file or block device that a receiver opens, served under the export name ``key``."""

    key: str
    path: str
    fmt: Literal["qcow2", "raw"] = "qcow2"


@dataclass(frozen=True, slots=True)
class Seal:
    """State of the seal of a file that a receiver has open."""

    found: bool
    dirty: int = 0                  # bytes written since the point
    sound: bool = True              # False: not stored when the file was last closed


def gone(connection: Connection, name: str, uuid: str, timeout: float) -> bool:
    """Wait until no domain ``uuid`` is left under ``name``; returns whether so."""
    end = time.monotonic() + timeout
    while True:
        try:
            # blocks while libvirt ends the domain, then fails
            if connection.conn.lookupByName(name).UUIDString() != uuid:
                return True
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return True
            with mapped(domain=name):
                raise
        if time.monotonic() > end:
            return False
        time.sleep(0.005)


def live_readers() -> frozenset[str]:
    """Names of the receivers of this process that only read."""
    return frozenset(_reading)


def end_domain(connection: Connection, domain: Any) -> None:
    """End one of our receivers and wait: properly if it can be, since QEMU stores persistent
    bitmaps only when it closes its files. Raises GiveUp ``receiver.stuck``."""
    with mapped():
        name, uuid = domain.name(), domain.UUIDString()
    try:
        # QMP's quit rather than virDomainDestroy: libvirt polls each 200 ms for the process's end
        connection.qmp(domain, "quit")
    except HotspareError:
        pass  # it may be gone before it answered; what is not ends below
    if gone(connection, name, uuid, _QUIT_S):
        return
    end = time.monotonic() + _GONE_S
    while True:
        # again and again: a libvirtd that was just restarted still takes its domains over, and
        # says meanwhile that they do not run
        for flags in (libvirt.VIR_DOMAIN_DESTROY_GRACEFUL, 0):
            with contextlib.suppress(libvirt.libvirtError):
                domain.destroyFlags(flags)
                break
        if gone(connection, name, uuid, 1.0):
            return
        if time.monotonic() > end:
            raise GiveUp("receiver.stuck", domain=name)


def end_receiver(connection: Connection, name: str) -> list[str]:
    """End the receiver ``name``, whoever made it; returns whether there was one, as a list.
    Raises Refused ``name.taken`` when a lasting domain has the name: it is not ours."""
    with mapped(domain=name):
        try:
            domains = [connection.conn.lookupByName(name)]
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            domains = []
    return _end(connection, domains)


def end_readers(connection: Connection, rule_name: str, *, lost: bool = False,
                least: int = 0) -> list[str]:
    """End the receivers that are named after ``rule_name``, which only read: all, or those that a
    process left which died; none of points below ``least``. A reader harms nobody but whoever
    wants to write to what it reads, and can be opened again. Returns the names of those that
    there were."""
    kept = live_readers() if lost else ()
    with mapped(domain=rule_name):
        domains = [d for d in connection.conn.listAllDomains()
                   if d.name().startswith(f"{rule_name}-") and d.name() not in kept
                   and names.read_by(d.name()) >= least]
    return _end(connection, domains)


def end_receivers(connection: Connection, name: str, *, lost: bool = False) -> list[str]:
    """The one that writes, and readers; see :func:`end_readers`."""
    return [*end_receiver(connection, name), *end_readers(connection, name, lost=lost)]


def _end(connection: Connection, domains: Iterable[Any]) -> list[str]:
    ended = []
    for domain in domains:
        try:
            name, lasting = domain.name(), domain.isPersistent()
        except libvirt.libvirtError:
            continue    # gone meanwhile
        if lasting:
            raise Refused("name.taken", name=name)
        end_domain(connection, domain)
        ended.append(name)
    return ended


class Receiver:
    """A running receiver. One that was killed shows by Reconnect ``receiver.gone``."""

    def __init__(self, connection: Connection, name: str, media: Sequence[Medium],
                 writable: bool = True) -> None:
        """Start it; an earlier one of the same name is ended first.

        Raises Retry ``replica.busy`` when another QEMU has one of the files open for writing.
        """
        self._connection = connection
        self.name = name
        self._media = {m.key: m for m in media}
        self._aliases = {m.key: f"ua-m{i}" for i, m in enumerate(media)}
        self._bitmaps: dict[str, str] = {}      # offered with an export, by its key
        # a name of its own each time: a client of an earlier receiver never reaches this one
        self.socket = socket_path(connection.socket_dir, f"{name}-{os.urandom(3).hex()}.s")
        if not writable:
            _reading.add(name)
        try:
            self._domain = self._start(writable)
            self._uuid = self._domain.UUIDString()
        except BaseException:
            _reading.discard(name)
            raise
        self._open = True
        self._way = contextlib.ExitStack()
        self._local: str | None = None
        try:
            self._serve(writable)
        except BaseException:
            with contextlib.suppress(HotspareError):
                self.close()
            raise

    def _start(self, writable: bool) -> Any:
        xml = self._xml(writable)
        flags = libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY
        end = time.monotonic() + _GONE_S
        while True:
            end_receiver(self._connection, self.name)
            with mapped(domain=self.name):
                try:
                    return self._connection.conn.createXML(xml, flags)
                except libvirt.libvirtError as error:
                    if LOCKED.search(str(error)):
                        if (writable and time.monotonic() < end
                                and end_readers(self._connection, self.name)):
                            continue    # one of our readers had it
                        raise Retry("replica.busy", after_s=10, domain=self.name,
                                    reason=str(error)) from error
                    # libvirt hides a domain that it is removing from look-ups before its name
                    # is free (virDomainObj.removing); or another process was quicker than we
                    if _EXISTS not in str(error) or time.monotonic() > end:
                        raise
            time.sleep(0.01)

    def _xml(self, writable: bool) -> str:
        # software emulation: it never runs, and so it does not matter whether KVM works
        root = ET.Element("domain", {"type": "qemu"})
        new_element(root, "name", self.name)
        new_element(root, "memory", str(_MEMORY_MIB), unit="MiB")
        new_element(root, "vcpu", "1")
        with mapped():
            arch = self._connection.conn.getInfo()[0]
        new_element(new_element(root, "os"), "type", "hvm", arch=arch)
        devices = new_element(root, "devices")
        # one controller takes 256 disks; virtio-blk would need a PCI slot for each
        new_element(devices, "controller", type="scsi", index="0", model="virtio-scsi")
        override = new_element(root, f"{{{_QEMU_NS}}}override")
        for index, medium in enumerate(self._media.values()):
            alias = self._aliases[medium.key]
            kind, what = (("block", "dev") if medium.path.startswith("/dev/")
                          else ("file", "file"))
            disk = new_element(devices, "disk", type=kind, device="disk")
            # writeback: a flush by NBD becomes fdatasync(2) of the file; "unsafe" would drop it
            new_element(disk, "driver", name="qemu", type=medium.fmt, cache="writeback",
                        discard="unmap")
            new_element(disk, "source", **{what: medium.path})
            new_element(disk, "target", dev=_sd(index), bus="scsi")
            if not writable:
                new_element(disk, "readonly")
            new_element(disk, "alias", name=alias)
            new_element(disk, "address", type="drive", controller="0", bus="0",
                        target=str(index), unit="0")
            if writable:
                device = new_element(override, f"{{{_QEMU_NS}}}device", alias=alias)
                front = new_element(device, f"{{{_QEMU_NS}}}frontend")
                new_element(front, f"{{{_QEMU_NS}}}property", name="share-rw", type="bool",
                            value="true")
        new_element(devices, "controller", type="usb", model="none")
        new_element(devices, "memballoon", model="none")
        return ET.tostring(root, encoding="unicode")

    def _serve(self, writable: bool) -> None:
        qmp = self.qmp
        self.nodes: dict[str, str] = {}
        for block in qmp("query-block"):
            for key, alias in self._aliases.items():
                if alias in str(block.get("qdev", "")).split("/") and block.get("inserted"):
                    self.nodes[key] = block["inserted"]["node-name"]
        qmp("nbd-server-start", addr={"type": "unix", "data": {"path": self.socket}})
        self._writable = writable
        for key in self._media:
            self._export(key)

    def _export(self, key: str) -> None:
        bitmaps = {"bitmaps": [self._bitmaps[key]]} if key in self._bitmaps else {}
        self.qmp("block-export-add", type="nbd", id=f"e-{self._aliases[key]}",
                 node_name=self.nodes[key], name=key, writable=self._writable,
                 allocation_depth=True, **bitmaps)

    def _withdraw(self, key: str) -> None:
        """End an export; connections to it break."""
        self.qmp("block-export-del", id=f"e-{self._aliases[key]}", mode="hard")
        end = time.monotonic() + _QUIT_S
        while any(e["id"] == f"e-{self._aliases[key]}" for e in self.qmp("query-block-exports")):
            if time.monotonic() > end:
                raise GiveUp("receiver.stuck", domain=self.name)
            time.sleep(0.01)

    def offer_bitmap(self, key: str, bitmap: str) -> None:
        """Export the disk ``key`` with its ``bitmap`` as a metadata context, too. Connections to
        it end."""
        self._withdraw(key)
        self._bitmaps[key] = bitmap
        self._export(key)

    # --- QMP -----------------------------------------------------------------------------------

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command. Raises Reconnect ``receiver.gone`` when the receiver is gone."""
        try:
            return self._connection.qmp(self._domain, command, **arguments)
        except HotspareError as error:
            # libvirt counts a QEMU that has just ended as running for a moment
            if error.code == "platform.qemu-ended" or (
                    error.code != "qmp.failed" and not self.alive()):
                raise Reconnect("receiver.gone", domain=self.name) from error
            raise

    def alive(self) -> bool:
        """Whether it still runs."""
        try:
            return bool(self._domain.isActive())
        except libvirt.libvirtError:
            return False

    @property
    def domain(self) -> Any:
        """Its libvirt domain, for block jobs."""
        return self._domain

    def target_of(self, key: str) -> str:
        """libvirt's name of the disk ``key``."""
        return _sd(list(self._media).index(key))

    def open_files(self) -> dict[str, dict[str, Any]]:
        """QEMU's description of each open qcow2 file, by path, the backing files included."""
        return {str(node["file"]): node
                for node in self.qmp("query-named-block-nodes", flat=True)
                if node["drv"] == "qcow2"}

    def seals(self, name: str = SEAL) -> dict[str, Seal]:
        """State of the seal ``name`` of each open qcow2 file, by path."""
        found = {}
        for path, node in self.open_files().items():
            marks = [b for b in node.get("dirty-bitmaps", ()) if b.get("name") == name]
            found[path] = (Seal(True, int(marks[0]["count"]),
                                not marks[0].get("inconsistent", False))
                           if marks else Seal(False))
        return found

    def seal(self, keys: Iterable[str], name: str = SEAL) -> None:
        """Start to record writes to the disks ``keys``; stored when the receiver closes."""
        keys = list(keys)
        self.unseal(keys, name)
        for key in keys:
            self.qmp("block-dirty-bitmap-add", node=self.nodes[key], name=name, persistent=True,
                     granularity=_SEAL_GRAIN)

    def has_bitmaps(self, key: str) -> bool:
        """Whether the format of the disk ``key`` can keep bitmaps (qcow2 from version 3 on)."""
        node = self.open_files().get(self._media[key].path, {})
        details = node.get("image", {}).get("format-specific", {}).get("data", {})
        return str(details.get("compat", "0.10")) != "0.10"

    def track(self, key: str, bitmap: str) -> None:
        """Let a bitmap record what is written to the disk ``key`` from now on, for good. One that
        is there goes on."""
        node = self.open_files()[self._media[key].path]
        if all(b.get("name") != bitmap for b in node.get("dirty-bitmaps", ())):
            self.qmp("block-dirty-bitmap-add", node=self.nodes[key], name=bitmap,
                     persistent=True)

    def unseal(self, keys: Iterable[str], name: str) -> None:
        """Remove the seal ``name`` from the disks ``keys`` that have it."""
        present = self.seals(name)
        for key in keys:
            if present.get(self._media[key].path, Seal(False)).found:
                self.qmp("block-dirty-bitmap-remove", node=self.nodes[key], name=name)

    def require_seals(self, paths: Mapping[str, str], **fields: Any) -> None:
        """Raises ForeignChange ``replica.changed`` when one of the files (paths by disk id) was
        written since it was sealed, SealMissing ``replica.seal-missing`` when that cannot be
        told of one."""
        present = self.seals()
        for disk, path in paths.items():
            state = present.get(path, Seal(False))
            if state.found and state.sound and state.dirty:
                raise ForeignChange("replica.changed", disk=disk, file=path, size=state.dirty,
                                    **fields)
        for disk, path in paths.items():
            state = present.get(path, Seal(False))
            if not (state.found and state.sound):
                raise SealMissing("replica.seal-missing", disk=disk, file=path, **fields)

    def size(self, key: str) -> int:
        """Bytes of the disk ``key`` as it is now."""
        node = self.nodes[key]
        return next(int(n["image"]["virtual-size"])
                    for n in self.qmp("query-named-block-nodes", flat=True)
                    if n["node-name"] == node)

    def resize(self, key: str, size: int) -> None:
        """Make the disk ``key`` ``size`` bytes large, rounded up to a sector. Connections to it
        end: an NBD export does not change its size, and QEMU refuses to resize what is
        exported."""
        self._withdraw(key)
        try:
            self.qmp("block_resize", node_name=self.nodes[key], size=-(-size // 512) * 512)
        finally:
            self._export(key)

    # --- NBD -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def endpoint(self, key: str) -> Iterator[NbdEndpoint]:
        """The NBD server's address on this machine for the export ``key``.

        Raises Reconnect ``receiver.gone``."""
        if not self._open or not self.alive():
            raise Reconnect("receiver.gone", domain=self.name)
        with self._connection.forward(self.socket) as local:
            yield NbdEndpoint(_uri(key, local))

    @contextlib.contextmanager
    def device(self, key: str, context: str = "") -> Iterator[Device]:
        """An NBD connection of our own to the export ``key``. All of them share one way to the
        host: with ssh, each way is a process and a log-in, and publishing needs several."""
        if not self._open or not self.alive():
            raise Reconnect("receiver.gone", domain=self.name)
        try:
            if self._local is None:
                self._local = self._way.enter_context(self._connection.forward(self.socket))
            device = Device(_uri(key, self._local), self.name, context)
            try:
                yield device
            finally:
                device.close()
        except Reconnect:
            self._leave()
            raise

    def _leave(self) -> None:
        self._local = None
        self._way.close()

    # --- end -----------------------------------------------------------------------------------

    def close(self, wait: bool = True) -> None:
        """End it so that QEMU stores the seals; twice is fine. Without ``wait`` it is told to
        end, which it does within milliseconds, and libvirt's clean-up is not awaited."""
        if not self._open:
            return
        self._open = False
        _reading.discard(self.name)
        self._leave()
        try:
            # QEMU does not remove its socket when it quits
            self._connection.qmp(self._domain, "nbd-server-stop")
        except HotspareError:
            pass  # gone already: the sweep removes the socket
        if wait:
            end_domain(self._connection, self._domain)
            return
        try:
            self._connection.qmp(self._domain, "quit")
        except HotspareError:
            pass  # gone before it answered, or with the connection: AUTODESTROY then ends it

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sd(index: int) -> str:
    """libvirt's name of the ``index``-th SCSI disk: sda … sdz, sdaa …"""
    name = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        name = chr(ord("a") + digit) + name
    return "sd" + name


def _uri(key: str, socket: str) -> str:
    return f"nbd+unix:///{quote(key, safe='')}?socket={quote(socket, safe='/')}"


def remove_sockets(connection: Connection, name: str) -> list[Leftover]:
    """Remove the sockets of receivers ``name`` that were killed, on a host that is this machine;
    on another one they cost a directory entry."""
    found: list[Leftover] = []
    if not connection.remote:
        for path in Path(connection.socket_dir).glob(f"{name}-*.s"):
            if any(path.name.startswith(f"{reader}-") for reader in live_readers()):
                continue
            with contextlib.suppress(OSError):
                path.unlink()
                found.append(Leftover("socket", path.name))
    return found


class ReceiverExport:
    """Implements :class:`~hotspare.platforms.port.Export` over a receiver."""

    def __init__(self, receiver: Receiver, key: str) -> None:
        self._receiver = receiver
        self._key = key

    def open(self) -> contextlib.AbstractContextManager[NbdEndpoint]:
        return self._receiver.endpoint(self._key)
