"""What the services answer. The REST API serves these shapes as they are; none holds a secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..domain.bandwidth import Range
from ..domain.machine import Devices
from ..domain.messages import text_of
from ..domain.schedule import Schedule
from ..store import Record
from .kinds import KINDS

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list. ``next`` is the cursor of the part that follows, None at the end."""

    items: list[T]
    next: str | None


@dataclass(frozen=True)
class CapabilitiesView:
    """What the settings of a rule can be on such a platform."""

    points: int                     # retention when none is given, as a target
    max_points: int
    smallest_interval_s: int        # as a source
    lan_free: dict[str, Any] | None     # code, message, remedy: why not possible; None: it is

    @staticmethod
    def of(kind: str) -> CapabilitiesView:
        it = KINDS[kind]
        return CapabilitiesView(
            it.points, it.max_points, it.smallest_interval_s,
            explained({"code": it.no_lan_free, "fields": {}}) if it.no_lan_free else None)


@dataclass(frozen=True)
class PlatformView:
    id: str
    name: str
    kind: str
    uri: str
    options: dict[str, str]
    has_secret: bool
    machine: str
    state: str                      # unchecked, ok, failed
    product: str
    capabilities: CapabilitiesView
    host_id: str
    checks: list[dict[str, Any]]
    places: list[dict[str, Any]]
    error: dict[str, Any] | None
    checked_at: float | None
    refreshed_at: float | None
    task: int | None = None         # the check or refresh that was asked for

    @staticmethod
    def of(row: Record, task: int | None = None) -> PlatformView:
        return PlatformView(
            id=row.id, name=row.name, kind=row.kind, uri=row.uri, options=row.options,
            has_secret=row.secret is not None, machine=row.machine, state=row.state,
            product=row.product, capabilities=CapabilitiesView.of(row.kind),
            host_id=row.host_id, checks=row.checks,
            places=[p | {"message": text_of(p["reason"], p.get("fields", {})).message
                         if p.get("reason") else ""} for p in row.places],
            error=explained(row.error), checked_at=row.checked_at,
            refreshed_at=row.refreshed_at, task=task)


@dataclass(frozen=True)
class VmView:
    ref: str
    name: str
    power: str
    size: int
    protectable: bool
    reason: str                     # code of the refusal
    message: str                    # the same for people
    rule: str | None                # the rule that protects it: "(replicated)"


@dataclass(frozen=True)
class MachineView:
    name: str
    live: bool
    busy: dict[str, Any] | None     # code, message, remedy, fields: why it takes no task now
    last_seen: float | None
    max_tasks: int
    transfer_buffer: int            # bytes in flight of one task
    running: int
    queued: int
    time_zone: str
    bandwidth: list[dict[str, Any]]     # weekly ranges: days, start, end (minutes), limit
    configured: dict[str, Any]      # what its own file says
    temp_dir: str
    version: str
    protocol: int
    address: str
    clock_offset: float | None      # seconds that its clock is ahead
    revoked_at: float | None


@dataclass(frozen=True)
class RuleView:
    id: str
    name: str
    group: str | None
    group_name: str | None
    source: str
    source_name: str
    vm: str
    vm_name: str
    target: str
    target_name: str
    datacenter: str                     # empty: the target has one
    host: str
    folder: str
    pool: str
    storage: str
    replica_name: str
    networks: dict[str, str]
    machine: str
    temp_dir: str                       # empty: the DR machine's own
    retention: int
    retention_covers_s: float | None    # None: a one-off rule
    quiesce: str
    fast_transfer: bool
    lan_free: bool
    devices: Devices
    delete_replica: bool                # with the rule
    time_zone: str
    bandwidth: list[Range]
    schedule: Schedule | None           # None: a one-off rule
    rpo_s: int | None
    revision: int                       # grows with each edit
    enabled: bool
    next_run_at: float | None
    epoch: int
    state: str
    state_zh: str
    operations: list[str]
    pause: dict[str, Any] | None        # code, message, remedy, fields
    phase: str | None                   # the step of its task that runs
    percent: float | None               # how far the task said last that it is
    points: int
    latest_point: int | None
    latest_point_at: float | None
    stored: int                         # bytes that its points moved
    rpo_violated_at: float | None
    full_runs: int                      # unexpected ones in a row
    failover_point: int | None
    failover_detail: dict[str, Any] | None
    failback: dict[str, Any] | None         # what a failback has come to
    commit_at: float | None                 # when it commits itself
    source_power: str | None            # while the replica runs: running, paused, off, unknown
    both_run_since: float | None        # the source was seen to run beside the replica
    both_run: dict[str, Any] | None     # code, message, remedy of that
    last_result: str | None
    last_error: dict[str, Any] | None
    last_task: int | None
    last_success_at: float | None
    live_task: int | None
    side_tasks: dict[str, int]          # that look at its points, by kind
    waits_for: dict[str, Any] | None    # code, message, remedy, fields of a queued task
    created_at: float
    created_by: str


