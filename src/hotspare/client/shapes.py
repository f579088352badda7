"""The API's answers. A test holds them against the served OpenAPI description."""

from __future__ import annotations

from typing import Any, TypedDict


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
    last_seen: float | None
    max_tasks: int
    running: int
    queued: int
    temp_dir: str
    version: str


class Rule(TypedDict):
    id: str
    name: str
    source: str
    source_name: str
    vm: str
    vm_name: str
    target: str
    target_name: str
    storage: str
    replica_name: str
    networks: dict[str, str]
    machine: str
    retention: int
    quiesce: str
    bandwidth: int | None
    interval_s: int | None
    enabled: bool
    next_run_at: float | None
    epoch: int
    state: str
    state_zh: str
    operations: list[str]
    points: int
    latest_point: int | None
    latest_point_at: float | None
    failover_point: int | None
    failover_detail: dict[str, Any] | None
    last_result: str | None
    last_error: dict[str, Any] | None
    last_task: int | None
    last_success_at: float | None
    live_task: int | None
    waits_for: dict[str, Any] | None
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
