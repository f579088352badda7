"""One replica on vSphere: its machine, its lineage and what its current state is.

The machine is off unless a failover runs. Each restore point is a snapshot of it; what is written
for the next one goes to the machine's current disks, above the head's snapshot. The lineage, digest
tables and firmware states are files in a directory of the replica's own (:mod:`.files`), which stay
when the machine is reverted.

A lineage is written as the next file of a sequence, which two writers cannot both do: so an epoch
that was raised fences whoever still holds an older one (design, section 7).

Options of the machine's configuration, which snapshots hold and a revert brings back:
``hotspare.rule``, and ``hotspare.state`` (:class:`State`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from blake3 import blake3
from pyVmomi import vim

from ...domain.errors import (
    Fenced,
    ForeignChange,
    GiveUp,
    HotspareError,
    Refused,
    Retry,
    SealMissing,
    TrackingUnusable,
)
from ...domain.lineage import Blob, Lineage, Manifest
from .. import lineage_store
from ..port import Intent, ReplicaRef
from . import snapshots, standing, tracking
from .connection import Connection
from .files import Files
from .machine_read import disk_id, disks_of
from .machine_write import reconfigure, removed_disk
from .power import power_of
from .snapshots import Snapshot

UUID_BEGIN = "486f7473-7061-8"
"""What the instance uuids of our replicas begin with: of our own making (version 8, RFC 9562)."""

RULE, STATE = "hotspare.rule", "hotspare.state"
_DIRECTORY = "hotspare-"
_LINEAGE = re.compile(r"lineage-(\d{12})")
_KEPT = 2           # lineages: the present one and that before it, for whoever reads just now
_TRIES = 3


def checked_rule(rule: str) -> str:
    """It goes into names and paths. Raises Refused ``rule.invalid``."""
    if not re.fullmatch(r"[0-9a-f]{8}", rule):
        raise Refused("rule.invalid", rule=rule)
    return rule


def directory_of(rule: str) -> str:
    return _DIRECTORY + rule


def replica_uuid(rule: str, storage: str) -> str:
    """The instance uuid of a replica, by which its machine is found in one call."""
    digest = blake3(f"{rule} {storage}".encode()).hexdigest()
    return f"{UUID_BEGIN}000-8{digest[:3]}-{digest[3:15]}"


def rules_on(connection: Connection, name: str) -> list[str]:
    """Rules that have a replica's directory on a datastore."""
    top = Files(connection, name, "")
    found = (n.removeprefix(_DIRECTORY) for n in top.names(f"{_DIRECTORY}????????"))
    return sorted(rule for rule in found if re.fullmatch(r"[0-9a-f]{8}", rule))


@dataclass(frozen=True, slots=True)
class State:
    """What the current disks of the machine are. ``intent``: of the task that wrote them; they
    are a point's when its lineage says so. ``base``: the point that they began from, 0: nothing.
    ``keys``: the device of each disk, by its id; None while they are being made. ``clean``: change
    ids by device, that foreign writes count from, where they are not those of the head."""

    intent: str
    base: int = 0
    keys: Mapping[str, int] | None = None
    clean: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> tuple[int, int] | None:
        found = Intent.of_name(self.intent)
        return (found.epoch, found.task) if found is not None else None

    def option(self) -> Any:
        return vim.option.OptionValue(key=STATE, value=json.dumps({
            "intent": self.intent, "base": self.base, "keys": self.keys, "clean": self.clean}))

    @staticmethod
    def of(config: Any) -> State | None:
        value = options_of(config).get(STATE, "")
        try:
            found = json.loads(value)
            return State(found["intent"], found["base"], found["keys"], found["clean"])
        except (ValueError, KeyError, TypeError):
            return None


def options_of(config: Any) -> dict[str, str]:
    return {o.key: str(o.value) for o in config.extraConfig}


def point_name(intent: Intent, number: int) -> str:
    """Of a point's snapshot. Not that of the intent alone, which an instant of a source has."""
    return f"{intent}.p{number}"


