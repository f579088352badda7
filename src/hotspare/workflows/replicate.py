"""One restore point: create replica, read configuration, query changes, transfer, publish,
retire, sweep. The first run copies everything, each later one only what changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..domain.damage import Damage, size_of, united, without
from ..domain.errors import ForeignChange, GiveUp, InstantLost, SealMissing
from ..domain.lineage import DiskPoint, Lineage, Manifest
from ..domain.machine import DiskSpec
from ..domain.retention import point_to_retire
from ..faultpoints import fault_point
from ..platforms.port import Intent, PointInTime, ReplicaSpec, Session, Source, Target
from . import home, run_state, temp_dir, transfer
from .bench import Bench
from .failover import replica_of
from .link import Scrubbed
from .rehearse import clear_tests
from .run_state import RunState
from .steps import Json, Step, Workflow

_PASSES = 6
"""Instants that one task opens at most: a source that loses every one needs a person."""


def kept_intents(bench: Bench) -> list[str]:
    """Names of the unpublished state's instants, if there is one: sweeps must leave them."""
    state = run_state.load(bench.folder)
    return list(state.intents) if state is not None else []


# --- steps -------------------------------------------------------------------------------------


def _create(bench: Bench, context: Json) -> None:
    """The replica exists and can run there; refused with the reason otherwise."""
    rule = bench.rule
    bench.source.source.prepare(rule.quiesce)
    vm = bench.source.source.inspect(rule.vm)
    temp_dir.prepare(bench.temp_dir, f"hs-{rule.id}", [disk.size for disk in vm.disks])
    for warning in vm.warnings:
        if not context.get("replica_known"):
            bench.say("vm.warning", "warning", warning=warning)
    if not rule.fast_transfer:
        bench.say("tracking.off")
    if rule.lan_free and not bench.source.source.capabilities.lan_free:
        bench.say("transport.lan-free-unavailable")
    _target(bench).ensure_replica(
        ReplicaSpec(rule=rule.id, name=rule.replica_name, storage=rule.storage,
                    host=rule.host, datacenter=rule.datacenter, folder=rule.folder, pool=rule.pool,
                    networks=rule.networks, devices=rule.devices),
        vm, Intent(rule.id, bench.task.epoch, bench.task.id))


def _configure(bench: Bench, context: Json) -> None:
    """Fence, read the truth from the target, and settle what an earlier run left."""
    target, replica = _target(bench), replica_of(bench)
    target.fence(replica, bench.task.epoch)
    lineage = target.lineage(replica)
    bench.link.adopt(bench.task, lineage.usable)
    bench.live["base"] = lineage.head
    state = run_state.load(bench.folder)
    if state is not None and not _continues(bench, state, lineage):
        run_state.forget(bench.folder)
        state = None
    if state is None:
        head = lineage.head
        number = head.number if head is not None else None
        back = home.load(bench.folder, number)
        token = back.token if back is not None else head.tracking if head is not None else None
        state = RunState(rule=bench.rule.id, task=bench.task.id, epoch=bench.task.epoch,
                         base=number, base_token=token, pass_token=token, home=back is not None,
                         compare=_asked(bench, "compare"),
                         damage=bench.rule.damage if head is not None else {})
        # Cleaning up before each run keeps a stale state from turning every run into a full copy.
        _sweep_source(bench, lineage, state)
        target.sweep(replica, list(state.intents))
        run_state.save(bench.folder, state)
    elif state.task != bench.task.id:
        bench.say("replicate.continues", task=state.task)
    context["base"] = state.base
    fault_point("replicate.intent")


def _continues(bench: Bench, state: RunState, lineage: Lineage) -> bool:
    """Whether the unpublished state fits what the target says."""
    head = lineage.head
    return (state.rule == bench.rule.id and state.epoch == bench.task.epoch
            and (state.compare or not _asked(bench, "compare"))
            and state.base == (head.number if head is not None else None))


def _query(bench: Bench, context: Json) -> None:
    """Open the instant and the session, and write each disk's change list."""
    point, _session = _open(bench)
    state = _state(bench)
    if state.base is None:
        bench.figures["full"] = True
    context["detail"] = {"bytes": transfer.planned_bytes(bench, state),
                         "consistency": point.consistency, "stall_ms": point.stall_ms}


def _transfer(bench: Bench, context: Json) -> None:
    _complete(bench)
    context["detail"] = {"moved": bench.figures["bytes_moved"], **bench.figures}


