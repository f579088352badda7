"""Rules as they are shown, and the query of their list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.codec import decode
from ..domain.rule_states import CHINESE, Operation, RuleState, operations
from ..domain.schedule import Schedule
from ..store import Record, schema
from ..workflows.link import SIDE
from . import queue
from .live_progress import LiveProgress
from .names import name_key, slice_of
from .rule_settings import retention_covers_s
from .runs import decode_ranges
from .views import RuleView, explained

Sort = Literal["name", "state", "vm", "machine", "next_run", "last_success", "newest", "created",
               "-name", "-state", "-vm", "-machine", "-next_run", "-last_success", "-newest",
               "-created"]
_R = schema.rule.c
_ORDER: Final[dict[str, sa.Column[Any]]] = {
    "name": _R.name_key, "state": _R.state, "vm": _R.vm_name, "machine": _R.machine,
    "next_run": _R.next_run_at, "last_success": _R.last_success_at, "newest": _R.latest_point_at,
    "created": _R.created_at}


def _select() -> sa.Select[Any]:
    r, t, g = schema.rule, schema.task, schema.rule_group
    source, target = schema.platform.alias(), schema.platform.alias()
    return (sa.select(r, source.c.name.label("source_name"), target.c.name.label("target_name"),
                      g.c.name.label("group_name"), t.c.id.label("live_task"),
                      t.c.kind.label("live_kind"), t.c.state.label("live_state"))
            .join(source, source.c.id == r.c.source).join(target, target.c.id == r.c.target)
            .outerjoin(g, g.c.id == r.c.group)
            .outerjoin(t, sa.and_(t.c.rule == r.c.id, t.c.state != "ended",
                                  t.c.kind.not_in(SIDE)))
            .add_columns(*(
                sa.select(x.c.id).where(x.c.rule == r.c.id, x.c.state != "ended",
                                        x.c.kind == kind).scalar_subquery().label(f"side_{kind}")
                for kind, x in ((k, schema.task.alias()) for k in sorted(SIDE))))
            .where(r.c.deleted_at.is_(None)))


_SELECT = _select()             # made once: building it costs more than running it
_PHASES = sa.select(schema.task_step.c.task, schema.task_step.c.name).where(
    schema.task_step.c.state == "running",
    schema.task_step.c.task.in_(sa.bindparam("tasks", expanding=True)))


def listed(limit: int, cursor: str | None, sort: Sort = "name", **where: Any) -> sa.Select[Any]:
    """The query of a page of a list. ``where``: state, group (id), machine, source, target (ids),
    and ``text``, a part of the rule's or the machine's name; None: any.

    What is sorted are ids: rows are wide, and most of ten thousand are on other pages."""
    query = sa.select(_R.id).where(_R.deleted_at.is_(None))
    text = where.pop("text", None)
    for name, value in where.items():
        if value is not None:
            query = query.where(_R[name] == value)
    if text:
        query = query.where(sa.or_(_R.name_key.contains(name_key(text), autoescape=True),
                                   _R.vm_name.icontains(text, autoescape=True)))
    column = _ORDER[sort.removeprefix("-")]
    order = column.desc() if sort.startswith("-") else column.asc()
    # What has no such time comes last either way; the name makes the order whole.
    by = (*([column.is_(None)] if column.nullable else []), order, _R.name_key)
    page = slice_of(query.order_by(*by), limit, cursor)
    return _SELECT.where(_R.id.in_(page)).order_by(*by)


def one(conn: Connection, ident: str, progress: LiveProgress) -> RuleView:
    [view] = views(conn, conn.execute(_SELECT.where(schema.rule.c.id == ident)).all(), progress)
    return view


def views(conn: Connection, rows: Sequence[Record], progress: LiveProgress) -> list[RuleView]:
    waits = queue.waits(conn, [r.live_task for r in rows if r.live_state == "queued"])
    begun = [r.live_task for r in rows if r.live_state in queue.BEGUN]
    phases = {r.task: r.name for r in conn.execute(_PHASES, {"tasks": begun})} if begun else {}
    return [_view(r, waits.get(r.live_task), phases.get(r.live_task),
                  _percent(progress.get(r.live_task))) for r in rows]


def _percent(progress: dict[str, Any] | None) -> float | None:
    if progress is None or not progress["total"]:
        return None
    return round(float(100 * progress["done"] / progress["total"]), 1)


def _view(row: Record, waits: dict[str, Any] | None, phase: str | None,
          percent: float | None) -> RuleView:
    state = RuleState(row.state)
    side: dict[str, int] = {
        kind: task for kind in sorted(SIDE)
        if (task := getattr(row, f"side_{kind}")) is not None}
    allowed = operations(state, bool(row.points), row.live_kind, row.failback, side)
    when = None if row.schedule is None else decode(Schedule, row.schedule)
    return RuleView(
        id=row.id, name=row.name, group=row.group, group_name=row.group_name, source=row.source,
        source_name=row.source_name, vm=row.vm, vm_name=row.vm_name, target=row.target,
        target_name=row.target_name, datacenter=row.datacenter, host=row.host,
        folder=row.folder, pool=row.pool,
        storage=row.storage, replica_name=row.replica_name, networks=row.networks,
        machine=row.machine, temp_dir=row.temp_dir, retention=row.retention,
        retention_covers_s=retention_covers_s(row.retention, when), quiesce=row.quiesce,
        fast_transfer=row.fast_transfer, lan_free=row.lan_free,
        devices=row.devices,
        delete_replica=row.delete_replica, time_zone=row.time_zone,
        bandwidth=list(decode_ranges(row.bandwidth)), schedule=when, rpo_s=row.rpo_s,
        revision=row.revision, enabled=row.enabled, next_run_at=row.next_run_at,
        epoch=row.epoch, state=state.value, state_zh=CHINESE[state],
        operations=[o.value for o in Operation if o in allowed], pause=explained(row.pause),
        phase=phase, percent=percent, points=row.points, latest_point=row.latest_point,
        latest_point_at=row.latest_point_at,
        stored=row.stored, rpo_violated_at=row.rpo_violated_at, full_runs=row.full_runs,
        failover_point=row.failover_point, failover_detail=row.failover_detail,
        source_power=row.source_power, both_run_since=row.both_run_since,
        both_run=None if row.both_run_since is None else explained({
            "code": "rule.both-run", "fields": {"vm": row.vm_name, "name": row.name}}),
        failback=row.failback, commit_at=row.commit_at,
        last_result=row.last_result, last_error=explained(row.last_error), last_task=row.last_task,
        last_success_at=row.last_success_at, live_task=row.live_task,
        side_tasks=side,
        waits_for=explained(waits), created_at=row.created_at,
        created_by=row.created_by)
