"""Fold a point into its successor: a block commit in a receiver, safe to be killed at any instant.

With P the point, S its successor and C what stands on S (the next point, or an unpublished
overlay), the chain of a disk is ``P <- S <- C``. In this order:

1. Refuse when something stands on P or S.
2. The lineage marks P as retiring, durably: from now on P is not usable. What pinned P meanwhile
   is looked for again (a start first makes its layers, then looks for the mark).
3. libvirt commits S into P, which then has S's content, and links C to P. S's file stays: it is
   still a right image of S, since it is laid over P's clusters that S did not change.
4. The lineage names P's file as S's, and P is gone from it, durably.
5. S's old file and P's blobs are deleted.

libvirt's own DELETE flag would merge step 5 into 3: then what a rerun finds hangs on the order in
which QEMU's and libvirt's writes reach the disk. Here S's file stays whole until the lineage does
not name it, and a rerun commits it again, which changes nothing.

The commit is never one of an active layer: the receiver's own layer is a new empty one above C,
so the guest device (which never runs) cannot hold a point's file open for writing.

QEMU merges the persistent bitmaps as it commits, so P's seal is dirty afterwards. Only the head's
seal counts: when S is the head, P's file gets a new seal, stored before step 4.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import libvirt

from ...domain.errors import GiveUp, HotspareError, OutOfSpace, Reconnect, Refused
from ...domain.lineage import Blob, DiskPoint, Lineage, Manifest
from ...faultpoints import fault_point
from ..port import Progress
from . import names
from .connection import mapped
from .device import CHUNK
from .receiver import LOCKED, Medium, Receiver, end_readers
from .replica import LINEAGE_KEY, Replica, files_of
from .session import DIGESTS_KEY, store_blob

_POLL_S = 0.05      # libvirt's job info is one round trip to QEMU
_PATIENCE_S = 20.0  # for readers that open in the same instant, again and again
_LOW_SPACE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Merge:
    """One disk to merge: file names of P and S, and the volume that the empty layer goes on."""

    disk: DiskPoint                 # of the successor
    into: str
    top: str                        # C, or S where nothing stands on S
    layer: str


def retire(replica: Replica, number: int, folded: Path | None, progress: Progress) -> Lineage:
    """See :meth:`Target.retire`."""
    lineage = replica.lineage()
    point = lineage.point(number)
    if point is None:
        return lineage              # an earlier run came to its end
    if lineage.retiring not in (None, number):
        raise Refused("point.other-retiring", number=number, other=lineage.retiring)
    successor = lineage.successor(number)
    if successor is None:
        raise Refused("point.is-head", number=number)
    _refuse_pinned(replica, lineage, point, successor)
    merges = _plan(replica, lineage, point, successor)
    try:
        for merge in merges:
            _make_layer(replica, merge)
        lineage = _fold(replica, lineage, point, successor, merges, folded, progress)
    finally:
        for merge in merges:
            with contextlib.suppress(HotspareError):    # the sweep deletes what this cannot
                replica.pool.delete(merge.layer)
    kept = {name for p in lineage.points for name in files_of(p)}
    for name in sorted((files_of(point) | files_of(successor)) - kept):
        replica.pool.delete(name)
    fault_point("retire.after-delete")
    return lineage


def _fold(replica: Replica, lineage: Lineage, point: Manifest, successor: Manifest,
          merges: list[_Merge], folded: Path | None, progress: Progress) -> Lineage:
    """Steps 2 to 4."""
    media = [Medium(m.disk.id, replica.pool.path(m.layer)) for m in merges]
    media.append(replica.lineage_medium())
    blob_name = names.folded(replica.rule, successor.number, point.number)
    if folded is not None:
        if replica.pool.find(blob_name) is None:
            replica.pool.create(blob_name, max(folded.stat().st_size, 512), "raw")
        media.append(Medium(DIGESTS_KEY, replica.pool.path(blob_name), "raw"))
    blob: Blob | None = None
    is_head = successor == lineage.head
    with replica.receiver(media) as receiver:
        lineage = _mark(replica, receiver, lineage, point, successor)
        fault_point("retire.after-mark")
        _commit_all(replica, receiver, point.number, merges, progress)
        fault_point("retire.after-commit")
        if folded is not None:
            blob = _store_folded(receiver, blob_name, folded)
        if not is_head:
            lineage = _drop(replica, receiver, lineage, point, merges, blob)
    if is_head:
        if merges:
            seal_files(replica, [m.into for m in merges])
        fault_point("retire.after-seal")
        with replica.receiver([replica.lineage_medium()]) as receiver:
            lineage = _drop(replica, receiver, lineage, point, merges, blob)
    fault_point("retire.after-lineage")
    return lineage


def _refuse_pinned(replica: Replica, lineage: Lineage, point: Manifest,
                   successor: Manifest) -> None:
    """Both must be free: P's content changes, and S's file goes."""
    pins = replica.pins(lineage)
    for manifest in (point, successor):
        if pins.get(manifest.number):
            raise Refused("point.pinned", number=manifest.number,
                          by=", ".join(sorted(pins[manifest.number])))


def _plan(replica: Replica, lineage: Lineage, point: Manifest,
          successor: Manifest) -> list[_Merge]:
    """What is to be merged, told from the files as they are. A disk that the successor has anew
    (added, or after a full copy) stands on nothing and keeps its file."""
    volumes = {v.name: v for v in replica.pool.list()}

    def below(name: str) -> str:
        return volumes[name].backing.rsplit("/", 1)[-1] if name in volumes else ""

    after = lineage.successor(successor.number)
    merges = []
    for disk in successor.disks:
        old = point.disk(disk.id)
        if old is None:
            continue
        if disk.file not in volumes or old.file not in volumes:
            raise GiveUp("volume.not-found", storage=replica.pool.name,
                         volume=disk.file if disk.file not in volumes else old.file)
        if below(disk.file) != old.file:
            continue
        next_disk = after.disk(disk.id) if after is not None else None
        child = next_disk.file if next_disk is not None else _unpublished(
            replica, [n for n in volumes if below(n) in (disk.file, old.file)
                      and n != disk.file])
        # C may stand on P already (a run that was killed), or on nothing (it has the disk anew).
        # Then S is committed without it: again, as whether P's data reached the disk before C's
        # header did is not known after a power cut
        merges.append(_Merge(disk, old.file, child if below(child) == disk.file else disk.file,
                             names.merge(replica.rule, disk.id, point.number)))
    return merges


def _unpublished(replica: Replica, children: list[str]) -> str:
    """The unpublished overlay that stands on the head, the newest of several: older ones are of
    tasks that have ended, and only wait for the sweep."""
    found = []
    for name in children:
        parsed = names.parse(name, replica.rule)
        if parsed is not None and parsed.kind == "data":
            found.append(((parsed.epoch, parsed.task), name))
    return max(found)[1] if found else ""


def _make_layer(replica: Replica, merge: _Merge) -> None:
    replica.pool.delete(merge.layer)    # of a run that was killed
    replica.pool.create(merge.layer, merge.disk.size, "qcow2", replica.pool.path(merge.top))


def _mark(replica: Replica, receiver: Receiver, lineage: Lineage, point: Manifest,
          successor: Manifest) -> Lineage:
    with receiver.device(LINEAGE_KEY) as device:
        now = replica.load(device)
        replica.check_epoch(now, lineage.epoch)
        if now.points != lineage.points:
            raise Refused("replica.base-stale", base=point.number, head=now.last_number)
        if now.retiring == point.number:
            return now
        marked = replica.store(device, replace(now, retiring=point.number))
        try:
            _refuse_pinned(replica, marked, point, successor)
        except Refused:
            replica.store(device, replace(marked, retiring=None))
            raise
        return marked


def _commit_all(replica: Replica, receiver: Receiver, number: int, merges: list[_Merge],
                progress: Progress) -> None:
    total = sum(m.disk.size for m in merges)
    done = 0
    for merge in merges:
        _commit(replica, receiver, number, merge, partial(_report, progress, done, total))
        done += merge.disk.size
        progress(done, total)


def _report(progress: Progress, before: int, total: int, at: int) -> None:
    progress(before + at, total)


def _begin_commit(replica: Replica, receiver: Receiver, number: int, target: str, base: str,
                  top: str) -> None:
    """A scrub whose chain has point ``number`` must make way: it opens the new one, and goes on."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        ended = end_readers(replica.connection, receiver.name, least=number)
        with mapped(domain=receiver.name):
            try:
                receiver.domain.blockCommit(target, base, top, 0, 0)
                return
            except libvirt.libvirtError as error:
                if not LOCKED.search(str(error)) or not ended or time.monotonic() > end:
                    raise


