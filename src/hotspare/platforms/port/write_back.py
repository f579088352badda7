"""The write-back role: a source machine that takes back what its replica became."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ...domain.extents import Extent
from ...domain.machine import VmDescription
from .common import Intent, Leftover, Progress, Token
from .data import Changes, Export


@dataclass(frozen=True, slots=True)
class PreservedDisk:
    """What a failback has kept of one disk, so that it can be undone."""

    export: Export                  # as large as the disk was, only to be read
    holds: Changes                  # where it holds what was there, read over ``export``
    size: int                       # bytes that the disk had before this failback


class WriteBackSession(Protocol):
    """The disks of a source machine that is off, open to be overwritten in place.

    Whatever is overwritten is preserved first. Errors of a session that died are Reconnect: the
    caller opens it anew."""

    @property
    def vm(self) -> VmDescription:
        """The machine as it is configured now."""
        ...

    @property
    def disks(self) -> Mapping[str, Export]:
        """Writable exports by disk id. A flush on one is durable."""
        ...

    @property
    def untouched(self) -> bool:
        """Nobody has written to any disk since the last session of this failback was closed
        sealed. False also when that cannot be told."""
        ...

    def changes(self, disk: str) -> Changes:
        """What was written since the ``base`` of :meth:`WriteBack.open` and until this session
        was opened, read over ``disks[disk]``."""
        ...

    def resize(self, disk: str, size: int) -> None:
        """Grow the disk to ``size`` bytes, its new tail reading as zero, or shrink it again to no
        less than it had before this failback. Ends connections to its export. Idempotent. Raises
        Refused ``disk.not-smaller``, or ``disk.resize`` where the storage cannot."""
        ...

    def preserve(self, disk: str, extents: Iterable[Extent], progress: Progress) -> int:
        """Keep what these extents (sorted, in whole blocks) hold now, but for what is kept
        already and for what lies beyond the disk's former end. Returns the bytes that were
        copied, and only when they are durable: then, and not before, the extents may be
        overwritten. Idempotent, also when it was killed. ``progress`` counts the bytes of the
        disk that have been passed. Raises OutOfSpace."""
        ...

    def preserved(self, disk: str) -> PreservedDisk | None:
        """What was kept of a disk, until the next :meth:`preserve` of it. None: nothing was."""
        ...

    def preserve_firmware(self) -> None:
        """Keep the UEFI variables as they are, unless this failback has kept them already.
        Durable on return. Nothing for a machine that has none."""
        ...

    def write_firmware_state(self, state: bytes) -> None:
        """Replace the UEFI variables, after :meth:`preserve_firmware`. Durable on return. Raises
        Refused ``firmware.size`` when the machine's firmware has no place for them."""
        ...

    def restore_firmware_state(self) -> None:
        """Put the kept UEFI variables back; nothing when none were kept. Idempotent."""
        ...

    def close(self, sealed: bool) -> None:
        """Let the disks go; what is preserved stays. ``sealed``: leave what :attr:`untouched`
        needs, not to be used when the machine is started next. Idempotent."""
        ...


class WriteBack(Protocol):
    """A source machine that takes back what its replica became.

    ``origin`` is the first intent of a failback. It names what the failback keeps, through all
    its sessions, until :meth:`clear`."""

    def open(self, vm: str, base: Token | None, origin: Intent,
             epoch: int) -> WriteBackSession:
        """Open the disks for writing. The machine cannot be started meanwhile.

        Ends what an earlier process of the rule left open. Raises Fenced when a higher epoch was
        here, Refused ``source.runs`` when the machine is not off, ``source.saved`` when its
        memory is saved (it would not fit its disks any more), or with the reason why a disk
        cannot be written; Retry ``source.disk-busy`` when somebody else has a disk open,
        ForeignChange ``undo.missing`` when what was preserved of a disk is gone."""
        ...

    def power_on(self, vm: str, intent: Intent) -> Token | None:
        """Start the machine, with tracking begun before its first instruction. Returns the token
        that all that it writes from then on counts from; None when nothing can be tracked (no
        disk can, or somebody else started it). Idempotent for the same intent. Raises Refused
        ``source.saved``."""
        ...

    def build(self, vm: VmDescription, name: str, storage: str, networks: Mapping[str, str],
              intent: Intent) -> str:
        """Make a machine like ``vm``, off and with empty disks in ``storage``, for a failback to a
        new place; returns its lasting id. ``networks`` maps those of ``vm`` to this platform's. It
        keeps its uuid unless that is taken here. The same intent finds what it made. Refused with
        the reason when it cannot run here, ``name.taken``; nothing half-made is left."""
        ...

    def let_go(self, vm: str, intent: Intent) -> None:
        """Take what marks a machine as built for ``intent`` off it: from now on it is its
        owner's, and not demolished any more. Idempotent."""
        ...

    def demolish(self, vm: str, intent: Intent) -> list[Leftover]:
        """Remove a machine that ``intent`` built and that was not let go, with its disks, also
        while it runs. After :meth:`clear`. Idempotent."""
        ...

    def undo_exists(self, vm: str, origin: Intent) -> bool:
        """Whether anything is left that :meth:`clear` would remove of what this failback keeps."""
        ...

    def clear(self, vm: str, origin: Intent) -> list[Leftover]:
        """Drop all that this failback keeps: after it there is no way back. Idempotent, with the
        machine running or off, or gone."""
        ...
