"""The API's answers. A test holds them against the served OpenAPI description."""

from __future__ import annotations

from typing import Any, TypedDict


class Capabilities(TypedDict):
    points: int
    max_points: int
    smallest_interval_s: int
    lan_free: dict[str, Any] | None


class Platform(TypedDict):
    id: str
    name: str
    kind: str
    uri: str
    options: dict[str, str]
    has_secret: bool
    machine: str
    state: str
    product: str
    capabilities: Capabilities
    host_id: str
    checks: list[dict[str, Any]]
    places: list[dict[str, Any]]
    error: dict[str, Any] | None
    checked_at: float | None
    refreshed_at: float | None
    task: int | None


class Vm(TypedDict):
    ref: str
    name: str
    power: str
    size: int
    protectable: bool
    reason: str
    message: str
    rule: str | None


class Machine(TypedDict):
    name: str
    live: bool
    busy: dict[str, Any] | None
    last_seen: float | None
    max_tasks: int
    transfer_buffer: int
    running: int
    queued: int
    time_zone: str
    bandwidth: list[dict[str, Any]]
    configured: dict[str, Any]
    temp_dir: str
    version: str
    protocol: int
    address: str
    clock_offset: float | None
    revoked_at: float | None


class Settings(TypedDict):
    max_tasks_per_host: int
    in_force: int
    warnings: list[dict[str, Any]]


class Rule(TypedDict):
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
    datacenter: str
    folder: str
    pool: str
    host: str
    storage: str
    replica_name: str
    networks: dict[str, str]
    machine: str
    temp_dir: str
    retention: int
    retention_covers_s: float | None
    quiesce: str
    fast_transfer: bool
    lan_free: bool
    devices: str
    delete_replica: bool
    time_zone: str
    bandwidth: list[dict[str, Any]]
    schedule: dict[str, Any] | None
    rpo_s: int | None
    revision: int
    enabled: bool
    next_run_at: float | None
    epoch: int
    state: str
    state_zh: str
    operations: list[str]
    pause: dict[str, Any] | None
    phase: str | None
    percent: float | None
    points: int
    latest_point: int | None
    latest_point_at: float | None
    stored: int
    rpo_violated_at: float | None
    full_runs: int
    failover_point: int | None
    failover_detail: dict[str, Any] | None
    failback: dict[str, Any] | None         # what a failback has come to
    commit_at: float | None                 # when it commits itself
    source_power: str | None
    both_run_since: float | None
    both_run: dict[str, Any] | None
    last_result: str | None
    last_error: dict[str, Any] | None
    last_task: int | None
    last_success_at: float | None
    live_task: int | None
    side_tasks: dict[str, int]
    waits_for: dict[str, Any] | None
    created_at: float
    created_by: str


class Action(TypedDict):
    rule: str
    ok: bool
    task: int | None
    error: dict[str, Any] | None


class Group(TypedDict):
    id: str
    name: str
    rules: int
    states: dict[str, int]
    settings: dict[str, Any]
    differing: list[str]
    source_name: str | None
    target_name: str | None
    created_at: float
    created_by: str


class Template(TypedDict):
    id: str
    name: str
    settings: dict[str, Any]
    source_name: str | None
    target_name: str | None
    created_at: float
    created_by: str


class Point(TypedDict):
    number: int
    taken_at: float
    consistency: str
    note: str
    size: int
    moved: int
    task: int
    epoch: int
    standing: bool
    scrubbed_at: float | None
    damaged_at: float | None
    damaged: int
    test: int | None
    verdict: str | None
    tested_at: float | None


class TestCheck(TypedDict):
    name: str
    state: str
    asked: bool
    code: str
    message: str
    fields: dict[str, Any]


class Test(TypedDict):
    id: int
    rule: str
    rule_name: str
    point: int
    taken_at: float
    task: int
    verdict: str
    checks: list[TestCheck]
    screenshot: bool
    at: float


class Step(TypedDict):
    name: str
    state: str
    attempts: int
    detail: dict[str, Any]
    started_at: float
    ended_at: float | None


class Task(TypedDict):
    id: int
    kind: str
    rule: str | None
    rule_name: str | None
    platform: str | None
    platform_name: str | None
    machine: str
    state: str
    outcome: str | None
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
    full: bool
    bytes_queried: int
    bytes_read: int
    bytes_moved: int
    bytes_zero: int
    rate: float | None
    stall_s: float | None
    retries: int
    progress: dict[str, Any] | None
    steps: list[Step]


class Progress(TypedDict):
    version: int
    task: int
    state: str
    outcome: str | None
    error: dict[str, Any] | None
    reason: dict[str, Any] | None
    progress: dict[str, Any] | None


class LogLine(TypedDict):
    id: int
    at: float
    level: str
    code: str
    message: str
    fields: dict[str, Any]
    rule: str | None
    platform: str | None
    task: int | None


class Login(TypedDict):
    token: str
    user: str
    role: str
    expires_at: float | None


class PlannedRun(TypedDict):
    planned: float
    planned_local: str
    begins: float | None
    begins_local: str | None


class SchedulePreview(TypedDict):
    time_zone: str
    runs: list[PlannedRun]
    longest_gap_s: float


class Day(TypedDict):
    day: str
    ok: int
    warning: int
    failed: int
    stopped: int
    full: int
    bytes_queried: int
    bytes_read: int
    bytes_moved: int
    bytes_zero: int
    seconds: float
    retries: int
    violations: int
    longest_gap_s: float


class Total(TypedDict):
    runs: int
    ok: int
    warning: int
    failed: int
    stopped: int
    full: int
    success_ratio: float | None
    bytes_queried: int
    bytes_read: int
    bytes_moved: int
    bytes_zero: int
    bytes_a_day: float
    seconds: float
    mean_seconds: float | None
    retries: int
    violations: int
    longest_gap_s: float


class Rpo(TypedDict):
    target_s: float | None
    named: bool
    age_s: float | None
    kept: bool | None
    violated_at: float | None


class RuleStatistics(TypedDict):
    rule: str
    name: str
    since: str
    days: int
    rpo: Rpo
    points: int
    latest_point: int | None
    latest_point_at: float | None
    size: int
    stored: int
    full_runs: int
    total: Total
    by_day: list[Day]


class Storage(TypedDict):
    platform: str
    platform_name: str
    storage: str
    rules: int
    points: int
    stored: int
    free: int | None


class ScopeRpo(TypedDict):
    watched: int
    violated: int
    unprotected: int
    oldest_age_s: float | None


class ScopeStatistics(TypedDict):
    group: str | None
    name: str | None
    since: str
    days: int
    rules: int
    states: dict[str, int]
    rpo: ScopeRpo
    points: int
    stored: int
    storages: list[Storage]
    total: Total
    by_day: list[Day]