@dataclass(frozen=True)
class ActionView:
    """What became of one rule of several."""

    rule: str                           # as it was named
    ok: bool
    task: int | None
    error: dict[str, Any] | None


@dataclass(frozen=True)
class GroupView:
    """``settings`` is what all its rules have in common, ``differing`` names what they have
    not. ``states`` counts its rules."""

    id: str
    name: str
    rules: int
    states: dict[str, int]
    settings: dict[str, Any]
    differing: list[str]
    source_name: str | None             # of the platforms in the settings
    target_name: str | None
    created_at: float
    created_by: str


@dataclass(frozen=True)
class TemplateView:
    id: str
    name: str
    settings: dict[str, Any]            # those of a new rule, platforms by id
    source_name: str | None
    target_name: str | None
    created_at: float
    created_by: str


@dataclass(frozen=True)
class StepView:
    name: str
    state: str
    attempts: int
    detail: dict[str, Any]
    started_at: float
    ended_at: float | None


@dataclass(frozen=True)
class TaskView:
    id: int
    kind: str
    rule: str | None
    rule_name: str | None
    platform: str | None
    platform_name: str | None
    machine: str
    state: str                      # queued, dispatched, running, ended
    outcome: str | None             # ok, warning, failed, stopped
    stop: bool
    reason: dict[str, Any] | None
    point: int | None
    error: dict[str, Any] | None
    figures: dict[str, Any]
    trigger: str
    requested_by: str
    created_at: float
    dispatched_at: float | None
    started_at: float | None
    ended_at: float | None
    full: bool                      # a whole disk was read
    bytes_queried: int              # named as changed
    bytes_read: int
    bytes_moved: int                # written to the target
    bytes_zero: int                 # written there as zeroes, without being read
    rate: float | None              # bytes moved in a second of its transfer
    stall_s: float | None           # the longest that the guest's file systems stood still
    retries: int
    progress: dict[str, Any] | None
    steps: list[StepView] = field(default_factory=list)


@dataclass(frozen=True)
class ProgressView:
    """``version`` is what the next long poll names as seen."""

    version: int
    task: int
    state: str
    outcome: str | None
    error: dict[str, Any] | None
    reason: dict[str, Any] | None
    progress: dict[str, Any] | None


@dataclass(frozen=True)
class PointView:
    number: int
    taken_at: float
    consistency: str
    note: str
    size: int
    moved: int
    task: int
    epoch: int
    standing: bool                  # a failover stands on it
    scrubbed_at: float | None       # read again and compared with its digests
    damaged_at: float | None        # found to be wrong
    damaged: int                    # bytes that are; at most
    test: int | None                # the last test of it
    verdict: str | None             # that it gave: passed, failed, unproven
    tested_at: float | None


@dataclass(frozen=True)
class TestCheckView:
    name: str                       # network, heartbeat, text, screen, ping, tcp-PORT, power
    state: str                      # passed, failed, skipped
    asked: bool                     # the verdict needs it
    code: str
    message: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class TestView:
    id: int
    rule: str
    rule_name: str
    point: int
    taken_at: float                 # the point was
    task: int
    verdict: str                    # passed, failed, unproven
    checks: list[TestCheckView]
    screenshot: bool                # there is one
    at: float


@dataclass(frozen=True)
class LogView:
    id: int
    at: float
    level: str
    code: str
    message: str
    fields: dict[str, Any]
    rule: str | None
    platform: str | None
    task: int | None


@dataclass(frozen=True)
class UserView:
    name: str
    role: str
    disabled: bool
    created_at: float


@dataclass(frozen=True)
class AuditView:
    id: int
    at: float
    user: str
    action: str
    object: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class SessionView:
    token: str
    user: str
    role: str
    expires_at: float | None


def explained(stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """A stored {code, fields}, an error for example, with its texts in the asker's language."""
    if stored is None:
        return None
    code, fields = str(stored.get("code", "task.failed")), dict(stored.get("fields") or {})
    text = text_of(code, fields)
    return {**stored, "code": code, "message": text.message, "remedy": text.remedy,
            "fields": fields}
