"""Between the workflow and the data plane: change lists, copies and digest tables of one run.

Files in the rule's folder, one set a disk and instant: ``vda.i1.plan`` (the changed-block list),
``vda.i1.journal``; ``point.i0.digests`` is the table of the point that is about to be published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from ..dataplane import tables
from ..dataplane.blocks import to_extents
from ..dataplane.control import Control, TransferProgress
from ..dataplane.digests import digest_key
from ..dataplane.engine import CopyJob, CopyResult, copy_disks
from ..dataplane.journal import DATA, ZERO, Journal
from ..dataplane.layers import Layers
from ..dataplane.plan import PassId, Plan, plan_disk
from ..dataplane.tables import DigestTable, DiskPasses, build_table, should_fold
from ..dataplane.verify import verify_disk
from ..domain.damage import Damage, damage_of, extents_of
from ..domain.errors import InstantLost, TrackingUnusable
from ..domain.extents import Again, Extent, subtract, total, union
from ..domain.lineage import Lineage, Manifest
from ..platforms.port import Changes, PointDisk, PointInTime, Session, Target, Unknown
from . import held, home
from .bench import Bench
from .failover import replica_of
from .run_state import RunState

_ALWAYS = frozenset({"compare.asked", "tracking.off", "tracking.raw", "tracking.old-format",
                     "tracking.never-ran"})
"""Reasons to read a disk anew that hold for every run; for others it was not expected."""


def prepare(bench: Bench, state: RunState, point: PointInTime, session: Session) -> None:
    """Write the change list of every disk for the open instant, where it is not there yet."""
    missing = [d for d in point.disks
               if not _path(bench, d.spec.id, state.instant, "plan").exists()]
    if not missing:
        return
    base = _base(bench, state)
    with ExitStack() as stack:
        for disk in missing:
            _plan(bench, state, disk, base, session, stack)


def _plan(bench: Bench, state: RunState, disk: PointDisk, base: Manifest | None,
          session: Session, stack: ExitStack) -> None:
    spec = disk.spec
    below = base.disk(spec.id) if base is not None else None
    previous = list(_passes(bench, state, spec.id, stack, state.done))
    wrong = list(extents_of(state.damage, spec.id))
    changes = disk.changes if bench.rule.fast_transfer else Unknown("tracking.off")
    if state.home and not home.is_noted(bench.folder, spec.id):
        changes = Unknown("tracking.broken")    # no disk of the replica
    if state.compare and below is not None:
        _note_tracked(bench, state, disk, changes)
        changes = Unknown("compare.asked")
    while True:
        expected: Layers | None = None
        if isinstance(changes, Unknown) and (below is not None or previous):
            if changes.reason != "tracking.off":
                bench.say("replicate.compare",
                          "info" if changes.reason in _ALWAYS else "warning",
                          disk=spec.id, reason=changes.reason)
            expected = stack.enter_context(held.layers(
                bench, bench.folder, base if below is not None else None, spec.id, spec.size))
            expected.forget(wrong)
            for plan, journal in previous:
                expected.add_journal(journal, plan)
        try:
            plan = plan_disk(
                _path(bench, spec.id, state.instant, "plan"),
                pass_id=_pass_id(state, spec.id, spec.size), export=disk.export,
                changes=changes, control=_control(bench, None), fresh=below is None,
                target_zero=below is None and not previous and not session.resumed,
                previous=previous, expected=expected,
                also=Again(lambda: union(_noted(bench, state, disk),
                                         () if previous else wrong)),
                base_size=below.size if below is not None and below.size != spec.size else None)
            named = plan.totals.data + plan.totals.zero
            bench.count(bytes_queried=spec.size if isinstance(changes, Unknown) else named)
            if isinstance(changes, Unknown) and below is not None:
                bench.figures["full"] = True
                if changes.reason not in _ALWAYS:
                    bench.figures["full_reason"] = changes.reason
            return
        except TrackingUnusable as error:
            if isinstance(changes, Unknown):
                raise
            changes = Unknown(error.code)


def _note_tracked(bench: Bench, state: RunState, disk: PointDisk, changes: Changes) -> None:
    """What the source says has changed, of a disk that is compared whatever it says."""
    if isinstance(changes, Unknown):
        return
    try:
        plan_disk(_path(bench, disk.spec.id, state.instant, "tracked"),
                  pass_id=_pass_id(state, disk.spec.id, disk.spec.size), export=disk.export,
                  changes=changes, control=_control(bench, None), fresh=False, target_zero=False)
    except TrackingUnusable:
        pass        # nothing is said of it, so nothing can be wrong


def missed(bench: Bench, state: RunState, disk: str) -> int | None:
    """Bytes that differed from the base though tracking had not named them, after a compare. None:
    that cannot be told, since there was no tracking, or several instants were read."""
    tracked = _path(bench, disk, state.instant, "tracked")
    if state.done or not tracked.exists():
        return None
    plan = Plan(tracked)
    with Journal.read(_path(bench, disk, state.instant, "journal")) as journal:
        sent = to_extents(((run.first, run.blocks) for run in journal.done.runs()
                           if run.state in (DATA, ZERO)), plan.id.size)
        return total(subtract(sent, union(plan.extents(), extents_of(state.damage, disk))))


def _noted(bench: Bench, state: RunState, disk: PointDisk) -> Iterable[Extent]:
    """What a failback has noted of the disk."""
    return home.noted(bench.folder, disk.spec.id, disk.spec.size) if state.home else ()


def planned_bytes(bench: Bench, state: RunState) -> int:
    """Bytes that the instant's change lists name."""
    return sum(Plan(path).totals.data for path in bench.folder.glob(f"*.i{state.instant}.plan"))


