"""What of a pass is completed at the target *and flushed* there, with the digests that were read.

One file a disk and pass, only ever appended to. A record is written after the target's own flush
ended, never before, so what the journal says is durable at the target. A torn last record (the
machine lost power) is cut off. Each record's checksum covers the one before it, back to the
identity, so records of another journal cannot follow.

Compare passes also journal a *window*: blocks before it may have been written without a record.
What a later pass finds beneath it without a record is of unknown content and is sent in any case.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from ..domain.errors import GiveUp
from ..domain.extents import BLOCK, Extent
from ..faultpoints import fault_point
from .blocks import Marks, block_count, to_extents
from .files import space_errors, sync_directory
from .plan import PassId

DATA = 1        # read, and written where it was not zero at the target; digests follow
ZERO = 2        # made zero
SAME = 3        # compared: the target had it already
_WINDOW = 4

DIGEST = 16
"""Bytes of a block's digest."""

_MAGIC = b"HSJRNL1\n"
_HEAD = struct.Struct("<I16s")          # payload length, checksum
_COUNT = struct.Struct("<I")
_ENTRY = struct.Struct("<IIB")
_MOST_PAYLOAD = 1 << 30


class Entry(NamedTuple):
    """``blocks`` blocks from ``first`` on. ``digests`` holds 16 bytes a block for DATA."""

    first: int
    blocks: int
    kind: int
    digests: bytes = b""


class Journal:
    """The journal of one disk in one pass.

    ``done`` holds a block's kind from the moment that its record is durable. Appending may
    happen in another thread than reading ``done``: the appender calls :meth:`append` and then
    hands the entries to :meth:`mark` in the thread that reads.
    """

    def __init__(self, path: Path, pass_id: PassId, *, read_only: bool = False) -> None:
        """Open the journal at ``path``, or begin it. A torn end is cut off.

        Raises GiveUp ``journal.other-pass`` when it belongs to another pass, ``journal.damaged``
        when its head cannot be read, OutOfSpace ``machine.no-space``.
        """
        self.path = path
        self.id = pass_id
        self.done = Marks(block_count(pass_id.size))
        self.window = 0
        self.done_bytes = 0         # data bytes completed: DATA and SAME
        self.cut_off = 0            # bytes of a torn end
        self._file: int | None = None
        self._check = b""
        self._good = 0
        with space_errors(path):
            if not read_only and (not path.exists() or path.stat().st_size == 0):
                self._begin()
            self._load(read_only)

    @classmethod
    def read(cls, path: Path) -> Journal:
        """The journal of whatever pass, to read only."""
        with path.open("rb") as file:
            identity = _identity(file.read(1 << 16), path)[0]
        return cls(path, identity, read_only=True)

    # --- writing -------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry], window: int | None = None) -> None:
        """Write one record and make it durable. The target must have flushed what ``entries``
        name. Returns when the record is on disk; does not touch ``done``."""
        assert self._file is not None
        rows = list(entries)
        if window is not None:
            rows.append(Entry(window, 0, _WINDOW))
        if not rows:
            return
        payload = b"".join((
            _COUNT.pack(len(rows)),
            *[_ENTRY.pack(first, blocks, kind) for first, blocks, kind, _ in rows],
            *[digests for _, _, _, digests in rows]))
        check = blake3(self._check + payload).digest(length=DIGEST)
        fault_point("journal.before-append")
        with space_errors(self.path):
            _write_all(self._file, _HEAD.pack(len(payload), check) + payload)
            fault_point("journal.after-append")
            os.fdatasync(self._file)
        self._check = check
        fault_point("journal.after-sync")

    def mark(self, entries: Iterable[Entry], window: int | None = None) -> None:
        """Take notice in memory of what :meth:`append` made durable."""
        size, mark = self.id.size, self.done.set
        for first, blocks, kind, _ in entries:
            mark(first, blocks, kind)
            if kind != ZERO:
                self.done_bytes += min(blocks * BLOCK, size - first * BLOCK)
        if window is not None:
            self.window = max(self.window, window)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading -------------------------------------------------------------------------------

    def completed(self) -> Iterator[Extent]:
        """All that is at the target and flushed, as sorted byte ranges."""
        return to_extents(((r.first, r.blocks) for r in self.done.runs()), self.id.size)

    def entries(self) -> Iterator[Entry]:
        """All entries in the order in which they were written; a later one overrides."""
        for rows in self._records():
            yield from (row for row in rows if row.kind != _WINDOW)

    # --- inside --------------------------------------------------------------------------------

    def _begin(self) -> None:
        text = json.dumps(asdict(self.id)).encode()
        head = _MAGIC + len(text).to_bytes(4, "little") + text
        temporary = self.path.with_name(f"{self.path.name}.new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write_all(fd, head + blake3(head).digest(length=DIGEST))
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(self.path)
        sync_directory(self.path.parent)
        fault_point("journal.after-begin")

    def _load(self, read_only: bool) -> None:
        for rows in self._records():
            self.mark(row for row in rows if row.kind != _WINDOW)
            for row in rows:
                if row.kind == _WINDOW:
                    self.window = max(self.window, row.first)
        self.cut_off = self.path.stat().st_size - self._good
        if not read_only:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            if self.cut_off:
                os.ftruncate(self._file, self._good)
                os.fsync(self._file)

    def _records(self) -> Iterator[list[Entry]]:
        with self.path.open("rb") as file:
            identity, check, start = _identity(file.read(1 << 16), self.path)
            if identity != self.id:
                raise GiveUp("journal.other-pass", path=str(self.path),
                             found=identity.instant, expected=self.id.instant)
            file.seek(start)
            good = start
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                length, expected = _HEAD.unpack(head)
                payload = file.read(length) if length <= _MOST_PAYLOAD else b""
                if len(payload) != length or (
                        blake3(check + payload).digest(length=DIGEST) != expected):
                    break
                check = expected
                good += _HEAD.size + length
                yield _rows(payload)
            self._check, self._good = check, good


def _identity(head: bytes, path: Path) -> tuple[PassId, bytes, int]:
    """The identity, its checksum, and where the records begin."""
    try:
        length = int.from_bytes(head[8:12], "little")
        end = 12 + length
        check = head[end:end + DIGEST]
        if head[:8] != _MAGIC or blake3(head[:end]).digest(length=DIGEST) != check:
            raise ValueError("checksum")
        return PassId(**json.loads(head[12:end])), check, end + DIGEST
    except (ValueError, TypeError) as error:
        raise GiveUp("journal.damaged", path=str(path)) from error


def _rows(payload: bytes) -> list[Entry]:
    (number,) = _COUNT.unpack_from(payload)
    at = _COUNT.size
    digests = at + number * _ENTRY.size
    rows = []
    for first, count, kind in _ENTRY.iter_unpack(payload[at:digests]):
        size = count * DIGEST if kind == DATA else 0
        rows.append(Entry(first, count, kind, payload[digests:digests + size]))
        digests += size
    return rows


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def compact(entries: Iterable[tuple[int, int, int, bytes]]) -> list[Entry]:
    """Sort entries and join neighbours of one kind: one record then needs few rows."""
    rows: list[Entry] = []
    parts: list[bytes] = []     # digests of the row that is being joined
    start = end = kind = -1
    for first, count, this, digests in sorted(entries):
        if first == end and this == kind:
            parts.append(digests)
        else:
            if parts:
                rows.append(Entry(start, end - start, kind, b"".join(parts)))
            start, kind, parts = first, this, [digests]
        end = first + count
    if parts:
        rows.append(Entry(start, end - start, kind, b"".join(parts)))
    return rows
