"""The statements of a DR machine's link, made once: building one costs more than running it."""

from __future__ import annotations

import sqlalchemy as sa

from ..store import schema
from . import queue

LONGEST = 400
"""Live tasks that a machine is told of; beyond those that it works at it only lists them."""


_P, _R, _T, _M = schema.platform, schema.rule, schema.task, schema.machine
_OF_THE_END = {"outcome", "error", "figures", "full", "bytes_queried", "bytes_read", "bytes_moved",
               "bytes_zero", "stall_s", "retries", "ended_at", "progress"}
_LIVE_TASK = tuple(c for c in _T.c if c.name not in _OF_THE_END)
"""What a live task has. Each column of each row costs time, and these are read all the time."""
_OWN = _R.alias()
_LIMITS = (_R.c.time_zone.label("rule_zone"), _R.c.bandwidth.label("rule_ranges"),
           _M.c.time_zone.label("machine_zone"), _M.c.bandwidth.label("machine_ranges"))
"""Of a task's rule and machine: what :func:`.link._limits` needs."""

_LIVE = sa.and_(
    _T.c.machine == _M.c.name, sa.or_(queue.is_begun(), queue.is_queued()),
    sa.or_(_T.c.rule.is_(None),
           _T.c.epoch == sa.select(_OWN.c.epoch).where(_OWN.c.id == _T.c.rule)
           .scalar_subquery()))
MINE = (sa.select(_M.c.reported, *_LIVE_TASK, _R.c.name.label("rule_name"),
                  _P.c.name.label("platform_name"), *_LIMITS)
        .select_from(_M).outerjoin(_T, _LIVE).outerjoin(_R, _R.c.id == _T.c.rule)
        .outerjoin(_P, _P.c.id == _T.c.platform)
        .where(_M.c.name == sa.bindparam("machine"))
        .order_by(queue.is_queued(), _T.c.priority, _T.c.id).limit(LONGEST))
"""``reported`` of a machine with its live tasks, but for those of an epoch that has passed, begun
ones first; one row without a task when there is none."""
ALL_REPORTED = sa.select(_M.c.name, _M.c.reported).where(
    _M.c.name.in_(sa.bindparam("machines", expanding=True)))

_USABLE = sa.or_(_P.c.verified, sa.exists().where(
    _T.c.platform == _P.c.id, _T.c.kind == "check", _T.c.state != sa.literal_column("'ended'")))
"""One that is not verified is for the check that does it."""


_PLATFORMS = sa.select(_P, _USABLE.label("usable")).where(_P.c.deleted_at.is_(None))
_HERE = (_T.c.machine == sa.bindparam("machine"), queue.is_begun())
PLATFORMS = _PLATFORMS.where(_P.c.id.in_(sa.bindparam("platforms", expanding=True)))
PLATFORM = _PLATFORMS.where(_P.c.id == sa.bindparam("platform"), sa.or_(
    _P.c.id.in_(sa.select(_T.c.platform).where(*_HERE)),
    _P.c.id.in_(sa.select(_T.c.arguments["platform"].as_string()).where(*_HERE)),
    *(_P.c.id.in_(sa.select(side).join(_T, _T.c.rule == _R.c.id)
                  .where(_T.c.epoch == _R.c.epoch, *_HERE))
      for side in (_R.c.source, _R.c.target))))
"""One that a task of the machine works with."""
HAS_RULE = (sa.select(_T.c.id).join(_R, _R.c.id == _T.c.rule)
            .where(*_HERE, _T.c.rule == sa.bindparam("rule"), _T.c.epoch == _R.c.epoch))
SET_REPORTED = sa.update(_M).where(_M.c.name == sa.bindparam("b_machine"))
TASKS = (sa.select(*_LIVE_TASK, _R.c.epoch.label("rule_epoch"), _R.c.source, _R.c.target, *_LIMITS)
         .outerjoin(_R, _R.c.id == _T.c.rule).join(_M, _M.c.name == _T.c.machine)
         .where(_T.c.id.in_(sa.bindparam("tasks", expanding=True))))
BEGIN_TASK = sa.update(_T).where(_T.c.id == sa.bindparam("b_task"), _T.c.state == "dispatched")
