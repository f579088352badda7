"""Statistics of a rule, of a group and of all rules, from sums that are kept by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, fields
from datetime import date
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..store import Record, schema
from . import rpo
from .context import Actor, Context
from .day_sums import ALL, day_of
from .exports import csv_file
from .rule_settings import group_id
from .statistics_views import (
    DayView,
    RpoView,
    RuleStatistics,
    ScopeRpoView,
    ScopeStatistics,
    StorageView,
    TotalView,
)
from .tasks import rule_id

MOST_DAYS: Final = 3 * 366
COLUMNS: Final = tuple(f.name for f in fields(DayView))
_DAY_S: Final = 86400.0
_SUMMED: Final = ("ok", "warning", "failed", "stopped", "full", "bytes_queried", "bytes_read",
                  "bytes_moved", "bytes_zero", "seconds", "retries", "violations")


class Statistics:
    """``days`` is how many, today with them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def rule(self, actor: Actor, ref: str, days: int = 30) -> RuleStatistics:
        """A deleted rule is found by its id, as long as its sums are kept."""
        actor.need("viewer")
        r, p, d = schema.rule, schema.restore_point, schema.rule_day
        now = self._context.clock()
        since = day_of(now - (days - 1) * _DAY_S)
        with self._context.read() as conn:
            row = conn.execute(
                sa.select(r, rpo.watched().label("watched"), p.c.size)
                .outerjoin(p, sa.and_(p.c.rule == r.c.id, p.c.number == r.c.latest_point))
                .where(r.c.id == rule_id(conn, ref))).one()
            by_day = _days(conn, d, d.c.rule == row.id, since)
        return RuleStatistics(
            rule=row.id, name=row.name, since=since, days=days,
            rpo=RpoView(target_s=row.rpo_target_s, named=row.rpo_s is not None,
                        age_s=_age(now, row.latest_point_at),
                        kept=row.rpo_violated_at is None if row.watched else None,
                        violated_at=row.rpo_violated_at),
            points=row.points, latest_point=row.latest_point,
            latest_point_at=row.latest_point_at, size=row.size or 0, stored=row.stored,
            full_runs=row.full_runs, total=_total(by_day, now), by_day=by_day)

    def scope(self, actor: Actor, group: str | None = None, days: int = 30) -> ScopeStatistics:
        """Of a group (its id or name), or of all rules."""
        actor.need("viewer")
        t, g = schema.total_day, schema.rule_group
        now = self._context.clock()
        since = day_of(now - (days - 1) * _DAY_S)
        with self._context.read() as conn:
            ident = None if group is None else group_id(conn, group)
            name = None if ident is None else conn.execute(
                sa.select(g.c.name).where(g.c.id == ident)).scalar()
            by_day = _days(conn, t, t.c.scope == (ident or ALL), since)
            rows = conn.execute(_places(ident)).all()
            storages = _storages(conn, rows)
        states: Counter[str] = Counter()
        for row in rows:
            states[row.state] += row.rules
        oldest = min((row.oldest for row in rows if row.oldest is not None), default=None)
        return ScopeStatistics(
            group=ident, name=name, since=since, days=days, rules=states.total(), states=states,
            rpo=ScopeRpoView(
                watched=sum(row.watched for row in rows),
                violated=sum(row.violated for row in rows),
                unprotected=sum(row.unprotected for row in rows), oldest_age_s=_age(now, oldest)),
            points=sum(row.points for row in rows), stored=sum(int(row.stored) for row in rows),
            storages=storages, total=_total(by_day, now), by_day=by_day)


def days_file(by_day: Sequence[DayView]) -> Iterator[str]:
    """The days as CSV."""
    return csv_file(COLUMNS, [[astuple(day) for day in by_day]])


def _days(conn: Connection, table: sa.Table, where: sa.ColumnElement[bool],
          since: str) -> list[DayView]:
    rows = conn.execute(sa.select(*(table.c[name] for name in COLUMNS))
                        .where(where, table.c.day >= since).order_by(table.c.day))
    return [DayView(*row) for row in rows]


def _total(by_day: list[DayView], now: float) -> TotalView:
    sums: dict[str, Any] = {name: sum(getattr(day, name) for day in by_day) for name in _SUMMED}
    judged = sums["ok"] + sums["warning"] + sums["failed"]
    runs = judged + sums["stopped"]
    covered = (date.fromisoformat(day_of(now)) - date.fromisoformat(by_day[0].day)).days + 1 if (
        by_day) else 1
    return TotalView(
        runs=runs, success_ratio=(sums["ok"] + sums["warning"]) / judged if judged else None,
        bytes_a_day=sums["bytes_moved"] / covered,
        mean_seconds=sums["seconds"] / runs if runs else None,
        longest_gap_s=max((day.longest_gap_s for day in by_day), default=0.0), **sums)


def _places(group: str | None) -> sa.Select[Any]:
    """The rules that are there, counted by state and storage: one look at the table."""
    r = schema.rule
    query = sa.select(
        r.c.state, r.c.target, r.c.storage, sa.func.count().label("rules"),
        sa.func.sum(r.c.points).label("points"), sa.func.sum(r.c.stored).label("stored"),
        sa.func.count().filter(r.c.points == 0).label("unprotected"),
        sa.func.count().filter(rpo.watched()).label("watched"),
        sa.func.count(r.c.rpo_violated_at).label("violated"),
        sa.func.min(sa.case((rpo.watched(), r.c.latest_point_at))).label("oldest"),
    ).where(r.c.deleted_at.is_(None)).group_by(r.c.state, r.c.target, r.c.storage)
    return query if group is None else query.where(r.c.group == group)


def _storages(conn: Connection, rows: Sequence[Record]) -> list[StorageView]:
    p = schema.platform
    platforms = {row.id: row for row in conn.execute(
        sa.select(p.c.id, p.c.name, p.c.places).where(p.c.id.in_({r.target for r in rows})))}
    sums: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        sums.setdefault((row.target, row.storage), Counter()).update(
            rules=row.rules, points=row.points, stored=int(row.stored))
    return [StorageView(platform=platform, platform_name=platforms[platform].name,
                        storage=storage, free=_free(platforms[platform].places, storage), **count)
            for (platform, storage), count in sorted(sums.items())]


def _free(places: list[dict[str, Any]], storage: str) -> int | None:
    return next((place.get("free") for place in places
                 if (place["kind"], place["name"]) == ("storage", storage)), None)


def _age(now: float, at: float | None) -> float | None:
    return None if at is None else max(0.0, now - at)
