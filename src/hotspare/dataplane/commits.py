"""The way from written to durable: collected, flushed at the target, journaled, marked as done.

One batch is on this way at a time; what completes meanwhile is collected for the next one.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from ..domain.errors import OutOfSpace
from ..domain.extents import BLOCK
from ..faultpoints import fault_point
from .connection import Broken, Connection
from .journal import DATA, SAME, ZERO, Entry, Journal, compact
from .plan import Plan, PlanRun
from .tuning import Tuning

FULL = {errno.ENOSPC, errno.EDQUOT}

Row = tuple[int, int, int, bytes]
"""First block, blocks, kind and digests, as in :class:`.journal.Entry`."""


class Commits:
    """What one disk's copy completed. Its state outlives a connection."""

    def __init__(self, plan: Plan, journal: Journal, tuning: Tuning,
                 pool: ThreadPoolExecutor) -> None:
        self._size, self._disk = plan.id.size, plan.id.disk
        self._journal, self._tuning, self._pool = journal, tuning, pool
        part = plan.totals.data // tuning.flush_parts
        self.flush_bytes = max(tuning.flush_least, min(tuning.flush_most, part))
        self.done = journal.done_bytes      # data bytes, those on their way included
        self.flushes = 0
        self.progressed = True      # something was journaled since this was last set to False
        self.changed = False        # a step ended; the copy's loop sets it back
        self.fresh_bytes = 0        # data that is not yet in a flush
        self._fresh: list[Row] = []
        self._fresh_since = 0.0
        self._fresh_written = False         # something of it was written, so a flush is wanted
        self._flushing: list[Row] | None = None
        self._flushing_bytes = 0
        self._record: Future[None] | None = None
        self._recording: list[Entry] = []
        self._window_wanted: int | None = None
        self._window_asked: int | None = None

    # --- collecting ----------------------------------------------------------------------------

    def wrote(self, first: int, blocks: int, digests: bytes, length: int) -> None:
        """The usual case: data that was read and written as it is."""
        if not self._fresh:
            self._fresh_since = time.monotonic()
        self._fresh.append((first, blocks, DATA, digests))
        self._fresh_written = True
        self.fresh_bytes += length
        self.done += length

    def completed(self, rows: Iterable[Row], length: int) -> None:
        """Blocks of any kind, ``length`` bytes of the plan's data."""
        if not self._fresh:
            self._fresh_since = time.monotonic()
        self.fresh_bytes += length
        for row in rows:
            self._fresh.append(row)
            if row[2] != SAME:
                self._fresh_written = True
            if row[2] != ZERO:
                self.done += self._bytes_of(row)

    def inside_window(self, end: int) -> bool:
        """A compare writes only where its journal said before that it may."""
        journal = self._journal
        if end + self._tuning.window // 2 > journal.window:
            self._window_wanted = max(self._window_wanted or 0, end + self._tuning.window)
        return end <= journal.window

    @property
    def crowded(self) -> bool:
        """So much is not yet durable that no more should be written."""
        return self.fresh_bytes + self._flushing_bytes > 2 * self.flush_bytes

    @property
    def flushing(self) -> bool:
        return self._flushing is not None

    @property
    def recording(self) -> bool:
        return self._record is not None

    @property
    def empty(self) -> bool:
        """Nothing is on its way."""
        return not self._fresh and self._flushing is None and self._record is None

    # --- flush and journal ---------------------------------------------------------------------

    def advance(self, target: Connection, can_flush: bool, last: bool) -> None:
        """Take notice of a finished record; begin the next flush when it is due (``last``: nothing
        is on its way to the target, and nothing more will be)."""
        self._take_record()
        if self._flushing is not None or self._record is not None:
            return
        window = self._window_wanted
        due = bool(self._fresh) and (
            last or self.fresh_bytes >= self.flush_bytes
            or time.monotonic() - self._fresh_since >= self._tuning.flush_s)
        if not due and window is None:
            return
        self._flushing, self._fresh = self._fresh, []
        self._flushing_bytes, self.fresh_bytes = self.fresh_bytes, 0
        self._window_asked, self._window_wanted = window, None
        written, self._fresh_written = self._fresh_written, False
        if not written or not can_flush:
            self._begin_record()
            return
        fault_point("copy.before-flush")
        self.flushes += 1
        target.flush(self._was_flushed)

    def _was_flushed(self, _: object, code: int) -> None:
        if code in FULL:
            raise OutOfSpace("target.no-space", disk=self._disk, offset=0, length=0,
                             error=errno.errorcode[code])
        if code:
            # A failed flush may have thrown the data away and the next one may say nothing of
            # it (so it is with Linux' fsync): never flushed again, all is written again.
            raise Broken("target", f"flush failed ({errno.errorcode.get(code, code)})")
        fault_point("copy.after-flush")
        self.changed = True
        self._begin_record()

    def _begin_record(self) -> None:
        assert self._flushing is not None
        self._recording = compact(self._flushing)
        self._flushing, self._flushing_bytes = None, 0
        self._record = self._pool.submit(self._journal.append, self._recording,
                                         self._window_asked)

    def _take_record(self) -> None:
        if self._record is None or not self._record.done():
            return
        record, self._record = self._record, None
        record.result()
        self._journal.mark(self._recording, self._window_asked)
        self.progressed = self.progressed or bool(self._recording)
        self._recording, self._window_asked = [], None

    def wait(self, timeout_s: float) -> None:
        """For the record that is being written."""
        if self._record is not None:
            wait_for([self._record], timeout_s)

    def settle(self) -> None:
        """At the end, however it ends: nothing may append after the journal was left."""
        if self._record is not None:
            wait_for([self._record])
            self._take_record()

    def give_up_unflushed(self) -> list[PlanRun]:
        """The target's connection broke: what may be lost with its cache, to be copied again.
        What was the same needs no flush and is kept."""
        self.settle()
        kept, lost = [], []
        for row in (*(self._flushing or ()), *self._fresh):
            if row[2] == SAME:
                kept.append(row)
                continue
            lost.append(PlanRun(row[0], row[1], row[2] == ZERO))
            if row[2] != ZERO:
                self.done -= self._bytes_of(row)
        self._fresh, self._fresh_written = kept, False
        self.fresh_bytes = sum(map(self._bytes_of, kept))
        self._flushing, self._flushing_bytes = None, 0
        self._window_asked = None
        return lost

    def _bytes_of(self, row: Row) -> int:
        return min(row[1] * BLOCK, self._size - row[0] * BLOCK)
