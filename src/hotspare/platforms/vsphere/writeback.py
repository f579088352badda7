"""A source machine that takes back what its replica became: its own disks, written in place above a
snapshot that holds what was there.

What a failback keeps has its origin's name: the snapshot ``….undo``, made before anything is
written; snapshots ``….at-N``, the instants that a session compares with; a directory ``….undo`` of
files that say what may have been overwritten; and an option of the configuration that says which
epoch is here (whoever finds a higher one than its own stops), and at which instant the disks were
left sealed. The option is written against the version of the configuration that was read, so of two
that write at once one is told.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from ...domain.errors import (
    Fenced,
    ForeignChange,
    GiveUp,
    Reconnect,
    Refused,
    TrackingUnusable,
)
from ...domain.extents import Again, Extent, union
from ...domain.machine import VmDescription
from ...faultpoints import fault_point
from ..port import (
    ChangedAreas,
    Changes,
    Export,
    Intent,
    Leftover,
    NbdEndpoint,
    PreservedDisk,
    Progress,
    Token,
)
from . import build, nbdkit, power, snapshots, switched, tracking
from .connection import Connection
from .machine_read import disk_id, disks_of, size_of
from .machines import find_machine, read_machine
from .overwritten import Overwritten, forget_everywhere
from .session import checked_disks
from .transports import DiskExport, DiskFile
from .undo_mark import Mark

_AT = ".at-"


class VsphereWriteBack:
    """Implements :class:`~hotspare.platforms.port.WriteBack`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open(self, vm: str, base: Token | None, origin: Intent,
             epoch: int) -> VsphereWriteBackSession:
        machine = find_machine(self._connection, vm)
        there = read_machine(self._connection, machine)
        _refuse_on(there)
        checked_disks(there.disks)
        kept = _Kept(self._connection, machine, origin)
        mark = kept.take_over(epoch)
        _end_sessions(origin.rule)
        nbdkit.sweep(f"{origin}.", ())
        if not mark.begun:
            mark = kept.begin(mark)
        return VsphereWriteBackSession(kept, mark, there, base)

    def power_on(self, vm: str, intent: Intent) -> Token | None:
        return switched.power_on(self._connection, vm, intent)

    def build(self, vm: VmDescription, name: str, storage: str, networks: Mapping[str, str],
              intent: Intent) -> str:
        return build.build(self._connection, vm, name, storage, networks, intent)

    def let_go(self, vm: str, intent: Intent) -> None:
        build.let_go(self._connection, vm, intent)

    def demolish(self, vm: str, intent: Intent) -> list[Leftover]:
        return build.demolish(self._connection, vm, intent)

    def undo_exists(self, vm: str, origin: Intent) -> bool:
        kept = _Kept(self._connection, find_machine(self._connection, vm), origin)
        return kept.read_mark()[0] is not None or bool(kept.snapshots())

    def clear(self, vm: str, origin: Intent) -> list[Leftover]:
        _end_sessions(origin.rule)
        found = nbdkit.sweep(f"{origin}.", ())
        try:
            machine = find_machine(self._connection, vm)
        except GiveUp as error:
            if error.code != "vm.not-found":
                raise
            return found + forget_everywhere(self._connection, origin)
        return found + _Kept(self._connection, machine, origin).clear()


def _refuse_on(vm: VmDescription) -> None:
    if vm.power != "off":
        raise Refused("source.saved" if vm.power == "paused" else "source.runs", vm=vm.name)


