"""The settings of a rule: what they are, what is wrong with them, what is stored of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain import bandwidth, schedule
from ..domain.bandwidth import Bandwidth, Range
from ..domain.codec import decode, encode
from ..domain.errors import GiveUp, Refused
from ..domain.machine import Devices
from ..domain.messages import text_of
from ..domain.schedule import DAY_S, Schedule
from ..platforms.port import Quiesce
from ..store import Record, schema
from .faults import Faults
from .kinds import KINDS
from .names import check_name, name_key
from .platforms import find as find_platform

RPO_S: Final = (10, 366 * DAY_S)
_MEAN_MONTH_S: Final = 365.2425 / 12 * DAY_S


@dataclass(frozen=True, slots=True)
class NewRule:
    """What a rule is made of. ``vm`` is the machine's lasting id or its name; platforms, the
    group and the DR machine are named by id or name too."""

    name: str
    source: str
    vm: str
    target: str
    storage: str
    replica_name: str | None = None     # None: the machine's own where that is free
    datacenter: str = ""                # empty: the target has one
    host: str = ""
    folder: str = ""                    # empty: the datacenter's own
    pool: str = ""                      # empty: all resources of the host or its cluster
    networks: dict[str, str] = field(default_factory=dict)
    machine: str | None = None          # None: the target platform's
    temp_dir: str = ""                  # empty: the DR machine's own
    retention: int | None = None        # None: as the kind of target has it
    quiesce: Quiesce = "try"
    fast_transfer: bool = True
    lan_free: bool = False
    devices: Devices = "auto"
    delete_replica: bool = False        # with the rule
    time_zone: str = "UTC"              # of schedule and bandwidth
    bandwidth: tuple[Range, ...] = ()
    schedule: Schedule | None = None    # None: a one-off rule
    rpo_s: int | None = None
    group: str | None = None


PLACED: Final = ("source", "vm", "target", "datacenter", "host", "folder", "pool", "storage",
                 "replica_name")
"""What cannot change any more once there is something of the rule at its target."""

SHARED: Final = tuple(f.name for f in dataclasses.fields(NewRule)
                      if f.name not in {"name", "vm", "replica_name", "group"})
"""What a template keeps and the rules of a group have in common: the form's four tabs."""

_NEEDED: Final = [f.name for f in dataclasses.fields(NewRule)
                  if f.default is dataclasses.MISSING
                  and f.default_factory is dataclasses.MISSING]


def read(given: Mapping[str, Any]) -> NewRule:
    """The settings from their JSON form. Raises for what is missing, each at its field."""
    faults = Faults()
    for name in _NEEDED:
        with faults.at(name):
            if given.get(name) is None:
                raise Refused("input.missing", field=name)
    faults.throw()
    return NewRule(**decoded(given))


