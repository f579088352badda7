"""The states of a rule: one table, from which the code, the tests and docs/states are made.

A rule has an *own* state, which its tasks move, and a *visible* one: the own state, or invalid
while the rule's DR machine is down. Failover states win over invalid, invalid wins over task
states (:func:`visible`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Final

from .errors import Refused


class RuleState(StrEnum):
    """The manual's states."""

    STARTED = "started"
    QUEUED = "queued"
    CREATING_VM = "creating-vm"
    READING_CONFIGURATION = "reading-configuration"
    QUERYING_CHANGES = "querying-changes"
    RUNNING = "running"
    STOPPED = "stopped"
    INVALID = "invalid"
    FINISHED = "finished"
    IDLE = "idle"
    RESTORING_SNAPSHOT = "restoring-snapshot"
    CLEARING_SNAPSHOT = "clearing-snapshot"
    TEMPORARY_FAILOVER = "temporary-failover"
    PERMANENT_FAILOVER = "permanent-failover"
    FAILING_BACK = "failing-back"           # bulk: the replica runs meanwhile
    READY_TO_SWITCH = "ready-to-switch"
    SWITCHING_BACK = "switching-back"       # neither of the two runs
    FAILED_BACK = "failed-back"             # the source runs; can be undone until committed
    COMMITTING_FAILBACK = "committing-failback"
    UNDOING_FAILBACK = "undoing-failback"
    FAILBACK_HALTED = "failback-halted"     # partly written: go on, or undo


CHINESE: Final[Mapping[RuleState, str]] = {
    RuleState.STARTED: "启动",
    RuleState.QUEUED: "排队中",
    RuleState.CREATING_VM: "创建新虚机",
    RuleState.READING_CONFIGURATION: "获取虚机配置",
    RuleState.QUERYING_CHANGES: "查询变化数据",
    RuleState.RUNNING: "执行中",
    RuleState.STOPPED: "停止",
    RuleState.INVALID: "失效",
    RuleState.FINISHED: "完成",
    RuleState.IDLE: "空闲",
    RuleState.RESTORING_SNAPSHOT: "恢复快照",
    RuleState.CLEARING_SNAPSHOT: "快照清除",
    RuleState.TEMPORARY_FAILOVER: "临时切换",
    RuleState.PERMANENT_FAILOVER: "永久切换",
    RuleState.FAILING_BACK: "回切中",
    RuleState.READY_TO_SWITCH: "待切回",
    RuleState.SWITCHING_BACK: "切回中",
    RuleState.FAILED_BACK: "已回切",
    RuleState.COMMITTING_FAILBACK: "提交回切",
    RuleState.UNDOING_FAILBACK: "撤销回切",
    RuleState.FAILBACK_HALTED: "回切中断",
}


class Event(StrEnum):
    """What happens to a rule."""

    START = "start"                         # a run was asked for, by hand or by the schedule
    QUEUE = "queue"                         # it waits for a limit
    DISPATCH = "dispatch"                   # its DR machine has it
    CREATE_VM = "create-vm"                 # phases of a run, reported by the DR machine
    READ_CONFIGURATION = "read-configuration"
    QUERY_CHANGES = "query-changes"
    TRANSFER = "transfer"
    COMPLETE_PERIODIC = "complete-periodic"  # a run of a periodic rule ended, well or not
    COMPLETE_ONCE = "complete-once"         # the run of a one-off rule ended well
    HALT = "halt"                           # stopped by hand, or a one-off run failed
    FAIL_OVER = "fail-over"
    FAILED_OVER = "failed-over"             # the replica runs
    FAILOVER_FAILED = "failover-failed"
    UNDO = "undo"
    UNDONE = "undone"
    MAKE_PERMANENT = "make-permanent"       # fold the restore points away
    MADE_PERMANENT = "made-permanent"
    CLEAR_FAILED = "clear-failed"           # an undo or a permanent failover failed
    FAIL_BACK = "fail-back"                 # copy back what differs, the replica runs
    BULK_DONE = "bulk-done"
    SWITCH_BACK = "switch-back"             # the replica goes off, the rest is copied
    SWITCHED_BACK = "switched-back"         # the source runs
    FAILBACK_FAILED = "failback-failed"     # something of it stands: it can go on, or be undone
    COMMIT_FAILBACK = "commit-failback"
    FAILBACK_COMMITTED = "failback-committed"
    COMMIT_FAILED = "commit-failed"
    UNDO_FAILBACK = "undo-failback"
    FAILBACK_UNDONE = "failback-undone"     # or it failed before anything was written
    REMOVE = "remove"                       # the rule is being deleted
    REMOVE_FAILED = "remove-failed"
    RESCHEDULE = "reschedule"               # a periodic rule was made a one-off one, or back
    MACHINE_LOST = "machine-lost"           # these four move only what is shown
    MACHINE_BACK = "machine-back"
    MACHINE_BUSY = "machine-busy"           # it reports that it takes nothing (one-off rules)
    MACHINE_READY = "machine-ready"


