"""The transfer buffer: one piece of memory, handed out in whole blocks and taken back.

A buffer of its own for each request would cost a page fault for every 4 KiB that is read, and a
mix of small and large requests would either waste or exceed the limit. The lowest free place is
taken: while little is on its way, the same memory is used again and stays in the cache.
"""

from __future__ import annotations

import mmap

import nbd  # type: ignore[import-not-found,unused-ignore]

from ..domain.extents import BLOCK


class Slot:
    """Some consecutive blocks of the arena. ``blocks``: a view of each; the last may be short."""

    __slots__ = ("_buffer", "_firsts", "blocks", "mask", "view")

    def __init__(self, view: memoryview, mask: int) -> None:
        self.view = view
        self.mask = mask
        self.blocks = [view[at:at + BLOCK] for at in range(0, len(view), BLOCK)]
        self._buffer = nbd.Buffer.from_buffer(view)
        self._firsts = view[::BLOCK]

    def zeroes(self) -> list[bool] | None:
        """Which blocks are all zero; None when none is."""
        if 0 not in self._firsts.tobytes():
            return None
        is_zero = self._buffer.is_zero
        zero = [is_zero(n * BLOCK, len(view)) for n, view in enumerate(self.blocks)]
        return zero if True in zero else None


class Arena:
    """``size`` bytes, rounded down to blocks, at least one block."""

    def __init__(self, size: int) -> None:
        self.blocks = max(1, size // BLOCK)
        self._view = memoryview(mmap.mmap(-1, self.blocks * BLOCK))
        self._slots: dict[tuple[int, int], Slot] = {}       # by lowest bit and length
        self._all = self._free = (1 << self.blocks) - 1     # bit set: block free

    def take(self, length: int) -> Slot | None:
        """A slot of ``length`` bytes, or None when no such stretch is free just now."""
        fits = self._free
        count = -(-length // BLOCK)
        if count > 1:
            # bit i of ``fits`` is set where the blocks i .. i+have-1 are free; doubled up to count
            have = 1
            while have < count and fits:
                step = min(have, count - have)
                fits &= fits >> step
                have += step
        if not fits:
            return None
        lowest = fits & -fits
        slot = self._slots.get((lowest, length))
        if slot is None:
            at = (lowest.bit_length() - 1) * BLOCK
            slot = Slot(self._view[at:at + length], ((1 << count) - 1) * lowest)
            if length % BLOCK == 0:
                self._slots[lowest, length] = slot
        self._free ^= slot.mask
        return slot

    def give(self, slot: Slot) -> None:
        self._free |= slot.mask

    def reset(self) -> None:
        """Take everything back: after a broken connection nobody writes here any more."""
        self._free = self._all
