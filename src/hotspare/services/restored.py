"""A database that was lost, brought back from a backup, or moved: what was true of it may not be
any more, and no number that was given before may be given again, since names at hypervisors are
made of them."""

from __future__ import annotations

import time
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.errors import GiveUp, Refused
from ..store import schema
from ..store.dump import go_on_after
from . import ends
from .context import Change

LEFT_OUT: Final = frozenset({"token", "enrolment", "delivery"})
"""Of a backup: a session or code that was ended since would be good again, and notifications of
then would be sent now."""

MOVED: Final = "moved"
REBUILD: Final = "rebuild"
"""Settings: where the database went; that the targets are to be read at the next start."""


def settle(change: Change) -> None:
    """End what ran when the backup was made, and ask for a look at all targets."""
    t = schema.task
    for task in change.conn.execute(sa.select(t).where(t.c.state != "ended").order_by(
            sa.case((t.c.state == "queued", 0), else_=1), t.c.id)).all():
        ends.end(change, task, "failed", error=GiveUp("task.restored").as_dict(), figures={})
    skip_numbers(change.conn, change.now)
    _set(change.conn, REBUILD, change.now)


def skip_numbers(conn: Connection, now: float) -> None:
    """Go on with task numbers that no task had, at up to 16 tasks a second since 1970."""
    go_on_after(conn, schema.task, int(now) // 60 * 1000)


def take_rebuild(conn: Connection) -> bool:
    """Whether the targets are to be read, asked once."""
    s = schema.setting
    return conn.execute(sa.delete(s).where(s.c.key == REBUILD)).rowcount == 1


def mark_moved(conn: Connection, to: str, now: float) -> None:
    _set(conn, MOVED, {"to": to, "at": now})


def check(conn: Connection) -> None:
    """Raises Refused ``store.moved`` for a database that was left for another one."""
    moved = conn.execute(sa.select(schema.setting.c.value).where(
        schema.setting.c.key == MOVED)).scalar()
    if moved is not None:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(moved["at"]))
        raise Refused("store.moved", to=moved["to"], when=when)


def _set(conn: Connection, key: str, value: object) -> None:
    s = schema.setting
    conn.execute(sa.delete(s).where(s.c.key == key))
    conn.execute(sa.insert(s).values(key=key, value=value))