class Before(StrEnum):
    """A target of the table: the state that the rule had before the operation."""

    BEFORE = "before"


class IllegalTransition(Refused):
    """The event does not exist in the state. Nothing was changed."""

    def __init__(self, state: RuleState, event: Event) -> None:
        super().__init__("rule.illegal-transition", state=state.value, event=event.value)
        self.state = state
        self.event = event


S, E, BEFORE = RuleState, Event, Before.BEFORE

RESTING: Final = frozenset({S.STOPPED, S.FINISHED, S.IDLE})
"""Nothing runs, nothing is failed over."""
WORKING: Final = frozenset({S.STARTED, S.QUEUED, S.CREATING_VM, S.READING_CONFIGURATION,
                            S.QUERYING_CHANGES, S.RUNNING})
"""A run of the rule is under way (or its removal)."""
FAILBACK: Final = frozenset({S.FAILING_BACK, S.READY_TO_SWITCH, S.SWITCHING_BACK, S.FAILED_BACK,
                             S.COMMITTING_FAILBACK, S.UNDOING_FAILBACK, S.FAILBACK_HALTED})
FAILOVER: Final = frozenset({S.RESTORING_SNAPSHOT, S.CLEARING_SNAPSHOT, S.TEMPORARY_FAILOVER,
                             S.PERMANENT_FAILOVER}) | FAILBACK

_BEGUN = WORKING - {S.QUEUED}
_PHASES = {E.CREATE_VM: S.CREATING_VM, E.READ_CONFIGURATION: S.READING_CONFIGURATION,
           E.QUERY_CHANGES: S.QUERYING_CHANGES, E.TRANSFER: S.RUNNING}

TRANSITIONS: Final[Mapping[tuple[RuleState, Event], RuleState | Before]] = {
    **{(s, E.START): S.STARTED for s in RESTING},
    (S.STARTED, E.QUEUE): S.QUEUED,
    (S.QUEUED, E.QUEUE): S.QUEUED,
    (S.STARTED, E.DISPATCH): S.STARTED,
    (S.QUEUED, E.DISPATCH): S.STARTED,
    **{(s, event): to for s in _BEGUN for event, to in _PHASES.items()},
    **{(s, E.COMPLETE_PERIODIC): S.IDLE for s in _BEGUN},
    **{(s, E.COMPLETE_ONCE): S.FINISHED for s in _BEGUN},
    **{(s, E.HALT): S.STOPPED for s in WORKING | {S.IDLE}},
    **{(s, E.FAIL_OVER): S.RESTORING_SNAPSHOT for s in RESTING},
    (S.RESTORING_SNAPSHOT, E.FAILED_OVER): S.TEMPORARY_FAILOVER,
    (S.RESTORING_SNAPSHOT, E.FAILOVER_FAILED): BEFORE,
    (S.TEMPORARY_FAILOVER, E.MAKE_PERMANENT): S.CLEARING_SNAPSHOT,
    (S.TEMPORARY_FAILOVER, E.UNDO): S.CLEARING_SNAPSHOT,
    **{(S.CLEARING_SNAPSHOT, event): S.CLEARING_SNAPSHOT for event in (E.QUEUE, E.DISPATCH)},
    (S.CLEARING_SNAPSHOT, E.UNDONE): BEFORE,
    (S.CLEARING_SNAPSHOT, E.MADE_PERMANENT): S.PERMANENT_FAILOVER,
    (S.CLEARING_SNAPSHOT, E.CLEAR_FAILED): S.TEMPORARY_FAILOVER,
    **{(s, E.FAIL_BACK): S.FAILING_BACK for s in (
        S.TEMPORARY_FAILOVER, S.READY_TO_SWITCH, S.FAILBACK_HALTED)},
    **{(S.FAILING_BACK, event): S.FAILING_BACK for event in (E.QUEUE, E.DISPATCH)},
    (S.FAILING_BACK, E.BULK_DONE): S.READY_TO_SWITCH,
    **{(s, E.SWITCH_BACK): S.SWITCHING_BACK for s in (S.READY_TO_SWITCH, S.FAILBACK_HALTED)},
    (S.SWITCHING_BACK, E.SWITCHED_BACK): S.FAILED_BACK,
    (S.FAILED_BACK, E.COMMIT_FAILBACK): S.COMMITTING_FAILBACK,
    (S.COMMITTING_FAILBACK, E.FAILBACK_COMMITTED): BEFORE,
    (S.COMMITTING_FAILBACK, E.COMMIT_FAILED): S.FAILED_BACK,
    **{(s, E.UNDO_FAILBACK): S.UNDOING_FAILBACK for s in (
        S.READY_TO_SWITCH, S.FAILED_BACK, S.FAILBACK_HALTED)},
    **{(s, E.FAILBACK_UNDONE): S.TEMPORARY_FAILOVER for s in (
        S.FAILING_BACK, S.UNDOING_FAILBACK)},
    **{(s, E.FAILBACK_FAILED): S.FAILBACK_HALTED for s in (
        S.FAILING_BACK, S.SWITCHING_BACK, S.UNDOING_FAILBACK)},
    **{(s, E.REMOVE): S.STARTED for s in RESTING | {S.PERMANENT_FAILOVER}},
    **{(s, E.REMOVE_FAILED): BEFORE for s in WORKING},
    **{(s, E.RESCHEDULE): S.STOPPED for s in RESTING},
    **{(s, E.MACHINE_LOST): S.INVALID for s in WORKING | RESTING},
    (S.INVALID, E.MACHINE_BACK): BEFORE,
    (S.QUEUED, E.MACHINE_BUSY): S.IDLE,
    (S.IDLE, E.MACHINE_READY): BEFORE,
}

