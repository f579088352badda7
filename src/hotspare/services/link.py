"""The control server's end of a DR machine's link, for a machine in the same process."""

from __future__ import annotations

import time
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.codec import decode, encode
from ..domain.errors import Fenced, GiveUp, Refused
from ..domain.lineage import Manifest
from ..domain.rule_states import STEP_EVENTS
from ..platforms.port import Check, ConnectionReport, Place, PlatformAccess, VmSummary
from ..store import Record, schema
from ..workflows.link import Limits, Outcome, Progress, RuleSettings, Task
from . import queue
from .context import SERVICE, Change, Context
from .hub import machine_topic, rule_topic, task_topic
from .machines import Machines
from .tasks import LiveProgress


class LocalLink:
    """Implements :class:`hotspare.workflows.link.Link` by direct calls. Thread-safe.

    Every new link (a new process) offers all live tasks of its machine once more, so a task that
    was handed over a moment before a crash, or whose machine lost its own records, is not lost.
    A machine must therefore begin a task at most once by its number and epoch."""

    def __init__(self, context: Context, progress: LiveProgress, machines: Machines,
                 machine: str) -> None:
        self._context = context
        self._progress = progress
        self._machines = machines
        self._machine = machine
        self._offered: set[int] = set()

    # --- down ----------------------------------------------------------------------------------

    def next_task(self, wait_s: float) -> Task | None:
        hub, topic = self._context.hub, machine_topic(self._machine)
        deadline = time.monotonic() + wait_s
        while True:
            self._machines.seen(self._machine)
            version = hub.version(topic)
            task = self._take()
            left = deadline - time.monotonic()
            if task is not None or left <= 0 or hub.closed:
                return task
            hub.wait(topic, version, min(left, 5.0))

    def _take(self) -> Task | None:
        t = schema.task
        with self._context.read() as conn:
            rows = conn.execute(sa.select(t).where(
                t.c.machine == self._machine, t.c.state.in_(queue.BEGUN))
                .order_by(t.c.priority, t.c.id)).all()
        for row in rows:
            if row.id not in self._offered:
                self._offered.add(row.id)
                return _task(row)
        return None

    def task(self, task_id: int) -> Task | None:
        with self._context.read() as conn:
            row = self._row(conn, task_id)
        return None if row is None or row.state not in queue.BEGUN else _task(row)

    def access(self, platform: str) -> PlatformAccess:
        p, r, t = schema.platform, schema.rule, schema.task
        with self._context.read() as conn:
            row = conn.execute(sa.select(p).where(
                p.c.id == platform, p.c.deleted_at.is_(None),
                sa.or_(
                    sa.exists().where(r.c.machine == self._machine, r.c.deleted_at.is_(None),
                                      sa.or_(r.c.source == p.c.id, r.c.target == p.c.id)),
                    sa.exists().where(t.c.machine == self._machine, t.c.platform == p.c.id,
                                      t.c.state.in_(queue.BEGUN))))).one_or_none()
        if row is None:
            raise GiveUp("platform.not-found", name=platform)
        secret = (None if row.secret is None
                  else self._context.keys.decrypt(row.secret, row.id))
        return PlatformAccess(id=row.id, kind=row.kind, uri=row.uri, options=row.options,
                              secret=secret)

    def rule_key(self, rule: str) -> bytes:
        r = schema.rule
        with self._context.read() as conn:
            owner = conn.execute(sa.select(r.c.machine).where(
                r.c.id == rule, r.c.deleted_at.is_(None))).scalar()
        if owner != self._machine:
            raise GiveUp("rule.not-found", name=rule)
        return self._context.keys.rule_key(rule)

    def limits(self, task: Task) -> Limits:
        r = schema.rule
        self._machines.seen(self._machine)
        with self._context.read() as conn:
            row = self._checked(conn, task)
            if row is None:
                return Limits(stop=True)
            bandwidth = conn.execute(sa.select(r.c.bandwidth).where(r.c.id == row.rule)).scalar()
        return Limits(stop=row.stop, bandwidth=bandwidth)

    # --- up ------------------------------------------------------------------------------------

    def step(self, task: Task, step: str, state: Literal["running", "done", "skipped"],
             detail: dict[str, Any]) -> None:
        t, s = schema.task, schema.task_step
        with self._context.change() as change:
            row = self._checked(change.conn, task)
            if row is None:
                return
            if row.state == "dispatched":
                change.conn.execute(sa.update(t).where(
                    t.c.id == task.id, t.c.state == "dispatched")
                    .values(state="running", started_at=change.now))
            old = change.conn.execute(sa.select(s).where(
                s.c.task == task.id, s.c.name == step)).one_or_none()
            ended = None if state == "running" else change.now
            if old is None:
                position = change.conn.execute(sa.select(sa.func.count()).select_from(s)
                                               .where(s.c.task == task.id)).scalar()
                change.conn.execute(sa.insert(s).values(
                    task=task.id, name=step, position=position, state=state, attempts=1,
                    detail=detail, started_at=change.now, ended_at=ended))
            elif (old.state, old.detail) != (state, detail):
                # A step that ended and begins again is another pass of it.
                again = state == "running" and old.state != "running"
                change.conn.execute(sa.update(s).where(s.c.task == task.id, s.c.name == step)
                                    .values(state=state, detail=detail, ended_at=ended,
                                            attempts=old.attempts + again))
            event = STEP_EVENTS.get(step)
            if state == "running" and event is not None and task.kind == "replicate":
                queue.move(change, str(row.rule), event)
            change.notify(task_topic(task.id))

    def progress(self, task: Task, progress: Progress) -> None:
        t = schema.task
        if self._progress.put(task.id, progress, self._context.clock()):
            with self._context.change() as change:
                if self._checked(change.conn, task) is None:
                    self._progress.drop(task.id)
                    return
                change.conn.execute(sa.update(t).where(t.c.id == task.id)
                                    .values(progress=encode(progress)))
        self._context.hub.publish(task_topic(task.id))

    def log(self, task: Task, level: Literal["info", "warning", "error"], code: str,
            fields: dict[str, Any]) -> None:
        with self._context.change() as change:
            row = self._checked(change.conn, task, ended_too=True)
            assert row is not None
            change.log(level, code, encode(fields), rule=row.rule, task=task.id,
                       platform=row.platform)
            change.notify(task_topic(task.id))

    def adopt(self, task: Task, points: tuple[Manifest, ...]) -> None:
        p = schema.restore_point
        with self._context.change() as change:
            row = self._checked(change.conn, task)
            if row is None:
                return
            numbers = [m.number for m in points]
            change.conn.execute(sa.delete(p).where(p.c.rule == row.rule,
                                                   p.c.number.not_in(numbers)))
            known = {r.number: r.manifest for r in change.conn.execute(
                sa.select(p.c.number, p.c.manifest).where(p.c.rule == row.rule))}
            for manifest in points:
                values = _point_values(manifest)
                if manifest.number not in known:
                    change.conn.execute(sa.insert(p).values(rule=row.rule, **values))
                elif known[manifest.number] != values["manifest"]:
                    change.conn.execute(sa.update(p).where(
                        p.c.rule == row.rule, p.c.number == manifest.number).values(**values))
            change.notify(rule_topic(str(row.rule)))

    def failover(self, task: Task, number: int | None, detail: dict[str, Any]) -> None:
        r = schema.rule
        with self._context.change() as change:
            row = self._checked(change.conn, task)
            if row is None:
                return
            if row.kind not in {"failover", "undo"}:
                raise Refused("task.no-failover", task=task.id, kind=row.kind)
            change.conn.execute(sa.update(r).where(r.c.id == row.rule).values(
                failover_point=number, failover_detail=encode(detail) if number else None))
            change.notify(rule_topic(str(row.rule)))

    def inventory(self, task: Task, report: dict[str, Any]) -> None:
        """``report`` has any of ``connection`` (ConnectionReport), ``places`` (of Place) and
        ``vms`` (of VmSummary), as objects or in their JSON form."""
        data = encode(report)
        values: dict[str, Any] = {}
        with self._context.change() as change:
            row = self._checked(change.conn, task)
            if row is None or row.platform is None:
                return
            if data.get("connection") is not None:
                connection = decode(ConnectionReport, data["connection"])
                values |= _connection_values(connection, change.now)
            if data.get("places") is not None:
                values["places"] = [encode(decode(Place, p)) for p in data["places"]]
            if data.get("vms") is not None:
                vms = [decode(VmSummary, v) for v in data["vms"]]
                values["refreshed_at"] = change.now
                _replace_vms(change, row.platform, vms)
            if values:
                change.conn.execute(sa.update(schema.platform)
                                    .where(schema.platform.c.id == row.platform).values(**values))

    def finish(self, task: Task, outcome: Outcome, error: dict[str, Any] | None,
               figures: dict[str, Any]) -> None:
        with self._context.change() as change:
            row = self._checked(change.conn, task)
            if row is None:
                return              # reported before: a crash came between it and its journal
            last = self._progress.drop(task.id)
            if last is not None:
                change.conn.execute(sa.update(schema.task).where(schema.task.c.id == task.id)
                                    .values(progress=last))
            figures = encode(figures)
            if error is not None:
                change.log("error", str(error.get("code", "task.failed")),
                           dict(error.get("fields") or {}), rule=row.rule, task=task.id,
                           platform=row.platform)
            change.log("warning" if outcome == "warning" else "info", "task.ended",
                       {"outcome": outcome}, rule=row.rule, task=task.id,
                       platform=row.platform)
            queue.end(change, self._context.limits, row, outcome, error=error,
                      figures=figures)
            if row.platform is not None:
                self._settle_platform(change, row, outcome, error)
        self._offered.discard(task.id)

    def _settle_platform(self, change: Change, row: Record, outcome: Outcome,
                         error: dict[str, Any] | None) -> None:
        p = schema.platform
        good = outcome in {"ok", "warning"}
        if good:
            # A connection that was reported has set the state; a good end alone is less.
            change.conn.execute(sa.update(p).where(
                p.c.id == row.platform, p.c.state == "unchecked").values(state="ok"))
        elif outcome == "failed":
            change.conn.execute(sa.update(p).where(p.c.id == row.platform)
                                .values(state="failed", error=error))
        platform = change.conn.execute(sa.select(p).where(p.c.id == row.platform)).one()
        if (good and row.kind == "check" and row.arguments.get("refresh")
                and platform.state == "ok" and platform.refreshed_at is None):
            queue.enqueue(change, self._context.limits, "refresh", SERVICE,
                          machine=row.machine, platform=row.platform, trigger="service")

    # --- common --------------------------------------------------------------------------------

    def _row(self, conn: Connection, task_id: int) -> Record | None:
        """The task when it is this machine's and of its rule's epoch."""
        t, r = schema.task, schema.rule
        row = conn.execute(
            sa.select(t, r.c.epoch.label("rule_epoch"))
            .outerjoin(r, r.c.id == t.c.rule).where(t.c.id == task_id)).one_or_none()
        if row is None or row.machine != self._machine or (
                row.rule is not None and row.epoch != row.rule_epoch):
            return None
        return row

    def _checked(self, conn: Connection, task: Task, ended_too: bool = False) -> Record | None:
        """The live task's row, None when it has ended. Raises Fenced when it is not this
        machine's (any more)."""
        row = self._row(conn, task.id)
        if row is None or row.epoch != task.epoch:
            raise Fenced("task.fenced", task=task.id, epoch=task.epoch)
        return row if ended_too or row.state in queue.LIVE else None


