"""Groups: rules of several machines that were made at once, with the same settings (M4)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..domain.errors import Refused
from ..store import Record, schema
from .context import Actor, Change, Context
from .faults import Faults
from .names import NAME_MAX, allowed_in_name, check_name, name_key, page, slice_of
from .rule_settings import SHARED, NewRule, group_id
from .rules import insert
from .views import GroupView, Page

_OWN: Final = {"name", "vm", "replica_name"}
"""Fields whose faults are one machine's; those of the others are told once."""


class Groups:
    """A group is there as long as one of its rules is."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None) -> Page[GroupView]:
        actor.need("viewer")
        g, r = schema.rule_group, schema.rule
        with self._context.read() as conn:
            rows = conn.execute(slice_of(
                sa.select(g).where(sa.exists().where(r.c.group == g.c.id,
                                                     r.c.deleted_at.is_(None)))
                .order_by(g.c.name_key), limit, cursor)).all()
            return page(_views(conn, rows), limit, cursor)

    def get(self, actor: Actor, ref: str) -> GroupView:
        actor.need("viewer")
        with self._context.read() as conn:
            return _get(conn, group_id(conn, ref))

    def members(self, actor: Actor, ref: str) -> Sequence[str]:
        """Ids of its rules, to be acted on."""
        actor.need("operator")
        r = schema.rule
        with self._context.read() as conn:
            return conn.execute(sa.select(r.c.id).where(
                r.c.group == group_id(conn, ref), r.c.deleted_at.is_(None))
                .order_by(r.c.name_key)).scalars().all()

    def create(self, actor: Actor, name: str, vms: Sequence[str], new: NewRule) -> GroupView:
        """One rule for each of ``vms`` (ids or names), named after the group and the machine, all
        or none. ``new`` gives the settings; its name and machine do not matter. Faults of one
        machine are told at ``vms.MACHINE``."""
        actor.need("operator")
        faults = Faults()
        with self._context.change() as change:
            ident = change.unused_id(schema.rule_group)
            with faults.at("name"):
                name = check_name(name, "name")
                _insert_group(change, actor, ident, name)
            faults.throw()
            names: dict[str, str] = {}
            for vm in vms:
                ref, machine = _machine(change.conn, new, vm)
                with faults.at(f"vms.{vm}"):
                    if ref in names:
                        raise Refused("group.twice", vm=machine)
                    names[ref] = _rule_name(name, machine, names.values())
                    own = Faults()
                    insert(change, actor, replace(new, name=names[ref], vm=ref,
                                                  replica_name=None, group=None), own, ident)
                    for field, error in own.by_field.items():
                        faults.by_field.setdefault(f"vms.{vm}" if field in _OWN else field,
                                                   error)
            faults.throw()
            change.audit(actor, "group.create", ident, name=name, rules=len(vms))
            return _get(change.conn, ident)


def _insert_group(change: Change, actor: Actor, ident: str, name: str) -> None:
    g, r = schema.rule_group, schema.rule
    old = change.conn.execute(
        sa.select(g.c.id).where(g.c.name_key == name_key(name))).scalar()
    if old is not None:
        if change.conn.execute(sa.select(r.c.id).where(
                r.c.group == old, r.c.deleted_at.is_(None)).limit(1)).first() is not None:
            raise Refused("group.exists", name=name)
        change.conn.execute(sa.update(r).where(r.c.group == old).values(group=None))
        change.conn.execute(sa.delete(g).where(g.c.id == old))
    savepoint = change.conn.begin_nested()
    try:
        change.conn.execute(sa.insert(g).values(
            id=ident, name=name, name_key=name_key(name), created_at=change.now,
            created_by=actor.name))
        savepoint.commit()
    except IntegrityError:
        savepoint.rollback()
        raise Refused("group.exists", name=name) from None


def _machine(conn: Connection, new: NewRule, vm: str) -> tuple[str, str]:
    """Id and name of the machine; both as it was named when it cannot be told."""
    v, p = schema.platform_vm, schema.platform
    found = conn.execute(sa.select(v.c.ref, v.c.name).join(p, p.c.id == v.c.platform).where(
        sa.or_(p.c.id == new.source, p.c.name_key == name_key(new.source)),
        p.c.deleted_at.is_(None), sa.or_(v.c.ref == vm, v.c.name == vm))).all()
    exact = [row for row in found if row.ref == vm] or found
    return (exact[0].ref, exact[0].name) if len(exact) == 1 else (vm, vm)


def _rule_name(group: str, machine: str, taken: Collection[str]) -> str:
    """``GROUP-MACHINE``, without what no name may have; numbered when machines share a name."""
    name = whole = f"{group}-{allowed_in_name(machine)}"[:NAME_MAX].rstrip()
    number, keys = 1, {name_key(other) for other in taken}
    while name_key(name) in keys:
        number += 1
        name = f"{whole[:NAME_MAX - 5].rstrip()}-{number}"
    return name


# --- views -------------------------------------------------------------------------------------


def _get(conn: Connection, ident: str) -> GroupView:
    g = schema.rule_group
    [view] = _views(conn, conn.execute(sa.select(g).where(g.c.id == ident)).all())
    return view


def _views(conn: Connection, groups: Sequence[Record]) -> list[GroupView]:
    r = schema.rule
    members: dict[str, list[Record]] = {g.id: [] for g in groups}
    p = schema.platform
    for row in conn.execute(sa.select(r).where(r.c.group.in_(members), r.c.deleted_at.is_(None))):
        members[row.group].append(row)
    used = {end for rules in members.values() for r in rules for end in (r.source, r.target)}
    platforms = {row.id: row.name for row in conn.execute(
        sa.select(p.c.id, p.c.name).where(p.c.id.in_(used)))}
    return [_view(g, members[g.id], platforms) for g in groups]


def _view(group: Record, rules: list[Record], platforms: dict[str, str]) -> GroupView:
    settings: dict[str, Any] = {}
    differing = []
    for field in SHARED:
        values = [getattr(r, field) for r in rules]
        if all(v == values[0] for v in values):
            settings[field] = values[0]
        else:
            differing.append(field)
    states: dict[str, int] = {}
    for rule in rules:
        states[rule.state] = states.get(rule.state, 0) + 1
    return GroupView(id=group.id, name=group.name, rules=len(rules), states=states,
                     settings=settings, differing=differing,
                     source_name=platforms.get(settings.get("source", "")),
                     target_name=platforms.get(settings.get("target", "")),
                     created_at=group.created_at, created_by=group.created_by)
