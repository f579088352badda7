"""Notifications: the channels, and the outbox that an event is put into with what caused it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..domain.channels import EVENTS, Event, scheme_of
from ..domain.errors import GiveUp, HotspareError, Refused
from ..domain.messages import LANGUAGES, Language
from ..domain.notice import Notice, compose
from ..store import Record, schema
from .context import Actor, Change, Context
from .names import check_name, name_key, page, slice_of
from .sender import GATHER_S, NOTIFICATIONS, carry
from .views import Page

MOST_WAITING: Final = 1000
"""Of one event for one channel; later ones are only counted, until the channel works again."""


@dataclass(frozen=True)
class ChannelView:
    """The address itself, which holds secrets, is never told."""

    id: str
    name: str
    kind: str                       # the scheme of the address
    host: str                       # that it calls
    events: list[str]
    language: str
    enabled: bool
    waiting: int                    # notifications that are not sent yet
    last_error: str                 # of the last try, empty when it was good
    last_sent_at: float | None
    created_at: float
    created_by: str


@dataclass(frozen=True)
class TestView:
    sent: bool
    error: str


def announce(change: Change, event: Event, rule: str | None = None,
             machine: str | None = None, fields: dict[str, Any] | None = None) -> None:
    """Tell the channels that want to know, after this change is committed. ``rule`` is an id,
    ``machine`` a name; ``fields`` are those of the event's text, with ``code`` and ``cause`` as
    :class:`.Notice` has them."""
    c, r = schema.channel, schema.rule
    channels = [row.id for row in change.conn.execute(
        sa.select(c.c.id, c.c.events).where(c.c.enabled)) if event in row.events]
    if not channels:
        return
    told = dict(fields or {})
    if rule is not None:
        row = change.conn.execute(sa.select(r.c.name, r.c.machine).where(r.c.id == rule)).one()
        told |= {"rule": row.name, "machine": row.machine}
    elif machine is not None:
        told |= {"machine": machine, "rules": change.conn.execute(
            sa.select(sa.func.count()).select_from(r)
            .where(r.c.machine == machine, r.c.deleted_at.is_(None))).scalar()}
    for channel in channels:
        _put(change, channel, event, told)
    change.notify(NOTIFICATIONS)


def _put(change: Change, channel: str, event: str, fields: dict[str, Any]) -> None:
    d = schema.delivery
    waiting, last = change.conn.execute(
        sa.select(sa.func.count(), sa.func.max(d.c.id))
        .where(d.c.channel == channel, d.c.event == event)).one()
    if waiting < MOST_WAITING:
        change.conn.execute(sa.insert(d).values(
            channel=channel, event=event, fields=fields, at=change.now, attempts=0,
            next_try_at=change.now + GATHER_S))
        return
    told = change.conn.execute(sa.select(d.c.fields).where(d.c.id == last)).scalar_one()
    change.conn.execute(sa.update(d).where(d.c.id == last)
                        .values(fields=told | {"more": told.get("more", 0) + 1}))


class Notifications:
    """The channels. All of it needs the role administrator."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None
             ) -> Page[ChannelView]:
        actor.need("administrator")
        with self._context.read() as conn:
            rows = conn.execute(slice_of(_channels().order_by(schema.channel.c.name_key),
                                         limit, cursor)).all()
        return page([_view(row) for row in rows], limit, cursor)

    def get(self, actor: Actor, ref: str) -> ChannelView:
        actor.need("administrator")
        with self._context.read() as conn:
            return _view(_find(conn, ref))

    def add(self, actor: Actor, *, name: str, url: str, events: Iterable[str] | None = None,
            language: Language = "en", enabled: bool = True) -> ChannelView:
        """A new channel; without ``events`` it is told all. Raises Refused ``notify.…``."""
        actor.need("administrator")
        name, ident = check_name(name, "name"), secrets.token_hex(4)
        values = self._address(url, ident) | {
            "events": _events(EVENTS if events is None else events),
            "language": _language(language), "enabled": enabled}
        with self._context.change() as change:
            _unique(change, sa.insert(schema.channel).values(
                id=ident, name=name, name_key=name_key(name), last_error="",
                created_at=change.now, created_by=actor.name, **values), name)
            change.audit(actor, "notify.add", ident, name=name, kind=values["kind"],
                         host=values["host"], events=values["events"])
            return _view(_find(change.conn, ident))

    def edit(self, actor: Actor, ref: str, *, name: str | None = None, url: str | None = None,
             events: Iterable[str] | None = None, language: Language | None = None,
             enabled: bool | None = None) -> ChannelView:
        """Change what is given. What waits for a channel that is disabled is dropped."""
        actor.need("administrator")
        with self._context.read() as conn:
            ident = _find(conn, ref).id
        values: dict[str, Any] = {} if url is None else self._address(url, ident) | {
            "last_error": ""}
        if name is not None:
            name = check_name(name, "name")
            values |= {"name": name, "name_key": name_key(name)}
        if events is not None:
            values["events"] = _events(events)
        if language is not None:
            values["language"] = _language(language)
        if enabled is not None:
            values["enabled"] = enabled
        with self._context.change() as change:
            _find(change.conn, ident)
            if values:
                _unique(change, sa.update(schema.channel).where(schema.channel.c.id == ident)
                        .values(**values), name or ref)
            if enabled is False:
                change.conn.execute(sa.delete(schema.delivery)
                                    .where(schema.delivery.c.channel == ident))
            change.audit(actor, "notify.edit", ident, url_changed=url is not None,
                         **{k: v for k, v in values.items()
                            if k in {"name", "kind", "host", "events", "language", "enabled"}})
            return _view(_find(change.conn, ident))

    def remove(self, actor: Actor, ref: str) -> None:
        """Forget a channel, its address, and what waits for it."""
        actor.need("administrator")
        with self._context.change() as change:
            row = _find(change.conn, ref)
            change.conn.execute(sa.delete(schema.channel).where(schema.channel.c.id == row.id))
            change.audit(actor, "notify.remove", row.id, name=row.name)

    def test(self, actor: Actor, ref: str) -> TestView:
        """Send a message now, also to a channel that is disabled; takes as long as the service
        does, at most :data:`.sender.LONGEST_SEND_S`."""
        actor.need("administrator")
        c = schema.channel
        with self._context.change() as change:
            row = _find(change.conn, ref)
            change.audit(actor, "notify.test", row.id, name=row.name)
        notice = Notice("notify.test", change.now, {"name": row.name, "user": actor.name})
        title, body = compose([notice], row.language)
        try:
            answer = carry(url=self._context.keys.decrypt(row.secret, row.id), title=title,
                           body=body, severity="success")
            error = str(answer["failed"])
        except HotspareError as refused:
            error = str(refused)
        with self._context.change() as change:
            change.conn.execute(sa.update(c).where(c.c.id == row.id).values(
                last_error=error, **({} if error else {"last_sent_at": change.now})))
        return TestView(not error, error)

    def _address(self, url: str, channel: str) -> dict[str, Any]:
        """The columns of an address that the service's library takes."""
        kind = scheme_of(url)
        return {"kind": kind, "host": str(carry(url=url)["host"]),
                "secret": self._context.keys.encrypt(url, channel)}


