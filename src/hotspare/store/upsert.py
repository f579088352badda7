"""Inserts that say what happens when such a row is there: the same on both databases."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


@cache
def insert_new(dialect: str, table: sa.Table, values: tuple[tuple[str, sa.ColumnElement[Any]], ...]
               = (), returning: tuple[str, ...] = ()) -> sa.Executable:
    """Nothing happens when a unique index has such a row: then nothing is returned. ``values``
    are columns that the statement works out itself."""
    row = _insert(dialect, table).values(dict(values)).on_conflict_do_nothing()
    return row.returning(*(table.c[name] for name in returning)) if returning else row


@cache
def insert_or_add(dialect: str, table: sa.Table, key: tuple[str, ...], sums: tuple[str, ...],
                  larger: str = "") -> sa.Executable:
    """The columns ``sums`` are added to those of the row with that key; of the column ``larger``
    the larger value stays."""
    row = _insert(dialect, table)
    return row.on_conflict_do_update(index_elements=key, set_={
        name: sa.case((table.c[name] < row.excluded[name], row.excluded[name]),
                      else_=table.c[name]) if name == larger
        else table.c[name] + row.excluded[name] for name in sums})


def _insert(dialect: str, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