def _commit(replica: Replica, receiver: Receiver, number: int, merge: _Merge,
            at: Callable[[int], None]) -> None:
    """Commit one disk and wait. ``at`` is called with bytes of the disk and may raise Stopped:
    the job is then ended, and a rerun begins it anew."""
    target = receiver.target_of(merge.disk.id)
    base, top = replica.pool.path(merge.into), replica.pool.path(merge.disk.file)
    _begin_commit(replica, receiver, number, target, base, top)
    try:
        while True:
            try:
                job = receiver.domain.blockJobInfo(target, 0)
            except libvirt.libvirtError as error:
                if not receiver.alive():
                    raise Reconnect("receiver.gone", domain=receiver.name) from error
                with mapped(domain=receiver.name):
                    raise
            if not job:
                break
            if job["end"]:
                at(merge.disk.size * job["cur"] // job["end"])
            fault_point("retire.in-commit")
            time.sleep(_POLL_S)
    except BaseException:
        try:
            receiver.domain.blockJobAbort(target, 0)
        except libvirt.libvirtError:
            pass  # it has ended, or its QEMU has
        raise
    if top in receiver.open_files():
        # libvirt tells why only by an event; a full disk is what there is
        replica.pool.refresh()
        if replica.pool.free() < _LOW_SPACE:
            raise OutOfSpace("storage.full", storage=replica.pool.name,
                             free=replica.pool.free(), need=_LOW_SPACE)
        raise GiveUp("merge.failed", disk=merge.disk.id, file=top)


def _store_folded(receiver: Receiver, name: str, folded: Path) -> Blob:
    with folded.open("rb") as file:
        return store_blob(receiver, DIGESTS_KEY, name, iter(lambda: file.read(CHUNK), b""))


def _drop(replica: Replica, receiver: Receiver, lineage: Lineage, point: Manifest,
          merges: list[_Merge], blob: Blob | None) -> Lineage:
    """Write the lineage without the point."""
    into = {m.disk.id: m.into for m in merges}
    with receiver.device(LINEAGE_KEY) as device:
        now = replica.load(device)
        replica.check_epoch(now, lineage.epoch)
        successor = now.successor(point.number)
        if now.retiring != point.number or successor is None:
            raise Refused("point.other-retiring", number=point.number, other=now.retiring)
        merged = replace(
            successor,
            disks=tuple(replace(d, file=into.get(d.id, d.file)) for d in successor.disks),
            digests=(blob,) if blob is not None else (*point.digests, *successor.digests))
        points = tuple(merged if p.number == merged.number else p
                       for p in now.points if p.number != point.number)
        return replica.store(device, replace(now, points=points, retiring=None))


def seal_files(replica: Replica, files: list[str]) -> None:
    """Give each file a new seal and store it: they are opened for writing, sealed and closed."""
    media = [Medium(f"s{i}", replica.pool.path(name)) for i, name in enumerate(files)]
    with replica.receiver(media) as receiver:
        receiver.seal(medium.key for medium in media)
