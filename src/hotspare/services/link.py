"""The control server's end of a DR machine's link."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Final, Literal

import sqlalchemy as sa

from ..domain.bandwidth import UNLIMITED, Bandwidth
from ..domain.codec import decode, decode_known, encode
from ..domain.errors import Fenced, GiveUp, Retry
from ..domain.lineage import Manifest
from ..domain.proof import Check, Verdict
from ..platforms.port import PlatformAccess
from ..store import Record, schema
from ..workflows.link import Limits, Outcome, Progress, RuleSettings, Scrubbed, Task
from ..workflows.wire import (
    Call,
    LiveTask,
    Pending,
    Report,
    Reported,
    Secrets,
    Synced,
    overview,
    proof_body,
)
from . import link_statements as sql
from . import queue, rebuild
from .context import Context
from .hub import SECRETS, machine_topic, task_topic
from .intake import Intake
from .live_progress import LiveProgress
from .machines import Machines
from .reports import Batch, Reports
from .views import explained

WAITS_FOR_S: Final = 5.0

_log = logging.getLogger(__name__)


class LocalLink:
    """Implements :class:`hotspare.workflows.link.Link` by direct calls, and is what the routes of
    the link over HTTPS call: one implementation behind both. Thread-safe.

    Every new link (a new process) offers all live tasks of its machine once more, so a task that
    was handed over a moment before a crash, or whose machine lost its own records, is not lost.
    A machine must therefore begin a task at most once by its number and epoch."""

    def __init__(self, context: Context, progress: LiveProgress, machines: Machines,
                 intake: Intake, machine: str) -> None:
        self._context = context
        self._progress = progress
        self._machines = machines
        self._intake = intake
        self.machine = machine
        self._offered: set[int] = set()
        self._live: frozenset[int] = frozenset()
        self._waits: tuple[float, dict[int, dict[str, Any] | None]] = (0.0, {})
        self._reports = Reports(machine, progress)

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
        hub = self._context.hub
        version, stamp = hub.version(machine_topic(self.machine)), hub.version(SECRETS)
        with self._context.look() as conn:
            rows = conn.execute(sql.MINE, {"machine": self.machine}).all()
        begun = [row for row in rows if row.state in queue.BEGUN]
        queued = [row for row in rows if row.state == "queued"]
        waits = self._waits_of([row.id for row in queued])
        tasks = tuple(LiveTask(_task(row), _limits(row)) for row in begun)
        self._live = frozenset(live.task.id for live in tasks)
        return Synced(version, rows[0].reported, tasks, tuple(
            _pending(row, waits[row.id]) for row in queued), stamp=stamp)

    def _waits_of(self, tasks: list[int]) -> dict[int, dict[str, Any] | None]:
        """What they wait for, for the machine's own list, as it was a moment ago; None: nothing
        any more."""
        now, (until, waits) = self._context.uptime(), self._waits
        if tasks and (now > until or not waits.keys() >= set(tasks)):
            with self._context.read() as conn:
                found = queue.waits(conn, tasks)
            waits = {task: found.get(task) for task in tasks}
            self._waits = now + WAITS_FOR_S, waits
        return waits

    def task(self, task_id: int) -> Task | None:
        with self._context.read() as conn:
            row = self._reports.row(conn, task_id)
        return None if row is None or row.state not in queue.BEGUN else _task(row)

    def secrets(self, task_id: int) -> Secrets:
        """All that a task which this machine has needs and nobody writes down. Raises Fenced."""
        stamp = self._context.hub.version(SECRETS)
        with self._context.read() as conn:
            row = self._reports.row(conn, task_id)
            if row is None or row.state not in queue.BEGUN:
                raise Fenced("task.fenced", task=task_id, epoch=0 if row is None else row.epoch)
            rows = conn.execute(sql.PLATFORMS, {"platforms": sorted(
                {row.platform, row.arguments.get("platform"), row.source, row.target} - {None})}
                ).all()
        refused = {p.id: _unverified(p).as_dict() for p in rows if not p.usable}
        return Secrets(stamp, {p.id: self._access(p) for p in rows if p.usable}, refused,
                       "" if row.rule is None else self._context.keys.rule_key(row.rule).hex())

    def access(self, platform: str) -> PlatformAccess:
        with self._context.read() as conn:
            row = conn.execute(sql.PLATFORM, {"machine": self.machine,
                                              "platform": platform}).one_or_none()
        if row is None:
            raise GiveUp("platform.not-found", name=platform)
        if not row.usable:
            raise _unverified(row)
        return self._access(row)

    def _access(self, row: Record) -> PlatformAccess:
        secret = (None if row.secret is None
                  else self._context.keys.decrypt(row.secret, row.id))
        return PlatformAccess(id=row.id, kind=row.kind, uri=row.uri, options=row.options,
                              secret=secret)

    def rule_key(self, rule: str) -> bytes:
        with self._context.read() as conn:
            known = (conn.execute(sql.HAS_RULE, {"machine": self.machine,
                                                 "rule": rule}).first() is not None
                     or rebuild.may_read(conn, self.machine, rule))
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
            row = self._reports.checked(conn, task.id, task.epoch)
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

    def proof(self, task: Task, verdict: Verdict, checks: Sequence[Check],
              screenshot: bytes | None) -> None:
        self._report("proof", task, proof_body(verdict, checks, screenshot))

    def failback(self, task: Task, detail: dict[str, Any] | None) -> None:
        self._report("failback", task, {"detail": detail})

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
                if self._reports.checked(change.conn, task.id, task.epoch) is None:
                    self._progress.drop(task.id)
                    return
                change.conn.execute(sa.update(schema.task).where(schema.task.c.id == task.id)
                                    .values(progress=encode(progress)))
        self._context.hub.publish(task_topic(task.id))

    def _report(self, call: str, task: Task, body: dict[str, Any]) -> None:
        with self._context.change() as change:
            said = Call(0, call, task.id, task.epoch, change.now, encode(body))
            batch = Batch.of(change.conn, [said])
            self._reports.apply(change, said, change.now, batch)
            batch.write(change)
        if call == "finish":
            self._offered.discard(task.id)
            self._progress.drop(task.id)

    # --- up: from a machine over HTTPS ---------------------------------------------------------

    def reported(self, report: Report) -> Reported:
        """As :meth:`.Intake.take`."""
        self._machines.seen(self.machine)
        live = {str(task): task for task in self._live}
        ended = self._live & {c.task for c in report.calls if c.call == "finish"}
        now = self._context.clock()
        noted = {live[task]: progress for task, progress in report.progress.items()
                 if task in live}
        due = {task: progress for task, progress in noted.items()
               if self._progress.put(task, progress, now)}
        done = Reported(0)
        if report.calls or due:
            done = self._intake.take(self._reports, report, due)
        self._live -= ended
        for task in ended:
            self._progress.drop(task)
        self._context.hub.publish(*map(task_topic, noted))
        return done


def _unverified(platform: Record) -> Retry:
    return Retry("platform.unverified", name=platform.name)


def _limits(row: Record) -> Limits:
    return Limits(row.stop, _bandwidth(row.rule_zone, row.rule_ranges),
                  _bandwidth(row.machine_zone, row.machine_ranges))


def _bandwidth(zone: str | None, ranges: list[Any] | None) -> Bandwidth:
    return decode(Bandwidth, {"zone": zone, "ranges": ranges}) if ranges else UNLIMITED


def _pending(row: Record, waits: dict[str, Any] | None) -> Pending:
    why = explained(waits) or {"code": "", "message": ""}
    return Pending(row.id, row.kind, row.rule_name or row.platform_name or "", why["code"],
                   why["message"])


def _task(row: Record) -> Task:
    return Task(id=row.id, kind=row.kind, epoch=row.epoch,
                # perhaps dispatched by an earlier version
        rule=None if row.settings is None else decode_known(RuleSettings, row.settings),
                platform=row.platform, point=row.point, arguments=row.arguments)
