"""Undo of a failback: the source becomes, block by block, what it was before, and goes off; the
replica goes on as it stood.

What the source wrote itself since it was started is told by its tracking, else by reading all of
it; there the replica, which stood still, holds what a pass had found equal. Then whatever a pass
had overwritten comes back from the undo disks, which know it exactly.
"""

from __future__ import annotations

from functools import partial

from ..dataplane.control import Control
from ..dataplane.digests import digest_key
from ..dataplane.engine import CopyJob, copy_disks
from ..dataplane.journal import Journal
from ..dataplane.plan import PassId, Plan, plan_disk
from ..domain.errors import GiveUp, TrackingUnusable
from ..domain.extents import Again
from ..faultpoints import fault_point
from ..platforms.port import ChangedAreas, Running, Unknown, WriteBackSession
from . import failback_state, home, transfer
from .bench import Bench
from .failback import (
    FIGURES,
    drop_undo,
    find,
    home_of,
    known,
    open_replica,
    open_source,
    origin,
    running_of,
)
from .failback_pass import Pass, turned, workspace
from .failover import replica_of
from .steps import Json, Step, Workflow

_GRACE_S = 60.0


class Restore(Pass):
    """The source's own writes go, then what was put aside comes back."""

    def written_by_source(self) -> None:
        """Copy from the replica what the source may have written since it was started."""
        with workspace(self.folder):
            self.copy({d.spec.id: self._written(d.spec.id, d.spec.size) for d in self.disks})

    def _written(self, disk: str, size: int) -> Plan:
        changes = self.session.changes(disk)
        replica = next(d for d in self.disks if d.spec.id == disk)
        if not isinstance(changes, Unknown):
            try:
                wrote = self.plan("wrote", disk, size, self.session.disks[disk], changes,
                                  "source")
                return self.plan("copy", disk, size, replica.export,
                                 ChangedAreas(Again(wrote.extents)), "target")
            except TrackingUnusable:
                pass
        return self.differences(replica)


def _stop_source(bench: Bench, context: Json) -> None:
    """What it wrote is thrown away, so its power may be cut."""
    place = known(bench, context).get("place")
    if place is not None and not place.get("vm"):
        return                      # it was not made yet; who has its name is somebody else
    home = home_of(bench, context)
    try:
        if home.platform.source.power(home.vm) != "off":
            home.platform.source.shut_down(home.vm, _GRACE_S, True)
    except GiveUp as error:         # one at a new place that was demolished already
        if error.code != "vm.not-found" or place is None:
            raise
    fault_point("failback-undo.source-off")


def _restore(bench: Bench, context: Json) -> None:
    told, running = known(bench, context), running_of(context)
    if told.get("place"):
        return                      # it had nothing before
    # Only while the replica does not run can the source have written for itself.
    ran = bool(told.get("switched")) and (
        bench.target.standby(bench.key).power(running) == "off")
    session = open_source(bench, context, told.get("token") if ran else None)
    if ran:
        _take_own_writes(bench, session, running)
    for disk in session.disks:
        _put_back(bench, session, disk)
    session.restore_firmware_state()
    session.close(sealed=False)
    fault_point("failback-undo.restored")
    bench.clear()
    context["vm"] = session.vm.name
    bench.say("failback.restored", vm=session.vm.name)


def _take_own_writes(bench: Bench, session: WriteBackSession, running: Running) -> None:
    target = bench.target.target(bench.key)
    state = failback_state.load(bench.folder, running, bench.task.id)
    state = failback_state.save(bench.folder, state.next(bench.task.id))
    point = open_replica(bench, running, bench.target.standby(bench.key).tracking(running), state)
    Restore(bench, point, session, target.lineage(replica_of(bench)), running.number, whole=True,
            limited=False).written_by_source()
    transfer.drop_tables(bench)


def _put_back(bench: Bench, session: WriteBackSession, disk: str) -> None:
    """All that was put aside of one disk."""
    kept = session.preserved(disk)
    if kept is None:
        return
    folder = bench.folder / "failback"

    def stop() -> bool:
        bench.check_stop()
        return False

    control = Control(stop=stop, progress=lambda now: bench.progress(
        "restore", now.done, now.total, rate=now.rate, seconds_left=now.seconds_left))
    with workspace(folder), turned(reads="source"):
        plan = plan_disk(folder / f"{disk}.undo", pass_id=PassId(
            bench.rule.id, disk, f"failback-t{bench.task.id}", kept.size), export=kept.export,
            changes=kept.holds, control=control, fresh=False, target_zero=False)
        with Journal(folder / f"{disk}.undone", plan.id) as journal:
            copy_disks([CopyJob(source=kept.export, target=session.disks[disk], plan=plan,
                                journal=journal, key=digest_key(bench.key),
                                transfer_buffer=bench.rule.transfer_buffer,
                                tuning=bench.tools.tuning)], control,
                       partial(transfer.count, bench))
    session.resize(disk, kept.size)


def _clear(bench: Bench, context: Json) -> None:
    drop_undo(bench, context)
    if known(bench, context).get("place"):
        there = home_of(bench, context)
        there.platform.write_back.demolish(there.vm, origin(bench, context))
    else:
        _forget_the_start(bench)
    home.forget(bench.folder)


def _forget_the_start(bench: Bench) -> None:
    """Nothing counts from where the source was started any more, only from its newest point."""
    source = bench.source.source
    head = bench.target.target(bench.key).lineage(replica_of(bench)).head
    bases = [source.token_name(head.tracking)] if head is not None and head.tracking else []
    for leftover in source.sweep(bench.rule.vm, bench.rule.id, (), bases):
        if leftover.error:
            bench.say("sweep.source", "warning", kind=leftover.kind, name=leftover.name,
                      error=leftover.error)


def _replica_on(bench: Bench, context: Json) -> None:
    """It was off since the switch."""
    running, standby = running_of(context), bench.target.standby(bench.key)
    if standby.power(running) == "off":
        standby.power_on(running)
        bench.say("failback.replica-again", name=running.name)


def _forget(bench: Bench, context: Json) -> None:
    place = known(bench, context).get("place")
    bench.link.failback(bench.task, None)
    if place is None:
        bench.say("failback.undone", vm=context["vm"])
    else:
        bench.say("failback.demolished", vm=place["name"])


WORKFLOW = Workflow((
    Step("fence", find),
    Step("stop-source", _stop_source),
    Step("restore", _restore),
    Step("clear-undo", _clear),
    Step("start-replica", _replica_on),
    Step("record", _forget),
), figures=FIGURES)
