"""The dispatcher: which queued tasks a DR machine is given now, and what the others wait for.

Queued tasks stand in lanes, one for each DR machine, source host and target host, oldest first.
Only heads of lanes can be next, so a dispatch costs what there are lanes, not what is queued.
The source hosts of a machine take turns: 500 rules of one host do not delay another's.

Statements are made once: SQLAlchemy takes longer to put one together than SQLite to run it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.codec import encode
from ..domain.limits import DEFAULT_PER_HOST, LARGEST_IN_FLIGHT, MAX_TESTS
from ..domain.rule_states import Event
from ..store import Record, schema
from ..store.upsert import insert_new
from ..workflows.link import SIDE, RuleSettings, TaskKind
from .context import Change
from .hub import machine_topic, task_topic
from .rule_state import OF_MACHINE, move

UNCOUNTED: Final = frozenset({"failover", "undo", "test", "switch-back", "commit-failback",
                              "undo-failback", "cable", "watch", "check", "refresh", "rebuild"})
"""Kinds that no limit counts: an instant boot and its undo (M19; tests have a cap of their own),
the steps of a failback in which a machine stands still, and the short calls that look at a
platform without moving data."""
COUNTED: Final = frozenset(get_args(TaskKind)) - UNCOUNTED
"""All others, a kind that is yet to come with them."""
BEGUN: Final = ("dispatched", "running")
SETTING: Final = "limits"

PATIENCE_S: Final = 120.0
"""A head that waited longer for a host keeps its places: those behind it may not take them.
Without this, a task that needs much at once would wait for ever behind small ones."""


def is_queued(task: Any = schema.task) -> sa.ColumnElement[bool]:
    """Said in literals: with a parameter SQLite does not see that the partial index serves."""
    return task.c.state == sa.literal_column("'queued'")  # type: ignore[no-any-return]


def is_begun(task: Any = schema.task) -> sa.ColumnElement[bool]:
    """As :func:`is_queued`."""
    return task.c.state.in_([sa.literal_column(f"'{state}'")  # type: ignore[no-any-return]
                             for state in BEGUN])


_T, _M, _L, _R = schema.task, schema.machine, schema.lane, schema.rule
_SOURCE, _TARGET = schema.platform.alias(), schema.platform.alias()


def _identity(platform: Any) -> sa.ColumnElement[str]:
    """What tells that two platforms are the same host."""
    return sa.func.coalesce(sa.func.nullif(platform.c.host_id, ""), platform.c.id)


# --- lanes ---------------------------------------------------------------------------------------

HOSTS_OF_RULE: Final = (
    ("source_host", sa.select(_identity(_SOURCE)).join(_R, _R.c.source == _SOURCE.c.id)
     .where(_R.c.id == sa.bindparam("b_rule")).scalar_subquery()),
    ("target_host", sa.select(_identity(_TARGET)).join(_R, _R.c.target == _TARGET.c.id)
     .where(_R.c.id == sa.bindparam("b_rule")).scalar_subquery()))
"""Columns of a new task that :func:`.insert_new` works out: identities of the rule's hosts."""
_THE_LANE = sa.and_(_L.c.machine == sa.bindparam("b_machine"),
                    _L.c.source_host == sa.bindparam("b_source"),
                    _L.c.target_host == sa.bindparam("b_target"))
_LAST = sa.select(sa.func.coalesce(sa.func.max(_L.c.served), 0)).scalar_subquery()
_CLOSE_LANE = sa.delete(_L).where(_THE_LANE, ~sa.exists().where(
    is_queued(), _T.c.machine == _L.c.machine, _T.c.source_host == _L.c.source_host,
    _T.c.target_host == _L.c.target_host))
_TURN = (sa.update(_L).where(_L.c.machine == sa.bindparam("b_machine"),
                             _L.c.source_host == sa.bindparam("b_source"))
         .values(served=_LAST + 1).returning(_L.c.served))


