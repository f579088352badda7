"""DR machines: registered, set, seen, busy, lost and back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .. import __version__
from ..domain.bandwidth import Bandwidth, Range, check
from ..domain.codec import decode, encode
from ..domain.errors import GiveUp
from ..domain.limits import DEFAULT_PER_HOST, Configured, Limits
from ..domain.rule_states import RuleState, visible
from ..store import Record, schema
from . import queue
from .context import SERVICE, Actor, Change, Context
from .hub import SCHEDULE, machine_topic, rule_topic
from .limits import set_per_host
from .names import page, slice_of
from .notifications import announce
from .runs import decode_ranges, reconsider
from .views import MachineView, Page, explained

LOST_AFTER_S = 24.0         # with the time between two looks, 30 s at most
_STORE_EVERY_S = 10.0
_SLEPT_S = 15.0             # between two looks


@dataclass(slots=True)
class Machines:
    """Liveness is kept in memory, in seconds of uptime; a machine that a new process has not
    heard of yet has :data:`LOST_AFTER_S` to report before its rules show invalid."""

    context: Context
    _seen: dict[str, float] = field(default_factory=dict)
    _live: set[str] = field(default_factory=set)    # live, and stored as such
    _stored_at: float = float("-inf")
    _looked: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # --- by people -----------------------------------------------------------------------------

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None
             ) -> Page[MachineView]:
        actor.need("viewer")
        with self.context.read() as conn:
            rows = conn.execute(slice_of(_select(), limit, cursor)).all()
        return page([_view(row) for row in rows], limit, cursor)

    def get(self, actor: Actor, name: str) -> MachineView:
        actor.need("viewer")
        with self.context.read() as conn:
            return _view(_find(conn, name))

    def set(self, actor: Actor, name: str, *, max_tasks: int | None = None,
            transfer_buffer: int | None = None, time_zone: str | None = None,
            bandwidth: tuple[Range, ...] | None = None) -> MachineView:
        """Change what is not None. It holds until the machine's own file says something new.
        Running tasks keep their buffer and their slot. Raises Refused ``limits.*``,
        ``bandwidth.*``."""
        actor.need("administrator")
        given = {"max_tasks": max_tasks, "transfer_buffer": transfer_buffer,
                 "time_zone": time_zone, "bandwidth": encode(bandwidth)}
        values = {key: value for key, value in given.items() if value is not None}
        with self.context.change() as change:
            row = _find(change.conn, name)
            now = row._asdict() | values
            Limits(now["max_tasks"], now["transfer_buffer"])
            check(Bandwidth(now["time_zone"], decode_ranges(now["bandwidth"])))
            if values:
                self._update(change, row.name, values)
                change.audit(actor, "machine.set", row.name, **values)
            return _view(_find(change.conn, row.name))

    # --- by the machine ------------------------------------------------------------------------

    def register(self, name: str, temp_dir: str, configured: Configured | None = None) -> None:
        """Make the machine known, live; what its file says (None: as before) is taken over."""
        m = schema.machine
        with self.context.change() as change:
            values = {"live": True, "last_seen": change.now, "temp_dir": temp_dir,
                      "version": __version__, "busy": None}
            known = change.conn.execute(
                sa.update(m).where(m.c.name == name).values(**values)).rowcount
            if not known:
                change.conn.execute(sa.insert(m).values(
                    name=name, created_at=change.now, max_tasks=Limits().max_tasks, **values))
            if configured is not None:
                self.configure(change, name, configured)
            self._seen[name] = self.context.uptime()
            self._live.add(name)
            self._show(change, name)

    def configure(self, change: Change, name: str, found: Configured) -> None:
        """Take over what changed in the machine's file since it was read last. What did not
        change there keeps what the control server may have set since."""
        row = _find(change.conn, name)
        before = decode(Configured, row.configured)
        if found == before:
            return
        values: dict[str, Any] = {"configured": encode(found)}
        if (before.max_tasks, before.transfer_buffer) != (found.max_tasks, found.transfer_buffer):
            values |= encode(found.limits())    # both: each source is checked as a pair
        if before.bandwidth != found.bandwidth:
            bandwidth = found.bandwidth or Bandwidth()
            values |= {"time_zone": bandwidth.zone, "bandwidth": encode(bandwidth.ranges)}
        if before.max_tasks_per_host != found.max_tasks_per_host:
            set_per_host(change, SERVICE, found.max_tasks_per_host or DEFAULT_PER_HOST,
                         machine=name)
        self._update(change, name, values)

    def report(self, name: str, busy: dict[str, Any] | None) -> None:
        """The machine says why it takes no new task now (``code``, ``fields``), or None."""
        m = schema.machine
        with self.context.change() as change:
            if change.conn.execute(sa.select(m.c.busy).where(m.c.name == name)).scalar() != busy:
                change.conn.execute(sa.update(m).where(m.c.name == name).values(busy=busy))
                self._show(change, name)

    def seen(self, name: str) -> None:
        """The machine spoke."""
        with self._lock:
            self._seen[name] = self.context.uptime()
            if name in self._live:
                return
        m = schema.machine
        with self.context.change() as change:
            back = change.conn.execute(
                sa.update(m).where(m.c.name == name, m.c.live.is_(False))
                .values(live=True)).rowcount
            change.conn.execute(sa.update(m).where(m.c.name == name).values(
                last_seen=change.now))
            if back:
                self._show(change, name)
                announce(change, "machine.back", machine=name)
        with self._lock:
            self._live.add(name)

    def silent(self, name: str) -> bool:
        """Whether the machine was heard of in this process's life, and not of late."""
        heard = self._seen.get(name)
        return heard is not None and self.context.uptime() - heard > LOST_AFTER_S

    def watch(self) -> None:
        """Find machines that fell silent. Called every few seconds: when it was not, this process
        itself or its host slept, and nobody could be heard."""
        m = schema.machine
        now = self.context.uptime()
        looked, self._looked = self._looked, now
        if looked is not None and now - looked > _SLEPT_S:
            with self._lock:
                self._seen = dict.fromkeys(self._seen, now)
        if now - self._stored_at >= _STORE_EVERY_S:
            self._store(now)
        with self.context.read() as conn:
            live = conn.execute(_LIVE).scalars().all()
        silent = [n for n in live if now - self._seen.setdefault(n, now) > LOST_AFTER_S]
        for name in silent:
            with self._lock:
                self._live.discard(name)        # its next word makes it live again
            with self.context.change() as change:
                if not self.silent(name):
                    continue                    # it spoke meanwhile
                change.conn.execute(sa.update(m).where(m.c.name == name).values(live=False))
                self._show(change, name)
                announce(change, "machine.lost", machine=name)

    def _store(self, now: float) -> None:
        """When each was heard of last, in one transaction: two hundred machines speak all the
        time."""
        with self._lock:
            heard = {n: now - at for n, at in self._seen.items() if at > self._stored_at}
        self._stored_at = now
        if heard:
            with self.context.change() as change:
                change.conn.execute(_SEEN, [{"b_machine": name, "last_seen": change.now - ago}
                                            for name, ago in heard.items()])

    # --- common --------------------------------------------------------------------------------

    @staticmethod
    def _update(change: Change, name: str, values: dict[str, Any]) -> None:
        m = schema.machine
        change.conn.execute(sa.update(m).where(m.c.name == name).values(**values))
        if "bandwidth" in values or "time_zone" in values:
            reconsider(change, machine=name)
        queue.dispatch(change)
        change.notify(machine_topic(name))

    @staticmethod
    def _show(change: Change, name: str) -> None:
        """Rules show invalid, or their own state again; queued tasks get their chance."""
        r = schema.rule
        row = _find(change.conn, name)
        mine = sa.and_(r.c.machine == name, r.c.deleted_at.is_(None))
        for state in RuleState:
            for periodic in (False, True):
                shown = visible(state, row.live, row.busy is not None, periodic)
                change.conn.execute(sa.update(r).where(
                    mine, r.c.own_state == state.value, r.c.state != shown.value,
                    r.c.schedule.is_not(sa.null()) if periodic else r.c.schedule.is_(sa.null()))
                    .values(state=shown.value))
        for rule in change.conn.execute(sa.select(r.c.id).where(mine)).scalars():
            change.notify(rule_topic(rule))
        queue.dispatch(change)
        change.notify(SCHEDULE, machine_topic(name))


