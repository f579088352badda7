"""The transfer buffer: one piece of memory, handed out in whole blocks and taken back.

A buffer of its own for each request would cost a page fault for every 4 KiB that is read, and a
mix of small and large requests would either waste or exceed the limit.
"""

from __future__ import annotations

import mmap

import nbd  # type: ignore[import-not-found,unused-ignore]

from ..domain.extents import BLOCK


class Slot:
    """Some consecutive blocks of the arena."""

    __slots__ = ("buffer", "count", "first", "view")

    def __init__(self, view: memoryview, first: int, count: int) -> None:
        self.view = view
        self.buffer = nbd.Buffer.from_buffer(view)
        self.first = first
        self.count = count

    def part(self, low: int, high: int) -> nbd.Buffer:
        """The bytes ``low`` to ``high`` as a buffer of libnbd."""
        return nbd.Buffer.from_buffer(self.view[low:high])


class Arena:
    """``size`` bytes, rounded down to blocks, at least one block."""

    def __init__(self, size: int) -> None:
        self.blocks = max(1, size // BLOCK)
        self._view = memoryview(mmap.mmap(-1, self.blocks * BLOCK))
        self._slots: dict[tuple[int, int], Slot] = {}       # by first block and length
        self._all = self._free = (1 << self.blocks) - 1     # bit set: block free

    def take(self, length: int) -> Slot | None:
        """A slot of ``length`` bytes, or None when no such stretch is free just now."""
        count = -(-length // BLOCK)
        # bit i of ``fits`` is set where the blocks i .. i+have-1 are free; doubled up to count
        fits, have = self._free, 1
        while have < count and fits:
            step = min(have, count - have)
            fits &= fits >> step
            have += step
        if not fits:
            return None
        first = (fits & -fits).bit_length() - 1
        self._free &= ~(((1 << count) - 1) << first)
        slot = self._slots.get((first, length))
        if slot is None:
            at = first * BLOCK
            slot = Slot(self._view[at:at + length], first, count)
            if length % BLOCK == 0:
                self._slots[first, length] = slot
        return slot

    def give(self, slot: Slot) -> None:
        self._free |= ((1 << slot.count) - 1) << slot.first

    def reset(self) -> None:
        """Take everything back: after a broken connection nobody writes here any more."""
        self._free = self._all
