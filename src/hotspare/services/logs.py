"""The logs of rules and tasks: append-only, read in pages either way, or whole as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, Literal

import sqlalchemy as sa

from ..domain.messages import Language, text_of
from ..domain.text import plain
from ..store import Record, schema
from .context import Actor, Context
from .exports import csv_file, instant
from .tasks import find, rule_id
from .views import LogView, Page

Level = Literal["info", "warning", "error"]
Order = Literal["oldest", "newest"]
Format = Literal["txt", "csv"]

LEVELS: Final[tuple[Level, ...]] = ("info", "warning", "error")
COLUMNS: Final = ("time", "level", "code", "message", "remedy", "task", "parameters")
_BATCH: Final = 1000


class Logs:
    def __init__(self, context: Context) -> None:
        self._context = context

    def page(self, actor: Actor, *, task: int | None = None, rule: str | None = None,
             limit: int = 100, cursor: str | None = None, order: Order = "oldest",
             level: Level = "info") -> Page[LogView]:
        """Lines of ``level`` and above. Oldest first, the cursor of the last page finds what was
        written after it."""
        actor.need("viewer")
        rows = self._rows(self._query(task, rule, order, level), order, limit + 1,
                          int(cursor) if cursor else None)
        items = [_view(row) for row in rows[:limit]]
        return Page(items, str(items[-1].id) if len(rows) > limit else None)

    def file(self, actor: Actor, rule: str, form: Format, told_in: Language,
             order: Order = "oldest", level: Level = "info") -> Iterator[str]:
        """The rule's whole log as text, a line each, or as CSV, in parts. Raises before the first
        part; each part is read by itself, so a slow reader holds no transaction."""
        actor.need("viewer")
        query = self._query(None, rule, order, level)
        rows = self._all(query, order)
        if form == "txt":
            return ("".join(_line(row, told_in) for row in part) for part in rows)
        return csv_file(COLUMNS, ((_cells(row, told_in) for row in part) for part in rows))

    def _query(self, task: int | None, rule: str | None, order: Order,
               level: Level) -> sa.Select[Any]:
        x = schema.log
        query = sa.select(x).order_by(x.c.id if order == "oldest" else x.c.id.desc())
        with self._context.read() as conn:
            if task is not None:
                find(conn, task)
                query = query.where(x.c.task == task)
            if rule is not None:
                query = query.where(x.c.rule == rule_id(conn, rule))
        if level != "info":
            query = query.where(x.c.level.in_(LEVELS[LEVELS.index(level):]))
        return query

    def _rows(self, query: sa.Select[Any], order: Order, limit: int,
              after: int | None) -> list[Record]:
        x = schema.log
        if after is not None:
            query = query.where(x.c.id > after if order == "oldest" else x.c.id < after)
        with self._context.read() as conn:
            return list(conn.execute(query.limit(limit)).all())

    def _all(self, query: sa.Select[Any], order: Order) -> Iterator[list[Record]]:
        after = None
        while rows := self._rows(query, order, _BATCH, after):
            yield rows
            after = rows[-1].id


def _view(row: Record) -> LogView:
    text = text_of(row.code, row.fields)
    return LogView(id=row.id, at=row.at, level=row.level, code=row.code,
                   message=f"{text.message} {text.remedy}".strip(), fields=row.fields,
                   rule=row.rule, platform=row.platform, task=row.task)


def _line(row: Record, told_in: Language) -> str:
    text = text_of(row.code, row.fields, told_in)
    task = "" if row.task is None else f" task={row.task}"
    said = plain(f"{text.message} {text.remedy}".strip())
    return f"{instant(row.at)} {row.level.upper():<7} {said} [{row.code}]{task}\n"


def _cells(row: Record, told_in: Language) -> list[Any]:
    text = text_of(row.code, row.fields, told_in)
    return [instant(row.at), row.level, row.code, text.message, text.remedy, row.task,
            json.dumps(row.fields, ensure_ascii=False, sort_keys=True)]
