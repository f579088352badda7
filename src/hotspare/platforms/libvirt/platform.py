"""A libvirt connection in all its roles."""

from __future__ import annotations

from ..port import (
    Inventory,
    Platform,
    PlatformAccess,
    Rehearsal,
    Source,
    Standby,
    Target,
    WriteBack,
)
from .connection import Connection
from .inventory import LibvirtInventory
from .source import LibvirtSource


class LibvirtPlatform:
    """Implements :class:`~hotspare.platforms.port.Platform`."""

    def __init__(self, access: PlatformAccess) -> None:
        self.connection = Connection(access)
        self._inventory = LibvirtInventory(self.connection)
        self._source = LibvirtSource(self.connection)

    @property
    def inventory(self) -> Inventory:
        return self._inventory

    @property
    def source(self) -> Source:
        return self._source

    def target(self, key: bytes) -> Target:
        from .target import LibvirtTarget

        return LibvirtTarget(self.connection, key)

    def standby(self, key: bytes) -> Standby:
        from .standby import LibvirtStandby

        return LibvirtStandby(self.connection, key)

    def rehearsal(self, key: bytes) -> Rehearsal:
        from .rehearsal import LibvirtRehearsal

        return LibvirtRehearsal(self.connection, key)

    @property
    def write_back(self) -> WriteBack:
        from .writeback import LibvirtWriteBack

        return LibvirtWriteBack(self.connection)

    def close(self) -> None:
        self._source.close()
        self.connection.close()


def connect(access: PlatformAccess) -> Platform:
    """Join a host; nothing is sent before the first use. Raises Refused for a URI that is not
    supported."""
    return LibvirtPlatform(access)
