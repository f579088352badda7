"""The platform port: what a hypervisor must offer, by role, and nothing of any vendor.

The docstrings are the contract; ``tests/contract`` holds every driver to it. The shape was held
against two platforms before it was fixed:

============== ======================================= =====================================
role           libvirt                                 vSphere
============== ======================================= =====================================
instant        checkpoint + pull backup job            snapshot
tracking token checkpoint name and disk identities     changeId per disk
export         NBD socket of QEMU (over ssh if remote) nbdkit vddk process, started on open
session        overlay files behind a receiver domain  the replica's current disks
point          overlay chain + lineage disk            snapshot + description + file beside VM
retire         block commit in a receiver              RemoveSnapshot
standby        overlay on a point, domain rebuilt      RevertToSnapshot, or a linked clone
rehearsal      the same, on networks of its own        linked clone, on a switch of its own
write-back     source's files in a receiver, undo disk source's disks over VDDK, a snapshot
============== ======================================= =====================================

Rules for all drivers: a driver never retries, throttles or logs by itself (wrappers do); every
call is idempotent for the same :class:`Intent`; errors are those of
:mod:`hotspare.domain.errors`. All calls block and may come from any thread, but one object is used
by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .common import (
    Intent,
    Leftover,
    PlatformAccess,
    Progress,
    Quiesce,
    Token,
)
from .data import (
    ChangedAreas,
    Changes,
    DirtyContext,
    Export,
    NbdEndpoint,
    Unknown,
)
from .inventory import (
    Check,
    ConnectionReport,
    Inventory,
    Place,
    VmSummary,
)
from .rehearsal import (
    Isolation,
    Rehearsal,
    Screen,
)
from .source import (
    PointDisk,
    PointInTime,
    Source,
    SourceCapabilities,
)
from .standby import (
    Running,
    Standby,
    StartSpec,
)
from .target import (
    ReplicaRef,
    ReplicaSpec,
    Session,
    Target,
    TargetCapabilities,
)
from .write_back import (
    PreservedDisk,
    WriteBack,
    WriteBackSession,
)

__all__ = [
    "ChangedAreas",
    "Changes",
    "Check",
    "Connect",
    "ConnectionReport",
    "DirtyContext",
    "Export",
    "Intent",
    "Inventory",
    "Isolation",
    "Leftover",
    "NbdEndpoint",
    "Place",
    "Platform",
    "PlatformAccess",
    "PointDisk",
    "PointInTime",
    "PreservedDisk",
    "Progress",
    "Quiesce",
    "Rehearsal",
    "ReplicaRef",
    "ReplicaSpec",
    "Running",
    "Screen",
    "Session",
    "Source",
    "SourceCapabilities",
    "Standby",
    "StartSpec",
    "Target",
    "TargetCapabilities",
    "Token",
    "Unknown",
    "VmSummary",
    "WriteBack",
    "WriteBackSession",
]


class Platform(Protocol):
    """One connection to one hypervisor or manager, in all its roles."""

    @property
    def inventory(self) -> Inventory: ...

    @property
    def source(self) -> Source: ...

    def target(self, key: bytes) -> Target:
        """``key`` (32 bytes, the rule's own) authenticates the lineage."""
        ...

    def standby(self, key: bytes) -> Standby: ...

    def rehearsal(self, key: bytes) -> Rehearsal: ...

    @property
    def write_back(self) -> WriteBack: ...

    def close(self) -> None: ...


Connect = Callable[[PlatformAccess], Platform]
