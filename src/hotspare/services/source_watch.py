"""Sources of rules whose replica runs: a machine that comes back beside it is noticed, and can be
taken off its network.

One task a platform looks for as long as any of its rules is failed over; what it reports is held
against all of them here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from ..domain.errors import Refused
from ..domain.rule_states import RuleState
from ..store import schema
from . import ends, queue
from .context import SERVICE, Actor, Change, Context
from .hub import machine_topic, rule_topic
from .notifications import announce
from .platforms import live_task
from .rules import find

REPLICA_RUNS: Final = frozenset({
    RuleState.TEMPORARY_FAILOVER, RuleState.PERMANENT_FAILOVER, RuleState.CLEARING_SNAPSHOT,
    RuleState.FAILING_BACK, RuleState.READY_TO_SWITCH})
_EVERY_S: Final = 5.0
_R, _T, _P = schema.rule, schema.task, schema.platform
_RUNS: Final = sa.and_(_R.c.deleted_at.is_(None),
                       _R.c.own_state.in_(sorted(s.value for s in REPLICA_RUNS)))
_SEEN: Final = sa.or_(_R.c.source_power.is_not(None), _R.c.both_run_since.is_not(None))
_WANTED: Final = (sa.select(_P.c.id, _P.c.machine).where(
    _P.c.deleted_at.is_(None), _P.c.id.in_(sa.select(_R.c.source).where(_RUNS))))
_WATCHES: Final = sa.select(_T).where(_T.c.kind == "watch", _T.c.state != "ended")
_PAST: Final = sa.select(_R.c.id).where(_SEEN, sa.not_(_RUNS))


class SourceWatch:
    """Sees to it that the sources are looked at, and takes an operator's word about them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._due = 0.0

    def tick(self) -> None:
        if self._context.uptime() >= self._due:
            self.settle()
            self._due = self._context.uptime() + _EVERY_S

    def settle(self) -> None:
        """Begin to look where a replica runs, end it where none does any more."""
        with self._context.read() as conn:
            wanted = {(row.id, row.machine) for row in conn.execute(_WANTED)}
            watched = {(row.platform, row.machine) for row in conn.execute(_WATCHES)}
            past = conn.execute(_PAST).first()
        if wanted == watched and past is None:
            return
        with self._context.change() as change:
            wanted = {(row.id, row.machine) for row in change.conn.execute(_WANTED)}
            live = {(row.platform, row.machine): row for row in change.conn.execute(_WATCHES)}
            for task in (live[key] for key in live.keys() - wanted):
                # its machine sees by its limits that it has ended, if it is there at all
                ends.end(change, task, "stopped", error=None, figures={})
                change.notify(machine_topic(task.machine))
            for platform, machine in wanted - live.keys():
                queue.enqueue(change, "watch", SERVICE, machine=machine, platform=platform,
                              trigger="service")
            change.conn.execute(sa.update(_R).where(_R.c.id.in_(_PAST)).values(
                source_power=None, both_run_since=None))

    def plug(self, actor: Actor, ref: str, plugged: bool) -> int:
        """Take the network cables out of the rule's source machine, or put them in again. Returns
        the task."""
        actor.need("operator")
        with self._context.change() as change:
            rule = find(change.conn, ref)
            if not plugged and RuleState(rule.own_state) not in REPLICA_RUNS:
                raise Refused("source.in-use", name=rule.name, vm=rule.vm_name, state=rule.state)
            task = live_task(change.conn, rule=rule.id)
            if task is not None:
                raise Refused("rule.busy", kind=task.kind)
            number = queue.enqueue(change, "cable", actor, machine=rule.machine, rule=rule.id,
                                   epoch=rule.epoch, arguments={"plugged": plugged})
            change.audit(actor, "source.plug" if plugged else "source.unplug", rule.id,
                         task=number)
            return number


def seen(change: Change, platform: str, power: Mapping[str, Any] | None, at: float) -> None:
    """What the machines of a platform are that are not off; None: it does not answer."""
    for rule in change.conn.execute(sa.select(_R).where(_RUNS, _R.c.source == platform)).all():
        now = "unknown" if power is None else str(power.get(rule.vm, "off"))[:16]
        values: dict[str, Any] = {"source_power": now}
        fields = {"vm": rule.vm_name, "name": rule.name}
        if now == "running" and rule.both_run_since is None:
            values["both_run_since"] = at
            change.log("error", "rule.both-run", fields, rule=rule.id)
            announce(change, "rule.both-run", rule=rule.id, fields=fields)
        elif now == "off" and rule.both_run_since is not None:
            values["both_run_since"] = None
            change.log("info", "rule.both-run-over", fields, rule=rule.id)
        if any(getattr(rule, k) != v for k, v in values.items()):
            change.conn.execute(sa.update(_R).where(_R.c.id == rule.id).values(**values))
            change.notify(rule_topic(rule.id))