def _events(wanted: Iterable[str]) -> list[str]:
    asked = set(wanted)
    if not asked or asked - EVENTS.keys():
        raise Refused("input.invalid", summary=f"events: choose from {', '.join(EVENTS)}")
    return [event for event in EVENTS if event in asked]


def _language(language: str) -> str:
    if language not in LANGUAGES:
        raise Refused("input.invalid", summary=f"language: choose from {', '.join(LANGUAGES)}")
    return language


def _unique(change: Change, statement: Any, name: str) -> None:
    savepoint = change.conn.begin_nested()
    try:
        change.conn.execute(statement)
        savepoint.commit()
    except IntegrityError:
        savepoint.rollback()
        raise Refused("notify.exists", name=name) from None


def _channels() -> sa.Select[Any]:
    c, d = schema.channel, schema.delivery
    waiting = sa.select(sa.func.count()).where(d.c.channel == c.c.id).scalar_subquery()
    return sa.select(c, waiting.label("waiting"))


def _find(conn: Connection, ref: str) -> Record:
    c = schema.channel
    row = conn.execute(_channels().where(
        sa.or_(c.c.id == ref, c.c.name_key == name_key(ref)))).one_or_none()
    if row is None:
        raise GiveUp("notify.not-found", name=ref)
    return row


def _view(row: Record) -> ChannelView:
    return ChannelView(**{name: getattr(row, name) for name in ChannelView.__annotations__})
