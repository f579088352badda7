"""Groups of rules, and templates."""

from __future__ import annotations

from fastapi import APIRouter

from ...services.rule_settings import read
from ...services.views import GroupView, Page, TemplateView
from .. import inputs
from ..session import Caller, Here

router = APIRouter()


@router.get("/groups", tags=["groups"], operation_id="list_groups")
def groups(services: Here, caller: Caller, limit: inputs.Limit = 100,
           cursor: inputs.Cursor = None) -> Page[GroupView]:
    return services.groups.list(caller, limit, cursor)


@router.post("/groups", tags=["groups"], operation_id="create_group", status_code=201)
def create(body: inputs.CreateGroup, services: Here, caller: Caller) -> GroupView:
    """One rule for each machine, all or none; faults of one machine are told at its name."""
    given = services.templates.filled(caller, body.template, body.given())
    new = read(given | {"name": body.name, "vm": body.vms[0]})
    return services.groups.create(caller, body.name, body.vms, new)


@router.get("/groups/{ref}", tags=["groups"], operation_id="get_group")
def get(ref: inputs.Ref, services: Here, caller: Caller) -> GroupView:
    return services.groups.get(caller, ref)


@router.get("/templates", tags=["templates"], operation_id="list_templates")
def templates(services: Here, caller: Caller, limit: inputs.Limit = 100,
              cursor: inputs.Cursor = None) -> Page[TemplateView]:
    return services.templates.list(caller, limit, cursor)


@router.post("/templates", tags=["templates"], operation_id="save_template", status_code=201)
def save(body: inputs.SaveTemplate, services: Here, caller: Caller) -> TemplateView:
    return services.templates.save(caller, body.name, rule=body.rule,
                                   settings=body.settings.given() if body.settings else None)


@router.get("/templates/{ref}", tags=["templates"], operation_id="get_template")
def get_template(ref: inputs.Ref, services: Here, caller: Caller) -> TemplateView:
    return services.templates.get(caller, ref)


@router.delete("/templates/{ref}", tags=["templates"], operation_id="delete_template",
               status_code=204)
def delete_template(ref: inputs.Ref, services: Here, caller: Caller) -> None:
    services.templates.delete(caller, ref)
