"""The one unpublished state of a replica: overlays behind a receiver, until they are a point.

libvirt makes the files and does not sync them. What makes them durable is the flush of publish:
fdatasync(2) of a new file brings its directory entry to disk as well on ext4, XFS and Btrfs (the
entry is in the journal transaction, or log, that the inode's size needs), and NFS makes files
synchronously.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from blake3 import blake3

from ...domain.errors import GiveUp, HotspareError, Refused
from ...domain.extents import BLOCK
from ...domain.lineage import Blob, Lineage, Manifest
from ...domain.machine import DiskSpec
from ...faultpoints import fault_point
from ..port import Export, Intent
from ..published import PublishedSession, same_point
from . import names
from .device import CHUNK
from .receiver import Medium, Receiver, ReceiverExport
from .replica import LINEAGE_KEY, Replica

DIGESTS_KEY, NVRAM_KEY = ":digests", ":nvram"
NVRAM_BYTES = 4 * 1024 * 1024
"""Capacity of a volume of UEFI variables; OVMF's are 128 or 528 KiB. Grown when it is more."""


def digest_capacity(disks: Sequence[DiskSpec]) -> int:
    """Bytes that a digest table of these disks may take: a 16-byte digest and, in the worst case
    of every other block, half a run of 16 bytes for each block, and headers. Sparse."""
    blocks = sum(-(-disk.size // BLOCK) for disk in disks)
    need = blocks * 32 + len(disks) * BLOCK + (1 << 20)
    return -(-need // (1 << 20)) << 20


def checked_disks(disks: Sequence[DiskSpec]) -> None:
    """Raises Refused ``disk.invalid``: ids become names of files and exports."""
    seen = set()
    for disk in disks:
        part = names.disk_part(disk.id)
        if not disk.id or disk.id.startswith(":") or len(part) > 64 or disk.id in seen:
            raise Refused("disk.invalid", disk=disk.id, reason="id")
        if disk.size <= 0 or disk.size % 512:
            raise Refused("disk.invalid", disk=disk.id, reason=f"size {disk.size}")
        seen.add(disk.id)


class LibvirtSession:
    """Implements :class:`~hotspare.platforms.port.Session`."""

    def __init__(self, replica: Replica, receiver: Receiver, disks: Sequence[DiskSpec],
                 number: int, intent: Intent, resumed: bool) -> None:
        self._replica = replica
        self._receiver = receiver
        self._intent = intent
        self._number = number
        self._resumed = resumed
        self._ids = [disk.id for disk in disks]
        self._exports = {i: ReceiverExport(receiver, i) for i in self._ids}
        self._published: Manifest | None = None

    @property
    def number(self) -> int:
        return self._number

    @property
    def disks(self) -> Mapping[str, Export]:
        return self._exports

    @property
    def resumed(self) -> bool:
        return self._resumed

    def publish(self, manifest: Manifest, digests: Path,
                firmware_state: bytes | None) -> Manifest:
        if self._published is not None:
            return self._published
        self._check(manifest)
        receiver = self._receiver
        for disk_id in self._ids:
            with receiver.device(disk_id) as device:
                device.flush()
        fault_point("publish.before-digests")
        blob = self._store_digests(digests)
        firmware = None
        if firmware_state is not None:
            firmware = self._store_firmware(firmware_state)
        fault_point("publish.after-digests")
        # nothing writes to the disks from here on; what does is recorded
        receiver.seal(self._ids)
        filled = replace(
            manifest, digests=(blob,), firmware_state=firmware,
            disks=tuple(replace(d, file=names.data(self._intent, d.id, self._number))
                        for d in manifest.disks))
        fault_point("publish.before-lineage")
        with receiver.device(LINEAGE_KEY) as device:
            lineage = self._replica.load(device)
            self._replica.check_epoch(lineage, self._intent.epoch)
            there = lineage.point(self._number)
            if there is not None or self._number <= lineage.last_number:
                self._published = same_point(lineage, filled)
            else:
                self._replica.store(device, lineage.with_point(filled))
                fault_point("publish.after-lineage")
                self._published = filled
        # QEMU stores the seal as it closes. It is told to and not waited for: a crash within
        # those milliseconds costs a comparison by digests (SealMissing), never a point
        receiver.close(wait=False)
        if firmware is None:
            # begin cannot know whether the machine has any; a crash leaves it to the sweep
            self._replica.pool.delete(names.nvram(self._intent, self._number))
        fault_point("publish.after-seal")
        return self._published

    def _check(self, manifest: Manifest) -> None:
        expected = (self._intent.rule, self._number, self._intent.epoch, self._intent.task)
        found = (manifest.rule, manifest.number, manifest.epoch, manifest.task)
        if found != expected or [d.id for d in manifest.disks] != self._ids:
            raise GiveUp("point.mismatch", expected=expected, found=found)

    def _store_digests(self, table: Path) -> Blob:
        name = names.digests(self._intent, self._number)
        return store_blob(self._receiver, DIGESTS_KEY, name, _pieces(table))

    def _store_firmware(self, content: bytes) -> Blob:
        name = names.nvram(self._intent, self._number)
        return store_blob(self._receiver, NVRAM_KEY, name, iter([content]))

    def abandon(self) -> None:
        if self._published is not None:
            return
        self._receiver.close()
        delete_unpublished(self._replica, self._ids, self._number, self._intent)

    def close(self) -> None:
        self._receiver.close(wait=False)


def store_blob(receiver: Receiver, key: str, name: str, pieces: Iterator[bytes]) -> Blob:
    """Write ``pieces`` durably to the raw disk ``key`` of the receiver."""
    checksum = blake3()
    length = 0
    with receiver.device(key) as device:
        size = device.size
        for piece in pieces:
            if length + len(piece) > size:
                # an NBD client learns of a new size only when it connects anew
                break
            checksum.update(piece)
            device.write(length, piece)
            length += len(piece)
        else:
            device.flush()
            return Blob(name, length, checksum.hexdigest())
        rest = [piece, *pieces]
    receiver.resize(key, length + sum(map(len, rest)))
    with receiver.device(key) as device:
        for piece in rest:
            checksum.update(piece)
            device.write(length, piece)
            length += len(piece)
        device.flush()
    return Blob(name, length, checksum.hexdigest())


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def delete_unpublished(replica: Replica, ids: Sequence[str], number: int, intent: Intent) -> None:
    """Delete the volumes of an unpublished point."""
    for disk_id in ids:
        replica.pool.delete(names.data(intent, disk_id, number))
    replica.pool.delete(names.digests(intent, number))
    replica.pool.delete(names.nvram(intent, number))


@contextmanager
def undone(replica: Replica, made: list[str]) -> Iterator[None]:
    """Delete the volumes of ``made`` when the block fails."""
    try:
        yield
    except BaseException:
        for name in reversed(made):
            try:
                replica.pool.delete(name)
            except HotspareError:
                pass  # the first error is told; the sweep deletes what this could not
        raise


def begin(replica: Replica, disks: Sequence[DiskSpec], base: int | None, intent: Intent,
          sealed: bool = True) -> LibvirtSession | PublishedSession:
    """See :meth:`Target.begin`."""
    checked_disks(disks)
    if not replica.exists():
        raise GiveUp("replica.not-found", rule=replica.rule, storage=replica.pool.name)
    lineage = replica.lineage()
    replica.check_epoch(lineage, intent.epoch)
    head = lineage.head
    if head is not None and (head.epoch, head.task) == (intent.epoch, intent.task):
        return PublishedSession(head)
    below = _base_point(lineage, base, disks)
    number = lineage.last_number + 1
    made: list[str] = []
    with undone(replica, made):
        media, resumed = _volumes(replica, disks, below, number, intent, made)
        fault_point("begin.after-volumes")
        receiver = replica.receiver(media)
        try:
            fault_point("begin.after-receiver")
            if below is not None and sealed:
                wanted = {disk.id for disk in disks}
                receiver.require_seals({d.id: replica.pool.path(d.file) for d in below.disks
                                        if d.id in wanted}, number=below.number)
            with receiver.device(LINEAGE_KEY) as device:
                # again, through the receiver: only one of its name exists, so whoever fenced us
                # has either ended it or its epoch is seen here
                if replica.update_epoch(device, intent.epoch).last_number != lineage.last_number:
                    raise Refused("replica.base-stale", base=base, head=number)
        except BaseException:
            receiver.close()
            raise
    return LibvirtSession(replica, receiver, disks, number, intent, resumed)


def _base_point(lineage: Lineage, base: int | None, disks: Sequence[DiskSpec]) -> Manifest | None:
    if base is None:
        return None
    head = lineage.head
    if head is None or head.number != base:
        raise Refused("replica.base-stale", base=base, head=head.number if head else None)
    for disk in disks:
        old = head.disk(disk.id)
        if old is not None and disk.size < old.size:
            raise Refused("disk.shrunk", disk=disk.id, size=disk.size, before=old.size)
    return head


def _volumes(replica: Replica, disks: Sequence[DiskSpec], below: Manifest | None, number: int,
             intent: Intent, made: list[str]) -> tuple[list[Medium], bool]:
    """The overlays and blob volumes of the session, made or found. The overlays of the same task
    are continued if all are there and stand on the same base; a part of them holds no data yet,
    as nothing is written before all are made."""
    pool = replica.pool
    overlays: dict[str, tuple[DiskSpec, str]] = {}
    for disk in disks:
        under = below.disk(disk.id) if below is not None else None
        backing = pool.path(under.file) if under is not None else ""
        overlays[names.data(intent, disk.id, number)] = (disk, backing)
    blobs = {names.digests(intent, number): (DIGESTS_KEY, digest_capacity(disks)),
             names.nvram(intent, number): (NVRAM_KEY, NVRAM_BYTES)}
    pool.refresh()  # one look at the directory for all that follows
    there = {v.name: v for v in map(pool.peek, (*overlays, *blobs)) if v is not None}
    resumed = all(name in there and there[name].backing == backing
                  for name, (_, backing) in overlays.items())
    media = []
    for name, (disk, backing) in overlays.items():
        found = there.get(name)
        if found is not None and not resumed:
            pool.delete(name)
            found = None
        if found is None:
            made.append(name)
            pool.create(name, disk.size, "qcow2", backing)
        elif found.size < disk.size:
            pool.resize(name, disk.size)
        media.append(Medium(disk.id, pool.path(name)))
    media.append(replica.lineage_medium())
    for name, (key, size) in blobs.items():
        if name not in there:
            made.append(name)
            pool.create(name, size, "raw")
        media.append(Medium(key, pool.path(name), "raw"))
    return media, resumed
