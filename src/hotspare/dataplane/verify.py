"""Scrub: read a disk and compare it with its digests.

A digest proves what was read from the source when the point was made; only reading the target
again proves the target. Used to seal a head anew whose seal is missing, and for scrubs.
"""

from __future__ import annotations

import errno
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..domain.errors import GiveUp
from ..domain.extents import Extent, bounded, total
from ..platforms.port import ChangedAreas, Changes, Export, Unknown
from .arena import Arena, Slot
from .blocks import Marks, block_count, to_extents
from .connection import Loop, connected
from .control import TURN_S, Control, TransferProgress
from .digests import DIGEST, BlockHasher
from .layers import Layers
from .plan import PassId, PlanRun, plan_disk, with_attempts
from .throttle import RateMeter, Throttle, admit

MOST_MISMATCHES = 1000
_REQUEST = 8                    # blocks: 512 KiB
_ATTEMPTS = 4
_STALL_S = 60.0
_DONE = 1
_WRONG = 2

_Ended = tuple[int, int, Slot, int]     # first block, blocks, their bytes, errno


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """``mismatches``: sorted whole blocks whose content is not what their digest says, or which
    cannot be read; where they are scattered all over the disk, extents that cover them."""

    bytes_read: int
    mismatches: tuple[Extent, ...]
    wrong: int                      # bytes of the blocks themselves


def verify_disk(export: Export, expected: Layers, key: bytes, control: Control, *, disk: str,
                directory: Path, extents: Iterable[Extent] | None = None,
                throttles: Sequence[Throttle] = (),
                transfer_buffer: int = 4 << 20) -> VerifyResult:
    """Compare ``export`` with what its digests say.

    - ``expected``: of :func:`.layers.folded` over all tables up to the point.
    - ``extents``: what to look at, sorted, read more than once; None: the whole disk. Zero areas
      are not read.
    - ``directory``: for the list of what to read.

    A block that the target's storage fails to read (EIO) again and again is a mismatch. Raises
    Stopped, Reconnect ``target.unreachable``, GiveUp ``target.read-failed``, OutOfSpace.
    """
    changes: Changes = Unknown("verify") if extents is None else ChangedAreas(extents)
    pass_id = PassId("", disk, "verify", expected.size)
    with tempfile.TemporaryDirectory(dir=directory, prefix="verify-") as temporary:
        plan = plan_disk(Path(temporary) / "plan", pass_id=pass_id, export=export,
                         changes=changes, control=control, fresh=False, target_zero=False,
                         expected=expected, side="target")
        scrub = _Scrub(export, expected, key, control, disk, plan.totals.data, throttles,
                       transfer_buffer)
        with_attempts(lambda: scrub.read(plan.remaining(scrub.marks)), control, disk,
                      progress=lambda: scrub.bytes_read)
        # zero on the disk, something else by digest: the plan lists just these as zero runs
        for run in plan:
            if run.zero:
                scrub.marks.set(run.first, run.blocks, _WRONG)

    def wrong() -> Iterator[Extent]:
        return to_extents(((r.first, r.blocks) for r in scrub.marks.runs() if r.state == _WRONG),
                          expected.size)

    return VerifyResult(scrub.bytes_read, bounded(wrong(), expected.size, MOST_MISMATCHES),
                        total(wrong()))


class _Scrub:
    def __init__(self, export: Export, expected: Layers, key: bytes, control: Control, disk: str,
                 to_read: int, throttles: Sequence[Throttle], transfer_buffer: int) -> None:
        self._export, self._expected, self._control = export, expected, control
        self._hash = BlockHasher(key)
        self._disk, self._total = disk, to_read
        self._throttles, self._buffer = throttles, transfer_buffer
        self._meter = RateMeter()
        self.marks = Marks(block_count(expected.size))
        self.bytes_read = 0

    def read(self, runs: Iterable[PlanRun]) -> None:
        """Read and compare; what is done is marked. Raises Broken."""
        with connected(self._export, "target", self._control) as (_, (connection, *_rest)):
            loop, arena = Loop([connection]), Arena(self._buffer)
            pieces, piece = _pieces(runs), None
            failures: dict[int, int] = {}
            ended: list[_Ended] = []

            def note(subject: tuple[int, int, Slot], code: int) -> None:
                ended.append((*subject, code))

            again: list[tuple[int, int]] = []
            active = 0
            report_at = 0.0
            while True:
                self._control.tick()
                wait = 0.0
                while (piece := piece or (again.pop() if again else next(pieces, None))):
                    first, blocks = piece
                    (offset, length), = to_extents([piece], self._expected.size)
                    if (slot := arena.take(length)) is None:
                        break
                    if (wait := admit(self._throttles, length)) > 0:
                        arena.give(slot)
                        break
                    connection.read(slot.view, offset, note, (first, blocks, slot))
                    active += 1
                    piece = None
                if not active and piece is None:
                    return
                loop.turn(min(wait or TURN_S, TURN_S))
                loop.check_stall(_STALL_S)
                for first, blocks, slot, code in ended:
                    active -= 1
                    if code:
                        again += self._refused(failures, first, blocks, code)
                    else:
                        self._compare(first, blocks, slot)
                    arena.give(slot)
                ended.clear()
                if time.monotonic() >= report_at:
                    report_at = time.monotonic() + 0.5
                    self._report()

    def _compare(self, first: int, blocks: int, slot: Slot) -> None:
        found = self._hash.digests(slot.view)
        expected = self._expected.digests(first, blocks)
        self.bytes_read += len(slot.view)
        self._meter.add(len(slot.view))
        self.marks.set(first, blocks, _DONE)
        if found == expected:
            return
        for n in range(blocks):
            at = n * DIGEST
            if found[at:at + DIGEST] != expected[at:at + DIGEST]:
                self.marks.set(first + n, 1, _WRONG)

    def _refused(self, failures: dict[int, int], first: int, blocks: int,
                 code: int) -> list[tuple[int, int]]:
        """What is to be read again: block by block, so that a good one is not taken for a bad."""
        failures[first] = failures.get(first, 0) + 1
        if blocks > 1:
            return [(n, 1) for n in range(first + blocks - 1, first - 1, -1)]
        if failures[first] < _ATTEMPTS:
            return [(first, 1)]
        if code != errno.EIO:
            (offset, length), = to_extents([(first, 1)], self._expected.size)
            raise GiveUp("target.read-failed", disk=self._disk, offset=offset, length=length,
                         error=errno.errorcode.get(code, str(code)))
        self.marks.set(first, 1, _WRONG)
        return []

    def _report(self) -> None:
        rate = self._meter.rate()
        done = self.bytes_read
        left = (self._total - done) / rate if rate >= 1 else None
        self._control.progress(TransferProgress(done, self._total, rate, left,
                                                {self._disk: (done, self._total)}))


def _pieces(runs: Iterable[PlanRun]) -> Iterator[tuple[int, int]]:
    for run in runs:
        if not run.zero:
            end = run.first + run.blocks
            for low in range(run.first, end, _REQUEST):
                yield low, min(_REQUEST, end - low)
