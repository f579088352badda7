"""The ways to a disk's content, each nbdkit with a plugin.

``vddk`` (:mod:`.vddk`) goes through VMware's library, ``folder`` (:mod:`.folder`) reads a disk of
a machine that is off over HTTPS, without that library. A machine of ours on the host that a
snapshot's disk is attached to would be one more.

Option of the access: ``transports``, those that may be used, in their order (``vddk,folder``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from ...domain.errors import Refused
from ..port import NbdEndpoint
from .connection import Connection
from .nbdkit import Nbdkit


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A disk as a snapshot holds it; without a snapshot as it is now."""

    connection: Connection
    machine: Any
    file: str                       # "[datastore] folder/disk.vmdk"
    snapshot: Any = None
    off: bool = False               # nobody else has it open: the machine is off
    whole: bool = False             # it has no parent: the file holds all of it
    writable: bool = False
    lan_free: bool = False


class Transport(Protocol):
    name: str
    request_max: int                # bytes

    def refusal(self, disk: DiskFile) -> str:
        """The code of the reason why it cannot be used for this disk; empty: it can."""
        ...

    def serve(self, disk: DiskFile, prefix: str) -> AbstractContextManager[Nbdkit]:
        """``prefix`` names what it makes on this machine (:func:`.nbdkit.served`)."""
        ...


def chosen(connection: Connection) -> list[Transport]:
    """Those that may be used, the first that can is. Raises Refused ``vsphere.transports``."""
    from .folder import Folder
    from .vddk import Vddk

    known: dict[str, Transport] = {t.name: t for t in (Vddk(), Folder())}
    names = [n.strip() for n in
             connection.access.options.get("transports", ",".join(known)).split(",")]
    if not set(names) <= known.keys():
        raise Refused("vsphere.transports", given=",".join(names), known=", ".join(known))
    return [known[name] for name in names]


class DiskExport:
    """Implements :class:`~hotspare.platforms.port.Export`. ``transport``: the way that the data
    of the last :meth:`open` came, ``vddk (nbdssl)``; empty before."""

    def __init__(self, disk: DiskFile, prefix: str) -> None:
        self._disk, self._prefix = disk, prefix
        self.transport = ""

    @contextlib.contextmanager
    def open(self) -> Iterator[NbdEndpoint]:
        transport = self._pick(chosen(self._disk.connection))
        with transport.serve(self._disk, self._prefix) as server:
            try:
                yield NbdEndpoint(server.uri, transport.request_max, 1, lambda: server.complaint)
            finally:
                self.transport = transport.name + (
                    f" ({server.transport})" if server.transport else "")

    def _pick(self, transports: Sequence[Transport]) -> Transport:
        reasons = {}
        for transport in transports:
            reasons[transport.name] = transport.refusal(self._disk)
            if not reasons[transport.name]:
                return transport
        raise Refused("vsphere.no-transport", file=self._disk.file, reasons=", ".join(
            f"{name}: {reason}" for name, reason in reasons.items()))