def open_lane(change: Change, machine: str, source: str, target: str) -> None:
    """A lane that opens is served after those that wait already, not before."""
    change.conn.execute(
        insert_new(change.conn.dialect.name, _L, (("served", _LAST),)),
        {"machine": machine, "source_host": source, "target_host": target})


def _lane_of(machine: str, source: str, target: str) -> dict[str, str]:
    return {"b_machine": machine, "b_source": source, "b_target": target}


def refit(change: Change, *where: sa.ColumnElement[bool]) -> None:
    """Put queued tasks into their lanes anew, after their machine or a host's identity changed.
    The caller dispatches."""
    counted = _T.c.kind.in_(COUNTED)
    source = sa.case((counted, _identity(_SOURCE)), else_="").label("source")
    target = sa.case((counted, _identity(_TARGET)), else_="").label("target")
    rows = change.conn.execute(
        sa.select(_T.c.id, _T.c.machine, _T.c.source_host, _T.c.target_host, source, target)
        .outerjoin(_R, _R.c.id == _T.c.rule)
        .outerjoin(_SOURCE, _SOURCE.c.id == _R.c.source)
        .outerjoin(_TARGET, _TARGET.c.id == _R.c.target).where(is_queued(), *where)).all()
    for row in rows:
        if (row.source_host, row.target_host) != (row.source, row.target):
            change.conn.execute(sa.update(_T).where(_T.c.id == row.id).values(
                source_host=row.source, target_host=row.target))
    for lane in {(row.machine, row.source, row.target) for row in rows}:
        open_lane(change, *lane)


# --- limits --------------------------------------------------------------------------------------

_UNVERIFIED = sa.select(_identity(_SOURCE)).where(
    _SOURCE.c.verified.is_(False), _SOURCE.c.deleted_at.is_(None))
_LIMITS = sa.select(
    sa.select(schema.setting.c.value).where(schema.setting.c.key == SETTING)
    .scalar_subquery().label("per_host"),
    sa.select(sa.func.max(_M.c.max_tasks)).where(_M.c.revoked_at.is_(None))
    .scalar_subquery().label("largest"),
    sa.exists(_UNVERIFIED).label("unverified"))
_COUNTS = (sa.select(_T.c.machine, _T.c.source_host, _T.c.target_host,
                     sa.func.count().label("tasks"), sa.func.sum(_T.c.buffer).label("bytes"))
           .where(is_begun(), _T.c.kind.in_(COUNTED))
           .group_by(_T.c.machine, _T.c.source_host, _T.c.target_host))
_NEAR = _COUNTS.where(sa.or_(_T.c.machine == sa.bindparam("b_machine"), *(
    side == sa.bindparam(host) for side in (_T.c.source_host, _T.c.target_host)
    for host in ("b_source", "b_target"))))


def per_host(conn: Connection) -> tuple[int, int]:
    """``max_tasks_per_host`` as it was set, and as it is in force: never above the largest
    ``max_tasks`` (M22)."""
    return _per_host(conn.execute(_LIMITS).one())


def _per_host(limits: Record) -> tuple[int, int]:
    wanted = int((limits.per_host or {}).get("max_tasks_per_host", DEFAULT_PER_HOST))
    return wanted, min(wanted, limits.largest or wanted)


