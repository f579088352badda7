"""Restore points as they are written beside a replica: manifests, and the lineage that holds them.

The lineage at the target is the truth for restore points (design, section 7, rule 2): a point
exists from the moment that a lineage naming it is durable there, and the catalogue adopts it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from .machine import VmDescription

Consistency = Literal["quiesced", "crash", "off"]


@dataclass(frozen=True, slots=True)
class Blob:
    """A small file kept with a point. ``checksum`` is its BLAKE3 in hex."""

    name: str                       # the driver's name for it (libvirt: a volume)
    length: int                     # bytes
    checksum: str


@dataclass(frozen=True, slots=True)
class DiskPoint:
    """One disk of a point."""

    id: str
    size: int                       # bytes
    file: str                       # the driver's name for what holds it (libvirt: a volume)
    moved: int = 0                  # bytes written to the target for this point
    changed: int = 0                # bytes in the point's change list


@dataclass(frozen=True, slots=True)
class Manifest:
    """One published restore point. ``number`` counts up within a rule and is never reused."""

    rule: str
    number: int
    epoch: int
    task: int
    taken_at: float                 # seconds since the epoch, DR machine's clock
    consistency: Consistency
    vm: VmDescription
    disks: tuple[DiskPoint, ...]
    digests: tuple[Blob, ...] = ()  # digest tables, oldest first; a later one overrides
    firmware_state: Blob | None = None
    tracking: dict[str, Any] | None = None   # base of the next run, opaque to all but the source
    note: str = ""                  # why the point is less than was asked for
    format: int = 1

    def disk(self, disk_id: str) -> DiskPoint | None:
        return next((d for d in self.disks if d.id == disk_id), None)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Everything that is true of one replica at its target. Replaced as a whole, atomically."""

    rule: str
    epoch: int
    sequence: int = 0               # grows with each write; the higher of two slots wins
    points: tuple[Manifest, ...] = ()   # oldest first
    retiring: int | None = None     # this point is being merged into its successor: not usable
    last_number: int = 0            # highest number ever published

    @property
    def head(self) -> Manifest | None:
        return self.points[-1] if self.points else None

    @property
    def usable(self) -> tuple[Manifest, ...]:
        return tuple(p for p in self.points if p.number != self.retiring)

    def point(self, number: int) -> Manifest | None:
        return next((p for p in self.points if p.number == number), None)

    @property
    def blobs(self) -> dict[str, Blob]:
        """All of all points, by name."""
        return {b.name: b for p in self.points for b in (*p.digests, p.firmware_state)
                if b is not None}

    def successor(self, number: int) -> Manifest | None:
        return next((p for p in self.points if p.number > number), None)

    def with_point(self, manifest: Manifest) -> Lineage:
        """The lineage after ``manifest`` is published. Raises ``ValueError`` on a stale one."""
        if manifest.epoch < self.epoch:
            raise ValueError(f"epoch {manifest.epoch} is fenced by {self.epoch}")
        if manifest.number <= self.last_number:
            raise ValueError(f"point {manifest.number} is not newer than {self.last_number}")
        return replace(self, epoch=manifest.epoch, points=(*self.points, manifest),
                       last_number=manifest.number)
