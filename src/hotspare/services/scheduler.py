"""Runs by schedule. One thread; the next start is one look at an index."""

from __future__ import annotations

import logging
import threading
from math import inf
from typing import Final

import sqlalchemy as sa

from ..domain.bandwidth import Bandwidth, open_from
from ..domain.errors import HotspareError
from ..domain.rule_states import RuleState
from ..store import schema
from . import failback, queue
from .context import SERVICE, Change, Context
from .hub import SCHEDULE
from .machines import Machines
from .proofs import Proofs
from .rpo import RpoWatch
from .rule_state import OF_MACHINE
from .runs import BATCH, begin_run, decode_ranges, put_off
from .source_watch import SourceWatch

_log = logging.getLogger(__name__)
_LONGEST_SLEEP_S: Final = 5.0   # also how often silent machines are looked for
_RETRY_S: Final = 60.0
_WATCH_EVERY_S: Final = 0.5     # at most
_PAUSE_S: Final = 0.05          # between two looks: each begin and each end of a run wakes it


class Scheduler:
    """Starts that were missed (the process was down, the run before took longer) are made up for
    by one. A rule never overlaps itself: it is started from rest only. No run begins while the
    bandwidth of its rule or DR machine is 0: its rule stays idle and says until when."""

    def __init__(self, context: Context, machines: Machines, proofs: Proofs,
                 sources: SourceWatch) -> None:
        self._context = context
        self._machines = machines
        self._proofs = proofs
        self._sources = sources
        self._rpo = RpoWatch(context)
        self._watch_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._context.hub.publish(SCHEDULE)
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _loop(self) -> None:
        while not self._stop.is_set():
            seen = self._context.hub.version(SCHEDULE)
            try:
                if self._context.uptime() >= self._watch_at:
                    self._machines.watch()
                    self._watch_at = self._context.uptime() + _WATCH_EVERY_S
                due = min(self.run_due() or inf, self._proofs.run_due() or inf)
                self._rpo.tick()
                self._sources.tick()
            except Exception:           # a full disk, say: the next round may do better
                _log.exception("the scheduler failed and goes on")
                due = inf
            wait = due - self._context.clock()
            if self._stop.is_set() or self._context.hub.closed:
                return
            self._context.hub.wait(SCHEDULE, seen, min(max(wait, 0.0), _LONGEST_SLEEP_S))
            if wait > 0:
                self._stop.wait(_PAUSE_S)

    def run_due(self) -> float | None:
        """Start what is due, a batch at most; returns when the next rule is."""
        due = self._next()
        if due is not None and due <= self._context.clock():
            with self._context.change() as change:
                failback.commit_due(change)
                _begin(change)
            due = self._next()
        return due

    def _next(self) -> float | None:
        with self._context.look() as conn:
            times = conn.execute(_NEXT).one()
        return min((at for at in times if at is not None), default=None)


_READY: Final = (
    schema.rule.c.deleted_at.is_(None), schema.rule.c.next_run_at.is_not(None),
    schema.rule.c.state == RuleState.IDLE.value,        # not invalid: its machine answers
    schema.rule.c.own_state == RuleState.IDLE.value, schema.rule.c.enabled)
_NEXT: Final = sa.select(
    sa.select(sa.func.min(schema.rule.c.next_run_at)).where(*_READY).scalar_subquery(),
    failback.NEXT_COMMIT.scalar_subquery())
_DUE: Final = (
    sa.select(schema.rule, *OF_MACHINE, schema.machine.c.time_zone.label("machine_zone"),
              schema.machine.c.bandwidth.label("machine_ranges"))
    .join(schema.machine, schema.machine.c.name == schema.rule.c.machine)
    .where(*_READY, schema.rule.c.next_run_at <= sa.bindparam("now"))
    .order_by(schema.rule.c.next_run_at).limit(BATCH))


def _begin(change: Change) -> None:
    rules = change.conn.execute(_DUE, {"now": change.now}).all()
    begun: dict[int, str] = {}
    for rule in rules:
        try:
            with change.savepoint():
                opens = open_from([
                    Bandwidth(rule.time_zone, decode_ranges(rule.bandwidth)),
                    Bandwidth(rule.machine_zone, decode_ranges(rule.machine_ranges))], change.now)
                if opens == change.now:
                    begun[begin_run(change, rule, SERVICE, "schedule", dispatch=False)] = rule.id
                else:
                    put_off(change, rule, opens, "schedule.bandwidth")
        except HotspareError as error:
            # One rule that cannot be started must not keep the others from it.
            _log.warning("rule %s was not started: %s", rule.id, error)
            put_off(change, rule, change.now + _RETRY_S, error.code, **error.fields)
    queue.begin(change, begun)
