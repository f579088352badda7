"""What all services share: the store, the keys, the hub, the clock; and one change to the store."""

from __future__ import annotations

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
class Change:
    """One write transaction; what it wakes, it wakes after the commit."""

    conn: Connection
    now: float
    topics: set[str] = field(default_factory=set)

    def notify(self, *topics: str) -> None:
        self.topics.update(topics)

    def audit(self, actor: Actor, action: str, what: str, **detail: Any) -> None:
        self.conn.execute(_AUDIT, {"at": self.now, "user": actor.name, "action": action,
                                   "object": what, "detail": detail})

    def log(self, level: str, code: str, fields: dict[str, Any], *, rule: str | None = None,
            task: int | None = None, platform: str | None = None) -> None:
        self.conn.execute(_LOG, {"at": self.now, "level": level, "code": code, "fields": fields,
                                 "rule": rule, "task": task, "platform": platform})


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
        with self.store.write() as conn:
            change = Change(conn, self.clock())
            yield change
        self.hub.publish(*change.topics)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.store.read() as conn:
            yield conn
