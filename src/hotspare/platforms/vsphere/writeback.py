"""The write-back role: a source machine takes back what its replica became, in its own disks, above
a snapshot that holds what was there."""

from __future__ import annotations

from collections.abc import Mapping

from ...domain.errors import GiveUp, Refused
from ...domain.machine import VmDescription
from ..port import Intent, Leftover, Token
from . import build, nbdkit, switched
from .connection import Connection
from .kept import Kept
from .machines import find_machine, read_machine
from .overwritten import forget_everywhere
from .session import checked_disks
from .writeback_session import VsphereWriteBackSession, end_sessions


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
        kept = Kept(self._connection, machine, origin)
        mark = kept.take_over(epoch)
        end_sessions(origin.rule)
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
        kept = Kept(self._connection, find_machine(self._connection, vm), origin)
        return kept.read_mark()[0] is not None or bool(kept.snapshots())

    def clear(self, vm: str, origin: Intent) -> list[Leftover]:
        end_sessions(origin.rule)
        found = nbdkit.sweep(f"{origin}.", ())
        try:
            machine = find_machine(self._connection, vm)
        except GiveUp as error:
            if error.code != "vm.not-found":
                raise
            return found + forget_everywhere(self._connection, origin)
        return found + Kept(self._connection, machine, origin).clear()


def _refuse_on(vm: VmDescription) -> None:
    if vm.power != "off":
        raise Refused("source.saved" if vm.power == "paused" else "source.runs", vm=vm.name)
