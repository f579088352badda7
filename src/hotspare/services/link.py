"""The control server's end of a DR machine's link."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ..domain.bandwidth import UNLIMITED, Bandwidth
from ..domain.codec import decode, decode_known, encode
from ..domain.errors import Fenced, GiveUp, HotspareError, Refused, Retry
from ..domain.lineage import Manifest
from ..domain.rule_states import STEP_EVENTS
from ..platforms.port import Check, ConnectionReport, Place, PlatformAccess, VmSummary
from ..store import Record, by_the_value, schema
from ..workflows.link import (
    SIDE,
    FoundReplica,
    Limits,
    Outcome,
    Progress,
    RuleSettings,
    Scrubbed,
    Task,
)
from ..workflows.wire import Call, LiveTask, Pending, Report, Reported, Synced, overview
from . import catalogue, ends, marks, queue, rebuild, source_watch
from . import link_statements as sql
from .context import SERVICE, Change, Context
from .hub import machine_topic, rule_topic, task_topic
from .live_progress import LiveProgress
from .machines import Machines
from .platforms import identified, live_task
from .views import explained

_log = logging.getLogger(__name__)


class LocalLink:
    """Implements :class:`hotspare.workflows.link.Link` by direct calls, and is what the routes of
    the link over HTTPS call: one implementation behind both. Thread-safe.

    Every new link (a new process) offers all live tasks of its machine once more, so a task that
    was handed over a moment before a crash, or whose machine lost its own records, is not lost.
    A machine must therefore begin a task at most once by its number and epoch."""

    def __init__(self, context: Context, progress: LiveProgress, machines: Machines,
                 machine: str) -> None:
        self._context = context
        self._progress = progress
        self._machines = machines
        self.machine = machine
        self._offered: set[int] = set()
        self._live: frozenset[int] = frozenset()
        self._reports: dict[str, Callable[[Change, Record, dict[str, Any], float], None]] = {
            "step": self._step, "log": self._log, "adopt": self._adopt,
            "failover": self._failover, "inventory": self._inventory, "finish": self._finish,
            "pause": self._pause, "scrubbed": self._scrubbed, "mended": self._mended}

    # --- down ----------------------------------------------------------------------------------

    def next_task(self, wait_s: float) -> Task | None:
        hub, topic = self._context.hub, machine_topic(self.machine)
        deadline = time.monotonic() + wait_s
        while True:
            self._machines.seen(self.machine)
            version = hub.version(topic)
            task = self._take()
            left = deadline - time.monotonic()
            if task is not None or left <= 0 or hub.closed:
                return task
            hub.wait(topic, version, min(left, 5.0))

    def _take(self) -> Task | None:
        for live in self.synced().tasks:
            if live.task.id not in self._offered:
                self._offered.add(live.task.id)
                return live.task
        return None

    def synced(self) -> Synced:
        """All that the machine has to know now."""
        version = self._context.hub.version(machine_topic(self.machine))
        me = {"machine": self.machine}
        with self._context.read() as conn:
            reported = conn.execute(sql.REPORTED, me).scalar_one()
            begun = conn.execute(sql.BEGUN, me).all()
            queued = conn.execute(sql.QUEUED, me).all()
            waits = queue.waits(conn, [row.id for row in queued])
        tasks = tuple(LiveTask(_task(row), _limits(row)) for row in begun)
        self._live = frozenset(live.task.id for live in tasks)
        return Synced(version, reported, tasks, tuple(
            _pending(row, waits[row.id]) for row in queued))

    def task(self, task_id: int) -> Task | None:
        with self._context.read() as conn:
            row = self._row(conn, task_id)
        return None if row is None or row.state not in queue.BEGUN else _task(row)

    def access(self, platform: str) -> PlatformAccess:
        with self._context.read() as conn:
            row = conn.execute(sql.PLATFORM, {"machine": self.machine,
                                           "platform": platform}).one_or_none()
            if row is None:
                raise GiveUp("platform.not-found", name=platform)
            if not row.verified and live_task(conn, platform=platform) is None:
                raise Retry("platform.unverified", name=row.name)
        secret = (None if row.secret is None
                  else self._context.keys.decrypt(row.secret, row.id))
        return PlatformAccess(id=row.id, kind=row.kind, uri=row.uri, options=row.options,
                              secret=secret)

    def rule_key(self, rule: str) -> bytes:
        with self._context.read() as conn:
            owner = conn.execute(sql.OWNER, {"rule": rule}).scalar()
            known = owner == self.machine or rebuild.may_read(conn, self.machine, rule)
        if not known:
            raise GiveUp("rule.not-found", name=rule)
        return self._context.keys.rule_key(rule)

    def busy(self, why: dict[str, Any] | None) -> None:
        self._machines.report(self.machine, why)

    def foreign(self, rules: list[str]) -> list[str]:
        """Those of ``rules`` that are another machine's."""
        r = schema.rule
        with self._context.read() as conn:
            return list(conn.execute(sa.select(r.c.id).where(
                r.c.id.in_(rules), r.c.machine != self.machine)).scalars())

    def limits(self, task: Task) -> Limits:
        self._machines.seen(self.machine)
        with self._context.read() as conn:
            row = self._checked(conn, task.id, task.epoch)
        return Limits(stop=True) if row is None else _limits(row)

    def overview(self) -> dict[str, Any]:
        """The machine's tasks, as :func:`hotspare.workflows.wire.overview`; JSON."""
        synced = self.synced()
        s = schema.task_step
        with self._context.read() as conn:
            steps = {r.task: r.name for r in conn.execute(sa.select(s.c.task, s.c.name).where(
                s.c.state == "running", s.c.task.in_([x.task.id for x in synced.tasks])))}
        progress = {x.task.id: self._progress.get(x.task.id) or {} for x in synced.tasks}
        return {"tasks": overview(synced, steps, {t: p for t, p in progress.items() if p}),
                "server": "", "away": False, "contact": self._context.clock()}

    # --- up: from the machine in this process --------------------------------------------------

    def step(self, task: Task, step: str, state: Literal["running", "done", "skipped"],
             detail: dict[str, Any]) -> None:
        self._report("step", task, {"step": step, "state": state, "detail": detail})

    def log(self, task: Task, level: Literal["info", "warning", "error"], code: str,
            fields: dict[str, Any]) -> None:
        self._report("log", task, {"level": level, "code": code, "fields": fields})

    def pause(self, task: Task, reason: dict[str, Any] | None) -> None:
        self._report("pause", task, {"reason": reason})

    def adopt(self, task: Task, points: tuple[Manifest, ...]) -> None:
        self._report("adopt", task, {"points": points})

    def failover(self, task: Task, number: int | None, detail: dict[str, Any]) -> None:
        self._report("failover", task, {"number": number, "detail": detail})

    def scrubbed(self, task: Task, points: tuple[Scrubbed, ...], newest: int) -> None:
        self._report("scrubbed", task, {"points": points, "newest": newest})

    def mended(self, task: Task, number: int, damage: dict[str, Any]) -> None:
        self._report("mended", task, {"number": number, "damage": damage})

    def inventory(self, task: Task, report: dict[str, Any]) -> None:
        """``report`` has any of ``connection`` (ConnectionReport), ``places`` (of Place) and
        ``vms`` (of VmSummary), as objects or in their JSON form."""
        self._report("inventory", task, report)

    def finish(self, task: Task, outcome: Outcome, error: dict[str, Any] | None,
               figures: dict[str, Any]) -> None:
        self._report("finish", task, {"outcome": outcome, "error": error, "figures": figures})

    def progress(self, task: Task, progress: Progress) -> None:
        if self._progress.put(task.id, progress, self._context.clock()):
            with self._context.change() as change:
                if self._checked(change.conn, task.id, task.epoch) is None:
                    self._progress.drop(task.id)
                    return
                change.conn.execute(sa.update(schema.task).where(schema.task.c.id == task.id)
                                    .values(progress=encode(progress)))
        self._context.hub.publish(task_topic(task.id))

    def _report(self, call: str, task: Task, body: dict[str, Any]) -> None:
        with self._context.change() as change:
            self._apply(change, call, task.id, task.epoch, encode(body), change.now, {})

    # --- up: from a machine over HTTPS ---------------------------------------------------------

    def reported(self, report: Report) -> Reported:
        """Apply what is new of the report, in its order and in one transaction. What a call is
        refused for is answered and does not keep the others from being applied."""
        self._machines.seen(self.machine)
        refused: dict[str, dict[str, Any]] = {}
        last = 0
        if report.calls:
            try:
                last = self._applied(report, None)
            except Exception:
                # One of them is refused, which is rare: a savepoint for each tells which.
                last = self._applied(report, refused)
        live = {str(task): task for task in self._live}
        for task, progress in report.progress.items():
            if task in live:
                self._note(live[task], progress)
        return Reported(last, refused)

    def _applied(self, report: Report, refused: dict[str, dict[str, Any]] | None) -> int:
        """Number of the last call that is applied now, or refused; without ``refused`` all are
        applied, or none."""
        rows: dict[int, Record] = {}
        with self._context.change() as change:
            last: int = change.conn.execute(sql.REPORTED, {"machine": self.machine}).scalar_one()
            new = [c for c in report.calls if c.seq > last]
            for call in new:
                at = min(change.now, max(0.0, call.at - report.ahead))
                if refused is None:
                    self._apply(change, call.call, call.task, call.epoch, call.body, at, rows)
                elif (error := self._tried(change, call, at)) is not None:
                    refused[str(call.seq)] = error.as_dict()
            if new:
                last = max(c.seq for c in new)
                change.conn.execute(sql.SET_REPORTED, {"b_machine": self.machine, "reported": last})
        return last

    def _tried(self, change: Change, call: Call, at: float) -> HotspareError | None:
        savepoint = change.conn.begin_nested()
        try:
            self._apply(change, call.call, call.task, call.epoch, call.body, at, {})
        except HotspareError as error:
            savepoint.rollback()
            return error
        except Exception as error:
            if isinstance(error, DBAPIError) and not by_the_value(error):
                raise               # of the database, not of the call: the machine says it again
            # Said again it would fail again, and keep all that follows from being heard.
            savepoint.rollback()
            _log.warning("report %s of task %s", call.call, call.task, exc_info=True)
            return Refused("input.invalid", summary=f"{call.call}: {error!r:.200}")
        savepoint.commit()
        return None

    def _note(self, task: int, progress: Progress) -> None:
        if self._progress.put(task, progress, self._context.clock()):
            with self._context.change() as change:
                change.conn.execute(
                    sa.update(schema.task)
                    .where(schema.task.c.id == task, schema.task.c.state.in_(queue.BEGUN))
                    .values(progress=encode(progress)))
        self._context.hub.publish(task_topic(task))

    # --- what reports do; ``at`` is when it happened, never later than now -----------------------

    def _apply(self, change: Change, call: str, task: int, epoch: int, body: dict[str, Any],
               at: float, rows: dict[int, Record]) -> None:
        """``rows``: tasks as they were read in this change, none altered since."""
        report = self._reports.get(call)
        if report is None:
            raise Refused("link.call", call=call[:40])
        row = rows.get(task)
        if row is None or row.epoch != epoch:
            row = self._checked(change.conn, task, epoch, ended_too=call == "log")
        if row is not None:         # None: it was ended meanwhile, or this is said again
            report(change, row, body, at)
            if call in {"finish", "inventory"} or row.state != "running":
                rows.clear()
            else:
                rows[task] = row

    def _step(self, change: Change, row: Record, body: dict[str, Any], at: float) -> None:
        step, state, detail = str(body["step"]), body["state"], body["detail"]
        if state not in {"running", "done", "skipped"}:
            raise ValueError(state)
        if row.state == "dispatched":
            change.conn.execute(sql.BEGIN_TASK, {"b_task": row.id, "state": "running",
                                              "started_at": at})
        the = {"b_task": row.id, "b_name": step}
        old = change.conn.execute(sql.STEP, the).one_or_none()
        ended = None if state == "running" else at
        if old is None:
            change.conn.execute(sql.NEW_STEP, {
                "b_task": row.id, "task": row.id, "name": step, "state": state, "attempts": 1,
                "detail": detail, "started_at": at, "ended_at": ended})
        elif (old.state, old.detail) != (state, detail):
            # A step that ended and begins again is another pass of it.
            again = state == "running" and old.state != "running"
            change.conn.execute(sql.SET_STEP, {**the, "state": state, "detail": detail,
                                            "ended_at": ended, "attempts": old.attempts + again})
        event = STEP_EVENTS.get(step)
        if state == "running" and event is not None and row.kind == "replicate":
            queue.move(change, str(row.rule), event)
        change.notify(task_topic(row.id))

    def _log(self, change: Change, row: Record, body: dict[str, Any], at: float) -> None:
        if body["level"] not in {"info", "warning", "error"}:
            raise ValueError(body["level"])
        replace(change, now=at).log(str(body["level"]), str(body["code"]), dict(body["fields"]),
                                    rule=row.rule, task=row.id, platform=row.platform)
        change.notify(task_topic(row.id))

    def _pause(self, change: Change, row: Record, body: dict[str, Any], _at: float) -> None:
        if row.kind in SIDE:        # the rule shows the pause of its run; the log has this one
            return
        r, reason = schema.rule, body["reason"]
        if reason is not None:
            reason = {"code": str(reason["code"]), "fields": dict(reason["fields"])}
        if row.rule is not None:
            change.conn.execute(sa.update(r).where(r.c.id == row.rule).values(pause=reason))
            change.notify(rule_topic(row.rule))

    def _adopt(self, change: Change, row: Record, body: dict[str, Any], at: float) -> None:
        catalogue.adopt(change, str(row.rule), body["points"], at)

    def _failover(self, change: Change, row: Record, body: dict[str, Any], _at: float) -> None:
        r = schema.rule
        number = None if body["number"] is None else int(body["number"])
        if row.kind not in {"failover", "undo"}:    # a permanent one ends with its task
            raise Refused("task.no-failover", task=row.id, kind=row.kind)
        change.conn.execute(sa.update(r).where(r.c.id == row.rule).values(
            failover_point=number, failover_detail=dict(body["detail"]) if number else None))
        change.notify(rule_topic(str(row.rule)))

    def _scrubbed(self, change: Change, row: Record, body: dict[str, Any], at: float) -> None:
        found = [decode(Scrubbed, point) for point in body["points"]]
        marks.scrubbed(change, row, found, int(body["newest"]), at)

    def _mended(self, change: Change, row: Record, body: dict[str, Any], at: float) -> None:
        marks.mended(change, row, int(body["number"]), body["damage"], at)

    def _inventory(self, change: Change, row: Record, body: dict[str, Any], at: float) -> None:
        if row.platform is None:
            return
        for replica in body.get("replicas") or ():
            rebuild.adopt(change, row, decode(FoundReplica, replica))
        if "power" in body:
            source_watch.seen(change, row.platform, body["power"], at)
        values: dict[str, Any] = {}
        if body.get("connection") is not None:
            connection = decode(ConnectionReport, body["connection"])
            values |= _connection_values(connection, change.now)
            values |= identified(change, row.platform, connection.host_id)
        if body.get("places") is not None:
            values["places"] = [encode(decode(Place, p)) for p in body["places"]]
        if body.get("vms") is not None:
            vms = [decode(VmSummary, v) for v in body["vms"]]
            values["refreshed_at"] = change.now
            _replace_vms(change, row.platform, vms)
        if values:
            change.conn.execute(sa.update(schema.platform)
                                .where(schema.platform.c.id == row.platform).values(**values))

    def _finish(self, change: Change, row: Record, body: dict[str, Any], at: float) -> None:
        t = schema.task
        outcome, error = body["outcome"], body["error"]
        if outcome not in {"ok", "warning", "failed", "stopped"}:
            raise ValueError(outcome)
        last = self._progress.drop(row.id)
        if last is not None:
            change.conn.execute(sa.update(t).where(t.c.id == row.id).values(progress=last))
        then = replace(change, now=at)
        if error is not None:
            then.log("error", str(error.get("code", "task.failed")),
                     dict(error.get("fields") or {}), rule=row.rule, task=row.id,
                     platform=row.platform)
        then.log("warning" if outcome == "warning" else "info", "task.ended",
                 {"outcome": outcome}, rule=row.rule, task=row.id, platform=row.platform)
        ends.end(change, row, outcome, error=error,
                  figures=dict(body["figures"]))
        if at < change.now:         # it was told later than it happened
            change.conn.execute(sa.update(t).where(t.c.id == row.id).values(ended_at=at))
        if row.platform is not None:
            self._settle_platform(change, row, outcome, error)
        change.notify(machine_topic(self.machine))
        self._live -= {row.id}
        self._offered.discard(row.id)

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
            queue.enqueue(change, "refresh", SERVICE,
                          machine=row.machine, platform=row.platform, trigger="service")

    # --- common --------------------------------------------------------------------------------

    def _row(self, conn: Connection, task_id: int) -> Record | None:
        """The task when it is this machine's and of its rule's epoch."""
        row = conn.execute(sql.TASK, {"b_task": task_id}).one_or_none()
        mine = row is not None and row.machine == self.machine and (
            row.rule is None or row.epoch == row.rule_epoch)
        return row if mine else None

    def _checked(self, conn: Connection, task: int, epoch: int,
                 ended_too: bool = False) -> Record | None:
        """The live task's row, None when it has ended. Raises Fenced when it is not this
        machine's (any more)."""
        row = self._row(conn, task)
        if row is None or row.epoch != epoch:
            raise Fenced("task.fenced", task=task, epoch=epoch)
        return row if ended_too or row.state in queue.LIVE else None


