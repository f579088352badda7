"""The state of a rule in the database: moved by its table only. Part of a change."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..domain.rule_states import RESTING, SAVES_BEFORE, Event, RuleState, advance, visible
from ..store import Record, schema
from .context import Change
from .hub import SCHEDULE, rule_topic

_R, _M = schema.rule, schema.machine
OF_MACHINE = (_M.c.live, _M.c.busy)
_FOUND = (sa.select(_R.c.own_state, _R.c.state, _R.c.state_before, _R.c.schedule, *OF_MACHINE)
          .join(_M, _M.c.name == _R.c.machine).where(_R.c.id == sa.bindparam("b_rule")))
_SET = sa.update(_R).where(_R.c.id == sa.bindparam("b_rule"))
_MOVE = sa.update(_R).where(_R.c.id == sa.bindparam("b_rule"),
                            _R.c.own_state == sa.bindparam("b_own"))


def move(change: Change, rule: str, *events: Event, found: Record | None = None,
         **values: Any) -> RuleState:
    """Advance a rule by one event after the other and set ``values`` with it. ``found``: its row
    with :data:`OF_MACHINE`, when the caller has read it and it was not moved since. Raises
    IllegalTransition, changing nothing."""
    row = found or change.conn.execute(_FOUND, {"b_rule": rule}).one()
    own = to = RuleState(row.own_state)
    before = RuleState(row.state_before) if row.state_before else None
    for event in events:
        if event in SAVES_BEFORE:
            before = to
            values["state_before"] = before.value
        to = advance(to, event, before)
    shown = visible(to, row.live, row.busy is not None, row.schedule is not None)
    if not values and (to, shown.value) == (own, row.state):
        return shown                # one step of a transfer after the other
    landed = change.conn.execute(_MOVE, {
        "b_rule": rule, "b_own": own.value, "own_state": to.value, "state": shown.value,
        **values}).rowcount
    assert landed == 1, "the write lock is held: nobody else can have moved it"
    change.notify(rule_topic(rule))
    return shown


def show(change: Change, rule: str, **values: Any) -> RuleState:
    """Set ``values``, which may be its machine or its schedule, and show what it is then."""
    change.conn.execute(_SET, {"b_rule": rule, **values})
    row = change.conn.execute(_FOUND, {"b_rule": rule}).one()
    shown = visible(RuleState(row.own_state), row.live, row.busy is not None,
                    row.schedule is not None)
    change.conn.execute(_SET, {"b_rule": rule, "state": shown.value})
    change.notify(rule_topic(rule), SCHEDULE)
    return shown


def rescheduled(change: Change, rule: str) -> None:
    """A periodic rule was made a one-off one, or the other way: one at rest is stopped, since
    idle and finished mean one kind each (M15); one that runs ends as what it is then."""
    row = change.conn.execute(_FOUND, {"b_rule": rule}).one()
    values: dict[str, Any] = {"enabled": False, "next_run_at": None}
    if RuleState(row.own_state) in RESTING:
        move(change, rule, Event.RESCHEDULE, **values)
        return
    if row.state_before and RuleState(row.state_before) in RESTING:
        values["state_before"] = advance(RuleState(row.state_before), Event.RESCHEDULE).value
    show(change, rule, **values)
