"""Rules, their restore points, and failover."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from ...domain.rule_states import RuleState
from ...services import NewRule
from ...services.views import LogView, Page, PointView, RuleView
from .. import inputs
from ..session import Caller, Here
from .platforms import Asked

router = APIRouter(tags=["rules"])


@router.get("/rules", operation_id="list_rules")
def rules(services: Here, caller: Caller, limit: inputs.Limit = 100,
          cursor: inputs.Cursor = None, state: RuleState | None = None) -> Page[RuleView]:
    return services.rules.list(caller, limit, cursor, state.value if state else None)


@router.post("/rules", operation_id="create_rule", status_code=201)
def create(body: inputs.CreateRule, services: Here, caller: Caller) -> RuleView:
    return services.rules.create(caller, NewRule(**body.model_dump()))


@router.get("/rules/{ref}", operation_id="get_rule")
def get(ref: inputs.Ref, services: Here, caller: Caller) -> RuleView:
    return services.rules.get(caller, ref)


@router.delete("/rules/{ref}", operation_id="delete_rule", status_code=202)
def delete(ref: inputs.Ref, services: Here, caller: Caller,
           delete_replica: Annotated[bool, Query()] = False,
           force: Annotated[bool, Query()] = False) -> Asked:
    return Asked(services.rules.delete(caller, ref, delete_replica, force))


@router.post("/rules/{ref}/start", operation_id="start_rule", status_code=202)
def start(ref: inputs.Ref, services: Here, caller: Caller) -> Asked:
    return Asked(services.rules.start(caller, ref))


@router.post("/rules/{ref}/stop", operation_id="stop_rule")
def stop(ref: inputs.Ref, services: Here, caller: Caller) -> RuleView:
    return services.rules.stop(caller, ref)


@router.post("/rules/{ref}/failover", operation_id="fail_over", status_code=202)
def failover(ref: inputs.Ref, body: inputs.Failover, services: Here, caller: Caller) -> Asked:
    return Asked(services.rules.failover(caller, ref, body.point))


@router.post("/rules/{ref}/undo", operation_id="undo_failover", status_code=202)
def undo(ref: inputs.Ref, services: Here, caller: Caller) -> Asked:
    return Asked(services.rules.undo(caller, ref))


@router.get("/rules/{ref}/points", operation_id="list_points")
def points(ref: inputs.Ref, services: Here, caller: Caller, limit: inputs.Limit = 100,
           cursor: inputs.Cursor = None) -> Page[PointView]:
    return services.rules.points(caller, ref, limit, cursor)


@router.get("/rules/{ref}/log", operation_id="rule_log")
def log(ref: inputs.Ref, services: Here, caller: Caller, limit: inputs.Limit = 100,
        cursor: inputs.Cursor = None) -> Page[LogView]:
    return services.tasks.log(caller, rule=ref, limit=limit, cursor=cursor)
