"""Failback in the services: what the end of each of its tasks means, and what an operator asks."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from ..domain.rule_states import Event, RuleState
from ..store import Record, schema
from . import queue
from .context import SERVICE, Actor, Change

_R: Final = schema.rule
_DUE: Final = (sa.select(_R).where(
    _R.c.commit_at.is_not(None), _R.c.commit_at <= sa.bindparam("now"), _R.c.deleted_at.is_(None),
    _R.c.own_state == RuleState.FAILED_BACK.value).order_by(_R.c.commit_at).limit(50))
_NEXT: Final = sa.select(sa.func.min(_R.c.commit_at)).where(
    _R.c.commit_at.is_not(None), _R.c.deleted_at.is_(None),
    _R.c.own_state == RuleState.FAILED_BACK.value)
_RETRY_S: Final = 300.0         # after a commit that failed


def begin_bulk(change: Change, rule: Record, actor: Actor, arguments: dict[str, Any]) -> int:
    """Copy back what differs while the replica runs."""
    return _queue(change, rule, actor, "failback", Event.FAIL_BACK, arguments)


def begin_switch(change: Change, rule: Record, actor: Actor, arguments: dict[str, Any]) -> int:
    """Stop the replica, copy the rest, start the source."""
    return _queue(change, rule, actor, "switch-back", Event.SWITCH_BACK, arguments)


def begin_commit(change: Change, rule: Record, actor: Actor, trigger: str = "manual") -> int:
    """The source stays; the replica's layer and the undo disks are deleted."""
    return _queue(change, rule, actor, "commit-failback", Event.COMMIT_FAILBACK, {},
                  trigger=trigger)


def begin_undo(change: Change, rule: Record, actor: Actor, arguments: dict[str, Any]) -> int:
    """The source becomes what it was, the replica goes on."""
    return _queue(change, rule, actor, "undo-failback", Event.UNDO_FAILBACK, arguments)


def ended(task: Record, rule: Record, good: bool, now: float) -> tuple[Event, dict[str, Any]]:
    """The event that the end of one of the tasks is, and what it sets at the rule."""
    nothing_left = {"commit_at": None, "failback": None}
    match task.kind, good:
        case "failback", True:
            return Event.BULK_DONE, {}
        case "switch-back", True:
            after = task.arguments.get("commit_after_s")
            return Event.SWITCHED_BACK, {"commit_at": None if after is None else now + after}
        case "commit-failback", True:
            return Event.FAILBACK_COMMITTED, nothing_left | {
                "failover_point": None, "failover_detail": None}
        case "commit-failback", False:
            return Event.COMMIT_FAILED, {
                "commit_at": None if rule.commit_at is None else now + _RETRY_S}
        case "undo-failback", True:
            return Event.FAILBACK_UNDONE, nothing_left
    if rule.failback is None and task.kind != "switch-back":
        return Event.FAILBACK_UNDONE, {}    # nothing was written yet
    return Event.FAILBACK_FAILED, {"commit_at": None}


def commit_due(change: Change) -> None:
    """Commit the failbacks whose time has come."""
    for rule in change.conn.execute(_DUE, {"now": change.now}).all():
        change.log("info", "failback.commit-due", {"name": rule.name}, rule=rule.id)
        begin_commit(change, rule, SERVICE, "service")


def next_commit(conn: sa.Connection) -> float | None:
    """When the next failback commits itself."""
    at: float | None = conn.execute(_NEXT).scalar()
    return at


def _queue(change: Change, rule: Record, actor: Actor, kind: Any, event: Event,
           arguments: dict[str, Any], trigger: str = "manual") -> int:
    queue.move(change, rule.id, event)
    return queue.enqueue(change, kind, actor, machine=rule.machine, rule=rule.id,
                         epoch=rule.epoch, point=rule.failover_point, trigger=trigger,
                         arguments=arguments | {"failback": rule.failback})
