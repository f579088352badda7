"""DR machines of other hosts: enrolled by a one-time code, known by a token, revoked, removed."""

from __future__ import annotations

import logging
import re
import secrets
import threading
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.codec import decode
from ..domain.errors import GiveUp, Refused
from ..domain.limits import Configured, Limits
from ..store import Record, schema
from ..workflows import wire
from ..workflows.wire import Enrol, Sync, digest, make_code
from . import queue
from .context import Actor, Change, Context
from .hub import TOKENS, machine_topic
from .intake import Intake
from .link import LocalLink
from .live_progress import LiveProgress
from .machines import Machines
from .names import check_name

_log = logging.getLogger(__name__)

CODE_LIFE_S: Final = 3600.0
CLOCK_WARNING_S: Final = 5.0
_MOST_MET: Final = 10_000
_CLOCK_STEP_S: Final = 0.5          # a smaller change of the offset is not stored
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class EnrolmentView:
    """``code`` is shown this once; only its digest is kept."""

    machine: str
    code: str
    expires_at: float


@dataclass(slots=True)
class Fleet:
    context: Context
    progress: LiveProgress
    machines: Machines
    intake: Intake
    _links: dict[str, LocalLink] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)
    _instances: dict[str, str] = field(default_factory=dict)    # the process of each machine
    _names: tuple[int, dict[str, str]] = (0, {})    # by the digest of their token
    _met: dict[str, tuple[str, object]] = field(default_factory=dict)   # what each said last
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # --- by an administrator -------------------------------------------------------------------

    def enrol(self, actor: Actor, name: str, ca_fingerprint: str,
              life_s: float = CODE_LIFE_S) -> EnrolmentView:
        """A one-time code for the machine ``name``, new or to be enrolled again. It carries the
        fingerprint of the server's CA (64 hex digits), which the machine then trusts."""
        actor.need("administrator")
        name = check_name(name, "name")
        secret = secrets.token_urlsafe(wire.SECRET_BYTES)
        e, m = schema.enrolment, schema.machine
        with self.context.change() as change:
            known = change.conn.execute(sa.select(m).where(
                m.c.name == name, m.c.deleted_at.is_(None))).one_or_none()
            if known is not None and _is_ours(known):
                raise Refused("machine.own-process", name=name)
            expires = change.now + life_s
            change.conn.execute(sa.delete(e).where(e.c.expires_at < change.now))
            change.conn.execute(sa.insert(e).values(
                digest=digest(secret), machine=name, created_at=change.now,
                created_by=actor.name, expires_at=expires))
            change.audit(actor, "machine.enrol", name, expires_at=expires)
        return EnrolmentView(name, make_code(secret, ca_fingerprint), expires)

    def revoke(self, actor: Actor, name: str) -> None:
        """The machine's token and its unused codes are dead from now on."""
        actor.need("administrator")
        with self.context.change() as change:
            row = _find(change.conn, name)
            if row.token_digest is None and row.revoked_at is None:
                raise Refused("machine.own-process", name=row.name)
            self._forget(change, row.name, revoked_at=change.now)
            change.audit(actor, "machine.revoke", row.name)

    def remove(self, actor: Actor, name: str) -> None:
        """Forget a machine that nothing uses any more."""
        actor.need("administrator")
        r, p, t = schema.rule, schema.platform, schema.task
        with self.context.change() as change:
            row = _find(change.conn, name)
            if _is_ours(row):
                raise Refused("machine.own-process", name=row.name)
            used = {kind: change.conn.execute(query.limit(5)).scalars().all() for kind, query in (
                ("rules", sa.select(r.c.name).where(r.c.machine == row.name,
                                                  r.c.deleted_at.is_(None))),
                ("platforms", sa.select(p.c.name).where(p.c.machine == row.name,
                                                      p.c.deleted_at.is_(None))),
                ("tasks", sa.select(t.c.id).where(t.c.machine == row.name,
                                                  t.c.state != "ended")))}
            if any(used.values()):
                raise Refused("machine.in-use", name=row.name, what="; ".join(
                    f"{kind} {', '.join(map(str, found))}" for kind, found in used.items()
                    if found))
            self._forget(change, row.name, revoked_at=change.now, deleted_at=change.now)
            change.audit(actor, "machine.remove", row.name)

    @staticmethod
    def _forget(change: Change, name: str, **values: Any) -> None:
        e, m = schema.enrolment, schema.machine
        change.conn.execute(sa.update(m).where(m.c.name == name)
                            .values(token_digest=None, **values))
        change.conn.execute(sa.delete(e).where(e.c.machine == name, e.c.used_at.is_(None)))
        change.notify(TOKENS, machine_topic(name))      # its long poll looks at the token again

    # --- by a machine --------------------------------------------------------------------------

    def exchange(self, asked: Enrol, address: str) -> None:
        """The code for a token that the machine made itself. Idempotent for the same token.

        Raises Refused ``enrolment.invalid``, ``link.too-old``, ``link.too-new``."""
        _check_protocol(asked.protocol)
        if not _DIGEST.fullmatch(asked.token_digest):
            raise Refused("input.invalid", summary="token_digest: 64 hex digits are expected")
        name = check_name(asked.name, "name")
        e, m = schema.enrolment, schema.machine
        with self.context.change() as change:
            code = change.conn.execute(sa.select(e).where(
                e.c.digest == digest(asked.code), e.c.machine == name,
                e.c.expires_at >= change.now)).one_or_none()
            known = change.conn.execute(sa.select(m).where(m.c.name == name)).one_or_none()
            if code is None:
                raise Refused("enrolment.invalid", name=name)
            if code.used_at is not None:
                if known is not None and known.token_digest == asked.token_digest:
                    return          # the answer to the first time was lost
                raise Refused("enrolment.invalid", name=name)
            if known is not None and _is_ours(known):
                raise Refused("machine.own-process", name=name)
            change.conn.execute(sa.update(e).where(e.c.digest == code.digest)
                                .values(used_at=change.now))
            if known is not None:
                self._replaced(change, name)
                self._instances.pop(name, None)
            values = {"token_digest": asked.token_digest, "revoked_at": None, "deleted_at": None,
                      "reported": 0, "version": asked.version[:64], "protocol": asked.protocol,
                      "temp_dir": asked.temp_dir, "address": address, "clock_offset": None}
            if known is not None:
                change.conn.execute(sa.update(m).where(m.c.name == name).values(**values))
            else:
                change.conn.execute(sa.insert(m).values(
                    name=name, live=False, created_at=change.now,
                    max_tasks=Limits().max_tasks, **values))
            change.notify(TOKENS)
            change.audit(Actor(code.created_by, "administrator"), "machine.enrolled", name,
                         address=address)

    def link(self, token: str, instance: str = "") -> LocalLink:
        """The machine of a token, and its end of the link. Raises Refused ``link.token``,
        ``link.twice``."""
        name = self._name_of(token)
        if instance and self._instances.get(name, instance) != instance:
            raise Refused("link.twice", name=name, address=self._machine_of(token).address)
        return self._link(name)

    def met(self, token: str, said: Sync, address: str, instance: str = "") -> LocalLink:
        """As :meth:`link`, at the begin of a long poll: what the machine says of itself is kept.
        Raises Refused ``link.too-old``, ``link.too-new``."""
        _check_protocol(said.protocol)
        before = self._met.get(digest(token))
        now = (self.context.hub.version(TOKENS), instance, address, replace(
            said, seen=None, wait=0.0, ahead=said.ahead and round(said.ahead / _CLOCK_STEP_S)))
        if (before is not None and before[1] == now
                and self._instances.get(before[0], instance) == instance):
            # as most polls: it says nothing new
            self.machines.seen(before[0])
            return self._link(before[0])
        row = self._machine_of(token)
        if instance:
            self._admit(row, instance, said.before)
        values: dict[str, Any] = {"version": said.version[:64], "protocol": said.protocol,
                                  "temp_dir": said.temp_dir, "address": address}
        values = {k: v for k, v in values.items() if getattr(row, k) != v}
        if said.ahead is not None and (
                row.clock_offset is None or abs(said.ahead - row.clock_offset) > _CLOCK_STEP_S):
            values["clock_offset"] = said.ahead
        new_file = decode(Configured, row.configured) != said.configured
        if values or new_file:
            with self.context.change() as change:
                if new_file:
                    self.machines.configure(change, row.name, said.configured)
                if values:
                    change.conn.execute(sa.update(schema.machine).where(
                        schema.machine.c.name == row.name).values(**values))
                if said.ahead is not None:
                    self._warn_of_clock(change, row.name, said.ahead)
        if row.busy != said.busy:
            self.machines.report(row.name, said.busy)
        self.machines.seen(row.name)
        if len(self._met) > _MOST_MET:
            self._met.clear()
        self._met[digest(token)] = row.name, now
        return self._link(row.name)

    def _admit(self, row: Record, instance: str, before: str) -> None:
        """One process is the machine. The next one of its state directory, which knows the one
        before it, takes its place at once; one of a copy when the machine has fallen silent. Who
        is replaced is told at its next word."""
        held = self._instances.get(row.name, instance)
        if held not in (instance, before):
            if not self.machines.silent(row.name):
                raise Refused("link.twice", name=row.name, address=row.address)
            with self.context.change() as change:
                self._replaced(change, row.name)
        self._instances[row.name] = instance
        if held != instance:
            self.context.hub.publish(machine_topic(row.name))

    def _replaced(self, change: Change, name: str) -> None:
        """Another installation is the machine from now on, and the one before may still write.
        What it worked at goes on under a higher epoch, as if its rules had moved."""
        r, t = schema.rule, schema.task
        begun = sa.and_(t.c.machine == name, t.c.rule.is_not(None), queue.is_begun())
        change.conn.execute(sa.update(r).where(r.c.id.in_(sa.select(t.c.rule).where(begun)))
                            .values(epoch=r.c.epoch + 1))
        change.conn.execute(sa.update(t).where(begun).values(
            epoch=sa.select(r.c.epoch).where(r.c.id == t.c.rule).scalar_subquery()))
        change.notify(machine_topic(name))

    def _warn_of_clock(self, change: Change, name: str, offset: float) -> None:
        if abs(offset) <= CLOCK_WARNING_S:
            self._warned.discard(name)
        elif name not in self._warned:
            self._warned.add(name)
            fields = {"machine": name, "offset": round(offset, 1)}
            change.log("warning", "machine.clock", fields)
            _log.warning("the clock of DR machine %s is %.1f s off", name, offset)

    def _link(self, name: str) -> LocalLink:
        with self._lock:
            if name not in self._links:
                self._links[name] = LocalLink(self.context, self.progress, self.machines,
                                              self.intake, name)
            return self._links[name]

    def _name_of(self, token: str) -> str:
        """Kept in memory until any token is given out or revoked: it is asked for with each
        request."""
        version, key = self.context.hub.version(TOKENS), digest(token)
        if version != self._names[0]:
            self._names = version, {}
        names = self._names[1]
        if key not in names:
            names[key] = self._machine_of(token).name
        return names[key]

    def _machine_of(self, token: str) -> Record:
        with self.context.look() as conn:
            row = conn.execute(_BY_TOKEN, {"digest": digest(token)}).one_or_none()
        if row is None:
            raise Refused("link.token")
        return row


_BY_TOKEN = sa.select(schema.machine).where(
    schema.machine.c.token_digest == sa.bindparam("digest"))


def _check_protocol(found: int) -> None:
    if found < wire.OLDEST or found > wire.PROTOCOL:
        raise Refused("link.too-old" if found < wire.OLDEST else "link.too-new", found=found,
                      oldest=wire.OLDEST, newest=wire.PROTOCOL)


def _is_ours(machine: Record) -> bool:
    """Whether it runs in this process. One that is not live was of hotspare up, before the database
    was moved: its name, and with it its rules, may go to a machine of its own."""
    return bool(machine.live and machine.token_digest is None and machine.revoked_at is None)


def _find(conn: Connection, name: str) -> Record:
    m = schema.machine
    row = conn.execute(sa.select(m).where(
        m.c.name == name.strip(), m.c.deleted_at.is_(None))).one_or_none()
    if row is None:
        raise GiveUp("machine.not-found", name=name)
    return row
