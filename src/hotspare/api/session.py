"""Who is asking."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from ..domain.errors import Refused
from ..services import Actor, Services


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


BEARER = HTTPBearer(auto_error=False, scheme_name="token",
                    description="the token that `POST /api/v1/login` answers")
"""For the description only: what is wrong with a header is said by :func:`token_of`."""


def token_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refused("auth.required")
    return token


Here = Annotated[Services, Depends(services_of)]
Token = Annotated[str, Depends(token_of)]


def actor_of(services: Here, token: Token) -> Actor:
    return services.users.actor(token)


Caller = Annotated[Actor, Depends(actor_of)]
