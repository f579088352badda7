"""The target role: replicas and their restore points."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ...domain.lineage import Lineage, Manifest
from ...domain.machine import Devices, DiskSpec, VmDescription
from .common import Intent, Leftover, Progress
from .data import Export


@dataclass(frozen=True, slots=True)
class TargetCapabilities:
    writes_need_power_off: bool
    test_during_write: bool
    max_points: int
    test_boot: Literal["overlay", "linked-clone", "none"]


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """What a rule wants at its target."""

    rule: str
    name: str                       # name that the replica gets when it runs
    storage: str                    # storage pool or datastore
    host: str = ""                  # target host; empty where the connection is one host
    datacenter: str = ""
    folder: str = ""                # of the replica; empty: the datacenter's
    pool: str = ""                  # its resources; empty: all of the host's or its cluster's
    networks: Mapping[str, str] = field(default_factory=dict)  # source network -> target network
    devices: Devices = "auto"       # of a machine of another hypervisor


@dataclass(frozen=True, slots=True)
class ReplicaRef:
    """A replica at a target; plain data, kept in tasks and in the catalogue."""

    rule: str
    storage: str
    place: str = ""                 # the driver's own id (vSphere: moref of the replica)


class Session(Protocol):
    """The one unpublished state of a replica."""

    @property
    def number(self) -> int:
        """The number that the point will have."""
        ...

    @property
    def disks(self) -> Mapping[str, Export]:
        """Writable exports by disk id. A flush on one is durable."""
        ...

    @property
    def resumed(self) -> bool:
        """True when an earlier attempt's unpublished data of the same intent is still there."""
        ...

    def publish(self, manifest: Manifest, digests: Path,
                firmware_state: bytes | None) -> Manifest:
        """The commit point. Flush all disks, store the digest table (a local file) and the
        firmware state durably beside them, then write the lineage with the manifest, durably, and
        seal the disks against change. Fills in file and blob names and returns the manifest as
        written. Raises Fenced when the target's epoch is higher. Idempotent: publishing the same
        number again returns what is there."""
        ...

    def abandon(self) -> None:
        """Drop the unpublished state with all that was made for it. Idempotent."""
        ...

    def close(self) -> None:
        """Leave, keeping the unpublished state for a resume. Idempotent."""
        ...


class Target(Protocol):
    @property
    def capabilities(self) -> TargetCapabilities: ...

    def ensure_replica(self, spec: ReplicaSpec, vm: VmDescription, intent: Intent) -> ReplicaRef:
        """Check that the target can run ``vm`` (architecture, machine type, CPU, firmware, name
        and storage space) and make what holds its points. Refused with the reason otherwise;
        nothing half-made is left."""
        ...

    def lineage(self, replica: ReplicaRef) -> Lineage:
        """The truth, read from the target. An empty lineage (no points) when there is none yet.
        Raises ForeignChange when it fails its authentication."""
        ...

    def fence(self, replica: ReplicaRef, epoch: int) -> None:
        """After it returns nobody of a lower epoch can write or publish. Ends what our own
        earlier process left open (receivers), not what this one reads. Idempotent. Raises Fenced
        when the target already has a higher epoch."""
        ...

    def begin(self, replica: ReplicaRef, disks: Sequence[DiskSpec], base: int | None,
              intent: Intent, sealed: bool = True) -> Session:
        """Open the unpublished state on top of point ``base`` (None: from nothing). A disk that
        the base lacks starts empty; a grown one is grown. Continues the same task's earlier
        unpublished state if it is there. Raises ForeignChange when the base was written since
        its point, SealMissing when that cannot be told; not when ``sealed`` is False: what is wrong
        in the base is then written anew."""
        ...

    def seal(self, replica: ReplicaRef, number: int) -> None:
        """Seal the head anew, after its content was verified."""
        ...

    def read_point(self, replica: ReplicaRef,
                   number: int) -> AbstractContextManager[Mapping[str, Export]]:
        """Read-only exports of a published point's disks, by disk id. A merge or a new seal takes
        them away (Reconnect ``receiver.gone``); Retry ``replica.busy`` while one runs."""
        ...

    def read_blob(self, replica: ReplicaRef, blob: str) -> Iterator[bytes]:
        """The content of a blob of a manifest, in pieces. Raises ForeignChange when its checksum
        does not fit."""
        ...

    def pinned(self, replica: ReplicaRef) -> set[int]:
        """Points that something stands on (a failover, a test, a foreign overlay), read from the
        target itself, also when that something is shut off; and those that this process reads."""
        ...

    def retire(self, replica: ReplicaRef, number: int, folded: Path | None,
               progress: Progress) -> Lineage:
        """Fold point ``number`` into its successor: long, resumable, rerun after any crash. No
        other point's content changes. ``folded`` replaces the successor's digest tables; None
        keeps both tables, older first. Raises Refused ``point.pinned``. Returns the new
        lineage."""
        ...

    def sweep(self, replica: ReplicaRef, keep: Collection[str]) -> list[Leftover]:
        """Remove what carries our rule, has no manifest, and whose intent name is not in
        ``keep``."""
        ...

    def remove_replica(self, replica: ReplicaRef) -> list[Leftover]:
        """Delete the replica with all its points. Refused while something stands on it."""
        ...
