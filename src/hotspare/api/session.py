"""Who is asking."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from ..domain.errors import Refused
from ..services import Actor, Services


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


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
