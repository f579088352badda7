"""The disks of a source machine, open to be overwritten in place: what changed since, what was
there, and the exports that are written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from ...domain.errors import ForeignChange, Reconnect, Refused, TrackingUnusable
from ...domain.extents import Again, Extent, union
from ...domain.machine import VmDescription
from ...faultpoints import fault_point
from ..port import ChangedAreas, Changes, Export, NbdEndpoint, PreservedDisk, Progress, Token
from . import power, tracking
from .kept import Kept
from .machine_read import disk_id, disks_of, size_of
from .openings import Openings
from .overwritten import Overwritten
from .transports import DiskExport, DiskFile
from .undo_mark import Mark


class VsphereWriteBackSession:
    """Implements :class:`~hotspare.platforms.port.WriteBackSession`.

    The machine can be started between two openings of a disk; who opens one looks, and while one is
    open the host keeps the machine from starting."""

    def __init__(self, kept: Kept, mark: Mark, vm: VmDescription, base: Token | None) -> None:
        self.vm, self._kept, self._epoch = vm, kept, mark.epoch
        self._overwritten = Overwritten(kept.connection, mark.storage, kept.origin)
        self._undo, self._undo_disks = self._kept_disks()
        self.untouched, ref = self._instant(mark)
        if mark.sealed:             # what is written from here on breaks the seal
            kept.change_mark(self._epoch, sealed="")
        self._changes = self._since(ref, base)
        self._exports = {d.id: _DiskOfSource(kept, self._epoch, d.id) for d in vm.disks}
        self._open = True
        with _guard:
            _sessions.add(self)

    @property
    def rule(self) -> str:
        return self._kept.origin.rule

    @property
    def disks(self) -> Mapping[str, Export]:
        return self._exports

    # --- the instant -----------------------------------------------------------------------------

    def _kept_disks(self) -> tuple[Any, dict[str, Any]]:
        """The undo, and its disks by id. Raises ForeignChange ``undo.missing`` where something has
        gone that this failback would need."""
        ref = self._kept.snapshots().get(self._kept.undo)
        found = {} if ref is None else self._disks_at(ref)
        for disk in self.vm.disks:
            if disk.id not in found:
                raise ForeignChange("undo.missing", disk=disk.id, file=self._kept.undo)
        return ref, found

    def _disks_at(self, ref: Any) -> dict[str, Any]:
        config = self._kept.connection.read(ref, "config")["config"]
        return {disk_id(d): d for d in disks_of(config.hardware.device)}

    def _instant(self, mark: Mark) -> tuple[bool, Any]:
        """Whether nobody wrote since the seal, and the snapshot of what is there now."""
        kept, there = self._kept, self._kept.snapshots()
        newest = list(there)[-1]
        # Nor did we: the mark of a seal goes with the next session.
        sealed = newest == mark.sealed
        fresh = newest == kept.undo and not any(map(self._overwritten.areas, self._undo_disks))
        if (sealed or fresh) and self._is_clean(there[newest]):
            return sealed, there[newest]
        return False, kept.instant()[1]

    def _is_clean(self, ref: Any) -> bool:
        """Whether the platform knows that nobody has written since that snapshot."""
        kept, below = self._kept, self._disks_at(ref)
        for device in disks_of(kept.config().hardware.device):
            old = below.get(disk_id(device))
            parent = device.backing.parent
            if (old is None or parent is None or parent.fileName != old.backing.fileName
                    or not old.backing.changeId):
                return False
            areas = tracking.DiskAreas(int(device.key), size_of(device), old.backing.changeId,
                                       "", kept.connection, kept.machine, None)
            try:
                if any(True for _ in areas):
                    return False
            except TrackingUnusable:
                return False
        return True

    def _since(self, ref: Any, base: Token | None) -> dict[str, Changes]:
        """What we overwrote ourselves is added to what the platform tells."""
        kept, found = self._kept, {}
        for ident, device in self._disks_at(ref).items():
            told = tracking.changes(kept.connection, kept.machine, ref, device, base)
            if isinstance(told, ChangedAreas):
                ours = self._overwritten.areas(ident)
                told = ChangedAreas(Again(partial(union, told.areas, ours)))
            found[ident] = told
        return found

    def changes(self, disk: str) -> Changes:
        return self._changes[disk]

    # --- what is overwritten ---------------------------------------------------------------------

    def preserve(self, disk: str, extents: Iterable[Extent], progress: Progress) -> int:
        """The undo holds it already: only where is noted. So nothing is copied."""
        self._check()
        size = size_of(self._undo_disks[disk])
        progress(0, size)
        self._overwritten.note(disk, extents, size)
        fault_point("write-back.after-note")
        progress(size, size)
        return 0

    def preserved(self, disk: str) -> PreservedDisk | None:
        kept, device = self._kept, self._undo_disks[disk]
        areas = self._overwritten.areas(disk)
        if not areas:
            return None
        return PreservedDisk(DiskExport(DiskFile(
            kept.connection, kept.machine, device.backing.fileName, self._undo, off=True,
            whole=device.backing.parent is None), f"{kept.origin}.undo-{disk}"),
            ChangedAreas(areas), size_of(device))

    def resize(self, disk: str, size: int) -> None:
        """What a snapshot holds cannot be resized."""
        before = size_of(self._undo_disks[disk])
        if size < before:
            raise Refused("disk.not-smaller", disk=disk, size=size, before=before)
        if size > before:
            raise Refused("disk.resize", disk=disk, size=size,
                          reason="a disk of a machine with snapshots has one size")

    def preserve_firmware(self) -> None:
        """Those of VMware's firmware stay as they are."""

    def write_firmware_state(self, state: bytes) -> None:
        raise Refused("firmware.size", vm=self.vm.name, size=len(state), found=0)

    def restore_firmware_state(self) -> None:
        pass

    # --- the end ---------------------------------------------------------------------------------

    def _check(self) -> None:
        if not self._open:
            raise Reconnect("receiver.gone", domain=f"write-back to {self.vm.name}")

    def close(self, sealed: bool) -> None:
        if not self._open:
            return
        self.end()
        if sealed:
            name, _ = self._kept.instant()
            fault_point("write-back.before-seal")
            self._kept.change_mark(self._epoch, sealed=name)

    def end(self) -> None:
        """Let the disks go."""
        self._open = False
        for export in self._exports.values():
            export.end()
        with _guard:
            _sessions.discard(self)


