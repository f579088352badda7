"""The digest table of a point: for every disk, which blocks changed, and their digests.

File, little endian, written from front to back::

    "HSDIGT1\\n"
    for each disk:  digests (16 bytes a block that has one), then runs (16 bytes each):
                    first block u32, blocks u32, number of the first digest u64 (all ones: zero)
    footer (JSON), its length u32, BLAKE3-128 of the footer, "HSDIGT1\\n"

The footer names each disk's place, so a table is searched through ``mmap`` without reading it.
A table lists only what its own point changed; :mod:`.layers` lays tables over one another.
"""

from __future__ import annotations

import json
import mmap
import shutil
import struct
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from ..domain.errors import GiveUp
from ..domain.extents import Extent, merge
from ..faultpoints import fault_point
from .blocks import to_extents
from .digests import DIGEST, ZERO_DIGEST
from .files import replacing
from .journal import DATA, Journal
from .layers import Layers, folded
from .plan import Plan

_MAGIC = b"HSDIGT1\n"
_RUN = struct.Struct("<IIQ")
_TAIL = struct.Struct("<I16s8s")
_NO_DIGEST = (1 << 64) - 1
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Section:
    """One disk of a table. ``fresh``: nothing lies below, what is not listed is zero."""

    id: str
    size: int                   # bytes of the disk
    fresh: bool
    runs: int
    runs_at: int                # bytes from the file's start
    digests: int
    digests_at: int


class DigestTable:
    """A written table, mapped into memory and searched in place. Close it after use."""

    def __init__(self, path: Path) -> None:
        """Raises GiveUp ``digests.damaged``."""
        self.path = path
        with path.open("rb") as file, ExitStack() as stack:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                stack.callback(self._map.close)
                self._sections = {s.id: s for s in self._footer()}
            except (ValueError, KeyError, TypeError, struct.error) as error:
                raise GiveUp("digests.damaged", path=str(path)) from error
            stack.pop_all()

    def _footer(self) -> list[Section]:
        end = len(self._map) - _TAIL.size
        length, check, magic = _TAIL.unpack_from(self._map, end)
        footer = self._map[end - length:end]
        if magic != _MAGIC or blake3(footer).digest(length=DIGEST) != check:
            raise ValueError("checksum")
        sections = [Section(**row) for row in json.loads(footer)["disks"]]
        for s in sections:
            if s.runs_at + s.runs * _RUN.size > end or s.digests_at + s.digests * DIGEST > end:
                raise ValueError("place")
        return sections

    def __enter__(self) -> DigestTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._map.close()

    @property
    def disks(self) -> Sequence[str]:
        return tuple(self._sections)

    def section(self, disk: str) -> Section | None:
        return self._sections.get(disk)

    def runs(self, disk: str) -> Iterator[tuple[int, int, memoryview | None]]:
        """(first block, blocks, digests or None for zero), sorted, at most 64 Ki blocks each.
        The views are valid until the next one."""
        section = self._sections[disk]
        most = 1 << 16
        for number in range(section.runs):
            first, count, index = self._run(section, number)
            for low in range(0, count, most):
                part = min(most, count - low)
                if index == _NO_DIGEST:
                    yield first + low, part, None
                    continue
                at = section.digests_at + (index + low) * DIGEST
                yield first + low, part, memoryview(self._map[at:at + part * DIGEST])

    def changed(self, disk: str) -> Iterator[Extent]:
        """What the point changed, as sorted byte ranges."""
        section = self._sections[disk]
        pairs = (self._run(section, n)[:2] for n in range(section.runs))
        return merge(to_extents(pairs, section.size))

    def changed_bytes(self, disk: str) -> int:
        return sum(length for _, length in self.changed(disk))

    def lookup(self, disk: str, block: int) -> bytes | None:
        """The digest of a block, or None when this point did not change it (in a fresh disk:
        sixteen zero bytes)."""
        section = self._sections[disk]
        number = bisect_right(range(section.runs), block,
                              key=lambda n: self._run(section, n)[0]) - 1
        if number >= 0:
            first, count, index = self._run(section, number)
            if block < first + count:
                if index == _NO_DIGEST:
                    return ZERO_DIGEST
                at = section.digests_at + (index + block - first) * DIGEST
                return bytes(self._map[at:at + DIGEST])
        return ZERO_DIGEST if section.fresh else None

    def _run(self, section: Section, number: int) -> tuple[int, int, int]:
        first, count, index = _RUN.unpack_from(self._map, section.runs_at + number * _RUN.size)
        return first, count, index