def _limits(row: Record) -> Limits:
    return Limits(row.stop, _bandwidth(row.rule_zone, row.rule_ranges),
                  _bandwidth(row.machine_zone, row.machine_ranges))


def _bandwidth(zone: str | None, ranges: list[Any] | None) -> Bandwidth:
    return decode(Bandwidth, {"zone": zone, "ranges": ranges}) if ranges else UNLIMITED


def _pending(row: Record, waits: dict[str, Any]) -> Pending:
    why = explained(waits) or {"code": "", "message": ""}
    return Pending(row.id, row.kind, row.rule_name or row.platform_name or "", why["code"],
                   why["message"])


def _task(row: Record) -> Task:
    return Task(id=row.id, kind=row.kind, epoch=row.epoch,
                # perhaps dispatched by an earlier version
        rule=None if row.settings is None else decode_known(RuleSettings, row.settings),
                platform=row.platform, point=row.point, arguments=row.arguments)


def _connection_values(connection: ConnectionReport, now: float) -> dict[str, Any]:
    def stored(check: Check) -> dict[str, Any]:
        return dict(encode(check))

    return {"product": connection.product, "checks": [stored(c) for c in connection.checks],
              "checked_at": now, "state": "ok" if connection.ok else "failed",
              "error": None if connection.ok else _fault(connection)}


def _fault(connection: ConnectionReport) -> dict[str, Any]:
    """The first check that failed, as an error."""
    bad = next((c for c in connection.checks if not c.ok), None)
    if bad is None or not bad.code:
        return GiveUp("platform.check-failed", check=bad.name if bad else "connection",
                      detail=bad.detail if bad else "").as_dict()
    return GiveUp(bad.code, **({"detail": bad.detail} | bad.fields)).as_dict()


def _replace_vms(change: Change, platform: str, vms: list[VmSummary]) -> None:
    v, r = schema.platform_vm, schema.rule
    change.conn.execute(sa.delete(v).where(v.c.platform == platform))
    if vms:
        change.conn.execute(sa.insert(v), [
            {"platform": platform, "ref": x.ref, "name": x.name, "power": x.power,
             "size": x.size, "protectable": x.protectable, "reason": x.reason,
             "fields": x.fields} for x in vms])
    # a machine that was renamed: its rule shows the name that it has now
    name = sa.select(v.c.name).where(v.c.platform == r.c.source,
                                     v.c.ref == r.c.vm).scalar_subquery()
    change.conn.execute(sa.update(r).where(r.c.source == platform, r.c.deleted_at.is_(None),
                                           r.c.vm_name != name).values(vm_name=name))
