"""A replica made by the simplest means, to judge a source by: raw files, and compare by bytes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbd

from hotspare.domain.extents import Extent, merge
from hotspare.platforms.port import (
    ChangedAreas,
    DirtyContext,
    NbdEndpoint,
    PointDisk,
    PointInTime,
    Quiesce,
    Source,
    Token,
    Unknown,
)

from .source_rig import Numbers

CHUNK = 1024 * 1024
_STEP = 1 << 30
_ALLOCATION, _HOLE = "base:allocation", 2


def connect(endpoint: NbdEndpoint, *contexts: str) -> nbd.NBD:
    handle = nbd.NBD()
    handle.set_request_structured_replies(True)
    for context in contexts:
        handle.add_meta_context(context)
    handle.connect_uri(endpoint.uri)
    for context in contexts:
        assert handle.can_meta_context(context), f"{endpoint.uri} has no {context}"
    return handle


def _flagged(handle: nbd.NBD, context: str) -> Iterator[tuple[Extent, int]]:
    offset, size = 0, handle.get_size()
    while offset < size:
        entries: list[int] = []

        def take(name: str, _offset: int, found: list[int], _error: int,
                 into: list[int] = entries) -> int:
            if name == context:
                into.extend(found)
            return 0

        handle.block_status(min(_STEP, size - offset), offset, take)
        for length, flags in zip(entries[::2], entries[1::2], strict=True):
            yield Extent(offset, min(length, size - offset)), flags
            offset += length


def changed(handle: nbd.NBD, disk: PointDisk) -> list[Extent]:
    """What has to be read of a disk."""
    changes = disk.changes
    if isinstance(changes, DirtyContext):
        return list(merge(e for e, f in _flagged(handle, changes.context) if f & changes.mask))
    if isinstance(changes, ChangedAreas):
        return list(changes.areas)
    return list(merge(e for e, f in _flagged(handle, _ALLOCATION) if not f & _HOLE))


class Replica:
    """Raw files that follow one machine, run by run."""

    def __init__(self, directory: Path, vm: str, numbers: Numbers) -> None:
        self.directory, self.vm, self.numbers = directory, vm, numbers
        self.token: Token | None = None

    def image(self, disk: PointDisk) -> Path:
        return self.directory / f"{disk.spec.id}.raw"

    def apply(self, point: PointInTime) -> dict[str, int]:
        """Bring the files up to an instant; bytes read by disk."""
        return {disk.spec.id: self.apply_disk(disk) for disk in point.disks}

    def apply_disk(self, disk: PointDisk) -> int:
        context = (disk.changes.context if isinstance(disk.changes, DirtyContext)
                   else _ALLOCATION)
        path, moved = self.image(disk), 0
        if isinstance(disk.changes, Unknown):
            path.unlink(missing_ok=True)    # a full copy, into holes
        with disk.export.open() as endpoint:
            handle = connect(endpoint, context)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.truncate(descriptor, handle.get_size())
                assert handle.get_size() == disk.spec.size
                for offset, length in changed(handle, disk):
                    for at in range(offset, offset + length, CHUNK):
                        data = handle.pread(min(CHUNK, offset + length - at), at)
                        os.pwrite(descriptor, data, at)
                        moved += len(data)
            finally:
                os.close(descriptor)
                handle.shutdown()
        return moved

    def differences(self, point: PointInTime) -> list[str]:
        """Disks whose file is not, byte by byte, what the instant's export holds."""
        found = []
        for disk in point.disks:
            with disk.export.open() as endpoint:
                done = subprocess.run(
                    ["qemu-img", "compare", "-f", "raw", "-F", "raw", str(self.image(disk)),
                     endpoint.uri], capture_output=True, text=True, check=False)
            if done.returncode:
                found.append(f"{disk.spec.id}: {done.stdout}{done.stderr}".strip())
        return found

    def sync(self, source: Source, quiesce: Quiesce = "off") -> tuple[PointInTime, dict[str, int]]:
        """One whole run: open, read what changed, compare, commit."""
        point = source.open_point(self.vm, self.token, quiesce, self.numbers.next())
        try:
            moved = self.apply(point)
            assert self.differences(point) == []
            point.healthy()
        except BaseException:
            point.release()
            raise
        self.token = point.token
        point.commit()
        return point, moved
