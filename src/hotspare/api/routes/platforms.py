"""Platforms and DR machines."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from ...services.views import MachineView, Page, PlatformView, VmView
from .. import inputs
from ..session import Caller, Here

router = APIRouter()


@dataclass(frozen=True)
class Asked:
    """The task that does what was asked for."""

    task: int


@router.get("/platforms", tags=["platforms"], operation_id="list_platforms")
def platforms(services: Here, caller: Caller, limit: inputs.Limit = 100,
              cursor: inputs.Cursor = None) -> Page[PlatformView]:
    return services.platforms.list(caller, limit, cursor)


@router.post("/platforms", tags=["platforms"], operation_id="add_platform", status_code=201)
def add(body: inputs.NewPlatform, services: Here, caller: Caller) -> PlatformView:
    return services.platforms.add(caller, name=body.name, kind=body.kind, uri=body.uri,
                                  options=body.options, secret=body.secret,
                                  machine=body.machine)


@router.get("/platforms/{ref}", tags=["platforms"], operation_id="get_platform")
def get(ref: inputs.Ref, services: Here, caller: Caller) -> PlatformView:
    return services.platforms.get(caller, ref)


@router.patch("/platforms/{ref}", tags=["platforms"], operation_id="edit_platform")
def edit(ref: inputs.Ref, body: inputs.EditPlatform, services: Here,
         caller: Caller) -> PlatformView:
    return services.platforms.edit(caller, ref, body.given())


@router.delete("/platforms/{ref}", tags=["platforms"], operation_id="remove_platform",
               status_code=204)
def remove(ref: inputs.Ref, services: Here, caller: Caller) -> None:
    services.platforms.remove(caller, ref)


@router.post("/platforms/{ref}/check", tags=["platforms"], operation_id="check_platform",
             status_code=202)
def check(ref: inputs.Ref, services: Here, caller: Caller) -> Asked:
    return Asked(services.platforms.check(caller, ref))


@router.post("/platforms/{ref}/refresh", tags=["platforms"], operation_id="refresh_platform",
             status_code=202)
def refresh(ref: inputs.Ref, services: Here, caller: Caller) -> Asked:
    return Asked(services.platforms.refresh(caller, ref))


@router.post("/platforms/{ref}/rebuild", tags=["platforms"], operation_id="rebuild_platform",
             status_code=202)
def rebuild(ref: inputs.Ref, services: Here, caller: Caller) -> Asked:
    """Read the replicas that lie at the platform, and make the rules and restore points that
    the database does not have."""
    return Asked(services.rebuild.start(caller, ref))


@router.get("/platforms/{ref}/vms", tags=["platforms"], operation_id="list_vms")
def vms(ref: inputs.Ref, services: Here, caller: Caller, limit: inputs.Limit = 100,
        cursor: inputs.Cursor = None) -> Page[VmView]:
    return services.platforms.vms(caller, ref, limit, cursor)


@router.get("/machines", tags=["machines"], operation_id="list_machines")
def machines(services: Here, caller: Caller, limit: inputs.Limit = 100,
             cursor: inputs.Cursor = None) -> Page[MachineView]:
    return services.machines.list(caller, limit, cursor)
