"""Tests of restore points (演练): how one begins, and what they found."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import Any, Final, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.codec import decode, encode
from ..domain.errors import GiveUp, Refused
from ..domain.proof import LARGEST_SCREENSHOT, Check, Checklist, Verdict
from ..domain.rule_states import Operation
from ..store import Record, schema
from . import queue
from .context import Actor, Change, Context
from .hub import rule_topic
from .names import page, slice_of
from .rules import find as find_rule
from .rules import refuse
from .views import Page, TestCheckView, TestView, explained

KEPT: Final = 20
"""Tests of one restore point that are kept, the newest ones."""

_LONGEST_PREFIX: Final = 30      # the host needs an address beside the guest's
_MOST_CHECKS, _LARGEST_TEXT = 64, 500
_P, _POINT = schema.proof, schema.restore_point


class Tests:
    def __init__(self, context: Context) -> None:
        self._context = context

    def start(self, actor: Actor, ref: str, wanted: Checklist, point: int | None = None) -> int:
        """Boot a copy of ``point`` (None: the newest), apart from everything, look at it, and
        remove it. Returns the task."""
        actor.need("operator")
        if wanted.address:
            _check_address(wanted.address)
        with self._context.change() as change:
            rule = find_rule(change.conn, ref)
            task = begin(change, rule, actor, "manual", wanted, point)
            change.audit(actor, "rule.test", rule.id, task=task, point=point)
            return task

    def list(self, actor: Actor, ref: str, limit: int = 100, cursor: str | None = None
             ) -> Page[TestView]:
        """Of a rule, newest first."""
        actor.need("viewer")
        with self._context.read() as conn:
            rule = find_rule(conn, ref)
            rows = conn.execute(slice_of(
                _LISTED.where(_P.c.rule == rule.id, _P.c.kind == "test")
                .order_by(_P.c.id.desc()), limit, cursor)).all()
        return page([_view(row) for row in rows], limit, cursor)

    def get(self, actor: Actor, ident: int) -> TestView:
        actor.need("viewer")
        with self._context.read() as conn:
            return _view(_find(conn, ident))

    def screenshot(self, actor: Actor, ident: int) -> bytes:
        """The PNG. Raises GiveUp ``test.no-screenshot`` when there is none."""
        actor.need("viewer")
        with self._context.read() as conn:
            _find(conn, ident)
            found: bytes | None = conn.execute(
                sa.select(_P.c.screenshot).where(_P.c.id == ident)).scalar()
        if found is None:
            raise GiveUp("test.no-screenshot", test=ident)
        return found


def begin(change: Change, rule: Record, actor: Actor, trigger: str,
          wanted: Checklist | None = None, point: int | None = None) -> int:
    """Queue a test of ``point`` (None: the newest that is not known to be damaged). Raises Refused
    with the reason why it is not possible now, and GiveUp ``rule.no-such-point``. Returns the
    task."""
    refuse(change, rule, Operation.TEST)
    known = {row.number: row.damaged_at is None for row in change.conn.execute(
        sa.select(_POINT.c.number, _POINT.c.damaged_at).where(_POINT.c.rule == rule.id)
        .order_by(_POINT.c.number))}
    if point is None:
        point = max((number for number, good in known.items() if good), default=None)
    if point is None:
        raise Refused("rule.all-damaged", name=rule.name)
    if point not in known:
        raise GiveUp("rule.no-such-point", rule=rule.name, point=point,
                     known=", ".join(map(str, known)))
    return queue.enqueue(change, "test", actor, machine=rule.machine, rule=rule.id,
                         epoch=rule.epoch, point=point, trigger=trigger,
                         arguments=encode(wanted or Checklist()))


def _check_address(text: str) -> None:
    try:
        usable = ipaddress.IPv4Interface(text).network.prefixlen <= _LONGEST_PREFIX
    except ValueError:
        usable = False
    if not usable:
        raise Refused("test.address", address=text)


def adopt(change: Change, task: Record, body: dict[str, Any], at: float) -> None:
    """Keep what a test found. Raises ValueError for what is no such report."""
    verdict, checks = body["verdict"], body["checks"]
    if task.kind != "test" or verdict not in get_args(Verdict) or len(checks) > _MOST_CHECKS:
        raise ValueError(f"{task.kind} {verdict}")
    of_point = sa.and_(_P.c.rule == task.rule, _P.c.point == task.point)
    if not change.conn.execute(sa.select(_POINT.c.number).where(
            _POINT.c.rule == task.rule, _POINT.c.number == task.point)).first():
        return          # merged meanwhile: its proof would go with it
    if change.conn.execute(sa.select(_P.c.id).where(_P.c.task == task.id)).first():
        return          # said again
    change.conn.execute(sa.insert(_P).values(
        rule=task.rule, point=task.point, kind=task.kind, task=task.id, verdict=verdict,
        checks=[_bounded(encode(decode(Check, c))) for c in checks],
        screenshot=_picture(body["screenshot"]), at=at))
    oldest = (sa.select(_P.c.id).where(of_point).order_by(_P.c.id.desc())
              .limit(1).offset(KEPT).scalar_subquery())
    change.conn.execute(sa.delete(_P).where(of_point, _P.c.id <= oldest))
    change.notify(rule_topic(task.rule))


def _bounded(check: dict[str, Any]) -> dict[str, Any]:
    return check | {"fields": {k: v[:_LARGEST_TEXT] if isinstance(v, str) else v
                               for k, v in check["fields"].items()}}


def _picture(packed: str | None) -> bytes | None:
    if packed is None:
        return None
    try:
        png = base64.b64decode(packed, validate=True)
    except binascii.Error as error:
        raise ValueError("screenshot") from error
    if len(png) > LARGEST_SCREENSHOT or not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("screenshot")
    return png


def _make_listed() -> sa.Select[Any]:
    columns = [c for c in _P.c if c.name != "screenshot"]
    return (sa.select(*columns, _P.c.screenshot.is_not(None).label("pictured"), _POINT.c.taken_at,
                      schema.rule.c.name.label("rule_name"))
            .join(_POINT, sa.and_(_POINT.c.rule == _P.c.rule, _POINT.c.number == _P.c.point))
            .join(schema.rule, schema.rule.c.id == _P.c.rule))


_LISTED: Final = _make_listed()


def _find(conn: Connection, ident: int) -> Record:
    row = conn.execute(_LISTED.where(_P.c.id == ident, _P.c.kind == "test")).one_or_none()
    if row is None:
        raise GiveUp("test.not-found", test=ident)
    return row


def _view(row: Record) -> TestView:
    checks = []
    for check in row.checks:
        told = explained({"code": check["code"], "fields": check["fields"]}) or {}
        checks.append(TestCheckView(
            name=check["name"], state=check["state"], asked=check["asked"], code=check["code"],
            message=str(told["message"]), fields=check["fields"]))
    return TestView(id=row.id, rule=row.rule, rule_name=row.rule_name, point=row.point,
                    taken_at=row.taken_at, task=row.task, verdict=row.verdict, checks=checks,
                    screenshot=row.pictured, at=row.at)