def decoded(given: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(given)
    if values.get("schedule") is not None:
        values["schedule"] = decode(Schedule, values["schedule"])
    if "bandwidth" in values:
        values["bandwidth"] = tuple(decode(Range, r) for r in values["bandwidth"])
    return values


def of(rule: Record) -> NewRule:
    """The settings that a rule has."""
    return NewRule(**decoded({f.name: getattr(rule, f.name)
                              for f in dataclasses.fields(NewRule)}))


def retention_covers_s(retention: int, when: Schedule | None) -> float | None:
    """How much time so many restore points cover, in the mean; None for a one-off rule."""
    if when is None:
        return None
    match when.kind:
        case "interval":
            gap: float = when.every_s or 0
        case "daily":
            gap = DAY_S
        case "weekly":
            gap = 7 * DAY_S / len(when.weekdays)
        case "monthly":
            gap = _MEAN_MONTH_S
    return retention * gap


# --- checking ----------------------------------------------------------------------------------


def checked(conn: Connection, new: NewRule, faults: Faults,
            old: Record | None = None) -> dict[str, Any]:
    """The values of the rule's row; of no use when there are faults. All faults are found in one
    go, each at its field. Of a rule that is there (``old``) only what changes is held against
    what the platforms have: what vanished since must not stand in the way of other edits."""
    before = None if old is None else of(old)

    def changes(*fields: str) -> bool:
        return before is None or any(getattr(new, f) != getattr(before, f) for f in fields)

    ident = "" if old is None else str(old.id)
    name, key = new.name, ""
    with faults.at("name"):
        name = check_name(new.name, "name")
        key = name_key(name)
        _name_free(conn, name, ident)
    source = target = vm = None
    with faults.at("source"):
        source = find_platform(conn, new.source)
    with faults.at("target"):
        target = find_platform(conn, new.target)
        if source is not None and source.kind not in KINDS[target.kind].sources:
            raise Refused("rule.kinds", source=source.kind, target=target.kind)
    values: dict[str, Any] = {"name": name, "name_key": key}
    if source is not None and changes("source", "vm"):
        with faults.at("vm"):
            vm = _vm(conn, source, new.vm)
            values |= {"vm": vm.ref, "vm_name": vm.name, "vm_key": vm_key(source, vm.ref)}
            _unprotected(conn, source, vm, ident)
    if target is not None:
        if changes("target", "datacenter", "host", "folder", "pool", "storage"):
            values |= _placed(target, new, faults)
        if changes("target", "datacenter", "host", "networks"):
            with faults.at("networks"):
                for network in new.networks.values():
                    _network(target, new, network)
        kind = KINDS[target.kind]
        values["retention"] = kind.points if new.retention is None else new.retention
        _within(faults, "retention", values["retention"], (1, kind.max_points))
    if source is not None and target is not None:
        values |= {"source": source.id, "target": target.id}
        if changes("source", "vm", "target", "replica_name") and "vm" not in faults:
            with faults.at("replica_name"):
                values["replica_name"] = _replica_name(
                    conn, source, target, str(vm.name if vm is not None else old and old.vm_name),
                    new.replica_name, ident)
        if old is None:
            with faults.at("machine"):
                values["machine"] = _machine(conn, new.machine or target.machine)
    if new.group is None:
        values["group"] = None
    elif changes("group"):
        with faults.at("group"):
            values["group"] = group_id(conn, new.group)
    _timed(new, source, faults)
    with faults.at("temp_dir"):
        _temp_dir(new.temp_dir)
    with faults.at("lan_free"):
        if new.lan_free and source is not None and KINDS[source.kind].no_lan_free:
            raise Refused(KINDS[source.kind].no_lan_free)
    return values | {
        "networks": new.networks, "temp_dir": new.temp_dir, "quiesce": new.quiesce,
        "fast_transfer": new.fast_transfer, "lan_free": new.lan_free,
        "devices": new.devices,
        "delete_replica": new.delete_replica, "time_zone": new.time_zone,
        "bandwidth": encode(new.bandwidth), "schedule": encode(new.schedule), "rpo_s": new.rpo_s}


def vm_key(source: Record, vm: str) -> str:
    """The same for one machine through every registration of its host."""
    return f"{source.host_id or source.id}/{vm}"


def group_id(conn: Connection, ref: str) -> str:
    """A group by its id or its name. One without rules is not there any more."""
    g, r = schema.rule_group, schema.rule
    found = conn.execute(sa.select(g.c.id).where(
        sa.or_(g.c.id == ref, g.c.name_key == name_key(ref)),
        sa.exists().where(r.c.group == g.c.id, r.c.deleted_at.is_(None)))).scalar()
    if found is None:
        raise GiveUp("group.not-found", name=ref)
    return str(found)


def _within(faults: Faults, at: str, value: int, allowed: tuple[int, int]) -> None:
    with faults.at(at):
        if not allowed[0] <= value <= allowed[1]:
            raise Refused("input.range", field=at, smallest=allowed[0], largest=allowed[1])


def _timed(new: NewRule, source: Record | None, faults: Faults) -> None:
    with faults.at("time_zone"):
        schedule.zone_of(new.time_zone)
    if "time_zone" in faults:
        return
    smallest = 1 if source is None else KINDS[source.kind].smallest_interval_s
    with faults.at("bandwidth"):
        bandwidth.check(Bandwidth(new.time_zone, new.bandwidth))
    if new.rpo_s is not None:
        _within(faults, "rpo_s", new.rpo_s, RPO_S)
    if new.schedule is None:
        return
    with faults.at("schedule"):
        schedule.check(new.schedule, new.time_zone, smallest)
    if new.rpo_s is not None and "schedule" not in faults:
        gap = schedule.longest_gap_s(new.schedule, new.time_zone)
        with faults.at("rpo_s"):
            if new.rpo_s < gap:
                raise Refused("rule.rpo-too-small", rpo_s=new.rpo_s, gap_s=round(gap))


def _temp_dir(path: str) -> None:
    """Empty, or a plain absolute path; whether it can be used the DR machine itself looks."""
    if path and (not path.startswith("/") or path == "/" or "\0" in path
                 or ".." in path.split("/")):
        raise Refused("rule.temp-dir", path=path)


def _name_free(conn: Connection, name: str, ident: str) -> None:
    t = schema.rule
    if conn.execute(sa.select(t.c.id).where(
            t.c.deleted_at.is_(None), t.c.name_key == name_key(name),
            t.c.id != ident)).scalar() is not None:
        raise Refused("rule.exists", name=name)


def _machine(conn: Connection, name: str) -> str:
    """The DR machine, which has to answer: the rule would begin as invalid otherwise."""
    m = schema.machine
    row = conn.execute(sa.select(m).where(
        m.c.name == name.strip(), m.c.deleted_at.is_(None))).one_or_none()
    if row is None:
        raise GiveUp("machine.not-found", name=name)
    if not row.live or row.revoked_at is not None:
        raise Refused("machine.not-live", name=row.name)
    return str(row.name)


# --- source ------------------------------------------------------------------------------------


def _vm(conn: Connection, source: Record, ref: str) -> Record:
    if source.refreshed_at is None:
        raise Refused("platform.not-refreshed", name=source.name)
    v = schema.platform_vm
    found = conn.execute(sa.select(v).where(
        v.c.platform == source.id, sa.or_(v.c.ref == ref, v.c.name == ref))).all()
    exact = [r for r in found if r.ref == ref] or found
    if not exact:
        raise GiveUp("vm.unknown", vm=ref, platform=source.name)
    if len(exact) > 1:
        raise Refused("vm.ambiguous", vm=ref, platform=source.name)
    vm = exact[0]
    if not vm.protectable:
        why = text_of(vm.reason, {"vm": vm.name} | vm.fields)
        raise Refused("vm.unprotectable", vm=vm.name, reason=why.message, cause=vm.reason,
                      help=why.remedy)
    return vm


def _unprotected(conn: Connection, source: Record, vm: Record, ident: str) -> None:
    """No other rule protects the machine, through whichever registration of its host. The
    database holds the same by an index, for whoever asks at the same instant."""
    r = schema.rule
    other = conn.execute(sa.select(r.c.name).where(
        r.c.deleted_at.is_(None), r.c.id != ident,
        sa.or_(r.c.vm_key == vm_key(source, vm.ref),
               sa.and_(r.c.source == source.id, r.c.vm == vm.ref)))).scalar()
    if other is not None:
        raise Refused("rule.duplicate", vm=vm.name, platform=source.name, rule=other)


# --- target ------------------------------------------------------------------------------------


def _places(target: Record, kind: str, *parents: str) -> list[dict[str, Any]]:
    """Of one kind, below any of ``parents``; what has no parent is everywhere."""
    return [p for p in target.places if p["kind"] == kind
            and (not p.get("parent") or not any(parents) or p["parent"] in parents)]


def _reachable(target: Record, new: NewRule, kind: str) -> dict[str, dict[str, Any]]:
    """By name, what the chosen host has of one kind. Where nothing is chosen there is one."""
    datacenter = new.datacenter or _only(_places(target, "datacenter"))
    host = new.host or _only(_places(target, "host", datacenter))
    return {p["name"]: p for p in _places(target, kind, host, datacenter)}


def _only(places: list[dict[str, Any]]) -> str:
    return str(places[0]["name"]) if len(places) == 1 else ""


def _placed(target: Record, new: NewRule, faults: Faults) -> dict[str, str]:
    """Datacenter, host, folder, pool and storage as chosen from the target's inventory. Where
    there is only one datacenter or host, its name is not stored: it may change, and means
    nothing."""
    with faults.at("target"):
        if target.refreshed_at is None:
            raise Refused("platform.not-refreshed", name=target.name)
    values: dict[str, str] = {}
    if "target" in faults:
        return values
    for kind, wanted, parent in (("datacenter", new.datacenter, ""),
                                 ("host", new.host, new.datacenter)):
        known = [p["name"] for p in _places(target, kind, parent)]
        with faults.at(kind):
            if wanted and wanted not in known:
                raise GiveUp("place.unknown", kind=kind, name=wanted, platform=target.name,
                             known=", ".join(sorted(known)) or "-")
            if not wanted and len(known) > 1:
                raise Refused("place.which", kind=kind, platform=target.name,
                              known=", ".join(sorted(known)))
            values[kind] = wanted if len(known) > 1 else ""
    for kind, wanted in (("folder", new.folder), ("pool", new.pool)):
        with faults.at(kind):
            known = sorted(_reachable(target, new, kind))
            if wanted and wanted not in known:
                raise GiveUp("place.unknown", kind=kind, name=wanted, platform=target.name,
                             known=", ".join(known) or "-")
            values[kind] = wanted
    with faults.at("storage"):
        if "host" not in faults:
            _storage(target, new)
    return values | {"storage": new.storage}


def _storage(target: Record, new: NewRule) -> None:
    known = _reachable(target, new, "storage")
    place = known.get(new.storage)
    if place is None:
        raise GiveUp("storage.unknown", storage=new.storage, platform=target.name,
                     known=", ".join(sorted(known)) or "-")
    if not place["usable"]:
        raise Refused("storage.unusable", platform=target.name, **_why(place))


def _network(target: Record, new: NewRule, network: str) -> None:
    if target.refreshed_at is None:
        return                          # told at the target
    others = KINDS[target.kind].other_networks
    if others is not None and others.fullmatch(network):
        return
    known = _reachable(target, new, "network")
    if network not in known:
        raise GiveUp("network.unknown", network=network, platform=target.name,
                     known=", ".join(sorted(known)) or "-")
    if not known[network]["usable"]:
        raise Refused("network.unusable", platform=target.name, **_why(known[network]))


def _why(place: dict[str, Any]) -> dict[str, Any]:
    """Fields that say why a place cannot be used."""
    fields = {**place.get("fields", {}), place["kind"]: place["name"]}
    text = text_of(place["reason"], fields)
    return fields | {"cause": place["reason"], "reason": text.message, "help": text.remedy}


def _replica_name(conn: Connection, source: Record, target: Record, vm: str,
                  wanted: str | None, ident: str) -> str:
    """The name that the replica runs under: the machine's own, unless that is taken there,
    through whichever registration of the target host."""
    r, v, p = schema.rule, schema.platform_vm, schema.platform
    there = sa.select(p.c.id).where(p.c.deleted_at.is_(None), sa.or_(
        p.c.id == target.id, sa.and_(p.c.host_id != "", p.c.host_id == target.host_id)))
    if wanted is not None:
        name = check_name(wanted, "replica_name")
    else:
        same = source.id == target.id or (source.host_id and source.host_id == target.host_id)
        name = f"{vm}-replica" if same else vm
    taken = conn.execute(sa.select(v.c.name).where(
        v.c.platform.in_(there), v.c.name == name)).first()
    if taken is not None:
        raise Refused("rule.replica-name-taken", replica=name, platform=target.name, by="-")
    other = conn.execute(sa.select(r.c.name).where(
        r.c.deleted_at.is_(None), r.c.target.in_(there), r.c.replica_name == name,
        r.c.id != ident)).scalar()
    if other is not None:
        raise Refused("rule.replica-name-taken", replica=name, platform=target.name, by=other)
    return name
