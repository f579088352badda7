"""Copies the planned blocks of a disk from one NBD export to another.

One thread, one poll loop, several connections. A block is read, sent on, and hashed while the
target takes it; every two seconds (or some mebibytes) the target is flushed and what was complete
before the flush goes into the journal, in a second thread, since a sync may take long. So a
killed transfer repeats only its last seconds, and what the journal names is durable.

Order that everything relies on: write completed -> flush sent -> flush completed -> journal
record -> its sync -> marked as done.
"""

from __future__ import annotations

import errno
import heapq
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from itertools import cycle

from ..domain.errors import GiveUp, OutOfSpace, Reconnect
from ..domain.extents import BLOCK
from ..faultpoints import fault_point
from ..platforms.port import Export
from .arena import Arena, Slot
from .connection import Broken, Connection, Loop, connected
from .control import TURN_S, Control, TransferProgress
from .digests import DIGEST, ZERO_DIGEST, BlockHasher
from .journal import DATA, SAME, ZERO, Entry, Journal, compact
from .layers import Layers
from .plan import Plan, PlanRun
from .throttle import RateMeter, Throttle, admit, paused, request_limit

MIB = 1024 * 1024
_LOOK_S = 0.02
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FINAL = {errno.EPERM, errno.EACCES, errno.EROFS, errno.EINVAL, errno.EOVERFLOW, errno.ENOTSUP}


@dataclass(frozen=True, slots=True)
class Tuning:
    """Numbers that were measured (docs/decisions), and limits of patience, in seconds."""

    request: int = MIB // 2     # bytes; larger ones gained nothing, smaller ones cost requests
    connections: int = 2        # to each side; more than two gained nothing on unix sockets
    zero_request: int = 64 * MIB    # a server without fast zeroes must write them: stay below
    zeroes_in_flight: int = 8
    flush_s: float = 2.0
    flush_most: int = 256 * MIB     # bytes between flushes
    flush_least: int = 2 * MIB
    flush_parts: int = 32       # at least so many flushes in a transfer: a kill costs 2/32 at most
    window: int = 16384         # blocks (1 GiB) that a compare may write ahead of its journal
    request_attempts: int = 5   # for one request that its server refused (EIO)
    reconnects: int = 8         # in a row, without anything journaled between
    stall_s: float = 60.0       # an answer that takes longer means a broken connection
    flush_stall_s: float = 600.0    # a flush of a slow disk's whole cache
    progress_s: float = 0.5


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


def copy_disks(jobs: Sequence[CopyJob], control: Control) -> CopyResult:
    """Copy several disks of a machine, one after another within one transfer buffer.

    Errors are those of :func:`copy_disk`; disks that were finished before stay so.
    """
    total = CopyResult()
    report = _Report(jobs, control)
    for job in jobs:
        if (job.compare_with is not None) != job.plan.compare:
            raise ValueError("a compare needs what the target holds, and nothing else does")
        total = total + _DiskCopy(job, control, report).run()
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


