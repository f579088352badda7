"""Tasks as operators see them: list, steps, and progress kept in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.errors import GiveUp, Refused
from ..store import Record, schema
from ..workflows.link import SIDE
from . import ends, queue
from .context import Actor, Context
from .exports import csv_file, instant
from .hub import machine_topic, task_topic
from .live_progress import LiveProgress
from .rules import find as find_rule
from .views import Page, ProgressView, StepView, TaskView, explained

_BATCH: Final = 500


class Tasks:
    def __init__(self, context: Context, progress: LiveProgress) -> None:
        self._context = context
        self._progress = progress

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None,
             rule: str | None = None, state: str | None = None) -> Page[TaskView]:
        """Newest first. ``rule`` is an id or a name; ``state`` one of the states or ``live``."""
        actor.need("viewer")
        query = self._listed(rule, state).limit(limit + 1)
        if cursor:
            query = query.where(schema.task.c.id < int(cursor))
        with self._context.read() as conn:
            rows = conn.execute(query).all()
            items = [*self._views(conn, rows[:limit])]
        return Page(items, str(items[-1].id) if len(rows) > limit else None)

    def file(self, actor: Actor, rule: str | None = None,
             state: str | None = None) -> Iterator[str]:
        """All of them as CSV, in parts, newest first. Raises before the first part."""
        actor.need("viewer")
        return csv_file(COLUMNS, self._parts(self._listed(rule, state)))

    def _parts(self, query: sa.Select[Any]) -> Iterator[Sequence[Sequence[Any]]]:
        s, last = schema.task_step, None
        while True:
            part = query if last is None else query.where(schema.task.c.id < last)
            with self._context.read() as conn:
                rows = conn.execute(part.limit(_BATCH)).all()
                steps: dict[int, list[str]] = {}
                for step in conn.execute(
                        sa.select(s).where(s.c.task.in_([row.id for row in rows]),
                                           s.c.ended_at.is_not(None)).order_by(s.c.position)):
                    steps.setdefault(step.task, []).append(
                        f"{step.name}={step.ended_at - step.started_at:.1f}")
            if not rows:
                return
            yield [_cells(row, steps.get(row.id, [])) for row in rows]
            last = rows[-1].id

    def _listed(self, rule: str | None, state: str | None) -> sa.Select[Any]:
        t = schema.task
        query = _SELECT.order_by(t.c.id.desc())
        if state == "live":
            query = query.where(t.c.state != "ended")
        elif state is not None:
            query = query.where(t.c.state == state)
        if rule is not None:
            with self._context.read() as conn:
                query = query.where(t.c.rule == rule_id(conn, rule))
        return query

    def get(self, actor: Actor, task: int) -> TaskView:
        actor.need("viewer")
        s = schema.task_step
        with self._context.read() as conn:
            row = find(conn, task)
            steps = conn.execute(sa.select(s).where(s.c.task == task)
                                 .order_by(s.c.position)).all()
            [view] = self._views(conn, [row])
        return replace(view, steps=[
            StepView(name=x.name, state=x.state, attempts=x.attempts, detail=x.detail,
                     started_at=x.started_at, ended_at=x.ended_at) for x in steps])

    def stop(self, actor: Actor, task: int) -> TaskView:
        """End a test or a scrub; every other task is stopped with its rule. One that is queued
        ends with this call, one that runs removes what it made first."""
        actor.need("operator")
        with self._context.change() as change:
            row = find(change.conn, task)
            if row.kind not in SIDE or row.state == "ended":
                raise Refused("task.not-stoppable", task=task, kind=row.kind, state=row.state)
            if row.state == "queued":
                ends.end(change, row, "stopped", error=None, figures={})
            else:
                t = schema.task
                change.conn.execute(sa.update(t).where(t.c.id == task).values(stop=True))
                change.notify(task_topic(task), machine_topic(row.machine))
            change.audit(actor, "task.stop", str(row.rule), task=task, kind=row.kind)
        return self.get(actor, task)

    def progress(self, actor: Actor, task: int) -> ProgressView:
        actor.need("viewer")
        version = self._context.hub.version(task_topic(task))
        with self._context.read() as conn:
            [view] = self._views(conn, [find(conn, task)])
        return ProgressView(version=version, task=task, state=view.state, outcome=view.outcome,
                            error=view.error, reason=view.reason, progress=view.progress)

    async def wait(self, task: int, seen: int, seconds: float) -> None:
        """Until the task has something newer than version ``seen``; costs no thread."""
        await self._context.hub.wait_async(task_topic(task), seen, seconds)

    def _views(self, conn: Connection, rows: Sequence[Record]) -> Sequence[TaskView]:
        waits = queue.waits(conn, [row.id for row in rows if row.state == "queued"])
        return [self._view(row, waits.get(row.id)) for row in rows]

    def _view(self, row: Record, waits: dict[str, Any] | None) -> TaskView:
        return TaskView(
            id=row.id, kind=row.kind, rule=row.rule, rule_name=row.rule_name,
            platform=row.platform, platform_name=row.platform_name, machine=row.machine,
            state=row.state, outcome=row.outcome, stop=row.stop, reason=explained(waits),
            point=row.point, error=explained(row.error), figures=row.figures,
            trigger=row.trigger, requested_by=row.requested_by, created_at=row.created_at,
            dispatched_at=row.dispatched_at, started_at=row.started_at, ended_at=row.ended_at,
            full=row.full, bytes_queried=row.bytes_queried, bytes_read=row.bytes_read,
            bytes_moved=row.bytes_moved, bytes_zero=row.bytes_zero, rate=rate(row),
            stall_s=row.stall_s, retries=row.retries,
            progress=self._progress.get(row.id) or row.progress)


def rate(row: Record) -> float | None:
    """Bytes moved in a second of the transfer, pauses included."""
    seconds = row.figures.get("transfer_s")
    usable = isinstance(seconds, int | float) and seconds > 0
    return row.bytes_moved / seconds if usable and row.bytes_moved else None


COLUMNS: Final = (
    "task", "kind", "rule", "rule_name", "platform", "machine", "state", "outcome", "trigger",
    "created", "started", "ended", "seconds", "full", "bytes_queried", "bytes_read",
    "bytes_moved", "bytes_zero", "bytes_per_second", "stall_s", "retries", "error",
    "seconds_by_step")


def _cells(row: Record, steps: list[str]) -> list[Any]:
    took = None if None in (row.started_at, row.ended_at) else row.ended_at - row.started_at
    return [row.id, row.kind, row.rule, row.rule_name, row.platform_name, row.machine, row.state,
            row.outcome, row.trigger, instant(row.created_at), instant(row.started_at),
            instant(row.ended_at), took, int(row.full), row.bytes_queried, row.bytes_read,
            row.bytes_moved, row.bytes_zero, rate(row), row.stall_s, row.retries,
            (row.error or {}).get("code"), " ".join(steps)]


def rule_id(conn: Connection, ref: str) -> str:
    """A rule by its id or its name. A deleted rule's history is found by its id."""
    known = conn.execute(sa.select(schema.rule.c.id).where(schema.rule.c.id == ref)).scalar()
    return str(known or find_rule(conn, ref).id)


def find(conn: Connection, task: int) -> Record:
    row = conn.execute(_SELECT.where(schema.task.c.id == task)).one_or_none()
    if row is None:
        raise GiveUp("task.not-found", task=task)
    return row


def _make_select() -> sa.Select[Any]:
    t, r, p = schema.task, schema.rule, schema.platform
    return (sa.select(t, r.c.name.label("rule_name"), p.c.name.label("platform_name"))
            .outerjoin(r, r.c.id == t.c.rule).outerjoin(p, p.c.id == t.c.platform))


_SELECT = _make_select()
