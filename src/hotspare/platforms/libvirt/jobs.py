"""The pull backup job of a running domain: its XML, and how ours is told from another's.

A job is known by the name of its NBD socket, which is its intent's. What a later process needs to
find the same instant again stands in the export names: ``vda.18c2f0a1b3c.q`` is disk ``vda`` at
that millisecond, quiesced.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import libvirt

from ...domain.errors import Retry
from ...domain.lineage import Consistency
from .liberrors import mapped
from .xmlsafe import parse, quoteattr

NOTES = ("", "quiesce.no-agent", "quiesce.agent-hung", "quiesce.paused", "quiesce.failed",
         "quiesce.nothing-frozen", "quiesce.cut-short", "vm.saved")
"""Why a point is less than quiesced. The position is written into export names: append only."""

SOCKET_SUFFIX = ".nbd"
BITMAP_PREFIX = "bm-"


@dataclass(frozen=True, slots=True)
class Tag:
    """What the export names of a job carry."""

    taken_at: float
    consistency: Consistency
    note: str = ""

    def export(self, disk: str) -> str:
        """The name of a disk's export."""
        if self.consistency == "quiesced":
            state = "q"
        else:
            state = f"{'o' if self.consistency == 'off' else 'c'}{NOTES.index(self.note)}"
        return f"{disk}.{round(self.taken_at * 1000):x}.{state}"

    @staticmethod
    def of_export(name: str) -> Tag:
        """Read it back. Raises ValueError for a name that we did not write."""
        _disk, stamp, state = name.rsplit(".", 2)
        taken_at = int(stamp, 16) / 1000
        if state == "q":
            return Tag(taken_at, "quiesced")
        kinds: dict[str, Consistency] = {"c": "crash", "o": "off"}
        if state[0] not in kinds:
            raise ValueError(name)
        return Tag(taken_at, kinds[state[0]], NOTES[int(state[1:])])


@dataclass(frozen=True, slots=True)
class Order:
    """A job that shall be begun. ``scratch`` has a file for each disk of the job; ``incremental``
    the base's checkpoint for those that have one; ``tracked`` those that the new checkpoint
    ``intent`` shall have."""

    vm: str                         # uuid
    intent: str
    socket: str
    scratch: dict[str, str]
    incremental: dict[str, str]
    tracked: list[str]

    def begin(self, domain: Any, tag: Tag) -> None:
        """Start the job. Raises TrackingUnusable ``tracking.broken`` naming the disk whose bitmap
        is missing or inconsistent, Retry ``source.busy`` or ``platform.busy``."""
        checkpoint = checkpoint_xml(self.intent, self.tracked) if self.tracked else None
        with mapped(vm=self.vm):
            domain.backupBegin(backup_xml(self.socket, tag, self.scratch, self.incremental),
                               checkpoint, 0)


@dataclass(frozen=True, slots=True)
class DiskJob:
    """One disk in a job: how it is exported, and since which checkpoint if at all."""

    disk: str
    export: str
    incremental: str | None
    bitmap: str
    scratch: str


@dataclass(frozen=True, slots=True)
class Job:
    """A running backup job of ours."""

    intent: str
    socket: str
    disks: tuple[DiskJob, ...]


def backup_xml(socket: str, tag: Tag, scratch: Mapping[str, str],
               incremental: Mapping[str, str]) -> str:
    """``scratch``: a file per disk, which also says which disks; ``incremental``: the checkpoint
    of those disks that have one, the others are full."""
    disks = []
    for disk, path in scratch.items():
        base = incremental.get(disk)
        mode = (f"backupmode='incremental' incremental={quoteattr(base)} "
                f"exportbitmap={quoteattr(BITMAP_PREFIX + disk)}" if base else "backupmode='full'")
        disks.append(f"<disk name={quoteattr(disk)} backup='yes' type='file' "
                     f"exportname={quoteattr(tag.export(disk))} {mode}><driver type='qcow2'/>"
                     f"<scratch file={quoteattr(path)}/></disk>")
    return (f"<domainbackup mode='pull'><server transport='unix' socket={quoteattr(socket)}/>"
            f"<disks>{''.join(disks)}</disks></domainbackup>")


def checkpoint_xml(name: str, disks: Sequence[str]) -> str:
    """A checkpoint of exactly these disks; others get none."""
    entries = "".join(f"<disk name={quoteattr(d)} checkpoint='bitmap'/>" for d in disks)
    return (f"<domaincheckpoint><name>{name}</name><disks>{entries}</disks></domaincheckpoint>")


def find_job(domain: Any) -> Job | None:
    """The running backup job when it is one of Hotspare's, else None."""
    with mapped():
        try:
            root = parse(domain.backupGetXMLDesc(0))
        except libvirt.libvirtError as error:
            if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_BACKUP,
                                          libvirt.VIR_ERR_OPERATION_INVALID):
                return None     # no job; the domain is off
            raise
    server = root.find("server")
    socket = "" if server is None else server.get("socket", "")
    name = PurePosixPath(socket).name
    if not name.startswith("hs-") or not name.endswith(SOCKET_SUFFIX):
        return None
    disks = []
    for element in root.findall("disks/disk"):
        if element.get("backup") == "no":
            continue
        scratch = element.find("scratch")
        disks.append(DiskJob(
            disk=element.get("name", ""), export=element.get("exportname", ""),
            incremental=element.get("incremental"), bitmap=element.get("exportbitmap", ""),
            scratch="" if scratch is None else scratch.get("file", "")))
    return Job(name.removesuffix(SOCKET_SUFFIX), socket, tuple(disks))


def refuse_busy(domain: Any) -> None:
    """Raises Retry ``source.busy`` when another job runs on the domain: begin would wait for it,
    with the guest frozen, for up to 30 s."""
    with mapped():
        kind = domain.jobInfo()[0]
    if kind != libvirt.VIR_DOMAIN_JOB_NONE:
        raise Retry("source.busy", after_s=30, vm=domain.name())


def end_job(domain: Any, intent: str, timeout_s: float = 30) -> bool:
    """Abort the backup job of ``intent`` and wait until it is gone. False: there was none.

    Raises Retry ``source.job-stuck`` when it does not end."""
    job = find_job(domain)
    if job is None or job.intent != intent:
        return False
    end = time.monotonic() + timeout_s
    asked = False
    while True:
        if not asked:
            asked = _abort(domain)
        job = find_job(domain)
        if job is None or job.intent != intent:
            return True
        if time.monotonic() > end:
            raise Retry("source.job-stuck", after_s=30, job=intent)
        time.sleep(0.02)


def _abort(domain: Any) -> bool:
    with mapped():
        try:
            domain.abortJob()
        except libvirt.libvirtError as error:
            # it ended by itself between the two calls, or begin still holds it
            if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID,
                                              libvirt.VIR_ERR_OPERATION_TIMEOUT):
                raise
            return False
    return True
