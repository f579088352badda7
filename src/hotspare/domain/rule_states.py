"""The states of a rule: one table, from which the code, the tests and docs/states are made.

A rule has an *own* state, which its tasks move, and a *visible* one: the own state, or invalid
while the rule's DR machine is down. Failover states win over invalid, invalid wins over task
states (:func:`visible`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

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
FAILOVER: Final = frozenset({S.RESTORING_SNAPSHOT, S.CLEARING_SNAPSHOT, S.TEMPORARY_FAILOVER,
                             S.PERMANENT_FAILOVER})

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


def refusal(operation: Operation, state: RuleState, has_point: bool,
            live_task: str | None) -> str | None:
    """The code of the reason why ``operation`` is not allowed now; None when it is.

    ``state`` is the visible one, ``live_task`` the kind of the rule's queued or running task."""
    if operation is Operation.LOG:
        return None
    if operation is Operation.STOP:
        return _refuse_stop(state, live_task)
    if operation is Operation.UNDO:
        if state is S.TEMPORARY_FAILOVER and live_task is None:
            return None
        return "rule.busy" if live_task else "rule.not-failed-over"
    if live_task is not None:
        return "rule.busy"
    if operation is Operation.PERMANENT and state is S.TEMPORARY_FAILOVER:
        return None
    if state is S.TEMPORARY_FAILOVER:
        return "rule.in-temporary-failover"
    if operation is Operation.DELETE:
        return None if state in RESTING | {S.INVALID, S.PERMANENT_FAILOVER} else "rule.busy"
    if state is S.PERMANENT_FAILOVER:
        return "rule.in-permanent-failover"
    if state is S.INVALID:
        return "rule.machine-down"
    if state not in RESTING:
        return "rule.busy"
    if operation in {Operation.FAILOVER, Operation.PERMANENT} and not has_point:
        return "rule.no-point"
    return None


def _refuse_stop(state: RuleState, live_task: str | None) -> str | None:
    if live_task == "replicate":
        return None
    if live_task is not None:
        return "rule.not-stoppable"
    return None if state in {S.IDLE, S.INVALID} else "rule.not-running"


def operations(state: RuleState, has_point: bool,
               live_task: str | None) -> frozenset[Operation]:
    """What is allowed now."""
    return frozenset(o for o in Operation if refusal(o, state, has_point, live_task) is None)
