"""Copies the planned blocks of a disk from one NBD export to another.

One thread, one poll loop, several connections. A block is read, sent on, and hashed while the
target takes it; every two seconds (or some mebibytes) the target is flushed and what was complete
before the flush goes into the journal, in a second thread, since a sync may take long (module
:mod:`.commits`). So a killed transfer repeats only its last seconds, and what the journal names
is durable.

Order that everything relies on: write completed -> flush sent -> flush completed -> journal
record -> its sync -> marked as done.
"""

from __future__ import annotations

import errno
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle

import nbd  # type: ignore[import-not-found,unused-ignore]

from ..domain.errors import GiveUp, OutOfSpace, Reconnect
from ..domain.extents import BLOCK
from ..faultpoints import fault_point
from ..platforms.port import Export
from .arena import Arena, Slot
from .commits import FULL, Commits
from .connection import Broken, Connection, Loop, connected
from .control import TURN_S, Control, TransferProgress
from .digests import ZERO_DIGEST, BlockHasher
from .journal import DATA, SAME, ZERO, Journal
from .layers import Layers
from .plan import Plan, PlanRun
from .request import Request, differences, parts
from .throttle import RateMeter, Throttle, admit, paused, request_limit
from .tuning import MIB, Tuning

_LOOK_S = 0.02
_HASHED_AT_ONCE = 4     # blocks; sockets hold a fifth of a mebibyte
_ISSUED_AT_ONCE = 8     # blocks
_FINAL = {errno.EPERM, errno.EACCES, errno.EROFS, errno.EINVAL, errno.EOVERFLOW, errno.ENOTSUP}


