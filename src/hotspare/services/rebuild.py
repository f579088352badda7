"""Rules and restore points from what lies at the targets: for a database that was lost, or brought
back from an older backup. Nothing is ever deleted at a target by it."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.codec import encode
from ..domain.errors import GiveUp, HotspareError, Refused
from ..domain.lineage import Lineage
from ..domain.machine import VmDescription
from ..domain.rule_states import RESTING, Event, RuleState
from ..platforms.port import Running
from ..store import Record, schema
from ..workflows.link import FoundReplica
from . import catalogue, queue, restored
from .context import SERVICE, Actor, Change, Context
from .kinds import KINDS
from .names import check_name, name_key
from .platforms import find as find_platform
from .platforms import live_task
from .rule_settings import vm_key

_R = schema.rule
UNKNOWN = "unknown source"
"""Name of the platform that stands for sources which no registered platform is known to be."""


class Rebuild:
    """A task on the platform's DR machine reads the replicas; :func:`adopt` takes each in."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def start(self, actor: Actor, platform: str) -> int:
        """Returns the task."""
        actor.need("administrator")
        with self._context.change() as change:
            row = find_platform(change.conn, platform)
            change.audit(actor, "platform.rebuild", row.id)
            return self._ask(change, actor, row)

    def resume(self) -> None:
        """After a restore: look at all targets, once."""
        p = schema.platform
        with self._context.change() as change:
            if not restored.take_rebuild(change.conn):
                return
            change.conn.execute(sa.update(_R).where(
                _R.c.deleted_at.is_(None), _R.c.next_run_at < change.now + restored.HOLD_S
                ).values(next_run_at=change.now + restored.HOLD_S))
            for row in change.conn.execute(sa.select(p).where(
                    p.c.deleted_at.is_(None), sa.exists().where(
                        _R.c.target == p.c.id, _R.c.deleted_at.is_(None)))).all():
                self._ask(change, SERVICE, row)

    def _ask(self, change: Change, actor: Actor, platform: Record) -> int:
        return queue.enqueue(change, "rebuild", actor, machine=platform.machine,
                             platform=platform.id)


def may_read(conn: Connection, machine: str, rule: str) -> bool:
    """Whether a rebuild that runs on ``machine`` needs the rule's key: the rule is not known, or
    has its replica on the platform that is read."""
    t = schema.task
    known = sa.exists().where(_R.c.id == rule)
    there = sa.exists().where(_R.c.id == rule, _R.c.target == t.c.platform,
                              _R.c.deleted_at.is_(None))
    return conn.execute(sa.select(t.c.id).where(
        t.c.machine == machine, t.c.kind == "rebuild", t.c.state.in_(queue.BEGUN),
        sa.or_(~known, there)).limit(1)).first() is not None


def adopt(change: Change, task: Record, found: FoundReplica) -> None:
    """Take one replica in: a rule that is not known is made anew, stopped; one that is known gets
    the points, the epoch and the failover that its target says it has."""
    ident = found.replica.rule
    rule = change.conn.execute(sa.select(_R).where(_R.c.id == ident)).one_or_none()
    if rule is not None and rule.deleted_at is not None:
        change.log("info", "rebuild.deleted", {"rule": rule.name}, task=task.id,
                   platform=task.platform)
        return
    if found.lineage is None:
        error = found.error or {}
        change.log("warning", "rebuild.unreadable", {
            "rule": ident, "storage": found.replica.storage, "error": error.get("code", ""),
            "detail": error.get("message", "")}, task=task.id, platform=task.platform)
        return
    lineage = found.lineage
    if rule is None:
        if lineage.head is None:
            change.log("info", "rebuild.empty", {"rule": ident}, task=task.id,
                       platform=task.platform)
            return
        if not _make(change, task, found, lineage, lineage.head.vm):
            return
    elif (rule.target, rule.storage) != (task.platform, found.replica.storage):
        # A copy that somebody made: what it says is not of this replica.
        change.log("warning", "rebuild.elsewhere", {"storage": found.replica.storage},
                   rule=ident, task=task.id)
        return
    elif live_task(change.conn, rule=ident) is not None:
        change.log("warning", "rebuild.busy", {}, rule=ident, task=task.id)
        return                          # it reads the target itself
    else:
        _find_source(change, task, found, rule)
    change.conn.execute(sa.update(_R).where(_R.c.id == ident, _R.c.epoch < lineage.epoch)
                        .values(epoch=lineage.epoch))
    known = None if rule is None else rule.latest_point
    catalogue.adopt(change, ident, [encode(m) for m in lineage.usable], change.now)
    if rule is not None and lineage.head is not None and lineage.head.number != known:
        change.log("info", "rebuild.adopted", {
            "known": known or 0, "found": lineage.head.number}, rule=ident, task=task.id)
    if found.running is not None:
        _standing(change, ident, found.running)


