"""Replication rules and what an operator does with them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..domain.errors import GiveUp, HotspareError, Refused
from ..domain.messages import text_of
from ..domain.rule_states import CHINESE, Event, Operation, RuleState, operations, refusal
from ..platforms.port import Quiesce
from ..store import Record, schema
from . import queue
from .context import Actor, Change, Context
from .hub import SCHEDULE, machine_topic, rule_topic, task_topic
from .names import check_name, name_key, page, slice_of
from .platforms import find as find_platform
from .platforms import live_task
from .views import Page, PointView, RuleView, explained

RETENTION = (1, 100)
INTERVAL_S = (10, 31 * 24 * 3600)


@dataclass(frozen=True, slots=True)
class NewRule:
    """What a rule is made of. ``vm`` is the machine's lasting id or its name."""

    name: str
    source: str
    vm: str
    target: str
    storage: str
    replica_name: str | None = None
    networks: dict[str, str] = field(default_factory=dict)
    retention: int = 7
    quiesce: Quiesce = "try"
    interval_s: int | None = None
    bandwidth: int | None = None


class Rules:
    def __init__(self, context: Context) -> None:
        self._context = context

    # --- reading -------------------------------------------------------------------------------

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None,
             state: str | None = None) -> Page[RuleView]:
        actor.need("viewer")
        query = _SELECT.order_by(schema.rule.c.name_key)
        if state is not None:
            query = query.where(schema.rule.c.state == state)
        with self._context.read() as conn:
            rows = conn.execute(slice_of(query, limit, cursor)).all()
        return page([_view(r) for r in rows], limit, cursor)

    def get(self, actor: Actor, ref: str) -> RuleView:
        actor.need("viewer")
        with self._context.read() as conn:
            return _get(conn, ref)

    def points(self, actor: Actor, ref: str, limit: int = 100, cursor: str | None = None
               ) -> Page[PointView]:
        """Restore points, newest first."""
        actor.need("viewer")
        p = schema.restore_point
        with self._context.read() as conn:
            rule = find(conn, ref)
            rows = conn.execute(slice_of(
                sa.select(p).where(p.c.rule == rule.id).order_by(p.c.number.desc()),
                limit, cursor)).all()
        return page([PointView(number=r.number, taken_at=r.taken_at, consistency=r.consistency,
                               note=r.note, size=r.size, moved=r.moved, task=r.task,
                               epoch=r.epoch, standing=r.number == rule.failover_point)
                     for r in rows], limit, cursor)

    # --- changing ------------------------------------------------------------------------------

    def create(self, actor: Actor, new: NewRule) -> RuleView:
        """Make a rule, stopped. Raises one error with all faults of its fields (``rule.fields``,
        the faults by field), or Refused ``rule.duplicate`` naming the rule that protects the
        machine already."""
        actor.need("operator")
        ident = secrets.token_hex(4)
        with self._context.change() as change:
            values = _validated(change.conn, new)
            try:
                change.conn.execute(sa.insert(schema.rule).values(
                    id=ident, enabled=False, epoch=1, state=RuleState.STOPPED.value,
                    own_state=RuleState.STOPPED.value, created_at=change.now,
                    created_by=actor.name, **values))
            except IntegrityError as error:     # the checks above read under the write lock;
                raise Refused("rule.exists", name=new.name) from error   # for other databases
            change.audit(actor, "rule.create", ident, name=values["name"], vm=values["vm"],
                         source=values["source"], target=values["target"])
            change.log("info", "rule.created", {"user": actor.name}, rule=ident)
            return _get(change.conn, ident)

    def start(self, actor: Actor, ref: str) -> int:
        """Run now; a periodic rule then goes on by its interval. Returns the task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = _allowed(change, ref, Operation.START)
            task = begin_run(change, self._context, rule, actor, "manual")
            change.audit(actor, "rule.start", rule.id, task=task)
            return task

    def stop(self, actor: Actor, ref: str) -> RuleView:
        """End the schedule and the run. A queued run ends with this call, a running one stops
        at its next safe place and keeps what it has."""
        actor.need("operator")
        t = schema.task
        with self._context.change() as change:
            rule = _allowed(change, ref, Operation.STOP)
            change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == rule.id)
                                .values(enabled=False, next_run_at=None))
            task = live_task(change.conn, rule=rule.id)
            if task is None:
                if RuleState(rule.own_state) is RuleState.IDLE:
                    queue.move(change, rule.id, Event.HALT)
            elif task.state == "queued":
                queue.end(change, self._context.limits, task, "stopped",
                          error=None, figures={})
            else:
                change.conn.execute(sa.update(t).where(t.c.id == task.id).values(stop=True))
                change.notify(task_topic(task.id), machine_topic(task.machine))
            change.notify(rule_topic(rule.id))
            change.audit(actor, "rule.stop", rule.id, task=task.id if task else None)
            return _get(change.conn, rule.id)

    def delete(self, actor: Actor, ref: str, delete_replica: bool, force: bool = False) -> int:
        """Clean the source, and the target when asked, then forget the rule. Returns the task;
        the rule is gone when that has ended well."""
        actor.need("operator")
        with self._context.change() as change:
            rule = _allowed(change, ref, Operation.DELETE)
            if rule.own_state == RuleState.PERMANENT_FAILOVER.value:
                delete_replica = False      # it is the machine now
            queue.move(change, rule.id, Event.REMOVE)
            task = self._queue(change, "remove", actor, rule,
                               arguments={"delete_replica": delete_replica, "force": force})
            change.audit(actor, "rule.delete", rule.id, task=task, delete_replica=delete_replica,
                         force=force)
            return task

    def failover(self, actor: Actor, ref: str, point: int | None) -> int:
        """Run from the replica at ``point`` (None: the newest). Returns the task."""
        actor.need("operator")
        p = schema.restore_point
        with self._context.change() as change:
            rule = _allowed(change, ref, Operation.FAILOVER)
            known = change.conn.execute(sa.select(p.c.number).where(p.c.rule == rule.id)
                                        .order_by(p.c.number)).scalars().all()
            number = known[-1] if point is None else point
            if number not in known:
                raise GiveUp("rule.no-such-point", rule=rule.name, point=number,
                             known=", ".join(map(str, known)))
            queue.move(change, rule.id, Event.FAIL_OVER)
            task = self._queue(change, "failover", actor, rule, point=number)
            change.audit(actor, "rule.failover", rule.id, task=task, point=number)
            return task

    def undo(self, actor: Actor, ref: str) -> int:
        """Throw the replica's own writes away and go back to replicating. Returns the task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = _allowed(change, ref, Operation.UNDO)
            queue.move(change, rule.id, Event.UNDO)
            task = self._queue(change, "undo", actor, rule, point=rule.failover_point)
            change.audit(actor, "rule.undo", rule.id, task=task)
            return task

    def _queue(self, change: Change, kind: Any, actor: Actor, rule: Record,
               **values: Any) -> int:
        return queue.enqueue(change, self._context.limits, kind, actor, machine=rule.machine,
                             rule=rule.id, epoch=rule.epoch, **values)