class _Request:
    """Some blocks on their way."""

    __slots__ = ("attempts", "digests", "entries", "failing", "first", "hashed", "kind", "kinds",
                 "length", "offset", "pending", "slot", "zero")

    def __init__(self, first: int, offset: int, length: int, kind: int) -> None:
        self.first = first          # block
        self.offset = offset        # bytes
        self.length = length
        self.kind = kind            # DATA or ZERO, as planned
        self.slot: Slot | None = None
        self.pending = 0            # commands at the target that are not completed
        self.zero: list[bool] = []  # a read block: is it all zero
        self.digests: list[bytes] = []
        self.kinds = b""            # DATA, ZERO or SAME for each block
        self.hashed = kind == ZERO
        self.failing = False        # one of its commands failed, others may still be on the way
        self.entries: list[Entry] = []
        self.attempts = 0

    @property
    def blocks(self) -> int:
        return -(-self.length // BLOCK)


class _DiskCopy:
    """The copy of one disk. Its state outlives a connection."""

    def __init__(self, job: CopyJob, control: Control, report: _Report) -> None:
        self._job, self._control, self._report = job, control, report
        self._tuning = job.tuning
        self._size = job.plan.id.size
        self._disk = job.plan.id.disk
        self._hash = BlockHasher(job.key)
        self._arena = Arena(job.transfer_buffer)
        self._todo: Iterator[PlanRun] = job.plan.remaining(job.journal.done)
        self._current: PlanRun | None = None
        self._redo: deque[PlanRun] = deque()
        self._retry: list[tuple[float, int, _Request]] = []     # heap by time
        self._active: set[_Request] = set()
        self._hashing: deque[_Request] = deque()
        self._read = 0              # bytes since the last look
        self._room = False          # a buffer or a place came free
        self._attention = True      # something ended that the loop must look at
        self._fresh: list[Entry] = []       # completed, not yet in a flush
        self._fresh_bytes = 0
        self._fresh_since = 0.0
        self._fresh_written = False         # something of it was written, so a flush is wanted
        self._flushing: list[Entry] | None = None
        self._flushing_bytes = 0
        self._commit: Future[None] | None = None
        self._committing: list[Entry] = []
        self._window_wanted: int | None = None
        self._window_asked: int | None = None
        self._throttled_until = 0.0
        self._zeroes = 0
        self._done = job.journal.done_bytes
        self._progressed = True             # something was journaled since the last break
        self._sums: dict[str, int] = dict.fromkeys(
            ("bytes_read", "bytes_written", "zero_bytes", "compared", "retries", "reconnects",
             "flushes"), 0)
        part = job.plan.totals.data // self._tuning.flush_parts
        self._flush_bytes = max(self._tuning.flush_least, min(self._tuning.flush_most, part))
        self._request = BLOCK
        self._sources: list[Connection] = []
        self._targets: list[Connection] = []
        self._source = self._target = cycle(self._sources)      # they take turns
        self._loop = Loop([])
        self._can_zero = True
        self._zero_view = memoryview(b"")

    # --- outer loop: connections ---------------------------------------------------------------

    def run(self) -> CopyResult:
        began = time.monotonic()
        failures = 0
        with ThreadPoolExecutor(1, "journal") as self._pool:
            try:
                while not self._finished():
                    try:
                        self._connect_and_pump()
                    except (Broken, Reconnect) as error:
                        failures = 1 if self._progressed else failures + 1
                        self._progressed = False
                        self._recover()
                        if failures > self._tuning.reconnects:
                            if isinstance(error, Reconnect):
                                raise
                            raise Reconnect(f"{error.side}.unreachable", disk=self._disk,
                                            reason=error.reason) from error
                        self._sums["reconnects"] += 1
                        self._control.sleep(min(5.0, 0.1 * 2 ** (failures - 1)))
            finally:
                self._settle_commit()
                self._count_read()
        return replace(CopyResult(**self._sums), seconds=time.monotonic() - began)

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
            self._request = max(BLOCK, most // BLOCK * BLOCK)
            try:
                self._pump()
            finally:
                self._sources, self._targets = [], []

    def _recover(self) -> None:
        """Put back everything that is not known to be durable. Connections are closed."""
        self._settle_commit()
        again = [PlanRun(r.first, r.blocks, r.kind == ZERO) for r in self._active]
        again += [PlanRun(r.first, r.blocks, r.kind == ZERO) for _, _, r in self._retry]
        # What was the same needs no flush. Other blocks may be lost with the server's cache.
        kept = []
        for entry in (*(self._flushing or ()), *self._fresh):
            if entry.kind == SAME:
                kept.append(entry)
            else:
                again.append(PlanRun(entry.first, entry.blocks, entry.kind == ZERO))
                self._done -= 0 if entry.kind == ZERO else self._bytes_of(entry)
        self._active.clear()
        self._hashing.clear()
        self._attention = True
        self._retry.clear()
        self._arena.reset()
        self._fresh, self._fresh_written = kept, False
        self._fresh_bytes = sum(map(self._bytes_of, kept))
        self._flushing, self._flushing_bytes = None, 0
        self._window_asked = None
        self._zeroes = 0
        self._redo.extendleft(reversed(sorted(again)))

    def _finished(self) -> bool:
        return (not self._active and not self._retry and not self._fresh
                and self._flushing is None and self._commit is None and self._peek() is None)

    # --- inner loop ----------------------------------------------------------------------------

    def _pump(self) -> None:
        """Serve the connections until all is done. What is ready is served first, digests are
        computed while nothing is: sockets hold a fifth of a mebibyte, so a side that waits for
        us while we hash would stand still soon."""
        loop, hashing = self._loop, self._hashing
        look_at = 0.0
        while True:
            now = time.monotonic()
            if self._attention or now >= look_at:
                self._attention = False
                look_at = now + _LOOK_S
                if self._look(now):
                    return
            if hashing:
                if not loop.turn(0):
                    self._hash_one()
            elif self._commit is not None and not self._active and self._flushing is None:
                wait_for([self._commit], TURN_S)
                self._attention = True
            else:
                loop.turn(self._patience(now))
            if self._room:
                self._issue(time.monotonic())

    def _look(self, now: float) -> bool:
        """What need not be looked at all the time. True when all is done."""
        tuning = self._tuning
        self._control.tick()
        self._count_read()
        self._take_commit()
        self._issue(now)
        self._flush_when_due()
        if self._finished():
            return True
        self._report.update(self._disk, self._done, tuning.progress_s)
        self._loop.check_stall(tuning.stall_s if self._flushing is None
                               else tuning.flush_stall_s)
        return False

    def _count_read(self) -> None:
        if self._read:
            self._sums["bytes_read"] += self._read
            self._report.moved(self._read)
            self._read = 0

    def _patience(self, now: float) -> float:
        wait = TURN_S if self._commit is None else _LOOK_S
        if self._throttled_until > now:
            wait = min(wait, self._throttled_until - now)
        if self._retry:
            wait = min(wait, max(0.0, self._retry[0][0] - now))
        return wait

    def _peek(self) -> PlanRun | None:
        if self._current is None:
            self._current = self._redo.popleft() if self._redo else next(self._todo, None)
        return self._current

    def _issue(self, now: float) -> None:
        """Start as many requests as buffers, limits and the window allow."""
        self._room = False
        while self._retry and self._retry[0][0] <= now:
            request = heapq.heappop(self._retry)[2]
            self._active.add(request)
            self._start(request)
        if self._throttled_until > now:
            self._room = True
            return
        backlog = self._fresh_bytes + self._flushing_bytes
        most = self._request
        if (limit := request_limit(self._job.throttles)) is not None:
            most = max(BLOCK, min(most, limit // BLOCK * BLOCK))
        while (run := self._peek()) is not None and backlog <= 2 * self._flush_bytes:
            if run.zero:
                if self._zeroes >= self._tuning.zeroes_in_flight or (
                        paused(self._job.throttles)):
                    return
                blocks = min(run.blocks, self._tuning.zero_request // BLOCK)
            else:
                blocks = min(run.blocks, most // BLOCK)
            if not self._inside_window(run.first + blocks):
                return
            offset = run.first * BLOCK
            length = min(blocks * BLOCK, self._size - offset)
            request = _Request(run.first, offset, length, ZERO if run.zero else DATA)
            if not run.zero and not self._admit(request, now):
                return
            self._current = None if blocks == run.blocks else PlanRun(
                run.first + blocks, run.blocks - blocks, run.zero)
            self._active.add(request)
            self._start(request)

    def _admit(self, request: _Request, now: float) -> bool:
        """A buffer and the bandwidth for a read, or False."""
        slot = self._arena.take(request.length)
        if slot is None:
            return False
        wait = admit(self._job.throttles, request.length) if self._job.throttles else 0.0
        if wait > 0:
            self._arena.give(slot)
            self._throttled_until = now + min(wait, TURN_S)
            return False
        request.slot = slot
        return True

    def _inside_window(self, end: int) -> bool:
        """A compare writes only where its journal said before that it may."""
        if not self._job.plan.compare:
            return True
        journal = self._job.journal
        if end + self._tuning.window // 2 > journal.window:
            self._window_wanted = max(self._window_wanted or 0, end + self._tuning.window)
        return end <= journal.window

    def _start(self, request: _Request) -> None:
        request.failing = False
        if request.kind == ZERO:
            self._zeroes += 1
            self._send_zero(request, request.offset, request.length)
            request.entries = [Entry(request.first, request.blocks, ZERO)]
            return
        slot = request.slot
        assert slot is not None
        request.hashed = False
        next(self._source).read(slot.buffer, request.offset, self._was_read, request)

    # --- completions ---------------------------------------------------------------------------

    def _was_read(self, request: _Request, code: int) -> None:
        if code:
            self._failed(request, code, "source")
            return
        slot, length = request.slot, request.length
        assert slot is not None
        self._read += length
        is_zero = slot.buffer.is_zero
        request.zero = zero = [is_zero(at, min(BLOCK, length - at))
                               for at in range(0, length, BLOCK)]
        request.digests = []
        if self._job.compare_with is None:
            # The target works on it while it is hashed here.
            if True not in zero:
                request.kinds = bytes((DATA,)) * len(zero)
                self._send(request, slot.buffer, request.offset)
            else:
                request.kinds = bytes(ZERO if z else DATA for z in zero)
                self._send_parts(request, slot)
        self._hashing.append(request)

    def _hash_one(self) -> None:
        """One block's digest; a request whose last it was goes on."""
        request = self._hashing[0]
        slot, digests, zero = request.slot, request.digests, request.zero
        assert slot is not None
        number = len(digests)
        if zero[number]:
            digests.append(ZERO_DIGEST)
        else:
            at = number * BLOCK
            digests.append(self._hash.nonzero(slot.view[at:at + BLOCK]))
        if number + 1 < len(zero):
            return
        self._hashing.popleft()
        expected = self._job.compare_with
        if expected is not None:
            request.kinds = _differences(
                b"".join(digests), expected.digests(request.first, len(zero)), zero)
            self._send_parts(request, slot)
        request.hashed = True
        if not request.pending:
            self._all_ended(request)

    def _send_parts(self, request: _Request, slot: Slot) -> None:
        """Send a read request in runs of equal treatment."""
        for low, high, kind in _parts(request.kinds):
            start, end = low * BLOCK, min(high * BLOCK, request.length)
            if kind == DATA:
                self._send(request, slot.part(start, end), request.offset + start)
            elif kind == SAME:
                self._sums["compared"] += end - start
            elif self._job.plan.target_zero:
                self._sums["zero_bytes"] += end - start
            else:
                self._send_zero(request, request.offset + start, end - start)

    def _send(self, request: _Request, buffer: object, offset: int) -> None:
        length = len(buffer)  # type: ignore[arg-type]
        request.pending += 1
        self._sums["bytes_written"] += length
        next(self._target).write(buffer, offset, self._was_written, request)

    def _send_zero(self, request: _Request, offset: int, length: int) -> None:
        self._sums["zero_bytes"] += length
        if self._can_zero:
            request.pending += 1
            next(self._target).zero(length, offset, self._was_written, request)
            return
        # A server without WRITE_ZEROES gets zeroes; never a TRIM, which need not read as zero.
        if not self._zero_view:
            self._zero_view = memoryview(bytes(self._request))
        for at in range(0, length, self._request):
            part = min(self._request, length - at)
            self._send(request, _buffer(self._zero_view[:part]), offset + at)

    def _was_written(self, request: _Request, code: int) -> None:
        request.pending -= 1
        if code:
            self._failed(request, code, "target")
        elif not request.pending and request.hashed:
            self._all_ended(request)

    def _all_ended(self, request: _Request) -> None:
        """All commands of a request have ended, and it is hashed."""
        if request.failing:
            self._repeat(request)
            return
        fault_point("copy.after-write")
        if len(request.kinds) == 1 and request.kinds[0] == DATA:
            request.entries = [Entry(request.first, 1, DATA, request.digests[0])]
        elif request.kind == DATA:
            request.entries = [
                Entry(request.first + low, high - low, kind,
                      b"".join(request.digests[low:high]) if kind == DATA else b"")
                for low, high, kind in _parts(request.kinds)]
        self._complete(request)

    def _complete(self, request: _Request) -> None:
        self._active.discard(request)
        self._release(request)
        self._room = True
        if not self._fresh:
            self._fresh_since = time.monotonic()
        self._fresh.extend(request.entries)
        if request.kind == DATA:
            self._fresh_bytes += request.length
        for entry in request.entries:
            if entry.kind != SAME:
                self._fresh_written = True
            if entry.kind != ZERO:
                self._done += self._bytes_of(entry)
        if not self._active or self._fresh_bytes >= self._flush_bytes:
            self._attention = True

    def _release(self, request: _Request) -> None:
        if request.slot is not None:
            self._arena.give(request.slot)
            request.slot = None
        if request.kind == ZERO:
            self._zeroes -= 1

    def _failed(self, request: _Request, code: int, side: str) -> None:
        """One request was refused: again a little later, unless that cannot help."""
        name = errno.errorcode.get(code, str(code))
        where = {"disk": self._disk, "offset": request.offset, "length": request.length,
                 "error": name}
        if side == "target" and code in _FULL:
            raise OutOfSpace("target.no-space", **where)
        failed = "source.read-failed" if side == "source" else "target.write-failed"
        if not request.failing:
            request.attempts += 1
        if code in _FINAL or request.attempts >= self._tuning.request_attempts:
            raise GiveUp(failed, **where)
        request.failing = True
        if not request.pending and (request.hashed or side == "source"):
            self._repeat(request)

    def _repeat(self, request: _Request) -> None:
        """All commands of a failed request have ended: put it aside for a while."""
        self._sums["retries"] += 1
        self._active.discard(request)
        if request.kind == ZERO:
            self._zeroes -= 1
        self._attention = True
        heapq.heappush(self._retry, (time.monotonic() + 0.05 * 2 ** request.attempts,
                                     id(request), request))

    # --- flush and journal ---------------------------------------------------------------------

    def _flush_when_due(self) -> None:
        """Begin a flush of what is complete, unless one is on its way."""
        if self._flushing is not None or self._commit is not None:
            return
        window = self._window_wanted
        stuck = window is not None and not self._active
        ended = self._peek() is None and not self._active and not self._retry
        due = bool(self._fresh) and (
            self._fresh_bytes >= self._flush_bytes
            or time.monotonic() - self._fresh_since >= self._tuning.flush_s)
        if not (due or stuck or window is not None or (ended and self._fresh)):
            return
        self._flushing, self._fresh = self._fresh, []
        self._flushing_bytes, self._fresh_bytes = self._fresh_bytes, 0
        self._window_asked, self._window_wanted = window, None
        written, self._fresh_written = self._fresh_written, False
        if not written or not self._can_flush:
            self._commit_now()
            return
        fault_point("copy.before-flush")
        self._sums["flushes"] += 1
        self._targets[0].flush(self._was_flushed)

    def _was_flushed(self, _: object, code: int) -> None:
        if code in _FULL:
            raise OutOfSpace("target.no-space", disk=self._disk, offset=0, length=0,
                             error=errno.errorcode[code])
        if code:
            # A failed flush may have thrown the data away and the next one may say nothing of
            # it (so it is with Linux' fsync): never flushed again, all is written again.
            raise Broken("target", f"flush failed ({errno.errorcode.get(code, code)})")
        fault_point("copy.after-flush")
        self._attention = True
        self._commit_now()

    def _commit_now(self) -> None:
        assert self._flushing is not None
        entries = compact(self._flushing)
        self._committing, self._flushing, self._flushing_bytes = entries, None, 0
        self._commit = self._pool.submit(self._job.journal.append, entries, self._window_asked)

    def _take_commit(self) -> None:
        """Take notice of a finished journal record."""
        if self._commit is None or not self._commit.done():
            return
        commit, self._commit = self._commit, None
        commit.result()
        self._job.journal.mark(self._committing, self._window_asked)
        self._progressed = self._progressed or bool(self._committing)
        self._committing, self._window_asked = [], None

    def _settle_commit(self) -> None:
        """At the end, however it ends: nothing may append after the journal was left."""
        if self._commit is not None:
            wait_for([self._commit])
            self._take_commit()

    def _bytes_of(self, entry: Entry) -> int:
        return min(entry.blocks * BLOCK, self._size - entry.first * BLOCK)


def _parts(kinds: bytes) -> Iterator[tuple[int, int, int]]:
    """Runs of equal kind, as (first, end, kind)."""
    low = 0
    for high in range(1, len(kinds) + 1):
        if high == len(kinds) or kinds[high] != kinds[low]:
            yield low, high, kinds[low]
            low = high


def _buffer(view: memoryview) -> object:
    import nbd  # type: ignore[import-not-found,unused-ignore]

    return nbd.Buffer.from_buffer(view)


def _largest(connection: Connection) -> int:
    """Bytes of the largest request that the server says it takes (0: says nothing)."""
    import nbd  # type: ignore[import-not-found,unused-ignore]

    return int(connection.handle.get_block_size(nbd.SIZE_MAXIMUM)) or 32 * MIB


def _differences(found: bytes, expected: bytes, zero: list[bool]) -> bytes:
    """What to do with each block: SAME, ZERO or DATA."""
    if found == expected:
        return bytes((SAME,)) * len(zero)
    return bytes(
        SAME if found[n * DIGEST:(n + 1) * DIGEST] == expected[n * DIGEST:(n + 1) * DIGEST]
        else ZERO if z else DATA for n, z in enumerate(zero))