SHOWN: Final = frozenset({E.MACHINE_LOST, E.MACHINE_BACK, E.MACHINE_BUSY, E.MACHINE_READY})
"""Events that move the visible state, never the own one."""

SAVES_BEFORE: Final = frozenset({E.FAIL_OVER, E.REMOVE, E.MACHINE_LOST})
"""Events after which the state that the rule had is needed again."""


def advance(state: RuleState, event: Event, before: RuleState | None = None) -> RuleState:
    """The state after ``event``. ``before`` answers the table's :data:`BEFORE`.

    Raises :class:`IllegalTransition`; nothing is changed then."""
    to = TRANSITIONS.get((state, event))
    if to is None or (isinstance(to, Before) and before is None):
        raise IllegalTransition(state, event)
    if isinstance(to, Before):
        assert before is not None
        return before
    return to


def visible(own: RuleState, machine_live: bool, machine_busy: bool = False,
            periodic: bool = False) -> RuleState:
    """What is shown: invalid wins over task states, failover states win over invalid; a one-off
    rule that waits for a machine that reports itself busy or not ready is idle."""
    if not machine_live:
        event = E.MACHINE_LOST
    elif machine_busy and not periodic:
        event = E.MACHINE_BUSY
    else:
        return own
    return advance(own, event) if (own, event) in TRANSITIONS else own


STEP_EVENTS: Final[Mapping[str, Event]] = {
    "create-replica": E.CREATE_VM,
    "read-configuration": E.READ_CONFIGURATION,
    "query-changes": E.QUERY_CHANGES,
    "transfer": E.TRANSFER,
    "publish": E.TRANSFER,
    "retire": E.TRANSFER,
}
"""Steps of the replicate workflow that show as a state; the other steps do not change it."""


class Operation(StrEnum):
    """What an operator can ask of a rule, in the manual's order."""

    START = "start"
    STOP = "stop"
    DELETE = "delete"
    LOG = "log"
    FAILOVER = "failover"
    UNDO = "undo"
    PLANNED = "planned-failover"
    PERMANENT = "permanent"
    FAILBACK = "failback"
    SWITCH_BACK = "switch-back"
    COMMIT_FAILBACK = "commit-failback"
    UNDO_FAILBACK = "undo-failback"
    TEST = "test"


