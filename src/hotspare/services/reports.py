"""What the reports of a DR machine do. Part of a change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.codec import decode, encode
from ..domain.errors import Fenced, GiveUp, Refused
from ..platforms.port import Check, ConnectionReport, Place, VmSummary
from ..store import Record, schema
from ..workflows.link import SIDE, FoundReplica, Outcome
from ..workflows.wire import Call
from . import catalogue, ends, marks, queue, rebuild, source_watch, tests
from . import link_statements as sql
from .context import SERVICE, Change
from .hub import machine_topic, rule_topic, task_topic
from .live_progress import LiveProgress
from .platforms import identified, tell_users
from .task_steps import TaskSteps


@dataclass(slots=True)
class Batch:
    """What the reports of one change have read, and what they have yet to write: most of them are
    steps of few tasks, one after the other."""

    rows: dict[int, Record] = field(default_factory=dict)       # tasks, none altered since
    steps: dict[int, TaskSteps] = field(default_factory=dict)

    @staticmethod
    def of(conn: Connection, calls: Iterable[Call]) -> Batch:
        """With what these calls are about read at once."""
        tasks = {call.task for call in calls}
        rows = conn.execute(sql.TASKS, {"tasks": list(tasks)}).all() if tasks else []
        return Batch({row.id: row for row in rows}, TaskSteps.of(conn, rows))

    def write(self, change: Change) -> None:
        for steps in self.steps.values():
            steps.write(change)


class Reports:
    """Applies the reports of one machine. ``at`` is when it happened, never later than now."""

    def __init__(self, machine: str, progress: LiveProgress) -> None:
        self.machine, self._progress = machine, progress
        self.kinds: dict[str, Callable[[Change, Record, dict[str, Any], float], None]] = {
            "log": self._log, "adopt": self._adopt, "failover": self._failover,
            "failback": self._failback, "inventory": self._inventory,
            "pause": self._pause, "proof": tests.adopt,
            "scrubbed": marks.scrubbed, "mended": marks.mended}

    def apply(self, change: Change, call: Call, at: float, batch: Batch) -> None:
        """The caller writes the batch at the end of its change, or of its savepoint."""
        report = self.kinds.get(call.call)
        if report is None and call.call not in {"step", "finish"}:
            raise Refused("link.call", call=call.call[:40])
        row = self._checked(batch.rows.pop(call.task, None) or self._read(change.conn, call.task),
                            call.task, call.epoch)
        if row.state not in queue.LIVE and call.call != "log":
            return                  # it was ended meanwhile, or this is said again
        if report is not None:
            report(change, row, call.body, at)
        else:
            steps = batch.steps.get(row.id)
            if steps is None:
                steps = batch.steps[row.id] = TaskSteps.of(change.conn, [row])[row.id]
            (self._step if call.call == "step" else self._finish)(
                change, row, call.body, at, steps)
        if call.call == "inventory":
            batch.rows.clear()
        elif row.state == "running" and call.call != "finish":
            batch.rows[call.task] = row

    def _step(self, change: Change, row: Record, body: dict[str, Any], at: float,
              steps: TaskSteps) -> None:
        step, state, detail = str(body["step"]), body["state"], body["detail"]
        if state not in {"running", "done", "skipped"}:
            raise ValueError(state)
        if row.state == "dispatched":
            change.conn.execute(sql.BEGIN_TASK, {"b_task": row.id, "state": "running",
                                                 "started_at": at})
        steps.report(step, state, detail, at)
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
        # a permanent one ends with its task
        if row.kind not in {"failover", "undo", "commit-failback"}:
            raise Refused("task.no-failover", task=row.id, kind=row.kind)
        change.conn.execute(sa.update(r).where(r.c.id == row.rule).values(
            failover_point=number, failover_detail=dict(body["detail"]) if number else None))
        change.notify(rule_topic(str(row.rule)))

    def _failback(self, change: Change, row: Record, body: dict[str, Any], _at: float) -> None:
        r, detail = schema.rule, body["detail"]
        if row.kind not in {"failback", "switch-back", "commit-failback", "undo-failback"}:
            raise Refused("task.no-failback", task=row.id, kind=row.kind)
        change.conn.execute(sa.update(r).where(r.c.id == row.rule).values(
            failback=None if detail is None else dict(detail)))
        change.notify(rule_topic(str(row.rule)))

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

    def _finish(self, change: Change, row: Record, body: dict[str, Any], at: float,
                steps: TaskSteps) -> None:
        outcome, error = body["outcome"], body["error"]
        if outcome not in {"ok", "warning", "failed", "stopped"}:
            raise ValueError(outcome)
        last = self._progress.get(row.id)
        then = replace(change, now=at)
        if error is not None:
            then.log("error", str(error.get("code", "task.failed")),
                     dict(error.get("fields") or {}), rule=row.rule, task=row.id,
                     platform=row.platform)
        then.log("warning" if outcome == "warning" else "info", "task.ended",
                 {"outcome": outcome}, rule=row.rule, task=row.id, platform=row.platform)
        ends.end(change, row, outcome, error=error, figures=dict(body["figures"]), at=at,
                 steps=steps, **({} if last is None else {"progress": last}))
        if row.platform is not None:
            self._settle_platform(change, row, outcome, error)
        change.notify(machine_topic(self.machine))

    def _settle_platform(self, change: Change, row: Record, outcome: Outcome,
                         error: dict[str, Any] | None) -> None:
        p = schema.platform
        tell_users(change, str(row.platform))       # whether it may be used is known anew
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

    def row(self, conn: Connection, task_id: int) -> Record | None:
        """The task when it is this machine's and of its rule's epoch."""
        row = self._read(conn, task_id)
        return row if row is not None and self._mine(row) else None

    def checked(self, conn: Connection, task: int, epoch: int) -> Record | None:
        """The live task's row, None when it has ended. Raises Fenced when it is not this
        machine's (any more)."""
        row = self._checked(self._read(conn, task), task, epoch)
        return row if row.state in queue.LIVE else None

    @staticmethod
    def _read(conn: Connection, task: int) -> Record | None:
        return conn.execute(sql.TASKS, {"tasks": [task]}).one_or_none()

    def _mine(self, row: Record) -> bool:
        return row.machine == self.machine and (row.rule is None or row.epoch == row.rule_epoch)

    def _checked(self, row: Record | None, task: int, epoch: int) -> Record:
        if row is None or not self._mine(row) or row.epoch != epoch:
            raise Fenced("task.fenced", task=task, epoch=epoch)
        return row


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
