"""The UEFI variables of a machine that is off: kept beside its disks, overwritten, put back.

libvirt uploads a volume without a sync, so files are written through a receiver here.
"""

from __future__ import annotations

import struct
from typing import Final

from blake3 import blake3

from ...domain.errors import GiveUp, Refused
from ...faultpoints import fault_point
from . import firmware
from .connection import Connection
from .domain_read import Layout
from .files import download_file, in_directory
from .receiver import Medium, Receiver

SUFFIX: Final = ".nvram-undo"
_MAGIC: Final = b"HSNVRAM1"
_HEAD: Final = struct.Struct("<8sq32s")     # magic, bytes of content (-1: no store), checksum
_CONTENT: Final = 512                       # offset of the content
_KEY: Final = ":nvram"


class KeptFirmware:
    """The variables of one machine, and the file ``kept`` that holds what they were.

    ``name`` is that of the receiver that it may use."""

    def __init__(self, connection: Connection, layout: Layout, kept: str, name: str) -> None:
        self._connection, self._layout = connection, layout
        self._kept, self._name = kept, name

    def preserve(self) -> None:
        """See :meth:`WriteBackSession.preserve_firmware`."""
        if self._layout.vm.firmware == "bios" or self._load() is not None:
            return
        state = self._now()
        content = state or b""
        with in_directory(self._connection, self._kept) as (pool, file):
            pool.delete(file)       # of an attempt that was killed
            pool.create(file, _CONTENT + -(-len(content) // 512) * 512, "raw")
        fault_point("firmware.after-create")
        length = -1 if state is None else len(state)
        with self._open(self._kept) as receiver, receiver.device(_KEY) as device:
            device.write(_CONTENT, content)
            device.flush()
            device.write(0, _HEAD.pack(_MAGIC, length, blake3(content).digest()), durable=True)
        fault_point("firmware.after-keep")

    def write(self, state: bytes) -> None:
        """See :meth:`WriteBackSession.write_firmware_state`."""
        self.preserve()
        now, path = self._now(), self._path()
        if not path or (now is not None and len(now) != len(state)):
            raise Refused("firmware.size", vm=self._layout.vm.name, size=len(state),
                          found=len(now or b""))
        if now is None:
            with in_directory(self._connection, path) as (pool, file):
                pool.create(file, len(state), "raw")
        if now != state:
            self._write(state)

    def restore(self) -> None:
        """See :meth:`WriteBackSession.restore_firmware_state`."""
        kept = self._load()
        if kept is None:
            return
        length, state = kept
        if length >= 0:
            if self._now() != state:
                self._write(state)
        elif self._now() is not None:       # libvirt made it, when the machine was started
            with in_directory(self._connection, self._path()) as (pool, file):
                pool.delete(file)

    # --- parts ---------------------------------------------------------------------------------

    def _path(self) -> str:
        """Where its store is or will be; empty when it has none."""
        if self._layout.vm.firmware == "bios":
            return ""
        return firmware.store_path(self._connection.conn, self._layout.root)

    def _now(self) -> bytes | None:
        if self._layout.vm.firmware == "bios":
            return None
        return firmware.variables(self._connection.conn, self._layout.root, running=False)

    def _write(self, state: bytes) -> None:
        with self._open(self._path()) as receiver, receiver.device(_KEY) as device:
            device.write(0, state)
            fault_point("firmware.in-write")
            device.flush()

    def _load(self) -> tuple[int, bytes] | None:
        """Length and content of what is kept; None when nothing is, or only half."""
        try:
            data = download_file(self._connection.conn, self._kept)
        except GiveUp as error:
            if error.code in ("volume.not-found", "host.directory"):
                return None
            raise
        if len(data) < _CONTENT:
            return None
        magic, length, checksum = _HEAD.unpack_from(data)
        content = data[_CONTENT:_CONTENT + max(0, length)]
        if magic != _MAGIC or blake3(content).digest() != checksum:
            return None
        return length, content

    def _open(self, path: str) -> Receiver:
        return Receiver(self._connection, self._name, [Medium(_KEY, path, "raw")])
