"""What a DR machine asks of, and reports to, its control server.

Every call goes from the machine to the server. In ``hotspare up`` both are one process and the
calls are direct; on a fleet the same calls go over HTTPS. Nothing here carries a secret except
:meth:`Link.access` and :meth:`Link.rule_key`, whose answers are kept in memory only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..domain.lineage import Manifest
from ..platforms.port import PlatformAccess, Quiesce

TaskKind = Literal["replicate", "failover", "undo", "remove", "refresh", "check"]
Outcome = Literal["ok", "warning", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """The settings of a rule that a running task works with, fixed when it was dispatched."""

    id: str                         # 8 lower-case hex digits
    name: str
    vm: str                         # lasting id at the source
    source: str                     # platform ids
    target: str
    storage: str
    replica_name: str
    networks: dict[str, str] = field(default_factory=dict)
    retention: int = 7
    quiesce: Quiesce = "try"
    bandwidth: int | None = None    # bytes per second; None: no limit; 0: paused
    transfer_buffer: int = 4 * 1024 * 1024
    temp_dir: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One dispatched task."""

    id: int
    kind: TaskKind
    epoch: int
    rule: RuleSettings | None = None
    platform: str | None = None     # for refresh and check
    point: int | None = None        # for failover
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is. Bytes count payload written to the target."""

    step: str
    done: int = 0
    total: int = 0
    rate: float = 0.0               # bytes per second, mean over 10 s
    seconds_left: float | None = None
    disks: dict[str, tuple[int, int]] = field(default_factory=dict)   # id -> done, total


@dataclass(frozen=True, slots=True)
class Limits:
    """What may change while a task runs; asked for every second."""

    stop: bool = False
    bandwidth: int | None = None    # bytes per second; 0: paused; None: no limit


class Link(Protocol):
    def next_task(self, wait_s: float) -> Task | None:
        """A task dispatched to this machine and not yet begun here, or None after the wait."""
        ...

    def task(self, task_id: int) -> Task | None:
        """The task again, after a restart; None when it is no longer ours (ended, epoch gone)."""
        ...

    def access(self, platform: str) -> PlatformAccess: ...

    def rule_key(self, rule: str) -> bytes:
        """32 bytes, the rule's own, derived from a key outside the database."""
        ...

    def limits(self, task: Task) -> Limits: ...

    def step(self, task: Task, step: str, state: Literal["running", "done", "skipped"],
             detail: dict[str, Any]) -> None:
        """A step began or ended. Idempotent."""
        ...

    def progress(self, task: Task, progress: Progress) -> None:
        """Kept in memory by the server; stored at most every 10 s."""
        ...

    def log(self, task: Task, level: Literal["info", "warning", "error"], code: str,
            fields: dict[str, Any]) -> None: ...

    def adopt(self, task: Task, points: tuple[Manifest, ...]) -> None:
        """Make the catalogue agree with the target's lineage: rows for these points, and only
        these, in this order. Idempotent."""
        ...

    def failover(self, task: Task, number: int | None, detail: dict[str, Any]) -> None:
        """The rule stands on point ``number`` (None: no longer). Compare-and-set, idempotent."""
        ...

    def inventory(self, task: Task, report: dict[str, Any]) -> None:
        """Result of a refresh or a check of ``task.platform``."""
        ...

    def finish(self, task: Task, outcome: Outcome, error: dict[str, Any] | None,
               figures: dict[str, Any]) -> None:
        """The task ended. Compare-and-set: false reports of a fenced machine are refused."""
        ...
