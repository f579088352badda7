"""A source machine that takes back what its replica became: its own files, written in place.

A receiver holds the machine's disks, with an undo disk for each. While it lives, QEMU's lock
keeps the machine from starting; when it is gone, nothing is left but the undo disks. The disks'
persistent bitmaps go on recording in it, so that the next run of the rule is incremental.

What a failback keeps lies beside the machine's disks (or in option ``scratch_dir``), and begins
with its origin's name: ``….DISK.undo``, ``….nvram-undo``, ``….eEPOCH.fence`` for each epoch that
was here (whoever finds a higher one than its own stops), and ``….begun`` when all undo disks have
been made (one that is missing later was deleted, and what it held is lost).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import libvirt

from ...domain.errors import (
    Fenced,
    ForeignChange,
    GiveUp,
    HotspareError,
    Reconnect,
    Refused,
    Retry,
)
from ...domain.extents import Extent
from ...domain.machine import VmDescription
from ...faultpoints import fault_point
from ..port import (
    Changes,
    DirtyContext,
    Export,
    Intent,
    Leftover,
    PreservedDisk,
    Progress,
    Token,
    Unknown,
)
from . import build, checkpoints, kept_firmware, names, offline, undo_disk
from .connection import Connection
from .domain_read import Layout, read_layout
from .files import delete_files, directory_pool, in_directory
from .inventory import find_machine
from .kept_firmware import KeptFirmware
from .liberrors import mapped, translate
from .receiver import Medium, Receiver, ReceiverExport, Seal, end_receivers, remove_sockets
from .scratch import directory
from .session import checked_disks
from .undo_disk import UndoDisk
from .volumes import Format
from .xmlsafe import parse

_SINCE_BASE: Final = "hs-changes"       # copy of the base's bitmap, as it was when we came
_FENCE: Final = ".fence"
_BEGUN: Final = ".begun"
_OURS: Final = (undo_disk.SUFFIX, kept_firmware.SUFFIX, _FENCE, _BEGUN)


class LibvirtWriteBack:
    """Implements :class:`~hotspare.platforms.port.WriteBack`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open(self, vm: str, base: Token | None, origin: Intent,
             epoch: int) -> LibvirtWriteBackSession:
        name = names.writer(origin.rule)
        layout = self._off(find_machine(self._connection, vm))
        kept = _Kept(self._connection, layout, origin)
        kept.fence(epoch)
        end_receivers(self._connection, name)
        self._end_readers(origin.rule, layout)
        media = [*_media(layout), *kept.undo_disks()]
        fault_point("write-back.after-undo-disks")
        receiver = self._receiver(name, layout, media)
        try:
            fault_point("write-back.after-receiver")
            # again, now that only we can write: whoever fenced us has ended it, or is seen here
            kept.check_fence(epoch)
            return LibvirtWriteBackSession(
                receiver, layout, kept,
                KeptFirmware(self._connection, layout, kept.firmware, f"{name}-nv"), base)
        except BaseException:
            with contextlib.suppress(HotspareError):
                receiver.close()
            raise

    def power_on(self, vm: str, intent: Intent) -> Token | None:
        domain = find_machine(self._connection, vm)
        layout = read_layout(self._connection.conn, domain)
        name = str(intent)
        if layout.vm.power == "off":
            if layout.saved:
                raise Refused("source.saved", vm=layout.vm.name)
            self._track(domain, layout, name, names.writer(intent.rule))
            fault_point("power-on.after-tracking")
            self._create(domain, layout)
            fault_point("power-on.after-start")
        if not checkpoints.sound(domain, name):
            return None
        return checkpoints.token(domain, name, layout.vm)

    def build(self, vm: VmDescription, name: str, storage: str, networks: Mapping[str, str],
              intent: Intent) -> str:
        return build.build(self._connection, vm, name, storage, networks, intent)

    def let_go(self, vm: str, intent: Intent) -> None:
        build.let_go(self._connection, vm, intent)

    def demolish(self, vm: str, intent: Intent) -> list[Leftover]:
        return build.demolish(self._connection, vm, intent)

    def undo_exists(self, vm: str, origin: Intent) -> bool:
        layout = read_layout(self._connection.conn, find_machine(self._connection, vm))
        return bool(_Kept(self._connection, layout, origin).files())

    def clear(self, vm: str, origin: Intent) -> list[Leftover]:
        name = names.writer(origin.rule)
        found = [Leftover("domain", ended)
                 for ended in end_receivers(self._connection, name)]
        found += remove_sockets(self._connection, name)
        try:
            domain = find_machine(self._connection, vm)
        except GiveUp as error:
            if error.code == "vm.not-found":
                return found
            raise
        try:
            layout = read_layout(self._connection.conn, domain)
            kept = _Kept(self._connection, layout, origin)
        except Refused as error:    # its owner made it what we do not understand
            return [*found, Leftover("undo", str(origin), str(error))]
        except GiveUp as error:
            if error.code == "disk.unreadable" and build.built(self._connection, vm, origin):
                return found        # half demolished, which begins after all was cleared
            raise
        if kept.files():
            # first, as the files are what says that there may be a seal
            self._unseal(domain, layout, kept.seal, name)
            fault_point("clear.after-seals")
        return [*found, *kept.delete()]

    # --- parts ---------------------------------------------------------------------------------

    def _off(self, domain: Any) -> Layout:
        """The layout of a machine that can be written. Raises Refused."""
        layout = read_layout(self._connection.conn, domain)
        if layout.vm.power != "off":
            raise Refused("source.runs", vm=layout.vm.name)
        if layout.saved:
            raise Refused("source.saved", vm=layout.vm.name)
        checked_disks(layout.vm.disks)
        for element in layout.root.findall("devices/disk"):
            target = element.find("target")
            disk = "" if target is None else target.get("dev", "")
            if disk in layout.sources and element.find("readonly") is not None:
                raise Refused("disk.read-only", disk=disk)
        return layout

    def _end_readers(self, rule: str, layout: Layout) -> None:
        """End what an earlier task of the rule left that reads these disks. (Where source and
        target are one host, the rule may just read its replica.)"""
        mine = {_place(s) for s in layout.sources.values()}
        for helper in offline.helpers(self._connection.conn, rule).values():
            with mapped():
                root = parse(helper.XMLDesc(0))
            if any(_place(s.attrib) in mine for s in root.iterfind("devices/disk/source")):
                offline.destroy(self._connection, helper)

    @staticmethod
    def _create(domain: Any, layout: Layout) -> None:
        try:
            domain.create()
        except libvirt.libvirtError as error:
            if domain.isActive():
                return  # somebody was quicker, and what was laid down tracks that, too
            if "lock" in str(error):
                raise Retry("source.disk-busy", after_s=5, vm=layout.vm.name,
                            reason=str(error)) from error
            raise translate(error, vm=layout.vm.name) from error

    def _receiver(self, name: str, layout: Layout, media: list[Medium]) -> Receiver:
        try:
            return Receiver(self._connection, name, media)
        except Retry as error:
            if error.code != "replica.busy":
                raise
            raise Retry("source.disk-busy", after_s=5, vm=layout.vm.name,
                        reason=error.fields["reason"]) from error

    def _track(self, domain: Any, layout: Layout, name: str, receiver_name: str) -> None:
        """Begin a checkpoint of a machine that is off, so that it starts with it.

        It could also be started paused for that. But then nothing would tell, after a crash, a
        machine that never ran from one that its owner has started and paused, and one of ours
        would stay paused until we come again."""
        media = [m for m in _media(layout) if m.fmt == "qcow2"]
        if not media:
            return
        with self._receiver(receiver_name, layout, media) as receiver:
            disks = [m.key for m in media if receiver.has_bitmaps(m.key)]
            if not disks:
                return
            checkpoints.announce(domain, name, disks)
            fault_point("power-on.after-checkpoint")
            for disk in disks:
                receiver.track(disk, name)

    def _unseal(self, domain: Any, layout: Layout, seal: str, receiver_name: str) -> None:
        media = [m for m in _media(layout) if m.fmt == "qcow2"]
        if not media:
            return
        if layout.vm.power == "off":
            with self._receiver(receiver_name, layout, media) as receiver:
                receiver.unseal([m.key for m in media], seal)
        else:
            # somebody started it: libvirt removes a bitmap that it takes for a checkpoint's
            checkpoints.announce(domain, seal, [m.key for m in media])
            checkpoints.delete(domain, seal)


