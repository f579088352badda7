"""Platforms: registered, checked and refreshed by a DR machine, removed when nothing needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..domain.errors import GiveUp, Refused
from ..domain.messages import text_of
from ..store import Record, schema
from ..workflows.link import SIDE
from . import queue
from .addresses import check_uri
from .context import Actor, Change, Context
from .hub import SECRETS, machine_topic
from .names import check_name, name_key, page, slice_of
from .views import Page, PlatformView, VmView


class Platforms:
    def __init__(self, context: Context) -> None:
        self._context = context

    # --- reading -------------------------------------------------------------------------------

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None
             ) -> Page[PlatformView]:
        actor.need("viewer")
        t = schema.platform
        with self._context.read() as conn:
            rows = conn.execute(slice_of(
                sa.select(t).where(t.c.deleted_at.is_(None)).order_by(t.c.name_key),
                limit, cursor)).all()
        return page([PlatformView.of(r) for r in rows], limit, cursor)

    def get(self, actor: Actor, ref: str) -> PlatformView:
        actor.need("viewer")
        with self._context.read() as conn:
            return PlatformView.of(find(conn, ref))

    def vms(self, actor: Actor, ref: str, limit: int = 100, cursor: str | None = None
            ) -> Page[VmView]:
        """The machines of the last refresh; one that has a rule, through whichever registration
        of its host, names it (M3)."""
        actor.need("viewer")
        v, r = schema.platform_vm, schema.rule
        with self._context.read() as conn:
            platform = find(conn, ref)
            host = sa.literal(f"{platform.host_id or platform.id}/")
            rows = conn.execute(slice_of(
                sa.select(v, r.c.name.label("rule_name"))
                .outerjoin(r, sa.and_(r.c.vm_key == host.concat(v.c.ref),
                                      r.c.deleted_at.is_(None)))
                .where(v.c.platform == platform.id).order_by(v.c.name, v.c.ref),
                limit, cursor)).all()
        return page([VmView(ref=x.ref, name=x.name, power=x.power, size=x.size,
                            protectable=x.protectable, reason=x.reason,
                            message=_note(x), rule=x.rule_name) for x in rows], limit, cursor)

    # --- changing ------------------------------------------------------------------------------

    def add(self, actor: Actor, *, name: str, kind: str, uri: str,
            options: Mapping[str, str] | None = None, secret: str | None = None,
            machine: str | None = None) -> PlatformView:
        """Register a platform; a check task, and a refresh after it, begin at once."""
        actor.need("administrator")
        name = check_name(name, "name")
        check_uri(kind, uri)
        t = schema.platform
        with self._context.change() as change:
            worker = _machine(change.conn, machine)
            ident = change.unused_id(schema.platform)
            taken = change.conn.execute(sa.select(t.c.name).where(
                t.c.deleted_at.is_(None),
                sa.or_(t.c.name_key == name_key(name),
                       sa.and_(t.c.kind == kind, t.c.uri == uri)))).scalar()
            if taken is not None:
                raise Refused("platform.exists", name=taken)
            try:
                change.conn.execute(sa.insert(t).values(
                    id=ident, name=name, name_key=name_key(name), kind=kind, uri=uri,
                    options=dict(options or {}), machine=worker, state="unchecked", product="",
                    host_id="", checks=[], places=[], created_at=change.now,
                    secret=(None if secret is None
                            else self._context.keys.encrypt(secret, ident))))
            except IntegrityError:
                raise Refused("platform.exists", name=name) from None
            change.audit(actor, "platform.add", ident, name=name, kind=kind, uri=uri)
            task = self._queue(change, actor, "check", platform=ident, machine=worker,
                               arguments={"refresh": True})
            return PlatformView.of(find(change.conn, ident), task)

    def edit(self, actor: Actor, ref: str, given: Mapping[str, Any]) -> PlatformView:
        """Change the name, ``uri``, ``options`` (all of them) or ``secret`` (None: there is none
        any more), as ``given``. A check of what was changed begins at once.

        A task that runs keeps the connections that it has; what connects later uses the new. An
        address is another one's until the check has read its host there: no run begins before
        that, and Refused ``platform.address-in-use`` while one runs. ``accept_host`` says that
        another host than before is meant: it was installed anew."""
        actor.need("administrator")
        t = schema.platform
        with self._context.change() as change:
            row = find(change.conn, ref)
            values: dict[str, Any] = {k: v for k, v in given.items()
                      if k in {"uri", "options"} and v != getattr(row, k)}
            if "name" in given:
                name = check_name(given["name"], "name")
                values |= {"name": name, "name_key": name_key(name)}
            if "secret" in given:
                values["secret"] = (None if given["secret"] is None
                                    else self._context.keys.encrypt(given["secret"], row.id))
            if "uri" in values:
                check_uri(row.kind, values["uri"])
                task = running_rule(change.conn, row.id)
                if task is not None:
                    raise Refused("platform.address-in-use", name=row.name, task=task)
                values["verified"] = not row.host_id
            if given.get("accept_host"):
                values |= {"host_id": "", "verified": True}
            connects = bool(values.keys() & {"uri", "options", "secret", "host_id"})
            if connects:
                values |= {"state": "unchecked", "error": None}
            if values:
                savepoint = change.conn.begin_nested()
                try:
                    change.conn.execute(sa.update(t).where(t.c.id == row.id).values(**values))
                    savepoint.commit()
                except IntegrityError:
                    savepoint.rollback()
                    raise Refused("platform.exists", name=values.get("uri", "") or
                                  values["name"]) from None
                change.audit(actor, "platform.edit", row.id, name=row.name,
                             changed=sorted(values.keys() & set(given)))
            if connects:
                tell_users(change, row.id)
            task = self._queue(change, actor, "check", platform=row.id, machine=row.machine,
                               arguments={"refresh": True}) if connects else None
            return PlatformView.of(find(change.conn, row.id), task)

    def check(self, actor: Actor, ref: str) -> int:
        """Look again whether the platform can be used. Returns the task."""
        return self._ask(actor, "check", ref)

    def refresh(self, actor: Actor, ref: str) -> int:
        """Read the platform's machines and places again (M1). Returns the task."""
        return self._ask(actor, "refresh", ref)

    def _ask(self, actor: Actor, kind: Any, ref: str) -> int:
        actor.need("operator")
        with self._context.change() as change:
            row = find(change.conn, ref)
            change.audit(actor, f"platform.{kind}", row.id)
            return self._queue(change, actor, kind, platform=row.id, machine=row.machine,
                               arguments={})

    def _queue(self, change: Change, actor: Actor, kind: Any, *, platform: str, machine: str,
               arguments: dict[str, Any]) -> int:
        return queue.enqueue(change, kind, actor, machine=machine,
                             platform=platform, arguments=arguments)

    def remove(self, actor: Actor, ref: str) -> None:
        """Forget a platform with its secret. Refused while a rule uses it or a task runs."""
        actor.need("administrator")
        t = schema.platform
        with self._context.change() as change:
            row = find(change.conn, ref)
            rules = _rules(change.conn, row.id)
            if rules:
                raise Refused("platform.in-use", name=row.name, rules=", ".join(rules))
            if live_task(change.conn, platform=row.id) is not None:
                raise Refused("platform.task-running", kind="remove")
            change.conn.execute(sa.update(t).where(t.c.id == row.id)
                                .values(deleted_at=change.now, secret=None))
            change.conn.execute(sa.delete(schema.platform_vm)
                                .where(schema.platform_vm.c.platform == row.id))
            change.audit(actor, "platform.remove", row.id, name=row.name)


