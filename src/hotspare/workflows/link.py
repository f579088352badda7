"""What a DR machine asks of, and reports to, its control server.

Every call goes from the machine to the server. In ``hotspare up`` both are one process and the
calls are direct; on a fleet the same calls go over HTTPS. Nothing here carries a secret except
:meth:`Link.access` and :meth:`Link.rule_key`, whose answers are kept in memory only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from ..domain.bandwidth import UNLIMITED, Bandwidth
from ..domain.lineage import Lineage, Manifest
from ..domain.machine import Devices
from ..domain.proof import Check, Verdict
from ..platforms.port import PlatformAccess, Quiesce, ReplicaRef, Running

TaskKind = Literal["replicate", "failover", "undo", "permanent", "shut-down", "failback",
                   "switch-back", "commit-failback", "undo-failback", "test", "scrub", "remove",
                   "refresh", "check", "rebuild", "watch", "cable"]
SIDE: Final[frozenset[TaskKind]] = frozenset({"test", "scrub"})
"""Kinds that look at a restore point beside whatever else their rule does, and do not move it."""
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
    transfer_buffer: int = 4 * 1024 * 1024
    temp_dir: str = ""
    fast_transfer: bool = True      # use changed-block tracking
    lan_free: bool = False
    datacenter: str = ""
    host: str = ""
    folder: str = ""
    pool: str = ""
    devices: Devices = "auto"
    damage: dict[str, Any] = field(default_factory=dict)    # of the newest point: domain.damage


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

    @property
    def platforms(self) -> frozenset[str]:
        """Those that it works with."""
        rule = () if self.rule is None else (self.rule.source, self.rule.target)
        more = (self.platform, self.arguments.get("platform"))
        return frozenset((*rule, *(p for p in more if p is not None)))


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
    """What may change while a task runs; asked for every half second. Of the two bandwidths, which
    the DR machine reads by its own clock, the lower limit wins."""

    stop: bool = False
    bandwidth: Bandwidth = UNLIMITED            # the rule's own
    machine_bandwidth: Bandwidth = UNLIMITED    # shared by all tasks of the machine


@dataclass(frozen=True, slots=True)
class FoundReplica:
    """What a look at a target found of one replica. Without a lineage ``error`` says why."""

    replica: ReplicaRef
    lineage: Lineage | None = None
    running: Running | None = None      # a failover that stands on it
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What a scrub found of one point: what is wrong with it (a :data:`..domain.damage.Damage`),
    nothing when it is good."""

    number: int
    damage: dict[str, Any] = field(default_factory=dict)


class Link(Protocol):
    def next_task(self, wait_s: float) -> Task | None:
        """A task dispatched to this machine and not yet begun here, or None after the wait."""
        ...

    def task(self, task_id: int) -> Task | None:
        """The task again, after a restart; None when it is no longer ours (ended, epoch gone)."""
        ...

    def access(self, platform: str) -> PlatformAccess:
        """As it is now, of a platform that a live task of this machine works with."""
        ...

    def rule_key(self, rule: str) -> bytes:
        """32 bytes, the own of a live task's rule, derived from a key outside the database."""
        ...

    def limits(self, task: Task) -> Limits: ...

    def busy(self, why: dict[str, Any] | None) -> None:
        """The machine can take no new task now: ``code`` and ``fields`` say why. None: it can."""
        ...

    def step(self, task: Task, step: str, state: Literal["running", "done", "skipped"],
             detail: dict[str, Any]) -> None:
        """A step began or ended. Idempotent."""
        ...

    def progress(self, task: Task, progress: Progress) -> None:
        """Kept in memory by the server; stored at most every 10 s."""
        ...

    def log(self, task: Task, level: Literal["info", "warning", "error"], code: str,
            fields: dict[str, Any]) -> None: ...

    def pause(self, task: Task, reason: dict[str, Any] | None) -> None:
        """The task waits: ``reason`` has ``code`` and ``fields`` with ``until`` (seconds since the
        epoch; None: until somebody changes the ranges). None: it goes on. Idempotent; a pause ends
        with its task."""
        ...

    def adopt(self, task: Task, points: tuple[Manifest, ...]) -> None:
        """Make the catalogue agree with the target's lineage: rows for these points, and only
        these, in this order. Idempotent."""
        ...

    def failover(self, task: Task, number: int | None, detail: dict[str, Any]) -> None:
        """The rule stands on point ``number`` (None: no longer). Compare-and-set, idempotent."""
        ...

    def scrubbed(self, task: Task, points: tuple[Scrubbed, ...], newest: int) -> None:
        """Points that were read again, and those that read through what is wrong in them;
        ``newest`` is the highest number that there was then. Idempotent."""
        ...

    def mended(self, task: Task, number: int, damage: dict[str, Any]) -> None:
        """Point ``number`` holds this anew from the source, whatever was wrong in the one before.
        Idempotent."""
        ...

    def proof(self, task: Task, verdict: Verdict, checks: Sequence[Check],
              screenshot: bytes | None) -> None:
        """What the test of point ``task.point`` found, with a PNG of at most LARGEST_SCREENSHOT
        bytes. Idempotent: one for each task."""
        ...

    def failback(self, task: Task, detail: dict[str, Any] | None) -> None:
        """What the rule's failback has come to; None: nothing of it is left. Kept, and given to
        its next tasks as the argument ``failback``. The server has it on return: Retry
        ``link.unheard`` when it does not answer. Idempotent."""
        ...

    def inventory(self, task: Task, report: dict[str, Any]) -> None:
        """Result of a refresh, a check or a rebuild of ``task.platform``: any of ``connection``
        (ConnectionReport), ``places``, ``vms``, ``replicas`` (FoundReplica) and ``power`` (of the
        machines that are not off, by their id; None: the platform does not answer)."""
        ...

    def finish(self, task: Task, outcome: Outcome, error: dict[str, Any] | None,
               figures: dict[str, Any]) -> None:
        """The task ended. Compare-and-set: false reports of a fenced machine are refused."""
        ...
