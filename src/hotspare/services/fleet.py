"""DR machines of other hosts: enrolled by a one-time code, known by a token, revoked, removed."""

from __future__ import annotations

import logging
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.codec import decode
from ..domain.errors import GiveUp, Refused
from ..domain.limits import Configured, Limits
from ..store import Record, schema
from ..workflows import wire
from ..workflows.wire import Enrol, Sync, digest, make_code
from .context import Actor, Change, Context
from .hub import machine_topic
from .link import LocalLink
from .machines import Machines
from .names import check_name
from .tasks import LiveProgress

_log = logging.getLogger(__name__)

CODE_LIFE_S: Final = 3600.0
CLOCK_WARNING_S: Final = 5.0
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
    _links: dict[str, LocalLink] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)
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
            if known is not None and known.token_digest is None and known.revoked_at is None:
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
            if row.token_digest is None and row.revoked_at is None:
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
        change.notify(machine_topic(name))      # its long poll looks at the token again

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
            if known is not None and known.token_digest is None and known.revoked_at is None:
                raise Refused("machine.own-process", name=name)
            change.conn.execute(sa.update(e).where(e.c.digest == code.digest)
                                .values(used_at=change.now))
            values = {"token_digest": asked.token_digest, "revoked_at": None, "deleted_at": None,
                      "reported": 0, "version": asked.version[:64], "protocol": asked.protocol,
                      "temp_dir": asked.temp_dir, "address": address, "clock_offset": None}
            if known is not None:
                change.conn.execute(sa.update(m).where(m.c.name == name).values(**values))
            else:
                change.conn.execute(sa.insert(m).values(
                    name=name, live=False, created_at=change.now,
                    max_tasks=Limits().max_tasks, **values))
            change.audit(Actor(code.created_by, "administrator"), "machine.enrolled", name,
                         address=address)

    def link(self, token: str) -> LocalLink:
        """The machine of a token, and its end of the link. Raises Refused ``link.token``."""
        return self._link(self._machine_of(token).name)

    def met(self, token: str, said: Sync, address: str) -> LocalLink:
        """As :meth:`link`, at the begin of a long poll: what the machine says of itself is kept.
        Raises Refused ``link.too-old``, ``link.too-new``."""
        row = self._machine_of(token)
        _check_protocol(said.protocol)
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
        return self._link(row.name)

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
                self._links[name] = LocalLink(self.context, self.progress, self.machines, name)
            return self._links[name]

    def _machine_of(self, token: str) -> Record:
        m = schema.machine
        with self.context.read() as conn:
            row = conn.execute(sa.select(m).where(
                m.c.token_digest == digest(token))).one_or_none()
        if row is None:
            raise Refused("link.token")
        return row


def _check_protocol(found: int) -> None:
    if found < wire.OLDEST or found > wire.PROTOCOL:
        raise Refused("link.too-old" if found < wire.OLDEST else "link.too-new", found=found,
                      oldest=wire.OLDEST, newest=wire.PROTOCOL)


def _find(conn: Connection, name: str) -> Record:
    m = schema.machine
    row = conn.execute(sa.select(m).where(
        m.c.name == name.strip(), m.c.deleted_at.is_(None))).one_or_none()
    if row is None:
        raise GiveUp("machine.not-found", name=name)
    return row