def find(conn: Connection, ref: str, code: str = "platform.not-found") -> Record:
    """A platform by its id or its name."""
    t = schema.platform
    row = conn.execute(sa.select(t).where(
        t.c.deleted_at.is_(None), sa.or_(t.c.id == ref, t.c.name_key == name_key(ref)))
    ).one_or_none()
    if row is None:
        raise GiveUp(code, name=ref)
    return row


_OF_RULE: Final = sa.select(schema.task).where(
    schema.task.c.rule == sa.bindparam("rule"),
    schema.task.c.state != sa.literal_column("'ended'"))


def tasks_of(conn: Connection, rule: str) -> tuple[Record | None, list[Record]]:
    """The :func:`live_task` of a rule, and its tests and scrubs that are queued or run."""
    found = conn.execute(_OF_RULE, {"rule": rule}).all()
    return (next((task for task in found if task.kind not in SIDE), None),
            [task for task in found if task.kind in SIDE])


def live_task(conn: Connection, *, rule: str | None = None, platform: str | None = None
              ) -> Record | None:
    """The task that keeps others from the rule or the platform; a test, a scrub and a watch do
    not."""
    if rule is not None:
        return tasks_of(conn, rule)[0]
    t = schema.task
    return conn.execute(sa.select(t).where(
        t.c.platform == platform, t.c.kind != "watch", t.c.state != "ended").limit(1)
        ).one_or_none()