class LibvirtWriteBackSession:
    """Implements :class:`~hotspare.platforms.port.WriteBackSession`."""

    def __init__(self, receiver: Receiver, layout: Layout, kept: _Kept, firmware: KeptFirmware,
                 base: Token | None) -> None:
        self.vm: VmDescription = layout.vm
        self.disks: Mapping[str, Export] = {d.id: ReceiverExport(receiver, d.id)
                                            for d in layout.vm.disks}
        self._receiver, self._seal, self._firmware = receiver, kept.seal, firmware
        self._undo = {d.id: UndoDisk(receiver, d.id) for d in layout.vm.disks}
        self.untouched = self._break_seals()
        self._changes = {d.id: self._since(base, d.id, checkpoints.untold(d, base))
                         for d in layout.vm.disks}

    def _break_seals(self) -> bool:
        """Whether all seals were whole; none is left."""
        seals = self._receiver.seals(self._seal)
        found = [seals.get(d.location, Seal(False)) for d in self.vm.disks]
        self._receiver.unseal(self.disks, self._seal)
        return all(s.found and s.sound and not s.dirty for s in found)

    def _since(self, base: Token | None, disk: str, reason: str) -> Changes:
        if reason or base is None:
            return Unknown(reason)
        node, name = self._receiver.nodes[disk], str(base["checkpoint"])
        if not checkpoints.whole(self._receiver.qmp("query-named-block-nodes"), node, name):
            return Unknown("tracking.broken")
        # what is written from now on is ours
        self._receiver.qmp("block-dirty-bitmap-add", node=node, name=_SINCE_BASE, disabled=True)
        self._receiver.qmp("block-dirty-bitmap-merge", node=node, target=_SINCE_BASE,
                           bitmaps=[name])
        self._receiver.offer_bitmap(disk, _SINCE_BASE)
        return DirtyContext(f"qemu:dirty-bitmap:{_SINCE_BASE}")

    def changes(self, disk: str) -> Changes:
        return self._changes[disk]

    def resize(self, disk: str, size: int) -> None:
        least = self._undo[disk].size
        if size == self._receiver.size(disk):
            return
        if size < least:
            raise Refused("disk.not-smaller", disk=disk, size=size, before=least)
        try:
            self._receiver.resize(disk, size)
        except GiveUp as error:
            if error.code != "qmp.failed":
                raise
            raise Refused("disk.resize", disk=disk, size=size,
                          reason=error.fields["reason"]) from error

    def preserve(self, disk: str, extents: Iterable[Extent], progress: Progress) -> int:
        return self._undo[disk].preserve(extents, progress)

    def preserved(self, disk: str) -> PreservedDisk | None:
        return self._undo[disk].preserved()

    def preserve_firmware(self) -> None:
        self._firmware.preserve()

    def write_firmware_state(self, state: bytes) -> None:
        self._firmware.write(state)

    def restore_firmware_state(self) -> None:
        self._firmware.restore()

    def close(self, sealed: bool) -> None:
        if sealed:
            with contextlib.suppress(Reconnect):    # it died, or was closed: nothing is sealed
                self._receiver.seal([d for d in self.disks if self._receiver.has_bitmaps(d)],
                                    self._seal)
                fault_point("write-back.before-close")
        self._receiver.close()


