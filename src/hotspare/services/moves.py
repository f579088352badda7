"""Rules and platforms that go from one DR machine to another (design, section 7, rule 5)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.errors import GiveUp, Refused
from ..domain.rule_states import RuleState, visible
from ..store import Record, schema
from . import ends, queue
from .context import SERVICE, Actor, Change, Context
from .hub import machine_topic, rule_topic
from .platforms import find as find_platform
from .platforms import live_task, tasks_of
from .rules import Rules
from .rules import find as find_rule
from .runs import begin_run, reconsider
from .views import PlatformView, RuleView


class Moves:
    """The epoch of a rule grows with each move. The new machine fences the target and the source
    with it before it writes; whatever the old one still says of the rule is refused."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules

    def rule(self, actor: Actor, ref: str, machine: str) -> RuleView:
        """Give the rule to ``machine``. A queued task goes with it; a run that is under way ends,
        and begins there. Raises Refused ``rule.busy`` while a live machine does something else
        with it."""
        actor.need("operator")
        r, m = schema.rule, schema.machine
        with self._context.change() as change:
            rule = find_rule(change.conn, ref)
            to = _live_machine(change.conn, machine)
            if rule.machine == to.name:
                raise Refused("rule.move-same", name=rule.name, machine=to.name)
            task, sides = tasks_of(change.conn, rule.id)
            begun = task is not None and task.state in queue.BEGUN
            answers = change.conn.execute(sa.select(m.c.live).where(m.c.name == rule.machine)
                                          ).scalar_one()
            if task is not None and begun and task.kind != "replicate" and answers:
                raise Refused("rule.busy", kind=task.kind)
            change.conn.execute(sa.update(r).where(r.c.id == rule.id).values(
                machine=to.name, epoch=rule.epoch + 1,
                state=visible(RuleState(rule.own_state), True, to.busy is not None,
                              rule.schedule is not None).value))
            change.audit(actor, "rule.move", rule.id, machine=to.name, before=rule.machine,
                         epoch=rule.epoch + 1)
            change.log("info", "rule.moved", {"machine": to.name}, rule=rule.id)
            for side in sides:
                ends.end(change, side, "stopped",
                         error=GiveUp("rule.moved", machine=to.name).as_dict(), figures={})
            if task is not None and begun:
                self._end(change, rule, task, to.name)
            elif task is not None:
                _take_along(change, task, to.name, rule.epoch + 1)
            reconsider(change, id=rule.id)      # the old machine's ranges do not hold any more
            queue.dispatch(change)
            change.notify(rule_topic(rule.id), machine_topic(rule.machine), machine_topic(to.name))
        return self._rules.get(actor, rule.id)

    def _end(self, change: Change, rule: Record, task: Record, to: str) -> None:
        """End what the old machine was doing; a run that nobody stopped begins anew."""
        r = schema.rule
        if task.kind == "failover" and rule.failover_point is None:
            # The old machine may have started the replica: shown as standing it must be undone,
            # and the undo finds what there is.
            change.conn.execute(sa.update(r).where(r.c.id == rule.id)
                                .values(failover_point=task.point))
        run = task.kind == "replicate"
        ends.end(change, task, "stopped" if run else "failed",
                  error=GiveUp("rule.moved", machine=to).as_dict(), figures={})
        if run and not task.stop:
            change.conn.execute(sa.update(r).where(r.c.id == rule.id).values(
                enabled=rule.enabled, next_run_at=rule.next_run_at))
            begin_run(change, find_rule(change.conn, rule.id), SERVICE, "service")

    def platform(self, actor: Actor, ref: str, machine: str) -> PlatformView:
        """Let ``machine`` check and refresh the platform from now on."""
        actor.need("administrator")
        p, m = schema.platform, schema.machine
        with self._context.change() as change:
            row = find_platform(change.conn, ref)
            to = _live_machine(change.conn, machine).name
            answers = change.conn.execute(sa.select(m.c.live).where(m.c.name == row.machine)
                                          ).scalar_one()
            change.conn.execute(sa.update(p).where(p.c.id == row.id).values(machine=to))
            task = live_task(change.conn, platform=row.id)
            if task is not None and task.state == "queued":
                _take_along(change, task, to, task.epoch)
            elif task is not None and not answers:
                ends.end(change, task, "failed",
                          error=GiveUp("platform.moved", machine=to).as_dict(), figures={})
            queue.dispatch(change)
            change.audit(actor, "platform.move", row.id, machine=to, before=row.machine)
            change.notify(machine_topic(row.machine), machine_topic(to))
            return PlatformView.of(find_platform(change.conn, row.id))


def _take_along(change: Change, task: Record, to: str, epoch: int) -> None:
    t = schema.task
    values: dict[str, Any] = {"machine": to, "epoch": epoch}
    change.conn.execute(sa.update(t).where(t.c.id == task.id, t.c.state == "queued")
                        .values(**values))
    queue.refit(change, t.c.id == task.id)


def _live_machine(conn: Connection, name: str) -> Record:
    m = schema.machine
    row = conn.execute(sa.select(m).where(
        m.c.name == name.strip(), m.c.deleted_at.is_(None))).one_or_none()
    if row is None:
        raise GiveUp("machine.not-found", name=name)
    if not row.live or row.revoked_at is not None:
        raise Refused("machine.not-live", name=row.name)
    return row
