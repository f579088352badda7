"""What the description of an operation does not have is refused, not passed over."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from ..domain.errors import Refused


async def only_described(request: Request) -> None:
    """A dependency of every operation: parameters that it does not know or that come twice, and
    a body that it does not take. A wish that is misspelt must not look as if it were granted."""
    route = request.scope["route"]
    known = {p.alias for p in route.dependant.query_params}
    wrong = [_wrong(name, "Unknown parameter" if name not in known else "Given more than once")
             for name, times in Counter(n for n, _ in request.query_params.multi_items()).items()
             if name not in known or times > 1]
    media_type = request.headers.get("content-type", "")
    if request.headers.get("content-length", "0") == "0" and (
            "transfer-encoding" not in request.headers):
        pass
    elif route.body_field is None:
        wrong.append(_wrong("body", "No body is taken here"))
    elif media_type.partition(";")[0].strip().lower() != "application/json":
        raise Refused("api.media-type", found=media_type[:100])
    if wrong:
        raise RequestValidationError(wrong)


def _wrong(name: str, message: str) -> dict[str, Any]:
    return {"type": "value_error", "loc": ("query", name), "msg": message, "input": None}
