"""What scrubs found of restore points, in the catalogue. Part of a change.

The mark is the catalogue's only: at the target nothing but a run may write. A catalogue that is
rebuilt has no marks, and the next scrub finds what is wrong again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ..domain.codec import decode
from ..domain.damage import Damage, size_of, united, without
from ..store import Record, schema
from ..workflows.link import Scrubbed
from .context import Change
from .hub import rule_topic

_P = schema.restore_point
_MARK = sa.update(_P).where(_P.c.rule == sa.bindparam("b_rule"),
                            _P.c.number == sa.bindparam("b_number"))


def scrubbed(change: Change, task: Record, body: Mapping[str, Any], at: float) -> None:
    """Mark what was found (:meth:`.Link.scrubbed`), and let go of marks of points that are good.
    Points newer than ``newest`` were published since: they read through what is newly wrong in
    that one, too."""
    if task.kind not in {"scrub", "replicate"}:
        raise ValueError(task.kind)
    rows = {row.number: row for row in change.conn.execute(
        sa.select(_P).where(_P.c.rule == task.rule))}
    newest = int(body["newest"])
    for found in (decode(Scrubbed, point) for point in body["points"]):
        row = rows.get(found.number)
        if row is None:             # merged since
            continue
        damage = united(found.damage)
        _set(change, row, damage, at, task=task.id, scrubbed_at=at)
        news = without(damage, row.damage or {})
        if found.number == newest and news:
            for later in rows.values():
                if later.number > newest:
                    _set(change, later, united(later.damage or {}, news), at, task=task.id)
    change.notify(rule_topic(str(task.rule)))


def mended(change: Change, task: Record, body: Mapping[str, Any], at: float) -> None:
    """The point was made by a run that read this from the source again."""
    row = change.conn.execute(sa.select(_P).where(
        _P.c.rule == task.rule, _P.c.number == int(body["number"]))).one_or_none()
    if row is not None:
        _set(change, row, without(row.damage or {}, united(body["damage"])), at, task=task.id)
        change.notify(rule_topic(str(task.rule)))


def inherited(known: Mapping[int, Record], number: int, at: float) -> dict[str, Any]:
    """Columns of a point that is new: it reads through what is wrong in the one before, until its
    run says what it has mended."""
    before = known.get(max((n for n in known if n < number), default=0))
    if before is None or not before.damage:
        return {}
    return {"damage": before.damage, "damaged_at": at}


def _set(change: Change, row: Record, damage: Damage, at: float, *, task: int,
         **values: Any) -> None:
    if damage:
        values |= {"damage": damage, "damaged_at": row.damaged_at or at}
        if damage != row.damage:
            change.log("error", "point.damaged", {"point": row.number, "size": size_of(damage)},
                       rule=row.rule, task=task)
    else:
        values |= {"damage": None, "damaged_at": None}
        if row.damage:
            change.log("info", "point.good-again", {"point": row.number}, rule=row.rule, task=task)
    change.conn.execute(_MARK, {"b_rule": row.rule, "b_number": row.number, **values})
