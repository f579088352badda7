"""Sums of each day, kept when the tasks that they count are pruned. Part of a change.

A run is added to its rule, to its rule's group of that moment, and to all rules, so every answer
reads as many rows as it has days. Days are those of UTC, and a run belongs to the day it ended.
"""

from __future__ import annotations

import time
from typing import Any, Final

import sqlalchemy as sa

from ..store import schema
from ..store.upsert import insert_or_add
from .context import Change

ALL: Final = ""
"""The scope of all rules."""


def day_of(at: float) -> str:
    """``YYYY-MM-DD``, which sorts as the days follow each other."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def add_to_day(change: Change, rule: str, group: str | None, **sums: float) -> None:
    """Add to the day's columns; of ``longest_gap_s`` the larger stays."""
    day = day_of(change.now)
    add(change, schema.rule_day, {"rule": rule, "day": day}, sums)
    for scope in (ALL, group):
        if scope is not None:
            add(change, schema.total_day, {"scope": scope, "day": day}, sums)


def add(change: Change, table: sa.Table, key: dict[str, Any], sums: dict[str, Any]) -> None:
    """Insert a row, or add to the one that is there; at the end of the change."""
    change.write_last(insert_or_add(change.conn.dialect.name, table, tuple(key), tuple(sums),
                                    "longest_gap_s"), {**key, **sums})