@dataclass(slots=True)
class _Load:
    """What runs where it matters to some tasks: counted tasks by machine and by host, and bytes in
    flight by host."""

    per_host: int
    on_machine: Counter[str] = field(default_factory=Counter)
    on_host: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)
    unverified: frozenset[str] = frozenset()    # hosts whose address was edited, not yet checked

    @staticmethod
    def of(conn: Connection, tasks: Iterable[Record]) -> _Load:
        """``tasks`` have a machine and hosts. Mostly they are of one lane, where one has ended or
        begun: of a fleet's hundreds only its own machine and hosts are looked at then."""
        limits = conn.execute(_LIMITS).one()
        load = _Load(_per_host(limits)[1], unverified=frozenset(
            conn.execute(_UNVERIFIED).scalars() if limits.unverified else ()))
        lane, *others = {(t.machine, t.source_host, t.target_host) for t in tasks}
        found = conn.execute(_COUNTS) if others else conn.execute(_NEAR, _lane_of(*lane))
        for row in found:
            load.add(row, row.tasks, row.bytes or 0)
        return load

    def copy(self) -> _Load:
        return _Load(self.per_host, self.on_machine.copy(), self.on_host.copy(),
                     self.in_flight.copy(), self.unverified)

    def add(self, row: Record, tasks: int, in_flight: int) -> None:
        self.on_machine[row.machine] += tasks
        for host in {row.source_host, row.target_host}:
            self.on_host[host] += tasks
            self.in_flight[host] += in_flight

    def obstacle(self, row: Record) -> tuple[str, dict[str, Any]] | None:
        """Why a task cannot begin: a code, and its fields. ``row`` has the task's machine
        (``machine``, ``busy``, ``max_tasks``, ``transfer_buffer``) and hosts."""
        if not row.source_host:             # no limit counts it
            if row.kind == "test" and row.tests >= MAX_TESTS:
                return "queue.tests-full", {"machine": row.machine, "limit": MAX_TESTS}
            return None
        if row.busy is not None:
            return "queue.machine-busy", {**row.busy["fields"], "reason": row.busy["code"],
                                          "machine": row.machine}
        for host in self.unverified & {row.source_host, row.target_host}:
            return "queue.platform-unverified", {"host": host}
        if self.on_machine[row.machine] >= row.max_tasks:
            return "queue.machine-full", {"machine": row.machine, "limit": row.max_tasks}
        for host in (row.source_host, row.target_host):
            if self.on_host[host] >= self.per_host:
                return "queue.host-full", {"host": host, "limit": self.per_host}
        for host in (row.source_host, row.target_host):
            if self.in_flight[host] + row.transfer_buffer > LARGEST_IN_FLIGHT:
                return "queue.host-bytes", {"host": host, "in_flight": self.in_flight[host],
                                            "limit": LARGEST_IN_FLIGHT}
        return None


# --- the dispatch --------------------------------------------------------------------------------


def _tests_beside(place: Any) -> sa.Case[int]:
    """Tests that the machine of an uncounted task's ``place`` (a lane, a task) runs now."""
    other = _T.alias()
    count = sa.select(sa.func.count()).where(
        is_begun(other), other.c.machine == place.c.machine, other.c.kind == "test")
    return sa.case((place.c.source_host == "", count.scalar_subquery()), else_=0)


_ANSWERS = sa.and_(_M.c.name == _L.c.machine, _M.c.live, _M.c.revoked_at.is_(None))


