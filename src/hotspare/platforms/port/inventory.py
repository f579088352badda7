"""The inventory role: what there is at a platform."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ...domain.machine import Power
from .target import ReplicaRef


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``code`` names the fault when not ok, ``fields`` are its."""

    name: str
    ok: bool
    detail: str = ""
    code: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    ok: bool
    product: str                    # "QEMU 7.2.0, libvirt 9.0.0"
    host_id: str                    # lasting identity of the host
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A node of datacenter > host > storage/network/pool, or datacenter > folder. Folders and
    pools in others are named by their path: ``Production/Web``."""

    kind: Literal["datacenter", "host", "storage", "network", "folder", "pool"]
    name: str
    parent: str = ""
    free: int | None = None         # bytes
    capacity: int | None = None     # bytes
    usable: bool = True
    reason: str = ""                # code: why not usable
    fields: dict[str, Any] = field(default_factory=dict)    # of the reason


@dataclass(frozen=True, slots=True)
class VmSummary:
    ref: str
    name: str
    power: Literal["running", "paused", "off"]
    size: int                       # bytes of all disks
    protectable: bool = True
    reason: str = ""                # code of the refusal
    fields: dict[str, Any] = field(default_factory=dict)    # and its fields


class Inventory(Protocol):
    def check(self) -> ConnectionReport: ...

    def places(self) -> Iterator[Place]: ...

    def vms(self) -> Iterator[VmSummary]:
        """All machines, without those that are ours (receivers, helpers)."""
        ...

    def powers(self) -> Mapping[str, Power]:
        """By lasting id, what each of those machines is. Cheap, whatever their number."""
        ...

    def replicas(self) -> Iterator[ReplicaRef]:
        """All replicas that lie here, told by the names of what holds their lineage: of any
        Hotspare, and not authenticated. Storage that :meth:`places` calls not usable is left
        out."""
        ...
