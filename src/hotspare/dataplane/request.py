"""A request of the copy engine, and what is done with each of its blocks."""

from __future__ import annotations

from collections.abc import Iterator

from ..domain.extents import BLOCK
from .arena import Slot
from .digests import DIGEST
from .journal import DATA, SAME, ZERO


class Request:
    """Some blocks on their way."""

    __slots__ = ("attempts", "digests", "failing", "first", "hashed", "kind", "kinds", "length",
                 "offset", "pending", "slot", "zero")

    def __init__(self, first: int, offset: int, length: int, kind: int, slot: Slot | None) -> None:
        self.first = first          # block
        self.offset = offset        # bytes
        self.length = length
        self.kind = kind            # DATA or ZERO, as planned
        self.slot = slot            # where the data is; None for ZERO
        self.pending = 0            # commands at the target that are not completed
        self.zero: list[bool] | None = None     # which of the read blocks are zero; None: none is
        self.digests: list[bytes] = []
        self.kinds: bytes | None = None         # of each block, when not all are as planned
        self.hashed = kind == ZERO
        self.failing = False        # one of its commands failed, others may still be on the way
        self.attempts = 0

    @property
    def blocks(self) -> int:
        return -(-self.length // BLOCK)


def parts(kinds: bytes) -> Iterator[tuple[int, int, int]]:
    """Runs of equal kind, as (first, end, kind)."""
    low = 0
    for high in range(1, len(kinds) + 1):
        if high == len(kinds) or kinds[high] != kinds[low]:
            yield low, high, kinds[low]
            low = high


def differences(found: bytes, expected: bytes, zero: list[bool] | None) -> bytes:
    """What to do with each block: SAME, ZERO or DATA."""
    number = len(found) // DIGEST
    if found == expected:
        return bytes((SAME,)) * number
    return bytes(
        SAME if found[n * DIGEST:(n + 1) * DIGEST] == expected[n * DIGEST:(n + 1) * DIGEST]
        else ZERO if zero is not None and zero[n] else DATA for n in range(number))