@dataclass(slots=True)
class CopyJob:
    """One disk to copy. ``key``: 32 bytes of :func:`.digests.digest_key`. ``compare_with``: what
    the target holds; wanted exactly when the plan is a compare. The journal decides what is left
    to do: the same job again goes on where the last one ended."""

    source: Export
    target: Export
    plan: Plan
    journal: Journal
    key: bytes
    throttles: Sequence[Throttle] = ()
    transfer_buffer: int = 4 * MIB
    compare_with: Layers | None = None
    tuning: Tuning = field(default_factory=Tuning)


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What one run of a copy did. Bytes count repeated work too."""

    bytes_read: int = 0         # data read from the source
    bytes_written: int = 0      # data sent to the target
    zero_bytes: int = 0         # made zero by WRITE_ZEROES, or known to be zero there
    compared: int = 0           # read and found the same at the target: not sent
    retries: int = 0            # single requests that were repeated
    reconnects: int = 0
    flushes: int = 0
    seconds: float = 0.0

    def __add__(self, other: CopyResult) -> CopyResult:
        return CopyResult(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))


def copy_disk(job: CopyJob, control: Control) -> CopyResult:
    """Copy what the plan names and the journal does not, until all of it is flushed and journaled.

    Raises Stopped ``task.stopped``, whatever ``control.healthy`` or the exports raise,
    OutOfSpace ``target.no-space`` or ``machine.no-space``, Reconnect ``source.unreachable`` or
    ``target.unreachable`` after bounded attempts, GiveUp ``source.read-failed``,
    ``target.write-failed``, ``target.flush-failed``, ``target.too-small``. The journal stays.
    """
    return copy_disks([job], control)


def copy_disks(jobs: Sequence[CopyJob], control: Control,
               tally: Callable[[CopyResult], object] = lambda _: None) -> CopyResult:
    """Copy several disks of a machine, one after another within one transfer buffer.

    Errors are those of :func:`copy_disk`; disks that were finished before stay so. ``tally`` gets
    what was done for each disk, also for the one that an error ended.
    """
    total = CopyResult()
    report = _Report(jobs, control)
    for job in jobs:
        if (job.compare_with is not None) != job.plan.compare:
            raise ValueError("a compare needs what the target holds, and nothing else does")
        with ThreadPoolExecutor(1, "journal") as pool:
            copy = _DiskCopy(job, control, report, pool)
            try:
                copy.run()
            finally:
                tally(copy.result)
            total = total + copy.result
    report.send()
    return total


class _Report:
    """Progress of all disks of a transfer together."""

    def __init__(self, jobs: Sequence[CopyJob], control: Control) -> None:
        self._control = control
        self._disks = {j.plan.id.disk: (min(j.journal.done_bytes, j.plan.totals.data),
                                        j.plan.totals.data) for j in jobs}
        self.meter = RateMeter()
        self._next = 0.0

    def moved(self, size: int) -> None:
        self.meter.add(size)

    def update(self, disk: str, done: int, every_s: float) -> None:
        total = self._disks[disk][1]
        self._disks[disk] = (min(done, total), total)
        now = time.monotonic()
        if now >= self._next:
            self._next = now + every_s
            self.send()

    def send(self) -> None:
        done = sum(d for d, _ in self._disks.values())
        total = sum(t for _, t in self._disks.values())
        rate = self.meter.rate()
        left = (total - done) / rate if rate >= 1 else None
        self._control.progress(TransferProgress(done, total, rate, left, dict(self._disks)))


class _DiskCopy:
    """The copy of one disk. Its state outlives a connection."""

    def __init__(self, job: CopyJob, control: Control, report: _Report,
                 pool: ThreadPoolExecutor) -> None:
        self._job, self._control, self._report = job, control, report
        self._tuning = job.tuning
        self._size = job.plan.id.size
        self._disk = job.plan.id.disk
        self._hash = BlockHasher(job.key)
        self._arena = Arena(job.transfer_buffer)
        self._commits = Commits(job.plan, job.journal, job.tuning, pool)
        self._todo: Iterator[PlanRun] = job.plan.remaining(job.journal.done)
        self._redo: deque[PlanRun] = deque()
        self._next = 0              # the run that is being issued: its next block, how many are
        self._left = 0              # left of it, and whether they are zero
        self._zero = False
        self._retry: list[tuple[float, int, Request]] = []     # heap by time
        self._active: set[Request] = set()
        self._hashing: deque[Request] = deque()
        self._read = 0              # bytes since the last look
        self._room = False          # a buffer or a place came free
        self._freed = 0             # blocks that did since the last look for it
        self._attention = True      # something ended that the loop must look at
        self._throttled_until = 0.0
        self._zeroes = 0
        self._seconds = 0.0
        self._sums: dict[str, int] = dict.fromkeys(
            ("bytes_read", "bytes_written", "zero_bytes", "compared", "retries", "reconnects"), 0)
        self._request = 1           # blocks
        self._sources: list[Connection] = []
        self._targets: list[Connection] = []
        self._source = self._target = cycle(self._sources)      # they take turns
        self._loop = Loop([])
        self._can_zero = self._can_flush = True
        self._zeros = memoryview(b"")

    # --- outer loop: connections ---------------------------------------------------------------

    def run(self) -> None:
        began = time.monotonic()
        failures = 0
        try:
            while not self._finished():
                try:
                    self._connect_and_pump()
                except (Broken, Reconnect) as error:
                    failures = 1 if self._commits.progressed else failures + 1
                    self._commits.progressed = False
                    self._recover()
                    if failures > self._tuning.reconnects:
                        if isinstance(error, Reconnect):
                            raise
                        raise Reconnect(f"{error.side}.unreachable", disk=self._disk,
                                        reason=error.reason) from error
                    self._sums["reconnects"] += 1
                    self._control.sleep(min(5.0, 0.1 * 2 ** (failures - 1)))
        finally:
            self._commits.settle()
            self._count_read()
            self._seconds = time.monotonic() - began

    @property
    def result(self) -> CopyResult:
        """What was done so far."""
        return CopyResult(**self._sums, flushes=self._commits.flushes, seconds=self._seconds)

    def _connect_and_pump(self) -> None:
        while paused(self._job.throttles):
            # While paused nothing is reopened; a connection that is open stays open.
            self._control.sleep(TURN_S)
        job, tuning = self._job, self._tuning
        with (connected(job.source, "source", self._control, tuning.connections) as source,
              connected(job.target, "target", self._control, tuning.connections) as target):
            (source_end, self._sources), (target_end, self._targets) = source, target
            for connection in (*self._sources, *self._targets):
                if (size := connection.handle.get_size()) < self._size:
                    raise GiveUp(f"{connection.side}.too-small", disk=self._disk, size=size,
                                 expected=self._size)
            self._loop = Loop([*self._sources, *self._targets])
            self._source, self._target = cycle(self._sources), cycle(self._targets)
            self._can_zero = self._targets[0].handle.can_zero()
            self._can_flush = self._targets[0].handle.can_flush()
            most = min(source_end.request_max, target_end.request_max, tuning.request,
                       job.transfer_buffer // 2, *map(_largest, (*self._sources, *self._targets)))
            self._request = max(1, most // BLOCK)
            try:
                self._pump()
            finally:
                self._sources, self._targets = [], []

    def _recover(self) -> None:
        """Put back everything that is not known to be durable. Connections are closed."""
        again = self._commits.give_up_unflushed()
        again += [PlanRun(r.first, r.blocks, r.kind == ZERO)
                  for r in (*self._active, *(r for _, _, r in self._retry))]
        self._active.clear()
        self._hashing.clear()
        self._attention = True
        self._retry.clear()
        self._arena.reset()
        self._zeroes = 0
        self._redo.extendleft(reversed(sorted(again)))

    def _finished(self) -> bool:
        return (not self._active and not self._retry and self._commits.empty
                and not self._has_run())

    # --- inner loop ----------------------------------------------------------------------------

    def _pump(self) -> None:
        """Serve the connections until all is done. What is ready is served first, digests are
        computed while nothing is: sockets hold little, so a side that waits for us while we hash
        would stand still soon."""
        loop, hashing, commits = self._loop, self._hashing, self._commits
        look_at = 0.0
        while True:
            now = time.monotonic()
            if self._attention or commits.changed or now >= look_at:
                self._attention = commits.changed = False
                look_at = now + _LOOK_S
                if self._look(now):
                    return
            if hashing:
                loop.turn(0)
                self._hash_some()
            elif commits.recording and not self._active and not commits.flushing:
                commits.wait(TURN_S)
                self._attention = True
            else:
                loop.turn(self._patience(now))
            if self._room and (self._freed >= _ISSUED_AT_ONCE or not hashing):
                self._freed = 0
                self._issue(time.monotonic())

    def _look(self, now: float) -> bool:
        """What need not be looked at all the time. True when all is done."""
        tuning, commits = self._tuning, self._commits
        self._control.tick()
        self._count_read()
        self._issue(now)
        commits.advance(self._targets[0], self._can_flush, not self._active and not self._retry
                        and not self._has_run())
        if self._finished():
            return True
        self._report.update(self._disk, commits.done, tuning.progress_s)
        self._loop.check_stall(tuning.flush_stall_s if commits.flushing else tuning.stall_s)
        return False

    def _count_read(self) -> None:
        if self._read:
            self._sums["bytes_read"] += self._read
            self._report.moved(self._read)
            self._read = 0

    def _patience(self, now: float) -> float:
        wait = _LOOK_S if self._commits.recording else TURN_S
        if self._throttled_until > now:
            wait = min(wait, self._throttled_until - now)
        if self._retry and not paused(self._job.throttles):
            wait = min(wait, max(0.0, self._retry[0][0] - now))
        return wait

    def _has_run(self) -> bool:
        """Whether there is anything left to issue; it is then at hand."""
        if not self._left:
            run = self._redo.popleft() if self._redo else next(self._todo, None)
            if run is None:
                return False
            self._next, self._left, self._zero = run
        return True

    def _issue(self, now: float) -> None:
        """Start as many requests as buffers, limits and the window allow."""
        self._room = False
        while self._retry and self._retry[0][0] <= now and not paused(self._job.throttles):
            request = heapq.heappop(self._retry)[2]
            self._active.add(request)
            self._start(request)
        if self._throttled_until > now:
            self._room = True
            return
        if self._commits.crowded:
            return
        throttles, compare = self._job.throttles, self._job.plan.compare
        most, take, active = self._request, self._arena.take, self._active
        if throttles and (limit := request_limit(throttles)) is not None:
            most = max(1, min(most, limit // BLOCK))
        while self._left or self._has_run():
            # a server that takes no WRITE_ZEROES gets them as data, within buffer and limits
            first, zero = self._next, self._zero and self._can_zero
            blocks = min(self._left, self._tuning.zero_request // BLOCK if zero else most)
            if compare and not self._commits.inside_window(first + blocks):
                return
            offset, length, slot = first * BLOCK, blocks * BLOCK, None
            if offset + length > self._size:
                length = self._size - offset
            if zero:
                if self._zeroes >= self._tuning.zeroes_in_flight or paused(throttles):
                    return
            else:
                if (slot := take(length)) is None:
                    return
                if throttles and (wait := admit(throttles, length)) > 0:
                    self._arena.give(slot)
                    self._throttled_until = now + min(wait, TURN_S)
                    self._room = True
                    return
            self._next += blocks
            self._left -= blocks
            request = Request(first, offset, length, ZERO if zero else DATA, slot)
            active.add(request)
            self._start(request)

    def _start(self, request: Request) -> None:
        if request.slot is not None:
            next(self._source).read(request.slot.view, request.offset, self._was_read, request)
        else:
            self._zeroes += 1
            self._send_zero(request, request.offset, request.length)

    # --- completions ---------------------------------------------------------------------------

    def _was_read(self, request: Request, code: int) -> None:
        if code:
            self._failed(request, code, "source")
            return
        slot = request.slot
        assert slot is not None
        self._read += request.length
        zero = request.zero = slot.zeroes()
        if self._job.compare_with is None:
            # The target works on it while it is hashed here.
            if zero is None:
                self._send(request, slot.view, request.offset)
            else:
                request.kinds = bytes(ZERO if z else DATA for z in zero)
                self._send_parts(request, slot, request.kinds)
        self._hashing.append(request)

    def _hash_some(self) -> None:
        """Digests of a few blocks; a request whose last it was goes on."""
        hashing, digest, expected = self._hashing, self._hash.block, self._job.compare_with
        left = _HASHED_AT_ONCE
        while left > 0 and hashing:
            request = hashing[0]
            slot, digests, zero = request.slot, request.digests, request.zero
            assert slot is not None
            blocks = slot.blocks
            at = len(digests)
            for number in range(at, min(at + left, len(blocks))):
                digests.append(ZERO_DIGEST if zero is not None and zero[number]
                               else digest(blocks[number]))
            left -= len(digests) - at
            if len(digests) < len(blocks):
                return
            hashing.popleft()
            if expected is not None:
                request.kinds = differences(
                    b"".join(digests), expected.digests(request.first, len(blocks)), zero)
                self._send_parts(request, slot, request.kinds)
            request.hashed = True
            if not request.pending:
                self._all_ended(request)

    def _send_parts(self, request: Request, slot: Slot, kinds: bytes) -> None:
        """Send a read request in runs of equal treatment."""
        for low, high, kind in parts(kinds):
            start, end = low * BLOCK, min(high * BLOCK, request.length)
            if kind == DATA:
                self._send(request, slot.view[start:end], request.offset + start)
            elif kind == SAME:
                self._sums["compared"] += end - start
            elif self._job.plan.target_zero:
                self._sums["zero_bytes"] += end - start
            else:
                self._send_zero(request, request.offset + start, end - start)

    def _send(self, request: Request, view: memoryview, offset: int) -> None:
        request.pending += 1
        self._sums["bytes_written"] += len(view)
        next(self._target).write(view, offset, self._was_written, request)

    def _send_zero(self, request: Request, offset: int, length: int) -> None:
        self._sums["zero_bytes"] += length
        if self._can_zero:
            request.pending += 1
            next(self._target).zero(length, offset, self._was_written, request)
            return
        # A server without WRITE_ZEROES gets zeroes; never a TRIM, which need not read as zero.
        most = self._request * BLOCK
        if len(self._zeros) != most:
            self._zeros = memoryview(bytes(most))
        for at in range(0, length, most):
            self._send(request, self._zeros[:min(most, length - at)], offset + at)

    def _was_written(self, request: Request, code: int) -> None:
        request.pending -= 1
        if code:
            self._failed(request, code, "target")
        elif not request.pending and request.hashed:
            self._all_ended(request)

    def _all_ended(self, request: Request) -> None:
        """All commands of a request have ended, and it is hashed."""
        if request.failing:
            self._repeat(request)
            return
        fault_point("copy.after-write")
        self._active.discard(request)
        commits, first, digests = self._commits, request.first, request.digests
        if request.slot is None:
            self._zeroes -= 1
            commits.completed([(first, request.blocks, ZERO, b"")], 0)
        else:
            self._arena.give(request.slot)
            if request.kinds is None:
                commits.wrote(first, len(digests), b"".join(digests), request.length)
            else:
                commits.completed([
                    (first + low, high - low, kind,
                     b"".join(digests[low:high]) if kind == DATA else b"")
                    for low, high, kind in parts(request.kinds)], request.length)
        self._room = True
        self._freed += len(digests) or _ISSUED_AT_ONCE
        if not self._active or commits.fresh_bytes >= commits.flush_bytes:
            self._attention = True

    def _failed(self, request: Request, code: int, side: str) -> None:
        """One request was refused: again a little later, unless that cannot help."""
        name = errno.errorcode.get(code, str(code))
        where = {"disk": self._disk, "offset": request.offset, "length": request.length,
                 "error": name}
        if side == "target" and code in FULL:
            raise OutOfSpace("target.no-space", **where)
        failed = "source.read-failed" if side == "source" else "target.write-failed"
        if not request.failing:
            request.attempts += 1
        if code in _FINAL or request.attempts >= self._tuning.request_attempts:
            raise GiveUp(failed, **where)
        request.failing = True
        if not request.pending and (request.hashed or side == "source"):
            self._repeat(request)

    def _repeat(self, request: Request) -> None:
        """All commands of a failed request have ended: put it aside for a while."""
        self._sums["retries"] += 1
        self._active.discard(request)
        request.failing = False
        if request.slot is None:
            self._zeroes -= 1
        else:
            request.hashed, request.digests, request.kinds = False, [], None
        self._attention = True
        heapq.heappush(self._retry, (time.monotonic() + 0.05 * 2 ** request.attempts,
                                     id(request), request))


def _largest(connection: Connection) -> int:
    """Bytes of the largest request that the server says it takes (0: says nothing)."""
    return int(connection.handle.get_block_size(nbd.SIZE_MAXIMUM)) or 32 * MIB


__all__ = ["CopyJob", "CopyResult", "Tuning", "copy_disk", "copy_disks"]
