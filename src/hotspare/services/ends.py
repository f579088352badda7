"""The end of a task: what it means for its rule, and whose turn it is then. Part of a change."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from ..domain import channels
from ..domain.rule_states import Event, RuleState
from ..store import Record, schema
from ..workflows.link import SIDE
from . import chains, failback, rpo, rule_state, task_figures
from .context import Actor, Change
from .dispatcher import dispatch, refit
from .hub import SCHEDULE, rule_topic, task_topic
from .notifications import announce
from .queue import LIVE
from .rule_state import move
from .task_steps import TaskSteps

_T, _R, _M = schema.task, schema.rule, schema.machine
_END: Final = sa.update(_T).where(_T.c.id == sa.bindparam("b_task"), _T.c.state.in_(LIVE))
_OF_A_POINT: Final[dict[str, channels.Event]] = {"test.failed": "rule.test-failed",
                                        "scrub.found-damage": "point.damaged"}
_RULE: Final = (
    sa.select(_R, *rpo.OF_MACHINE, *rule_state.OF_MACHINE)
    .join(_M, _M.c.name == _R.c.machine).where(_R.c.id == sa.bindparam("rule")))


def end(change: Change, task: Record, outcome: str, *, error: dict[str, Any] | None,
        figures: dict[str, Any], at: float | None = None, steps: TaskSteps | None = None,
        **values: Any) -> bool:
    """End a live task, and set ``values``; false when it had ended already. Frees its slot for the
    next. ``at``: when that was, if it is told later. ``steps``: those of a caller who writes them
    after this."""
    landed = change.conn.execute(_END, {
        "b_task": task.id, "state": "ended", "outcome": outcome, "error": error,
        "figures": figures, "ended_at": change.now if at is None else at,
        **values, **task_figures.columns(figures)}).rowcount == 1
    if landed:
        known = steps or TaskSteps.of(change.conn, [task])[task.id]
        last = known.end("done" if outcome in {"ok", "warning"} else outcome, change.now)
        rule = (None if task.rule is None
                else change.conn.execute(_RULE, {"rule": task.rule}).one())
        more = task_figures.settle(change, task, rule, outcome, figures, min(last, change.now))
        if rule is not None:
            if task.kind not in SIDE | {"cable"}:
                _settle(change, task, rule, outcome, error, known.take_events(), more)
            if outcome == "failed":
                code = str((error or {}).get("code"))
                announce(change, _OF_A_POINT.get(code, "rule.run-failed"), rule=task.rule,
                         fields={"task": task.id, "kind": task.kind, "point": task.point,
                                 "cause": error})
        else:
            _found_host(change, task.platform)
        if steps is None:
            known.write(change)
        change.at_end(dispatch)
        change.notify(task_topic(task.id), SCHEDULE)
    return landed


def _found_host(change: Change, platform: str) -> None:
    """A check may have found out which host a platform is."""
    r = schema.rule
    refit(change, schema.task.c.rule.in_(sa.select(r.c.id).where(
        sa.or_(r.c.source == platform, r.c.target == platform))))


def _settle(change: Change, task: Record, rule: Record, outcome: str,
            error: dict[str, Any] | None, before: list[Event], more: dict[str, Any]) -> None:
    """What the end of a task means for its rule; ``before``: what its steps meant."""
    good = outcome in {"ok", "warning"}
    values: dict[str, Any] = more | {"last_result": outcome, "last_error": error,
                                     "last_task": task.id, "pause": None}
    match task.kind:
        case "replicate" | "shut-down":
            event = _run_ended(change, task, rule, outcome, values)
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
        case "remove":
            event = Event.REMOVE_FAILED
            if good:
                _close(change, task.rule, values)
                return
        case _:
            event, its = failback.ended(task, rule, good, change.now)
            values |= its
            if event is Event.FAILBACK_COMMITTED:
                values |= failback.settle_place(change, task, rule)
    move(change, task.rule, *before, event, found=rule, **values)
    chains.planned_goes_on(change, task, rule, good)


def _run_ended(change: Change, task: Record, rule: Record, outcome: str,
               values: dict[str, Any]) -> Event:
    good = outcome in {"ok", "warning"}
    if good and task.kind == "replicate":
        values["last_success_at"] = change.now
    if rule.schedule is None:
        return Event.COMPLETE_ONCE if good else Event.HALT
    if outcome == "stopped" or not rule.enabled:
        values |= {"enabled": False, "next_run_at": None}
        return Event.HALT
    return Event.COMPLETE_PERIODIC


def _failed_over(change: Change, task: Record, rule: Record, values: dict[str, Any],
                 good: bool) -> None:
    # A replica that stands is shown as standing, whatever was reported after it.
    stands = good or rule.failover_point is not None
    if stands and rule.failover_point is None:
        values["failover_point"] = task.point
    move(change, rule.id, Event.FAILED_OVER if stands else Event.FAILOVER_FAILED, **values)
    if good and task.arguments.get("permanent"):
        chains.begin_permanent(change, rule, Actor(task.requested_by, "operator"))
    chains.planned_goes_on(change, task, rule, good)


def _close(change: Change, rule: str, values: dict[str, Any]) -> None:
    """The rule is gone; its row, tasks and log stay as closed history."""
    t = schema.rule
    change.conn.execute(sa.update(t).where(t.c.id == rule, t.c.deleted_at.is_(None)).values(
        deleted_at=change.now, enabled=False, next_run_at=None,
        state=RuleState.FINISHED.value, own_state=RuleState.FINISHED.value, **values))
    change.conn.execute(sa.delete(schema.restore_point)
                        .where(schema.restore_point.c.rule == rule))
    change.notify(rule_topic(rule))
