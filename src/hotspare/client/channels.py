"""Channels of notifications: what the client's answers and calls of them are."""

from __future__ import annotations

from typing import Any, TypedDict, cast
from urllib.parse import quote

from .client import Client

_SEND_S = 60.0


class Channel(TypedDict):
    id: str
    name: str
    kind: str
    host: str
    events: list[str]
    language: str
    enabled: bool
    waiting: int
    last_error: str
    last_sent_at: float | None
    created_at: float
    created_by: str


class Tested(TypedDict):
    sent: bool
    error: str


class Channels:
    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> list[Channel]:
        return list(self._client._all("/channels"))

    def add(self, settings: dict[str, Any]) -> Channel:
        return cast(Channel, self._client.request(
            "POST", "/channels", body=settings, timeout_s=_SEND_S))

    def edit(self, ref: str, settings: dict[str, Any]) -> Channel:
        return cast(Channel, self._client.request(
            "PATCH", _path(ref), body=settings, timeout_s=_SEND_S))

    def remove(self, ref: str) -> None:
        self._client.request("DELETE", _path(ref))

    def test(self, ref: str) -> Tested:
        return cast(Tested, self._client.request(
            "POST", f"{_path(ref)}/test", timeout_s=_SEND_S))


def _path(ref: str) -> str:
    return f"/channels/{quote(ref, safe='')}"
