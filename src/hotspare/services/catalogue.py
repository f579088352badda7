"""The catalogue of restore points follows the targets, which are the truth (design, section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ..domain.codec import decode, encode
from ..domain.errors import Refused
from ..domain.lineage import Manifest
from ..store import schema
from ..workflows.wire import point_digest
from . import marks, rpo
from .context import Change
from .hub import rule_topic

_P, _R = schema.restore_point, schema.rule
_KNOWN = (sa.select(_P.c.number, _P.c.taken_at, _P.c.moved, _P.c.digest, _P.c.damage,
                    _R.c.group, _R.c.latest_point_at)
          .select_from(_R).outerjoin(_P, _P.c.rule == _R.c.id)
          .where(_R.c.id == sa.bindparam("rule")))
_NAME = {"number", "digest"}
_THE_POINT = sa.and_(_P.c.rule == sa.bindparam("b_rule"), _P.c.number == sa.bindparam("b_number"))
_INSERT, _UPDATE, _DELETE = (sa.insert(_P), sa.update(_P).where(_THE_POINT),
                             sa.delete(_P).where(_THE_POINT))
_SET_RULE = sa.update(_R).where(_R.c.id == sa.bindparam("b_rule"))


def adopt(change: Change, rule: str, points: Sequence[dict[str, Any]], at: float) -> None:
    """Make the catalogue agree with what the rule's target said at ``at``: rows for these points,
    and only these. A point is its manifest as JSON, or where it was told before ``number`` and
    ``digest`` of that. Raises Refused ``points.unknown`` for a name that nothing has, and
    ``ValueError`` for what is no manifest; nothing was changed then."""
    rows = change.conn.execute(_KNOWN, {"rule": rule}).all()
    known = {row.number: row for row in rows if row.number is not None}
    there: dict[int, tuple[float, int]] = {}    # when it was taken, bytes moved
    new: list[dict[str, Any]] = []
    other: list[dict[str, Any]] = []
    for said in points:
        row, named = known.get(said.get("number", -1)), said.keys() == _NAME
        digest = said["digest"] if named else point_digest(said)
        if row is not None and row.digest == digest:
            there[row.number] = row.taken_at, row.moved
            continue
        if named:
            raise Refused("points.unknown", number=said["number"])
        values = columns(said)
        number = values["number"]
        there[number] = values["taken_at"], values["moved"]
        if number in known:
            other.append({"b_rule": rule, "b_number": number, **values})
        else:
            new.append({"rule": rule, **values, "damage": None, "damaged_at": None,
                        **marks.inherited(known, number, change.now)})
    gone = [{"b_rule": rule, "b_number": number} for number in known.keys() - there.keys()]
    for statement, values_of in ((_INSERT, new), (_UPDATE, other), (_DELETE, gone)):
        if values_of:
            change.conn.execute(statement, values_of)
    if known and not (new or other or gone):
        return
    latest = max(there, default=None)
    if latest is not None:
        rpo.published(change, rule, rows[0].group, rows[0].latest_point_at, there[latest][0], at)
    change.conn.execute(_SET_RULE, {
        "b_rule": rule, "points": len(there), "latest_point": latest,
        "latest_point_at": None if latest is None else there[latest][0],
        "stored": sum(moved for _, moved in there.values())})
    change.notify(rule_topic(rule))


def columns(point: dict[str, Any]) -> dict[str, Any]:
    """What the catalogue keeps of a manifest. Raises ``ValueError`` for what is none."""
    manifest = decode(Manifest, point)
    return {"number": manifest.number, "task": manifest.task, "epoch": manifest.epoch,
            "taken_at": manifest.taken_at, "consistency": manifest.consistency,
            "note": manifest.note, "size": sum(d.size for d in manifest.disks),
            "moved": sum(d.moved for d in manifest.disks), "manifest": encode(manifest),
            "digest": point_digest(point)}
