"""Where two disks differ: by digest, or by reading one of them against the other's digests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..domain.extents import Extent
from ..platforms.port import Export
from .blocks import to_extents
from .control import Control
from .digests import DIGEST, BlockHasher
from .layers import Layers
from .plan import Plan, PlanRun, write_plan
from .reader import BlockReader
from .throttle import Throttle

WRONG: Final = 2
_PIECE: Final = 1 << 12         # blocks whose digests are compared at once


class Comparison(BlockReader):
    """Reads what a compare plan names; blocks that are not as expected are marked WRONG."""

    def __init__(self, export: Export, plan: Plan, expected: Layers, key: bytes,
                 control: Control, side: str, throttles: Sequence[Throttle] = (),
                 transfer_buffer: int = 4 << 20, unreadable: int | None = None) -> None:
        super().__init__(export, plan, control, side, self._compare, throttles, transfer_buffer,
                         unreadable)
        self._expected = expected
        self._hash = BlockHasher(key)

    def run(self) -> None:
        super().run()
        # zero on the disk, something else by digest: the plan lists just these as zero runs
        for run in self._plan:
            if run.zero:
                self.marks.set(run.first, run.blocks, WRONG)

    def _compare(self, first: int, view: memoryview) -> None:
        found = self._hash.digests(view)
        expected = self._expected.digests(first, len(found) // DIGEST)
        if found == expected:
            return
        for n in range(len(found) // DIGEST):
            at = n * DIGEST
            if found[at:at + DIGEST] != expected[at:at + DIGEST]:
                self.marks.set(first + n, 1, WRONG)

    def write(self, path: Path) -> Plan:
        """What is WRONG, as the plan of a copy that makes it right."""
        runs = (PlanRun(r.first, r.blocks, False) for r in self.marks.runs() if r.state == WRONG)
        return write_plan(path, self._plan.id, runs, fresh=False, target_zero=False)


@dataclass(frozen=True, slots=True)
class Differences:
    """Extents of whole blocks whose digests differ between two disks, each time it is iterated;
    what is unknown differs, and beyond the end of the smaller disk it counts as zero."""

    one: Layers
    other: Layers

    def __iter__(self) -> Iterator[Extent]:
        one, other = self.one, self.other
        count, size = max(one.count, other.count), max(one.size, other.size)
        for low in range(0, count, _PIECE):
            high = min(low + _PIECE, count)
            mine, theirs = _padded(one, low, high), _padded(other, low, high)
            if mine != theirs:
                yield from to_extents(_runs(mine, theirs, low), size)


def _padded(layers: Layers, low: int, high: int) -> bytes:
    """Digests of blocks; beyond the disk's end those of zeroes."""
    end = max(low, min(high, layers.count))
    return layers.digests(low, end - low).ljust((high - low) * DIGEST, b"\0") if end > low else (
        bytes((high - low) * DIGEST))


def _runs(mine: bytes, theirs: bytes, low: int) -> Iterator[tuple[int, int]]:
    first = None
    blocks = len(mine) // DIGEST
    for n in range(blocks):
        at = n * DIGEST
        if mine[at:at + DIGEST] != theirs[at:at + DIGEST]:
            first = n if first is None else first
        elif first is not None:
            yield low + first, n - first
            first = None
    if first is not None:
        yield low + first, blocks - first
