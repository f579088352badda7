"""Digests of what a disk holds now, of which no digests are known: read, and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..platforms.port import Export
from .control import Control
from .digests import DIGEST, BlockHasher
from .journal import DATA, ZERO, Journal, compact
from .plan import Plan
from .reader import BlockReader
from .throttle import Throttle

_AT_ONCE: Final = 1 << 12       # blocks a record: 256 MiB, and 64 KiB of digests


def scan_disk(export: Export, plan: Plan, journal: Journal, key: bytes, control: Control, *,
              side: str, throttles: Sequence[Throttle] = (),
              transfer_buffer: int = 4 << 20) -> int:
    """Write the digests of all blocks that ``plan`` names into ``journal``, whose pass is the
    plan's; lay it over :class:`.layers.Layers` then. Bytes read.

    Raises as :meth:`.reader.BlockReader.run`, and OutOfSpace ``machine.no-space``."""
    hasher = BlockHasher(key)
    kept: list[tuple[int, int, int, bytes]] = []
    held = 0

    def record() -> None:
        nonlocal held
        journal.append(compact(kept))
        kept.clear()
        held = 0

    def take(first: int, view: memoryview) -> None:
        nonlocal held
        digests = hasher.digests(view)
        kept.append((first, len(digests) // DIGEST, DATA, digests))
        held += len(digests) // DIGEST
        if held >= _AT_ONCE:
            record()

    reader = BlockReader(export, plan, control, side, take, throttles, transfer_buffer)
    reader.run()
    record()
    for run in plan:
        if run.zero:
            kept.append((run.first, run.blocks, ZERO, b""))
            if len(kept) >= _AT_ONCE:
                record()
    record()
    return reader.bytes_read

