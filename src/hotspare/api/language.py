"""Errors and logs are told in the language that the asker wants."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..domain.messages import language, language_of


class InLanguage:
    """Sets the language of the request's context, in which its answer is made: from
    ``Accept-Language``, Chinese or else English."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = b",".join(v for k, v in scope["headers"] if k == b"accept-language")
        language.set(language_of(asked.decode("latin-1")))

        async def named_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"],
                                      (b"content-language", language.get().encode())]
            await send(message)

        await self._app(scope, receive, named_send)
