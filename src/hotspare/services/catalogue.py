"""The catalogue of restore points follows the targets, which are the truth (design, section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ..domain.codec import encode
from ..domain.lineage import Manifest
from ..store import schema
from . import rpo
from .context import Change
from .hub import rule_topic


def adopt(change: Change, rule: str, points: Sequence[Manifest], at: float) -> None:
    """Make the catalogue agree with what the rule's target said at ``at``: rows for these points,
    and only these."""
    p = schema.restore_point
    change.conn.execute(sa.delete(p).where(p.c.rule == rule,
                                           p.c.number.not_in([m.number for m in points])))
    known = {r.number: r.manifest for r in change.conn.execute(
        sa.select(p.c.number, p.c.manifest).where(p.c.rule == rule))}
    for manifest in points:
        values = _values(manifest)
        if manifest.number not in known:
            change.conn.execute(sa.insert(p).values(rule=rule, **values))
        elif known[manifest.number] != values["manifest"]:
            change.conn.execute(sa.update(p).where(
                p.c.rule == rule, p.c.number == manifest.number).values(**values))
    head = max(points, key=lambda m: m.number, default=None)
    if head is not None:
        rpo.published(change, rule, head.taken_at, at)
    change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == rule).values(
        points=len(points), latest_point=head.number if head else None,
        latest_point_at=head.taken_at if head else None,
        stored=sum(d.moved for m in points for d in m.disks)))
    change.notify(rule_topic(rule))


def _values(manifest: Manifest) -> dict[str, Any]:
    return {"number": manifest.number, "task": manifest.task, "epoch": manifest.epoch,
            "taken_at": manifest.taken_at, "consistency": manifest.consistency,
            "note": manifest.note, "size": sum(d.size for d in manifest.disks),
            "moved": sum(d.moved for d in manifest.disks), "manifest": encode(manifest)}
