"""What the conformance suite of targets needs of a platform beside its driver, and a model of a
machine whose every point's content is known."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import nbd

from hotspare.domain.lineage import DiskPoint, Manifest
from hotspare.domain.machine import DiskSpec, NicSpec, VmDescription
from hotspare.platforms.port import (
    Export,
    Intent,
    Platform,
    ReplicaRef,
    ReplicaSpec,
    Session,
    Target,
)

KEY = bytes(range(32))
BLOCK = 64 * 1024
MIB = 1024 * 1024
SIZE = 8 * MIB


class TargetRig(Protocol):
    """A target with room for a few hundred MiB."""

    storage: str
    network: str                    # what a network can be mapped to
    tmp: Path                       # a directory of the test's own on this machine

    def platform(self) -> AbstractContextManager[Platform]:
        """A connection of its own, as another process would have."""
        ...

    def vm(self, name: str, disks: int, **options: object) -> VmDescription:
        """A machine that the target can run."""
        ...

    def refused(self, good: VmDescription) -> dict[str, VmDescription]:
        """Machines that it cannot run, by the code of the reason, beside those that none can."""
        ...

    def left(self, rule: str) -> set[str]:
        """Everything at the target that carries a rule."""
        ...

    def peek(self, file: str) -> bytes:
        """All bytes of a disk of a point, by the platform's own tool."""
        ...

    def disks_of(self, name: str) -> dict[str, bytes]:
        """All bytes of each disk file named for the machine ``name``, by the disk's id."""
        ...

    def undefine(self, name: str) -> None:
        """Remove a machine that nobody owns any more, with its disks."""
        ...

    def check_files(self, rule: str) -> None:
        """Raise when the platform's own checker finds a file of the rule damaged."""
        ...


class Reader:
    """Access to an export over libnbd."""

    def __init__(self, export: Export) -> None:
        self._context = export.open()
        self.nbd = nbd.NBD()
        self.nbd.connect_uri(self._context.__enter__().uri)

    def __enter__(self) -> nbd.NBD:
        return self.nbd

    def __exit__(self, *_: object) -> None:
        self.nbd.shutdown()
        self._context.__exit__(None, None, None)


def content_of(export: Export) -> bytes:
    """All bytes of a disk."""
    with Reader(export) as handle:
        size = handle.get_size()
        return b"".join(bytes(handle.pread(min(4 * MIB, size - at), at))
                        for at in range(0, size, 4 * MIB))


class Model:
    """A protected machine: writes random blocks, publishes points, remembers what each held."""

    def __init__(self, rig: TargetRig, vm: VmDescription, seed: int = 1) -> None:
        self.rig, self.vm = rig, vm
        self.rule = os.urandom(4).hex()
        self.random = random.Random(seed)
        self.now = {d.id: bytearray(d.size) for d in vm.disks}
        self.points: dict[int, dict[str, bytes]] = {}
        self.task = 0
        self.epoch = 1
        self.ref = ReplicaRef(self.rule, rig.storage)
        self.spec = ReplicaSpec(self.rule, f"{vm.name}-replica", rig.storage)

    def intent(self, fresh: bool = True) -> Intent:
        self.task += fresh
        return Intent(self.rule, self.epoch, self.task)

    def ensure(self, target: Target) -> None:
        ref = target.ensure_replica(self.spec, self.vm, self.intent(fresh=False))
        assert ref == self.ref

    @property
    def digests(self) -> Path:
        return self.rig.tmp / f"digests-{self.rule}"

    def change(self, session: Session, blocks: int = 12) -> None:
        """Write to every disk of the session: data, and zeroes over data of earlier points."""
        for disk_id, export in session.disks.items():
            content = self.now[disk_id]
            with Reader(export) as handle:
                assert handle.get_size() == len(content)
                for index in range(blocks):
                    at = self.random.randrange(len(content) // BLOCK) * BLOCK
                    if index % 4 == 3:
                        handle.zero(BLOCK, at, nbd.CMD_FLAG_NO_HOLE)
                        content[at:at + BLOCK] = bytes(BLOCK)
                    else:
                        piece = self.random.randbytes(BLOCK)
                        handle.pwrite(piece, at)
                        content[at:at + BLOCK] = piece
                handle.flush()

    def manifest(self, session: Session, intent: Intent) -> Manifest:
        return Manifest(self.rule, session.number, intent.epoch, intent.task, 1.5e9 + intent.task,
                        "crash", self.vm, tuple(DiskPoint(d.id, d.size, "") for d in self.vm.disks))

    def publish(self, session: Session, intent: Intent, firmware: bytes | None = None) -> Manifest:
        self.digests.write_bytes(f"digests of {session.number}\n".encode() * 100)
        done = session.publish(self.manifest(session, intent), self.digests, firmware)
        self.remember(done.number)
        return done

    def remember(self, number: int) -> None:
        self.points[number] = {i: bytes(c) for i, c in self.now.items()}

    def cycle(self, target: Target, firmware: bytes | None = None) -> Manifest:
        """One run: begin on the head, change, publish."""
        intent = self.intent()
        head = target.lineage(self.ref).head
        session = target.begin(self.ref, self.vm.disks, head.number if head else None, intent)
        self.change(session)
        return self.publish(session, intent, firmware)

    def check(self, target: Target, numbers: list[int] | None = None, port: bool = True) -> None:
        """The lineage holds exactly the points that we know, and each reads as it was: by the
        port, or (``port=False``, quicker) by the platform's own tool."""
        lineage = target.lineage(self.ref)
        assert [p.number for p in lineage.usable] == (numbers or sorted(self.points))
        for point in lineage.usable:
            if port:
                with target.read_point(self.ref, point.number) as exports:
                    self.compare({i: content_of(e) for i, e in exports.items()}, point.number)
            else:
                self.compare({d.id: self.rig.peek(d.file) for d in point.disks}, point.number)
        self.rig.check_files(self.rule)

    def compare(self, contents: Mapping[str, bytes], number: int) -> None:
        assert set(contents) == set(self.points[number])
        for disk_id, found in contents.items():
            expected = self.points[number][disk_id]
            if found != expected:
                bad = [i for i in range(0, len(expected), BLOCK)
                       if found[i:i + BLOCK] != expected[i:i + BLOCK]]
                raise AssertionError(f"point {number}, {disk_id}: {len(bad)} blocks differ, the "
                                     f"first at {bad[:1]}, {len(found)} of {len(expected)} bytes")


def some_vm(name: str, disks: int, size: int = SIZE, **options: object) -> VmDescription:
    """A small machine; ``options`` are fields of VmDescription."""
    fields: dict[str, object] = {
        "ref": name, "name": name, "uuid": str(uuid.uuid4()),
        "memory": 64 * MIB, "vcpus": 1, "virt": "qemu", "machine": "q35", "features": ("acpi",),
        "disks": tuple(DiskSpec(f"vd{'abcdef'[i]}", size) for i in range(disks)),
        "nics": (NicSpec("52:54:00:12:34:56", kind="user"),), **options}
    return VmDescription(**fields)  # type: ignore[arg-type]