def _make(change: Change, task: Record, found: FoundReplica, lineage: Lineage,
          vm: VmDescription) -> bool:
    """The rule, with what its manifests say; the rest gets defaults, and the rule's log says so."""
    target = find_platform(change.conn, task.platform)
    source = _source_of(change.conn, vm.ref, target.id, found.running) or _unknown(change, task)
    ident = found.replica.rule
    other = _protecting(change.conn, vm_key(source, vm.ref))
    if other is not None:
        # A newer replica of the same machine has the rule; this one can still be failed over to.
        source = _unknown(change, task)
        if _protecting(change.conn, vm_key(source, vm.ref)) is not None:
            change.log("warning", "rebuild.third", {"rule": ident, "vm": vm.name, "other": other},
                       task=task.id, platform=task.platform)
            return False
    name = _free_name(change.conn, vm.name, ident)
    change.conn.execute(sa.insert(_R).values(
        id=ident, name=name, name_key=name_key(name), source=source.id, vm=vm.ref,
        vm_name=vm.name, vm_key=vm_key(source, vm.ref), target=target.id,
        storage=found.replica.storage, networks={}, machine=task.machine,
        replica_name=found.running.name if found.running is not None else vm.name,
        # No point may be merged away by the first run.
        retention=max(KINDS[target.kind].points, len(lineage.points)), quiesce="try",
        enabled=False, epoch=max(lineage.epoch, 1), state=RuleState.STOPPED.value,
        own_state=RuleState.STOPPED.value, created_at=change.now,
        created_by=task.requested_by))
    change.log("warning", "rebuild.made", {"points": len(lineage.points)}, rule=ident,
               task=task.id)
    if source.name == UNKNOWN:
        change.log("warning", "rebuild.twice" if other else "rebuild.no-source",
                   {"vm": vm.name, "other": other or ""}, rule=ident, task=task.id)
    return True


def _standing(change: Change, rule: str, running: Running) -> None:
    """A failover that the database does not know of is shown, so that it can be undone."""
    own = RuleState(change.conn.execute(sa.select(_R.c.own_state).where(
        _R.c.id == rule)).scalar_one())
    if own in RESTING:
        queue.move(change, rule, Event.FAIL_OVER)
        queue.move(change, rule, Event.FAILED_OVER, failover_point=running.number,
                   failover_detail=encode(running))
        change.log("warning", "rebuild.standing", {"point": running.number,
                                                   "name": running.name}, rule=rule)


# --- source ------------------------------------------------------------------------------------


def _source_of(conn: Connection, vm: str, target: str, running: Running | None) -> Record | None:
    """The platform that had the machine when it was read last; the target itself only when there
    is no other, and never when what runs there as this machine is its replica."""
    p, v = schema.platform, schema.platform_vm
    replica = running is not None and running.ref == vm
    return conn.execute(
        sa.select(p).join(v, v.c.platform == p.c.id)
        .where(v.c.ref == vm, p.c.deleted_at.is_(None), p.c.name != UNKNOWN,
               p.c.id != target if replica else sa.true())
        .order_by(p.c.id == target, p.c.created_at).limit(1)).one_or_none()


def _find_source(change: Change, task: Record, found: FoundReplica, rule: Record) -> None:
    """A rule without a source gets it once its platform is registered and read."""
    if find_platform(change.conn, rule.source).name != UNKNOWN:
        return
    source = _source_of(change.conn, rule.vm, rule.target, found.running)
    if source is not None and _protecting(change.conn, vm_key(source, rule.vm)) is None:
        change.conn.execute(sa.update(_R).where(_R.c.id == rule.id).values(
            source=source.id, vm_key=vm_key(source, rule.vm)))
        change.log("info", "rebuild.source-found", {"platform": source.name}, rule=rule.id,
                   task=task.id)


def _unknown(change: Change, task: Record) -> Record:
    p = schema.platform
    try:
        return find_platform(change.conn, UNKNOWN)
    except GiveUp:
        pass
    change.conn.execute(sa.insert(p).values(
        id=secrets.token_hex(4), name=UNKNOWN, name_key=name_key(UNKNOWN), kind="libvirt",
        uri="qemu+ssh://unknown.invalid/system", options={}, machine=task.machine,
        state="failed", product="", host_id="", verified=False, checks=[], places=[],
        error=Refused("rebuild.unknown-source").as_dict(), created_at=change.now))
    return find_platform(change.conn, UNKNOWN)


def _protecting(conn: Connection, key: str) -> str | None:
    """Name of the rule that protects a machine."""
    return conn.execute(sa.select(_R.c.name).where(
        _R.c.vm_key == key, _R.c.deleted_at.is_(None))).scalar()


def _free_name(conn: Connection, wanted: str, ident: str) -> str:
    try:
        name = check_name(wanted, "name")
    except HotspareError:
        name = "rebuilt"
    taken = conn.execute(sa.select(_R.c.id).where(
        _R.c.name_key == name_key(name), _R.c.deleted_at.is_(None))).first()
    return name if taken is None and name != "rebuilt" else f"{name[:50]} ({ident})"