def run(bench: Bench, state: RunState, point: PointInTime, session: Session) -> None:
    """Copy all disks of the open instant; goes on where an earlier attempt ended.

    Raises what the data plane raises, and InstantLost, also when a pause lasts too long for the
    instant to be kept."""
    bench.pace.follow()
    key = digest_key(bench.key)
    with ExitStack() as stack:
        jobs = []
        for disk in point.disks:
            spec = disk.spec
            plan = Plan(_path(bench, spec.id, state.instant, "plan"))
            journal = stack.enter_context(Journal(
                _path(bench, spec.id, state.instant, "journal"),
                _pass_id(state, spec.id, spec.size)))
            compare = stack.enter_context(
                _expected(bench, state, spec.id, spec.size)) if plan.compare else None
            jobs.append(CopyJob(
                source=disk.export, target=session.disks[spec.id], plan=plan, journal=journal,
                key=key, throttles=bench.pace.throttles, transfer_buffer=bench.rule.transfer_buffer,
                compare_with=compare, tuning=bench.tools.tuning))
        copy_disks(jobs, _control(bench, point), partial(count, bench))


def digest_table(bench: Bench, state: RunState, point: PointInTime) -> Path:
    """Build the digest table of the point from the journals of all passes."""
    path = bench.folder / "point.i0.digests"
    with ExitStack() as stack:
        disks = {
            d.spec.id: DiskPasses(d.spec.size, list(_passes(
                bench, state, d.spec.id, stack, (*state.done, state.instant))))
            for d in point.disks}
        build_table(path, disks).close()
    return path


def changed_bytes(table: Path) -> dict[str, int]:
    """Bytes that the point changed, by disk."""
    with DigestTable(table) as opened:
        return {disk: opened.changed_bytes(disk) for disk in opened.disks}


def fold(bench: Bench, lineage: Lineage, number: int) -> Path | None:
    """The digest table that the successor of ``number`` gets at a merge, or None to keep both."""
    point, successor = lineage.point(number), lineage.successor(number)
    if point is None or successor is None:
        return None
    blobs = (*point.digests, *successor.digests)
    if not should_fold([blob.length for blob in blobs]):
        return None
    path = bench.folder / f"fold-{number}.i0.digests"
    with ExitStack() as stack:
        opened = [stack.enter_context(held.table(bench, bench.folder, blob.name))
                  for blob in blobs]
        tables.fold(path, opened).close()
    return path