def _publish(bench: Bench, context: Json) -> None:
    """The commit point: from here on the restore point exists."""
    replica = replica_of(bench)
    state = _state(bench)
    # Only after a crash can it be published already: then no session is open.
    lineage = _target(bench).lineage(replica) if "session" not in bench.live else None
    if lineage is None or not _published(state, lineage):
        # After a crash the instant may have been lost: then this copies what changed since.
        _complete(bench)
        point, session = _open(bench)
        state = _state(bench)
        digests = transfer.digest_table(bench, state, point)
        fault_point("replicate.before-publish")
        manifest = session.publish(_manifest(bench, state, point, session, digests), digests,
                                   point.firmware_state)
        fault_point("replicate.after-publish")
        for disk in point.disks:
            if disk.transport:
                bench.say("transport.used", disk=disk.spec.id, transport=disk.transport)
        context["point"] = manifest.number
    else:
        context["point"] = lineage.last_number
    context["detail"] = {"point": context["point"]}


def _adopt(bench: Bench, context: Json) -> None:
    """Catalogue first, then the source's job and old checkpoint end (section 7, rule 2)."""
    lineage = _target(bench).lineage(replica_of(bench))
    bench.link.adopt(bench.task, lineage.usable)
    fault_point("replicate.after-adopt")
    state = run_state.load(bench.folder)
    if state is not None and lineage.head is not None:
        _tell(bench, context, state, lineage.head)
    point: PointInTime | None = bench.live.get("point")
    if point is not None:
        point.commit()
    else:
        _sweep_source(bench, lineage, None)
    fault_point("replicate.after-commit")
    run_state.forget(bench.folder)
    home.forget(bench.folder)
    bench.clear()
    bench.say("replicate.published", point=context.get("point"))


def _tell(bench: Bench, context: Json, state: RunState, point: Manifest) -> None:
    """What the new point has mended, and what a compare has found."""
    if state.damage:
        bench.link.mended(bench.task, point.number, state.damage)
        bench.figures["mended"] = size_of(state.damage)
        bench.say("replicate.mended", point=point.number, size=size_of(state.damage))
    if not state.compare:
        return
    lies = {d.id: transfer.missed(bench, state, d.id) for d in point.disks}
    bench.figures["missed"] = sum(size or 0 for size in lies.values())
    for disk, size in lies.items():
        if size:
            bench.say("replicate.tracking-lied", "error", disk=disk, size=size,
                      point=point.number)
            context["warnings"] = True
        else:
            bench.say("replicate.compared" if size == 0 else "replicate.compared-untracked",
                      disk=disk)


def _retain(bench: Bench, context: Json) -> None:
    """Merge the oldest points until no more than the rule's number are left."""
    target, replica = _target(bench), replica_of(bench)
    lineage = target.lineage(replica)
    retired = 0
    while True:
        number = lineage.retiring
        if number is None:
            if len(lineage.points) <= bench.rule.retention:
                break
            number = point_to_retire([p.number for p in lineage.points], bench.rule.retention,
                               target.pinned(replica))
        if number is None:
            bench.say("retention.deferred", "warning", points=len(lineage.points))
            break
        folded = transfer.fold(bench, lineage, number)

        def progress(done: int, total: int) -> None:
            bench.check_stop()
            bench.progress("retire", done, total)

        lineage = target.retire(replica, number, folded, progress)
        bench.link.adopt(bench.task, lineage.usable)
        bench.say("retention.merged", point=number)
        retired += 1
    context["detail"] = {"retired": retired}


def _sweep(bench: Bench, _context: Json) -> None:
    lineage = _target(bench).lineage(replica_of(bench))
    state = run_state.load(bench.folder)
    if state is None:
        run_state.forget_passes(bench.folder)
    _sweep_source(bench, lineage, state)
    _target(bench).sweep(replica_of(bench), list(state.intents) if state else [])
    clear_tests(bench)


def _clean_up(bench: Bench, context: Json) -> None:
    """After a failure: keep what a next run can go on with, drop what only takes space."""
    bench.clear()
    state = run_state.load(bench.folder)
    if state is None:
        return
    if context.get("failure") in _DROPS:
        run_state.forget(bench.folder)
        _target(bench).sweep(replica_of(bench), keep=())
        lineage = _target(bench).lineage(replica_of(bench))
        _sweep_source(bench, lineage, None)
    elif context.get("failure") == "task.stopped":
        # A process that was killed before it heard of the stop has left its instant open: the next
        # run would take it for its own, and publish what was long ago.
        source = _source(bench)
        tokens = [source.token_name(t) for t in (state.base_token, state.pass_token) if t]
        source.sweep(bench.rule.vm, bench.rule.id, keep=(), bases=[*tokens, *state.intents])


_DROPS = frozenset({"target.no-space", "replica.changed", "lineage.forged", "vm.not-found"})
"""Failures after which the unpublished state is of no use, or is itself what fills the storage."""


_FIGURES: Json = {"full": False, "bytes_queried": 0, "bytes_read": 0, "bytes_moved": 0,
                  "bytes_zero": 0, "compared": 0, "stall_s": 0.0, "retries": 0, "transfer_s": 0.0}
