"""Operations of several tasks, each queued in the transaction that ends the one before: nothing
comes between them, and a crash of anything leaves a task to go on with. What a task is for stands
in its arguments.

Planned failover: run, shut the source down, run again, fail over; nothing is lost. Permanent
failover: fail over, which waits for no limit, then fold away, which does.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from ..domain.rule_states import Event
from ..store import Record
from . import queue
from .context import Actor, Change

Stage = Literal["sync", "shut-down", "last-sync", "failover"]
_NEXT: Final[dict[Stage, Stage]] = {"sync": "shut-down", "shut-down": "last-sync",
                                    "last-sync": "failover"}
_KIND: Final[dict[Stage, Any]] = {"sync": "replicate", "shut-down": "shut-down",
                                  "last-sync": "replicate", "failover": "failover"}


def begin_planned(change: Change, rule: Record, actor: Actor, options: dict[str, Any]) -> int:
    """The first task of the chain. ``options`` are arguments that all its tasks get."""
    return _queue(change, rule, actor, "sync", options)


def planned_goes_on(change: Change, task: Record, rule: Record, good: bool) -> None:
    """After the end of a task of the rule, which is at rest again: the next one, or what stands
    now that there is none."""
    stage: Stage | None = task.arguments.get("stage")
    if stage is None:
        return
    if not good:
        change.log("error", f"planned.ended-{stage}", {"name": rule.name, "vm": rule.vm_name},
                   rule=rule.id, task=task.id)
    elif stage in _NEXT:
        options = {k: v for k, v in task.arguments.items() if k != "stage"}
        _queue(change, rule, Actor(task.requested_by, "operator"), _NEXT[stage], options)


def begin_permanent(change: Change, rule: Record, actor: Actor) -> int:
    """The replica of a rule in temporary failover becomes the machine. Returns the task."""
    queue.move(change, rule.id, Event.MAKE_PERMANENT)
    return queue.enqueue(change, "permanent", actor, machine=rule.machine, rule=rule.id,
                         epoch=rule.epoch, point=rule.failover_point)


def _queue(change: Change, rule: Record, actor: Actor, stage: Stage,
           options: dict[str, Any]) -> int:
    queue.move(change, rule.id, Event.FAIL_OVER if stage == "failover" else Event.START)
    return queue.enqueue(
        change, _KIND[stage], actor, machine=rule.machine, rule=rule.id, epoch=rule.epoch,
        point=rule.latest_point if stage == "failover" else None, trigger="planned",
        arguments=options | {"stage": stage})
