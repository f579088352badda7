"""The queue of tasks: put in, give to machines within the limits, take back. Part of a change.

The dispatcher runs at the end of the transaction that made something possible (a task queued or
ended, a machine that came back), so a task that can run is with its machine when the caller has
its answer, nothing polls, and limits hold by the write lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..domain.errors import Refused
from ..domain.rule_states import Event, RuleState
from ..store import Record, schema
from ..workflows.link import TaskKind
from . import task_figures
from .context import Actor, Change
from .dispatcher import (
    BEGUN,
    COUNTED,
    dispatch,
    hosts_of,
    is_begun,
    is_queued,
    open_lane,
    refit,
    waits,
)
from .hub import SCHEDULE, rule_topic, task_topic
from .notifications import announce
from .rule_state import move, rescheduled

__all__ = ["BEGUN", "LIVE", "begin", "dispatch", "end", "enqueue", "is_begun", "is_queued",
           "move", "refit", "rescheduled", "waits"]

PRIORITY: Final[dict[TaskKind, int]] = {"failover": 10, "undo": 10, "check": 20, "refresh": 20,
                                        "rebuild": 30, "permanent": 40, "remove": 50,
                                        "replicate": 100}
LIVE: Final = ("queued", *BEGUN)
_T, _S, _R = schema.task, schema.task_step, schema.rule
_INSERT: Final = sa.insert(_T)
_END: Final = sa.update(_T).where(_T.c.id == sa.bindparam("b_task"), _T.c.state.in_(LIVE))
_END_STEPS: Final = sa.update(_S).where(_S.c.task == sa.bindparam("b_task"),
                                        _S.c.state == sa.literal_column("'running'"))
_RULE: Final = sa.select(_R).where(_R.c.id == sa.bindparam("rule"))


def enqueue(change: Change, kind: TaskKind, actor: Actor, *, machine: str,
            rule: str | None = None, platform: str | None = None, epoch: int = 0,
            point: int | None = None, arguments: dict[str, Any] | None = None,
            trigger: str = "manual", dispatch_now: bool = True) -> int:
    """A new task, dispatched at once when the limits allow; a caller that queues many does that
    with :func:`begin`, once. Raises Refused ``rule.busy`` or ``platform.task-running`` when one
    is live: the database says so, whoever asked first has it."""
    counted = rule is not None and kind in COUNTED
    source, target = hosts_of(change.conn, str(rule)) if counted else ("", "")
    savepoint = change.conn.begin_nested()
    try:
        result = change.conn.execute(_INSERT, {
            "kind": kind, "rule": rule, "platform": platform, "machine": machine, "epoch": epoch,
            "priority": PRIORITY[kind], "state": "queued", "stop": False, "point": point,
            "arguments": arguments or {}, "figures": {}, "trigger": trigger,
            "requested_by": actor.name, "source_host": source, "target_host": target,
            "created_at": change.now})
        savepoint.commit()
    except IntegrityError:
        savepoint.rollback()
        raise Refused("rule.busy" if rule else "platform.task-running", kind=kind) from None
    assert result.inserted_primary_key is not None
    task = int(result.inserted_primary_key[0])
    open_lane(change, machine, source, target)
    change.notify(task_topic(task))
    if dispatch_now:
        begin(change, {task: str(rule)} if counted else {})
    return task


def begin(change: Change, tasks: Mapping[int, str]) -> None:
    """Dispatch, after ``tasks`` of these rules were queued: one that has to wait shows it."""
    given = set(dispatch(change))
    for task, rule in tasks.items():
        if task not in given:
            move(change, rule, Event.QUEUE)


def begin_permanent(change: Change, rule: Record, actor: Actor) -> int:
    """The replica of a rule in temporary failover becomes the machine. Returns the task."""
    move(change, rule.id, Event.MAKE_PERMANENT)
    return enqueue(change, "permanent", actor, machine=rule.machine, rule=rule.id,
                   epoch=rule.epoch, point=rule.failover_point)


# --- the end of a task ---------------------------------------------------------------------------


def end(change: Change, task: Record, outcome: str, *, error: dict[str, Any] | None,
        figures: dict[str, Any]) -> bool:
    """End a live task; false when it had ended already. Frees its slot for the next."""
    landed = change.conn.execute(_END, {
        "b_task": task.id, "state": "ended", "outcome": outcome, "error": error,
        "figures": figures, "ended_at": change.now,
        **task_figures.columns(figures)}).rowcount == 1
    if landed:
        change.conn.execute(_END_STEPS, {
            "b_task": task.id, "ended_at": change.now,
            "state": "done" if outcome in {"ok", "warning"} else outcome})
        task_figures.settle(change, task, outcome, figures)
        if task.rule is not None:
            _settle(change, task, outcome, error)
            if outcome == "failed":
                announce(change, "rule.run-failed", rule=task.rule,
                         fields={"task": task.id, "kind": task.kind, "cause": error})
        else:
            _found_host(change, task.platform)
        dispatch(change)
        change.notify(task_topic(task.id), SCHEDULE)
    return landed


def _found_host(change: Change, platform: str) -> None:
    """A check may have found out which host a platform is."""
    r = schema.rule
    refit(change, schema.task.c.rule.in_(sa.select(r.c.id).where(
        sa.or_(r.c.source == platform, r.c.target == platform))))


def _settle(change: Change, task: Record, outcome: str, error: dict[str, Any] | None) -> None:
    """What the end of a task means for its rule."""
    good = outcome in {"ok", "warning"}
    values: dict[str, Any] = {"last_result": outcome, "last_error": error, "last_task": task.id,
                              "pause": None}
    rule = change.conn.execute(_RULE, {"rule": task.rule}).one()
    match task.kind:
        case "replicate":
            if good:
                values["last_success_at"] = change.now
            if rule.schedule is None:
                event = Event.COMPLETE_ONCE if good else Event.HALT
            elif outcome == "stopped" or not rule.enabled:
                event = Event.HALT
                values |= {"enabled": False, "next_run_at": None}
            else:
                event = Event.COMPLETE_PERIODIC
        case "failover":
            _failed_over(change, task, rule, values, good)
            return
        case "undo":
            event = Event.UNDONE if good or rule.failover_point is None else Event.CLEAR_FAILED
            if good:
                values |= {"failover_point": None, "failover_detail": None}
        case "permanent":
            event = Event.MADE_PERMANENT if good else Event.CLEAR_FAILED
            if good:
                values |= {"failover_point": None, "enabled": False, "next_run_at": None}
        case _:                     # remove
            event = Event.REMOVE_FAILED
            if good:
                _close(change, task.rule, values)
                return
    move(change, task.rule, event, **values)


def _failed_over(change: Change, task: Record, rule: Record, values: dict[str, Any],
                 good: bool) -> None:
    # A replica that stands is shown as standing, whatever was reported after it.
    stands = good or rule.failover_point is not None
    if stands and rule.failover_point is None:
        values["failover_point"] = task.point
    move(change, rule.id, Event.FAILED_OVER if stands else Event.FAILOVER_FAILED, **values)
    if good and task.arguments.get("permanent"):
        begin_permanent(change, change.conn.execute(_RULE, {"rule": rule.id}).one(),
                        Actor(task.requested_by, "operator"))


def _close(change: Change, rule: str, values: dict[str, Any]) -> None:
    """The rule is gone; its row, tasks and log stay as closed history."""
    t = schema.rule
    change.conn.execute(sa.update(t).where(t.c.id == rule, t.c.deleted_at.is_(None)).values(
        deleted_at=change.now, enabled=False, next_run_at=None,
        state=RuleState.FINISHED.value, own_state=RuleState.FINISHED.value, **values))
    change.conn.execute(sa.delete(schema.restore_point)
                        .where(schema.restore_point.c.rule == rule))
    change.notify(rule_topic(rule))
