"""What a disk holds, by digest: tables of several points and journals laid over one another.

A byte of state and sixteen bytes of digest a block; the digests lie in an unnamed sparse file
(256 MiB for a tebibyte that is full), so memory stays small whatever the disk's size.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..domain.extents import BLOCK, Extent
from .blocks import Marks, Run, block_count
from .digests import DIGEST, UNKNOWN_DIGEST, ZERO_DIGEST
from .files import space_errors
from .journal import DATA, SAME, ZERO, Journal

if TYPE_CHECKING:
    from .plan import Plan
    from .tables import DigestTable

_PIECE = 1 << 16                # blocks that are handled at once: 1 MiB of digests
_AHEAD = 1 << 12                # blocks that are read at once


class Layers:
    """The digests of one disk, built from below. A block that no layer names is zero.

    States of blocks: DATA (its digest is in the file, or unknown) and ZERO. Close it, or use it as
    a context: it holds a file.
    """

    def __init__(self, directory: Path, size: int) -> None:
        """``directory`` takes the unnamed file, ``size`` is the disk's in bytes.
        Raises OutOfSpace ``machine.no-space`` here or from any ``add``."""
        self.size = size
        self.count = block_count(size)
        self.marks = Marks(self.count)
        self.fresh = False          # a layer said that nothing lies below it
        self._ahead = b""           # digests that were read ahead, from this block on
        self._ahead_from = 0
        self._directory = directory
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        self._fd = self._file.fileno()
        os.ftruncate(self._fd, self.count * DIGEST)

    def __enter__(self) -> Layers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    # --- building ------------------------------------------------------------------------------

    def add_table(self, table: DigestTable, disk: str) -> None:
        """Lay a point's table on top. Blocks beyond this disk's end are left out; a table that
        does not have the disk changes nothing."""
        section = table.section(disk)
        if section is None:
            return
        if section.fresh:
            self._clear()
        # A disk that was smaller at this point and grew again later is zero in between.
        end = block_count(section.size)
        self.marks.set(end, self.count - end, ZERO)
        with space_errors(self._directory):
            for first, length, digests in table.runs(disk):
                count = min(length, self.count - first)
                if count <= 0:
                    break
                if digests is None:
                    self.marks.set(first, count, ZERO)
                else:
                    self._put(first, count, digests)

    def add_journal(self, journal: Journal, plan: Plan | None = None) -> None:
        """Lay what a pass completed on top.

        With its ``plan``, also what it *may* have written without a record: that becomes
        unknown, equal to nothing. Wanted for a compare, not for building a point's table.
        """
        with space_errors(self._directory):
            if plan is not None:
                for run in plan.remaining(journal.done):
                    first, end = run.first, run.first + run.blocks
                    if plan.compare:
                        end = min(end, journal.window)
                    self._unknown(first, end)
            for entry in journal.entries():
                count = min(entry.blocks, self.count - entry.first)
                if count <= 0 or entry.kind == SAME:
                    continue
                if entry.kind == DATA:
                    self._put(entry.first, count, memoryview(entry.digests))
                else:
                    self.marks.set(entry.first, count, ZERO)

    def forget(self, extents: Iterable[Extent]) -> None:
        """What the disk holds there is not what the layers below say: unknown, equal to nothing."""
        with space_errors(self._directory):
            for offset, length in extents:
                self._unknown(offset // BLOCK, -(-(offset + length) // BLOCK))

    def _unknown(self, first: int, end: int) -> None:
        for low in range(first, min(end, self.count), _PIECE):
            count = min(_PIECE, end - low, self.count - low)
            self._put(low, count, memoryview(UNKNOWN_DIGEST * count))

    def _put(self, first: int, count: int, digests: memoryview) -> None:
        self._ahead = b""
        view = digests[:count * DIGEST]
        at = first * DIGEST
        while view:
            written = os.pwrite(self._fd, view, at)
            view, at = view[written:], at + written
        self.marks.set(first, count, DATA)

    def _clear(self) -> None:
        self._ahead = b""
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._fd, self.count * DIGEST)
        self.marks = Marks(self.count)
        self.fresh = True

    # --- looking up ----------------------------------------------------------------------------

    def lookup(self, block: int) -> bytes:
        """The digest of one block."""
        return self.digests(block, 1)

    def digests(self, first: int, count: int) -> bytes:
        """The digests of ``count`` blocks, 16 bytes each."""
        marks = self.marks
        if count == 1:
            return self._read(first, 1) if marks[first] == DATA else ZERO_DIGEST
        parts, at = [], first
        for run in marks.runs(first, first + count):
            if run.state != DATA:
                continue
            if run.first > at:
                parts.append(bytes((run.first - at) * DIGEST))
            parts.append(self._read(run.first, run.blocks))
            at = run.first + run.blocks
        if at < first + count:
            parts.append(bytes((first + count - at) * DIGEST))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read(self, first: int, count: int) -> bytes:
        """Of the file; what follows is read too, since it is mostly wanted next."""
        at = (first - self._ahead_from) * DIGEST
        if at < 0 or at + count * DIGEST > len(self._ahead):
            if count >= _AHEAD:
                return os.pread(self._fd, count * DIGEST, first * DIGEST)
            self._ahead = os.pread(self._fd, _AHEAD * DIGEST, first * DIGEST)
            self._ahead_from, at = first, 0
        return self._ahead[at:at + count * DIGEST]

    def runs(self) -> Iterator[Run]:
        """All blocks that some layer names, with their state DATA or ZERO."""
        return self.marks.runs()

    def nonzero(self, first: int = 0) -> Iterator[Run]:
        """Blocks from ``first`` on that are not zero."""
        return (run for run in self.marks.runs(first) if run.state == DATA)


def folded(directory: Path, size: int, disk: str, tables: list[DigestTable]) -> Layers:
    """What ``disk`` holds at the last of ``tables`` (oldest first)."""
    layers = Layers(directory, size)
    try:
        for table in tables:
            layers.add_table(table, disk)
    except BaseException:
        layers.close()
        raise
    return layers


__all__ = ["ZERO", "Layers", "folded"]
