"""Digest blocks of a disk (64 KiB each) as numbers, and a byte of state for each of them.

A byte a block is 16 MiB for a tebibyte, touched only where something was marked, and lets the
regular expression engine find runs at memory speed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..domain.errors import Refused
from ..domain.extents import BLOCK, Extent

MAX_BLOCKS = (1 << 31) - 1
"""Block numbers are kept in 31 bits: 128 TiB a disk."""

_RUNS = re.compile(rb"\x01+|\x02+|\x03+|\x04+")
_PIECE = 1 << 16
_CLEAR_PIECE = bytes(_PIECE)
_CLEAR = re.compile(rb"\x00+")


def block_count(size: int) -> int:
    """Blocks of a disk of ``size`` bytes; the last one may be short. Raises Refused."""
    count = -(-size // BLOCK)
    if count > MAX_BLOCKS:
        raise Refused("disk.too-large", size=size, limit=MAX_BLOCKS * BLOCK)
    return count


class Run(NamedTuple):
    """``blocks`` blocks from block ``first`` on, with a state."""

    first: int
    blocks: int
    state: int


def to_extents(runs: Iterable[tuple[int, int]], size: int) -> Iterator[Extent]:
    """(first, count) in blocks to bytes, cut at the disk's end."""
    for first, count in runs:
        offset = first * BLOCK
        if offset < size:
            yield Extent(offset, min(count * BLOCK, size - offset))


class Marks:
    """One of the states 0 (clear) to 4 for each block of a disk."""

    def __init__(self, count: int) -> None:
        self._bytes = bytearray(count)
        self.untouched = True       # nothing was ever set

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, block: int) -> int:
        return self._bytes[block]

    def set(self, first: int, count: int, state: int) -> None:
        """Blocks beyond the end of the disk are left out."""
        count = min(count, len(self._bytes) - first)
        if count == 1:
            self.untouched = False
            self._bytes[first] = state
        elif count > 0:
            self.untouched = False
            self._bytes[first:first + count] = bytes((state,)) * count

    def runs(self, first: int = 0, end: int | None = None) -> Iterator[Run]:
        """Maximal runs of equal state, without the clear ones."""
        marks = self._bytes
        stop = len(marks) if end is None else end
        at = first
        while at < stop:
            # the expression engine looks at each byte three times; comparing skips what is clear
            start = at
            while at < stop and marks[at:min(at + _PIECE, stop)] != _CLEAR_PIECE[:stop - at]:
                at += _PIECE
            for found in _RUNS.finditer(marks, start, min(at, stop)):
                low, high = found.span()
                yield Run(low, high - low, marks[low])
            at += _PIECE

    def clear_runs(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """(first, count) of the clear blocks in a range."""
        stop = len(self._bytes) if end is None else end
        for found in _CLEAR.finditer(self._bytes, first, stop):
            low, high = found.span()
            yield low, high - low

    def count(self, state: int) -> int:
        return self._bytes.count(state)
