"""An instant of a running machine: a pull backup job, with its exports and its checkpoint."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import libvirt

from ...domain.errors import HotspareError, InstantLost, Reconnect
from ...domain.lineage import Consistency
from ...domain.machine import DiskSpec, VmDescription
from ...faultpoints import fault_point
from ..port import Changes, DirtyContext, Intent, NbdEndpoint, Token, Unknown
from . import checkpoints
from .connection import Connection
from .jobs import BITMAP_PREFIX, Job, Tag, end_job, find_job
from .liberrors import mapped
from .scratch import ScratchWatch

REMOTE_CONNECTIONS = 1
"""Connections over one ssh: they would share its one core, so more bring nothing."""

_CRASHED = {libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED,
            libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN}


class SocketExport:
    """An export of a QEMU on the host. Implements :class:`~hotspare.platforms.port.Export`."""

    def __init__(self, connection: Connection, socket: str, name: str) -> None:
        self._connection, self._socket, self._name = connection, socket, name

    def open(self) -> AbstractContextManager[NbdEndpoint]:
        return self._open()

    @contextlib.contextmanager
    def _open(self) -> Iterator[NbdEndpoint]:
        with self._connection.forward(self._socket) as local:
            uri = f"nbd+unix:///{quote(self._name, safe='')}?socket={quote(local)}"
            if self._connection.remote:
                yield NbdEndpoint(uri, connections=REMOTE_CONNECTIONS)
            else:
                yield NbdEndpoint(uri)


@dataclass(frozen=True, slots=True)
class SocketDisk:
    """Implements :class:`~hotspare.platforms.port.PointDisk`."""

    spec: DiskSpec
    export: SocketExport
    changes: Changes
    transport: str = ""


def disks_of(connection: Connection, job: Job, vm: VmDescription,
             reasons: Mapping[str, str]) -> list[SocketDisk]:
    """The disks of a running job. ``reasons``: why a disk is read in full."""
    specs = {d.id: d for d in vm.disks}
    found = []
    for disk in job.disks:
        changes: Changes = (
            DirtyContext(f"qemu:dirty-bitmap:{disk.bitmap or BITMAP_PREFIX + disk.disk}")
            if disk.incremental else Unknown(reasons.get(disk.disk, "tracking.broken")))
        found.append(SocketDisk(specs[disk.disk],
                                SocketExport(connection, job.socket, disk.export), changes))
    return found


class RunningPoint:
    """Implements :class:`~hotspare.platforms.port.PointInTime` for a running machine.

    ``adopted``: the instant was made by an earlier process of the same intent.
    """

    def __init__(self, *, connection: Connection, intent: Intent, vm: VmDescription, tag: Tag,
                 stall_ms: float, token: Token | None, disks: Sequence[SocketDisk],
                 firmware_state: bytes | None, scratch: ScratchWatch, adopted: bool) -> None:
        self._connection, self._intent, self._scratch = connection, intent, scratch
        self.vm, self._tag, self.stall_ms = vm, tag, stall_ms
        self.token, self.disks, self.firmware_state = token, disks, firmware_state
        self.adopted = adopted
        self._closed = False

    @property
    def taken_at(self) -> float:
        return self._tag.taken_at

    @property
    def consistency(self) -> Consistency:
        return self._tag.consistency

    @property
    def note(self) -> str:
        return self._tag.note

    def _domain(self) -> Any:
        with mapped(vm=self.vm.name):
            return self._connection.conn.lookupByUUIDString(self.vm.ref)

    # --- while it is held ----------------------------------------------------------------------

    def healthy(self) -> None:
        """Also Reconnect when libvirt cannot be asked: the exports may well be alive."""
        domain = self._domain()
        with mapped(vm=self.vm.name):
            state, reason = domain.state()
        if state == libvirt.VIR_DOMAIN_SHUTOFF:
            # a QEMU that ended in order has written its bitmaps, a killed one has not
            self._lost("source.vm-stopped", domain, reason not in _CRASHED)
        job = find_job(domain)
        if job is None or job.intent != str(self._intent):
            self._lost("source.job-gone", domain, self._tracked(domain))
        if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
            self._let_go(domain)
            with contextlib.suppress(libvirt.libvirtError):
                domain.resume()
            self._lost("source.io-error", domain, self._tracked(domain))
        if self._scratch.low(domain):
            self._let_go(domain)
            self._lost("source.scratch-low", domain, self._tracked(domain),
                       directory=self._scratch.where)

    def _let_go(self, domain: Any) -> None:
        end_job(domain, str(self._intent))

    def _tracked(self, domain: Any) -> bool:
        with contextlib.suppress(HotspareError):
            return checkpoints.sound(domain, str(self._intent))
        return False

    def _lost(self, code: str, domain: Any, tracked: bool, **fields: Any) -> None:
        del domain
        self._closed = True
        raise InstantLost(code, self.token if tracked else None, vm=self.vm.name, **fields)

    # --- its end -------------------------------------------------------------------------------

    def commit(self) -> None:
        self.release()
        fault_point("commit.after-abort")
        drop_older(self._domain(), self._intent)
        fault_point("commit.after-delete")

    def release(self) -> None:
        if self._closed:
            return
        end_job(self._domain(), str(self._intent))
        self._closed = True


def drop_older(domain: Any, intent: Intent) -> None:
    """Delete the checkpoints of earlier instants of the same rule.

    Those of a domain that is off stay for the next time: only a QEMU can remove bitmaps."""
    if not domain.isActive():
        return
    for name, other in checkpoints.own(domain, intent.rule).items():
        if other.age < intent.age:
            checkpoints.delete(domain, name)


def wait_for_socket(domain: Any, intent: str, timeout_s: float = 5) -> Job:
    """The job that has just begun. Raises Reconnect when libvirt does not show it."""
    end = time.monotonic() + timeout_s
    while True:
        job = find_job(domain)
        if job is not None and job.intent == intent:
            return job
        if time.monotonic() > end:
            raise Reconnect("source.job-gone", job=intent)
        time.sleep(0.02)
