"""Who may do what: passwords, tokens, roles, and slow answers to guessing."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from blake3 import blake3
from sqlalchemy.exc import IntegrityError

from ..domain.errors import GiveUp, Refused
from ..store import schema
from .context import Actor, Context, Role
from .names import check_name, page, slice_of
from .views import AuditView, Page, SessionView, UserView

SESSION_S: Final = 12 * 3600.0
PASSWORD_LENGTH: Final = (8, 256)
FREE_TRIES: Final = 5
WINDOW_S: Final = 300.0
_REMEMBERED: Final = 10_000
ROLES: Final = ("viewer", "operator", "administrator")

_NOBODY: Final = ("$argon2id$v=19$m=65536,t=2,p=2$BJgz+68Yy0ZBJ4iSH4r9XA"
                  "$933RaWU/YcwJKN+q0dzsmK4BtRT7WGk6C3QUi5TmkN4")
"""Hash of a random password that nobody kept: an unknown user takes as long as a known one."""


@dataclass(slots=True)
class Guard:
    """After :data:`FREE_TRIES` wrong passwords for one user from one address, or twice as many
    for one user or one address, each further try has to wait, up to :data:`WINDOW_S`. Kept in
    memory and bounded: it slows guessing down without letting a stranger lock a user out for
    ever."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failures: OrderedDict[str, tuple[int, float]] = field(default_factory=OrderedDict)

    @staticmethod
    def _keys(user: str, address: str) -> dict[str, int]:
        return {f"{user}@{address}": FREE_TRIES, f"u {user}": 2 * FREE_TRIES,
                f"a {address}": 2 * FREE_TRIES}

    def begin(self, user: str, address: str, now: float) -> None:
        """Count a try as failed until :meth:`forgive`. Raises Refused ``auth.too-many``.

        Counted before the password is looked at: parallel tries cannot slip through."""
        with self._lock:
            keys = self._keys(user, address)
            for key, free in keys.items():
                count, last = self._failures.get(key, (0, 0.0))
                wait = min(WINDOW_S, 2.0 ** (count - free)) if count >= free else 0.0
                left = last + wait - now
                if left > 0:
                    raise Refused("auth.too-many", seconds=int(left) + 1)
            for key in keys:
                count, last = self._failures.get(key, (0, 0.0))
                self._failures[key] = (1 if now - last > WINDOW_S else min(count + 1, 64), now)
                self._failures.move_to_end(key)
            while len(self._failures) > _REMEMBERED:
                self._failures.popitem(last=False)

    def forgive(self, user: str, address: str) -> None:
        with self._lock:
            for key in self._keys(user, address):
                self._failures.pop(key, None)