def identified(change: Change, platform: str, found: str) -> dict[str, Any]:
    """What it means for the platform's row that its check found the host ``found``; empty: the
    host did not say. The identity decides, not the address or the name of the host: an address
    that leads to another host than the rules were made for is not used by them."""
    t, r = schema.platform, schema.rule
    row = change.conn.execute(sa.select(t).where(t.c.id == platform)).one()
    if not found:
        return {}
    if row.host_id not in {"", found} and _rules(change.conn, platform):
        return {"verified": False, "state": "failed", "error": Refused(
            "platform.other-host", name=row.name, known=row.host_id, found=found).as_dict()}
    if row.host_id != found:
        for rule in change.conn.execute(sa.select(r.c.id, r.c.vm).where(
                r.c.source == platform, r.c.deleted_at.is_(None))).all():
            savepoint = change.conn.begin_nested()
            try:
                change.conn.execute(sa.update(r).where(r.c.id == rule.id)
                                    .values(vm_key=f"{found}/{rule.vm}"))
                savepoint.commit()
            except IntegrityError:
                # Made through two registrations before it was known that they are one host.
                savepoint.rollback()
                change.log("warning", "rule.twice", {"vm": rule.vm}, rule=rule.id)
    return {"host_id": found, "verified": True}


def tell_users(change: Change, platform: str) -> None:
    """Whoever works with the platform asks anew how to reach it before the next connection."""
    t, r = schema.task, schema.rule
    machines = change.conn.execute(
        sa.select(t.c.machine).outerjoin(r, r.c.id == t.c.rule).where(
            queue.is_begun(), sa.or_(t.c.platform == platform, r.c.source == platform,
                                     r.c.target == platform)).distinct()).scalars()
    change.notify(SECRETS, *(machine_topic(m) for m in machines))


def _rules(conn: Connection, platform: str) -> list[str]:
    """Names of the first rules that use the platform."""
    r = schema.rule
    return list(conn.execute(sa.select(r.c.name).where(
        r.c.deleted_at.is_(None), sa.or_(r.c.source == platform, r.c.target == platform))
        .order_by(r.c.name_key).limit(5)).scalars())


def running_rule(conn: Connection, platform: str) -> int | None:
    """The number of a task that works with the platform for a rule now."""
    t, r = schema.task, schema.rule
    found = conn.execute(
        sa.select(t.c.id).join(r, r.c.id == t.c.rule)
        .where(t.c.state.in_(queue.BEGUN), sa.or_(r.c.source == platform, r.c.target == platform))
        .limit(1)).scalar()
    return None if found is None else int(found)


def _machine(conn: Connection, name: str | None) -> str:
    """The DR machine by name; without one, the only one."""
    t = schema.machine
    names = list(conn.execute(sa.select(t.c.name).where(
        t.c.deleted_at.is_(None), t.c.revoked_at.is_(None)).order_by(t.c.name)).scalars())
    if name is None and len(names) == 1:
        return str(names[0])
    if name is None:
        raise Refused("machine.which", machines=", ".join(names) or "-")
    if name not in names:
        raise GiveUp("machine.not-found", name=name)
    return name


def _note(vm: Record) -> str:
    """That a machine is protected (M3), or why it cannot be, or empty."""
    if vm.rule_name is not None:
        return text_of("vm.replicated", {"rule": vm.rule_name}).message
    return text_of(vm.reason, {"vm": vm.name} | vm.fields).message if vm.reason else ""
