"""One pass of a failback: what differs between the replica and the source goes into the source.

What the source holds is told by the digests of the newest restore point and by reading what was
written there since; where that is not known, all of it is read. What the replica holds is told by
the digests of the point that it stands on and by what it wrote since. So only blocks that can
differ are read, and only those that do differ are sent, after what they overwrite was put aside.

A pass keeps nothing for the next: one that was killed is done anew, and finds what is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from ..dataplane.control import Control, TransferProgress
from ..dataplane.differ import Comparison, Differences
from ..dataplane.digests import digest_key
from ..dataplane.engine import CopyJob, copy_disks
from ..dataplane.journal import Journal
from ..dataplane.layers import Layers
from ..dataplane.plan import PassId, Plan, plan_disk
from ..dataplane.scan import scan_disk
from ..dataplane.tail import make_zero
from ..dataplane.throttle import Throttle
from ..domain.errors import HotspareError, TrackingUnusable
from ..domain.extents import BLOCK, Again, Extent
from ..domain.lineage import Lineage
from ..faultpoints import fault_point
from ..platforms.port import (
    ChangedAreas,
    Changes,
    Export,
    PointDisk,
    PointInTime,
    Unknown,
    WriteBackSession,
)
from . import held, home, transfer
from .bench import Bench

_TURNED: Final = {
    "source.unreachable": "target.unreachable", "source.read-failed": "target.read-failed",
    "target.unreachable": "source.unreachable", "target.write-failed": "failback.write-failed",
    "target.flush-failed": "failback.write-failed", "target.no-space": "failback.no-space"}
"""A copy calls source what is read: that is the replica here, which lies at the target."""


class Pass:
    """``lineage`` and ``number`` of the point that the replica stands on tell the digests.
    ``whole``: the source is looked at as a whole; else both were equal when the last pass ended,
    and only what the replica wrote since can differ."""

    def __init__(self, bench: Bench, point: PointInTime, session: WriteBackSession,
                 lineage: Lineage, number: int, *, whole: bool, limited: bool) -> None:
        self.bench, self._point, self.session = bench, point, session
        self.disks = [d for d in point.disks if d.spec.id in session.disks]
        self._lineage, self._number = lineage, number
        self._whole = whole
        self.key = digest_key(bench.key)
        self.throttles: Sequence[Throttle] = bench.pace.throttles if limited else ()
        self.folder = bench.folder / "failback"

    def run(self) -> int:
        """Returns the bytes that were sent. Raises what the data plane and the drivers raise."""
        with workspace(self.folder):
            plans = {disk.spec.id: self.differences(disk) for disk in self.disks}
            for name, plan in plans.items():
                self._preserve(name, plan.extents())
            fault_point("failback.preserved")
            sent = self.copy(plans)
            for disk in self.disks:
                self._cut_tail(disk)
        fault_point("failback.copied")
        return sent

    # --- what differs --------------------------------------------------------------------------

    def differences(self, disk: PointDisk) -> Plan:
        """The plan of what is to be copied of one disk."""
        spec = disk.spec
        with ExitStack() as stack:
            wrote = Again(self.plan("wrote", spec.id, spec.size, disk.export, disk.changes,
                                    "target").extents)
            also: Iterable[Extent] = ()
            if self._whole:
                here = self._source_as_a_whole(spec.id, spec.size, stack)
                there = self._at(self._number, disk, stack)
                also, noted = Differences(here, there), self._newer(there, disk, stack)
            else:
                here = self._source_where(spec.id, spec.size, wrote, stack)
                noted = home.noted(self.bench.folder, spec.id, spec.size)
            home.note(self.bench.folder, self.bench.rule.id, spec.id, spec.size, wrote, noted)
            plan = self.plan("compare", spec.id, spec.size, disk.export, ChangedAreas(wrote),
                             "target", also=also, expected=here)
            found = Comparison(disk.export, plan, here, self.key, self.control("compare"),
                               "target", self.throttles, self.bench.rule.transfer_buffer)
            found.run()
            self.bench.count(bytes_read=found.bytes_read)
            return found.write(self.path(spec.id, "copy"))

    def _newer(self, there: Layers, disk: PointDisk, stack: ExitStack) -> Iterable[Extent]:
        """Where the newest point differs from the one that the replica stands on, ``there``."""
        head = self._lineage.head
        if head is None or head.number == self._number:
            return ()
        return Differences(there, self._at(head.number, disk, stack))

    def _at(self, number: int, disk: PointDisk, stack: ExitStack) -> Layers:
        return stack.enter_context(held.layers(
            self.bench, self.bench.folder, self._lineage.point(number), disk.spec.id,
            disk.spec.size))

    def _source_as_a_whole(self, disk: str, size: int, stack: ExitStack) -> Layers:
        """What the source holds, by digest. It may be larger or smaller than ``size``: a block
        that it lacks is zero, since it is grown before anything is written."""
        head = self._lineage.head
        known = head is not None and head.disk(disk) is not None
        changes = self.session.changes(disk)
        if not known:
            changes = Unknown("tracking.disk-added")
        try:
            plan = self.plan("source", disk, size, self.session.disks[disk], changes, "source")
        except TrackingUnusable as error:
            changes = Unknown(error.code)
            plan = self.plan("source", disk, size, self.session.disks[disk], changes, "source")
        if isinstance(changes, Unknown):
            if changes.reason != "first-copy":      # a new place holds nothing yet
                self.bench.say("failback.compare", "warning", disk=disk, reason=changes.reason)
            self.bench.figures["full"] = True
            layers = stack.enter_context(Layers(self.folder, size))
        else:
            layers = stack.enter_context(held.layers(
                self.bench, self.bench.folder, head, disk, size))
        self._scan(plan, disk, layers)
        return layers

    def _source_where(self, disk: str, size: int, areas: Iterable[Extent],
                      stack: ExitStack) -> Layers:
        """What the source holds in ``areas``; elsewhere nothing is looked up."""
        plan = self.plan("source", disk, size, self.session.disks[disk], ChangedAreas(areas),
                          "source")
        layers = stack.enter_context(Layers(self.folder, size))
        self._scan(plan, disk, layers)
        return layers

    def _scan(self, plan: Plan, disk: str, layers: Layers) -> None:
        with Journal(self.path(disk, "seen"), plan.id) as journal:
            read = scan_disk(self.session.disks[disk], plan, journal, self.key,
                             self.control("compare"), side="source", throttles=self.throttles,
                             transfer_buffer=self.bench.rule.transfer_buffer)
        self.bench.count(bytes_read=read)
        with Journal(self.path(disk, "seen"), plan.id) as journal:
            layers.add_journal(journal)

    def plan(self, kind: str, disk: str, size: int, export: Export, changes: Changes, side: str,
              *, also: Iterable[Extent] = (), expected: Layers | None = None) -> Plan:
        task = self.bench.task
        return plan_disk(self.path(disk, kind),
                         pass_id=PassId(self.bench.rule.id, disk, f"failback-t{task.id}", size),
                         export=export, changes=changes, control=self.control(None), fresh=False,
                         target_zero=False, also=also, expected=expected, side=side)

    # --- what is written -----------------------------------------------------------------------

    def _preserve(self, disk: str, extents: Iterable[Extent]) -> None:
        def progress(done: int, total: int) -> None:
            self.bench.check_stop()
            self.bench.progress("preserve", done, total)

        self.bench.count(bytes_preserved=self.session.preserve(disk, extents, progress))

    def copy(self, plans: dict[str, Plan]) -> int:
        bench, exports = self.bench, {d.spec.id: d.export for d in self.disks}
        with ExitStack() as stack, turned():
            jobs = [CopyJob(
                source=exports[disk], target=self.session.disks[disk], plan=plan,
                journal=stack.enter_context(Journal(self.path(disk, "copied"), plan.id)),
                key=self.key, throttles=self.throttles,
                transfer_buffer=bench.rule.transfer_buffer, tuning=bench.tools.tuning)
                for disk, plan in plans.items()]
            result = copy_disks(jobs, self.control("transfer"), partial(transfer.count, bench))
        return result.bytes_written

    def _cut_tail(self, disk: PointDisk) -> None:
        """A disk that is larger at the source reads as zero beyond the replica's end."""
        spec, export = disk.spec, self.session.disks[disk.spec.id]
        size = next(d.size for d in self.session.vm.disks if d.id == spec.id)
        if size > spec.size:
            start = spec.size // BLOCK * BLOCK
            self._preserve(spec.id, [Extent(start, size - start)])
            make_zero(export, spec.size, size, self.control(None), disk=spec.id)

    # --- parts ---------------------------------------------------------------------------------

    def path(self, disk: str, kind: str) -> Path:
        return self.folder / f"{disk}.{kind}"

    def control(self, step: str | None) -> Control:
        bench = self.bench

        def stop() -> bool:
            bench.check_stop()
            if self.throttles:
                bench.pace.follow()
            return False

        def progress(now: TransferProgress) -> None:
            if step is not None:
                bench.progress(step, now.done, now.total, rate=now.rate,
                               seconds_left=now.seconds_left, disks=now.disks)

        return Control(stop=stop, healthy=self._point.healthy, progress=progress)


@contextmanager
def workspace(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def turned(reads: str = "target") -> Iterator[None]:
    """Errors of a copy that goes to the source, told as what they are. It ``reads`` there too, or
    at the target."""
    try:
        yield
    except HotspareError as error:
        at_source = reads == "source" and error.code.startswith("source.")
        code = None if at_source else _TURNED.get(error.code)
        if code is None:
            raise
        raise type(error)(code, **error.fields) from error