def begin_run(change: Change, context: Context, rule: Record, actor: Actor,
              trigger: str) -> int:
    """Queue a run of a rule that is at rest; its next start is one interval after this one."""
    values: dict[str, Any] = {}
    if rule.interval_s is not None:
        due = (rule.next_run_at or change.now) + rule.interval_s
        # Missed starts are coalesced into this one: the grid begins anew with it.
        values = {"enabled": True, "next_run_at":
                  due if trigger == "schedule" and due > change.now
                  else change.now + rule.interval_s}
    queue.move(change, rule.id, Event.START, **values)
    change.notify(SCHEDULE)
    return queue.enqueue(change, context.limits, "replicate", actor, machine=rule.machine,
                         rule=rule.id, epoch=rule.epoch, trigger=trigger)


def find(conn: Connection, ref: str) -> Record:
    """A rule by its id or its name."""
    t = schema.rule
    row = conn.execute(sa.select(t).where(
        t.c.deleted_at.is_(None), sa.or_(t.c.id == ref, t.c.name_key == name_key(ref)))
    ).one_or_none()
    if row is None:
        raise GiveUp("rule.not-found", name=ref)
    return row


def _allowed(change: Change, ref: str, operation: Operation) -> Record:
    """The rule, when ``operation`` is allowed now; otherwise raises the reason."""
    p = schema.restore_point
    rule = find(change.conn, ref)
    task = live_task(change.conn, rule=rule.id)
    has_point = change.conn.execute(
        sa.select(p.c.number).where(p.c.rule == rule.id).limit(1)).scalar() is not None
    code = refusal(operation, RuleState(rule.state), has_point, task.kind if task else None)
    if code is not None:
        raise Refused(code, name=rule.name, rule=rule.id, state=rule.state,
                      operation=operation.value, kind=task.kind if task else "",
                      task=task.id if task else 0, machine=rule.machine,
                      point=rule.failover_point or 0)
    return rule


