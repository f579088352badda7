"""What all services share: the store, the keys, the hub, the clock; and one change to the store."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.errors import Refused
from ..store import Store, schema
from .hub import Hub
from .keys import KeyRing

Role = Literal["viewer", "operator", "administrator"]
_RANK = {"viewer": 0, "operator": 1, "administrator": 2}
_AUDIT, _LOG = sa.insert(schema.audit), sa.insert(schema.log)

@dataclass(frozen=True, slots=True)
class Actor:
    """On whose behalf something is done."""

    name: str
    role: Role

    def need(self, role: Role) -> None:
        """Raises Refused ``auth.role`` when this actor may do less."""
        if _RANK[self.role] < _RANK[role]:
            raise Refused("auth.role", user=self.name, role=self.role, needed=role)


SERVICE = Actor("hotspare", "administrator")
"""The product itself: the scheduler, recovery."""


@dataclass(slots=True)
class Last:
    """What a change does at its end, once for all that asked for it: rows that nothing in the
    change reads are written with one statement a table, since each is a way to the database."""

    work: dict[Callable[[Change], object], None] = field(default_factory=dict)
    rows: dict[sa.Executable, list[dict[str, Any]]] = field(default_factory=dict)

    def copy(self) -> Last:
        return Last(self.work.copy(), {s: rows.copy() for s, rows in self.rows.items()})


@dataclass(slots=True)
class Change:
    """One write transaction; what it wakes, it wakes after the commit."""

    conn: Connection
    now: float
    topics: set[str] = field(default_factory=set)
    last: Last = field(default_factory=Last)

    def notify(self, *topics: str) -> None:
        self.topics.update(topics)

    def at_end(self, work: Callable[[Change], object]) -> None:
        """Call it once before the commit."""
        self.last.work[work] = None

    def write_last(self, statement: sa.Executable, row: dict[str, Any]) -> None:
        """Execute before the commit what nothing in this change reads."""
        self.last.rows.setdefault(statement, []).append(row)

    def finish(self) -> None:
        """Before the commit."""
        while self.last.work:
            self.last.work.popitem()[0](self)
        for statement, rows in self.last.rows.items():
            self.conn.execute(statement, rows)
        self.last.rows.clear()

    def unused_id(self, table: sa.Table) -> str:
        """For a new row. Of eight digits, two of 10,000 are the same once in a hundred times."""
        while True:
            ident = secrets.token_hex(4)
            if self.conn.execute(sa.select(table.c.id).where(
                    table.c.id == ident)).one_or_none() is None:
                return ident

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What an exception undoes; it goes on."""
        last = self.last.copy()
        try:
            with self.conn.begin_nested():
                yield
        except BaseException:
            self.last.work, self.last.rows = last.work, last.rows
            raise

    def audit(self, actor: Actor, action: str, what: str, **detail: Any) -> None:
        self.write_last(_AUDIT, {"at": self.now, "user": actor.name, "action": action,
                                 "object": what, "detail": detail})

    def log(self, level: str, code: str, fields: dict[str, Any], *, rule: str | None = None,
            task: int | None = None, platform: str | None = None) -> None:
        self.write_last(_LOG, {"at": self.now, "level": level, "code": code, "fields": fields,
                               "rule": rule, "task": task, "platform": platform})


@contextmanager
def change_on(conn: Connection, now: float) -> Iterator[Change]:
    """A change in a transaction of the caller's."""
    change = Change(conn, now)
    yield change
    change.finish()


@dataclass(slots=True)
class Context:
    store: Store
    keys: KeyRing
    hub: Hub = field(default_factory=Hub)
    clock: Callable[[], float] = time.time
    uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    """Seconds that no setting of the clock changes, and that count while the host sleeps."""

    @contextmanager
    def change(self) -> Iterator[Change]:
        with self.store.write() as conn, change_on(conn, self.clock()) as change:
            yield change
        self.hub.publish(*change.topics)

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """For one statement."""
        with self.store.look() as conn:
            yield conn

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.store.read() as conn:
            yield conn
