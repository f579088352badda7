"""Schedules of proofs: what the client's answers and calls of them are."""

from __future__ import annotations

from typing import Any, TypedDict, cast
from urllib.parse import quote

from .client import Client


class ProofSchedule(TypedDict):
    id: str
    name: str
    kind: str
    all_points: bool
    schedule: dict[str, Any]
    time_zone: str
    rule: str | None
    rule_name: str | None
    group: str | None
    group_name: str | None
    enabled: bool
    next_run_at: float | None
    last_run_at: float | None
    created_at: float
    created_by: str


class Proofs:
    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> list[ProofSchedule]:
        return list(self._client._all("/proof-schedules"))

    def add(self, settings: dict[str, Any]) -> ProofSchedule:
        return cast(ProofSchedule, self._client.request(
            "POST", "/proof-schedules", body=settings))

    def edit(self, ref: str, settings: dict[str, Any]) -> ProofSchedule:
        return cast(ProofSchedule, self._client.request("PATCH", _path(ref), body=settings))

    def remove(self, ref: str) -> None:
        self._client.request("DELETE", _path(ref))


def _path(ref: str) -> str:
    return f"/proof-schedules/{quote(ref, safe='')}"