# --- validation --------------------------------------------------------------------------------


def _validated(conn: Connection, new: NewRule) -> dict[str, Any]:
    """The row's values. All faults are found in one go, each at its field."""
    faults: dict[str, HotspareError] = {}

    def attempt(at: str, check: Any) -> Any:
        try:
            return check()
        except HotspareError as error:
            faults.setdefault(at, error)
            return None

    name = attempt("name", lambda: check_name(new.name, "name"))
    if name is not None:
        attempt("name", lambda: _name_free(conn, name))
    source = attempt("source", lambda: find_platform(conn, new.source))
    target = attempt("target", lambda: find_platform(conn, new.target))
    vm = attempt("vm", lambda: _vm(conn, source, new.vm)) if source is not None else None
    if vm is not None:
        attempt("vm", lambda: _unprotected(conn, source, vm))
    if target is not None:
        attempt("storage", lambda: _storage(target, new.storage))
        for network in new.networks.values():
            attempt("networks", lambda n=network: _network(target, n))
    replica = None
    if vm is not None and target is not None and "vm" not in faults:
        replica = attempt("replica_name", lambda: _replica_name(conn, source, target, vm, new))
    _within(faults, "retention", new.retention, RETENTION)
    if new.interval_s is not None:
        _within(faults, "interval_s", new.interval_s, INTERVAL_S)
    if new.bandwidth is not None and new.bandwidth < 0:
        faults["bandwidth"] = Refused("input.range", field="bandwidth", smallest=0,
                                      largest=2**63 - 1)
    if faults:
        raise _as_one(faults)
    assert source is not None and target is not None and vm is not None
    return {
        "name": name, "name_key": name_key(str(name)), "source": source.id, "vm": vm.ref,
        "vm_name": vm.name, "target": target.id, "storage": new.storage,
        "replica_name": replica, "networks": new.networks, "machine": target.machine,
        "retention": new.retention, "quiesce": new.quiesce, "bandwidth": new.bandwidth,
        "interval_s": new.interval_s}


def _as_one(faults: dict[str, HotspareError]) -> HotspareError:
    """One fault is raised as it is; several are named by field."""
    if len(faults) == 1:
        return next(iter(faults.values()))
    return Refused("rule.fields", **{at: str(error) for at, error in faults.items()},
                   summary="; ".join(f"{at}: {str(e.as_dict()['message']).rstrip('.')}"
                                     for at, e in faults.items()))


def _within(faults: dict[str, HotspareError], at: str, value: int,
            allowed: tuple[int, int]) -> None:
    if not allowed[0] <= value <= allowed[1]:
        faults[at] = Refused("input.range", field=at, smallest=allowed[0], largest=allowed[1])


def _name_free(conn: Connection, name: str) -> None:
    t = schema.rule
    if conn.execute(sa.select(t.c.id).where(
            t.c.deleted_at.is_(None), t.c.name_key == name_key(name))).scalar() is not None:
        raise Refused("rule.exists", name=name)


def _vm(conn: Connection, source: Record, ref: str) -> Record:
    if source.refreshed_at is None:
        raise Refused("platform.not-refreshed", name=source.name)
    v = schema.platform_vm
    found = conn.execute(sa.select(v).where(
        v.c.platform == source.id, sa.or_(v.c.ref == ref, v.c.name == ref))).all()
    exact = [r for r in found if r.ref == ref] or found
    if not exact:
        raise GiveUp("vm.unknown", vm=ref, platform=source.name)
    if len(exact) > 1:
        raise Refused("vm.ambiguous", vm=ref, platform=source.name)
    vm = exact[0]
    if not vm.protectable:
        why = text_of(vm.reason, {"vm": vm.name} | vm.fields)
        raise Refused("vm.unprotectable", vm=vm.name, reason=why.message, cause=vm.reason,
                      help=why.remedy)
    return vm


def _unprotected(conn: Connection, source: Record, vm: Record) -> None:
    """No rule protects the machine: neither through this platform, nor through another
    registration of the same host."""
    r, p = schema.rule, schema.platform
    same_host = sa.and_(p.c.host_id == source.host_id, sa.literal(source.host_id) != "")
    other = conn.execute(
        sa.select(r.c.name).join(p, p.c.id == r.c.source)
        .where(r.c.deleted_at.is_(None), r.c.vm == vm.ref,
               sa.or_(r.c.source == source.id, same_host))).scalar()
    if other is not None:
        raise Refused("rule.duplicate", vm=vm.name, platform=source.name, rule=other)


