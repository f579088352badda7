"""A vSphere connection in all its roles."""

from __future__ import annotations

from typing import NoReturn

from ...domain.errors import Refused
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
from .source import VsphereSource
from .standby import VsphereStandby
from .target import VsphereTarget


class VspherePlatform:
    """Implements :class:`~hotspare.platforms.port.Platform`. The services offer it as a
    source only, as long as the roles of tests and of write-back are missing."""

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
        self._refuse()

    @property
    def write_back(self) -> WriteBack:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise Refused("platform.source-only", kind=self.connection.access.kind)

    def close(self) -> None:
        self.connection.close()


def connect(access: PlatformAccess) -> Platform:
    """Nothing is sent before the first use. Raises Refused for an address that is none."""
    return VspherePlatform(access)
