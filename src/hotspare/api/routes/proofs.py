"""Scrubs of restore points, and schedules of proofs."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from ...services.proofs import ProofScheduleView
from ...services.views import Page
from .. import inputs
from ..base import Input
from ..schedule_inputs import ScheduleInput, Zone
from ..session import Caller, Here
from .platforms import Asked

router = APIRouter(tags=["proofs"])


class Scrub(Input):
    point: inputs.Point | None = Field(None, description="null: the newest")
    all: bool = Field(False, description="every point, the newest first")


class ChangedProof(Input):
    """Only what is given changes. Of ``rule`` and ``group`` one at most; neither: all rules."""

    name: inputs.Name = ""
    kind: Literal["scrub", "test"] = "scrub"
    all_points: bool = Field(False, description="else the newest of each rule")
    schedule: ScheduleInput | None = Field(None, description="null: as it is")
    time_zone: Zone = "UTC"
    rule: inputs.Text | None = None
    group: inputs.Text | None = None
    enabled: bool = True

    def given(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in self.model_fields_set - {"schedule"}}
        return given | ({"schedule": self.schedule.to_domain()} if self.schedule else {})


class NewProof(ChangedProof):
    name: inputs.Name
    schedule: ScheduleInput


@router.post("/rules/{ref}/scrub", operation_id="scrub_points", status_code=202)
def scrub(ref: inputs.Ref, body: Scrub, services: Here, caller: Caller) -> Asked:
    """Points are read again at the target and compared with their digests, beside whatever else
    the rule does."""
    return Asked(services.proofs.scrub(caller, ref, body.point, body.all))


@router.get("/proof-schedules", operation_id="list_proof_schedules")
def schedules(services: Here, caller: Caller, limit: inputs.Limit = 100,
              cursor: inputs.Cursor = None) -> Page[ProofScheduleView]:
    return services.proofs.list(caller, limit, cursor)


@router.post("/proof-schedules", operation_id="add_proof_schedule", status_code=201)
def add(body: NewProof, services: Here, caller: Caller) -> ProofScheduleView:
    return services.proofs.add(caller, body.name, body.given())


@router.get("/proof-schedules/{ref}", operation_id="get_proof_schedule")
def get(ref: inputs.Ref, services: Here, caller: Caller) -> ProofScheduleView:
    return services.proofs.get(caller, ref)


@router.patch("/proof-schedules/{ref}", operation_id="edit_proof_schedule")
def edit(ref: inputs.Ref, body: ChangedProof, services: Here, caller: Caller
         ) -> ProofScheduleView:
    return services.proofs.edit(caller, ref, body.given())


@router.delete("/proof-schedules/{ref}", operation_id="remove_proof_schedule", status_code=204)
def remove(ref: inputs.Ref, services: Here, caller: Caller) -> None:
    services.proofs.remove(caller, ref)
