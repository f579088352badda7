"""An NBD connection of our own to an export of a receiver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import nbd

from ...domain.errors import OutOfSpace, Reconnect
from ...domain.extents import Extent

CHUNK = 1024 * 1024
"""Bytes of one of our own NBD requests (digest tables, firmware state)."""

_STATUS = 1 << 30       # bytes that one request for block status spans


class Device:
    """A synchronous NBD connection for small things: the lineage disk, the blobs, block status.

    Every NBD fault is Reconnect ``receiver.gone`` (the receiver ended or the way to it broke),
    but for a full disk: OutOfSpace ``host.no-space``.
    """

    def __init__(self, uri: str, name: str, context: str = "") -> None:
        """``context``: the NBD metadata context that :meth:`status` asks for."""
        self._name = name
        self.handle = nbd.NBD()
        with self.faults():
            if context:
                self.handle.add_meta_context(context)
            self.handle.connect_uri(uri)
            self.size = int(self.handle.get_size())

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Let no error of :attr:`handle` out of the block."""
        try:
            yield
        except nbd.Error as error:
            if error.errno == "ENOSPC":
                raise OutOfSpace("host.no-space", reason=str(error)) from error
            raise Reconnect("receiver.gone", domain=self._name, reason=str(error)) from error

    def read(self, offset: int, length: int) -> bytes:
        with self.faults():
            return bytes(self.handle.pread(length, offset))

    def write(self, offset: int, content: bytes | memoryview, durable: bool = False) -> None:
        """Write in pieces of :data:`CHUNK`. ``durable``: each piece with FUA."""
        flags = nbd.CMD_FLAG_FUA if durable else 0
        view = memoryview(content)
        with self.faults():
            for at in range(0, len(view), CHUNK):
                self.handle.pwrite(bytearray(view[at:at + CHUNK]), offset + at, flags)

    def status(self, start: int, end: int) -> Iterator[tuple[Extent, int]]:
        """The flags of each extent between two offsets, asked for as they are consumed."""
        while start < end:
            found: list[int] = []

            def take(_context: str, _offset: int, entries: list[int], _error: object,
                     into: list[int] = found) -> int:
                into.extend(entries)
                return 0

            with self.faults():
                self.handle.block_status(min(_STATUS, end - start), start, take)
            for length, flags in zip(found[::2], found[1::2], strict=True):
                # the last one may reach beyond what was asked for
                extent = Extent(start, min(length, end - start))
                if extent.length > 0:
                    yield extent, flags
                start += length

    def flush(self) -> None:
        """Durable on return: QEMU answers after fdatasync(2)."""
        with self.faults():
            self.handle.flush()

    def close(self) -> None:
        with contextlib.suppress(nbd.Error):
            self.handle.shutdown()