def _make_heads(*where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Of each lane whose machine answers: the oldest task, NULL when there is none."""
    oldest = _T.alias()
    head = (sa.select(oldest.c.id).where(
        is_queued(oldest), oldest.c.machine == _L.c.machine,
        oldest.c.source_host == _L.c.source_host, oldest.c.target_host == _L.c.target_host)
        .order_by(oldest.c.priority, oldest.c.id).limit(1).scalar_subquery())
    return (sa.select(_L, _M.c.max_tasks, _M.c.transfer_buffer, _M.c.busy, _T.c.id,
                      _T.c.priority, _T.c.kind, _T.c.rule, _T.c.created_at,
                      _tests_beside(_L).label("tests"))
            .join(_M, _ANSWERS).outerjoin(_T, _T.c.id == head).where(*where))


_RUNNING = (sa.select(_T.c.machine, sa.func.count().label("tasks"))
            .where(is_begun(), _T.c.kind.in_(COUNTED)).group_by(_T.c.machine).subquery())


def _with_room(lanes: sa.Select[Any]) -> sa.Select[Any]:
    """Those whose machine may work at more."""
    return lanes.outerjoin(_RUNNING, _RUNNING.c.machine == _M.c.name).where(sa.or_(
        _L.c.source_host == "", _M.c.max_tasks > sa.func.coalesce(_RUNNING.c.tasks, 0)))


_FEW: Final = 8
_OPEN = _with_room(sa.select(_L.c.machine, _L.c.source_host, _L.c.target_host)
                   .join(_M, _ANSWERS)).limit(_FEW + 1)
_HEADS = _with_room(_make_heads())
_HEAD_OF_LANE = _make_heads(_THE_LANE)
_GIVE = sa.update(_T).where(_T.c.id == sa.bindparam("b_task"), is_queued())
_P = schema.restore_point
_RULE = (sa.select(_R, _M.c.temp_dir.label("machine_temp_dir"), _P.c.damage, *OF_MACHINE)
         .join(_M, _M.c.name == _R.c.machine)
         .outerjoin(_P, sa.and_(_P.c.rule == _R.c.id, _P.c.number == _R.c.latest_point))
         .where(_R.c.id == sa.bindparam("rule")))


@dataclass(slots=True)
class _Head:
    """The oldest task of a lane, and when the lane had its last turn."""

    row: Record
    served: int

    @property
    def order(self) -> tuple[int, int, int]:
        return self.row.priority, self.served, self.row.id


def dispatch(change: Change) -> list[int]:
    """Give every queued task that the limits allow to its machine."""
    lanes = change.conn.execute(_OPEN).all()
    # few while many wait: asked for one by one, as PostgreSQL would read all tasks for them
    heads = (_heads(change, _HEADS) if len(lanes) > _FEW else
             [head for lane in lanes for head in _head_of_lane(change, lane)])
    if not heads:
        return []
    load, given = _Load.of(change.conn, [head.row for head in heads]), []
    while (head := _next(heads, load, change.now)) is not None:
        row = head.row
        _give(change, row)
        given.append(int(row.id))
        if row.source_host:
            load.add(row, 1, row.transfer_buffer)
        _had_its_turn(change, heads, row)
        heads.remove(head)
        heads += _head_of_lane(change, row)
    return given


def _next(heads: list[_Head], load: _Load, now: float) -> _Head | None:
    kept = load.copy()
    for head in sorted(heads, key=lambda h: h.order):
        obstacle = kept.obstacle(head.row)
        if obstacle is None:
            return head
        if obstacle[0].startswith("queue.host") and now - head.row.created_at > PATIENCE_S:
            kept.add(head.row, 1, head.row.transfer_buffer)
    return None


def _heads(change: Change, query: sa.Select[Any], of: dict[str, str] | None = None
           ) -> list[_Head]:
    """Heads of lanes; a lane that is found empty is closed with the change, if it is so still."""
    rows = change.conn.execute(query, of).all()
    for row in rows:
        if row.id is None:
            change.write_last(_CLOSE_LANE,
                              _lane_of(row.machine, row.source_host, row.target_host))
    return [_Head(row, row.served) for row in rows if row.id is not None]


def _head_of_lane(change: Change, lane: Record) -> list[_Head]:
    return _heads(change, _HEAD_OF_LANE,
                  _lane_of(lane.machine, lane.source_host, lane.target_host))


def _had_its_turn(change: Change, heads: Iterable[_Head], row: Record) -> None:
    """All lanes of the machine from this source host go behind the others."""
    served = change.conn.execute(_TURN, {
        "b_machine": row.machine, "b_source": row.source_host}).scalars().all()[0]
    for head in heads:
        if (head.row.machine, head.row.source_host) == (row.machine, row.source_host):
            head.served = served


def _give(change: Change, row: Record) -> None:
    rule = (None if row.rule is None
            else change.conn.execute(_RULE, {"rule": row.rule}).one())
    landed = change.conn.execute(_GIVE, {
        "b_task": row.id, "state": "dispatched", "dispatched_at": change.now,
        "settings": encode(rule and _settings(rule, row)),
        "buffer": row.transfer_buffer if row.source_host else None}).rowcount
    assert landed == 1
    if row.source_host and row.kind not in SIDE:
        move(change, row.rule, Event.DISPATCH, found=rule)
    change.notify(task_topic(row.id), machine_topic(row.machine))


def _settings(rule: Record, task: Record) -> RuleSettings:
    """The settings that the task works with."""
    return RuleSettings(
        id=rule.id, name=rule.name, vm=rule.vm, source=rule.source, target=rule.target,
        storage=rule.storage, replica_name=rule.replica_name, networks=rule.networks,
        retention=rule.retention, quiesce=rule.quiesce, transfer_buffer=task.transfer_buffer,
        temp_dir=rule.temp_dir or rule.machine_temp_dir, fast_transfer=rule.fast_transfer,
        lan_free=rule.lan_free, devices=rule.devices, datacenter=rule.datacenter, host=rule.host,
        folder=rule.folder, pool=rule.pool,
        damage=rule.damage or {})


# --- what a queued task waits for ----------------------------------------------------------------

_WAITING = (sa.select(_T.c.id, _T.c.machine, _T.c.source_host, _T.c.target_host, _T.c.kind,
                      _M.c.live, _M.c.busy, _M.c.max_tasks, _M.c.transfer_buffer,
                      _tests_beside(_T).label("tests"))
            .join(_M, _M.c.name == _T.c.machine)
            .where(is_queued(), _T.c.id.in_(sa.bindparam("tasks", expanding=True))))


def _make_places(*of: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The order in which those that match have their turn, as :func:`dispatch` goes."""
    turn = sa.func.row_number().over(partition_by=[_T.c.machine, _T.c.source_host],
                                     order_by=[_T.c.priority, _T.c.id])
    line = (sa.select(_T.c.id, _T.c.priority, _L.c.served, turn.label("turn"))
            .outerjoin(_L, sa.and_(_L.c.machine == _T.c.machine,
                                   _L.c.source_host == _T.c.source_host,
                                   _L.c.target_host == _T.c.target_host))
            .where(is_queued(), *of).subquery())
    place = sa.func.row_number().over(
        order_by=[line.c.priority, line.c.turn, line.c.served, line.c.id])
    placed = sa.select(line.c.id, place.label("place")).subquery()
    return sa.select(placed).where(placed.c.id.in_(sa.bindparam("tasks", expanding=True)))


_PLACES = {
    "machine": _make_places(_T.c.machine == sa.bindparam("name")),
    "host": _make_places(sa.or_(_T.c.source_host == sa.bindparam("name"),
                                _T.c.target_host == sa.bindparam("name")))}


def waits(conn: Connection, tasks: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Code and fields of the limit that each of ``tasks`` waits for now, if it is queued, with
    its ``place`` among all that wait for the same machine or host."""
    wanted = list(tasks)
    rows = conn.execute(_WAITING, {"tasks": wanted}).all() if wanted else []
    if not rows:
        return {}
    load = _Load.of(conn, rows)
    reasons: dict[int, dict[str, Any]] = {}
    limited: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if not row.live:
            code, fields = "queue.machine-down", {"machine": row.machine}
        else:
            code, fields = load.obstacle(row) or ("queue.turn", {"machine": row.machine})
        reasons[row.id] = {"code": code, "fields": fields}
        limit = "host" if "host" in fields else "machine"
        limited.setdefault((limit, fields[limit]), []).append(row.id)
    for (limit, name), members in limited.items():
        for task, place in conn.execute(_PLACES[limit], {"name": name, "tasks": members}):
            reasons[task]["fields"] |= {"place": place}
    names = _host_names(conn, {name for limit, name in limited if limit == "host"})
    for reason in reasons.values():
        if "host" in reason["fields"]:
            reason["fields"]["host"] = names.get(reason["fields"]["host"], "")
    return reasons


def _host_names(conn: Connection, hosts: set[str]) -> dict[str, str]:
    p = schema.platform
    identity = _identity(p)
    return {row.host: row.name for row in conn.execute(
        sa.select(identity.label("host"), p.c.name)
        .where(p.c.deleted_at.is_(None), identity.in_(hosts)))} if hosts else {}
