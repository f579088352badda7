"""Replication rules and what an operator does with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..domain.damage import size_of
from ..domain.errors import GiveUp, HotspareError, Refused
from ..domain.rule_states import Event, Operation, RuleState, refusal
from ..domain.schedule import next_run
from ..store import Record, schema
from . import chains, ends, failback, queue, rpo, rule_views
from .context import Actor, Change, Context
from .faults import Faults
from .hub import SCHEDULE, machine_topic, rule_topic, task_topic
from .live_progress import LiveProgress
from .names import name_key, page, slice_of
from .platforms import find as find_platform
from .platforms import live_task, tasks_of
from .rule_settings import PLACED, NewRule, checked, decoded, group_id, of
from .rule_state import OF_MACHINE
from .rule_views import Sort
from .runs import BATCH, begin_run, reconsider
from .views import ActionView, Page, PointView, RuleView

__all__ = ["NewRule", "Rules", "begin_run", "find"]


class Rules:
    def __init__(self, context: Context, progress: LiveProgress) -> None:
        self._context = context
        self._progress = progress

    # --- reading -------------------------------------------------------------------------------

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None,
             state: str | None = None, *, group: str | None = None, machine: str | None = None,
             source: str | None = None, target: str | None = None, text: str | None = None,
             sort: Sort = "name") -> Page[RuleView]:
        """A page of the rules that fit all that is given; ``group``, ``source`` and ``target``
        by id or name, ``text`` as a part of the rule's or the machine's name."""
        actor.need("viewer")
        with self._context.read() as conn:
            query = rule_views.listed(
                limit, cursor, sort, state=state, machine=machine, text=text,
                group=None if group is None else group_id(conn, group),
                source=None if source is None else find_platform(conn, source).id,
                target=None if target is None else find_platform(conn, target).id)
            shown = rule_views.views(conn, conn.execute(query).all(), self._progress)
        return page(shown, limit, cursor)

    def get(self, actor: Actor, ref: str) -> RuleView:
        actor.need("viewer")
        with self._context.read() as conn:
            return self._view(conn, find(conn, ref).id)

    def points(self, actor: Actor, ref: str, limit: int = 100, cursor: str | None = None
               ) -> Page[PointView]:
        """Restore points, newest first."""
        actor.need("viewer")
        p, t, other = schema.restore_point, schema.proof, schema.proof.alias()
        last = (sa.select(sa.func.max(other.c.id)).where(
            other.c.rule == p.c.rule, other.c.point == p.c.number, other.c.kind == "test")
            .scalar_subquery())
        with self._context.read() as conn:
            rule = find(conn, ref)
            rows = conn.execute(slice_of(
                sa.select(p, t.c.id.label("test"), t.c.verdict, t.c.at.label("tested_at"))
                .select_from(p).outerjoin(t, t.c.id == last).where(p.c.rule == rule.id)
                .order_by(p.c.number.desc()), limit, cursor)).all()
        return page([PointView(number=r.number, taken_at=r.taken_at, consistency=r.consistency,
                               note=r.note, size=r.size, moved=r.moved, task=r.task,
                               epoch=r.epoch, standing=r.number == rule.failover_point,
                               scrubbed_at=r.scrubbed_at, damaged_at=r.damaged_at,
                               damaged=size_of(r.damage or {}),
                               test=r.test, verdict=r.verdict, tested_at=r.tested_at)
                     for r in rows], limit, cursor)

    # --- settings ------------------------------------------------------------------------------

    def create(self, actor: Actor, new: NewRule) -> RuleView:
        """Make a rule, stopped. Raises one error with all faults of its fields (``rule.fields``,
        the faults by field), or Refused ``rule.duplicate`` naming the rule that protects the
        machine already."""
        actor.need("operator")
        with self._context.change() as change:
            faults = Faults()
            ident = insert(change, actor, new, faults)
            faults.throw()
            return self._view(change.conn, ident)

    def edit(self, actor: Actor, ref: str, given: Mapping[str, Any],
             revision: int | None = None) -> RuleView:
        """Change the settings that are ``given`` (in their JSON form, as of :class:`NewRule`);
        restore points stay. A task that runs goes on with what it began with, except the
        bandwidth, which changes at once.

        With ``revision`` (of the rule as the operator saw it) an edit that somebody else made
        meanwhile is not overwritten: Refused ``rule.edited``. Raises ``rule.placed`` when the
        replica would have to be elsewhere, and the faults of :meth:`create`."""
        actor.need("operator")
        r = schema.rule
        with self._context.change() as change:
            rule = find(change.conn, ref)
            if revision not in (None, rule.revision):
                raise Refused("rule.edited", name=rule.name, revision=rule.revision)
            task = live_task(change.conn, rule=rule.id)
            if task is not None and task.kind == "remove":
                raise Refused("rule.busy", kind=task.kind)
            before = of(rule)
            new = replace(before, **decoded(given))
            new = replace(new, **_same(change.conn, rule, new))
            moved = [f for f in PLACED if getattr(new, f) != getattr(before, f)]
            if moved and (rule.points or rule.last_task is not None or task is not None):
                raise Refused("rule.placed", name=rule.name, fields=", ".join(moved),
                              field=moved[0])
            faults = Faults()
            values = checked(change.conn, new, faults, rule)
            faults.throw()
            values = {k: v for k, v in values.items() if v != getattr(rule, k)}
            if not values:
                return self._view(change.conn, rule.id)
            with _unique(change, {c: getattr(rule, c) for c in _NAMED} | values):
                landed = change.conn.execute(
                    sa.update(r).where(r.c.id == rule.id, r.c.revision == rule.revision)
                    .values(revision=rule.revision + 1, **values)).rowcount
            if landed != 1:
                raise Refused("rule.edited", name=rule.name, revision=rule.revision + 1)
            if values.keys() & {"schedule", "time_zone"}:
                _reschedule(change, rule, new, task)
            if values.keys() & {"schedule", "time_zone", "bandwidth", "rpo_s"}:
                rpo.set_target(change, rule.id)
            if values.keys() & {"bandwidth", "time_zone"}:
                reconsider(change, id=rule.id)
                change.notify(machine_topic(rule.machine))
            change.audit(actor, "rule.edit", rule.id, **{
                k: [getattr(rule, k), v] for k, v in values.items() if k != "name_key"})
            change.log("info", "rule.edited-by", {
                "user": actor.name, "fields": ", ".join(sorted(values.keys() - {"name_key"}))},
                rule=rule.id)
            change.notify(rule_topic(rule.id))
            return self._view(change.conn, rule.id)

    # --- operations ----------------------------------------------------------------------------

    def start(self, actor: Actor, ref: str, *, compare: bool = False, repair: bool = False
              ) -> int:
        """Run now; a periodic rule then goes on by its schedule. Returns the task. ``compare``:
        read all of the source and send what differs, whatever its tracking says. ``repair``: mend
        what somebody else has changed at the target, instead of refusing to write there."""
        actor.need("operator")
        with self._context.change() as change:
            return _start(change, allowed(change, ref, Operation.START), actor,
                          compare=compare, repair=repair)

    def stop(self, actor: Actor, ref: str) -> RuleView:
        """End the schedule and the run, or the bulk phase of a failback. A queued run ends with
        this call, a running one stops at its next safe place and keeps what it has."""
        actor.need("operator")
        t = schema.task
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.STOP)
            task = live_task(change.conn, rule=rule.id)
            if task is None or task.kind == "replicate":
                change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == rule.id)
                                    .values(enabled=False, next_run_at=None, pause=None))
            if task is None:
                if RuleState(rule.own_state) is RuleState.IDLE:
                    queue.move(change, rule.id, Event.HALT)
            elif task.state == "queued":
                ends.end(change, task, "stopped", error=None, figures={})
            else:
                change.conn.execute(sa.update(t).where(t.c.id == task.id).values(stop=True))
                change.notify(task_topic(task.id), machine_topic(task.machine))
            change.notify(rule_topic(rule.id))
            change.audit(actor, "rule.stop", rule.id, task=task.id if task else None)
            return self._view(change.conn, rule.id)

    def delete(self, actor: Actor, ref: str, delete_replica: bool | None = None,
               force: bool = False) -> int:
        """Clean the source, and the target when asked (None: as the rule's setting says), then
        forget the rule. Returns the task; the rule is gone when that has ended well."""
        actor.need("operator")
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.DELETE)
            if delete_replica is None:
                delete_replica = rule.delete_replica
            if rule.own_state == RuleState.PERMANENT_FAILOVER.value:
                delete_replica = False      # it is the machine now
            queue.move(change, rule.id, Event.REMOVE)
            task = self._queue(change, "remove", actor, rule,
                               arguments={"delete_replica": delete_replica, "force": force})
            change.audit(actor, "rule.delete", rule.id, task=task, delete_replica=delete_replica,
                         force=force)
            return task

    def failover(self, actor: Actor, ref: str, point: int | None, *, unplugged: bool = False,
                 allow_duplicate_mac: bool = False, damaged: bool = False) -> int:
        """Run from the replica at ``point`` (None: the newest that is not known to be damaged; a
        damaged one only where that is allowed). While the source runs, only with the replica's
        network cards ``unplugged``, or two machines of one address allowed. Returns the task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.FAILOVER)
            task = self._fail_over(change, actor, rule, point, damaged, unplugged=unplugged,
                                   allow_duplicate_mac=allow_duplicate_mac)
            change.audit(actor, "rule.failover", rule.id, task=task, point=point,
                         unplugged=unplugged, allow_duplicate_mac=allow_duplicate_mac,
                         damaged=damaged)
            return task

    def planned(self, actor: Actor, ref: str, grace_s: float, power_off: bool) -> int:
        """Run, shut the source down through its guest (``power_off``: cut its power when it has
        not shut down after ``grace_s`` seconds), run again, and run from the replica: nothing is
        lost. Returns the first of its tasks."""
        actor.need("operator")
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.PLANNED)
            task = chains.begin_planned(change, rule, actor,
                                        {"grace_s": grace_s, "power_off": power_off})
            change.audit(actor, "rule.planned-failover", rule.id, task=task, power_off=power_off)
            return task

    def _fail_over(self, change: Change, actor: Actor, rule: Record, point: int | None,
                   damaged: bool, **arguments: Any) -> int:
        number = _point(change, rule, point, damaged)
        queue.move(change, rule.id, Event.FAIL_OVER)
        return self._queue(change, "failover", actor, rule, point=number, arguments=arguments)

    def undo(self, actor: Actor, ref: str) -> int:
        """Throw the replica's own writes away and go back to replicating. Returns the task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.UNDO)
            queue.move(change, rule.id, Event.UNDO)
            task = self._queue(change, "undo", actor, rule, point=rule.failover_point)
            change.audit(actor, "rule.undo", rule.id, task=task)
            return task

    def permanent(self, actor: Actor, ref: str, point: int | None, confirm: str,
                  damaged: bool = False) -> int:
        """The replica becomes the machine: as it runs, or failed over to ``point`` (as
        :meth:`failover`) first. There is no way back, so ``confirm`` has to name the machine.
        Returns the first task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.PERMANENT)
            if confirm.strip() != rule.vm_name:
                raise Refused("rule.confirm", vm=rule.vm_name, name=rule.name)
            if RuleState(rule.own_state) is RuleState.TEMPORARY_FAILOVER:
                if point not in (None, rule.failover_point):
                    raise Refused("rule.point-stands", name=rule.name, point=point,
                                  stands=rule.failover_point)
                task = chains.begin_permanent(change, rule, actor)
            else:
                task = self._fail_over(change, actor, rule, point, damaged, permanent=True)
            change.audit(actor, "rule.permanent", rule.id, task=task, point=point)
            return task

    def failback(self, actor: Actor, ref: str, *, shut_down: bool = False, grace_s: float = 300,
                 power_off: bool = False, leave_disks: bool = False,
                 place: failback.NewHome | None = None) -> int:
        """Copy what differs back into the source's disks while the replica runs; repeatable. The
        source has to be off; ``shut_down`` does that through its guest (``power_off``: cut its
        power after ``grace_s`` seconds). ``leave_disks``: disks that only one of them has stay
        as they are. ``place``: into a machine that is made there. Returns the task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.FAILBACK)
            task = failback.begin_bulk(change, rule, actor, {
                "shut_down": shut_down, "grace_s": grace_s, "power_off": power_off,
                "leave_disks": leave_disks}, place)
            change.audit(actor, "rule.failback", rule.id, task=task, shut_down=shut_down,
                         power_off=power_off, leave_disks=leave_disks,
                         place=None if place is None else place.platform)
            return task

    def switch_back(self, actor: Actor, ref: str, *, grace_s: float = 300,
                    power_off: bool = False, leave_disks: bool = False,
                    commit_after_s: float | None = None) -> int:
        """Shut the replica down (``power_off``: cut its power after ``grace_s`` seconds), copy
        the rest, start the source. It commits itself after ``commit_after_s`` seconds; None: by
        hand only. Returns the task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.SWITCH_BACK)
            task = failback.begin_switch(change, rule, actor, {
                "grace_s": grace_s, "power_off": power_off, "leave_disks": leave_disks,
                "commit_after_s": commit_after_s})
            change.audit(actor, "rule.switch-back", rule.id, task=task, power_off=power_off,
                         commit_after_s=commit_after_s)
            return task

    def commit_failback(self, actor: Actor, ref: str) -> int:
        """Replication goes on from the source; there is no undo any more. Returns the task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.COMMIT_FAILBACK)
            task = failback.begin_commit(change, rule, actor)
            change.audit(actor, "rule.commit-failback", rule.id, task=task)
            return task

    def undo_failback(self, actor: Actor, ref: str, confirm: str = "") -> int:
        """The source becomes what it was before and goes off, the replica goes on. What the
        source (at a new place: the machine that was made there, which is removed) wrote since the
        switch is lost, so ``confirm`` has to name it then. Returns the task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = allowed(change, ref, Operation.UNDO_FAILBACK)
            state = rule.failback or {}
            machine = rule.vm_name if state.get("place") is None else state["place"]["name"]
            if state.get("switched") and confirm.strip() != machine:
                raise Refused("failback.confirm-undo", vm=machine, name=rule.name)
            task = failback.begin_undo(change, rule, actor)
            change.audit(actor, "rule.undo-failback", rule.id, task=task)
            return task

    def act(self, actor: Actor, action: Literal["start", "stop", "delete"], refs: Sequence[str],
            *, delete_replica: bool | None = None, force: bool = False
            ) -> Sequence[ActionView]:
        """The same for many rules (M17), each for itself: what became of it, in their order."""
        actor.need("operator")
        if action == "start":
            return [done for first in range(0, len(refs), BATCH)
                    for done in self._start_some(actor, refs[first:first + BATCH])]
        done = []
        for ref in refs:
            try:
                if action == "stop":
                    task = self.stop(actor, ref).live_task
                else:
                    task = self.delete(actor, ref, delete_replica, force)
                done.append(_done(ref, task))
            except HotspareError as error:
                done.append(_not_done(ref, error))
        return done

    def _start_some(self, actor: Actor, refs: Sequence[str]) -> Sequence[ActionView]:
        """In one change: the database's lock, its commit and the dispatch once for all."""
        done, begun = [], {}
        try:
            with self._context.change() as change:
                for ref in refs:
                    try:
                        rule = allowed(change, ref, Operation.START)
                    except HotspareError as error:
                        done.append(_not_done(ref, error))
                    else:
                        task = _start(change, rule, actor, dispatch=False)
                        begun[task] = rule.id
                        done.append(_done(ref, task))
                queue.begin(change, begun)
        except HotspareError:       # none was begun: one after the other tells whose fault it is
            return [self._start_alone(actor, ref) for ref in refs]
        return done

    def _start_alone(self, actor: Actor, ref: str) -> ActionView:
        try:
            return _done(ref, self.start(actor, ref))
        except HotspareError as error:
            return _not_done(ref, error)

    def _view(self, conn: Connection, ident: str) -> RuleView:
        return rule_views.one(conn, ident, self._progress)

    def _queue(self, change: Change, kind: Any, actor: Actor, rule: Record,
               **values: Any) -> int:
        return queue.enqueue(change, kind, actor, machine=rule.machine,
                             rule=rule.id, epoch=rule.epoch, **values)


