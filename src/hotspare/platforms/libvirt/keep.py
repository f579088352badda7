"""Make a replica a machine of its own: its disks are copied, while it runs, into files that are
named for the machine, and nothing of a rule lies below them any more.

A copy and not a pull into the layer: libvirt cannot rename a volume, so a pulled layer would keep
our name for ever, and until the copy is switched to, every point and layer is as it was: a copy
that fails or is killed costs nothing, and can be undone as any failover can.

The mark in the machine's metadata is the journal. It says first that the machine is being kept
(and whether it was off before), then it is taken away, last of all. Each disk's own place is told
by the definition: one that names the new file is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from typing import Any

import libvirt

from ...domain.errors import GiveUp, OutOfSpace
from ...faultpoints import fault_point
from ..port import Progress, Running
from . import started, xmlsafe
from .connection import mapped
from .domain_write import NAMESPACE
from .replica import Replica
from .started import KEPT, KEPT_FLUSHING, KEPT_OFF, Mark
from .volumes import new_element

_POLL_S = 0.5       # each look refreshes the pool, for its free space
_RESERVE = 64 * 1024 * 1024
"""Bytes that stay free: a full pool pauses the machine, and whatever else writes there."""


@dataclass(frozen=True, slots=True)
class _Disk:
    target: str                     # vda
    file: str                       # name of its file now
    size: int                       # bytes


def keep(there: Replica, domain: Any, running: Running, off: bool, progress: Progress) -> None:
    """See :meth:`Standby.keep`. ``off``: the machine does not run, and shall not afterwards."""
    mark = started.mark_of(domain)
    assert mark is not None, "the caller found the machine by it"
    if mark.kind == KEPT_FLUSHING:
        _resume(domain, running)
    elif mark.kind not in (KEPT, KEPT_OFF):
        mark = replace(mark, kind=KEPT_OFF if off else KEPT)
        started.set_mark(domain, mark)
    fault_point("keep.after-mark")
    if not domain.isActive():
        # one that was off runs no instruction; one whose host went down meanwhile runs again
        with mapped(vm=running.name):
            domain.createWithFlags(
                libvirt.VIR_DOMAIN_START_PAUSED if mark.kind == KEPT_OFF else 0)
    with mapped(vm=running.name):
        for checkpoint in domain.listAllCheckpoints():
            if checkpoint.getName().startswith(f"hs-{there.rule}-"):
                checkpoint.delete()
    _copy_all(there, domain, running, progress)
    _flush(domain, running, mark)
    fault_point("keep.after-flush")


def files(domain_name: str, mark: Mark, target: str, suffix: str = "qcow2") -> str:
    """Name of the file that a disk gets (or, with another suffix, the UEFI variables). It is the
    machine's, not ours; the digits keep it from meeting another file, and let a second attempt find
    what the first one made."""
    token = hashlib.sha256(f"{mark.intent} {target}".encode()).hexdigest()[:8]
    return f"{domain_name}-{target}-{token}.{suffix}"


def drop_copies(there: Replica, domain: Any) -> None:
    """Delete what :func:`keep` made, of a machine that is thrown away after all."""
    mark = started.mark_of(domain)
    if mark is not None:
        with mapped():
            name = domain.name()
        present = set(there.pool.names())
        for disk in _disks(domain, inactive=True):
            if (made := files(name, mark, disk.target)) in present:
                there.pool.delete(made)


def let_go(domain: Any, name: str) -> None:
    """Take the mark away: from now on the machine is nobody's but its owner's."""
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    with mapped(vm=name):
        if domain.isActive():
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, None, None, NAMESPACE, flags)


# --- inside ------------------------------------------------------------------------------------


def _flush(domain: Any, running: Running, mark: Mark) -> None:
    """What the guest wrote and flushed while QEMU was about to switch files was flushed in the old
    one only (block/mirror.c passes no flush on), and the old one is deleted next. QEMU flushes all
    disks when it stops a guest, which takes milliseconds, and when it ends."""
    with mapped(vm=running.name):
        if mark.kind == KEPT_OFF:
            domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
        elif domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
            started.set_mark(domain, replace(mark, kind=KEPT_FLUSHING))
            domain.suspend()
            fault_point("keep.suspended")
            _resume(domain, running)


def _resume(domain: Any, running: Running) -> None:
    with mapped(vm=running.name):
        if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()


def _copy_all(there: Replica, domain: Any, running: Running, progress: Progress) -> None:
    """One disk after the other: two copies at once would only take each other's bandwidth."""
    disks = _disks(domain)
    total = sum(d.size for d in disks)
    mark = started.mark_of(domain)
    assert mark is not None
    done = 0
    for disk in disks:
        into = files(running.name, mark, disk.target)
        if disk.file != into:
            before = done
            _copy(there, domain, disk, into, lambda n, before=before: progress(
                min(before + n, total), total))
            fault_point("keep.after-pivot")
        done += disk.size
        progress(done, total)


def _copy(there: Replica, domain: Any, disk: _Disk, into: str, told: Any) -> None:
    with mapped(vm=domain.name()):
        job = domain.blockJobInfo(disk.target)
    if not job:
        there.pool.delete(into)     # of an attempt whose QEMU ended
        there.pool.create(into, disk.size, "qcow2")
        fault_point("keep.after-create")
        place = ET.Element("disk", type="file")
        new_element(place, "driver", type="qcow2")
        new_element(place, "source", file=there.pool.path(into))
        with mapped(vm=domain.name()):
            domain.blockCopy(disk.target, ET.tostring(place, encoding="unicode"), {},
                             libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
                             | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
        fault_point("keep.after-begin")
    try:
        _wait(there, domain, disk, told)
    except Exception:       # not a process that ends: the next one goes on with the same job
        with contextlib.suppress(libvirt.libvirtError):
            domain.blockJobAbort(disk.target, 0)
        raise
    with mapped(vm=domain.name()):
        domain.blockJobAbort(disk.target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)


def _wait(there: Replica, domain: Any, disk: _Disk, told: Any) -> None:
    while True:
        with mapped(vm=domain.name()):
            job = domain.blockJobInfo(disk.target)
            if not job:
                raise GiveUp("failover.copy-ended", disk=disk.target, vm=domain.name())
            told(min(job["cur"], disk.size))
            # ``cur`` reaches ``end`` a moment before QEMU is ready to switch
            ready = _mirror_ready(domain, disk.target)
        if ready:
            return
        there.pool.refresh()
        if there.pool.free() < _RESERVE:
            raise OutOfSpace("storage.full", storage=there.pool.name, free=there.pool.free(),
                             need=_RESERVE)
        time.sleep(_POLL_S)


def _mirror_ready(domain: Any, target: str) -> bool:
    for disk in xmlsafe.parse(domain.XMLDesc()).iterfind("devices/disk"):
        node = disk.find("target")
        if node is not None and node.get("dev") == target:
            mirror = disk.find("mirror")
            return mirror is not None and mirror.get("ready") == "yes"
    return False


def _disks(domain: Any, inactive: bool = False) -> list[_Disk]:
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
    found = []
    with mapped():
        root = xmlsafe.parse(domain.XMLDesc(flags))
        for disk in root.iterfind("devices/disk"):
            source, target = disk.find("source"), disk.find("target")
            if source is None or target is None or disk.get("device", "disk") != "disk":
                continue
            name = target.get("dev", "")
            size = 0 if inactive else int(domain.blockInfo(name)[0])
            found.append(_Disk(name, source.get("file", "").rsplit("/", 1)[-1], size))
    return found
