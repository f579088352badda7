"""One shape for every error: ``{"error": {code, message, remedy, fields}}``."""

from __future__ import annotations

import json
import logging
import secrets
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ..domain.errors import HotspareError, Refused
from ..domain.messages import catalogue

_log = logging.getLogger(__name__)

_STATUS_OF_CODE = {"auth.required": 401, "auth.failed": 401, "auth.role": 403,
                   "auth.too-many": 429, "input.too-large": 413, "api.method": 405,
                   "link.too-old": 426, "link.too-new": 426}
_STATUS_OF_EXIT = {2: 422, 3: 404, 4: 409, 5: 401, 6: 502, 7: 507, 8: 422}


class ErrorDetail(BaseModel):
    code: str
    message: str
    remedy: str
    fields: dict[str, str | int | float | bool | None]


class ErrorAnswer(BaseModel):
    """What every answer of 400 and above holds. ``code`` never changes its meaning."""

    error: ErrorDetail


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (401, 403, 404, 409, 422)}


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
    return Response(body, status or status_of(error), headers, "application/json")


def _field(location: tuple[Any, ...]) -> str:
    """``body.networks.eth0`` without the part of the request that it was in."""
    names = [str(part)[:64] for part in location[1:] or location]
    return ".".join(names)


def invalid(error: RequestValidationError) -> HotspareError:
    fields = {_field(e["loc"]): str(e["msg"]) for e in error.errors()[:20]}
    summary = "; ".join(f"{at}: {message}" for at, message in fields.items())
    fields.pop("summary", None)
    fields.pop("code", None)
    return Refused("input.invalid", **fields, summary=summary)


def install(app: FastAPI) -> None:
    @app.exception_handler(HotspareError)
    def expected(_request: Request, error: HotspareError) -> Response:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    def malformed(_request: Request, error: RequestValidationError) -> Response:
        return answer(invalid(error))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return answer(Refused("api.not-found", path=request.url.path[:200]))
        if error.status_code == 405:
            return answer(Refused("api.method", method=request.method))
        return answer(Refused("input.invalid", summary="the body cannot be read"),
                      error.status_code)

    @app.exception_handler(Exception)
    def unexpected(_request: Request, _error: Exception) -> Response:
        reference = secrets.token_hex(4)
        _log.error("unexpected error, reference %s", reference)     # uvicorn logs the traceback
        return answer(HotspareError("api.unexpected", reference=reference), 500)
