"""Runs of a rule: when the next one is, and how one begins. Part of a change."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from ..domain.bandwidth import Range
from ..domain.codec import decode
from ..domain.rule_states import Event, RuleState
from ..domain.schedule import Schedule, next_run
from ..store import Record, schema
from . import queue
from .context import Actor, Change
from .hub import SCHEDULE, rule_topic

BATCH: Final = 50
"""Runs begun in one transaction, which nobody else writes beside."""


def begin_run(change: Change, rule: Record, actor: Actor, trigger: str,
              dispatch: bool = True, arguments: dict[str, Any] | None = None) -> int:
    """Queue a run of a rule that is at rest, and set its next start. Returns the task. ``rule``:
    its row with :data:`.rule_state.OF_MACHINE`, not moved since.

    Without ``dispatch`` the caller does that, once for many (:func:`queue.begin`)."""
    values: dict[str, Any] = {"pause": None}
    if rule.schedule is not None:
        schedule = decode(Schedule, rule.schedule)
        # Started by hand, an interval is counted from now on; a grid with a start time stays.
        keeps_grid = trigger == "schedule" or schedule.at is not None
        values |= {"enabled": True, "next_run_at": next_run(
            schedule, rule.time_zone, change.now, _planned(rule) if keeps_grid else None)}
    queue.move(change, rule.id, Event.START, found=rule, **values)
    change.notify(SCHEDULE)
    return queue.enqueue(change, "replicate", actor, machine=rule.machine, rule=rule.id,
                         epoch=rule.epoch, trigger=trigger, dispatch_now=dispatch,
                         arguments=arguments)


def put_off(change: Change, rule: Record, until: float | None, code: str,
            **fields: Any) -> None:
    """Do not begin the run that is due before ``until`` (None: before :func:`reconsider`), and
    say why at the rule. It is still planned for when the schedule had it, so the grid stays."""
    pause = {"code": code, "fields": fields | {"until": until, "planned": _planned(rule)}}
    change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == rule.id)
                        .values(next_run_at=until, pause=pause))
    change.notify(rule_topic(rule.id))


def reconsider(change: Change, **where: str) -> None:
    """Bandwidth was edited: the scheduler looks at once whether runs that it had put off may
    begin. ``where`` names a column of rule and its value: ``id`` or ``machine``."""
    r = schema.rule
    change.conn.execute(sa.update(r).where(
        r.c.enabled, r.c.pause.is_not(None), r.c.own_state == RuleState.IDLE.value,
        *(r.c[column] == value for column, value in where.items()))
        .values(next_run_at=change.now))
    change.notify(SCHEDULE)


def decode_ranges(ranges: list[Any]) -> tuple[Range, ...]:
    """Ranges of bandwidth as they are stored."""
    return tuple(decode(Range, r) for r in ranges)


def _planned(rule: Record) -> float | None:
    """The next start as the schedule gave it, also when it was put off."""
    planned: float | None = (rule.pause or {"fields": {}})["fields"].get(
        "planned", rule.next_run_at)
    return planned
