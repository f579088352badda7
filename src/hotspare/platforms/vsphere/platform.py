"""A vSphere connection in all its roles."""

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
from .inventory import VsphereInventory
from .rehearsal import VsphereRehearsal
from .source import VsphereSource
from .standby import VsphereStandby
from .target import VsphereTarget
from .writeback import VsphereWriteBack


class VspherePlatform:
    """Implements :class:`~hotspare.platforms.port.Platform`."""

    def __init__(self, access: PlatformAccess) -> None:
        self.connection = Connection(access)
        self._inventory = VsphereInventory(self.connection)
        self._source = VsphereSource(self.connection)

    @property
    def inventory(self) -> Inventory:
        return self._inventory

    @property
    def source(self) -> Source:
        return self._source

    def target(self, key: bytes) -> Target:
        return VsphereTarget(self.connection, key)

    def standby(self, key: bytes) -> Standby:
        return VsphereStandby(self.connection, key)

    def rehearsal(self, key: bytes) -> Rehearsal:
        return VsphereRehearsal(self.connection, key)

    @property
    def write_back(self) -> WriteBack:
        return VsphereWriteBack(self.connection)

    def close(self) -> None:
        self.connection.close()


def connect(access: PlatformAccess) -> Platform:
    """Nothing is sent before the first use. Raises Refused for an address that is none."""
    return VspherePlatform(access)
