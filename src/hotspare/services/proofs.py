"""Proof of restore points: scrubs, begun by hand or by schedules of their own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ..domain import schedule
from ..domain.codec import decode, encode
from ..domain.errors import GiveUp, HotspareError, Refused
from ..domain.rule_states import RuleState
from ..domain.schedule import Schedule, next_run
from ..store import Record, schema
from . import queue, tests
from .context import SERVICE, Actor, Change, Context
from .hub import SCHEDULE
from .names import check_name, name_key, page, slice_of
from .platforms import live_task
from .rule_settings import group_id
from .rules import find as find_rule
from .views import Page

SHORTEST_S: Final = 60
_BATCH: Final = 50              # rules of a schedule in one transaction
_S, _R = schema.proof_schedule, schema.rule
_NEXT: Final = sa.select(sa.func.min(_S.c.next_run_at)).where(_S.c.enabled)

Begin = Callable[[Change, Record, Actor, str, bool], int]
"""Queue the proof of a rule's points (all of them, or the newest: a test is of the newest)."""


@dataclass(frozen=True)
class ProofScheduleView:
    """Without ``rule`` and ``group`` it is for all rules."""

    id: str
    name: str
    kind: str
    all_points: bool
    schedule: Schedule
    time_zone: str
    rule: str | None
    rule_name: str | None
    group: str | None
    group_name: str | None
    enabled: bool
    next_run_at: float | None
    last_run_at: float | None
    created_at: float
    created_by: str


def begin_scrub(change: Change, rule: Record, actor: Actor, trigger: str, all_points: bool,
                point: int | None = None) -> int:
    """Queue a scrub, undispatched. Raises the reason why it cannot be."""
    provable(change.conn, rule)
    return queue.enqueue(change, "scrub", actor, machine=rule.machine, rule=rule.id,
                         epoch=rule.epoch, point=point, arguments={"all": all_points},
                         trigger=trigger, dispatch_now=False)


def provable(conn: Connection, rule: Record) -> None:
    """Raises the reason why the rule's points cannot be looked at now."""
    state = RuleState(rule.state)
    task = live_task(conn, rule=rule.id)
    if state is RuleState.PERMANENT_FAILOVER:
        raise Refused("rule.in-permanent-failover", name=rule.name)
    if task is not None and task.kind in {"remove", "permanent"}:
        raise Refused("rule.busy", kind=task.kind)
    if state is RuleState.INVALID:
        raise Refused("rule.machine-down", name=rule.name, machine=rule.machine)
    if not rule.points:
        raise Refused("rule.no-point", name=rule.name)


def _begin_test(change: Change, rule: Record, actor: Actor, trigger: str, _all: bool) -> int:
    return tests.begin(change, rule, actor, trigger)


KINDS: Final[dict[str, Begin]] = {"scrub": begin_scrub, "test": _begin_test}
"""What can be scheduled."""


class Proofs:
    def __init__(self, context: Context) -> None:
        self._context = context

    def scrub(self, actor: Actor, ref: str, point: int | None = None,
              all_points: bool = False) -> int:
        """Read a point (None: the newest) or all points again at the target, and compare with
        their digests. Returns the task."""
        actor.need("operator")
        p = schema.restore_point
        with self._context.change() as change:
            rule = find_rule(change.conn, ref)
            known = change.conn.execute(sa.select(p.c.number).where(
                p.c.rule == rule.id).order_by(p.c.number)).scalars().all()
            if point is not None and point not in known:
                raise GiveUp("rule.no-such-point", rule=rule.name, point=point,
                             known=", ".join(map(str, known)))
            task = begin_scrub(change, rule, actor, "manual", all_points, point)
            queue.dispatch(change)
            change.audit(actor, "rule.scrub", rule.id, task=task, point=point, all=all_points)
            return task

    # --- schedules -----------------------------------------------------------------------------

    def list(self, actor: Actor, limit: int = 100, cursor: str | None = None
             ) -> Page[ProofScheduleView]:
        actor.need("viewer")
        with self._context.read() as conn:
            rows = conn.execute(slice_of(_shown().order_by(_S.c.name_key), limit, cursor)).all()
        return page([_view(row) for row in rows], limit, cursor)

    def get(self, actor: Actor, ref: str) -> ProofScheduleView:
        actor.need("viewer")
        with self._context.read() as conn:
            return _view(_find(conn, ref))

    def add(self, actor: Actor, name: str, given: Mapping[str, Any]) -> ProofScheduleView:
        """A new schedule; ``given`` as in :meth:`edit`, with at least ``schedule``."""
        actor.need("operator")
        ident = secrets.token_hex(4)
        with self._context.change() as change:
            values = _checked(change, {"kind": "scrub", "all_points": False, "time_zone": "UTC",
                                       "rule": None, "group": None, "enabled": True,
                                       **given, "name": name}, change.now)
            _unique(change, sa.insert(_S).values(
                id=ident, created_at=change.now, created_by=actor.name, **values), name)
            change.audit(actor, "proof.add", ident, name=name)
            change.notify(SCHEDULE)
            return _view(_find(change.conn, ident))

    def edit(self, actor: Actor, ref: str, given: Mapping[str, Any]) -> ProofScheduleView:
        """Change what is given: name, kind, all_points, schedule (of the domain), time_zone,
        rule, group (id or name), enabled."""
        actor.need("operator")
        with self._context.change() as change:
            row = _find(change.conn, ref)
            before = {k: getattr(row, k) for k in (
                "name", "kind", "all_points", "time_zone", "rule", "group", "enabled")}
            values = _checked(change, before | {"schedule": decode(Schedule, row.schedule)}
                              | dict(given), change.now)
            _unique(change, sa.update(_S).where(_S.c.id == row.id).values(**values),
                    values["name"])
            change.audit(actor, "proof.edit", row.id, changed=sorted(given))
            change.notify(SCHEDULE)
            return _view(_find(change.conn, row.id))

    def remove(self, actor: Actor, ref: str) -> None:
        actor.need("operator")
        with self._context.change() as change:
            row = _find(change.conn, ref)
            change.conn.execute(sa.delete(_S).where(_S.c.id == row.id))
            change.audit(actor, "proof.remove", row.id, name=row.name)

    # --- their runs ----------------------------------------------------------------------------

    def run_due(self) -> float | None:
        """Begin what is due, of a batch of rules at most; returns when the next is."""
        due = self._next()
        if due is not None and due <= self._context.clock():
            with self._context.change() as change:
                row = change.conn.execute(
                    sa.select(_S).where(_S.c.enabled, _S.c.next_run_at <= change.now)
                    .order_by(_S.c.next_run_at).limit(1)).one_or_none()
                if row is not None:
                    _run(change, row)
            due = self._next()
        return due

    def _next(self) -> float | None:
        with self._context.look() as conn:
            due: float | None = conn.execute(_NEXT).scalar()
        return due