_FAILBACK_FROM: Final[Mapping[Operation, frozenset[RuleState]]] = {
    operation: frozenset(s for s, e in TRANSITIONS if e is event)
    for operation, event in (
        (Operation.FAILBACK, E.FAIL_BACK), (Operation.SWITCH_BACK, E.SWITCH_BACK),
        (Operation.COMMIT_FAILBACK, E.COMMIT_FAILBACK),
        (Operation.UNDO_FAILBACK, E.UNDO_FAILBACK))}


def refusal(operation: Operation, state: RuleState, has_point: bool, live_task: str | None,
            failback: Mapping[str, Any] | None = None,
            side: Collection[str] = ()) -> str | None:
    """The code of the reason why ``operation`` is not allowed now; None when it is.

    ``state`` is the visible one, ``live_task`` the kind of the rule's queued or running task,
    ``side`` those of the tasks that look at its points beside it. ``failback`` is what a failback
    has come to: whether its source has run (``switched``), whether its commit has begun
    (``committed``)."""
    if operation is Operation.LOG:
        return None
    if operation is Operation.STOP:
        return _refuse_stop(state, live_task)
    if operation is Operation.TEST:
        return _refuse_test(state, has_point, live_task, side)
    code = _refuse(operation, state, has_point, live_task, failback or {})
    if code is None and side and operation in _DELETES_POINTS:
        return "rule.looked-at"
    return code


_DELETES_POINTS: Final = frozenset({Operation.DELETE, Operation.PERMANENT})


def _refuse(operation: Operation, state: RuleState, has_point: bool, live_task: str | None,
            failback: Mapping[str, Any]) -> str | None:
    if live_task is not None:
        return "rule.busy"
    if operation in _FAILBACK_FROM or state in FAILBACK:
        return _refuse_in_failback(operation, state, failback)
    if operation in {Operation.UNDO, Operation.PERMANENT} and state is S.TEMPORARY_FAILOVER:
        return None
    if operation is Operation.UNDO:
        return "rule.not-failed-over"
    if state is S.TEMPORARY_FAILOVER:
        return "rule.in-temporary-failover"
    if operation is Operation.DELETE:
        return None if state in RESTING | {S.INVALID, S.PERMANENT_FAILOVER} else "rule.busy"
    if operation in {Operation.FAILOVER, Operation.PERMANENT} and state in RESTING:
        return None if has_point else "rule.no-point"
    return None if state in RESTING else _ELSEWHERE.get(state, "rule.busy")


_ELSEWHERE: Final = {S.PERMANENT_FAILOVER: "rule.in-permanent-failover",
                     S.INVALID: "rule.machine-down"}


def _refuse_in_failback(operation: Operation, state: RuleState,
                        failback: Mapping[str, Any]) -> str | None:
    if operation not in _FAILBACK_FROM:
        return "rule.in-failback"
    if state in _FAILBACK_FROM[operation]:
        if operation is Operation.UNDO_FAILBACK and failback.get("committed"):
            return "failback.is-committed"
        if operation in {Operation.FAILBACK, Operation.SWITCH_BACK} and failback.get("switched"):
            # what the source wrote of itself would be put aside as if it had been there before
            return "failback.undo-first"
        return None
    if state in FAILBACK:
        return "rule.failback-state"
    return "rule.not-failed-over" if operation is Operation.FAILBACK else "rule.no-failback"


def _refuse_test(state: RuleState, has_point: bool, live_task: str | None,
                 side: Collection[str]) -> str | None:
    if state is S.PERMANENT_FAILOVER:
        return "rule.in-permanent-failover"
    # a failover may be the first half of a permanent one, which deletes the points
    if live_task in {"remove", "permanent", "failover"} or "test" in side:
        return "rule.busy"
    if state is S.INVALID:
        return "rule.machine-down"
    return None if has_point else "rule.no-point"


def _refuse_stop(state: RuleState, live_task: str | None) -> str | None:
    if live_task in {"replicate", "failback"}:
        return None
    if live_task is not None:
        return "rule.not-stoppable"
    return None if state in {S.IDLE, S.INVALID} else "rule.not-running"


def operations(state: RuleState, has_point: bool, live_task: str | None,
               failback: Mapping[str, Any] | None = None,
               side: Collection[str] = ()) -> frozenset[Operation]:
    """What is allowed now."""
    return frozenset(o for o in Operation
                     if refusal(o, state, has_point, live_task, failback, side) is None)
