"""The space that copies of overwritten blocks take while an instant of a running VM is held.

QEMU keeps the instant by copying each block that the guest overwrites to a scratch file. When
their file system is full, the guest's write fails and the guest is paused: a production outage.
The instant is let go long before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import libvirt

from ...domain.errors import OutOfSpace, Refused
from ...domain.machine import DiskSpec
from .connection import Connection
from .files import space
from .liberrors import mapped

SUFFIX = ".scratch"
_RESERVE_MAX = 1024 ** 3
_RESERVE_SHARE = 50             # a fiftieth of the file system
_LOOK_EVERY_S = 15.0            # a look makes libvirt read every file of the directory


def directory(connection: Connection, disk: DiskSpec) -> str:
    """Where a disk's scratch file goes: option ``scratch_dir``, else beside the image.

    Raises Refused ``source.scratch-dir`` for an image that lies in no directory of files."""
    given = connection.access.options.get("scratch_dir")
    if given:
        return given
    if disk.location.startswith("/dev/"):
        raise Refused("source.scratch-dir", disk=disk.id, location=disk.location)
    return str(PurePosixPath(disk.location).parent)


class ScratchWatch:
    """Tells when the scratch space of one job comes near its end.

    Option ``scratch_reserve``: bytes that must stay free (default: a fiftieth of the file system,
    at most 1 GiB)."""

    def __init__(self, connection: Connection, directories: Iterable[str]) -> None:
        self._connection = connection
        self._directories = sorted(set(directories))
        self._room = 0          # bytes above the reserve when last looked
        self._used = 0          # bytes of scratch at that time
        self._looked = 0.0

    @property
    def where(self) -> str:
        """The directories, for people."""
        return ", ".join(self._directories)

    def look(self, used: int = 0) -> int:
        """Bytes that may still be taken, by the file system itself."""
        rooms = []
        for path in self._directories:
            capacity, free = space(self._connection.conn, path)
            given = self._connection.access.options.get("scratch_reserve")
            reserve = int(given) if given else min(_RESERVE_MAX, capacity // _RESERVE_SHARE)
            rooms.append(free - reserve)
        self._room, self._used, self._looked = min(rooms, default=0), used, time.monotonic()
        return self._room

    def require(self) -> None:
        """Before a job is begun. Raises OutOfSpace ``source.scratch-low``."""
        if self.look() <= 0:
            raise OutOfSpace("source.scratch-low", directory=self.where)

    def low(self, domain: Any) -> bool:
        """Whether the instant must be let go now. Cheap: the file system is looked at only every
        15 s, or when the scratch files have taken a quarter of what was left."""
        used = _temp_used(domain)
        if used is None:
            return False
        grown = used - self._used
        if (time.monotonic() - self._looked > _LOOK_EVERY_S
                or grown * 4 >= self._room):
            return self.look(used) <= 0
        return False


def _temp_used(domain: Any) -> int | None:
    """Bytes in the job's scratch files; None when libvirt is too busy to say."""
    with mapped():
        try:
            return int(domain.jobStats(0).get("disk_temp_used", 0))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_OPERATION_TIMEOUT:
                return None
            raise