def _run(change: Change, row: Record) -> None:
    """The next batch of rules of a schedule that is due; after the last one, its next run."""
    rules = change.conn.execute(
        sa.select(_R).where(_R.c.deleted_at.is_(None), _R.c.id > (row.at_rule or ""),
                            *([_R.c.id == row.rule] if row.rule else []),
                            *([_R.c.group == row.group] if row.group else []))
        .order_by(_R.c.id).limit(_BATCH)).all()
    for rule in rules:
        try:
            with change.savepoint():
                KINDS[row.kind](change, rule, SERVICE, "schedule", row.all_points)
        except HotspareError as error:
            # one rule that cannot be proven now must not keep the others from it
            change.log("warning", "proof.skipped", {**error.fields, "schedule": row.name,
                                                    "kind": row.kind, "reason": error.code},
                       rule=rule.id)
    values: dict[str, Any] = {"at_rule": rules[-1].id if len(rules) == _BATCH else None}
    if values["at_rule"] is None:
        values |= {"last_run_at": change.now, "next_run_at": next_run(
            decode(Schedule, row.schedule), row.time_zone, change.now, row.next_run_at)}
    change.conn.execute(sa.update(_S).where(_S.c.id == row.id).values(**values))
    queue.dispatch(change)


def _checked(change: Change, given: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The columns. Raises Refused ``proof.*``, ``schedule.*``, and what the look-ups raise."""
    when: Schedule = given["schedule"]
    name = check_name(given["name"], "name")
    if given["kind"] not in KINDS:
        raise Refused("proof.kind", kind=given["kind"], known=", ".join(KINDS))
    schedule.check(when, given["time_zone"], SHORTEST_S)
    rule = None if given["rule"] is None else find_rule(change.conn, given["rule"]).id
    group = None if given["group"] is None else group_id(change.conn, given["group"])
    if rule is not None and group is not None:
        raise Refused("proof.scope")
    return {"name": name, "name_key": name_key(name), "kind": given["kind"],
            "all_points": given["all_points"], "schedule": encode(when),
            "time_zone": given["time_zone"], "rule": rule, "group": group,
            "enabled": given["enabled"], "at_rule": None,
            "next_run_at": next_run(when, given["time_zone"], now, None)}


def _unique(change: Change, statement: Any, name: str) -> None:
    savepoint = change.conn.begin_nested()
    try:
        change.conn.execute(statement)
        savepoint.commit()
    except IntegrityError:
        savepoint.rollback()
        raise Refused("proof.exists", name=name) from None


def _shown() -> sa.Select[Any]:
    g = schema.rule_group
    return (sa.select(_S, _R.c.name.label("rule_name"), g.c.name.label("group_name"))
            .outerjoin(_R, _R.c.id == _S.c.rule).outerjoin(g, g.c.id == _S.c.group))


def _find(conn: Connection, ref: str) -> Record:
    row = conn.execute(_shown().where(
        sa.or_(_S.c.id == ref, _S.c.name_key == name_key(ref)))).one_or_none()
    if row is None:
        raise GiveUp("proof.not-found", name=ref)
    return row


def _view(row: Record) -> ProofScheduleView:
    return ProofScheduleView(**{
        name: getattr(row, name) for name in ProofScheduleView.__annotations__
        if name != "schedule"}, schedule=decode(Schedule, row.schedule))