"""Bytes and seconds. ``full``: the first copy, or a disk with an earlier point was read anew.
``full_reason`` is there when that was not expected: a code.
``bytes_queried``: named as changed, or the size of a disk whose changes could not be told.
``bytes_moved``: payload written to the target. ``stall_s``: the longest of the guest's file
systems."""


WORKFLOW = Workflow((
    Step("create-replica", _create),
    Step("read-configuration", _configure),
    Step("query-changes", _query),
    Step("transfer", _transfer),
    Step("publish", _publish),
    Step("adopt", _adopt),
    Step("retire", _retain),
    Step("sweep", _sweep),
), clean_up=_clean_up, figures=_FIGURES)


# --- parts -------------------------------------------------------------------------------------


def _target(bench: Bench) -> Target:
    return bench.target.target(bench.key)


def _source(bench: Bench) -> Source:
    return bench.source.source


def _state(bench: Bench) -> RunState:
    state = run_state.load(bench.folder)
    if state is None:
        raise GiveUp("replicate.state-lost", folder=str(bench.folder))
    return state


def _published(state: RunState, lineage: Lineage) -> bool:
    head = lineage.head
    return head is not None and head.task == state.task and head.epoch == state.epoch and (
        state.base is None or head.number > state.base)


def _sweep_source(bench: Bench, lineage: Lineage, state: RunState | None) -> None:
    """Leave the source with nothing of ours but the base of the next run and the live state."""
    source = _source(bench)
    keep = state.intents if state is not None else ()
    tokens = [lineage.head.tracking if lineage.head is not None else None,
              state.pass_token if state is not None else None]
    bases = [source.token_name(token) for token in tokens if token is not None]
    for leftover in source.sweep(bench.rule.vm, bench.rule.id, keep, bases):
        bench.say("sweep.source", "warning" if leftover.error else "info",
                  kind=leftover.kind, name=leftover.name, error=leftover.error)


def _open(bench: Bench) -> tuple[PointInTime, Session]:
    """The open instant and session, opened or found again; a lost instant starts a new pass."""
    losses = 0
    while losses < _PASSES:
        if "point" in bench.live and "session" in bench.live:
            return bench.live["point"], bench.live["session"]
        state = _state(bench)
        if state.opened_at is None and bench.pace.closes():
            state = _wait_to_open(bench, state)
        try:
            opened = _open_both(bench, state)
        except InstantLost as lost:
            _next_pass(bench, lost)
            losses += 1
            continue
        if opened is None:
            continue
        point, session = opened
        if not session.resumed and not _start_over(bench):
            losses += 1
            continue
        transfer.prepare(bench, _state(bench), point, session)
        run_state.save(bench.folder, replace(_state(bench), planned=True))
        return point, session
    raise GiveUp("replicate.instant-lost-again", passes=_PASSES)


def _wait_to_open(bench: Bench, state: RunState) -> RunState:
    """Wait for the end of a range without bandwidth, with nothing open: a process that died just
    after it had taken the instant left it open, and nobody would watch its scratch space."""
    state = run_state.save(bench.folder, state.next_instant(state.pass_token))
    _sweep_source(bench, _target(bench).lineage(replica_of(bench)), state)
    bench.pace.gate()
    return state


def _start_over(bench: Bench) -> bool:
    """The target had nothing of the unpublished state: what the journals say is void. False when
    the open instant is of no use, since its changes count from a later one than the base."""
    state = _state(bench)
    run_state.forget_passes(bench.folder)
    if state.pass_token == state.base_token:
        run_state.save(bench.folder, replace(state, planned=False, done=()))
        return True
    bench.clear()
    run_state.save(bench.folder, replace(
        state.next_instant(state.base_token), done=()))
    return False


def _open_both(bench: Bench, state: RunState) -> tuple[PointInTime, Session] | None:
    """First the session, then the instant: nothing is in the guest's way while it stands still,
    and its scratch space is in use for as short as can be. None: a pause came in between."""
    source, target = _source(bench), _target(bench)
    disks = source.inspect(bench.rule.vm).disks
    session = _begin(bench, target, state, disks)
    bench.keep("session", session, session.close)
    state = _state(bench)
    if state.opened_at is None and bench.pace.closes():
        bench.clear()
        return None
    point = source.open_point(bench.rule.vm, state.pass_token, bench.rule.quiesce, state.intent,
                              bench.rule.lan_free)
    bench.keep("point", point, point.release)
    if tuple(d.spec for d in point.disks) != disks:
        # A disk was grown, added or removed just now: the session must be of the instant's disks.
        session.close()
        session = _begin(bench, target, state, [d.spec for d in point.disks])
        bench.keep("session", session, session.close)
    bench.figures["stall_s"] = max(bench.figures["stall_s"], point.stall_ms / 1000)
    if state.opened_at is None:
        run_state.save(bench.folder, replace(state, opened_at=point.taken_at))
        fault_point("replicate.instant-open")
    elif abs(point.taken_at - state.opened_at) > 1.0:
        raise InstantLost("source.instant-lost")
    return point, session


