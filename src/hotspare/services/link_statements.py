"""The statements of a DR machine's link, made once: building one costs more than running it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..store import schema
from . import queue

LONGEST_PENDING = 200
"""Queued tasks that a machine is told of, for its own list."""


def _with_limits(query: sa.Select[Any]) -> sa.Select[Any]:
    """Of tasks, with what :func:`_limits` needs of their rules and machines."""
    t, r, m = schema.task, schema.rule, schema.machine
    return query.add_columns(
        r.c.time_zone.label("rule_zone"), r.c.bandwidth.label("rule_ranges"),
        m.c.time_zone.label("machine_zone"), m.c.bandwidth.label("machine_ranges"),
    ).outerjoin(r, r.c.id == t.c.rule).join(m, m.c.name == t.c.machine)


def _mine(state: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Tasks of the machine ``:machine``, but for those of an epoch that has passed."""
    t, r, p = schema.task, schema.rule, schema.platform
    return (_with_limits(sa.select(t, r.c.name.label("rule_name"),
                                   p.c.name.label("platform_name")))
            .outerjoin(p, p.c.id == t.c.platform)
            .where(t.c.machine == sa.bindparam("machine"), state,
                   sa.or_(t.c.rule.is_(None), t.c.epoch == r.c.epoch))
            .order_by(t.c.priority, t.c.id))


BEGUN, QUEUED = _mine(queue.is_begun()), _mine(queue.is_queued()).limit(LONGEST_PENDING)
REPORTED = sa.select(schema.machine.c.reported).where(
    schema.machine.c.name == sa.bindparam("machine"))
_P, _R, _T = schema.platform, schema.rule, schema.task

_USABLE = sa.or_(_P.c.verified, sa.exists().where(
    _T.c.platform == _P.c.id, _T.c.kind == "check", _T.c.state != sa.literal_column("'ended'")))
"""One that is not verified is for the check that does it."""


def _platforms(*task: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Platforms that such a task works with."""
    return sa.select(_P, _USABLE.label("usable")).where(_P.c.deleted_at.is_(None), sa.or_(
        _P.c.id.in_(sa.select(_T.c.platform).where(*task)),
        _P.c.id.in_(sa.select(_T.c.arguments["platform"].as_string()).where(*task)),
        *(_P.c.id.in_(sa.select(side).join(_T, _T.c.rule == _R.c.id)
                      .where(_T.c.epoch == _R.c.epoch, *task))
          for side in (_R.c.source, _R.c.target))))


_HERE = (_T.c.machine == sa.bindparam("machine"), queue.is_begun())
PLATFORMS_OF = _platforms(_T.c.id == sa.bindparam("task"))
PLATFORM = _platforms(*_HERE).where(_P.c.id == sa.bindparam("platform"))
HAS_RULE = (sa.select(_T.c.id).join(_R, _R.c.id == _T.c.rule)
            .where(*_HERE, _T.c.rule == sa.bindparam("rule"), _T.c.epoch == _R.c.epoch))
SET_REPORTED = sa.update(schema.machine).where(schema.machine.c.name == sa.bindparam("b_machine"))
TASK = _with_limits(sa.select(schema.task, schema.rule.c.epoch.label("rule_epoch"))).where(
    schema.task.c.id == sa.bindparam("b_task"))
BEGIN_TASK = sa.update(schema.task).where(schema.task.c.id == sa.bindparam("b_task"),
                                           schema.task.c.state == "dispatched")
