"""A request that a server which ends does not wait for is answered in the one shape of errors."""

from __future__ import annotations

import asyncio
import json

from starlette.types import Message, Receive, Scope, Send

from hotspare.api.guard import Guard

SCOPE: Scope = {"type": "http", "method": "PATCH", "path": "/api/v1/rules/a", "headers": []}


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _cut_off(answers_first: bool) -> list[Message]:
    sent: list[Message] = []
    reached = asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        if answers_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        reached.set()
        await asyncio.sleep(60)

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        task = asyncio.create_task(Guard(slow)(SCOPE, _receive, send))
        await reached.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == answers_first

    asyncio.run(run())
    return sent


def test_says_that_the_server_ends() -> None:
    start, body = _cut_off(answers_first=False)
    assert start["status"] == 503
    assert (b"content-type", b"application/json") in start["headers"]
    assert (b"retry-after", b"1") in start["headers"]
    assert json.loads(body["body"])["error"]["code"] == "server.stopping"


def test_an_answer_that_began_is_not_followed_by_another() -> None:
    assert [m["type"] for m in _cut_off(answers_first=True)] == ["http.response.start"]
