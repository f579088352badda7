"""What a failback keeps of a source machine on vSphere, so that it can be undone.

All of it has the origin's name: the snapshot ``….undo``, made before anything is written; snapshots
``….at-N``, the instants that a session compares with; a directory ``….undo`` of files that say what
may have been overwritten; and an option of the configuration that says which epoch is here (whoever
finds a higher one than its own stops), and at which instant the disks were left sealed. The option
is written against the version of the configuration that was read, so of two that write at once one
is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ...domain.errors import Fenced, ForeignChange
from ...faultpoints import fault_point
from ..port import Intent, Leftover
from . import snapshots, tracking
from .connection import Connection
from .overwritten import Overwritten
from .undo_mark import Mark

_AT: Final = ".at-"


class Kept:
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
        found = Mark(epoch, storage) if mark is None else replace(mark, epoch=epoch)
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
        found = replace(mark, **changes)
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
