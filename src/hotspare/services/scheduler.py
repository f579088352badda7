"""Runs by interval. One thread; the next start is one look at an index."""

from __future__ import annotations

import logging
import threading

import sqlalchemy as sa

from ..domain.errors import HotspareError
from ..domain.rule_states import RuleState
from ..store import schema
from .context import SERVICE, Context
from .hub import SCHEDULE
from .machines import Machines
from .rules import begin_run

_log = logging.getLogger(__name__)
_LONGEST_SLEEP_S = 5.0          # also how often silent machines are looked for
_BATCH = 200


class Scheduler:
    """A start that was missed (the process was down, the run before took longer) is made up
    for once. A rule never overlaps itself: it is started from rest only."""

    def __init__(self, context: Context, machines: Machines) -> None:
        self._context = context
        self._machines = machines
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
                self._machines.watch()
                due = self.run_due()
            except Exception:           # a full disk, say: the next round may do better
                _log.exception("the scheduler failed and goes on")
                due = None
            wait = _LONGEST_SLEEP_S if due is None else due - self._context.clock()
            if self._stop.is_set() or self._context.hub.closed:
                return
            self._context.hub.wait(SCHEDULE, seen, min(max(wait, 0.0), _LONGEST_SLEEP_S))

    def run_due(self) -> float | None:
        """Start what is due; returns when the next rule is."""
        r = schema.rule
        ready = sa.and_(r.c.enabled, r.c.deleted_at.is_(None),
                        r.c.state == RuleState.IDLE.value)
        now = self._context.clock()
        with self._context.read() as conn:
            rules = conn.execute(sa.select(r.c.id).where(ready, r.c.next_run_at <= now)
                                 .order_by(r.c.next_run_at).limit(_BATCH)).scalars().all()
        for rule in rules:
            try:
                with self._context.change() as change:
                    row = change.conn.execute(sa.select(r).where(
                        ready, r.c.id == rule, r.c.next_run_at <= now)).one_or_none()
                    if row is not None:
                        begin_run(change, self._context, row, SERVICE, "schedule")
            except HotspareError as error:
                # One rule that cannot be started must not keep the others from it.
                _log.warning("rule %s was not started: %s", rule, error)
        with self._context.read() as conn:
            due: float | None = conn.execute(
                sa.select(sa.func.min(r.c.next_run_at)).where(ready)).scalar()
        return due
