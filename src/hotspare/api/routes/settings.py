"""Limits: those of all DR machines, and each machine's own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from ...domain.limits import LARGEST_IN_FLIGHT, MAX_TASKS, SMALLEST_BUFFER
from ...services.limits import SettingsView
from ...services.views import MachineView
from .. import inputs
from ..base import Input
from ..schedule_inputs import BandwidthRanges, Zone
from ..session import Caller, Here

router = APIRouter()

Tasks = Annotated[int, Field(ge=1, le=MAX_TASKS)]


class SetSettings(Input):
    max_tasks_per_host: Tasks = Field(
        description="rules at once against one hypervisor host, over all DR machines")


class SetMachine(Input):
    """What is null stays as it is."""

    max_tasks: Tasks | None = None
    transfer_buffer: Annotated[int, Field(ge=SMALLEST_BUFFER, le=LARGEST_IN_FLIGHT)] | None = (
        Field(None, description="bytes in flight of one task"))
    time_zone: Zone | None = Field(None, description="of the ranges")
    bandwidth: BandwidthRanges | None = Field(
        None, description="shared by all tasks of the machine; []: no limit")


@router.get("/settings", tags=["settings"], operation_id="get_settings")
def get(services: Here, caller: Caller) -> SettingsView:
    return services.settings.get(caller)


@router.patch("/settings", tags=["settings"], operation_id="set_settings")
def set_(body: SetSettings, services: Here, caller: Caller) -> SettingsView:
    return services.settings.set(caller, body.max_tasks_per_host)


@router.get("/machines/{ref}", tags=["machines"], operation_id="get_machine")
def machine(ref: inputs.Ref, services: Here, caller: Caller) -> MachineView:
    return services.machines.get(caller, ref)


@router.patch("/machines/{ref}", tags=["machines"], operation_id="set_machine")
def set_machine(ref: inputs.Ref, body: SetMachine, services: Here,
                caller: Caller) -> MachineView:
    """Holds until the machine's own file says something new."""
    ranges = None if body.bandwidth is None else tuple(r.to_domain() for r in body.bandwidth)
    return services.machines.set(caller, ref, max_tasks=body.max_tasks,
                                 transfer_buffer=body.transfer_buffer,
                                 time_zone=body.time_zone, bandwidth=ranges)
