"""The standby role: a replica that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ...domain.machine import Devices, Power
from .common import Intent, Progress, Token
from .target import ReplicaRef


@dataclass(frozen=True, slots=True)
class StartSpec:
    """How a replica is started."""

    name: str
    networks: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["failover", "test"] = "failover"
    connect_network: bool = True
    devices: Devices = "auto"       # of a machine of another hypervisor


@dataclass(frozen=True, slots=True)
class Running:
    """A started replica; plain data."""

    replica: ReplicaRef
    number: int                     # the point that it stands on
    name: str
    ref: str                        # the platform's lasting id of the started machine
    intent: str                     # name of the intent that made it


class Standby(Protocol):
    """A replica that runs."""

    def start(self, replica: ReplicaRef, number: int, how: StartSpec,
              intent: Intent) -> Running:
        """Put a layer for its own writes on point ``number`` and power it on; returns when it
        runs. The same intent finds what it made earlier. Refuses a retiring point and a taken
        name."""
        ...

    def find(self, replica: ReplicaRef) -> Running | None:
        """The failover that stands at the target, running, shut off or half discarded, read from
        the target."""
        ...

    def power(self, running: Running) -> Power: ...

    def power_on(self, running: Running) -> None:
        """Run again, after :meth:`stop` or when its host went down. Idempotent. Raises GiveUp
        ``failover.not-standing``."""
        ...

    def stop(self, running: Running, grace_s: float, force: bool = True) -> None:
        """Off, through the guest; after ``grace_s`` seconds without it only if ``force``, else
        Refused ``replica.still-runs``. Idempotent."""
        ...

    def tracking(self, running: Running) -> Token | None:
        """The base that everything counts from which the replica wrote since it was started, for
        :meth:`Source.open_point` of ``running.ref`` at this platform. It lasts as long as the
        failover. None: there is no such tracking (any more)."""
        ...

    def discard(self, running: Running) -> None:
        """Power off, throw its own writes away, remove its definition. Idempotent. Not for a
        test: :meth:`Rehearsal.clear`."""
        ...

    def keep(self, running: Running, progress: Progress) -> None:
        """Make it a machine of its own, while it runs (or stays off): afterwards nothing of the
        replica lies below its disks, and no point is pinned by it. Until then it can still be
        discarded. ``progress`` counts bytes of its disks. Long, idempotent, and continued by
        another call after a crash. Raises OutOfSpace."""
        ...

    def let_go(self, running: Running) -> None:
        """Take what marks the machine as ours out of its definition. Idempotent; it is not found
        any more afterwards."""
        ...
