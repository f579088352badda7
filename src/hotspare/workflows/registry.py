"""Which workflow runs a task of which kind."""

from __future__ import annotations

from . import (
    failback,
    failback_undo,
    failover,
    inventory,
    permanent,
    rebuild,
    rehearse,
    remove,
    replicate,
    scrub,
    source_power,
    source_watch,
)
from .link import TaskKind
from .steps import Workflow

_WORKFLOWS: dict[TaskKind, Workflow] = {
    "replicate": replicate.WORKFLOW,
    "failover": failover.FAILOVER,
    "undo": failover.UNDO,
    "permanent": permanent.WORKFLOW,
    "shut-down": source_power.SHUT_DOWN,
    "scrub": scrub.WORKFLOW,
    "test": rehearse.WORKFLOW,
    "failback": failback.BULK,
    "switch-back": failback.SWITCH,
    "commit-failback": failback.COMMIT,
    "undo-failback": failback_undo.WORKFLOW,
    "remove": remove.WORKFLOW,
    "refresh": inventory.REFRESH,
    "check": inventory.CHECK,
    "rebuild": rebuild.WORKFLOW,
    "watch": source_watch.WATCH,
    "cable": source_watch.CABLE,
}


def workflow_of(kind: TaskKind) -> Workflow:
    return _WORKFLOWS[kind]
