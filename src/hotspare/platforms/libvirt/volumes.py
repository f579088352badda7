"""A storage pool as a place for files: make, find, delete, read and list volumes."""

from __future__ import annotations

import contextlib
import time
import xml.etree.ElementTree as ET
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import libvirt

from ...domain.errors import GiveUp, OutOfSpace, Refused, Retry
from . import xmlsafe
from .connection import Connection, mapped

USABLE_TYPES = ("dir", "fs", "netfs")
"""Pools whose volumes are files that can back each other. libvirt's logical, iscsi and rbd pools
hold block devices: no overlay chains without a format of their own, so they are refused for now."""

_PIECE = 256 * 1024     # bytes of one libvirt stream packet (VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX)
_REFRESH_S = 5.0        # seconds to wait for another client's volume to be made

Format = Literal["qcow2", "raw"]


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """A volume of the pool. ``backing`` is the path of its backing file or empty."""

    name: str
    path: str
    backing: str
    size: int                       # bytes of its virtual disk


def new_element(parent: ET.Element, tag: str, text: str | None = None, **attributes: str
                ) -> ET.Element:
    """A child element; an underscore at the end of an attribute's name is dropped (``type_``)."""
    child = ET.SubElement(parent, tag, {k.rstrip("_"): v for k, v in attributes.items()})
    child.text = text
    return child


