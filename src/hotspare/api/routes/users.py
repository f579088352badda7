"""Signing in, users, audit."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from ... import __version__
from ...domain.errors import GiveUp
from ...services.views import AuditView, Page, SessionView, UserView
from .. import inputs
from ..errors import Responses, responses
from ..session import Caller, Here, Token

public = APIRouter()
"""Needs no token."""
router = APIRouter()
PEM: Responses = {200: {"content": {"text/plain": {}}}}


@dataclass(frozen=True)
class Health:
    status: str
    version: str


@dataclass(frozen=True)
class Me:
    user: str
    role: str


@public.get("/health", tags=["server"], operation_id="health")
def health() -> Health:
    return Health("ok", __version__)


@public.get("/ca", tags=["server"], operation_id="ca", response_class=Response,
            responses=PEM | responses(404))
def ca(request: Request) -> PlainTextResponse:
    """The certificate of the CA to pin. Compare its fingerprint before you trust it."""
    pem = request.app.state.ca_pem
    if pem is None:
        raise GiveUp("api.not-found", path="/api/v1/ca")
    return PlainTextResponse(pem)


@public.post("/login", tags=["session"], operation_id="login", responses=responses(401, 429))
def login(body: inputs.Login, request: Request, services: Here) -> SessionView:
    address = request.client.host if request.client else ""
    return services.users.login(body.user, body.password, address)


@router.post("/logout", tags=["session"], operation_id="logout", status_code=204)
def logout(services: Here, caller: Caller, token: Token) -> None:
    services.users.logout(caller, token)


@router.get("/session", tags=["session"], operation_id="session")
def session(caller: Caller) -> Me:
    return Me(caller.name, caller.role)


@router.get("/users", tags=["users"], operation_id="list_users")
def users(services: Here, caller: Caller, limit: inputs.Limit = 100,
          cursor: inputs.Cursor = None) -> Page[UserView]:
    return services.users.list(caller, limit, cursor)


@router.post("/users", tags=["users"], operation_id="add_user", status_code=201)
def add_user(body: inputs.NewUser, services: Here, caller: Caller) -> UserView:
    return services.users.add(caller, body.name, body.password, body.role)


@router.put("/users/{ref}/password", tags=["users"], operation_id="set_password",
            status_code=204)
def set_password(ref: inputs.Ref, body: inputs.NewPassword, services: Here,
                 caller: Caller) -> None:
    services.users.set_password(caller, ref, body.password)


@router.delete("/users/{ref}", tags=["users"], operation_id="remove_user", status_code=204)
def remove_user(ref: inputs.Ref, services: Here, caller: Caller) -> None:
    services.users.remove(caller, ref)


@router.get("/audit", tags=["users"], operation_id="list_audit")
def audit(services: Here, caller: Caller, limit: inputs.Limit = 100,
          cursor: inputs.Cursor = None) -> Page[AuditView]:
    return services.users.audit(caller, limit, cursor)
