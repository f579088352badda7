"""Failback in the services: what the end of each of its tasks means, and what an operator asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from ..domain.errors import GiveUp, Refused
from ..domain.rule_states import Event, RuleState
from ..store import Record, schema
from . import queue
from .context import SERVICE, Actor, Change
from .platforms import find as find_platform


@dataclass(frozen=True, slots=True)
class NewHome:
    """Where a machine is made for a failback that does not go to the original one. ``networks``
    maps those of the replica to those there; an empty name is the original's."""

    platform: str                   # id or name
    storage: str
    name: str = ""
    networks: Mapping[str, str] = field(default_factory=dict)


_R: Final = schema.rule
_DUE: Final = (sa.select(_R).where(
    _R.c.commit_at.is_not(None), _R.c.commit_at <= sa.bindparam("now"), _R.c.deleted_at.is_(None),
    _R.c.own_state == RuleState.FAILED_BACK.value).order_by(_R.c.commit_at).limit(50))
NEXT_COMMIT: Final = sa.select(sa.func.min(_R.c.commit_at)).where(
    _R.c.commit_at.is_not(None), _R.c.deleted_at.is_(None),
    _R.c.own_state == RuleState.FAILED_BACK.value)
"""When the next failback commits itself."""
_RETRY_S: Final = 300.0         # after a commit that failed


def begin_bulk(change: Change, rule: Record, actor: Actor, arguments: dict[str, Any],
               place: NewHome | None) -> int:
    """Copy back what differs while the replica runs. Raises Refused ``failback.other-kind`` where
    source and target are of different kinds, ``failback.place-stands`` for another ``place`` than
    it began with, and the faults of the place."""
    p = schema.platform
    kinds = {row.id: row.kind for row in change.conn.execute(sa.select(p.c.id, p.c.kind).where(
        p.c.id.in_((rule.source, rule.target))))}
    if kinds[rule.source] != kinds[rule.target]:
        raise Refused("failback.other-kind", name=rule.name, source=kinds[rule.source],
                      target=kinds[rule.target])
    begun = rule.failback is not None
    if place is not None and not (begun and _as_begun(change, rule, place)):
        if begun:
            raise Refused("failback.place-stands", name=rule.name)
        arguments = arguments | {"place": _checked(change, rule, place)}
    return _queue(change, rule, actor, "failback", Event.FAIL_BACK, arguments)


def _as_begun(change: Change, rule: Record, place: NewHome) -> bool:
    known = rule.failback.get("place")
    return known is not None and all(
        known[key] == value for key, value in _checked(change, rule, place).items())


def _checked(change: Change, rule: Record, place: NewHome) -> dict[str, Any]:
    """The place as tasks know it."""
    platform = find_platform(change.conn, place.platform)
    kind = change.conn.execute(sa.select(schema.platform.c.kind).where(
        schema.platform.c.id == rule.target)).scalar()
    if platform.kind != kind:
        raise Refused("failback.place-kind", name=platform.name, kind=platform.kind)
    known = [p["name"] for p in platform.places if p["kind"] == "storage" and p["usable"]]
    if place.storage not in known:
        raise GiveUp("place.unknown", kind="storage", name=place.storage,
                     platform=platform.name, known=", ".join(known) or "-", field="storage")
    return {"platform": platform.id, "storage": place.storage, "name": place.name or rule.vm_name,
            "networks": dict(place.networks)}


def begin_switch(change: Change, rule: Record, actor: Actor, arguments: dict[str, Any]) -> int:
    """Stop the replica, copy the rest, start the source."""
    return _queue(change, rule, actor, "switch-back", Event.SWITCH_BACK, arguments)


def begin_commit(change: Change, rule: Record, actor: Actor, trigger: str = "manual") -> int:
    """The source stays; the replica's layer and the undo disks are deleted."""
    return _queue(change, rule, actor, "commit-failback", Event.COMMIT_FAILBACK, {},
                  trigger=trigger)


def begin_undo(change: Change, rule: Record, actor: Actor) -> int:
    """The source becomes what it was, the replica goes on."""
    return _queue(change, rule, actor, "undo-failback", Event.UNDO_FAILBACK, {})


def ended(task: Record, rule: Record, good: bool, now: float) -> tuple[Event, dict[str, Any]]:
    """The event that the end of one of the tasks is, and what it sets at the rule."""
    nothing_left = {"commit_at": None, "failback": None}
    match task.kind, good:
        case "failback", True:
            return Event.BULK_DONE, {}
        case "switch-back", True:
            after = task.arguments.get("commit_after_s")
            return Event.SWITCHED_BACK, {"commit_at": None if after is None else now + after}
        case "commit-failback", True:
            return Event.FAILBACK_COMMITTED, nothing_left | {
                "failover_point": None, "failover_detail": None}
        case "commit-failback", False:
            return Event.COMMIT_FAILED, {
                "commit_at": None if rule.commit_at is None else now + _RETRY_S}
        case "undo-failback", True:
            return Event.FAILBACK_UNDONE, nothing_left
    if rule.failback is None and task.kind != "switch-back":
        return Event.FAILBACK_UNDONE, {}    # nothing was written yet
    return Event.FAILBACK_FAILED, {"commit_at": None}


def commit_due(change: Change) -> None:
    """Commit the failbacks whose time has come."""
    for rule in change.conn.execute(_DUE, {"now": change.now}).all():
        change.log("info", "failback.commit-due", {"name": rule.name}, rule=rule.id)
        begin_commit(change, rule, SERVICE, "service")


def settle_place(change: Change, task: Record, rule: Record) -> dict[str, Any]:
    """What a commit at a new place sets at the rule: its machine is the one there."""
    place = (task.arguments["failback"] or {}).get("place")
    if place is None:
        return {}
    p = schema.platform
    host = change.conn.execute(sa.select(p.c.host_id).where(
        p.c.id == place["platform"])).scalar_one()
    change.log("info", "failback.moved", {"vm": place["name"]}, rule=rule.id)
    return {"source": place["platform"], "vm": place["vm"], "vm_name": place["name"],
            "vm_key": f"{host or place['platform']}/{place['vm']}",
            "networks": {here: there for there, here in place["networks"].items()}}


def _queue(change: Change, rule: Record, actor: Actor, kind: Any, event: Event,
           arguments: dict[str, Any], trigger: str = "manual") -> int:
    place = arguments.get("place") or (rule.failback or {}).get("place")
    queue.move(change, rule.id, event)
    return queue.enqueue(
        change, kind, actor, machine=rule.machine, rule=rule.id, epoch=rule.epoch,
        point=rule.failover_point, trigger=trigger, arguments=arguments | {
            "failback": rule.failback, **({} if place is None else {
                "platform": place["platform"]})})       # its access is given to the task