class _Writer:
    """Writes disks one after another, then the footer."""

    def __init__(self, file: BinaryIO, directory: Path) -> None:
        self._file = file
        self._directory = directory
        self._sections: list[Section] = []
        file.write(_MAGIC)

    def add(self, disk: str, layers: Layers, fresh: bool) -> None:
        file = self._file
        digests_at, digests, number = file.tell(), 0, 0
        # a run's row is known only after its digests: rows wait in a file of their own
        with tempfile.TemporaryFile(dir=self._directory) as rows:
            for run in layers.runs():
                if run.state == DATA:
                    rows.write(_RUN.pack(run.first, run.blocks, digests))
                    digests += run.blocks
                    for low in range(run.first, run.first + run.blocks, _PIECE // DIGEST):
                        part = min(_PIECE // DIGEST, run.first + run.blocks - low)
                        file.write(layers.digests(low, part))
                else:
                    rows.write(_RUN.pack(run.first, run.blocks, _NO_DIGEST))
                number += 1
            runs_at = file.tell()
            rows.seek(0)
            shutil.copyfileobj(rows, file, _PIECE)
        self._sections.append(Section(disk, layers.size, fresh, number, runs_at,
                                      digests, digests_at))

    def finish(self) -> None:
        footer = json.dumps({"disks": [asdict(s) for s in self._sections]}).encode()
        check = blake3(footer).digest(length=DIGEST)
        self._file.write(footer + _TAIL.pack(len(footer), check, _MAGIC))


@dataclass(frozen=True, slots=True)
class DiskPasses:
    """One disk of a point: its size and the passes into it, oldest first, as (plan, journal)."""

    size: int
    passes: Sequence[tuple[Plan, Journal]]


def build_table(path: Path, disks: Mapping[str, DiskPasses]) -> DigestTable:
    """The table of a point from the journals of all its disks, written durably to ``path``.

    Every pass but the last may be incomplete; the last must be complete, else GiveUp
    ``journal.incomplete``: a point whose blocks are not all at the target must not be published.
    Raises OutOfSpace ``machine.no-space``.
    """
    with replacing(path) as file:
        writer = _Writer(file, path.parent)
        for disk, entry in disks.items():
            with Layers(path.parent, entry.size) as layers:
                if entry.passes:
                    plan, journal = entry.passes[-1]
                    if next(plan.remaining(journal.done), None) is not None:
                        raise GiveUp("journal.incomplete", disk=disk)
                for _, journal in entry.passes:
                    layers.add_journal(journal)
                writer.add(disk, layers, any(plan.fresh for plan, _ in entry.passes))
        writer.finish()
    fault_point("digests.after-table")
    return DigestTable(path)


def fold(path: Path, tables: Sequence[DigestTable]) -> DigestTable:
    """One table that says what ``tables`` (oldest first) say together, written to ``path``.

    Disks and their sizes are the last table's: a disk that it lacks was removed, a smaller one
    loses its end, a grown one is zero there unless listed.
    """
    upper = tables[-1]
    with replacing(path) as file:
        writer = _Writer(file, path.parent)
        for disk in upper.disks:
            section = upper.section(disk)
            assert section is not None
            with folded(path.parent, section.size, disk, list(tables)) as layers:
                writer.add(disk, layers, layers.fresh)
        writer.finish()
    fault_point("digests.after-fold")
    return DigestTable(path)


MOST_TABLES = 32
"""Tables of one point that are kept side by side: each is a file at the target, and those of small
points would otherwise pile up by the thousand."""


def should_fold(lengths: Sequence[int]) -> bool:
    """Whether folding pays, by the bytes of the tables, lowest first.

    A fold writes the whole base again. Waiting until the tables above it have a quarter of its
    size bounds what folds write in all to five times what the points themselves wrote.
    """
    if len(lengths) < 2:
        return False
    return len(lengths) > MOST_TABLES or sum(lengths[1:]) * 4 > lengths[0]


def table_of(path: Path, pieces: Iterator[bytes]) -> DigestTable:
    """Store a table that comes in pieces (a blob at the target), then open it."""
    with replacing(path) as file:
        for piece in pieces:
            file.write(piece)
    return DigestTable(path)


__all__ = ["DigestTable", "DiskPasses", "Section", "build_table", "fold", "should_fold",
           "table_of"]
