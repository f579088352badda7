"""Reads planned blocks of one disk and hands them on: to be compared, or to be remembered."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..domain.errors import GiveUp
from ..platforms.port import Export
from .arena import Arena, Slot
from .blocks import Marks, block_count, to_extents
from .connection import Loop, connected
from .control import TURN_S, Control, TransferProgress
from .plan import Plan, PlanRun, with_attempts
from .throttle import RateMeter, Throttle, admit

_REQUEST = 8                    # blocks: 512 KiB
_ATTEMPTS = 4
_STALL_S = 60.0

READ = 1

_Ended = tuple[int, int, Slot, int]     # first block, blocks, their bytes, errno


class BlockReader:
    """``take`` gets (first block, bytes that begin there) once for each piece, in no fixed order.
    What is handed on is marked :data:`READ`, which ``take`` may change to another state, and is
    not read again after a reconnect."""

    def __init__(self, export: Export, plan: Plan, control: Control, side: str,
                 take: Callable[[int, memoryview], None], throttles: Sequence[Throttle] = (),
                 transfer_buffer: int = 4 << 20, unreadable: int | None = None) -> None:
        """``side``: whose disk it is, for errors. ``unreadable``: the mark of a block that its
        storage fails to read (EIO) again and again; None: that ends the reading."""
        self._export, self._plan, self._control, self._side = export, plan, control, side
        self._take, self._unreadable = take, unreadable
        self._throttles, self._buffer = throttles, transfer_buffer
        self._size, self._disk = plan.id.size, plan.id.disk
        self._meter = RateMeter()
        self.marks = Marks(block_count(self._size))
        self.bytes_read = 0

    def run(self) -> None:
        """Read the plan's data, but not what is marked already. Raises Stopped, Reconnect
        ``….unreachable``, GiveUp ``….read-failed``, and what ``take`` raises."""
        with_attempts(lambda: self._read(self._plan.remaining(self.marks)), self._control,
                      self._disk, progress=lambda: self.bytes_read)

    def _read(self, runs: Iterable[PlanRun]) -> None:
        with connected(self._export, self._side, self._control) as (_, (connection, *_rest)):
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
                    (offset, length), = to_extents([piece], self._size)
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
                        self._taken(first, blocks, slot)
                    arena.give(slot)
                ended.clear()
                if time.monotonic() >= report_at:
                    report_at = time.monotonic() + 0.5
                    self._report()

    def _taken(self, first: int, blocks: int, slot: Slot) -> None:
        self.bytes_read += len(slot.view)
        self._meter.add(len(slot.view))
        self.marks.set(first, blocks, READ)
        self._take(first, slot.view)

    def _refused(self, failures: dict[int, int], first: int, blocks: int,
                 code: int) -> list[tuple[int, int]]:
        """What is to be read again: block by block, so that a good one is not taken for a bad."""
        failures[first] = failures.get(first, 0) + 1
        if blocks > 1:
            return [(n, 1) for n in range(first + blocks - 1, first - 1, -1)]
        if failures[first] < _ATTEMPTS:
            return [(first, 1)]
        if code != errno.EIO or self._unreadable is None:
            (offset, length), = to_extents([(first, 1)], self._size)
            raise GiveUp(f"{self._side}.read-failed", disk=self._disk, offset=offset,
                         length=length, error=errno.errorcode.get(code, str(code)))
        self.marks.set(first, 1, self._unreadable)
        return []

    def _report(self) -> None:
        rate, total = self._meter.rate(), self._plan.totals.data
        done = self.bytes_read
        left = (total - done) / rate if rate >= 1 else None
        self._control.progress(TransferProgress(done, total, rate, left,
                                                {self._disk: (done, total)}))


def _pieces(runs: Iterable[PlanRun]) -> Iterator[tuple[int, int]]:
    for run in runs:
        if not run.zero:
            end = run.first + run.blocks
            for low in range(run.first, end, _REQUEST):
                yield low, min(_REQUEST, end - low)
