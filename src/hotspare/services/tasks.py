"""Tasks as operators see them: list, steps, log, and progress kept in memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.codec import encode
from ..domain.errors import GiveUp
from ..domain.messages import text_of
from ..store import Record, schema
from ..workflows.link import Progress
from .context import Actor, Context
from .hub import task_topic
from .views import LogView, Page, ProgressView, StepView, TaskView, explained

STORE_EVERY_S = 10.0


@dataclass(slots=True)
class LiveProgress:
    """How far the running tasks are. The database gets it every 10 s, for a restart."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _now: dict[int, dict[str, Any]] = field(default_factory=dict)
    _stored: dict[int, float] = field(default_factory=dict)

    def put(self, task: int, progress: Progress, now: float) -> bool:
        """True when it is time to store it."""
        with self._lock:
            self._now[task] = encode(progress)
            due = now - self._stored.get(task, float("-inf")) >= STORE_EVERY_S
            if due:
                self._stored[task] = now
            return due

    def get(self, task: int) -> dict[str, Any] | None:
        with self._lock:
            return self._now.get(task)

    def drop(self, task: int) -> dict[str, Any] | None:
        with self._lock:
            self._stored.pop(task, None)
            return self._now.pop(task, None)


class Tasks:
    def __init__(self, context: Context, progress: LiveProgress) -> None:
        self._context = context
        self._progress = progress

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None,
             rule: str | None = None, state: str | None = None) -> Page[TaskView]:
        """Newest first. ``rule`` is an id or a name; ``state`` one of the states or ``live``."""
        actor.need("viewer")
        t, r = schema.task, schema.rule
        query = _SELECT.order_by(t.c.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(t.c.id < int(cursor))
        if state == "live":
            query = query.where(t.c.state != "ended")
        elif state is not None:
            query = query.where(t.c.state == state)
        with self._context.read() as conn:
            if rule is not None:
                # A deleted rule's history is found by its id.
                known = conn.execute(sa.select(r.c.id).where(r.c.id == rule)).scalar()
                if known is None:
                    from .rules import find

                    known = find(conn, rule).id
                query = query.where(t.c.rule == known)
            rows = conn.execute(query).all()
        items = [self._view(row) for row in rows[:limit]]
        return Page(items, str(items[-1].id) if len(rows) > limit else None)

    def get(self, actor: Actor, task: int) -> TaskView:
        actor.need("viewer")
        s = schema.task_step
        with self._context.read() as conn:
            row = find(conn, task)
            steps = conn.execute(sa.select(s).where(s.c.task == task)
                                 .order_by(s.c.position)).all()
        return self._view(row, [
            StepView(name=x.name, state=x.state, attempts=x.attempts, detail=x.detail,
                     started_at=x.started_at, ended_at=x.ended_at) for x in steps])

    def progress(self, actor: Actor, task: int) -> ProgressView:
        actor.need("viewer")
        version = self._context.hub.version(task_topic(task))
        with self._context.read() as conn:
            row = find(conn, task)
        return ProgressView(version=version, task=task, state=row.state, outcome=row.outcome,
                            error=row.error, reason=explained(row.reason),
                            progress=self._progress.get(task) or row.progress)

    async def wait(self, task: int, seen: int, seconds: float) -> None:
        """Until the task has something newer than version ``seen``; costs no thread."""
        await self._context.hub.wait_async(task_topic(task), seen, seconds)

    def log(self, actor: Actor, *, task: int | None = None, rule: str | None = None,
            limit: int = 100, cursor: str | None = None) -> Page[LogView]:
        """Oldest first; the cursor of the last page finds what was written after it."""
        actor.need("viewer")
        t = schema.log
        query = sa.select(t).order_by(t.c.id).limit(limit + 1)
        if cursor:
            query = query.where(t.c.id > int(cursor))
        with self._context.read() as conn:
            if task is not None:
                find(conn, task)
                query = query.where(t.c.task == task)
            if rule is not None:
                from .rules import find as find_rule

                query = query.where(t.c.rule == find_rule(conn, rule).id)
            rows = conn.execute(query).all()
        items = [LogView(id=r.id, at=r.at, level=r.level, code=r.code,
                         message=_sentence(r.code, r.fields), fields=r.fields, rule=r.rule,
                         platform=r.platform, task=r.task) for r in rows[:limit]]
        return Page(items, str(items[-1].id) if len(rows) > limit else None)

    def _view(self, row: Record, steps: list[StepView] | None = None) -> TaskView:  # type: ignore[valid-type]
        return TaskView(
            id=row.id, kind=row.kind, rule=row.rule, rule_name=row.rule_name,
            platform=row.platform, platform_name=row.platform_name, machine=row.machine,
            state=row.state, outcome=row.outcome, stop=row.stop, reason=explained(row.reason),
            point=row.point, error=row.error, figures=row.figures, trigger=row.trigger,
            requested_by=row.requested_by, created_at=row.created_at,
            dispatched_at=row.dispatched_at, started_at=row.started_at, ended_at=row.ended_at,
            progress=self._progress.get(row.id) or row.progress, steps=steps or [])


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


def _sentence(code: str, fields: dict[str, Any]) -> str:
    text = text_of(code, fields)
    return f"{text.message} {text.remedy}".strip()
