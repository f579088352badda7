"""Sums of each day, kept when the tasks that they count are pruned. Part of a change.

A run is added to its rule, to its rule's group of that moment, and to all rules, so every answer
reads as many rows as it has days. Days are those of UTC, and a run belongs to the day it ended.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from ..store import schema
from .context import Change

ALL: Final = ""
"""The scope of all rules."""


def day_of(at: float) -> str:
    """``YYYY-MM-DD``, which sorts as the days follow each other."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def add_to_day(change: Change, rule: str, group: str | None, **sums: float) -> None:
    """Add to the day's columns; of ``longest_gap_s`` the larger stays."""
    day = day_of(change.now)
    add(change.conn, schema.rule_day, {"rule": rule, "day": day}, sums)
    for scope in (ALL, group):
        if scope is not None:
            add(change.conn, schema.total_day, {"scope": scope, "day": day}, sums)


def add(conn: Connection, table: sa.Table, key: dict[str, Any], sums: dict[str, Any]) -> None:
    """Insert a row, or add to the one that is there."""
    conn.execute(_adding(conn.dialect.name, table, tuple(key), tuple(sums)), {**key, **sums})


@cache
def _adding(dialect: str, table: sa.Table, key: tuple[str, ...], sums: tuple[str, ...]
            ) -> sa.Insert:
    """Made once: putting it together takes longer than running it."""
    row = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    adding: sa.Insert = row.on_conflict_do_update(index_elements=key, set_={
        name: sa.case((table.c[name] < row.excluded[name], row.excluded[name]),
                      else_=table.c[name]) if name == "longest_gap_s"
        else table.c[name] + row.excluded[name] for name in sums})
    return adding
    return adding