def _task(row: Record) -> Task:
    return Task(id=row.id, kind=row.kind, epoch=row.epoch,
                rule=None if row.settings is None else decode(RuleSettings, row.settings),
                platform=row.platform, point=row.point, arguments=row.arguments)


def _point_values(manifest: Manifest) -> dict[str, Any]:
    return {"number": manifest.number, "task": manifest.task, "epoch": manifest.epoch,
            "taken_at": manifest.taken_at, "consistency": manifest.consistency,
            "note": manifest.note, "size": sum(d.size for d in manifest.disks),
            "moved": sum(d.moved for d in manifest.disks), "manifest": encode(manifest)}


def _connection_values(connection: ConnectionReport, now: float) -> dict[str, Any]:
    def stored(check: Check) -> dict[str, Any]:
        return dict(encode(check))

    values = {"product": connection.product, "checks": [stored(c) for c in connection.checks],
              "checked_at": now, "state": "ok" if connection.ok else "failed",
              "error": None if connection.ok else _fault(connection)}
    if connection.host_id:          # a host that does not answer keeps its identity
        values["host_id"] = connection.host_id
    return values


def _fault(connection: ConnectionReport) -> dict[str, Any]:
    """The first check that failed, as an error."""
    bad = next((c for c in connection.checks if not c.ok), None)
    if bad is None or not bad.code:
        return GiveUp("platform.check-failed", check=bad.name if bad else "connection",
                      detail=bad.detail if bad else "").as_dict()
    return GiveUp(bad.code, **({"detail": bad.detail} | bad.fields)).as_dict()


def _replace_vms(change: Change, platform: str, vms: list[VmSummary]) -> None:
    v = schema.platform_vm
    change.conn.execute(sa.delete(v).where(v.c.platform == platform))
    if vms:
        change.conn.execute(sa.insert(v), [
            {"platform": platform, "ref": x.ref, "name": x.name, "power": x.power,
             "size": x.size, "protectable": x.protectable, "reason": x.reason,
             "fields": x.fields} for x in vms])