def _begin(bench: Bench, target: Target, state: RunState,
           disks: Sequence[DiskSpec]) -> Session:
    intent, replica = Intent(state.rule, state.epoch, state.task), replica_of(bench)
    try:
        return target.begin(replica, disks, state.base, intent)
    except (SealMissing, ForeignChange) as error:
        # A missing seal looks alike after our own crash between the commit point and the seal,
        # and after a change by someone else: the content decides.
        repair = _asked(bench, "repair")
        if state.base is None or (error.code == "replica.changed" and not repair) or (
                error.code not in {"replica.changed", "replica.seal-missing"}):
            raise
        if repair:
            return _repair(bench, target, state, disks)
    bench.say("replica.verifying", "warning", point=state.base)
    _refuse_unknown(bench, target, state, transfer.wrong_in(bench, target, state.base))
    target.seal(replica, state.base)
    return target.begin(replica, disks, state.base, intent)


def _repair(bench: Bench, target: Target, state: RunState,
            disks: Sequence[DiskSpec]) -> Session:
    """The base was written behind our back, and the operator wants it mended. The base itself is
    not: it is marked, and what is wrong in it comes anew from the source into the new point. The
    session is open before it is looked at: nobody else can write to it any more."""
    assert state.base is not None
    session = target.begin(replica_of(bench), disks, state.base,
                           Intent(state.rule, state.epoch, state.task), sealed=False)
    try:
        bench.say("replica.verifying", "warning", point=state.base)
        wrong = transfer.wrong_in(bench, target, state.base)
        if state.planned:           # changed again since that was planned
            _refuse_unknown(bench, target, state, wrong)
        bench.say("replica.repairing", "warning", point=state.base, size=size_of(wrong))
        bench.link.scrubbed(bench.task, (Scrubbed(state.base, dict(wrong)),), state.base)
        run_state.save(bench.folder, replace(state, damage=dict(united(state.damage, wrong))))
    except BaseException:
        session.close()
        raise
    return session


def _refuse_unknown(bench: Bench, target: Target, state: RunState, wrong: Damage) -> None:
    """Raises ForeignChange ``replica.changed`` for what is wrong in the base and is not mended by
    this run."""
    assert state.base is not None
    manifest = target.lineage(replica_of(bench)).point(state.base)
    for disk in without(wrong, state.damage):
        file = next((d.file for d in manifest.disks if d.id == disk), "") if manifest else ""
        raise ForeignChange("replica.changed", number=state.base, disk=disk, file=file,
                            size=size_of({disk: wrong[disk]}))


def _asked(bench: Bench, what: str) -> bool:
    return bool(bench.task.arguments.get(what))


def _next_pass(bench: Bench, lost: InstantLost) -> None:
    """Section 7, rule 1: keep what is complete, and read what it left and what changed since."""
    bench.clear()
    state = _state(bench)
    if not state.planned:
        token = state.pass_token    # nothing was read from the lost instant
    elif lost.tracking is not None:
        token = lost.tracking
    else:
        # All that changed since the base covers all that was copied since. When that cannot be
        # told either, the source says so and the copy compares with the journals' digests.
        token = state.base_token
    bench.say("replicate.next-pass", "info" if bench.pace.waiting else "warning",
              instant=state.instant, reason=lost.code)
    run_state.save(bench.folder, state.next_instant(token))


def _complete(bench: Bench) -> None:
    """Copy until one instant is wholly at the target."""
    losses = 0
    while losses < _PASSES:
        point, session = _open(bench)
        began = time.monotonic()
        try:
            transfer.run(bench, _state(bench), point, session)
            return
        except InstantLost as lost:
            # a copy that lasts for weeks may have to let go for a pause every day
            losses += not bench.pace.waiting
            _next_pass(bench, lost)
        finally:
            bench.count(transfer_s=time.monotonic() - began)
    raise GiveUp("replicate.instant-lost-again", passes=_PASSES)


def _manifest(bench: Bench, state: RunState, point: PointInTime, session: Session,
              digests: Path) -> Manifest:
    changed = transfer.changed_bytes(digests)
    return Manifest(
        rule=state.rule, number=session.number, epoch=bench.task.epoch, task=state.task,
        taken_at=point.taken_at, consistency=point.consistency, vm=point.vm,
        disks=tuple(DiskPoint(id=d.spec.id, size=d.spec.size, file="",
                              moved=changed[d.spec.id], changed=changed[d.spec.id])
                    for d in point.disks),
        tracking=point.token, note=point.note)
