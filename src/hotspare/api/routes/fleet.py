"""DR machines of other hosts, and what moves between DR machines."""

from __future__ import annotations

import hashlib
import ssl
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from ...domain.errors import GiveUp
from ...services.fleet import EnrolmentView
from ...services.views import PlatformView, RuleView
from .. import inputs
from ..base import Input
from ..session import Caller, Here

router = APIRouter()


class NewEnrolment(Input):
    life_s: Annotated[int, Field(ge=60, le=7 * 24 * 3600,
                                 description="seconds that the code can be used for")] = 3600


class Move(Input):
    machine: inputs.Name


@router.post("/machines/{ref}/enrol", tags=["machines"], operation_id="enrol_machine",
             status_code=201)
def enrol(ref: inputs.Ref, body: NewEnrolment, request: Request, services: Here,
          caller: Caller) -> EnrolmentView:
    """A one-time code with which the DR machine of this name, new or known, enrols itself."""
    pem = request.app.state.ca_pem
    if pem is None:
        raise GiveUp("api.not-found", path="/api/v1/ca")
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    return services.fleet.enrol(caller, ref, fingerprint, body.life_s)


@router.post("/machines/{ref}/revoke", tags=["machines"], operation_id="revoke_machine",
             status_code=204)
def revoke(ref: inputs.Ref, services: Here, caller: Caller) -> None:
    services.fleet.revoke(caller, ref)


@router.delete("/machines/{ref}", tags=["machines"], operation_id="remove_machine",
               status_code=204)
def remove(ref: inputs.Ref, services: Here, caller: Caller) -> None:
    services.fleet.remove(caller, ref)


@router.post("/rules/{ref}/move", tags=["rules"], operation_id="move_rule")
def move_rule(ref: inputs.Ref, body: Move, services: Here, caller: Caller) -> RuleView:
    """Give the rule to another DR machine. A run that is under way ends, and begins there."""
    return services.moves.rule(caller, ref, body.machine)


@router.post("/platforms/{ref}/move", tags=["platforms"], operation_id="move_platform")
def move_platform(ref: inputs.Ref, body: Move, services: Here, caller: Caller) -> PlatformView:
    """Let another DR machine check and refresh the platform."""
    return services.moves.platform(caller, ref, body.machine)