def _places(target: Record, kind: str) -> dict[str, dict[str, Any]]:
    return {p["name"]: p for p in target.places if p["kind"] == kind}


def _storage(target: Record, storage: str) -> None:
    if target.refreshed_at is None:
        raise Refused("platform.not-refreshed", name=target.name)
    known = _places(target, "storage")
    place = known.get(storage)
    if place is None:
        raise GiveUp("storage.unknown", storage=storage, platform=target.name,
                     known=", ".join(sorted(known)) or "-")
    if not place["usable"]:
        raise Refused("storage.unusable", storage=storage, platform=target.name,
                      reason=text_of(place["reason"], {}).message)


def _network(target: Record, network: str) -> None:
    known = _places(target, "network")
    if target.refreshed_at is not None and network not in known:
        raise GiveUp("network.unknown", network=network, platform=target.name,
                     known=", ".join(sorted(known)) or "-")


def _replica_name(conn: Connection, source: Record, target: Record, vm: Record,
                  new: NewRule) -> str:
    """The name that the replica runs under: the machine's own, unless that is taken there."""
    r, v = schema.rule, schema.platform_vm
    if new.replica_name is not None:
        name = check_name(new.replica_name, "replica_name")
    else:
        same = source.id == target.id or (source.host_id and source.host_id == target.host_id)
        name = f"{vm.name}-replica" if same else str(vm.name)
    taken = conn.execute(sa.select(v.c.name).where(
        v.c.platform == target.id, v.c.name == name)).first()
    if taken is not None:
        raise Refused("rule.replica-name-taken", replica=name, platform=target.name, by="-")
    other = conn.execute(sa.select(r.c.name).where(
        r.c.deleted_at.is_(None), r.c.target == target.id, r.c.replica_name == name)).scalar()
    if other is not None:
        raise Refused("rule.replica-name-taken", replica=name, platform=target.name, by=other)
    return name


# --- views -------------------------------------------------------------------------------------


def _make_select() -> sa.Select[Any]:
    r, t, p = schema.rule, schema.task, schema.restore_point
    source, target = schema.platform.alias(), schema.platform.alias()
    points = (sa.select(p.c.rule, sa.func.count().label("points"),
                        sa.func.max(p.c.number).label("latest_point"),
                        sa.func.max(p.c.taken_at).label("latest_point_at"))
              .group_by(p.c.rule).subquery())
    return (sa.select(r, source.c.name.label("source_name"), target.c.name.label("target_name"),
                      points.c.points, points.c.latest_point, points.c.latest_point_at,
                      t.c.id.label("live_task"), t.c.kind.label("live_kind"),
                      t.c.reason.label("live_reason"))
            .join(source, source.c.id == r.c.source).join(target, target.c.id == r.c.target)
            .outerjoin(points, points.c.rule == r.c.id)
            .outerjoin(t, sa.and_(t.c.rule == r.c.id, t.c.state != "ended"))
            .where(r.c.deleted_at.is_(None)))


_SELECT = _make_select()        # made once: building it costs more than running it


def _get(conn: Connection, ref: str) -> RuleView:
    ident = find(conn, ref).id
    return _view(conn.execute(_SELECT.where(schema.rule.c.id == ident)).one())


def _view(row: Record) -> RuleView:
    state = RuleState(row.state)
    allowed = operations(state, bool(row.points), row.live_kind)
    return RuleView(
        id=row.id, name=row.name, source=row.source, source_name=row.source_name, vm=row.vm,
        vm_name=row.vm_name, target=row.target, target_name=row.target_name,
        storage=row.storage, replica_name=row.replica_name, networks=row.networks,
        machine=row.machine, retention=row.retention, quiesce=row.quiesce,
        bandwidth=row.bandwidth, interval_s=row.interval_s, enabled=row.enabled,
        next_run_at=row.next_run_at, epoch=row.epoch, state=state.value,
        state_zh=CHINESE[state], operations=[o.value for o in Operation if o in allowed],
        points=row.points or 0, latest_point=row.latest_point,
        latest_point_at=row.latest_point_at, failover_point=row.failover_point,
        failover_detail=row.failover_detail, last_result=row.last_result,
        last_error=row.last_error, last_task=row.last_task, last_success_at=row.last_success_at,
        live_task=row.live_task, waits_for=explained(row.live_reason),
        created_at=row.created_at, created_by=row.created_by)
