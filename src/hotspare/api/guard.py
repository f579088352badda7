"""What holds for every request: a bounded body, and headers that browsers obey."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..domain.errors import Refused, Retry
from ..workflows.wire import LARGEST_REPORT
from .errors import Refusal, answer

LARGEST_BODY = 1024 * 1024
_LARGER = {"/api/v1/link/report": LARGEST_REPORT}       # its token is looked at before its body
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


class Guard:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        begun = False

        async def guarded_send(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        taken, largest = 0, _LARGER.get(scope["path"], LARGEST_BODY)

        async def bounded_receive() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > largest:
                raise Refusal(Refused("input.too-large", largest=largest))
            return message

        length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > largest:
            refusal = answer(Refused("input.too-large", largest=largest))
            await refusal(scope, receive, guarded_send)
            return
        try:
            await self._app(scope, bounded_receive, guarded_send)
        except asyncio.CancelledError:
            # The server ends and waits for this request no longer.
            if begun:
                raise
            await answer(Retry("server.stopping"))(scope, receive, guarded_send)
