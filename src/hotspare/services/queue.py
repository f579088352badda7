"""The queue of tasks: put in, and give to machines within the limits. Part of a change.

The dispatcher runs at the end of the transaction that made something possible (a task queued or
ended, a machine that came back), so a task that can run is with its machine when the caller has
its answer, nothing polls, and limits hold by the write lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..domain.errors import Refused
from ..domain.rule_states import Event
from ..store import schema
from ..store.upsert import insert_new
from ..workflows.link import SIDE, TaskKind
from .context import Actor, Change
from .dispatcher import (
    BEGUN,
    COUNTED,
    HOSTS_OF_RULE,
    dispatch,
    is_begun,
    is_queued,
    open_lane,
    refit,
    waits,
)
from .hub import task_topic
from .rule_state import move, rescheduled

__all__ = ["BEGUN", "LIVE", "begin", "dispatch", "enqueue", "is_begun", "is_queued",
           "move", "refit", "rescheduled", "waits"]

PRIORITY: Final[dict[TaskKind, int]] = {
    "failover": 10, "undo": 10, "switch-back": 10, "undo-failback": 10, "commit-failback": 20,
    "cable": 10, "watch": 20, "check": 20, "refresh": 20, "rebuild": 30, "shut-down": 30,
    "failback": 40, "permanent": 40, "remove": 50, "replicate": 100, "test": 110, "scrub": 120}
LIVE: Final = ("queued", *BEGUN)
_T = schema.task


def enqueue(change: Change, kind: TaskKind, actor: Actor, *, machine: str,
            rule: str | None = None, platform: str | None = None, epoch: int = 0,
            point: int | None = None, arguments: dict[str, Any] | None = None,
            trigger: str = "manual", dispatch_now: bool = True) -> int:
    """A new task, dispatched at once when the limits allow; a caller that queues many does that
    with :func:`begin`, once. Raises Refused ``rule.busy`` or ``platform.task-running`` when one
    is live: the database says so, whoever asked first has it."""
    counted = rule is not None and kind in COUNTED
    queued = change.conn.execute(
        insert_new(change.conn.dialect.name, _T, HOSTS_OF_RULE if counted else (),
                   ("id", "source_host", "target_host")), {
            "kind": kind, "rule": rule, "platform": platform, "machine": machine, "epoch": epoch,
            "priority": PRIORITY[kind], "state": "queued", "stop": False, "point": point,
            "arguments": arguments or {}, "figures": {}, "trigger": trigger,
            "requested_by": actor.name, "created_at": change.now,
            **({"b_rule": rule} if counted else {"source_host": "", "target_host": ""})
        }).one_or_none()
    if queued is None:
        raise Refused("rule.busy" if rule else "platform.task-running", kind=kind)
    task = int(queued.id)
    open_lane(change, machine, queued.source_host, queued.target_host)
    change.notify(task_topic(task))
    if dispatch_now:
        begin(change, {task: str(rule)} if counted and kind not in SIDE else {})
    return task


def begin(change: Change, tasks: Mapping[int, str]) -> None:
    """Dispatch, after ``tasks`` of these rules were queued: one that has to wait shows it."""
    given = set(dispatch(change))
    for task, rule in tasks.items():
        if task not in given:
            move(change, rule, Event.QUEUE)
