"""The recovery point objective of each rule: its target, and whether it is kept."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.bandwidth import Bandwidth, Range, open_from
from ..domain.codec import decode
from ..domain.rule_states import FAILOVER
from ..domain.schedule import DAY_S, Schedule, longest_gap_s
from ..store import Record, schema
from .context import Change, Context
from .day_sums import add_to_day
from .hub import rule_topic
from .notifications import announce

TYPICAL_OF: Final = 20
"""So many good runs tell what is typical."""
LEAST_SLACK_S: Final = 5.0      # the watch looks each few seconds
WATCH_EVERY_S: Final = 5.0
_BATCH: Final = 200
_WEEK_S: Final = 7 * DAY_S


_R, _M, _T = schema.rule, schema.machine, schema.task
OF_MACHINE: Final = (_M.c.time_zone.label("machine_zone"),
                     _M.c.bandwidth.label("machine_bandwidth"))
_SETTINGS: Final = (
    sa.select(_R.c.id, _R.c.rpo_s, _R.c.schedule, _R.c.time_zone, _R.c.bandwidth, *OF_MACHINE)
    .join(_M, _M.c.name == _R.c.machine).where(_R.c.id == sa.bindparam("b_rule")))
_SET: Final = sa.update(_R).where(_R.c.id == sa.bindparam("b_rule"))
_TOOK: Final = (
    sa.select(_T.c.ended_at - _T.c.started_at).where(
        _T.c.rule == sa.bindparam("b_rule"), _T.c.kind == "replicate",
        _T.c.outcome.in_(("ok", "warning")), _T.c.full.is_(False), _T.c.started_at.is_not(None))
    .order_by(_T.c.id.desc()).limit(TYPICAL_OF))


class RpoWatch:
    """Watches each few seconds, however often it is asked to."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._due = 0.0

    def tick(self) -> None:
        if self._context.uptime() >= self._due:
            watch_rpo(self._context)
            self._due = self._context.uptime() + WATCH_EVERY_S


def set_target(change: Change, rule: str) -> None:
    """Work the rule's target out anew: its settings were edited."""
    row = change.conn.execute(_SETTINGS, {"b_rule": rule}).one()
    change.conn.execute(_SET, {"b_rule": rule, "rpo_target_s": target_s(change.conn, row)})


def target_s(conn: Connection, rule: Record) -> float | None:
    """How old the newest point may become, in seconds: what the rule names; else the longest
    time between two starts of its schedule, plus the longest range without bandwidth, plus twice
    the median of its last good incremental runs (at least a tenth of the time between starts,
    and half of it while there is no such run). None for a one-off rule that names nothing.
    ``rule`` is its row with :data:`OF_MACHINE`."""
    if rule.rpo_s is not None:
        return float(rule.rpo_s)
    if rule.schedule is None:
        return None
    gap = longest_gap_s(decode(Schedule, rule.schedule), rule.time_zone)
    took = conn.execute(_TOOK, {"b_rule": rule.id}).scalars().all()
    slack = 2 * statistics.median(took) if took else gap / 2
    return gap + max(slack, gap / 10, LEAST_SLACK_S) + _longest_pause_s(
        *(Bandwidth(zone, tuple(decode(Range, x) for x in ranges)) for zone, ranges in (
            (rule.time_zone, rule.bandwidth), (rule.machine_zone, rule.machine_bandwidth))))


@lru_cache(maxsize=4096)
def _longest_pause_s(*limits: Bandwidth) -> float:
    """The longest time in a week that one of them, or one after the other, allows nothing; 0
    when that never ends: such a rule is told by its pause, not by its objective."""
    at, longest = 0.0, 0.0          # 1970 has the weekdays, and no leap of any clock is near
    while at < 2 * _WEEK_S:
        end = open_from(limits, at)
        if end is None:
            return 0.0
        longest = max(longest, end - at)
        changes = [c for c in (limit.next_change(end) for limit in limits) if c is not None]
        if not changes:
            break
        at = min(changes)
    return longest


def published(change: Change, rule: str, group: str | None, before: float | None,
              taken_at: float, at: float) -> None:
    """A point of that time became the newest at ``at``: how old had the one ``before`` become?"""
    if before is not None and taken_at > before:
        add_to_day(replace(change, now=at), rule, group, longest_gap_s=max(0.0, at - before))


def reference() -> sa.ColumnElement[Any]:
    """Since when the newest point ages. The first copy takes as long as it takes: its point
    ages from the end of that run."""
    r = schema.rule
    return sa.case((r.c.latest_point == 1, sa.func.coalesce(r.c.last_success_at,
                                                            r.c.latest_point_at)),
                   else_=r.c.latest_point_at)


def watched() -> sa.ColumnElement[bool]:
    """Rules that promise something now: a point is there, their schedule is on or an objective
    is named, and no failover keeps them from replicating."""
    r = schema.rule
    return sa.and_(
        r.c.deleted_at.is_(None), r.c.latest_point_at.is_not(None),
        r.c.rpo_target_s.is_not(None), sa.or_(r.c.enabled, r.c.rpo_s.is_not(None)),
        r.c.own_state.not_in([s.value for s in FAILOVER]))


def watch_rpo(context: Context) -> int:
    """Mark rules that began to miss their objective, or keep it again, and say so in their logs,
    once each. Returns how many. Called every few seconds: a look at the table when nothing is
    to be said."""
    changed = 0
    while True:
        with context.read() as conn:
            found = conn.execute(_select(context.clock()).limit(_BATCH)).all()
        if not found:
            return changed
        with context.change() as change:
            # Read again, under the write lock: what was found may have changed.
            rows = change.conn.execute(_select(change.now).where(
                schema.rule.c.id.in_([row.id for row in found]))).all()
            for row in rows:
                _tell(change, row)
        changed += len(rows)
        if len(found) < _BATCH:
            return changed


def _select(now: float) -> sa.Select[Any]:
    """Rules whose mark is not what it should be, and those whose target is not known."""
    r = schema.rule
    missed = sa.and_(watched(), reference() + r.c.rpo_target_s < now)
    unknown = sa.and_(r.c.rpo_target_s.is_(None), r.c.deleted_at.is_(None),
                      sa.or_(r.c.schedule.is_not(None), r.c.rpo_s.is_not(None)))
    return sa.select(
        r.c.id, r.c.group, r.c.rpo_target_s, r.c.latest_point, r.c.latest_point_at,
        reference().label("since"), unknown.label("unknown"), watched().label("watched"),
        missed.label("missed")).where(
            sa.or_(unknown, missed != r.c.rpo_violated_at.is_not(None)))


def _tell(change: Change, row: Record) -> None:
    r = schema.rule
    if row.unknown:
        set_target(change, row.id)
        return
    at = row.since + row.rpo_target_s if row.missed else None
    change.conn.execute(sa.update(r).where(r.c.id == row.id).values(rpo_violated_at=at))
    change.notify(rule_topic(row.id))
    if not row.watched:             # stopped, failed over: nothing is promised any more
        return
    fields = {"point": row.latest_point, "age_s": round(change.now - row.latest_point_at),
              "target_s": round(row.rpo_target_s)}
    if row.missed:
        change.log("warning", "rule.rpo-violated", fields, rule=row.id)
        announce(change, "rule.rpo-violated", rule=row.id, fields=fields)
        add_to_day(change, row.id, row.group, violations=1)
    else:
        change.log("info", "rule.rpo-kept", fields, rule=row.id)
