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
from ...workflows.wire import Enrol, Report, Rules, Sync, Synced
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
    services, token = services_of(request), token_of(request)
    came = services.context.clock()
    said, address = await _body(request, Sync), _address(request)
    name, found = await _few(lambda: _synced(services.fleet.met(token, said, address)))
    if said.seen == found.version and said.wait > 0:
        await services.context.hub.wait_async(
            machine_topic(name), found.version, min(said.wait, LONGEST_WAIT_S))
        if services.context.hub.closed:
            raise Retry("server.stopping")
        # Looked up again: it may be revoked now.
        _, found = await _few(lambda: _synced(services.fleet.link(token)))
    return _answer(replace(found, came=came, answered=services.context.clock()))


def _synced(link: LocalLink) -> tuple[str, Synced]:
    return link.machine, link.synced()


@router.post("/report")
async def report(request: Request) -> Response:
    services, token = services_of(request), token_of(request)
    link = await _few(lambda: services.fleet.link(token))
    said = await _body(request, Report)
    return _answer(await _few(lambda: link.reported(said)))


@router.get("/platforms/{platform}/access")
def access(platform: str, request: Request) -> Response:
    return _answer(services_of(request).fleet.link(token_of(request)).access(platform))


@router.get("/rules/{rule}/key")
def rule_key(rule: str, request: Request) -> Response:
    return _answer({"key": services_of(request).fleet.link(token_of(request)).rule_key(rule).hex()})


@router.post("/foreign")
async def foreign(request: Request) -> Response:
    """Those of the rules that are another machine's."""
    services, token = services_of(request), token_of(request)
    asked = await _body(request, Rules)
    return _answer(await _few(lambda: services.fleet.link(token).foreign(list(asked.rules))))


_AT_ONCE = anyio.CapacityLimiter(4)
"""Threads that serve the machines: the database has one writer, and people want to be served
while two hundred machines talk at once."""


async def _few(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work, limiter=_AT_ONCE)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


async def _body(request: Request, shape: type[T]) -> T:
    try:
        return decode_known(shape, json.loads(await request.body()))
    except (ValueError, RecursionError) as error:
        raise Refused("input.invalid", summary=str(error)[:500]) from None


def _answer(value: Any) -> Response:
    return Response(json.dumps(encode(value)), media_type="application/json")