def drop_tables(bench: Bench) -> None:
    """Forget the copies of the target's digest tables."""
    for path in bench.folder.glob("*.table"):
        path.unlink(missing_ok=True)


def wrong_in(bench: Bench, target: Target, number: int) -> Damage:
    """Compare a point's content with its digests, within the limits of a transfer."""
    def stop() -> bool:
        bench.check_stop()
        bench.pace.follow()
        return False

    manifest = target.lineage(replica_of(bench)).point(number)
    assert manifest is not None
    key, wrong = digest_key(bench.key), {}
    with target.read_point(replica_of(bench), number) as exports:
        for disk in manifest.disks:
            with held.layers(bench, bench.folder, manifest, disk.id, disk.size) as expected:
                wrong[disk.id] = verify_disk(
                    exports[disk.id], expected, key, Control(stop=stop), disk=disk.id,
                    directory=bench.folder, throttles=bench.pace.throttles,
                    transfer_buffer=bench.rule.transfer_buffer).mismatches
    return damage_of(wrong)


# --- inside ------------------------------------------------------------------------------------


def _path(bench: Bench, disk: str, instant: int, kind: str) -> Path:
    return bench.folder / f"{disk}.i{instant}.{kind}"


def _pass_id(state: RunState, disk: str, size: int) -> PassId:
    return PassId(rule=state.rule, disk=disk, instant=str(state.intent), size=size)


def _base(bench: Bench, state: RunState) -> Manifest | None:
    if state.base is None:
        return None
    seen: Manifest | None = bench.live.get("base")
    if seen is not None and seen.number == state.base:
        return seen
    return bench.target.target(bench.key).lineage(replica_of(bench)).point(state.base)


def _passes(bench: Bench, state: RunState, disk: str, stack: ExitStack,
            instants: tuple[int, ...]) -> Iterator[tuple[Plan, Journal]]:
    for instant in instants:
        plan = _path(bench, disk, instant, "plan")
        journal = _path(bench, disk, instant, "journal")
        if plan.exists():
            opened = Plan(plan)
            yield opened, stack.enter_context(
                Journal.read(journal) if journal.exists() else Journal(journal, opened.id))


@contextmanager
def _expected(bench: Bench, state: RunState, disk: str, size: int) -> Iterator[Layers]:
    """What the unpublished state holds: the base's digests overlaid with earlier passes."""
    base = _base(bench, state)
    with ExitStack() as stack:
        layers = stack.enter_context(held.layers(
            bench, bench.folder, base if base is not None and base.disk(disk) else None, disk,
            size))
        layers.forget(extents_of(state.damage, disk))
        for plan, journal in _passes(bench, state, disk, stack, state.done):
            layers.add_journal(journal, plan)
        yield layers


def _control(bench: Bench, point: PointInTime | None) -> Control:
    def stop() -> bool:
        bench.check_stop()
        if point is not None:
            bench.pace.follow()
        return False

    def healthy() -> None:
        assert point is not None
        point.healthy()
        if bench.pace.outlasts(point, bench.tools.tuning.instant_age_s):
            raise InstantLost("source.paused-too-long", point.token)

    def progress(now: TransferProgress) -> None:
        bench.progress("transfer", now.done, now.total, rate=now.rate,
                       seconds_left=now.seconds_left, disks=now.disks)

    if point is None:
        return Control(stop=stop)
    return Control(stop=stop, healthy=healthy, progress=progress)


def count(bench: Bench, result: CopyResult) -> None:
    bench.count(bytes_read=result.bytes_read, bytes_moved=result.bytes_written,
                bytes_zero=result.zero_bytes, compared=result.compared,
                retries=result.retries + result.reconnects)
