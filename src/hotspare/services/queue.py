"""The queue of tasks: put in, give to machines within the limits, take back. Part of a change.

The dispatcher is a function that runs at the end of the transaction that made something
possible (a task queued or ended, a machine that came back), so a task that can run is with its
machine when the caller has its answer, nothing polls, and limits hold by the write lock.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..domain.codec import encode
from ..domain.errors import Refused
from ..domain.rule_states import SAVES_BEFORE, Event, RuleState, advance, visible
from ..store import Record, schema
from ..workflows.link import RuleSettings, TaskKind
from .context import Actor, Change, Limits
from .hub import SCHEDULE, machine_topic, rule_topic, task_topic

COUNTED: Final = frozenset({"replicate", "remove"})
"""Kinds that the limits count. A failover is an instant boot and does not count (M19), and
neither do the short calls that refresh and check a platform."""

PRIORITY: Final[dict[TaskKind, int]] = {"failover": 10, "undo": 10, "check": 20, "refresh": 20,
                                        "remove": 50, "replicate": 100}
LIVE: Final = ("queued", "dispatched", "running")
BEGUN: Final = ("dispatched", "running")


def move(change: Change, rule: str, event: Event, **values: Any) -> RuleState:
    """Advance a rule and set ``values`` with it. Raises IllegalTransition, changing nothing."""
    t = schema.rule
    row = change.conn.execute(
        sa.select(t.c.own_state, t.c.state, t.c.state_before, schema.machine.c.live)
        .join(schema.machine, schema.machine.c.name == t.c.machine)
        .where(t.c.id == rule)).one()
    own = RuleState(row.own_state)
    before = RuleState(row.state_before) if row.state_before else None
    to = advance(own, event, before)
    shown = visible(to, bool(row.live))
    if event in SAVES_BEFORE:
        values["state_before"] = own.value
    landed = change.conn.execute(
        sa.update(t).where(t.c.id == rule, t.c.own_state == own.value)
        .values(own_state=to.value, state=shown.value, **values)).rowcount
    assert landed == 1, "the write lock is held: nobody else can have moved it"
    change.notify(rule_topic(rule))
    return shown


def enqueue(change: Change, limits: Limits, kind: TaskKind, actor: Actor, *, machine: str,
            rule: str | None = None, platform: str | None = None, epoch: int = 0,
            point: int | None = None, arguments: dict[str, Any] | None = None,
            trigger: str = "manual") -> int:
    """A new task, dispatched at once when the limits allow. Raises Refused ``rule.busy`` or
    ``platform.busy`` when one is live: the database says so, whoever asked first has it."""
    t = schema.task
    savepoint = change.conn.begin_nested()
    try:
        result = change.conn.execute(sa.insert(t).values(
            kind=kind, rule=rule, platform=platform, machine=machine, epoch=epoch,
            priority=PRIORITY[kind], state="queued", stop=False, point=point,
            arguments=arguments or {}, figures={}, trigger=trigger, requested_by=actor.name,
            created_at=change.now))
        savepoint.commit()
    except IntegrityError:
        savepoint.rollback()
        raise Refused("rule.busy" if rule else "platform.task-running", kind=kind) from None
    assert result.inserted_primary_key is not None
    task = int(result.inserted_primary_key[0])
    dispatch(change, limits)
    change.notify(task_topic(task))
    return task


def dispatch(change: Change, limits: Limits) -> list[int]:
    """Give every queued task that the limits allow to its machine; the others get their reason."""
    t, m = schema.task, schema.machine
    queued = change.conn.execute(
        sa.select(t.c.id, t.c.kind, t.c.rule, t.c.platform, t.c.machine, t.c.reason, m.c.live,
                  m.c.max_tasks)
        .join(m, m.c.name == t.c.machine)
        .where(t.c.state == "queued").order_by(t.c.priority, t.c.id)).all()
    if not queued:
        return []
    on_machine: Counter[str] = Counter()
    on_host: Counter[str] = Counter()
    for begun in change.conn.execute(
            sa.select(t.c.machine, t.c.source_host, t.c.target_host)
            .where(t.c.state.in_(BEGUN), t.c.kind.in_(COUNTED))):
        on_machine[begun.machine] += 1
        on_host.update({h for h in (begun.source_host, begun.target_host) if h})
    given = []
    for row in queued:
        if not row.live:
            _wait(change, row, "queue.machine-down", {"machine": row.machine})
        elif row.kind in COUNTED and on_machine[row.machine] >= row.max_tasks:
            _wait(change, row, "queue.machine-full",
                  {"machine": row.machine, "limit": row.max_tasks})
        else:
            settings, hosts = _settings(change, limits, row)
            full = next((h for h in hosts if on_host[h] >= limits.max_tasks_per_host), None)
            if row.kind in COUNTED and full is not None:
                _wait(change, row, "queue.host-full",
                      {"host": hosts[full], "limit": limits.max_tasks_per_host})
                continue
            _give(change, row, settings, list(hosts))
            given.append(int(row.id))
            if row.kind in COUNTED:
                on_machine[row.machine] += 1
                on_host.update(hosts.keys())
    return given


def _wait(change: Change, row: Record, code: str, fields: dict[str, Any]) -> None:
    reason = {"code": code, "fields": fields}
    if row.reason == reason:
        return
    change.conn.execute(sa.update(schema.task).where(schema.task.c.id == row.id)
                        .values(reason=reason))
    if row.rule is not None and row.kind in COUNTED:
        move(change, row.rule, Event.QUEUE)
    change.notify(task_topic(row.id))


def _give(change: Change, row: Record, settings: RuleSettings | None,
          hosts: list[str]) -> None:
    t = schema.task
    landed = change.conn.execute(
        sa.update(t).where(t.c.id == row.id, t.c.state == "queued")
        .values(state="dispatched", reason=None, dispatched_at=change.now,
                settings=encode(settings), source_host=hosts[0] if hosts else None,
                target_host=hosts[-1] if hosts else None)).rowcount
    assert landed == 1
    if row.rule is not None and row.kind in COUNTED:
        move(change, row.rule, Event.DISPATCH)
    change.notify(task_topic(row.id), machine_topic(row.machine))


def _settings(change: Change, limits: Limits,
              row: Record) -> tuple[RuleSettings | None, dict[str, str]]:
    """The settings that the task works with, and its hosts (identity to name), source first."""
    p = schema.platform
    if row.rule is None:
        return None, {}
    r, m = schema.rule, schema.machine
    rule = change.conn.execute(
        sa.select(r, m.c.temp_dir).join(m, m.c.name == r.c.machine)
        .where(r.c.id == row.rule)).one()
    hosts = {}
    for platform in (rule.source, rule.target):
        found = change.conn.execute(sa.select(p.c.host_id, p.c.name)
                                    .where(p.c.id == platform)).one()
        hosts[found.host_id or platform] = found.name
    settings = RuleSettings(
        id=rule.id, name=rule.name, vm=rule.vm, source=rule.source, target=rule.target,
        storage=rule.storage, replica_name=rule.replica_name, networks=rule.networks,
        retention=rule.retention, quiesce=rule.quiesce, bandwidth=rule.bandwidth,
        transfer_buffer=limits.transfer_buffer, temp_dir=rule.temp_dir)
    return settings, hosts


def end(change: Change, limits: Limits, task: Record, outcome: str, *,
        error: dict[str, Any] | None, figures: dict[str, Any]) -> bool:
    """End a live task; false when it had ended already. Frees its slot for the next."""
    t = schema.task
    landed = change.conn.execute(
        sa.update(t).where(t.c.id == task.id, t.c.state.in_(LIVE))
        .values(state="ended", outcome=outcome, error=error, figures=figures, reason=None,
                ended_at=change.now)).rowcount == 1
    if landed:
        change.conn.execute(
            sa.update(schema.task_step)
            .where(schema.task_step.c.task == task.id, schema.task_step.c.state == "running")
            .values(state="done" if outcome in {"ok", "warning"} else outcome,
                    ended_at=change.now))
        if task.rule is not None:
            _settle(change, task, outcome, error)
        dispatch(change, limits)
        change.notify(task_topic(task.id), SCHEDULE)
    return landed


def _settle(change: Change, task: Record, outcome: str, error: dict[str, Any] | None) -> None:
    """What the end of a task means for its rule."""
    good = outcome in {"ok", "warning"}
    values: dict[str, Any] = {"last_result": outcome, "last_error": error, "last_task": task.id}
    rule = change.conn.execute(
        sa.select(schema.rule).where(schema.rule.c.id == task.rule)).one()
    match task.kind:
        case "replicate":
            if good:
                values["last_success_at"] = change.now
            if rule.interval_s is None:
                event = Event.COMPLETE_ONCE if good else Event.HALT
            elif outcome == "stopped" or not rule.enabled:
                event = Event.HALT
                values |= {"enabled": False, "next_run_at": None}
            else:
                event = Event.COMPLETE_PERIODIC
        case "failover":
            # A replica that stands is shown as standing, whatever was reported after it.
            event = (Event.FAILED_OVER if good or rule.failover_point is not None
                     else Event.FAILOVER_FAILED)
            if good and rule.failover_point is None:
                values["failover_point"] = task.point
        case "undo":
            event = Event.UNDONE if good or rule.failover_point is None else Event.CLEAR_FAILED
            if good:
                values |= {"failover_point": None, "failover_detail": None}
        case _:                     # remove
            event = Event.REMOVE_FAILED
            if good:
                _close(change, task.rule, values)
                return
    move(change, task.rule, event, **values)


def _close(change: Change, rule: str, values: dict[str, Any]) -> None:
    """The rule is gone; its row, tasks and log stay as closed history."""
    t = schema.rule
    change.conn.execute(sa.update(t).where(t.c.id == rule, t.c.deleted_at.is_(None)).values(
        deleted_at=change.now, enabled=False, next_run_at=None,
        state=RuleState.FINISHED.value, own_state=RuleState.FINISHED.value, **values))
    change.conn.execute(sa.delete(schema.restore_point)
                        .where(schema.restore_point.c.rule == rule))
    change.notify(rule_topic(rule))
