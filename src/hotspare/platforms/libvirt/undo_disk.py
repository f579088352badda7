"""The undo disk: what a disk of the source held before a failback overwrote it.

It is a qcow2 file as large as the disk was. To preserve a range is to read it through the undo
disk while the source's disk is its backing, with QEMU's copy-on-read (an NBD CACHE request, so
that nothing travels): QEMU then copies what the undo disk does not hold yet, and nothing else.
So there is one truth about what is preserved, the allocation in the undo disk itself. It also
holds after a power cut: QEMU writes a cluster's data and syncs it before the table that points to
it (accurate refcounts, qcow2's cache dependencies), and nothing is overwritten before a flush.

``blockdev-backup`` on the disk would copy as well. But its ``sync=none`` returns from a write
before the table is on disk (a killed QEMU then forgets a pre-image that is overwritten already),
and its bitmap mode needs undo disks that are resized with the disk, and a second truth.

The backing is there while something is copied only, and never written into the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

from ...domain.errors import HotspareError
from ...domain.extents import Extent, round_out, subtract
from ...faultpoints import fault_point
from ..port import DirtyContext, PreservedDisk, Progress
from .device import Device
from .receiver import Receiver, ReceiverExport

SUFFIX: Final = ".undo"
_KIB: Final = 1024
_CONTEXT: Final = "qemu:allocation-depth"
_HERE: Final = 1            # depth of what the undo disk itself holds; its backing's is more
_PIECE: Final = 16 << 20    # bytes of a request; QEMU takes at most 32 MiB
_BATCH: Final = 64 << 20    # bytes between two looks at whether to stop
_SPAN: Final = 1 << 30      # bytes of a batch from its first to its last
_IN_FLIGHT: Final = 16


def key_of(disk: str) -> str:
    """The export of a disk's undo disk in a receiver; no disk's id begins with a colon."""
    return f":undo.{disk}"


class UndoDisk:
    """The undo disk of ``disk``, both open in ``receiver``. ``size``: bytes that the disk had
    before the failback."""

    def __init__(self, receiver: Receiver, disk: str) -> None:
        self._receiver = receiver
        self._disk, self._key = disk, key_of(disk)
        self._backed = False
        now, self.size = receiver.size(disk), receiver.size(self._key)
        if 0 < self.size - now < _KIB:
            # it is new: libvirt makes images of whole KiB
            receiver.resize(self._key, now)
            self.size = now

    def preserve(self, extents: Iterable[Extent], progress: Progress) -> int:
        """See :meth:`WriteBackSession.preserve`."""
        copied = 0
        with self._backing(), self._receiver.device(self._key, _CONTEXT) as device:
            for batch in _batches(round_out(extents, self.size)):
                copied += _copy(device, subtract(batch, _held(device, batch)))
                fault_point("preserve.in-copy")
                progress(batch[-1].end, self.size)
            fault_point("preserve.before-flush")
            device.flush()
        fault_point("preserve.after-flush")
        return copied

    def preserved(self) -> PreservedDisk | None:
        """See :meth:`WriteBackSession.preserved`."""
        self._reopen(backed=False)
        with self._receiver.device(self._key, _CONTEXT) as device:
            if not any(depth == _HERE for _, depth in device.status(0, self.size)):
                return None
            return PreservedDisk(ReceiverExport(self._receiver, self._key),
                                 DirtyContext(_CONTEXT), self.size)

    @contextlib.contextmanager
    def _backing(self) -> Iterator[None]:
        self._reopen(backed=True)
        try:
            yield
        except BaseException:
            # the next call tries again; what went wrong first is told
            with contextlib.suppress(HotspareError):
                self._reopen(backed=False)
            raise
        self._reopen(backed=False)

    def _reopen(self, backed: bool) -> None:
        """Put the source's disk behind the undo disk, or take it away."""
        if backed == self._backed:
            return
        node = self._receiver.nodes[self._key]
        self._receiver.qmp("blockdev-reopen", options=[{
            "driver": "qcow2", "node-name": node, "read-only": False, "discard": "unmap",
            "cache": {"direct": False, "no-flush": False},
            "file": node.removesuffix("format") + "storage",    # libvirt's names of the two
            "backing": self._receiver.nodes[self._disk] if backed else None}])
        self._backed = backed


def _batches(extents: Iterable[Extent]) -> Iterator[list[Extent]]:
    batch: list[Extent] = []
    size = 0
    for offset, length in extents:
        for at in range(offset, offset + length, _PIECE):
            piece = Extent(at, min(_PIECE, offset + length - at))
            if batch and (size >= _BATCH or piece.end - batch[0].offset > _SPAN):
                yield batch
                batch, size = [], 0
            batch.append(piece)
            size += piece.length
    if batch:
        yield batch


def _held(device: Device, batch: list[Extent]) -> Iterator[Extent]:
    return (extent for extent, depth in device.status(batch[0].offset, batch[-1].end)
            if depth == _HERE)


def _copy(device: Device, extents: Iterable[Extent]) -> int:
    """Copy-on-read of ``extents``; returns their bytes when all is copied."""
    handle, in_flight, copied = device.handle, 0, 0

    def ended() -> int:
        found = 0
        handle.poll(-1)
        while found < in_flight and (cookie := handle.aio_peek_command_completed()):
            handle.aio_command_completed(cookie)
            found += 1
        return found

    with device.faults():
        for offset, length in extents:
            handle.aio_cache(length, offset)
            copied += length
            in_flight += 1
            while in_flight >= _IN_FLIGHT:
                in_flight -= ended()
        while in_flight:
            in_flight -= ended()
    return copied
