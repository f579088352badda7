"""Sorted, disjoint byte ranges of a disk, and the set operations on them.

Everything here is an iterator over iterators, so that a disk of a tebibyte with millions of
changed ranges costs no more memory than one with two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

BLOCK = 64 * 1024
"""Bytes of a digest block, and the grain that changes are rounded out to (QEMU's default bitmap
granularity and qcow2's default cluster size)."""


class Extent(NamedTuple):
    """``length`` bytes from ``offset`` on."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Again:
    """Extents that are made anew each time they are iterated."""

    make: Callable[[], Iterable[Extent]]

    def __iter__(self) -> Iterator[Extent]:
        return iter(self.make())


def merge(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Join touching and overlapping extents of a sorted sequence."""
    start = end = -1
    for offset, length in extents:
        if length <= 0:
            continue
        if offset < start:
            raise ValueError(f"extents are not sorted: {offset} after {start}")
        if start >= 0 and offset <= end:
            end = max(end, offset + length)
        else:
            if start >= 0:
                yield Extent(start, end - start)
            start, end = offset, offset + length
    if start >= 0:
        yield Extent(start, end - start)


def union(*sets: Iterable[Extent]) -> Iterator[Extent]:
    """All bytes that are in any of the sorted sequences."""
    import heapq

    return merge(heapq.merge(*sets))


def round_out(extents: Iterable[Extent], size: int, grain: int = BLOCK) -> Iterator[Extent]:
    """Widen to whole blocks of ``grain`` bytes, cut at ``size`` bytes (the end of the disk)."""
    def wide() -> Iterator[Extent]:
        for offset, length in extents:
            if length <= 0 or offset >= size:
                continue
            low = offset // grain * grain
            high = min(size, -(-(offset + length) // grain) * grain)
            yield Extent(low, high - low)

    return merge(wide())


def bounded(extents: Iterable[Extent], size: int, most: int) -> tuple[Extent, ...]:
    """At most ``most`` extents that cover all of the sorted ``extents`` of a disk of ``size``
    bytes; where there are more, they are rounded out until they are few."""
    kept: list[Extent] = []
    grain = BLOCK
    for extent in extents:
        kept.append(extent)
        while len(kept) > most:
            grain *= 2
            kept = list(round_out(kept, size, grain))
    return tuple(merge(kept))


def intersect(left: Iterable[Extent], right: Iterable[Extent]) -> Iterator[Extent]:
    """Bytes that are in both."""
    a_iter, b_iter = iter(left), iter(right)
    a, b = next(a_iter, None), next(b_iter, None)
    while a is not None and b is not None:
        low, high = max(a.offset, b.offset), min(a.end, b.end)
        if low < high:
            yield Extent(low, high - low)
        if a.end <= b.end:
            a = next(a_iter, None)
        else:
            b = next(b_iter, None)


def subtract(left: Iterable[Extent], right: Iterable[Extent]) -> Iterator[Extent]:
    """Bytes of ``left`` that are not in ``right``."""
    b_iter = iter(right)
    b = next(b_iter, None)
    for offset, length in left:
        low, high = offset, offset + length
        while b is not None and b.end <= low:
            b = next(b_iter, None)
        while b is not None and b.offset < high:
            if b.offset > low:
                yield Extent(low, b.offset - low)
            low = max(low, b.end)
            if b.end > high:
                break
            b = next(b_iter, None)
        if low < high:
            yield Extent(low, high - low)


def total(extents: Iterable[Extent]) -> int:
    """Sum of the lengths, in bytes."""
    return sum(length for _, length in extents)