class _Kept:
    """The files that a failback keeps beside the disks of a machine."""

    def __init__(self, connection: Connection, layout: Layout, origin: Intent) -> None:
        self._connection, self._layout, self._origin = connection, layout, origin
        self._places = {d.id: directory(connection, d) for d in layout.vm.disks}
        self._first = self._places[layout.vm.disks[0].id]

    @property
    def seal(self) -> str:
        """Name of the bitmaps that tell whether a disk was written between two sessions."""
        return f"{self._origin}.seal"

    @property
    def firmware(self) -> str:
        return f"{self._first}/{self._origin}{kept_firmware.SUFFIX}"

    def undo_disks(self) -> list[Medium]:
        """The undo disks as media of a receiver, made when they are not there yet. Their size is
        that of the disk before the failback, so it never changes. Raises ForeignChange
        ``undo.missing``."""
        present, media = self.files(), []
        for disk in self._layout.vm.disks:
            name = f"{self._origin}.{names.disk_part(disk.id)}{undo_disk.SUFFIX}"
            path = f"{self._places[disk.id]}/{name}"
            if name not in present:
                if self._begun in present:
                    raise ForeignChange("undo.missing", disk=disk.id, file=path)
                self._make(path, disk.size, "qcow2")
                fault_point("write-back.after-one-undo-disk")
            media.append(Medium(undo_disk.key_of(disk.id), path))
        if self._begun not in present:
            self._make(f"{self._first}/{self._begun}", 0, "raw")
        return media

    @property
    def _begun(self) -> str:
        return f"{self._origin}{_BEGUN}"

    def fence(self, epoch: int) -> None:
        """Say that ``epoch`` is here. Raises Fenced when a higher one is."""
        self.check_fence(epoch)
        name = f"{self._origin}.e{epoch}{_FENCE}"
        if name not in self.files():
            self._make(f"{self._first}/{name}", 0, "raw")

    def check_fence(self, epoch: int) -> None:
        """Raises Fenced when a higher epoch than ours was here."""
        found = max((int(name.removesuffix(_FENCE).rsplit(".e", 1)[1])
                     for name in self.files() if name.endswith(_FENCE)), default=0)
        if found > epoch:
            raise Fenced("rule.fenced", rule=self._origin.rule, found=found, epoch=epoch)

    def files(self) -> set[str]:
        """Names of all files of the failback."""
        found: set[str] = set()
        for place in set(self._places.values()):
            with directory_pool(self._connection.conn, place) as pool, mapped(directory=place):
                found |= {name for name in pool.listVolumes() if self._mine(name)}
        return found

    def _make(self, path: str, size: int, fmt: Format) -> None:
        with in_directory(self._connection, path) as (pool, name):
            pool.create(name, size, fmt)

    def delete(self) -> list[Leftover]:
        return [gone for place in sorted(set(self._places.values()))
                for gone in delete_files(self._connection.conn, place, self._mine, "undo")]

    def _mine(self, name: str) -> bool:
        return name.startswith(f"{self._origin}.") and name.endswith(_OURS)


def _place(source: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(source.get(k, "") for k in ("file", "dev", "pool", "volume"))


def _media(layout: Layout) -> list[Medium]:
    return [Medium(d.id, d.location, "raw" if d.format == "raw" else "qcow2")
            for d in layout.vm.disks]