class Users:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._hasher = PasswordHasher(time_cost=2, memory_cost=64 * 1024, parallelism=2)
        self._guard = Guard()
        self._hashing = threading.BoundedSemaphore(2)   # 64 MiB each

    # --- sessions ------------------------------------------------------------------------------

    def login(self, user: str, password: str, address: str) -> SessionView:
        """A session for the right password. Wrong user and wrong password look the same and
        take the same time."""
        u = schema.user
        now = self._context.clock()
        self._guard.begin(user, address, now)
        with self._context.read() as conn:
            row = conn.execute(sa.select(u).where(u.c.name == user)).one_or_none()
        known = row is not None and row.password is not None and not row.disabled
        right = self._verify(row.password if row is not None and known else _NOBODY, password)
        if row is None or not known or not right:
            with self._context.change() as change:
                change.audit(Actor(user, "viewer"), "login.failed", "session", address=address)
            raise Refused("auth.failed")
        self._guard.forgive(user, address)
        token = self._issue(user, now + SESSION_S, address)
        return SessionView(token=token, user=user, role=row.role, expires_at=now + SESSION_S)

    def _verify(self, hashed: str, password: str) -> bool:
        with self._hashing:
            try:
                return self._hasher.verify(hashed, password)
            except (VerificationError, InvalidHashError):
                return False

    def _issue(self, user: str, expires_at: float | None, address: str) -> str:
        token = secrets.token_urlsafe(32)
        t = schema.token
        with self._context.change() as change:
            change.conn.execute(sa.delete(t).where(t.c.expires_at < change.now))
            change.conn.execute(sa.insert(t).values(
                digest=_digest(token), user=user, created_at=change.now, expires_at=expires_at))
            change.audit(Actor(user, "viewer"), "login", "session", address=address)
        return token

    def actor(self, token: str) -> Actor:
        """Who the token belongs to. Raises Refused ``auth.required``."""
        t, u = schema.token, schema.user
        with self._context.read() as conn:
            row = conn.execute(
                sa.select(u.c.name, u.c.role, t.c.expires_at).join(u, u.c.name == t.c.user)
                .where(t.c.digest == _digest(token), u.c.disabled.is_(False))).one_or_none()
        if row is None or (row.expires_at is not None
                           and row.expires_at <= self._context.clock()):
            raise Refused("auth.required")
        return Actor(row.name, row.role)

    def logout(self, actor: Actor, token: str) -> None:
        t = schema.token
        with self._context.change() as change:
            change.conn.execute(sa.delete(t).where(t.c.digest == _digest(token)))
            change.audit(actor, "logout", "session")

    # --- users ---------------------------------------------------------------------------------

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None) -> Page[UserView]:
        actor.need("administrator")
        u = schema.user
        with self._context.read() as conn:
            rows = conn.execute(slice_of(sa.select(u).where(u.c.password.is_not(None))
                                         .order_by(u.c.name), limit, cursor)).all()
        return page([UserView(name=r.name, role=r.role, disabled=r.disabled,
                              created_at=r.created_at) for r in rows], limit, cursor)

    def add(self, actor: Actor, name: str, password: str, role: Role) -> UserView:
        actor.need("administrator")
        name = check_name(name, "name")
        hashed = self._hash(password)
        u = schema.user
        with self._context.change() as change:
            try:
                change.conn.execute(sa.insert(u).values(
                    name=name, password=hashed, role=role, disabled=False,
                    created_at=change.now))
            except IntegrityError:
                raise Refused("user.exists", name=name) from None
            change.audit(actor, "user.add", name, role=role)
            return UserView(name=name, role=role, disabled=False, created_at=change.now)

    def set_password(self, actor: Actor, name: str, password: str) -> None:
        """One's own, or anyone's by an administrator. Ends the user's sessions."""
        if actor.name != name:
            actor.need("administrator")
        hashed = self._hash(password)
        u, t = schema.user, schema.token
        with self._context.change() as change:
            if not change.conn.execute(
                    sa.update(u).where(u.c.name == name, u.c.password.is_not(None))
                    .values(password=hashed)).rowcount:
                raise GiveUp("user.not-found", name=name)
            change.conn.execute(sa.delete(t).where(t.c.user == name))
            change.audit(actor, "user.password", name)

    def remove(self, actor: Actor, name: str) -> None:
        actor.need("administrator")
        u = schema.user
        if actor.name == name:
            raise Refused("user.self", name=name)
        with self._context.change() as change:
            if not change.conn.execute(sa.delete(u).where(
                    u.c.name == name, u.c.password.is_not(None))).rowcount:
                raise GiveUp("user.not-found", name=name)
            change.audit(actor, "user.remove", name)

    def _hash(self, password: str) -> str:
        if not PASSWORD_LENGTH[0] <= len(password) <= PASSWORD_LENGTH[1]:
            raise Refused("user.password-length", smallest=PASSWORD_LENGTH[0],
                          largest=PASSWORD_LENGTH[1])
        with self._hashing:
            return self._hasher.hash(password)

    # --- first start and the local user --------------------------------------------------------

    def empty(self) -> bool:
        u = schema.user
        with self._context.read() as conn:
            return conn.execute(sa.select(u.c.name).where(u.c.password.is_not(None)).limit(1)
                                ).scalar() is None

    def local_token(self) -> str:
        """A new token for whoever can read the state directory; the one before ends."""
        return self._lasting_token(LOCAL, "administrator")

    def metrics_token(self, actor: Actor) -> str:
        """A new token for a scraper, which may look at everything and has no end; the one before
        ends."""
        actor.need("administrator")
        return self._lasting_token(METRICS, "viewer", actor)

    def _lasting_token(self, name: str, role: Role, actor: Actor | None = None) -> str:
        u, t = schema.user, schema.token
        with self._context.change() as change:
            known = change.conn.execute(sa.select(u).where(u.c.name == name)).one_or_none()
            if known is None:
                change.conn.execute(sa.insert(u).values(
                    name=name, password=None, role=role, disabled=False, created_at=change.now))
            elif known.password is not None:
                raise Refused("user.exists", name=name)
            change.conn.execute(sa.delete(t).where(t.c.user == name))
            if actor is not None:
                change.audit(actor, "token.make", name)
        return self._issue(name, None, "local")

    def audit(self, actor: Actor, limit: int = 100, cursor: str | None = None
              ) -> Page[AuditView]:
        """What was changed and by whom, newest first."""
        actor.need("administrator")
        a = schema.audit
        query = sa.select(a).order_by(a.c.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(a.c.id < int(cursor))
        with self._context.read() as conn:
            rows = conn.execute(query).all()
        items = [AuditView(id=r.id, at=r.at, user=r.user, action=r.action, object=r.object,
                           detail=r.detail) for r in rows[:limit]]
        return Page(items, str(items[-1].id) if len(rows) > limit else None)


LOCAL: Final = "local"
METRICS: Final = "metrics"


def _digest(token: str) -> str:
    return blake3(token.encode("utf-8", "replace")).hexdigest()
