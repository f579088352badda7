"""The plan of one disk in one pass: the changed-block list, with what is data and what is zero.

Only the ZERO flag of the source means zero: a hole without it may show old data of a backing
file. Changed ranges are rounded out to whole blocks, zero ranges in, so that a block which is
partly data is read as a whole and its digest covers it.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from blake3 import blake3

from ..domain.errors import GiveUp, Reconnect
from ..domain.extents import BLOCK, Extent, merge, round_out, union
from ..faultpoints import fault_point
from ..platforms.port import ChangedAreas, Changes, DirtyContext, Export
from .blocks import Marks, block_count, to_extents
from .blockstatus import ALLOCATION, ZERO, Broken, iterate_status
from .connection import connected
from .control import Control
from .files import replacing, space_errors

if TYPE_CHECKING:
    from .journal import Journal
    from .layers import Layers

T = TypeVar("T")

_MAGIC = b"HSPLAN1\n"
_HEADER = 4096                  # the header is filled up to this, so it can be written last
_ZERO_BIT = 1 << 31
_NEAR = 256 * 1024 * 1024       # ranges that are nearer than this are asked for together
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class PassId:
    """What a plan and a journal belong to: one disk at one instant (design, section 7, rule 1)."""

    rule: str
    disk: str
    instant: str                # str(Intent) of the open instant
    size: int                   # bytes


class PlanRun(NamedTuple):
    """``blocks`` blocks from block ``first`` on, to be read, or to be made zero."""

    first: int
    blocks: int
    zero: bool


@dataclass(frozen=True, slots=True)
class PlanTotals:
    data: int = 0               # bytes to read
    zero: int = 0               # bytes to make zero
    runs: int = 0


class Plan:
    """A written plan, streamed from its file each time it is iterated.

    ``fresh``: the disk has no earlier point below, what is not listed is zero.
    ``target_zero``: the target is known to be all zero, so zeroes need not be written.
    ``compare``: changes are unknown; data is written only where its digest differs.
    """

    def __init__(self, path: Path) -> None:
        """Raises GiveUp ``plan.damaged``."""
        self.path = path
        try:
            with path.open("rb") as file:
                head = file.read(_HEADER)
                magic, length = head[:8], int.from_bytes(head[8:12], "little")
                fields: dict[str, Any] = json.loads(head[12:12 + length])
                if magic != _MAGIC or _sum(file) != fields.pop("checksum"):
                    raise ValueError("checksum")
                self.id = PassId(**fields.pop("id"))
                self.totals = PlanTotals(**fields.pop("totals"))
        except (ValueError, KeyError, TypeError) as error:
            raise GiveUp("plan.damaged", path=str(path)) from error
        self.fresh: bool = fields["fresh"]
        self.target_zero: bool = fields["target_zero"]
        self.compare: bool = fields["compare"]

    def __iter__(self) -> Iterator[PlanRun]:
        with self.path.open("rb") as file:
            file.seek(_HEADER)
            while piece := file.read(1 << 16):
                for first, count in struct.iter_unpack("<II", piece):
                    yield PlanRun(first, count & ~_ZERO_BIT, bool(count & _ZERO_BIT))

    def remaining(self, done: Marks) -> Iterator[PlanRun]:
        """What of the plan is not marked in ``done``."""
        if done.untouched:
            yield from self
            return
        for first, count, zero in self:
            if count == 1:
                if not done[first]:
                    yield PlanRun(first, 1, zero)
                continue
            for low, length in done.clear_runs(first, first + count):
                yield PlanRun(low, length, zero)

    def extents(self) -> Iterator[Extent]:
        """The changed-block list as byte ranges."""
        return merge(to_extents(((r.first, r.blocks) for r in self), self.id.size))


def write_plan(path: Path, pass_id: PassId, runs: Iterable[PlanRun], *, fresh: bool,
               target_zero: bool, compare: bool = False) -> Plan:
    """Store sorted, disjoint runs as the plan ``path``, durably and as a whole."""
    data = zero = number = last = word = 0
    check = blake3()
    with replacing(path) as file:
        file.seek(_HEADER)
        for piece in _packed(runs):
            check.update(piece)
            file.write(piece)
            for _, word in struct.iter_unpack("<II", piece):
                if word & _ZERO_BIT:
                    zero += (word & ~_ZERO_BIT) * BLOCK
                else:
                    data += word * BLOCK
            number += len(piece) // 8
            last, word = struct.unpack_from("<II", piece, len(piece) - 8)
        # runs are sorted: only the last one can reach beyond the disk's end
        beyond = max(0, (last + (word & ~_ZERO_BIT)) * BLOCK - pass_id.size)
        if word & _ZERO_BIT:
            zero -= beyond
        else:
            data -= beyond
        head = json.dumps({
            "id": asdict(pass_id), "fresh": fresh, "target_zero": target_zero,
            "compare": compare, "totals": asdict(PlanTotals(data, zero, number)),
            "checksum": check.hexdigest(length=16)}).encode()
        if 12 + len(head) > _HEADER:
            raise ValueError("the identity of the pass is too long for a plan's header")
        file.seek(0)
        file.write((_MAGIC + len(head).to_bytes(4, "little") + head).ljust(_HEADER, b"\0"))
    fault_point("plan.after-write")
    return Plan(path)


def plan_disk(path: Path, *, pass_id: PassId, export: Export, changes: Changes, control: Control,
              fresh: bool, target_zero: bool,
              previous: Sequence[tuple[Plan, Journal]] = (),
              expected: Layers | None = None, base_size: int | None = None,
              also: Iterable[Extent] = (), side: str = "source") -> Plan:
    """Find out what to move for one disk, and write it down as the plan ``path``.

    - ``changes``: what differs from the base; for a next pass into the same unpublished state,
      what changed since the lost instant. Unknown stands for the whole disk.
    - ``expected``: what the target holds, by digest. When given, blocks are sent only where they
      differ (a compare); wanted where changes are Unknown, and in the passes after such a one.
    - ``fresh``: no earlier point holds this disk. ``target_zero``: nothing was ever written to
      the unpublished state either (no base, not resumed).
    - ``previous``: plans and journals of earlier passes into the same unpublished state, oldest
      first. What they did not complete and flush is planned again.
    - ``base_size``: bytes of the disk at the last point, when that is another size.
    - ``also``: sorted, read more than once: what is planned whether it changed or not. A compare
      sends of it what ``expected`` does not hold (:meth:`.layers.Layers.forget`: all of it).
    - ``side``: whose disk it is, for errors.

    Raises TrackingUnusable when a dirty bitmap is not offered, Reconnect
    ``source.unreachable``, GiveUp, Stopped, OutOfSpace ``machine.no-space``.
    """
    size = pass_id.size
    block_count(size)
    compare = expected is not None

    def attempt() -> Plan:
        with ExitStack() as stack, space_errors(path):
            changed = stack.enter_context(_Spool(path.parent))
            changed.fill(round_out(union(_changed(export, changes, size, control, side),
                                         _left_over(previous), _cut(base_size, size), also),
                                   size))
            zeros = _zeros(export, changed, size, control, side)
            runs = _classify(changed, zeros)
            if expected is not None:
                runs = _compared(runs, expected, size)
            elif target_zero:
                runs = (run for run in runs if not run.zero)
            return write_plan(path, pass_id, runs, fresh=fresh, target_zero=target_zero,
                              compare=compare)

    return with_attempts(attempt, control, pass_id.disk)


def with_attempts(work: Callable[[], T], control: Control, disk: str, attempts: int = _ATTEMPTS,
                  progress: Callable[[], int] = lambda: 0) -> T:
    """``work`` again when a connection breaks under it; attempts are counted anew when it has made
    ``progress``. Raises Reconnect ``….unreachable``."""
    failures = reached = 0
    while True:
        try:
            return work()
        except (Broken, Reconnect) as error:
            failures = failures + 1 if progress() == reached else 1
            reached = progress()
            if failures >= attempts:
                if isinstance(error, Reconnect):
                    raise
                raise Reconnect(f"{error.side}.unreachable", disk=disk,
                                reason=error.reason) from error
            control.sleep(min(5.0, 0.2 * 2 ** failures))


def _changed(export: Export, changes: Changes, size: int, control: Control,
             side: str) -> Iterator[Extent]:
    if isinstance(changes, DirtyContext):
        with connected(export, side, control, context=changes.context) as (_, (nbd, *_rest)):
            for status in iterate_status(nbd, changes.context, [Extent(0, size)], control):
                if status.flags & changes.mask:
                    yield Extent(status.offset, status.length)
    elif isinstance(changes, ChangedAreas):
        for offset, length in changes.areas:
            control.tick()
            yield Extent(offset, length)
    elif size:
        yield Extent(0, size)


def _left_over(previous: Sequence[tuple[Plan, Journal]]) -> Iterator[Extent]:
    """Planned in earlier passes, completed and flushed in none *since*: a later plan holds what
    an earlier one left over, so only the last pass counts."""
    if previous:
        plan, journal = previous[-1]
        yield from to_extents(((r.first, r.blocks) for r in plan.remaining(journal.done)),
                              plan.id.size)


def _cut(base_size: int | None, size: int) -> Iterator[Extent]:
    """A disk that shrank inside a block: that block's digest is another one now."""
    if base_size is not None and base_size > size and size % BLOCK:
        yield Extent(size // BLOCK * BLOCK, size % BLOCK)


def _zeros(export: Export, changed: _Spool, size: int, control: Control,
           side: str) -> Iterator[Extent]:
    """Whole blocks that the source reports as zero, near the changed ranges."""
    with connected(export, side, control, context=ALLOCATION) as (_, (nbd, *_rest)):
        if not nbd.handle.can_meta_context(ALLOCATION):
            return      # a server without block status: everything is data
        statuses = iterate_status(nbd, ALLOCATION, _joined(changed), control)
        yield from round_in(((offset, length) for offset, length, flags in statuses
                             if flags & ZERO), size)


def round_in(extents: Iterable[tuple[int, int]], size: int) -> Iterator[Extent]:
    """The whole blocks inside each extent; the disk's last block is whole when it reaches the
    end. Extents are sorted; those that touch are one."""
    low = end = 0       # none yet
    for offset, length in chain(extents, ((size + BLOCK, 0),)):
        if offset == end:
            end += length
            continue
        low = (low + BLOCK - 1) // BLOCK * BLOCK
        high = size if end >= size else end // BLOCK * BLOCK
        if low < high:
            yield Extent(low, high - low)
        low, end = offset, offset + length


def _joined(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Ranges to ask for: one question for many near extents costs less than one for each."""
    start = end = -1
    for offset, length in extents:
        if start >= 0 and offset - end <= _NEAR:
            end = offset + length
            continue
        if start >= 0:
            yield Extent(start, end - start)
        start, end = offset, offset + length
    if start >= 0:
        yield Extent(start, end - start)


def _classify(changed: Iterable[Extent], zeros: Iterable[Extent]) -> Iterator[PlanRun]:
    """Cut the changed extents into data and zero."""
    zero_iter = iter(zeros)
    none = (1 << 63, 1 << 63)
    zero_low, zero_length = next(zero_iter, none)
    zero_high = zero_low + zero_length
    for offset, length in changed:
        low, high = offset, offset + length
        while low < high:
            while zero_high <= low:
                zero_low, zero_length = next(zero_iter, none)
                zero_high = zero_low + zero_length
            if zero_low >= high:
                yield _run(low, high, False)
                break
            if zero_low > low:
                yield _run(low, zero_low, False)
                low = zero_low
            cut = min(high, zero_high)
            yield _run(low, cut, True)
            low = cut


def _compared(runs: Iterator[PlanRun], expected: Layers, size: int) -> Iterator[PlanRun]:
    """Of the zero runs, only blocks that the target holds as something else."""
    nonzero: Iterator[tuple[int, int]] | None = None
    held = None
    for run in runs:
        if not run.zero:
            yield run
            continue
        if nonzero is None:
            nonzero = ((r.first, r.blocks) for r in expected.nonzero(run.first))
            held = next(nonzero, None)
        end = run.first + run.blocks
        while held is not None and held[0] < end:
            low, high = max(run.first, held[0]), min(end, held[0] + held[1])
            if low < high:
                yield PlanRun(low, high - low, True)
            if held[0] + held[1] > end:
                break
            held = next(nonzero, None)


def _run(low: int, high: int, zero: bool) -> PlanRun:
    first = low // BLOCK
    return PlanRun(first, -(-high // BLOCK) - first, zero)


def _packed(runs: Iterable[PlanRun]) -> Iterator[bytes]:
    words: array[int] = array("I")
    for first, count, zero in runs:
        words.append(first)
        words.append(count | (_ZERO_BIT if zero else 0))
        if len(words) >= 1 << 14:
            yield words.tobytes()
            words = array("I")
    if words:
        yield words.tobytes()


def _sum(file: BinaryIO) -> str:
    check = blake3()
    while piece := file.read(1 << 20):
        check.update(piece)
    return check.hexdigest(length=16)


class _Spool:
    """A list of extents that is read several times, kept on disk: it may be millions long."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  (closed in __exit__)

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fill(self, extents: Iterable[Extent]) -> None:
        words: array[int] = array("Q")
        for offset, length in extents:
            words.append(offset)
            words.append(length)
            if len(words) >= 1 << 14:
                self._file.write(words.tobytes())
                words = array("Q")
        self._file.write(words.tobytes())
        self._file.flush()

    def __iter__(self) -> Iterator[Extent]:
        # pread, not the file's position: two readers walk at the same time
        fd, at = self._file.fileno(), 0
        while piece := os.pread(fd, 1 << 16, at):
            at += len(piece)
            for offset, length in struct.iter_unpack("<QQ", piece):
                yield Extent(offset, length)


__all__ = ["PassId", "Plan", "PlanRun", "PlanTotals", "plan_disk", "round_in",
           "with_attempts", "write_plan"]
