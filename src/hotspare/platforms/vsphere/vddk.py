"""The transport over VMware's library for virtual disks (VDDK), which the customer obtains.

The library has modes of its own and takes the first that works: san and hotadd go past the
network, nbdssl and nbd over it. Options of the access: ``vddk_libdir`` (where the library lies)
and ``vddk_plugin`` (nbdkit's plugin for it: a name or a path). See nbdkit-vddk-plugin(1).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from ...domain.errors import GiveUp, Refused
from . import nbdkit
from .transports import DiskFile

LAN_FREE: Final = "san:hotadd:nbdssl:nbd"
NETWORK: Final = "nbdssl:nbd"
WRITING: Final = "hotadd:nbdssl:nbd"
"""The library cannot write to what lies above a snapshot by san."""

_NAME = "vddk"
_LIBDIRS = ("/usr/lib/vmware-vix-disklib", "/opt/vmware-vix-disklib-distrib")


def libdir(options: Mapping[str, str]) -> str:
    """Where the library lies; empty: nowhere."""
    given = options.get("vddk_libdir")
    return next((place for place in ([given] if given else _LIBDIRS) if Path(place).is_dir()), "")


def plugin(options: Mapping[str, str]) -> str:
    """nbdkit's plugin: found by its name, or a path. Raises Refused ``vddk.untrusted``: whoever
    may set an option must not be able to have just any code run on the DR machine."""
    given = options.get("vddk_plugin", _NAME)
    if given != _NAME:
        if Path(given).name != f"nbdkit-{_NAME}-plugin.so":
            raise Refused("vddk.untrusted", path=given)
        _trust(given)
    _trust(libdir(options))
    return given


def _trust(path: str) -> None:
    """Only root, or whoever this process runs as, may have put it there."""
    try:
        found = Path(path).stat()
    except OSError as error:
        raise GiveUp("vddk.missing") from error
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused("vddk.untrusted", path=path)


class Vddk:
    """Implements :class:`.Transport`."""

    name = "vddk"
    request_max = 2 * 1024 * 1024
    """What the library's release notes recommend at most: a larger request takes more of the
    host's buffers, of which all who read from it have 32 to 96 MiB together."""

    def refusal(self, disk: DiskFile) -> str:
        return "" if libdir(disk.connection.access.options) else "vddk.missing"

    def serve(self, disk: DiskFile, prefix: str) -> AbstractContextManager[nbdkit.Nbdkit]:
        connection, options = disk.connection, disk.connection.access.options
        words = {
            "libdir": libdir(options), "server": connection.host, "port": str(connection.port),
            "user": connection.user, "thumbprint": connection.shown_thumbprint,
            "vm": f"moref={disk.machine._moId}", "file": disk.file,
            "transports": (WRITING if disk.writable else LAN_FREE if disk.lan_free else NETWORK)}
        if disk.snapshot is not None:
            words["snapshot"] = disk.snapshot._moId
        # the library takes whole sectors only
        return nbdkit.served(
            prefix, plugin(options), {**words, "minblock": "512", "maxdata": "2M"},
            secret=connection.access.secret or "", writable=disk.writable, filters=["blocksize"])
