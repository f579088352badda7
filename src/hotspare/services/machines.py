"""DR machines: registered, seen, lost and back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import sqlalchemy as sa

from .. import __version__
from ..domain.rule_states import FAILOVER, RuleState, visible
from ..store import schema
from . import queue
from .context import Actor, Change, Context
from .hub import SCHEDULE, machine_topic, rule_topic
from .names import page, slice_of
from .views import MachineView, Page

LOST_AFTER_S = 30.0
_STORE_EVERY_S = 10.0


@dataclass(slots=True)
class Machines:
    """Liveness is kept in memory, in seconds of uptime; a machine that a new process has not
    heard of yet has :data:`LOST_AFTER_S` to report before its rules show invalid."""

    context: Context
    _seen: dict[str, float] = field(default_factory=dict)
    _stored: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None
             ) -> Page[MachineView]:
        actor.need("viewer")
        m, t = schema.machine, schema.task
        running = sa.func.count().filter(t.c.state.in_(queue.BEGUN))
        queued = sa.func.count().filter(t.c.state == "queued")
        with self.context.read() as conn:
            rows = conn.execute(slice_of(
                sa.select(m, running.label("running"), queued.label("queued"))
                .outerjoin(t, sa.and_(t.c.machine == m.c.name, t.c.state != "ended"))
                .group_by(*m.c).order_by(m.c.name), limit, cursor)).all()
        return page([MachineView(
            name=r.name, live=r.live, last_seen=r.last_seen,
            max_tasks=r.max_tasks, running=r.running, queued=r.queued, temp_dir=r.temp_dir,
            version=r.version) for r in rows], limit, cursor)

    def register(self, name: str, temp_dir: str) -> None:
        """Make the machine known, live, with this process's settings."""
        m = schema.machine
        with self.context.change() as change:
            values = {"live": True, "last_seen": change.now, "temp_dir": temp_dir,
                      "max_tasks": self.context.limits.max_tasks, "version": __version__}
            known = change.conn.execute(
                sa.update(m).where(m.c.name == name).values(**values)).rowcount
            if not known:
                change.conn.execute(sa.insert(m).values(
                    name=name, created_at=change.now, **values))
            self._seen[name] = self._stored[name] = self.context.uptime()
            self._show(change, name, live=True)

    def seen(self, name: str) -> None:
        """The machine spoke."""
        now = self.context.uptime()
        with self._lock:
            self._seen[name] = now
            if now - self._stored.get(name, float("-inf")) < _STORE_EVERY_S:
                return
            self._stored[name] = now
        m = schema.machine
        with self.context.change() as change:
            back = change.conn.execute(
                sa.update(m).where(m.c.name == name, m.c.live.is_(False))
                .values(live=True)).rowcount
            change.conn.execute(sa.update(m).where(m.c.name == name).values(
                last_seen=change.now))
            if back:
                self._show(change, name, live=True)

    def watch(self) -> None:
        """Find machines that fell silent. Called every few seconds."""
        m = schema.machine
        now = self.context.uptime()
        with self.context.read() as conn:
            live = conn.execute(sa.select(m.c.name).where(m.c.live.is_(True))).scalars().all()
        silent = [n for n in live if now - self._seen.setdefault(n, now) > LOST_AFTER_S]
        for name in silent:
            with self._lock:
                self._stored.pop(name, None)    # its next word makes it live again
            with self.context.change() as change:
                change.conn.execute(sa.update(m).where(m.c.name == name).values(live=False))
                self._show(change, name, live=False)

    def _show(self, change: Change, machine: str, live: bool) -> None:
        """Rules show invalid, or their own state again; queued tasks get their chance."""
        r = schema.rule
        for state in RuleState:
            if state not in FAILOVER and state is not RuleState.INVALID:
                change.conn.execute(sa.update(r).where(
                    r.c.machine == machine, r.c.deleted_at.is_(None),
                    r.c.own_state == state.value).values(state=visible(state, live).value))
        for rule in change.conn.execute(sa.select(r.c.id).where(
                r.c.machine == machine, r.c.deleted_at.is_(None))).scalars():
            change.notify(rule_topic(rule))
        queue.dispatch(change, self.context.limits)
        change.notify(SCHEDULE, machine_topic(machine))
