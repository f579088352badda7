"""One replica at a target: its pool, its lineage, its blobs and what stands on its points."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import libvirt
from blake3 import blake3

from ...domain.errors import Fenced, ForeignChange, GiveUp
from ...domain.lineage import Blob, Lineage, Manifest
from .. import lineage_store
from ..port import ReplicaRef
from . import names, xmlsafe
from .connection import Connection, mapped
from .device import Device
from .receiver import Medium, Receiver
from .volumes import Pool

LINEAGE_KEY = ":lineage"
"""Export name of the lineage disk; no disk id begins with a colon."""

_BLOB_PIECE = 256 * 1024


class Replica:
    """Reads and writes that target and standby share. Stateless but for caches of the pool."""

    def __init__(self, connection: Connection, key: bytes, ref: ReplicaRef) -> None:
        self.connection = connection
        self.key = key
        self.ref = ref
        self.rule = names.checked_rule(ref.rule)
        self.pool = Pool(connection, ref.storage)

    # --- lineage -------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the lineage disk is there."""
        return self.pool.find(names.lineage(self.rule)) is not None

    def lineage(self) -> Lineage:
        """The lineage, read by libvirt without a receiver (some 5 ms). Empty when there is no
        lineage disk. Raises ForeignChange."""
        name = names.lineage(self.rule)
        if self.pool.find(name) is None:
            return Lineage(rule=self.rule, epoch=0)

        def read(offset: int, length: int) -> bytes:
            content = b"".join(self.pool.read(name, offset, length))
            return content.ljust(length, b"\0")

        try:
            return lineage_store.load(read, self.rule, self.key)
        except GiveUp as error:
            if error.code == "volume.not-found":
                return Lineage(rule=self.rule, epoch=0)
            raise

    def lineage_medium(self) -> Medium:
        """The lineage disk as a disk of a receiver."""
        return Medium(LINEAGE_KEY, self.pool.path(names.lineage(self.rule)), "raw")

    def load(self, device: Device) -> Lineage:
        """The lineage as it is now, through a receiver."""
        return lineage_store.load(device.read, self.rule, self.key)

    def store(self, device: Device, lineage: Lineage) -> Lineage:
        """Write ``lineage`` durably as the successor of what is on the disk now, and return it as
        written. The caller has loaded and judged the present one through the same receiver."""
        written = replace(lineage, sequence=lineage.sequence + 1)
        slot = lineage_store.encode_slot(written, self.key)
        device.write(lineage_store.slot_offset(written.sequence), slot, durable=True)
        device.flush()
        return written

    def update_epoch(self, device: Device, epoch: int) -> Lineage:
        """Load the lineage and raise its epoch to ``epoch``. Raises Fenced when it is higher."""
        lineage = self.load(device)
        self.check_epoch(lineage, epoch)
        if lineage.epoch < epoch:
            lineage = self.store(device, replace(lineage, epoch=epoch))
        return lineage

    def check_epoch(self, lineage: Lineage, epoch: int) -> None:
        """Raises Fenced ``rule.fenced`` when the target's epoch is higher than ``epoch``."""
        if lineage.epoch > epoch:
            raise Fenced("rule.fenced", rule=self.rule, epoch=epoch, found=lineage.epoch)

    def receiver(self, media: Sequence[Medium]) -> Receiver:
        """The replica's one writing receiver; an earlier one is ended."""
        return Receiver(self.connection, names.receiver(self.rule), media)

    # --- blobs ---------------------------------------------------------------------------------

    def read_blob(self, blob: Blob) -> Iterator[bytes]:
        """A blob's content. Raises ForeignChange ``blob.changed`` at its end when it differs."""
        checksum = blake3()
        left = blob.length
        if left:
            with contextlib.closing(self.pool.read(blob.name, 0, blob.length)) as pieces:
                for piece in pieces:
                    checksum.update(piece)
                    left -= len(piece)
                    yield piece
        if left or checksum.hexdigest() != blob.checksum:
            raise ForeignChange("blob.changed", rule=self.rule, blob=blob.name)

    # --- what stands on points -----------------------------------------------------------------

    def files(self, lineage: Lineage) -> dict[str, int]:
        """Number of the point by the name of each of its disks' files."""
        return {disk.file: point.number for point in lineage.points for disk in point.disks}

    def pins(self, lineage: Lineage) -> dict[int, set[str]]:
        """By number of a point, the names of what stands on it: volumes and machines.

        A layer on a point stands on all older ones of that chain as well: a QEMU that runs on it
        has them open, and they must not change below it.
        """
        files = self.files(lineage)
        volumes = self.pool.list()
        backing = {_base(v.path): _base(v.backing) for v in volumes if v.backing}
        found: dict[int, set[str]] = {}

        def pin(file: str, who: str) -> None:
            seen = set()
            while file and file not in seen:
                seen.add(file)
                if file in files:
                    found.setdefault(files[file], set()).add(who)
                file = backing.get(file, "")

        for volume in volumes:
            parsed = names.parse(volume.name, self.rule)
            ours = volume.name in files or (parsed and parsed.kind in ("data", "merge"))
            if volume.backing and not ours:
                pin(_base(volume.backing), volume.name)
        for other in self._other_backings():
            pin(_base(other), other)
        for who, sources in machines(self.connection).items():
            if not who.startswith(names.receiver(self.rule)):
                for source in sources:
                    pin(_base(source), who)
        return found

    def _other_backings(self) -> Iterator[str]:
        """Backing files of volumes in the host's other pools, as libvirt last saw them."""
        with mapped():
            pools = self.connection.conn.listAllStoragePools(
                libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
        for handle in pools:
            # a pool that fails is someone else's, and what is in it now is not on our files
            with contextlib.suppress(libvirt.libvirtError, GiveUp):
                if handle.name() != self.pool.name:
                    for volume in Pool(self.connection, handle.name()).list(refresh=False):
                        if volume.backing:
                            yield volume.backing

    def volume_names(self) -> dict[str, names.VolumeName]:
        """All volumes of the pool that carry our rule, by name."""
        found = {}
        for volume in self.pool.list():
            parsed = names.parse(volume.name, self.rule)
            if parsed is not None:
                found[volume.name] = parsed
        return found


def _base(path: str) -> str:
    # names are unique within a rule and carry it, so the name alone tells the file: the same
    # share may be mounted elsewhere, or be reached by a symbolic link or a relative path
    return path.rsplit("/", 1)[-1]


def machines(connection: Connection) -> dict[str, set[str]]:
    """Files that each domain of the host names (disks, backing files, UEFI variables), by the
    domain's name; running and shut off ones."""
    found: dict[str, set[str]] = {}
    with mapped():
        domains = connection.conn.listAllDomains()
    for domain in domains:
        with contextlib.suppress(libvirt.libvirtError):  # undefined since it was listed
            found[domain.name()] = _sources(domain)
    return found


def _sources(domain: Any) -> set[str]:
    root = xmlsafe.parse(domain.XMLDesc())
    paths = {source.get("file", "") for source in root.iterfind("devices/disk//source")}
    paths.add(root.findtext("os/nvram") or "")
    nvram = root.find("os/nvram/source")
    if nvram is not None:
        paths.add(nvram.get("file", ""))
    return {p for p in paths if p}


def files_of(manifest: Manifest) -> set[str]:
    """Names of all volumes that a point consists of."""
    found = {disk.file for disk in manifest.disks} | {b.name for b in manifest.digests}
    if manifest.firmware_state is not None:
        found.add(manifest.firmware_state.name)
    return found