_LIVE = sa.select(schema.machine.c.name).where(schema.machine.c.live.is_(True))
_SEEN = sa.update(schema.machine).where(schema.machine.c.name == sa.bindparam("b_machine"))


def _select() -> sa.Select[Any]:
    m, t = schema.machine, schema.task

    def tasks(*where: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
        return (sa.select(sa.func.count()).where(t.c.machine == m.c.name, *where)
                .scalar_subquery())

    return (sa.select(m, tasks(queue.is_begun()).label("running"),
                      tasks(queue.is_queued()).label("queued"))
            .where(m.c.deleted_at.is_(None)).order_by(m.c.name))


def _find(conn: Connection, name: str) -> Record:
    row = conn.execute(_select().where(schema.machine.c.name == name.strip())).one_or_none()
    if row is None:
        raise GiveUp("machine.not-found", name=name)
    return row


def _view(row: Record) -> MachineView:
    return MachineView(
        name=row.name, live=row.live, busy=explained(row.busy), last_seen=row.last_seen,
        max_tasks=row.max_tasks, transfer_buffer=row.transfer_buffer, running=row.running,
        queued=row.queued, time_zone=row.time_zone, bandwidth=row.bandwidth,
        configured=row.configured, temp_dir=row.temp_dir, version=row.version,
        protocol=row.protocol, address=row.address, clock_offset=row.clock_offset,
        revoked_at=row.revoked_at)
