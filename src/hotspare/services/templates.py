"""Templates: saved settings of a rule, except its name and machine (M5)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..domain.errors import GiveUp, HotspareError, Refused
from ..store import Record, schema
from .context import Actor, Context
from .names import check_name, name_key, page, slice_of
from .platforms import find as find_platform
from .rule_settings import SHARED
from .rules import find as find_rule
from .views import Page, TemplateView

_PLATFORMS: Final = ("source", "target")


class Templates:
    """Platforms are kept by id and by name: one that was renamed is still the same, one that was
    registered anew under its name takes its place, one that is gone is a fault of its field when
    the template is used."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None
             ) -> Page[TemplateView]:
        actor.need("viewer")
        t = schema.template
        with self._context.read() as conn:
            rows = conn.execute(slice_of(sa.select(t).order_by(t.c.name_key), limit, cursor)).all()
        return page([_view(r) for r in rows], limit, cursor)

    def get(self, actor: Actor, ref: str) -> TemplateView:
        actor.need("viewer")
        with self._context.read() as conn:
            return _view(_find(conn, ref))

    def save(self, actor: Actor, name: str, *, rule: str | None = None,
             settings: Mapping[str, Any] | None = None) -> TemplateView:
        """From a rule, with what ``settings`` (JSON form, any part) say otherwise, or from these
        alone."""
        actor.need("operator")
        name = check_name(name, "name")
        t = schema.template
        ident = secrets.token_hex(4)
        with self._context.change() as change:
            kept: dict[str, Any] = {}
            if rule is not None:
                row = find_rule(change.conn, rule)
                kept = {field: getattr(row, field) for field in SHARED}
            kept |= {k: v for k, v in (settings or {}).items() if k in SHARED}
            for field in _PLATFORMS:
                if kept.get(field) is not None:
                    platform = find_platform(change.conn, kept[field])
                    kept |= {field: platform.id, f"{field}_name": platform.name}
            savepoint = change.conn.begin_nested()
            try:
                change.conn.execute(sa.insert(t).values(
                    id=ident, name=name, name_key=name_key(name), settings=kept,
                    created_at=change.now, created_by=actor.name))
                savepoint.commit()
            except IntegrityError:
                savepoint.rollback()
                raise Refused("template.exists", name=name) from None
            change.audit(actor, "template.save", ident, name=name)
            return _view(_find(change.conn, ident))

    def delete(self, actor: Actor, ref: str) -> None:
        actor.need("operator")
        t = schema.template
        with self._context.change() as change:
            row = _find(change.conn, ref)
            change.conn.execute(sa.delete(t).where(t.c.id == row.id))
            change.audit(actor, "template.delete", row.id, name=row.name)

    def filled(self, actor: Actor, ref: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """What is ``given``, and from the template ``ref`` what is not: for a new rule."""
        actor.need("operator")
        if ref is None:
            return dict(given)
        with self._context.read() as conn:
            settings = dict(_find(conn, ref).settings)
            for field in _PLATFORMS:
                name = settings.pop(f"{field}_name", None)
                if field in settings and field not in given:
                    settings[field] = _still(conn, settings[field], name)
        return settings | dict(given)


def _still(conn: Connection, ident: str, name: str) -> str:
    """The platform's id while it is registered, otherwise its name."""
    try:
        return str(find_platform(conn, ident).id)
    except HotspareError:
        return name


def _find(conn: Connection, ref: str) -> Record:
    t = schema.template
    row = conn.execute(sa.select(t).where(
        sa.or_(t.c.id == ref, t.c.name_key == name_key(ref)))).one_or_none()
    if row is None:
        raise GiveUp("template.not-found", name=ref)
    return row


def _view(row: Record) -> TemplateView:
    settings = dict(row.settings)
    names = {f"{field}_name": settings.pop(f"{field}_name", None) for field in _PLATFORMS}
    return TemplateView(id=row.id, name=row.name, settings=settings, created_at=row.created_at,
                        created_by=row.created_by, **names)