def _start(change: Change, rule: Record, actor: Actor, *, dispatch: bool = True,
           compare: bool = False, repair: bool = False) -> int:
    options = {"compare": compare, "repair": repair}
    task = begin_run(change, rule, actor, "manual", dispatch,
                     {k: True for k, wanted in options.items() if wanted})
    change.audit(actor, "rule.start", rule.id, task=task, **options)
    return task


def _done(ref: str, task: int | None) -> ActionView:
    return ActionView(rule=ref, ok=True, task=task, error=None)


def _not_done(ref: str, error: HotspareError) -> ActionView:
    return ActionView(rule=ref, ok=False, task=None, error=error.as_dict())


def _point(change: Change, rule: Record, point: int | None, damaged: bool) -> int:
    """The restore point to run from. None: the newest that is not known to be damaged; that
    newer ones are passed over is said."""
    p = schema.restore_point
    known: dict[int, bool] = {row.number: row.damaged_at is not None for row in change.conn.execute(
        sa.select(p.c.number, p.c.damaged_at).where(p.c.rule == rule.id).order_by(p.c.number))}
    good = [number for number, bad in known.items() if damaged or not bad]
    if point is not None:
        if point not in known:
            raise GiveUp("rule.no-such-point", rule=rule.name, point=point,
                         known=", ".join(map(str, known)))
        if point not in good:
            raise Refused("rule.point-damaged", name=rule.name, point=point,
                          good=", ".join(map(str, good)) or "-")
        return point
    if not good:
        raise Refused("rule.all-damaged", name=rule.name)
    passed = [number for number in known if number > good[-1]]
    if passed:
        change.log("warning", "failover.passed-over", {
            "point": good[-1], "points": ", ".join(map(str, passed))}, rule=rule.id)
    return good[-1]