class _DiskOfSource:
    """Implements :class:`~hotspare.platforms.port.Export`. Looks before each opening that nobody
    has taken over, that the machine is off, and which file its current disk is."""

    def __init__(self, kept: Kept, epoch: int, ident: str) -> None:
        self._kept, self._epoch, self._ident = kept, epoch, ident
        self._openings = Openings(f"disk {ident}")

    @contextlib.contextmanager
    def open(self) -> Iterator[NbdEndpoint]:
        kept = self._kept
        _, config = kept.own(self._epoch)
        if power.power_of(kept.connection, kept.machine) != "off":
            raise Refused("source.runs", vm=config.name)
        device = next((d for d in disks_of(config.hardware.device)
                       if disk_id(d) == self._ident), None)
        if device is None or device.backing.parent is None or kept.undo not in kept.snapshots():
            raise ForeignChange("undo.missing", disk=self._ident, file=kept.undo)
        with self._openings.opened(DiskExport(DiskFile(
                kept.connection, kept.machine, device.backing.fileName, off=True, writable=True),
                f"{kept.origin}.{self._ident}")) as endpoint:
            yield endpoint

    def end(self) -> None:
        self._openings.end()


# --- sessions of this process --------------------------------------------------------------------

_guard = threading.Lock()
_sessions: set[VsphereWriteBackSession] = set()


def end_sessions(rule: str) -> None:
    """End all of a rule."""
    with _guard:
        found = [s for s in _sessions if s.rule == rule]
    for session in found:
        session.end()
