"""A DR machine's end: not for people, authenticated by the machine's token, not in the OpenAPI.

A body is read only after the token was looked at: bodies may be large here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from ...domain.codec import decode_known, encode
from ...domain.errors import Refused, Retry
from ...services import LocalLink
from ...services.hub import machine_topic
from ...workflows.wire import INSTANCE, Enrol, Report, Rules, Sync
from ..base import Named
from ..session import services_of, token_of

T = TypeVar("T")

router = APIRouter(prefix="/link", include_in_schema=False)

LONGEST_WAIT_S = 20.0


@router.post("/enrol")
async def enrol(request: Request) -> Response:
    asked = await _body(request, Enrol)
    address = _address(request)
    await _few(lambda: services_of(request).fleet.exchange(asked, address))
    return _answer({})


@router.post("/sync")
async def sync(request: Request) -> Response:
    """The long poll; while it waits it costs no thread."""
    services, token, instance = services_of(request), token_of(request), _instance(request)
    came = services.context.clock()
    said, address = await _body(request, Sync), _address(request)
    link = await _few(lambda: services.fleet.met(token, said, address, instance))
    hub, topic = services.context.hub, machine_topic(link.machine)
    if said.wait > 0 and said.seen == hub.version(topic):
        await hub.wait_async(topic, said.seen, min(said.wait, LONGEST_WAIT_S))
        if hub.closed:
            raise Retry("server.stopping")
        # Looked up again: it may be revoked now, or replaced.
        link = await _few(lambda: services.fleet.link(token, instance))
    found = await _few(link.synced)
    return _answer(replace(found, came=came, answered=services.context.clock()))


@router.post("/report")
async def report(request: Request) -> Response:
    link = await _few(lambda: _link(request))
    said = await _body(request, Report)
    return _answer(await anyio.to_thread.run_sync(lambda: link.reported(said), limiter=_REPORTS))


@router.get("/tasks/{task}/secrets")
async def secrets(task: int, request: Request) -> Response:
    return _answer(await _few(lambda: _link(request).secrets(task)))


@router.get("/rules/{rule}/key")
def rule_key(rule: Named, request: Request) -> Response:
    return _answer({"key": _link(request).rule_key(rule).hex()})


@router.post("/foreign")
async def foreign(request: Request) -> Response:
    """Those of the rules that are another machine's."""
    link = await _few(lambda: _link(request))
    asked = await _body(request, Rules)
    return _answer(await _few(lambda: link.foreign(list(asked.rules))))


_AT_ONCE = anyio.CapacityLimiter(4)
"""Threads that serve the machines: the database has one writer, and people want to be served
while two hundred machines talk at once."""
_REPORTS = anyio.CapacityLimiter(2)
"""One that writes, and one that waits to be applied with what comes meanwhile. Each more costs: it
takes the interpreter's lock from the one that holds the database's."""


async def _few(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work, limiter=_AT_ONCE)


def _link(request: Request) -> LocalLink:
    return services_of(request).fleet.link(token_of(request), _instance(request))


def _instance(request: Request) -> str:
    return request.headers.get(INSTANCE, "")[:64]


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


async def _body(request: Request, shape: type[T]) -> T:
    try:
        raw = (await request.body()).decode()
        data = json.loads(raw, parse_int=_int, parse_float=_float, parse_constant=_float)
        if "\\u" in raw:        # else all of it is text already
            _check_text(data)
        return decode_known(shape, data)
    except (ValueError, RecursionError) as error:
        raise Refused("input.invalid", summary=str(error)[:500]) from None


def _int(text: str) -> int:
    """A number that the database and JSON can hold."""
    value = int(text)
    if not -2**63 <= value < 2**63:
        raise ValueError("a number is too large")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not abs(value) < 2.0**63:        # also what is no number
        raise ValueError("a number is too large")
    return value


def _check_text(data: Any) -> None:
    """Raises ValueError for what no database takes as text: NUL, half of a surrogate pair."""
    if isinstance(data, str):
        data.encode()
        if "\0" in data:
            raise ValueError("a text has a NUL")
    elif isinstance(data, dict):
        for name, value in data.items():
            _check_text(name)
            _check_text(value)
    elif isinstance(data, list):
        for value in data:
            _check_text(value)


def _answer(value: Any) -> Response:
    return Response(json.dumps(encode(value)), media_type="application/json")