class Pool:
    """One storage pool, looked up anew with each use so that a broken connection heals."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name
        self._path: str | None = None

    def _handle(self) -> Any:
        with mapped(storage=self.name):
            return self._connection.conn.storagePoolLookupByName(self.name)

    def check(self, need: int = 0) -> None:
        """Raises GiveUp ``storage.not-found``, Refused ``storage.type`` or ``storage.inactive``,
        OutOfSpace ``storage.full`` when fewer than ``need`` bytes are free."""
        handle = self._handle()
        with mapped(storage=self.name):
            kind = xmlsafe.parse(handle.XMLDesc()).get("type", "")
            active = bool(handle.isActive())
        if kind not in USABLE_TYPES:
            raise Refused("storage.type", storage=self.name, kind=kind,
                          usable=", ".join(USABLE_TYPES))
        if not active:
            raise Refused("storage.inactive", storage=self.name)
        self.refresh()
        free = self.free()
        if free < need:
            raise OutOfSpace("storage.full", storage=self.name, free=free, need=need)

    def free(self) -> int:
        """Free bytes as of the last refresh."""
        handle = self._handle()
        with mapped(storage=self.name):
            return int(handle.info()[3])

    @property
    def directory(self) -> str:
        """The directory on the host that the volumes lie in."""
        if self._path is None:
            handle = self._handle()
            with mapped(storage=self.name):
                path = xmlsafe.parse(handle.XMLDesc()).findtext("target/path")
            if not path:
                raise Refused("storage.type", storage=self.name, kind="without a path",
                              usable=", ".join(USABLE_TYPES))
            self._path = path.rstrip("/") or "/"
        return self._path

    def path(self, name: str) -> str:
        """The path on the host of the volume ``name``, whether it exists or not."""
        return f"{self.directory}/{name}"

    def refresh(self) -> None:
        """Let libvirt look at the directory again. Raises Retry ``storage.busy``."""
        handle = self._handle()
        end = time.monotonic() + _REFRESH_S
        while True:
            try:
                handle.refresh()
                return
            except libvirt.libvirtError as error:
                # libvirt has no code of its own for it: storage_driver.c, "has asynchronous jobs"
                if "asynchronous jobs" not in str(error):
                    with mapped(storage=self.name):
                        raise
                if time.monotonic() > end:
                    raise Retry("storage.busy", after_s=5, storage=self.name) from error
            time.sleep(0.05)

    def find(self, name: str) -> Any | None:
        """The volume, None when there is none. Refreshes the pool before it says so: QEMU and
        other hosts on the same share make files that libvirt has not seen."""
        handle = self._handle()
        for fresh in (False, True):
            if fresh:
                self.refresh()
            try:
                return handle.storageVolLookupByName(name)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    with mapped(storage=self.name):
                        raise
        return None

    def create(self, name: str, size: int, fmt: Format, backing: str = "") -> str:
        """Make a sparse volume of ``size`` bytes (over the qcow2 file ``backing``) and return its
        path. One that exists already is an error: see :meth:`find`."""
        root = ET.Element("volume")
        new_element(root, "name", name)
        new_element(root, "capacity", str(size), unit="bytes")
        new_element(root, "allocation", "0", unit="bytes")
        target = new_element(root, "target")
        new_element(target, "format", type=fmt)
        if fmt == "qcow2":
            new_element(target, "compat", "1.1")    # version 3: zero clusters, bitmaps
        if backing:
            store = new_element(root, "backingStore")
            new_element(store, "path", backing)
            new_element(store, "format", type="qcow2")
        handle = self._handle()
        with mapped(storage=self.name, volume=name):
            handle.createXML(ET.tostring(root, encoding="unicode"), 0)
        return self.path(name)

    def resize(self, name: str, size: int) -> None:
        """Grow a volume to ``size`` bytes."""
        volume = self.find(name)
        if volume is None:
            raise GiveUp("volume.not-found", storage=self.name, volume=name)
        with mapped(storage=self.name, volume=name):
            volume.resize(size, 0)

    def delete(self, name: str) -> bool:
        """Delete a volume; returns whether there was one."""
        volume = self.find(name)
        if volume is None:
            return False
        try:
            volume.delete(0)
        except libvirt.libvirtError:
            # the file may be gone already (deleted by QEMU, another host): then it is no error
            self.refresh()
            if self.find(name) is not None:
                with mapped(storage=self.name, volume=name):
                    raise
        return True

    def peek(self, name: str) -> VolumeInfo | None:
        """A volume as of the last refresh, None when there was none."""
        handle = self._handle()
        with mapped(storage=self.name, volume=name):
            try:
                return _info(handle.storageVolLookupByName(name))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise
        return None

    def names(self) -> Sequence[str]:
        """Of all volumes: one call, however many there are."""
        self.refresh()
        handle = self._handle()
        with mapped(storage=self.name):
            found: Sequence[str] = handle.listVolumes()
        return found

    def list(self, refresh: bool = True) -> list[VolumeInfo]:
        """All volumes. Without ``refresh`` as libvirt last saw them."""
        if refresh:
            self.refresh()
        handle = self._handle()
        found = []
        with mapped(storage=self.name):
            for volume in handle.listAllVolumes():
                with contextlib.suppress(libvirt.libvirtError):  # deleted since it was listed
                    found.append(_info(volume))
        return found

    def read(self, name: str, offset: int = 0, length: int = 0) -> Generator[bytes, None, None]:
        """The content of a volume in pieces; ``length`` 0 means to its end.

        Raises GiveUp ``volume.not-found``.
        """
        volume = self.find(name)
        if volume is None:
            raise GiveUp("volume.not-found", storage=self.name, volume=name)
        with mapped(storage=self.name, volume=name):
            stream = self._connection.conn.newStream(0)
            try:
                volume.download(stream, offset, length, 0)
            except libvirt.libvirtError:
                self.refresh()      # libvirt may still know a file that another host deleted
                if self.peek(name) is None:
                    raise GiveUp("volume.not-found", storage=self.name, volume=name) from None
                raise
            done = False
            try:
                while True:
                    piece = stream.recv(_PIECE)
                    if not piece:
                        break
                    yield piece
                stream.finish()
                done = True
            finally:
                if not done:
                    with contextlib.suppress(libvirt.libvirtError):
                        stream.abort()

    def write(self, name: str, content: bytes) -> None:
        """Fill a raw volume. libvirt does not sync it: not for what must survive a power cut."""
        volume = self.find(name)
        if volume is None:
            raise GiveUp("volume.not-found", storage=self.name, volume=name)
        with mapped(storage=self.name, volume=name):
            stream = self._connection.conn.newStream(0)
            volume.upload(stream, 0, len(content), 0)
            done = 0
            while done < len(content):
                done += stream.send(content[done:done + _PIECE])
            stream.finish()


def _info(volume: Any) -> VolumeInfo:
    root = xmlsafe.parse(volume.XMLDesc())
    return VolumeInfo(name=root.findtext("name") or "",
                      path=root.findtext("target/path") or "",
                      backing=root.findtext("backingStore/path") or "",
                      size=int(root.findtext("capacity") or 0))
