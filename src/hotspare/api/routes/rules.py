"""Rules, their restore points, and failover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from ...domain.rule_states import RuleState
from ...services.logs import Level, Order
from ...services.rule_settings import read
from ...services.rule_views import Sort
from ...services.views import ActionView, LogView, Page, PointView, RuleView
from .. import inputs
from ..session import Caller, Here
from .platforms import Asked

router = APIRouter(tags=["rules"])


@router.get("/rules", operation_id="list_rules")
def rules(services: Here, caller: Caller, limit: inputs.Limit = 100,
          cursor: inputs.Cursor = None, state: RuleState | None = None,
          group: inputs.Wanted = None, machine: inputs.Wanted = None,
          source: inputs.Wanted = None, target: inputs.Wanted = None,
          text: Annotated[inputs.Wanted, Query(description="part of a name")] = None,
          sort: Sort = "name") -> Page[RuleView]:
    return services.rules.list(caller, limit, cursor, state.value if state else None,
                               group=group, machine=machine, source=source, target=target,
                               text=text, sort=sort)


@router.post("/rules", operation_id="create_rule", status_code=201)
def create(body: inputs.CreateRule, services: Here, caller: Caller) -> RuleView:
    given = services.templates.filled(caller, body.template, body.given())
    return services.rules.create(caller, read(given))


@router.post("/rules/actions", operation_id="act_on_rules")
def act(body: inputs.Act, services: Here, caller: Caller) -> Sequence[ActionView]:
    """The same for many rules, each for itself: the answer says for each what became of it."""
    rules = list(body.rules)
    if body.group is not None:
        rules += services.groups.members(caller, body.group)
    return services.rules.act(caller, body.action, list(dict.fromkeys(rules)),
                              delete_replica=body.delete_replica, force=body.force)


@router.get("/rules/{ref}", operation_id="get_rule")
def get(ref: inputs.Ref, services: Here, caller: Caller) -> RuleView:
    return services.rules.get(caller, ref)


@router.patch("/rules/{ref}", operation_id="edit_rule")
def edit(ref: inputs.Ref, body: inputs.EditRule, services: Here, caller: Caller) -> RuleView:
    return services.rules.edit(caller, ref, body.given(), body.revision)


@router.delete("/rules/{ref}", operation_id="delete_rule", status_code=202)
def delete(ref: inputs.Ref, services: Here, caller: Caller,
           delete_replica: Annotated[bool | None, Query(
               description="not given: as the rule's setting says")] = None,
           force: Annotated[bool, Query()] = False) -> Asked:
    return Asked(services.rules.delete(caller, ref, delete_replica, force))


@router.post("/rules/{ref}/start", operation_id="start_rule", status_code=202)
def start(ref: inputs.Ref, services: Here, caller: Caller,
          body: inputs.Start | None = None) -> Asked:
    options = {} if body is None else body.model_dump()
    return Asked(services.rules.start(caller, ref, **options))


@router.post("/rules/{ref}/stop", operation_id="stop_rule")
def stop(ref: inputs.Ref, services: Here, caller: Caller) -> RuleView:
    return services.rules.stop(caller, ref)


@router.post("/rules/{ref}/failover", operation_id="fail_over", status_code=202)
def failover(ref: inputs.Ref, body: inputs.Failover, services: Here, caller: Caller) -> Asked:
    return Asked(services.rules.failover(caller, ref, body.point, unplugged=body.unplugged,
                                         allow_duplicate_mac=body.allow_duplicate_mac,
                                         damaged=body.damaged))


@router.post("/rules/{ref}/planned-failover", operation_id="fail_over_planned", status_code=202)
def planned(ref: inputs.Ref, body: inputs.PlannedFailover, services: Here,
            caller: Caller) -> Asked:
    """Run, shut the source down, run again, run from the replica: nothing is lost."""
    return Asked(services.rules.planned(caller, ref, body.grace_s, body.power_off))


@router.post("/rules/{ref}/undo", operation_id="undo_failover", status_code=202)
def undo(ref: inputs.Ref, services: Here, caller: Caller) -> Asked:
    return Asked(services.rules.undo(caller, ref))


@router.post("/rules/{ref}/permanent", operation_id="make_permanent", status_code=202)
def permanent(ref: inputs.Ref, body: inputs.Permanent, services: Here, caller: Caller) -> Asked:
    """The replica becomes the machine, its restore points are deleted: there is no way back."""
    return Asked(services.rules.permanent(caller, ref, body.point, body.confirm,
                                          body.damaged))


@router.post("/rules/{ref}/source/unplug", operation_id="unplug_source", status_code=202)
def unplug(ref: inputs.Ref, services: Here, caller: Caller) -> Asked:
    """Take the network cables out of the source, while the replica runs."""
    return Asked(services.source_watch.plug(caller, ref, False))


@router.post("/rules/{ref}/source/plug", operation_id="plug_source", status_code=202)
def plug(ref: inputs.Ref, services: Here, caller: Caller) -> Asked:
    """Put them in again."""
    return Asked(services.source_watch.plug(caller, ref, True))


@router.post("/rules/{ref}/failback", operation_id="fail_back", status_code=202)
def failback(ref: inputs.Ref, body: inputs.Failback, services: Here, caller: Caller) -> Asked:
    """Copy what differs back into the source's disks while the replica runs; repeatable."""
    return Asked(services.rules.failback(
        caller, ref, shut_down=body.shut_down, grace_s=body.grace_s, power_off=body.power_off,
        leave_disks=body.leave_disks, place=body.to()))


@router.post("/rules/{ref}/failback/switch", operation_id="switch_back", status_code=202)
def switch_back(ref: inputs.Ref, body: inputs.SwitchBack, services: Here,
                caller: Caller) -> Asked:
    """Shut the replica down, copy the rest, start the source."""
    return Asked(services.rules.switch_back(
        caller, ref, grace_s=body.grace_s, power_off=body.power_off,
        leave_disks=body.leave_disks, commit_after_s=body.commit_after_s))


@router.post("/rules/{ref}/failback/commit", operation_id="commit_failback", status_code=202)
def commit_failback(ref: inputs.Ref, services: Here, caller: Caller) -> Asked:
    """Replication goes on from the source; there is no undo any more."""
    return Asked(services.rules.commit_failback(caller, ref))


@router.post("/rules/{ref}/failback/undo", operation_id="undo_failback", status_code=202)
def undo_failback(ref: inputs.Ref, body: inputs.UndoFailback, services: Here,
                  caller: Caller) -> Asked:
    """The source becomes what it was before and goes off, the replica goes on."""
    return Asked(services.rules.undo_failback(caller, ref, body.confirm or ""))


@router.get("/rules/{ref}/points", operation_id="list_points")
def points(ref: inputs.Ref, services: Here, caller: Caller, limit: inputs.Limit = 100,
           cursor: inputs.Cursor = None) -> Page[PointView]:
    return services.rules.points(caller, ref, limit, cursor)


@router.get("/rules/{ref}/log", operation_id="rule_log")
def log(ref: inputs.Ref, services: Here, caller: Caller, limit: inputs.Limit = 100,
        cursor: inputs.Cursor = None, order: Order = "oldest",
        level: Level = "info") -> Page[LogView]:
    """Lines of this level and above."""
    return services.logs.page(caller, rule=ref, limit=limit, cursor=cursor, order=order,
                              level=level)
