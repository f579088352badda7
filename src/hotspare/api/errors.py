"""One shape for every error: ``{"error": {code, message, remedy, fields}}``."""

from __future__ import annotations

import json
import logging
import math
import secrets
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ..domain.errors import HotspareError, Refused, Retry
from ..domain.messages import catalogue

_log = logging.getLogger(__name__)

_STATUS_OF_CODE = {"auth.required": 401, "auth.failed": 401, "auth.role": 403,
                   "auth.too-many": 429, "input.too-large": 413, "api.method": 405,
                   "api.media-type": 415, "link.too-old": 426, "link.too-new": 426,
                   "store.unavailable": 503, "store.busy": 503, "store.trouble": 503,
                   "server.stopping": 503}
_STATUS_OF_EXIT = {2: 422, 3: 404, 4: 409, 5: 401, 6: 502, 7: 507, 8: 422}


class ErrorDetail(BaseModel):
    code: str
    message: str
    remedy: str
    fields: dict[str, str | int | float | bool | None]


class ErrorAnswer(BaseModel):
    """What every answer of 400 and above holds. ``code`` never changes its meaning."""

    error: ErrorDetail


Responses = dict[int | str, dict[str, Any]]


def responses(*statuses: int | str) -> Responses:
    return {status: {"model": ErrorAnswer} for status in statuses}


ALWAYS = responses(413, 415, 422, "5XX")
"""What any operation may answer beside its own."""
WITH_TOKEN = responses(401, 403, 404, 409)


class Refusal(HTTPException):
    """A refusal on its way through FastAPI's reading of a body, which stops all other errors."""

    def __init__(self, error: HotspareError) -> None:
        super().__init__(status_of(error))
        self.error = error


def status_of(error: HotspareError) -> int:
    text = catalogue().get(error.code)
    return _STATUS_OF_CODE.get(error.code,
                               _STATUS_OF_EXIT.get(text.exit if text else 1, 500))


def answer(error: HotspareError, status: int | None = None) -> Response:
    # ASCII: a client's own broken text may be in a field's name, and must not break the answer.
    body = json.dumps({"error": error.as_dict()}, ensure_ascii=True)
    headers = {}
    if error.code == "auth.required":
        headers["WWW-Authenticate"] = "Bearer"
    if error.code == "auth.too-many":
        headers["Retry-After"] = str(error.fields["seconds"])
    if isinstance(error, Retry):
        headers["Retry-After"] = str(math.ceil(error.after_s))
    return Response(body, status or status_of(error), headers, "application/json")


def _field(location: tuple[Any, ...]) -> str:
    """``body.networks.eth0`` without the part of the request that it was in."""
    names = [str(part)[:64] for part in location[1:] or location]
    return ".".join(names)


def invalid(error: RequestValidationError) -> HotspareError:
    fields = {_field(e["loc"]): str(e["msg"]) for e in error.errors()[:20]}
    summary = "; ".join(f"{at}: {message}" for at, message in fields.items())
    fields.pop("summary", None)
    return Refused("input.invalid", **fields, summary=summary)


def _methods(request: Request) -> list[str]:
    """Those of the address. Each has a route of its own, of which the framework names the first
    only."""
    routes = request.app.routes
    return [method for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
            if any(route.matches({**request.scope, "method": method})[0] is Match.FULL
                   for route in routes)]


def install(app: FastAPI) -> None:
    @app.exception_handler(HotspareError)
    def expected(_request: Request, error: HotspareError) -> Response:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    def malformed(_request: Request, error: RequestValidationError) -> Response:
        return answer(invalid(error))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error, Refusal):
            return answer(error.error)
        if error.status_code == 404:
            return answer(Refused("api.not-found", path=request.url.path[:200]))
        if error.status_code == 405:
            refused = answer(Refused("api.method", method=request.method[:40]))
            refused.headers["Allow"] = ", ".join(_methods(request))
            return refused
        return answer(Refused("input.invalid", summary="the body cannot be read"))

    @app.exception_handler(Exception)
    def unexpected(_request: Request, _error: Exception) -> Response:
        reference = secrets.token_hex(4)
        _log.error("unexpected error, reference %s", reference)     # uvicorn logs the traceback
        return answer(HotspareError("api.unexpected", reference=reference), 500)