def insert(change: Change, actor: Actor, new: NewRule, faults: Faults,
           group: str | None = None) -> str:
    """A new rule's row, stopped; nothing when there are ``faults``. Returns its id. ``group`` is
    the id of one that is being made."""
    ident = change.unused_id(schema.rule)
    values = checked(change.conn, new, faults)
    if faults.by_field:
        return ident
    if group is not None:
        values["group"] = group
    with _unique(change, values | {"id": ident}):
        change.conn.execute(sa.insert(schema.rule).values(
            id=ident, enabled=False, epoch=1, state=RuleState.STOPPED.value,
            own_state=RuleState.STOPPED.value, created_at=change.now, created_by=actor.name,
            **values))
    change.audit(actor, "rule.create", ident, name=values["name"], vm=values["vm"],
                 source=values["source"], target=values["target"])
    change.log("info", "rule.created", {"user": actor.name}, rule=ident)
    return ident


_NAMED: Final = ("id", "name", "source", "vm", "vm_name", "vm_key")


@contextmanager
def _unique(change: Change, values: Mapping[str, Any]) -> Iterator[None]:
    """The checks before have read what was committed then. Where the write lock does not keep
    others out, somebody may have made such a rule since: the database says so, and which."""
    r, p = schema.rule, schema.platform
    savepoint = change.conn.begin_nested()
    try:
        yield
        savepoint.commit()
    except IntegrityError as error:
        savepoint.rollback()
        other = change.conn.execute(sa.select(r.c.name).where(
            r.c.deleted_at.is_(None), r.c.id != values["id"], sa.or_(
                r.c.vm_key == values["vm_key"],
                sa.and_(r.c.source == values["source"], r.c.vm == values["vm"])))).scalar()
        if other is None:
            raise Refused("rule.exists", name=values["name"]) from error
        platform = change.conn.execute(
            sa.select(p.c.name).where(p.c.id == values["source"])).scalar()
        raise Refused("rule.duplicate", vm=values["vm_name"], platform=platform,
                      rule=other) from error


