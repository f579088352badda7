"""The source role: consistent instants of machines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...domain.lineage import Consistency
from ...domain.machine import DiskSpec, Power, VmDescription
from .common import Intent, Leftover, Quiesce, Token
from .data import Changes, Export


class PointDisk(Protocol):
    """One disk of an open instant."""

    @property
    def spec(self) -> DiskSpec: ...

    @property
    def export(self) -> Export: ...

    @property
    def changes(self) -> Changes:
        """What may differ from the base that :meth:`Source.open_point` was given."""
        ...

    @property
    def transport(self) -> str:
        """Which way its data came, once it was read, where there are several; else empty."""
        ...


class PointInTime(Protocol):
    """A consistent instant of a machine, held open for reading."""

    @property
    def vm(self) -> VmDescription:
        """The machine as it was configured at the instant."""
        ...

    @property
    def taken_at(self) -> float:
        """Seconds since the epoch."""
        ...

    @property
    def consistency(self) -> Consistency: ...

    @property
    def note(self) -> str:
        """Why the consistency is less than asked for, or empty."""
        ...

    @property
    def stall_ms(self) -> float:
        """How long the guest's file systems stood still (0 when not quiesced)."""
        ...

    @property
    def token(self) -> Token | None:
        """The base of the next run once this instant's point is published; None: no tracking."""
        ...

    @property
    def disks(self) -> Sequence[PointDisk]: ...

    @property
    def firmware_state(self) -> bytes | None:
        """UEFI variables as they are, or None."""
        ...

    def healthy(self) -> None:
        """Raise when the instant is gone or must be let go (InstantLost: scratch nearly full, job
        ended, guest's QEMU gone). Cheap; called every second during a transfer."""
        ...

    def commit(self) -> None:
        """The target has the point: end the job or snapshot, drop every older base of this rule.
        Idempotent. The instant is closed afterwards."""
        ...

    def release(self) -> None:
        """Let the instant go but keep its tracking for a next pass. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class SourceCapabilities:
    tracking: bool
    quiesce: bool
    lan_free: bool
    min_interval_s: int


class Source(Protocol):
    @property
    def capabilities(self) -> SourceCapabilities: ...

    def inspect(self, vm: str) -> VmDescription:
        """The machine by its lasting id or its name, allow-listed and typed.

        Raises Refused with a code for what cannot be protected (transient, shareable or
        passed-through disks, independent disks, …) and GiveUp ``vm.not-found``."""
        ...

    def power(self, vm: str) -> Power:
        """Whether the machine runs. Cheap. Raises as :meth:`inspect`."""
        ...

    def shut_down(self, vm: str, grace_s: float, force: bool) -> None:
        """Off, through the guest; after ``grace_s`` seconds without it only if ``force``, else
        Refused ``source.still-runs``. Idempotent."""
        ...

    def plug(self, vm: str, plugged: bool) -> None:
        """Put all of its network cables in, or take them out, whether it runs or not.
        Idempotent."""
        ...

    def prepare(self, quiesce: Quiesce) -> None:
        """An instant will be opened soon: start what takes time. Touches no machine."""
        ...

    def open_point(self, vm: str, base: Token | None, quiesce: Quiesce, intent: Intent,
                   lan_free: bool = False) -> PointInTime:
        """Make a consistent instant of all disks and return with the guest running.

        ``lan_free``: read past the network where that is possible, else over it.
        ``base`` is the token of the last published point (or of a lost instant), None for a
        full copy. The same intent finds its own instant again after a crash of this process, or
        raises InstantLost. A base that cannot be trusted for some disk gives that disk Unknown
        changes, never an error. A machine that is off is read without starting it.
        Raises Retry when another tool's job is in the way, Refused ``quiesce.failed`` when
        quiescing is required and fails (the guest is thawed in any case)."""
        ...

    def sweep(self, vm: str, rule: str, keep: Collection[str],
              bases: Collection[str] = ()) -> list[Leftover]:
        """Remove every job, checkpoint, snapshot and scratch file named for ``rule`` (hs-RULE-…)
        and thaw what we froze. Never touches anything else.

        ``keep`` names intents whose instants may be opened again: all of theirs stays. ``bases``
        names tokens (:meth:`token_name`) that a next run counts its changes from: their tracking
        stays, an instant of theirs that is still open is closed."""
        ...

    def token_name(self, token: Token) -> str:
        """The intent name that a token belongs to, for ``keep``."""
        ...