class Replica:
    """Reads and writes that all roles share. Nothing is cached."""

    def __init__(self, connection: Connection, key: bytes, ref: ReplicaRef) -> None:
        self.connection, self.key, self.ref = connection, key, ref
        self.rule = checked_rule(ref.rule)
        self.files = Files(connection, ref.storage, directory_of(self.rule))
        self.uuid = replica_uuid(ref.rule, ref.storage)

    @staticmethod
    def fresh_uuid() -> str:
        """For a machine that is not ours any more."""
        return str(uuid4())

    # --- the machine -----------------------------------------------------------------------------

    def find(self) -> Any:
        """The machine or None. Raises ForeignChange ``replica.foreign`` where one that is not
        marked as ours has its id."""
        with self.connection.calls():
            found = self.connection.content.searchIndex.FindByUuid(None, self.uuid, True, True)
        if found is not None and options_of(
                self.connection.read(found, "config")["config"]).get(RULE) != self.rule:
            raise ForeignChange("replica.foreign", rule=self.rule, machine=found._moId)
        return found

    def machine(self) -> Any:
        """Raises GiveUp ``replica.not-found``."""
        found = self.find()
        if found is None:
            raise GiveUp("replica.not-found", rule=self.rule, storage=self.ref.storage)
        return found

    def config(self, machine: Any) -> Any:
        return self.connection.read(machine, "config")["config"]

    def reconfigure(self, machine: Any, spec: Any) -> None:
        reconfigure(self.connection, machine, spec)

    def refuse_running(self, machine: Any) -> None:
        """Raises Refused ``replica.stands`` where a failover stands, running or not, ForeignChange
        ``replica.runs`` where somebody else has switched it on."""
        found = standing.read(self.files)
        if found is not None:
            raise Refused("replica.stands", rule=self.rule, name=found.name)
        if power_of(self.connection, machine) != "off":
            raise ForeignChange("replica.runs", rule=self.rule, machine=machine._moId)

    # --- snapshots -------------------------------------------------------------------------------

    def snapshots(self, machine: Any) -> dict[str, Snapshot]:
        """Those of points, published or not, by name."""
        return {s.name: s for s in snapshots.of_points(self.connection, machine, self.rule)}

    def snapshot_of(self, machine: Any, point: Manifest) -> Snapshot:
        """Raises ForeignChange ``point.snapshot-gone``."""
        name = point.disks[0].file.partition("/")[0] if point.disks else ""
        found = self.snapshots(machine).get(name)
        if found is None:
            raise ForeignChange("point.snapshot-gone", number=point.number, snapshot=name)
        return found

    def devices_of(self, snapshot: Snapshot, point: Manifest) -> dict[str, Any]:
        """Disks of a point as its snapshot holds them, by their ids."""
        config = self.connection.read(snapshot.ref, "config")["config"]
        by_key = {int(d.key): d for d in disks_of(config.hardware.device)}
        try:
            return {d.id: by_key[int(d.file.partition("/")[2])] for d in point.disks}
        except (KeyError, ValueError) as error:
            raise ForeignChange("point.snapshot-gone", number=point.number,
                                snapshot=snapshot.name) from error

    def unpublished(self, machine: Any, lineage: Lineage) -> bool:
        """Whether the current disks are what a task of ours has not published."""
        state = State.of(self.config(machine))
        return (state is not None and state.task is not None
                and state.task not in {(p.epoch, p.task) for p in lineage.points})

    def require_clean(self, machine: Any, head: Manifest, wanted: Iterable[str]) -> None:
        """Raises ForeignChange ``replica.changed`` when the current disks ``wanted`` (ids) are not
        what the head's snapshot holds, SealMissing when that cannot be told."""
        config = self.config(machine)
        state = State.of(config)
        current = {int(d.key): d for d in disks_of(config.hardware.device)}
        snapshot = self.snapshot_of(machine, head)
        missing: HotspareError | None = None
        for ident, held in self.devices_of(snapshot, head).items():
            if ident not in wanted:
                continue
            now = current.get(int(held.key))
            file = held.backing.fileName
            if (state is None or state.task != (head.epoch, head.task) or now is None
                    or now.backing.parent is None or now.backing.parent.fileName != file):
                raise ForeignChange("replica.changed", disk=ident, file=file, size=0,
                                    number=head.number)
            since = state.clean.get(disk_id(held)) or held.backing.changeId or ""
            if not since:
                missing = missing or SealMissing("replica.seal-missing", disk=ident, file=file)
                continue
            areas = tracking.DiskAreas(int(held.key), int(held.capacityInBytes), since, "",
                                       self.connection, machine, None)
            try:
                written = sum(extent.length for extent in areas)
            except TrackingUnusable:
                missing = missing or SealMissing("replica.seal-missing", disk=ident, file=file)
                continue
            if written:
                raise ForeignChange("replica.changed", disk=ident, file=now.backing.fileName,
                                    size=written, number=head.number)
        if missing is not None:
            raise missing

    def discard(self, machine: Any, head: Manifest | None) -> None:
        """Throw away what the current disks hold above the head, with snapshots that no lineage
        names; without a head all disks. The state stays what the head's snapshot says."""
        lineage = self.lineage()
        published = {d.file.partition("/")[0] for p in lineage.points for d in p.disks}
        if head is not None:
            self._destroy_loose(machine)
            with self.connection.calls(vm=machine._moId):
                task = self.snapshot_of(machine, head).ref.RevertToSnapshot_Task()
            self.connection.wait(task, vm=machine._moId)
        for name, snapshot in self.snapshots(machine).items():
            if name not in published:
                snapshots.remove(self.connection, machine, snapshot)
        if head is None:
            self._destroy_loose(machine)
            self.reconfigure(machine, vim.vm.ConfigSpec(
                extraConfig=[vim.option.OptionValue(key=STATE, value="")]))

    def _destroy_loose(self, machine: Any) -> None:
        """Disks that no snapshot holds: they were made for the unpublished state. One that lies
        elsewhere was not made by us, and is taken out only."""
        config = self.config(machine)
        home = config.files.vmPathName.rpartition("/")[0]
        edits = [removed_disk(d, d.backing.fileName.rpartition("/")[0] == home)
                 for d in disks_of(config.hardware.device) if d.backing.parent is None]
        if edits:
            self.reconfigure(machine, vim.vm.ConfigSpec(deviceChange=edits))

    def settle(self, machine: Any, head: Manifest | None) -> None:
        """:meth:`discard`, and let foreign writes count from now on: a revert ends the change
        ids of before, and a snapshot begins new ones."""
        self.discard(machine, head)
        if head is None:
            return
        intent = Intent(self.rule, head.epoch, head.task)
        name = point_name(intent, 0)
        made = snapshots.create_named(self.connection, machine, name, intent, {})
        config = self.connection.read(made.ref, "config")["config"]
        clean = {disk_id(d): str(d.backing.changeId or "")
                 for d in disks_of(config.hardware.device)}
        snapshots.remove(self.connection, machine, made)
        state = State.of(self.config(machine))
        if state is not None:
            self.reconfigure(machine, vim.vm.ConfigSpec(
                extraConfig=[replace(state, clean=clean).option()]))

    # --- lineage ---------------------------------------------------------------------------------

    def lineage(self) -> Lineage:
        """Empty when there is none. Raises ForeignChange."""
        for _ in range(_TRIES):
            found = self._lineages()
            if not found:
                return Lineage(rule=self.rule, epoch=0)
            try:
                content = b"".join(self.files.read(found[-1]))
            except GiveUp as error:
                if error.code == "volume.not-found":    # a later one took its place just now
                    continue
                raise
            return self._decoded(found[-1], content)
        raise Retry("replica.busy", reason=found[-1], after_s=1)

    def _lineages(self) -> list[str]:
        return sorted(n for n in self.files.names("lineage-*") if _LINEAGE.fullmatch(n))

    def _decoded(self, name: str, content: bytes) -> Lineage:
        sequence = int(name.removeprefix("lineage-"))
        begin = lineage_store.slot_offset(sequence)

        def read(offset: int, length: int) -> bytes:
            return content[offset - begin:][:length].ljust(length, b"\0")

        slot = lineage_store.decode_slot(read, sequence % 2, self.rule, self.key)
        if slot.lineage is None or slot.lineage.sequence != sequence:
            raise ForeignChange("lineage.damaged", rule=self.rule)
        return slot.lineage

    def store(self, lineage: Lineage) -> Lineage:
        """Write the successor of ``lineage``, which the caller has read and changed, durably; as
        it was written. Raises Fenced where another was quicker."""
        written = replace(lineage, sequence=lineage.sequence + 1)
        content = lineage_store.encode_slot(written, self.key)
        name = f"lineage-{written.sequence:012d}"
        made = self.files.write(name, [content], len(content))
        there = self._lineages()
        if not made or there[-1] != name:
            self.check_epoch(self.lineage(), written.epoch)
            raise Fenced("rule.fenced", rule=self.rule, epoch=written.epoch,
                         found=self.lineage().epoch)
        for old in there[:-_KEPT]:
            self.files.delete(old)
        return written

    def raise_epoch(self, epoch: int) -> Lineage:
        """The lineage, of ``epoch`` at least. Raises Fenced when it is of a higher one."""
        lineage = self.lineage()
        self.check_epoch(lineage, epoch)
        if lineage.epoch < epoch:
            lineage = self.store(replace(lineage, epoch=epoch))
        return lineage

    def check_epoch(self, lineage: Lineage, epoch: int) -> None:
        if lineage.epoch > epoch:
            raise Fenced("rule.fenced", rule=self.rule, epoch=epoch, found=lineage.epoch)

    # --- blobs -----------------------------------------------------------------------------------

    def store_blob(self, name: str, pieces: Iterable[bytes], length: int) -> Blob:
        """Anew when there is one: an earlier attempt's."""
        checksum = blake3()

        def counted() -> Iterator[bytes]:
            for piece in pieces:
                checksum.update(piece)
                yield piece

        self.files.delete(name)
        self.files.write(name, counted(), length)
        return Blob(name, length, checksum.hexdigest())

    def read_blob(self, blob: Blob) -> Iterator[bytes]:
        """Raises ForeignChange ``blob.changed`` at its end when it differs."""
        checksum, left = blake3(), blob.length
        for piece in self.files.read(blob.name):
            checksum.update(piece)
            left -= len(piece)
            yield piece
        if left or checksum.hexdigest() != blob.checksum:
            raise ForeignChange("blob.changed", rule=self.rule, blob=blob.name)