def _same(conn: Connection, rule: Record, new: NewRule) -> dict[str, Any]:
    """Platforms and the machine by their ids: another way to name the same is no change."""
    p = schema.platform
    named = {f: name_key(getattr(new, f)) for f in ("source", "target")}
    ids = {row.name_key: row.id for row in conn.execute(sa.select(p.c.id, p.c.name_key).where(
        p.c.deleted_at.is_(None), p.c.name_key.in_(named.values())))}
    same = {f: ids[key] for f, key in named.items() if key in ids}
    return same | ({"vm": rule.vm} if new.vm == rule.vm_name else {})


def _reschedule(change: Change, rule: Record, new: NewRule, task: Record | None) -> None:
    """The next start by the new schedule. An interval counts from the last start."""
    r, t = schema.rule, schema.task
    if (rule.schedule is None) != (new.schedule is None):
        queue.rescheduled(change, rule.id)
    runs = task is not None and task.kind == "replicate" and not task.stop
    if new.schedule is None or not (rule.enabled or runs):
        return
    last = change.conn.execute(sa.select(sa.func.max(t.c.created_at)).where(
        t.c.rule == rule.id, t.c.kind == "replicate")).scalar()
    change.conn.execute(sa.update(r).where(r.c.id == rule.id).values(
        enabled=True, pause=rule.pause if runs else None, next_run_at=next_run(
            new.schedule, new.time_zone, change.now, None if new.schedule.at else last)))
    change.notify(SCHEDULE)