class _Kept:
    """What a failback keeps of a machine."""

    def __init__(self, connection: Connection, machine: Any, origin: Intent) -> None:
        self.connection, self.machine, self.origin = connection, machine, origin
        self.undo = f"{origin}.undo"

    def config(self) -> Any:
        return self.connection.read(self.machine, "config")["config"]

    def read_mark(self) -> tuple[Mark | None, Any]:
        """With the configuration that it is of."""
        config = self.config()
        return Mark.of(config, self.origin), config

    def own(self, epoch: int) -> tuple[Mark, Any]:
        """The mark of our epoch. Raises Fenced, ForeignChange ``undo.missing``."""
        mark, config = self.read_mark()
        self._check_epoch(mark, epoch)
        if mark is None:
            raise ForeignChange("undo.missing", disk="*", file=self.undo)
        return mark, config

    def _check_epoch(self, mark: Mark | None, epoch: int) -> None:
        if mark is not None and mark.epoch > epoch:
            raise Fenced("rule.fenced", rule=self.origin.rule, found=mark.epoch, epoch=epoch)

    def take_over(self, epoch: int) -> Mark:
        """Say that ``epoch`` is here. Raises Fenced when a higher one is."""
        mark, config = self.read_mark()
        self._check_epoch(mark, epoch)
        storage = config.files.vmPathName[1:].partition("]")[0]
        found = Mark(epoch, storage) if mark is None else mark.of_epoch(epoch)
        if found != mark:
            found.write(self.connection, self.machine, config, self.origin)
            fault_point("write-back.after-mark")
        return found

    def begin(self, mark: Mark) -> Mark:
        """Make the snapshot that holds what is there now. One that a killed process left is older
        than that."""
        self._remove(self.snapshots())
        tracking.enable(self.connection, self.machine)
        Overwritten(self.connection, mark.storage, self.origin).begin()
        self._create(self.undo)
        fault_point("write-back.after-undo")
        return self.change_mark(mark.epoch, begun=True)

    def change_mark(self, epoch: int, **changes: Any) -> Mark:
        mark, config = self.own(epoch)
        found = mark.changed(**changes)
        found.write(self.connection, self.machine, config, self.origin)
        return found

    def snapshots(self) -> dict[str, Any]:
        """Those of the failback by name, the oldest first."""
        found = {name: ref for name, ref in snapshots.names(self.connection, self.machine).items()
                 if name == self.undo or name.startswith(f"{self.origin}{_AT}")}
        return dict(sorted(found.items(), key=lambda item: self.number(item[0])))

    def number(self, name: str) -> int:
        """Of an instant; that of the undo is 0."""
        digits = name.removeprefix(f"{self.origin}{_AT}")
        return int(digits) if digits.isdecimal() else 0

    def _create(self, name: str) -> Any:
        return snapshots.create_named(self.connection, self.machine, name, self.origin, {}).ref

    def instant(self) -> tuple[str, Any]:
        """A new one, and none but it and the undo is left."""
        there = self.snapshots()
        name = f"{self.origin}{_AT}{max(map(self.number, there), default=0) + 1}"
        ref = self._create(name)
        fault_point("write-back.after-instant")
        self._remove({n: r for n, r in there.items() if n != self.undo})
        return name, ref

    def _remove(self, found: Mapping[str, Any]) -> list[Leftover]:
        """The newest first: each is merged into what is below it."""
        gone = []
        for name in reversed(list(found)):
            snapshots.remove_ref(self.connection, self.machine, found[name])
            gone.append(Leftover("snapshot", name))
        return gone

    def clear(self) -> list[Leftover]:
        mark, _ = self.read_mark()
        found = self._remove(self.snapshots())
        if mark is None:
            return found
        snapshots.consolidate(self.connection, self.machine)
        fault_point("write-back.snapshots-gone")
        Overwritten(self.connection, mark.storage, self.origin).forget()
        fault_point("write-back.files-gone")
        Mark.remove(self.connection, self.machine, self.origin)
        return [*found, Leftover("undo", str(self.origin))]


class VsphereWriteBackSession:
    """Implements :class:`~hotspare.platforms.port.WriteBackSession`.

    The machine can be started between two openings of a disk; who opens one looks, and while one is
    open the host keeps the machine from starting."""

    def __init__(self, kept: _Kept, mark: Mark, vm: VmDescription, base: Token | None) -> None:
        self.vm, self._kept, self._epoch = vm, kept, mark.epoch
        self._overwritten = Overwritten(kept.connection, mark.storage, kept.origin)
        self._undo, self._undo_disks = self._kept_disks()
        self.untouched, ref = self._instant(mark)
        if mark.sealed:             # what is written from here on breaks the seal
            kept.change_mark(self._epoch, sealed="")
        self._changes = self._since(ref, base)
        self._exports = {d.id: _DiskOfSource(kept, self._epoch, d.id) for d in vm.disks}
        self._open = True
        _register(kept.origin.rule, self)

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
        _forget(self)


class _DiskOfSource:
    """Implements :class:`~hotspare.platforms.port.Export`. Looks before each opening that nobody
    has taken over, that the machine is off, and which file its current disk is."""

    def __init__(self, kept: _Kept, epoch: int, ident: str) -> None:
        self._kept, self._epoch, self._ident = kept, epoch, ident
        self._lock, self._ended = threading.Lock(), False
        self._open: list[contextlib.ExitStack] = []

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
        stack = contextlib.ExitStack()
        with self._lock:
            if self._ended:
                raise Reconnect("receiver.gone", domain=f"disk {self._ident}")
            endpoint = stack.enter_context(DiskExport(DiskFile(
                kept.connection, kept.machine, device.backing.fileName, off=True, writable=True),
                f"{kept.origin}.{self._ident}").open())
            self._open.append(stack)
        try:
            yield endpoint
        finally:
            self._close(stack)

    def _close(self, stack: contextlib.ExitStack) -> None:
        with self._lock:
            if stack in self._open:
                self._open.remove(stack)
                stack.close()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            while self._open:
                self._open.pop().close()


# --- sessions of this process, by rule -----------------------------------------------------------

_guard = threading.Lock()
_sessions: dict[str, list[VsphereWriteBackSession]] = {}


def _register(rule: str, session: VsphereWriteBackSession) -> None:
    with _guard:
        _sessions.setdefault(rule, []).append(session)


def _forget(session: VsphereWriteBackSession) -> None:
    with _guard:
        for rule, found in list(_sessions.items()):
            if session in found:
                found.remove(session)
            if not found:
                del _sessions[rule]


def _end_sessions(rule: str) -> None:
    with _guard:
        found = list(_sessions.get(rule, ()))
    for session in found:
        session.end()