_R, _M = schema.rule, schema.machine
_FIND: Final = (
    sa.select(_R, *OF_MACHINE).join(_M, _M.c.name == _R.c.machine)
    .where(_R.c.deleted_at.is_(None), sa.or_(_R.c.id == sa.bindparam("ref"),
                                             _R.c.name_key == sa.bindparam("key"))))


def find(conn: Connection, ref: str) -> Record:
    """A rule by its id or its name, with :data:`OF_MACHINE`."""
    row = conn.execute(_FIND, {"ref": ref, "key": name_key(ref)}).one_or_none()
    if row is None:
        raise GiveUp("rule.not-found", name=ref)
    return row


def allowed(change: Change, ref: str, operation: Operation) -> Record:
    """The rule, when ``operation`` is allowed now; otherwise raises the reason."""
    rule = find(change.conn, ref)
    refuse(change, rule, operation)
    return rule


def refuse(change: Change, rule: Record, operation: Operation) -> None:
    """Raise the reason why ``operation`` is not allowed now, if it is not."""
    live, side = tasks_of(change.conn, rule.id)
    code = refusal(operation, RuleState(rule.state), rule.points > 0, live.kind if live else None,
                   rule.failback, [x.kind for x in side])
    if code is not None:
        same = [x for x in side if x.kind == operation]
        task = next((x for x in (*same, live, *side) if x is not None), None)
        raise Refused(code, name=rule.name, rule=rule.id, state=rule.state,
                      operation=operation.value, kind=task.kind if task else "", vm=rule.vm_name,
                      task=task.id if task else 0, machine=rule.machine,
                      point=rule.failover_point or 0)
